import assert from 'node:assert/strict';
import { appendFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadAssets } from '../../src/inspect/assets.ts';
import { createInspector, DEFAULT_LIMITS } from '../../src/inspect/inspect.ts';
import { type AssetWatch, watchAssets } from '../../src/inspect/watch.ts';
import { pause } from '../../src/retry.ts';
import type { Stream } from '../../src/stream.ts';
import { failureOf, makeMessage, makeStream, NOW, readingOf, refusalOf, resultOf, SCHEMA } from './sample.ts';

const CSV = 'device,room\nd1,attic\n';

let folder: string;
let schema: string;
let registry: string;
let stream: Stream;

/** A schema and a registry for each test of the suite that calls this. */
function withFiles(): void {
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'millrace-assets-'));
    schema = join(folder, 'environment.schema.json');
    registry = join(folder, 'devices.csv');
    await writeFile(schema, JSON.stringify(SCHEMA));
    await writeFile(registry, CSV);
    const enrich = { registry, by: 'device', tags: ['room'], scale: {}, unknown: 'refuse' as const };
    stream = makeStream({ schema, enrich });
  });
  afterEach(() => rm(folder, { recursive: true }));
}

const load = (streams: readonly Stream[] = [stream]) => loadAssets(streams, DEFAULT_LIMITS);
const message = makeMessage({ ts: NOW, temperature: 21 });

describe('Loading schemas and registries', () => {
  withFiles();
  it('gives an inspector all that it needs', async () => {
    const inspector = createInspector([stream], resultOf(await load()));
    assert.equal(readingOf(inspector.inspect(message)).tags.room, 'attic');
  });

  it('fails naming the file that is absent', async () => {
    await rm(schema);
    assert.match(failureOf(await load()), /environment\.schema\.json cannot be read: ENOENT/);
  });

  it('fails naming the file that is not UTF-8, or not a schema', async () => {
    await writeFile(registry, Uint8Array.of(0x64, 0xff));
    assert.match(failureOf(await load()), /devices\.csv is not valid UTF-8/);
    await writeFile(schema, '{"type":"nope"}');
    assert.match(failureOf(await load()), /environment\.schema\.json cannot be used/);
  });

  it('fails naming the line of the registry', async () => {
    await writeFile(registry, `${CSV}d1,cellar\n`);
    assert.match(failureOf(await load()), /devices\.csv, line 3: device "d1" is already listed on line 2/);
  });
});

describe('Watching schemas and registries', () => {
  withFiles();
  let watch: AssetWatch;
  let events: string[];
  let inspector: ReturnType<typeof createInspector>;

  beforeEach(async () => {
    events = [];
    inspector = createInspector([stream], resultOf(await load()));
    watch = await watchAssets({
      streams: [stream],
      limits: DEFAULT_LIMITS,
      pollMs: 20,
      loaded: (assets) => {
        inspector = createInspector([stream], assets);
        events.push('loaded');
      },
      failed: (failure) => events.push(failure.message),
    });
  });
  afterEach(() => watch.stop());

  async function eventually(count: number): Promise<void> {
    const deadline = performance.now() + 5_000;
    while (events.length < count) {
      assert.ok(performance.now() < deadline, `waited for ${count} events, got ${JSON.stringify(events)}`);
      await pause(5);
    }
  }

  it('takes a changed file into use', async () => {
    await writeFile(registry, 'device,room\nd1,cellar\n');
    await eventually(1);
    assert.deepEqual(events, ['loaded']);
    assert.equal(readingOf(inspector.inspect(message)).tags.room, 'cellar');
  });

  it('notices a file that was replaced', async () => {
    await writeFile(join(folder, 'new'), JSON.stringify({ ...SCHEMA, required: ['co2'] }));
    await rename(join(folder, 'new'), schema);
    await eventually(1);
    assert.equal(refusalOf(inspector.inspect(message)).code, 'schema');
  });

  it('reports a bad file once, stays with the old one, and takes the next good one', async () => {
    await writeFile(schema, '{"type":');
    await eventually(1);
    assert.match(events[0]!, /environment\.schema\.json is not JSON/);
    assert.equal(readingOf(inspector.inspect(message)).tags.room, 'attic');
    await pause(60);
    assert.equal(events.length, 1);
    await writeFile(schema, JSON.stringify(SCHEMA));
    await eventually(2);
    assert.equal(events[1], 'loaded');
  });

  it('does not take a file for whole while it is still being written', async () => {
    writeFileSync(registry, 'device,room\n');
    let row = 2;
    const writing = setInterval(() => appendFileSync(registry, `d${row++},cellar\n`), 1);
    await pause(250);
    clearInterval(writing);
    assert.deepEqual(events, []);
    appendFileSync(registry, 'd1,cellar\n');
    await eventually(1);
    assert.equal(readingOf(inspector.inspect(message)).tags.room, 'cellar');
  });

  it('reloads on SIGHUP and on demand', async () => {
    process.kill(process.pid, 'SIGHUP');
    await eventually(1);
    resultOf(await watch.reload());
    assert.deepEqual(events, ['loaded', 'loaded']);
  });

  it('reports nothing after it was stopped, and leaves no signal handler', async () => {
    const listeners = process.listenerCount('SIGHUP');
    const reloading = watch.reload();
    await watch.stop();
    await reloading;
    const before = events.length;
    await writeFile(registry, CSV.replace('attic', 'x'));
    await pause(60);
    assert.equal(events.length, before);
    assert.equal(process.listenerCount('SIGHUP'), listeners - 1);
  });
});
