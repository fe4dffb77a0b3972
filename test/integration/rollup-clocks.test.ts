/**
 * One bad clock harms nobody. Two gateways get the same messages at the same times, but only one of them those of devices
 * whose clocks are wrong: the rows of all other devices are the same in both, to the byte. The wrong ones are refused with
 * a reason, or late, or counted where their own times say, and the oracle agrees with all of it.
 *
 * A third gateway has a planted bug (the devices' times move the watermark): its rows must differ.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { devices, type FedGateway, Feed, message, NO_FAULTS, type Source } from '../support/feed.ts';
import { agree, allClosed, durableToMs, eventually, rowText, yamlOf } from '../support/rollup-run.ts';
import { ENVIRONMENT, rulesFor, TEMPERATURE } from '../support/run-rules.ts';

const START_MS = Date.UTC(2026, 4, 1, 23, 55);
const STEPS = 36;
const DAY_MS = 86_400_000;
const PLANTED = fileURLToPath(new URL('../faults/planted-rollup.mjs', import.meta.url));

const { name, metrics, windows } = ENVIRONMENT;
const RULES = rulesFor([{ ...TEMPERATURE, metrics, windows }]);

/** How far each reading's time is off, in turns. */
const BAD_CLOCKS: Readonly<Record<string, readonly number[]>> = {
  ahead: [DAY_MS],
  behind: [-DAY_MS],
  // No two of them meet: the readings are a second apart.
  jumping: [0, DAY_MS + 1, -DAY_MS + 2, 45_003, -1_996, 3 * DAY_MS + 5, 6, -3_600_000 + 7],
  // As far ahead as is accepted, less the ten seconds of a step.
  fast: [49_000],
};

const badClocks: Source = (fromMs, toMs) =>
  Object.entries(BAD_CLOCKS).flatMap(([device, errors]) => {
    const messages = [];
    for (let at = fromMs + 500; at < toMs; at += 1_000) {
      const ts = at + errors[Math.floor(at / 1_000) % errors.length]!;
      const payload = { ts, temperature: (at % 7_919) / 10, humidity: 50, pressure: at % 977 };
      messages.push(message(device, `sensors/attic/${device}/environment`, JSON.stringify(payload)));
    }
    return messages;
  });

