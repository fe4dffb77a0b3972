/** The judge of the log is judged: an honest log must pass, and every lie planted in it must be found under its name. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import type { SimulatedDelivery } from '../../src/torture/deliveries.ts';
import type { Rules } from '../../src/torture/ledger-readings.ts';
import { type Entry, LogClaims } from '../../src/torture/log-claims.ts';

const T0 = Date.UTC(2026, 0, 1, 12);
const TOPIC = 'torture/plant/d1/environment';
const RULES: Rules = {
  graceMs: 4_000,
  skewMs: 3_000,
  streams: [
    {
      name: 'environment',
      topic: 'torture/{group}/{device}/environment',
      time: 'ts',
      sequence: 'seq',
      metrics: ['temperature'],
      windows: ['2s'],
    },
  ],
};

function delivery(seq: number, more: Partial<SimulatedDelivery> = {}): SimulatedDelivery {
  const sentMs = more.sentMs ?? T0 + seq * 1_000;
  const ts = more.ts ?? sentMs;
  const payload = JSON.stringify({ ts, seq, temperature: 20 + seq });
  return {
    ...{ topic: TOPIC, payload, sentMs, acknowledgedMs: sentMs + 5, device: 'd1', seq, copy: 0, attempt: 1 },
    ...{ fault: 'none', ts, sha256: createHash('sha256').update(payload).digest('hex') },
    ...more,
  };
}

const bytes = (value: unknown) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value));
const reading = (payload: string, topic = TOPIC): Entry => ({
  ...{ kind: 'reading', topic },
  value: bytes(`{"stream":"environment","time":1,"tags":{},"values":{},"payload":${payload}}`),
});
const late = (payload: string, reason = 'late'): Entry => ({
  ...{ kind: 'late', topic: TOPIC },
  value: bytes(`{"reason":"${reason}","partition":0,"offset":1,"reading":{"payload":${payload}}}`),
});
const letter = (payload: string): Entry => ({
  ...{ kind: 'refusal', topic: TOPIC },
  value: bytes({ code: 'malformed', payload: Buffer.from(payload).toString('base64') }),
});

interface Log {
  readonly readings?: readonly Entry[];
  readonly letters?: readonly Entry[];
  readonly late?: readonly Entry[];
  readonly repeats?: boolean;
}

/** Names of the claims that are contradicted. */
function broken(deliveries: readonly SimulatedDelivery[], log: Log): string[] {
  const claims = new LogClaims(RULES, deliveries, log.repeats ?? false);
  for (const entry of log.readings ?? []) claims.logged(entry);
  for (const entry of log.letters ?? []) claims.refused(entry);
  for (const entry of log.late ?? []) claims.late(entry);
  const contradicted = claims.claims().filter(({ findings }) => findings > 0);
  for (const { examples } of contradicted) assert.ok(examples.length > 0);
  return contradicted.map(({ name }) => name);
}

describe('the claims about the log', () => {
  const sent = [0, 1, 2].map((seq) => delivery(seq));
  const honest = sent.map(({ payload }) => reading(payload!));
  /** Its window ended 20 s before it was sent. */
  const tardy = delivery(9, { ts: T0 - 20_000 });

  it('hold for an honest log, with repetitions, refusals and late readings', () => {
    const payload = 'ERROR: sensor not ready';
    const sha256 = createHash('sha256').update(payload).digest('hex');
    const malformed = delivery(8, { payload: null, fault: 'malformed', sha256 });
    const log = { readings: [...honest, reading(tardy.payload!), honest[1]!], letters: [letter(payload)] };
    assert.deepEqual(broken([...sent, malformed, tardy], { ...log, late: [late(tardy.payload!)] }), []);
  });

  it('say nothing of what was not acknowledged', () => {
    assert.deepEqual(broken([...sent, delivery(3, { acknowledgedMs: null })], { readings: honest }), []);
  });

  it('find what was acknowledged and is nowhere', () => {
    assert.deepEqual(broken(sent, { readings: honest.slice(1) }), ['nothing-lost']);
  });

  it('find a refused payload that was acknowledged and is nowhere', () => {
    const malformed = delivery(8, { payload: null, fault: 'malformed', sha256: 'none' });
    assert.deepEqual(broken([...sent, malformed], { readings: honest }), ['nothing-lost']);
  });

  it('find a reading that nobody sent, one of another topic, and a changed one', () => {
    for (const extra of [reading('{"ts":1,"seq":77}'), reading(sent[0]!.payload!, 'torture/plant/d2/environment')]) {
      assert.deepEqual(broken(sent, { readings: [...honest, extra] }), ['nothing-invented']);
    }
    const changed = sent[1]!.payload!.replace('21', '22');
    assert.deepEqual(broken(sent, { readings: [honest[0]!, reading(changed), honest[2]!] }), ['nothing-invented']);
  });

  it('find a dead letter that nobody sent', () => {
    assert.deepEqual(broken(sent, { readings: honest, letters: [letter('forged')] }), ['nothing-invented']);
  });

  it('find a reading that overtook another, but not one that came again', () => {
    assert.deepEqual(broken(sent, { readings: [honest[0]!, honest[2]!, honest[1]!] }), ['in-order']);
    assert.deepEqual(broken(sent, { readings: [honest[0]!, honest[1]!, honest[0]!, honest[2]!] }), []);
  });

  it('find a late reading that is not listed, and a listed one that was in time', () => {
    assert.deepEqual(broken([...sent, tardy], { readings: [...honest, reading(tardy.payload!)] }), ['listed']);
    assert.deepEqual(broken(sent, { readings: honest, late: [late(sent[0]!.payload!)] }), ['listed']);
  });

  it('take a straggler for what it is only where Kafka may hold a record twice', () => {
    const twice = { readings: [...honest, honest[0]!], late: [late(sent[0]!.payload!, 'straggler')] };
    assert.deepEqual(broken(sent, { ...twice, repeats: true }), []);
    assert.deepEqual(broken(sent, twice), ['listed']);
  });

  it('leave open what nobody outside can tell', () => {
    const paneEndMs = T0 + 2_000;
    const close = delivery(5, { ts: T0, sentMs: paneEndMs + 3_900, acknowledgedMs: paneEndMs + 4_100 });
    for (const listed of [[], [late(close.payload!)]]) {
      assert.deepEqual(broken([...sent, close], { readings: [...honest, reading(close.payload!)], late: listed }), []);
    }
  });
});
