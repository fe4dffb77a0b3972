/**
 * `npm run fuzz -- [--minutes N] [--seed S] [--target NAME]`: changed bytes into every way in, in turn, until the time is over.
 * What fails is made small and written to test/fuzz/found/, where it is a test from then on. Exit 0: nothing failed, 1: something did.
 */
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { mutate, randomOf, shrink } from './mutate.ts';
import { TARGETS } from './targets.ts';

const { values } = parseArgs({
  options: { minutes: { type: 'string', default: '1' }, seed: { type: 'string' }, target: { type: 'string' } },
});
const minutes = Number(values.minutes);
const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed);
const names = values.target === undefined ? [...TARGETS.keys()] : [values.target];
if (!(minutes > 0) || !Number.isSafeInteger(seed) || names.some((name) => !TARGETS.has(name))) {
  console.error(
    `npm run fuzz -- [--minutes N] [--seed S] [--target NAME], NAME one of: ${[...TARGETS.keys()].join(', ')}`,
  );
  process.exit(2);
}
/** Of one target, before the next has its turn. */
const SLICE_RUNS = 200;
const targets = await Promise.all(
  names.map(async (name) => ({ target: await TARGETS.get(name)!(), random: randomOf(seed), runs: 0, failures: 0 })),
);
const endMs = performance.now() + minutes * 60_000;
console.log(`seed ${seed}, ${minutes} min`);
while (performance.now() < endMs) {
  for (const each of targets) {
    const { target, random } = each;
    for (let run = 0; run < SLICE_RUNS && performance.now() < endMs; run++, each.runs++) {
      const bytes = mutate(target.seeds, random);
      const error = await failure(bytes, target.run);
      if (error === null) continue;
      each.failures++;
      const small = await shrink(bytes, async (less) => (await failure(less, target.run))?.message === error.message);
      const name = `${target.name.replaceAll(' ', '-')}.${createHash('sha256').update(small).digest('hex').slice(0, 8)}`;
      writeFileSync(fileURLToPath(new URL(`found/${name}`, import.meta.url)), small);
      console.log(`${target.name}: ${error.stack}\n  test/fuzz/found/${name}`);
    }
  }
}
for (const { target, runs, failures } of targets)
  console.log(`${target.name.padEnd(24)} ${runs} runs, ${failures} failures`);
for (const { target } of targets) await target.close?.();
process.exit(targets.some(({ failures }) => failures > 0) ? 1 : 0);

async function failure(bytes: Buffer, run: (bytes: Buffer) => void | Promise<void>): Promise<Error | null> {
  try {
    await run(bytes);
    return null;
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}
