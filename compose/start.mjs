// Builds what changed, then runs the program in this same process, so that Ctrl-C and exit codes are the program's own.
import './build.mjs';

await import('../dist/src/main.js');
