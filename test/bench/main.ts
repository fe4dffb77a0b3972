/**
 * `npm run bench [NAME...]`: runs benches, all of them without a name, prints their figures and writes each result to
 * bench-results/NAME.json together with the machine, the versions and the commit, so that a figure can be traced. `--keep`
 * writes it to test/bench/results too, from where the README's tables are made (tables.ts).
 * Each bench is a file beside this one that exports `run(args)`. What comes after the names is for them.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('.', import.meta.url));
const root = fileURLToPath(new URL('../..', import.meta.url));
const known = readdirSync(folder)
  .filter((name) => name.endsWith('.ts') && name !== 'main.ts' && name !== 'tables.ts')
  .map((name) => name.slice(0, -3));

const args = process.argv.slice(2);
const firstOption = args.findIndex((arg) => arg.startsWith('-'));
const names = firstOption < 0 ? args : args.slice(0, firstOption);
const options = firstOption < 0 ? [] : args.slice(firstOption).filter((option) => option !== '--keep');
const keep = args.includes('--keep');
const unknown = names.filter((name) => !known.includes(name));
if (unknown.length > 0 || args[0] === '--help') {
  if (unknown.length > 0) console.error(`No bench is called ${unknown.join(', ')}.`);
  console.error(`npm run bench -- NAME, where NAME is one of: ${known.join(', ')}; without a name, all of them`);
  process.exit(2);
}

mkdirSync(`${root}/bench-results`, { recursive: true });
for (const name of names.length > 0 ? names : known) {
  try {
    const bench: { run(options: string[]): Promise<object> } = await import(`./${name}.ts`);
    const figures = await bench.run(options);
    const text = `${JSON.stringify({ bench: name, ...about(), figures }, null, 2)}\n`;
    writeFileSync(`${root}/bench-results/${name}.json`, text);
    if (keep) writeFileSync(`${folder}/results/${name}.json`, text);
    print(name, figures);
  } catch (error) {
    // the others are still worth having
    console.error(`${name}: ${error instanceof Error ? error.message : String(error)}`);
    process.exitCode = 1;
  }
}

/** One line for each figure, under the name of its bench. */
function print(name: string, figures: object): void {
  const lines = [...flat('', figures)];
  const width = Math.max(...lines.map(([path]) => path.length));
  console.log(`\n${name}`);
  for (const [path, value] of lines) console.log(`  ${path.padEnd(width)}  ${value}`);
}

function* flat(path: string, value: unknown): Generator<[string, string]> {
  if (typeof value !== 'object' || value === null) yield [path, String(value)];
  else for (const [key, inner] of Object.entries(value)) yield* flat(path === '' ? key : `${path} · ${key}`, inner);
}

function about(): object {
  const { version, dependencies } = JSON.parse(readFileSync(`${root}/package.json`, 'utf8'));
  return {
    millrace: version,
    commit: execFileSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: root, encoding: 'utf8' }).trim(),
    node: process.version,
    cpu: `${cpus().length} x ${cpus()[0]?.model ?? 'unknown'}`,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    dependencies,
  };
}
