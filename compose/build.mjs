// Builds dist/: compiles the TypeScript and copies the files of the live page beside it. Run by `npm run build`.
// A second run with nothing changed takes no time, so every command of the README may call it first.
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const stamp = join(root, 'dist', '.built');

function newest(path) {
  if (!statSync(path).isDirectory()) return statSync(path).mtimeMs;
  return Math.max(statSync(path).mtimeMs, ...readdirSync(path).map((name) => newest(join(path, name))));
}

const inputs = ['src', 'devices-sim', 'package.json', 'tsconfig.json', 'tsconfig.build.json'].map((name) =>
  join(root, name),
);
const fresh = existsSync(stamp) && statSync(stamp).mtimeMs > Math.max(...inputs.map(newest));
if (!fresh || process.argv.includes('--force')) {
  rmSync(join(root, 'dist'), { recursive: true, force: true });
  const tsc = spawnSync(
    process.execPath,
    [join(root, 'node_modules/typescript/bin/tsc'), '-p', join(root, 'tsconfig.build.json')],
    { stdio: 'inherit' },
  );
  if (tsc.status !== 0) process.exit(tsc.status ?? 1);
  cpSync(join(root, 'src/view/page'), join(root, 'dist/src/view/page'), { recursive: true });
  writeFileSync(stamp, '');
}
