import assert from 'node:assert/strict';
import fc from 'fast-check';
import { ManualClock } from '../../src/clock.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import type { MetricSample, StageName } from '../../src/view/feed.ts';
import { Meter } from '../../src/view/meter.ts';
import type { StageStatus } from '../../src/view/stages.ts';
import { quantile } from '../../src/view/sums.ts';
import { FakeFeed } from '../support/fake-feed.ts';

const status = new FakeFeed(new ManualClock(), { devices: 0 }).status();

async function samplesOf(...all: ReturnType<typeof silentTelemetry>[]): Promise<MetricSample[]> {
  const samples = await Promise.all(all.map((telemetry) => telemetry.registry.getMetricsAsJSON()));
  return samples.flat() as unknown as MetricSample[];
}

function stage(stages: readonly StageStatus[], name: StageName): StageStatus {
  return stages.find((one) => one.name === name)!;
}

function value(stages: readonly StageStatus[], name: StageName, counter: string): number | undefined {
  return stage(stages, name).counters.find((one) => one.name === counter)?.value;
}

describe('the meter', () => {
  it('names the stages in the order in which a reading travels', () => {
    const names = new Meter().stages(status).map(({ name }) => name);
    assert.deepEqual(names, ['ingress', 'inspect', 'journal', 'rollup', 'store']);
  });

  it('takes rates over the last ten seconds, not since the start', async () => {
    const telemetry = silentTelemetry();
    const meter = new Meter();
    for (let second = 0; second <= 40; second++) {
      meter.take(await samplesOf(telemetry), second * 1_000, second * 1_000);
      telemetry.received.inc({ source: 'mqtt' }, second < 20 ? 5 : 100);
    }
    assert.equal(stage(meter.stages(status), 'ingress').ratePerSecond, 100);
    const [first, ...rest] = meter.history().ingress!;
    assert.equal(first, 0);
    assert.ok(rest.length === 40);
  });

  it('adds up what several threads counted, and takes the frontier of the slowest partition', async () => {
    const [main, worker] = [silentTelemetry(), silentTelemetry()];
    main.counted.inc({ stream: 'environment' }, 3);
    worker.counted.inc({ stream: 'environment' }, 4);
    worker.late.inc({ stream: 'environment', kind: 'late' }, 2);
    main.frontierSeconds.set({ partition: '0' }, 1_000);
    worker.frontierSeconds.set({ partition: '1' }, 990);
    const meter = new Meter();
    meter.take(await samplesOf(main, worker), 0, 1_010_000);
    const stages = meter.stages(status);
    assert.equal(value(stages, 'rollup', 'counted'), 7);
    assert.equal(value(stages, 'rollup', 'late'), 2);
    assert.equal(meter.behindMs(), 20_000);
    assert.deepEqual(meter.totalsBy('millrace_counted_total'), { environment: 7 });
  });

  it('shows the latency of the last minute only', async () => {
    const telemetry = silentTelemetry();
    const meter = new Meter();
    for (let i = 0; i < 1_000; i++) telemetry.acknowledgeSeconds.observe(2);
    for (let second = 0; second <= 130; second++) {
      meter.take(await samplesOf(telemetry), second * 1_000, second * 1_000);
      telemetry.acknowledgeSeconds.observe(0.003);
    }
    const { p50, p99 } = stage(meter.stages(status), 'ingress').latencyMs!;
    assert.ok(p50 > 2.5 && p50 <= 5, `p50 is ${p50}`);
    assert.ok(p99 <= 5, `p99 is ${p99}`);
  });

  it('has no latency where nothing was measured, and none of a stage in another process', () => {
    const stages = new Meter().stages({ ...status, role: 'gateway' });
    assert.equal(stage(stages, 'ingress').latencyMs, null);
    assert.deepEqual(
      stages.map(({ here }) => here),
      [true, true, true, false, false],
    );
    const rollup = new Meter().stages({ ...status, role: 'rollup' });
    assert.deepEqual(
      rollup.map(({ here }) => here),
      [false, false, false, true, true],
    );
  });

  it('shows queues with their limits', async () => {
    const telemetry = silentTelemetry();
    telemetry.pendingBytes.set(10);
    telemetry.spoolBytes.set(50);
    telemetry.spoolLimitBytes.set(100);
    telemetry.lagRecords.set({ partition: '0' }, 7);
    telemetry.lagRecords.set({ partition: '1' }, 5);
    telemetry.openSeries.set({ partition: '0' }, 24);
    for (const partition of ['0', '1']) {
      telemetry.waitingRows.set({ stage: 'only', partition }, 30);
      telemetry.waitingRowsLimit.set({ stage: 'only', partition }, 40_000);
    }
    const meter = new Meter();
    meter.take(await samplesOf(telemetry), 0, 0);
    const depths = (role: 'all' | 'gateway') =>
      meter.stages({ ...status, role }).map(({ queue }) => (queue ? [queue.depth, queue.limit ?? queue.within] : null));
    assert.deepEqual(depths('all'), [[10, 64 * 2 ** 20], null, [50, 100], [12, 'kafka'], [60, 80_000]]);
    assert.deepEqual(depths('gateway').slice(3), [null, null], 'they wait in another process');
    const series = stage(meter.stages(status), 'rollup').counters.find(({ name }) => name === 'series');
    assert.deepEqual([series?.value, series?.limit], [24, 100_000]);
  });

  it('has a latency for every stage, from its own histogram, in three digits', async () => {
    const telemetry = silentTelemetry();
    const meter = new Meter();
    meter.take(await samplesOf(telemetry), 0, 0);
    assert.deepEqual(
      meter.stages(status).map(({ latencyMs }) => latencyMs),
      [null, null, null, null, null],
      'nothing was measured yet',
    );
    telemetry.acknowledgeSeconds.observe(0.004);
    telemetry.inspectSeconds.observe(0.00002);
    telemetry.spoolCommitSeconds.observe(0.002);
    telemetry.forwardSeconds.observe(0.02);
    telemetry.rollupSeconds.observe(0.4);
    telemetry.storeSeconds.observe(0.04);
    meter.take(await samplesOf(telemetry), 1_000, 1_000);
    // Half of the bucket that holds the one observation.
    assert.deepEqual(
      meter.stages(status).map(({ latencyMs }) => latencyMs?.p50),
      [3.75, 0.0175, 1.75, 375, 37.5],
    );
    const onward = (log: 'kafka' | 'spool') =>
      meter.stages({ ...status, log }).map((one) => one.onward?.latencyMs?.p50);
    assert.deepEqual(onward('kafka'), [undefined, undefined, 17.5, undefined, undefined]);
    assert.deepEqual(onward('spool'), [undefined, undefined, undefined, undefined, undefined]);
  });

  it('leaves Kafka’s counters out where the spool is the log', () => {
    const names = (log: 'spool' | 'kafka') =>
      stage(new Meter().stages({ ...status, log }), 'journal').counters.map(({ name }) => name);
    assert.ok(names('kafka').includes('forwarded'));
    assert.ok(!names('spool').includes('forwarded'));
  });

  it('estimates a quantile within the bucket that holds it', () => {
    const bounds = [1, 2, 5, 10, 50, Number.POSITIVE_INFINITY];
    const values = fc.array(fc.double({ min: 0, max: 49, noNaN: true }), { minLength: 1, maxLength: 200 });
    fc.assert(
      fc.property(values, fc.constantFrom(0.5, 0.9, 0.99), (given, q) => {
        const cumulative = bounds.map((bound) => given.filter((value) => value <= bound).length);
        const estimate = quantile(bounds, cumulative, q)!;
        const exact = [...given].sort((a, b) => a - b)[Math.ceil(q * given.length) - 1]!;
        const bucket = bounds.findIndex((bound) => exact <= bound);
        assert.ok(estimate <= bounds[bucket]! && estimate >= (bounds[bucket - 1] ?? 0), `${estimate} for ${exact}`);
      }),
    );
  });
});
