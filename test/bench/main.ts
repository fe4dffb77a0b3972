/**
 * `npm run bench -- NAME [NAME...]`: runs benches and prints their figures; without a name, lists them.
 * Each bench is a file beside this one that exports `run(args)`; the result is also written to bench-results/NAME.json
 * together with the machine, the versions and the commit, so that a figure can be traced.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('.', import.meta.url));
const root = fileURLToPath(new URL('../..', import.meta.url));
const known = readdirSync(folder)
  .filter((name) => name.endsWith('.ts') && name !== 'main.ts')
  .map((name) => name.slice(0, -3));

const args = process.argv.slice(2);
const firstOption = args.findIndex((arg) => arg.startsWith('-'));
const names = firstOption < 0 ? args : args.slice(0, firstOption);
const options = firstOption < 0 ? [] : args.slice(firstOption);
const unknown = names.filter((name) => !known.includes(name));
if (names.length === 0 || unknown.length > 0) {
  if (unknown.length > 0) console.error(`No bench is called ${unknown.join(', ')}.`);
  console.error(`npm run bench -- NAME, where NAME is one of: ${known.join(', ')}`);
  process.exit(2);
}

mkdirSync(`${root}/bench-results`, { recursive: true });
for (const name of names) {
  const bench: { run(options: string[]): Promise<object> } = await import(`./${name}.ts`);
  const figures = await bench.run(options);
  const result = { bench: name, ...about(), figures };
  writeFileSync(`${root}/bench-results/${name}.json`, `${JSON.stringify(result, null, 2)}\n`);
  console.log(JSON.stringify(result, null, 2));
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
