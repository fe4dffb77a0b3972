import assert from 'node:assert/strict';
import { ManualClock } from '../../src/clock.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { Observer } from '../../src/view/overview.ts';
import { rememberSince } from '../../src/view/problems.ts';
import { FakeFeed } from '../support/fake-feed.ts';

/** A gateway that has run for two minutes. */
async function running(change: (feed: FakeFeed, second: number) => void = () => {}) {
  const clock = new ManualClock(1_700_000_000_000);
  const feed = new FakeFeed(clock, { devices: 5 });
  const observer = new Observer(feed, clock, silentTelemetry());
  for (let second = 0; second < 120; second++) {
    await observer.take();
    clock.advance(1_000);
    feed.step();
    change(feed, second);
  }
  await observer.take();
  return { feed, clock, observer, problems: observer.overview().problems, verdict: observer.overview().verdict };
}

describe('problems in words', () => {
  it('finds nothing serious in a gateway that works', async () => {
    const { problems, verdict } = await running();
    assert.equal(verdict, 'healthy');
    assert.deepEqual(
      problems.filter(({ severity }) => severity !== 'note'),
      [],
    );
  });

  it('says that nothing is lost while Kafka is away, how long there is room, and what to do', async () => {
    const { problems, verdict } = await running((feed, second) => {
      feed.telemetry.spoolBytes.set(2 ** 30 + second * 10_000_000);
      feed.setPart({
        kind: 'kafka',
        name: 'kafka',
        stage: 'journal',
        state: 'away',
        failure: { code: 'KAFKA_UNREACHABLE', message: 'ECONNREFUSED 10.0.0.1:9092' },
      });
    });
    assert.equal(verdict, 'attention');
    const problem = problems.find(({ id }) => id === 'part kafka')!;
    assert.match(problem.meaning, /Nothing is lost.*about 14 minutes.*ECONNREFUSED/s);
    assert.match(problem.wayOut, /Start Kafka/);
  });

  it('shows alerts one by one, and as one when a rule has many', async () => {
    const alert = { kind: 'silent', state: 'raised', stream: 's', tags: {}, sinceMs: 5, atMs: 9, value: 4 } as const;
    const many = Array.from({ length: 8 }, (_, i) => ({
      ...alert,
      id: `m${i}`,
      rule: 'many',
      series: `d${i}`,
      message: `d${i} is silent`,
    }));
    const { problems, verdict } = await running((feed) => {
      const one = { ...alert, id: 'one', rule: 'few', series: 'd', message: 'pump 7 is hot' };
      feed.shownAlerts = { active: [one, ...many], recent: [] };
    });
    assert.equal(verdict, 'attention');
    const titles = problems.filter(({ id }) => id.startsWith('alert')).map(({ title }) => title);
    assert.deepEqual(titles, ['Pump 7 is hot', '8 alerts of the rule many']);
  });

  it('calls books that do not balance a bug', async () => {
    const { problems, verdict } = await running((feed) => feed.telemetry.ledgerImbalance.set(3));
    assert.equal(verdict, 'broken');
    assert.match(problems[0]!.title, /do not balance: 3 readings too few/);
  });

  it('calls a full spool broken and names who has to come back', async () => {
    const { problems, verdict } = await running((feed) => {
      feed.setPart({
        kind: 'spool',
        name: 'spool',
        stage: 'journal',
        state: 'full',
        failure: { code: 'SPOOL_FULL', message: '10.0 GiB of 10.0 GiB' },
      });
      feed.setPart({ kind: 'kafka', name: 'kafka', stage: 'journal', state: 'away' });
    });
    assert.equal(verdict, 'broken');
    assert.match(problems[0]!.title, /full: devices are not acknowledged/);
    assert.match(problems[0]!.wayOut, /Bring kafka back/);
  });

  it('tells failures that only a person can mend from those that heal', async () => {
    const { problems } = await running((feed) => {
      feed.setPart({
        kind: 'store',
        name: 'influx',
        stage: 'store',
        state: 'failing',
        failure: { code: 'STORE_AUTHENTICATION', message: '401' },
      });
    });
    assert.equal(problems[0]!.severity, 'error');
    assert.match(problems[0]!.wayOut, /influx\.token/);
  });

  it('names the reason of dead letters, and warns when they are many', async () => {
    const { problems, verdict } = await running((feed, second) => {
      if (second > 80) feed.refuse('malformed', 'not JSON', 'sensors/berlin/x/environment', 'x', '{', 0);
    });
    const problem = problems.find(({ id }) => id === 'dead letters')!;
    assert.equal(problem.severity, 'warning');
    assert.equal(verdict, 'attention');
    assert.match(problem.meaning, /malformed \(39\)/);
  });

  it('notices publishes that are not acknowledged, late readings and a queue that is nearly full', async () => {
    const { problems } = await running((feed) => {
      feed.telemetry.turnedAway.inc({ reason: 'pending-full' });
      feed.telemetry.late.inc({ stream: 'environment', kind: 'late' });
      feed.telemetry.spoolBytes.set(9 * 2 ** 30);
    });
    assert.match(problems.find(({ id }) => id === 'turned away')!.meaning, /pending-full \(60\)/);
    assert.equal(problems.find(({ id }) => id === 'late')!.severity, 'warning');
    assert.match(problems.find(({ id }) => id === 'queue journal')!.title, /90 % of 10\.0 GiB/);
  });

  it('notices a stream that went silent, and for how long it is', async () => {
    const { feed, clock, observer } = await running();
    clock.advance(180_000);
    const problem = observer.overview().problems.find(({ id }) => id === 'silent environment')!;
    assert.match(problem.meaning, /3 minutes ago/);
    assert.ok(feed.board.summary(clock.nowMs()).silent > 0);
  });

  it('tells a gateway that waits for its first reading how to get one', async () => {
    const clock = new ManualClock();
    const observer = new Observer(new FakeFeed(clock, { devices: 0 }), clock, silentTelemetry());
    await observer.take();
    const { problems, verdict } = observer.overview();
    assert.equal(verdict, 'healthy');
    assert.match(problems[0]!.wayOut, /mqtt:\/\/127\.0\.0\.1:1883.*sensors\/site\/device\/environment/);
  });

  it('gives every state of every part words and a way out', async () => {
    const clock = new ManualClock();
    for (const state of ['away', 'failing', 'full', 'stopped'] as const) {
      const feed = new FakeFeed(clock, { devices: 0 });
      feed.setPart({ kind: 'bridge', name: 'mqtts://broker.example', stage: 'ingress' });
      for (const part of feed.parts.values()) feed.setPart({ ...part, state });
      const observer = new Observer(feed, clock, silentTelemetry());
      await observer.take();
      const problems = observer.overview().problems.filter(({ id }) => id.startsWith('part '));
      assert.equal(problems.length, 6);
      for (const { title, meaning, wayOut } of problems) assert.ok(title && meaning && wayOut);
    }
  });

  it('remembers since when a problem has been there, and forgets it when it is gone', () => {
    const since = new Map<string, number>();
    const problem = {
      id: 'a',
      severity: 'note',
      stage: 'ingress',
      title: '',
      meaning: '',
      wayOut: '',
      sinceMs: null,
    } as const;
    rememberSince([problem], since, 100);
    assert.equal(rememberSince([problem], since, 200)[0]!.sinceMs, 100);
    rememberSince([], since, 300);
    assert.equal(rememberSince([problem], since, 400)[0]!.sinceMs, 400);
  });

  it('keeps the last numbers when the metrics cannot be read', async () => {
    const { feed, observer } = await running();
    const before = observer.overview().stages[0]!.counters[0]!.value;
    feed.samples = () => Promise.reject(new Error('the worker does not answer'));
    await observer.take();
    assert.equal(observer.overview().stages[0]!.counters[0]!.value, before);
    assert.ok(before > 0);
  });
});
