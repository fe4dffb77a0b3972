/**
 * Every way in, fed with changed bytes for as many runs as CI has time for. A failure prints the seed and keeps the smallest
 * input that fails; in `found/` it is a test for ever. `npm run fuzz -- --minutes 10` goes on for longer.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { mutate, randomOf, shrink } from './mutate.ts';
import { TARGETS, type Target } from './targets.ts';

const FOUND = new URL('found/', import.meta.url);
const SEED = Number(process.env.MILLRACE_FUZZ_SEED ?? Math.floor(Math.random() * 2 ** 31));

describe(`Changed bytes (seed ${SEED})`, function () {
  this.timeout(120_000);

  for (const [name, make] of TARGETS) {
    describe(name, () => {
      let target: Target;
      before(async () => {
        target = await make();
      });
      after(() => target.close?.());

      it('takes its samples as they are, and what was found before', async () => {
        const files = readdirSync(FOUND).filter((file) => file.startsWith(`${name.replaceAll(' ', '-')}.`));
        for (const bytes of [...target.seeds, ...files.map((file) => readFileSync(new URL(file, FOUND)))])
          await target.run(bytes);
      });

      it('answers whatever the bytes are', async () => {
        const random = randomOf(SEED);
        for (let run = 0; run < target.runs; run++) {
          const bytes = mutate(target.seeds, random);
          try {
            await target.run(bytes);
          } catch (error) {
            const small = await shrink(bytes, async (less) => !(await passes(target, less)));
            const again = `MILLRACE_FUZZ_SEED=${SEED}; as a test: test/fuzz/found/${name.replaceAll(' ', '-')}.NAME with the bytes`;
            throw new Error(`${again}\n${small.toString('base64')}`, { cause: error });
          }
        }
      });
    });
  }

  it('are the same from the same seed, and others from another', () => {
    const seeds = [Buffer.from('abcdefgh')];
    const some = (seed: number) => {
      const random = randomOf(seed);
      return Array.from({ length: 20 }, () => mutate(seeds, random).toString('hex'));
    };
    assert.deepEqual(some(7), some(7));
    assert.notDeepEqual(some(7), some(8));
  });

  it('are found and made small when the code has a mistake (a planted one)', async () => {
    const planted: Target = {
      ...{ name: 'planted', seeds: [Buffer.from('{"a":1,"b":2}')], runs: 5_000 },
      run: (bytes) => assert.ok(!bytes.includes(0xff), 'planted'),
    };
    const random = randomOf(1);
    let found: Buffer | null = null;
    for (let run = 0; run < planted.runs && found === null; run++) {
      const bytes = mutate(planted.seeds, random);
      if (!(await passes(planted, bytes))) found = bytes;
    }
    assert.ok(found);
    const small = await shrink(found, async (less) => !(await passes(planted, less)));
    assert.deepEqual([...small], [0xff]);
  });
});

async function passes(target: Target, bytes: Buffer): Promise<boolean> {
  try {
    await target.run(bytes);
    return true;
  } catch {
    return false;
  }
}
