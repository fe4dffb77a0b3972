/**
 * The sensors sample as it ships, with other ports and shorter windows: what is converted, derived, enriched, left out and refused on
 * the way, over a kill -9, live and in the rows, which are verified against the log. On the embedded default, and on real Kafka
 * and InfluxDB.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { systemClock } from '../../src/clock.ts';
import { runMillrace } from '../support/gateway-process.ts';
import { RawClient } from '../support/mqtt-raw.ts';
import { onServers, rowsAt, type Sample, SampleRuns } from '../support/sample.ts';
import { until } from '../support/until.ts';

const DEADLINE_MS = 60_000;
const TOPIC = 'plant/lyon/d0002/climate';

interface Row {
  readonly metric: string;
  readonly tags: Readonly<Record<string, string>>;
  readonly count: number;
  readonly min: number;
  readonly max: number;
}

describe('The sensors sample', function () {
  this.timeout(180_000);
  const runs = new SampleRuns();

  function prepare(servers: string): Promise<Sample> {
    const changes = [
      ['{ grace: 5s }', '{ grace: 2s, tick: 250ms, disorder: 250ms, repair_delay: 1s }'],
      ['windows: [10s, 1m, 1h, { size: 5m, every: 1m }]', 'windows: [1s, 10s]'],
      ['window: 1m', 'window: 10s'],
    ] as const;
    return runs.prepare('sensors', ['1883', '8084', '8080'], changes, servers);
  }

  async function readingsAreMade(servers: string): Promise<void> {
    const { config, port } = await prepare(servers);
    const http = `http://127.0.0.1:${port('8080')}`;
    const rows = () => rowsAt<Row>(http, 'stream=climate&window=10s');
    const total = async (metric: string) =>
      (await rows()).filter((row) => row.metric === metric).reduce((sum, { count }) => sum + count, 0);

    const child = await runs.start(config, http);
    const sensor = await RawClient.connected(port('1883'), { clientId: 'd0002' });
    const nowMs = systemClock.nowMs();
    const good = { ts: nowMs, seq: 1, temperature: 24.5, humidity: 50, pressure: 1013.25 };
    const payloads = [
      good,
      good, // sent twice: counted once
      { ...good, ts: nowMs + 1, seq: 2, humidity: 130 }, // kept without its humidity, and so without what is derived of it
      { ...good, ts: nowMs + 2, seq: 3, temperature: 300 }, // refused by its range
      { ...good, ts: nowMs + 3, seq: 4, temperature: 60 }, // refused: 35 degrees within a moment
      { ...good, ts: nowMs + 4, seq: 5, pressure: 90 }, // refused in pascal
    ];
    for (const [index, payload] of payloads.entries()) sensor.publish(TOPIC, JSON.stringify(payload), 1, index + 1);
    await sensor.until('puback', payloads.length);
    sensor.end();
    // a reading is durable before it is understood by anyone behind the log
    const died = once(child, 'exit');
    child.kill('SIGKILL');
    assert.deepEqual((await died)[1], 'SIGKILL');
    await runs.start(config, http);

    const watcher = await RawClient.connected(port('1883'), { clientId: 'watcher' });
    await watcher.subscribe('plant/#');
    const later = { ...good, ts: systemClock.nowMs(), seq: 6, temperature: 25 };
    watcher.publish(TOPIC, JSON.stringify(later), 1, 1);
    await watcher.until('publish');
    assert.deepEqual(JSON.parse(Buffer.from(watcher.of('publish')[0]!.payload as Uint8Array).toString()), later);
    watcher.end();

    await until(async () => (await total('temperature')) === 3, DEADLINE_MS, 'all readings are counted');
    const all = await rows();
    assert.deepEqual(all[0]!.tags, { device: 'd0002', model: 'TH-310', room: 'cold store', site: 'lyon' });
    const pressures = all.filter(({ metric }) => metric === 'pressure');
    assert.ok(pressures.every(({ min, max }) => min === 1013.25 * 100 && max === 1013.25 * 100));
    assert.equal(await total('humidity'), 2);
    const feels = all.filter(({ metric }) => metric === 'discomfort');
    assert.equal(Math.min(...feels.map(({ min }) => min)), 24.5 - 0.55 * (1 - 50 / 100) * (24.5 - 14.5));

    const letters = await runMillrace(['deadletters', 'list', '--config', config, '--json']);
    const reasons = letters.out
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { reason: string }).reason);
    assert.equal(reasons.length, 3, letters.out + letters.err);
    for (const [index, word] of ['temperature', 'temperature', 'pressure'].entries()) {
      assert.ok(
        reasons.some((reason) => reason.includes(word)),
        `${index}: ${reasons.join('; ')}`,
      );
    }
    const verified = await runMillrace(['verify', '--config', config]);
    assert.equal(verified.code, 0, verified.out + verified.err);
  }

  it('converts, derives, enriches, leaves out and refuses, and counts each reading once', async () => {
    await readingsAreMade('');
  });

  it('does the same on Kafka and InfluxDB', async function () {
    await onServers(this, 'sensors', { site: '.*', room: '.*' }, readingsAreMade);
  });

  it('is started with simulated sensors by one command', async () => {
    await runs.demo('sensors');
  });
});
