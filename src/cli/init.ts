/**
 * `millrace init [DIR]`: a commented first configuration with its schema, device registry and simulator profile, copied
 * from compose/init/. It runs at once. Nothing that exists is overwritten: then nothing is written at all.
 */
import { constants, copyFileSync, existsSync, mkdirSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { messageOf } from '../errors.ts';
import { EXIT, type Terminal } from './terminal.ts';

export const INIT_FILES = [
  ['millrace.yaml', 'the configuration; every setting has a comment'],
  ['schemas/environment.schema.json', 'what a payload must look like (JSON Schema)'],
  ['devices.csv', 'the device registry: columns that become tags'],
  ['simulator.yaml', 'simulated devices, until there are real ones'],
] as const;

export async function init(directory: string, terminal: Terminal): Promise<number> {
  const folder = resolve(directory);
  const there = INIT_FILES.map(([name]) => join(folder, name)).filter((file) => existsSync(file));
  if (there.length > 0) {
    terminal.err(`millrace: ${there.join(', ')} ${there.length === 1 ? 'exists' : 'exist'}; nothing was written`);
    return EXIT.usage;
  }
  try {
    for (const [name] of INIT_FILES) {
      const to = join(folder, name);
      mkdirSync(dirname(to), { recursive: true });
      copyFileSync(join(templates(), name), to, constants.COPYFILE_EXCL);
    }
  } catch (thrown) {
    terminal.err(`millrace: the files cannot be written: ${messageOf(thrown)}`);
    return EXIT.usage;
  }
  const shown = (name: string) => relative(process.cwd(), join(folder, name)) || name;
  const width = Math.max(...INIT_FILES.map(([name]) => shown(name).length));
  for (const [name, what] of INIT_FILES) terminal.out(`${shown(name).padEnd(width)}  ${what}`);
  // As it was called: in a checkout there is no command of that name.
  const millrace = terminal.env.npm_lifecycle_event === 'millrace' ? 'npm run --silent millrace --' : 'millrace';
  terminal.out('\nNext, in two terminals:');
  terminal.out(`  ${millrace} run --config ${shown('millrace.yaml')}`);
  terminal.out(`  ${millrace} simulate --config ${shown('millrace.yaml')} --profile ${shown('simulator.yaml')}`);
  terminal.out('and open http://127.0.0.1:8080');
  return EXIT.ok;
}

/** This file and its compiled form lie at different depths below the package. */
function templates(): string {
  const places = ['../../compose/init', '../../../compose/init'];
  return places.map((place) => fileURLToPath(new URL(place, import.meta.url))).find((path) => existsSync(path))!;
}
