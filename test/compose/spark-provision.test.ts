/** `npm run spark` as far as it goes without fetching anything. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const script = fileURLToPath(new URL('../../compose/spark/provision.ts', import.meta.url));

describe('npm run spark', () => {
  it('names what is missing on this machine in one sentence, ends with 1 and leaves nothing half made', () => {
    const cache = mkdtempSync(join(tmpdir(), 'millrace-spark-cache-'));
    try {
      const run = () => {
        const env = { ...process.env, MILLRACE_CACHE: cache, PATH: cache };
        return spawnSync(process.execPath, ['--import=tsx', script], { env, encoding: 'utf8' });
      };
      const say = (program: string, text: string) => {
        writeFileSync(join(cache, program), `#!/bin/sh\n${text}\n`);
        chmodSync(join(cache, program), 0o755);
      };
      const none = run();
      assert.deepEqual([none.status, none.stdout], [1, '']);
      assert.equal(none.stderr, 'spark: Spark 4.0.0 needs Java 17 or newer, and `java` is not on PATH.\n');
      say('java', `echo 'openjdk version "11.0.2"' >&2`);
      assert.match(run().stderr, /^spark: .* needs Java 17 or newer, and `java` on PATH is 11\.\n$/);
      say('java', `echo 'openjdk version "21.0.2"' >&2`);
      const python = run();
      assert.equal(python.status, 1);
      assert.match(python.stderr, /needs `python3` on PATH with its module venv/);
      assert.ok(!readdirSync(join(cache, 'spark/4.0.0')).some((name) => name === 'venv' || name === 'jars'));
    } finally {
      rmSync(cache, { recursive: true, force: true });
    }
  });
});
