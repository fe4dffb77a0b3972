/** The command line of the local stack, as far as it goes without starting a server. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { alive, free, freePort } from '../../compose/stack/launch.ts';
import { parse, UsageError } from '../../compose/stack/stack.ts';

const script = fileURLToPath(new URL('../../compose/stack/stack.ts', import.meta.url));

describe('npm run stack', () => {
  let cache: string;
  beforeEach(() => {
    cache = mkdtempSync(join(tmpdir(), 'millrace-stack-'));
  });
  afterEach(() => rmSync(cache, { recursive: true, force: true }));

  function stack(args: string[], path = process.env.PATH): { status: number | null; stdout: string; stderr: string } {
    const env = { ...process.env, MILLRACE_CACHE: cache, PATH: path };
    return spawnSync(process.execPath, ['--import=tsx', script, ...args], { env, encoding: 'utf8' });
  }

  const which = (name: string) => spawnSync('which', [name], { encoding: 'utf8' }).stdout.trim();

  it('answers what it does not know with usage: exit 2 and one line', () => {
    const { status, stderr } = stack(['upp']);
    assert.equal(status, 2);
    assert.match(stderr, /^stack: .+\n$/);
    const wrong = [
      ['--nope'],
      ['up', 'down'],
      ['--port-kafka', 'abc'],
      ['--name', '../x'],
      ['--kafka-only', '--influx-only'],
    ];
    for (const args of wrong) assert.throws(() => parse(args), UsageError, args.join(' '));
  });

  it('gives the default stack its known ports and every other one free ones', () => {
    assert.deepEqual(parse([]).wanted.ports, { kafka: 19_092, influx: 18_086 });
    assert.deepEqual(parse(['--name', 'ci']).wanted.ports, { kafka: 0, influx: 0 });
    assert.deepEqual(parse(['--name', 'ci', '--port-influx', '9']).wanted.ports, { kafka: 0, influx: 9 });
  });

  it('says what does not run: exit 1, and nothing to export', () => {
    const status = stack(['status']);
    assert.equal(status.status, 1);
    assert.match(status.stdout, /Kafka: not running.*\nInfluxDB: not running/);
    const env = stack(['env']);
    assert.equal(env.status, 1);
    assert.equal(env.stdout, '');
  });

  it('does not take another process that has the id of one that ended for it', () => {
    mkdirSync(join(cache, 'stack', 'default'), { recursive: true });
    writeFileSync(join(cache, 'stack', 'default', 'kafka.json'), JSON.stringify({ pid: process.pid, port: 19_092 }));
    assert.equal(stack(['down', '--kafka-only']).status, 0);
    assert.ok(alive(process.pid, 'node'), 'we still live');
  });

  it('names the tool that is missing, in one sentence', () => {
    const kafka = stack(['up', '--kafka-only'], '/nowhere');
    assert.equal(kafka.status, 1);
    assert.match(kafka.stderr, /^stack: Kafka needs Java 11 or newer, and `java` is not on PATH\.\n$/);
    const tools = join(cache, 'bin');
    mkdirSync(tools);
    for (const name of ['bash', 'sh', 'env', 'sort', 'head', 'cut', 'mkdir'])
      symlinkSync(which(name), join(tools, name));
    const influx = stack(['up', '--influx-only'], tools);
    assert.equal(influx.status, 1);
    assert.match(influx.stderr, /building InfluxDB needs go, cargo, rustc and cc on PATH; 'go' is missing/);
  });
});

describe('what the local stack starts its servers with', () => {
  it('finds ports below those of outgoing connections', async () => {
    const port = await freePort();
    assert.ok(port >= 20_000 && port < 32_000);
    assert.ok(await free(port));
  });
});
