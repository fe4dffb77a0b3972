import assert from 'node:assert/strict';
import type { Ledger, LedgerEvent, LedgerSubject } from '../../devices-sim/ledger.ts';
import { type SimulationOptions, simulate } from '../../devices-sim/simulate.ts';
import { startBroker, type TestBroker } from './broker.ts';

interface Entry extends LedgerSubject {
  readonly event: LedgerEvent;
}

class MemoryLedger implements Ledger {
  readonly entries: Entry[] = [];
  note(event: LedgerEvent, { device, topic, seq, copy, ts, fault, attempt }: LedgerSubject): void {
    this.entries.push({ event, device, topic, seq, copy, ts, fault, attempt });
  }
  close(): void {}
  /** `device/seq/copy` of all entries of an event. */
  named(event: LedgerEvent): string[] {
    return this.entries.filter((entry) => entry.event === event).map((e) => `${e.device}/${e.seq}/${e.copy}`);
  }
}

const never = new AbortController().signal;
let broker: TestBroker;
let ledger: MemoryLedger;

/** A broker and a ledger for each test of the suite that calls this. */
function withBroker(): void {
  beforeEach(async () => {
    broker = await startBroker();
    ledger = new MemoryLedger();
  });
  afterEach(() => broker.close());
}

function optionsFor(changes: {
  device?: Partial<SimulationOptions['device']>;
  client?: Partial<SimulationOptions['client']>;
  run?: Partial<SimulationOptions>;
}): SimulationOptions {
  return {
    device: {
      seed: 3,
      profile: 'environment',
      topic: 'sensors/{site}/{device}/environment',
      intervalMs: 20,
      jitter: 0.2,
      startMs: Date.now(),
      rates: { gap: 0, duplicate: 0, late: 0, future: 0, malformed: 0, oversized: 0 },
      lateByMs: 100,
      clockOffsetMs: 0,
      oversizedBytes: 5_000,
      flapping: 0,
      ...changes.device,
    },
    devices: 4,
    devicesPerClient: 1,
    clientPrefix: 'sim-',
    client: { url: broker.url, qos: 1, maxInFlight: 5, reconnectEveryMs: 0, ...changes.client },
    durationMs: 400,
    drainMs: 5_000,
    ...changes.run,
  };
}

const receivedNames = () =>
  broker.received.map(({ topic, payload }) => `${topic.split('/')[2]}/${JSON.parse(payload.toString()).seq}`);