describe('a device with a bad clock', function () {
  this.timeout(120_000);
  let folder: string;
  let feed: Feed;
  let without: FedGateway;
  let beside: FedGateway;
  let planted: FedGateway;
  let endMs: number;
  let numbers: string;
  let list: SeenDevice[];

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'millrace-clocks-'));
    const good = devices(10, {
      ...{ seed: 3, jitter: 0.3, startMs: START_MS, clockOffsetMs: 2_000, flapping: 0 },
      ...{ profile: 'environment', topic: 'sensors/{site}/{device}/environment', intervalMs: 2_000 },
      rates: { ...NO_FAULTS, duplicate: 0.05 },
    });
    feed = new Feed({ folder, startMs: START_MS, sources: [good, badClocks] });
    const yaml = yamlOf(RULES);
    without = await feed.add({ folder: join(folder, 'without'), yaml }, ({ device }) => !(device in BAD_CLOCKS));
    beside = await feed.add({ folder: join(folder, 'beside'), yaml });
    const env = { MILLRACE_PLANTED: 'device-time' };
    planted = await feed.add({ folder: join(folder, 'planted'), yaml, preload: PLANTED, env });
    for (let step = 0; step < STEPS; step++) await feed.step();
    // While the devices still publish: later they are silent, whatever their clocks say.
    numbers = await (await beside.process.get('/metrics')).text();
    const answer = await beside.process.get('/api/v1/devices?order=skew&limit=100');
    ({ devices: list } = (await answer.json()) as { devices: SeenDevice[] });
    const closed = allClosed(RULES, feed.nowMs + 60_000);
    endMs = closed.endMs;
    await feed.moveClock(closed.clockMs);
  });

  after(async () => {
    await feed?.end();
    rmSync(folder, { recursive: true, force: true });
  });

  function agreed(context: string, { process, deliveries }: FedGateway) {
    const which = { rules: RULES, gateway: process, rollups: [process], partitions: 1, toMs: endMs };
    return agree(context, { ...which, deliveries: () => deliveries });
  }

  /** The answer of the HTTP API, without the lines of devices with a bad clock. */
  async function rowsOfOthers({ process }: FedGateway): Promise<string[]> {
    const texts = await Promise.all(windows.map((window) => rowText(process, name, window)));
    const lines = texts.flatMap((text) => text.split('\n')).filter((line) => line !== '');
    return lines.filter((line) => !(JSON.parse(line).tags.device in BAD_CLOCKS));
  }

  it('changes no row of any other device', async () => {
    const verdict = await agreed('without', without);
    await agreed('beside', beside);
    const rows = await rowsOfOthers(beside);
    assert.equal(rows.length, verdict.exact);
    assert.deepEqual(rows, await rowsOfOthers(without));
    console.log(`      ${rows.length} rows`);
  });

  it('is refused with a reason, or late, or counted where its own time says', async () => {
    const verdict = await agreed('beside', beside);
    assert.equal(verdict.open, 0);
    const offsets = beside.deliveries.flatMap(({ topic, payload, sentMs }) => {
      const device = topic.split('/')[2]!;
      const { ts } = JSON.parse(payload!) as { ts: number };
      return device in BAD_CLOCKS ? [ts - sentMs] : [];
    });
    const ahead = offsets.filter((offset) => offset > RULES.skewMs).length;
    const behind = offsets.filter((offset) => offset < -60_000).length;
    assert.ok(ahead > STEPS * 10 && behind > STEPS * 10);
    assert.equal(await beside.process.metric('millrace_dead_letters_total'), ahead);
    assert.equal(await beside.process.metric('millrace_late_total'), behind);
    const answer = await beside.process.get('/api/v1/deadletters?limit=500');
    const { deadLetters } = (await answer.json()) as { deadLetters: { code: string; topic: string }[] };
    assert.ok(deadLetters.length > 0);
    for (const { code } of deadLetters) assert.equal(code, 'time-future');
    assert.match(numbers, /^millrace_devices\{state="skewed".*\} [34]$/m);
    const [, largest] = /^millrace_largest_skew_seconds.* (\S+)$/m.exec(numbers)!;
    assert.ok(Number(largest) >= DAY_MS / 1_000 - 60, largest);
    const fast = await beside.process.get(`/api/v1/rows?stream=${name}&window=10s&series=device=fast,site=attic`);
    assert.equal((await fast.text()).trim().split('\n').length, 3 * STEPS + 3);
  });

  it('is visible by its skew in the list of devices, the worst first, and no other device is', () => {
    const seen = new Map(list.map((device) => [device.key, device]));
    const skewOf = (device: string) => seen.get(device)!.skewMs;
    assert.ok(Math.abs(skewOf('behind') - DAY_MS) < 60_000, `${skewOf('behind')} ms`);
    assert.ok(skewOf('fast') < -30_000, `${skewOf('fast')} ms`);
    // Nothing that is refused counts into the skew: the reason says how it is.
    assert.deepEqual([seen.get('ahead')!.readings, seen.get('ahead')!.lastRefusal!.code], [0, 'time-future']);
    const skewed = list.filter(({ skewMs }) => Math.abs(skewMs) > 30_000).map(({ key }) => key);
    assert.deepEqual(
      list.slice(0, skewed.length).map(({ key }) => key),
      skewed,
      'the worst come first',
    );
    for (const key of skewed) assert.ok(key in BAD_CLOCKS, key);
  });

  it('would change rows of others if the devices moved the watermark', async () => {
    await eventually('all is durable', 60_000, async () => (await durableToMs([planted.process], 1)) >= endMs);
    assert.notDeepEqual(await rowsOfOthers(planted), await rowsOfOthers(without));
  });
});

interface SeenDevice {
  readonly key: string;
  readonly readings: number;
  readonly skewMs: number;
  readonly lastRefusal: { readonly code: string } | null;
}
