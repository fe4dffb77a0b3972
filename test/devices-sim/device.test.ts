import assert from 'node:assert/strict';
import { type DeviceOptions, deviceReports, deviceTopic, type Report } from '../../devices-sim/device.ts';
import { parseDurationMs, parseRate } from '../../devices-sim/quantity.ts';
import { Random } from '../../devices-sim/random.ts';
import { climateSensor, sitePressure } from '../../devices-sim/signal.ts';

const START = 1_700_000_000_000;
const NO_FAULTS = { gap: 0, duplicate: 0, late: 0, future: 0, malformed: 0, oversized: 0 };
const OPTIONS: DeviceOptions = {
  seed: 7,
  profile: 'environment',
  topic: 'sensors/{site}/{device}/environment',
  intervalMs: 1_000,
  jitter: 0.2,
  startMs: START,
  rates: NO_FAULTS,
  lateByMs: 60_000,
  clockOffsetMs: 0,
  oversizedBytes: 10_000,
  flapping: 0,
};

function reportsOf(count: number, changes: Partial<DeviceOptions> = {}, index = 0): Report[] {
  const reports = deviceReports(index, { ...OPTIONS, ...changes });
  return Array.from({ length: count }, () => reports.next().value);
}

const contentOf = (report: Report) => JSON.parse(Buffer.from(report.payload!).toString());
const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

describe('Random numbers', () => {
  it('depend on the seed alone and differ between purposes', () => {
    const draw = (...seed: (string | number)[]) => {
      const random = new Random(...seed);
      return Array.from({ length: 5 }, () => random.next());
    };
    assert.deepEqual(draw(1, 'a'), draw(1, 'a'));
    assert.notDeepEqual(draw(1, 'a'), draw(1, 'b'));
    assert.notDeepEqual(draw(1, 'a'), draw(2, 'a'));
  });

  it('are spread evenly, and gaussians have mean 0 and deviation 1', () => {
    const random = new Random('spread');
    const even = Array.from({ length: 20_000 }, () => random.next());
    assert.ok(Math.abs(mean(even) - 0.5) < 0.01);
    assert.ok(even.every((value) => value >= 0 && value < 1));
    const normal = Array.from({ length: 20_000 }, () => random.gaussian());
    assert.ok(Math.abs(mean(normal)) < 0.03);
    assert.ok(Math.abs(mean(normal.map((value) => value * value)) - 1) < 0.05);
    const ranks = Array.from({ length: 20_000 }, () => random.zipf(10));
    const share = (rank: number) => ranks.filter((value) => value === rank).length;
    assert.ok(share(0) > 2 * share(3) && share(3) > share(9) && share(9) > 0);
  });
});

describe('A climate sensor', () => {
  const MINUTE = 60_000;
  const series = (device: string, minutes: number) => {
    const sensor = climateSensor(7, 'berlin', device, START);
    return Array.from({ length: minutes }, (_, i) => sensor(START + i * MINUTE));
  };

  it('stays within what such a sensor can report', () => {
    for (const { temperature, humidity, pressure } of series('d1', 5_000)) {
      assert.ok(temperature > -30 && temperature < 90);
      assert.ok(humidity >= 0 && humidity <= 100);
      assert.ok(pressure > 970 && pressure < 1060);
    }
  });

  it('is warmer in the afternoon than at night, and drier when warmer', () => {
    const week = series('d2', 7 * 1_440);
    const hourOf = (i: number) => new Date(START + i * MINUTE).getUTCHours();
    const at = (from: number, to: number) => week.filter((_, i) => hourOf(i) >= from && hourOf(i) < to);
    const day = at(13, 17);
    const night = at(1, 5);
    assert.ok(mean(day.map((r) => r.temperature)) > mean(night.map((r) => r.temperature)) + 0.5);
    assert.ok(mean(day.map((r) => r.humidity)) < mean(night.map((r) => r.humidity)));
  });

  it('changes little from one minute to the next, except for spikes; and sticks now and then', () => {
    const values = series('d3', 30_000).map((reading) => reading.temperature);
    const steps = values.slice(1).map((value, i) => Math.abs(value - values[i]!));
    const spikes = steps.filter((step) => step > 15).length;
    assert.ok(spikes >= 10 && spikes < 200, `${spikes} spikes`);
    assert.ok(steps.toSorted((a, b) => a - b)[Math.floor(steps.length * 0.9)]! < 1);
    let longest = 0;
    let run = 0;
    for (const step of steps) {
      run = step === 0 ? run + 1 : 0;
      longest = Math.max(longest, run);
    }
    assert.ok(longest >= 30, `stuck for ${longest}`);
  });

  it('shares the air pressure of its site and nothing else', () => {
    const pressureAt = sitePressure(7, 'berlin');
    const [a, b] = [series('d4', 100), series('d5', 100)];
    for (let i = 0; i < 100; i++) {
      assert.ok(Math.abs(a[i]!.pressure - pressureAt(START + i * MINUTE)) < 1.2);
      assert.ok(Math.abs(b[i]!.pressure - pressureAt(START + i * MINUTE)) < 1.2);
    }
    assert.notDeepEqual(a, b);
  });
});