describe('The simulator', () => {
  withBroker();
  it('publishes what its devices measured and ends when all is acknowledged', async () => {
    const summary = await simulate(optionsFor({}), ledger, never);
    assert.ok(summary.published > 40, `${summary.published} published`);
    assert.equal(summary.acknowledged, summary.published);
    assert.equal(summary.unacknowledged, 0);
    assert.equal(summary.unsent, 0);
    assert.equal(summary.attempts, summary.published);
    assert.equal(broker.received.length, summary.published);
    assert.deepEqual(ledger.named('acknowledged').toSorted(), ledger.named('sent').toSorted());
    assert.deepEqual(broker.clients.toSorted(), ['sim-1', 'sim-2', 'sim-3', 'sim-4']);
  });

  it('publishes the same reports for the same seed and start, whatever the timing', async () => {
    const device = { startMs: Date.now() - 5_000 };
    await simulate(optionsFor({ device, run: { durationMs: 2_000 } }), ledger, never);
    const first = broker.received.splice(0).map(({ topic, payload }) => `${topic} ${payload}`);
    await simulate(optionsFor({ device, run: { durationMs: 2_000 }, client: { maxInFlight: 1 } }), ledger, never);
    assert.ok(first.length > 300);
    assert.deepEqual(broker.received.map(({ topic, payload }) => `${topic} ${payload}`).toSorted(), first.toSorted());
  });

  it('sends again what was not acknowledged when connections break, same counter and time', async () => {
    let withheld = 0;
    broker.answer = () => {
      withheld++;
      // The first of each dozen is received and never answered, then all connections break.
      if (withheld % 12 === 0) setTimeout(() => broker.cut(), 5);
      return withheld % 12 !== 0;
    };
    const cutting = optionsFor({ run: { durationMs: 1_000 } });
    const summary = await simulate(cutting, ledger, never);
    assert.ok(summary.disconnections >= 4, `${summary.disconnections} disconnections`);
    assert.ok(summary.attempts > summary.published, 'nothing was sent again');
    assert.equal(summary.unacknowledged, 0);
    assert.deepEqual(new Set(receivedNames()), new Set(ledger.named('sent').map((name) => name.replace(/\/0$/, ''))));
    const times = new Map<string, Set<string>>();
    for (const { topic, payload } of broker.received) {
      const name = `${topic} ${JSON.parse(payload.toString()).seq}`;
      times.set(name, (times.get(name) ?? new Set()).add(payload.toString()));
    }
    assert.ok([...times.values()].every((payloads) => payloads.size === 1));
    const failed = ledger.named('failed');
    assert.ok(failed.length > 0);
    assert.ok(failed.every((name) => ledger.named('acknowledged').includes(name)));
  });

  it('keeps measuring while the broker is away, and delivers it all when it comes back', async () => {
    const { port } = broker;
    await broker.close();
    const running = simulate(optionsFor({ run: { durationMs: 600 } }), ledger, never);
    await new Promise((resolve) => setTimeout(resolve, 700));
    assert.equal(ledger.named('sent').length, 0, 'something was published without a connection');
    broker = await startBroker({ port });
    const summary = await running;
    assert.ok(summary.published > 80);
    assert.equal(summary.acknowledged, summary.published);
    assert.equal(broker.received.length, summary.published);
  });

  it('gives up in the end, and says what was never acknowledged', async () => {
    broker.answer = ({ payload }) => JSON.parse(payload.toString()).seq !== 2;
    const summary = await simulate(optionsFor({ run: { drainMs: 200 } }), ledger, never);
    assert.equal(summary.unacknowledged, 4);
    assert.equal(summary.acknowledged, summary.published - 4);
  });

  it('never has more unacknowledged messages on a connection than allowed', async () => {
    broker.answer = () => false;
    const summary = await simulate(optionsFor({ client: { maxInFlight: 3 }, run: { drainMs: 100 } }), ledger, never);
    assert.equal(summary.published, 4 * 3);
    assert.equal(broker.received.length, 4 * 3);
    assert.ok(summary.unsent > 0);
  });

  it('makes the faults it was asked for, and the ledger names each', async () => {
    const rates = { gap: 0.1, duplicate: 0.1, late: 0.1, future: 0.1, malformed: 0.1, oversized: 0.1 };
    const summary = await simulate(optionsFor({ device: { rates }, run: { durationMs: 1_000 } }), ledger, never);
    for (const count of Object.values(summary.byFault)) assert.ok(count > 0, JSON.stringify(summary.byFault));
    const sentWith = (fault: string) => ledger.entries.filter((e) => e.event === 'sent' && e.fault === fault).length;
    for (const fault of ['none', 'duplicate', 'late', 'future', 'malformed', 'oversized'] as const) {
      assert.equal(summary.byFault[fault], sentWith(fault));
      assert.equal(summary.acknowledgedByFault[fault], summary.byFault[fault]);
    }
    assert.equal(summary.byFault.gap, ledger.named('gap').length);
    assert.equal(sentWith('duplicate') % 2, 0);
    assert.equal(broker.received.length, summary.published);
    const late = ledger.entries.findIndex((entry) => entry.event === 'sent' && entry.fault === 'late');
    const { device, seq } = ledger.entries[late]!;
    assert.ok(ledger.entries.slice(0, late).some((entry) => entry.device === device && entry.seq > seq));
  });

  it('sends an oversized payload once, though the broker closes the connection for it', async () => {
    broker.answer = ({ payload }) => (payload.length > 1_000 ? 'close' : true);
    const rates = { gap: 0, duplicate: 0, late: 0, future: 0, malformed: 0, oversized: 0.1 };
    const summary = await simulate(optionsFor({ device: { rates }, run: { durationMs: 800 } }), ledger, never);
    assert.ok(summary.byFault.oversized > 3);
    assert.equal(summary.acknowledgedByFault.oversized, 0);
    assert.equal(summary.abandoned, summary.byFault.oversized);
    assert.equal(summary.unacknowledged, 0);
    const oversized = ledger.entries.filter((entry) => entry.fault === 'oversized' && entry.event === 'sent');
    assert.ok(oversized.every((entry) => entry.attempt === 1));
    assert.equal(summary.acknowledgedByFault.none, summary.byFault.none);
  });

  it('loses nothing to flapping and to reconnecting on a schedule', async () => {
    const changes = { device: { flapping: 0.05 }, client: { reconnectEveryMs: 150 }, run: { durationMs: 1_000 } };
    const summary = await simulate(optionsFor(changes), ledger, never);
    assert.ok(summary.connections > 8, `${summary.connections} connections`);
    assert.equal(summary.unacknowledged, 0);
    assert.equal(summary.unsent, 0);
    const distinct = new Set(receivedNames());
    assert.equal(distinct.size, summary.published);
  });

  it('lets several devices share a connection', async () => {
    const summary = await simulate(optionsFor({ run: { devices: 5, devicesPerClient: 2 } }), ledger, never);
    assert.equal(summary.connections, 3);
    assert.equal(new Set(broker.received.map(({ topic }) => topic)).size, 5);
  });

  it('publishes with QoS 0 and 2 too', async () => {
    const zero = await simulate(optionsFor({ client: { qos: 0 } }), ledger, never);
    assert.equal(ledger.named('written').length, zero.published);
    assert.equal(ledger.named('acknowledged').length, 0);
    const two = await simulate(optionsFor({ client: { qos: 2 } }), ledger, never);
    assert.ok(two.published > 0);
    assert.equal(ledger.named('acknowledged').length, two.published);
  });

  it('stops measuring when asked to, drains, and leaves late ones unsent', async () => {
    const stop = new AbortController();
    const rates = { gap: 0, duplicate: 0, late: 0.5, future: 0, malformed: 0, oversized: 0 };
    const changes = { device: { rates, lateByMs: 600_000 }, run: { durationMs: 60_000 } };
    const running = simulate(optionsFor(changes), ledger, stop.signal);
    setTimeout(() => stop.abort(), 400);
    const summary = await running;
    assert.ok(summary.seconds < 10);
    assert.ok(summary.published > 10);
    assert.equal(summary.unacknowledged, 0);
    assert.ok(summary.withheld > 10);
    assert.equal(ledger.named('withheld').length, summary.withheld);
  });

  it('authenticates, and sends nothing where it is refused', async () => {
    const { port } = broker;
    await broker.close();
    broker = await startBroker({ port, password: 'secret' });
    const wrong = { client: { username: 'u', password: 'wrong' }, run: { durationMs: 100, drainMs: 200 } };
    const refused = await simulate(optionsFor(wrong), ledger, never);
    assert.equal(refused.published, 0);
    assert.ok(refused.unsent > 0);
    const right = { client: { username: 'u', password: 'secret' }, run: { durationMs: 100 } };
    assert.equal((await simulate(optionsFor(right), ledger, never)).unsent, 0);
  });
});