describe('A simulated device', () => {
  it('reports the same things for the same seed and start, to the byte', () => {
    const rates = { gap: 0.1, duplicate: 0.1, late: 0.1, future: 0.1, malformed: 0.1, oversized: 0.01 };
    for (const profile of ['environment', 'clicks', 'chat'] as const) {
      const changes = { rates, profile, flapping: 0.1, clockOffsetMs: 5_000 };
      assert.deepEqual(reportsOf(200, changes), reportsOf(200, changes));
      assert.notDeepEqual(reportsOf(200, changes), reportsOf(200, { ...changes, seed: 8 }));
      assert.notDeepEqual(reportsOf(20, changes), reportsOf(20, changes, 1));
    }
  });

  it('counts from 0 and takes a report about every interval, never two at one time', () => {
    const reports = reportsOf(1_000);
    assert.deepEqual(
      reports.map((report) => report.seq),
      reports.map((_, i) => i),
    );
    const gaps = reports.slice(1).map((report, i) => report.takenMs - reports[i]!.takenMs);
    assert.ok(Math.min(...gaps) >= 799 && Math.max(...gaps) <= 1_201);
    assert.ok(Math.abs(mean(gaps) - 1_000) < 20);
    const fast = reportsOf(1_000, { intervalMs: 0.1 });
    assert.equal(new Set(fast.map((report) => report.ts)).size, 1_000);
  });

  it('writes time, counter and values as JSON', () => {
    const [report] = reportsOf(1);
    const content = contentOf(report!);
    assert.deepEqual(Object.keys(content), ['ts', 'seq', 'temperature', 'humidity', 'pressure']);
    assert.equal(content.ts, report!.takenMs);
    assert.equal(report!.topic, 'sensors/berlin/d0001/environment');
    const [click] = reportsOf(1, { profile: 'clicks' });
    assert.deepEqual(Object.keys(contentOf(click!)), ['timestamp', 'seq', 'userid', 'page', 'action']);
    const [chat] = reportsOf(1, { profile: 'chat' });
    assert.deepEqual(Object.keys(contentOf(chat!)), [
      'timestamp',
      'seq',
      'conversation',
      'agent',
      'customer',
      'from',
      'text',
    ]);
  });

  it('fills a topic template: site, device, and any other name by number', () => {
    assert.equal(deviceTopic('a/{site}/{device}/{line}', 5), 'a/lyon/d0006/line6');
  });

  it('has each fault about as often as asked, one at a time', () => {
    const rates = { gap: 0.05, duplicate: 0.1, late: 0.15, future: 0.1, malformed: 0.2, oversized: 0.05 };
    const reports = reportsOf(4_000, { rates, oversizedBytes: 500 });
    for (const [fault, rate] of Object.entries(rates)) {
      const share = reports.filter((report) => report.fault === fault).length / reports.length;
      assert.ok(Math.abs(share - rate) < 0.03, `${fault}: ${share}`);
    }
  });

  it('changes only what a fault breaks', () => {
    const clean = reportsOf(300);
    const faulty = reportsOf(300, { rates: { ...NO_FAULTS, late: 0.3, malformed: 0.3 } });
    for (const [i, report] of faulty.entries()) {
      assert.equal(report.takenMs, clean[i]!.takenMs);
      if (report.fault !== 'malformed') assert.deepEqual(report.payload, clean[i]!.payload);
    }
  });

  it('breaks as the ledger says', () => {
    const only = (fault: keyof typeof NO_FAULTS) => reportsOf(50, { rates: { ...NO_FAULTS, [fault]: 1 } });
    for (const report of only('gap')) assert.equal(report.payload, null);
    for (const report of only('duplicate')) assert.equal(report.copies, 2);
    for (const report of only('oversized')) assert.ok(report.payload!.length >= 10_000 && contentOf(report).seq >= 0);
    for (const report of only('future')) assert.ok(report.ts - report.takenMs >= 3_600_000);
    for (const { dueMs, takenMs, ts } of only('late')) {
      assert.ok(dueMs > takenMs && dueMs <= takenMs + 60_000);
      assert.equal(ts, takenMs);
    }
    const strict = new TextDecoder('utf-8', { fatal: true });
    for (const report of only('malformed')) assert.throws(() => JSON.parse(strict.decode(report.payload!)));
    assert.equal(new Set(only('malformed').map((report) => report.payload!.length === 0)).size, 2);
  });

  it('has a clock that is wrong by a constant of its own', () => {
    const offsets = [0, 1, 2, 3].map((index) => {
      const reports = reportsOf(20, { clockOffsetMs: 30_000 }, index);
      const found = new Set(reports.map((report) => report.ts - report.takenMs));
      assert.equal(found.size, 1);
      return [...found][0]!;
    });
    assert.equal(new Set(offsets).size, 4);
    assert.ok(offsets.every((offset) => Math.abs(offset) <= 30_000));
  });
});

describe('Quantities on the command line', () => {
  it('are durations and rates with units, or nothing', () => {
    assert.deepEqual(['500ms', '60s', '1.5m', '1h', '0s'].map(parseDurationMs), [500, 60_000, 90_000, 3_600_000, 0]);
    assert.deepEqual(['1/s', '30/m', '2', '0'].map(parseRate), [1, 0.5, 2, 0]);
    for (const text of ['', '5', 's', '-1s', '1 s', '1w']) assert.equal(parseDurationMs(text), null);
    for (const text of ['', '/s', '1/', '-1/s', '1/w']) assert.equal(parseRate(text), null);
  });
});
