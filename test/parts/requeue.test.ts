import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ManualClock } from '../../src/clock.ts';
import { fail } from '../../src/errors.ts';
import { createInspector } from '../../src/inspect/inspect.ts';
import { openSpool, type Spool } from '../../src/journal/spool.ts';
import { openSpoolReader } from '../../src/journal/spool-reader.ts';
import type { LogReader, LogRecord, StoredRecord } from '../../src/log.ts';
import { readingRecord, refusalRecord } from '../../src/parts/accept.ts';
import { deadLetterAt, findDeadLetters } from '../../src/parts/dead-letters.ts';
import { createRequeue, type Requeue } from '../../src/parts/requeue.ts';
import { decodeReading, type Reading, type Refusal } from '../../src/reading.ts';
import { makeWindow, parseTemplate, type Stream, type TopicTemplate } from '../../src/stream.ts';
import { silentTelemetry } from '../../src/telemetry.ts';

const RECEIVED_MS = 1_700_000_000_000;

function stream(name: string, changes: Partial<Stream> = {}): Stream {
  return {
    name,
    topic: parseTemplate(`${name}/{device}`) as TopicTemplate,
    format: 'json',
    schema: null,
    key: 'device',
    identity: [],
    time: 'ts',
    sequence: null,
    tags: [],
    metrics: ['x'],
    enrich: null,
    windows: [makeWindow(10_000)],
    score: null,
    retain: false,
    ...changes,
  };
}

const STREAMS = {
  timed: stream('timed'),
  untimed: stream('untimed', { time: null }),
  named: stream('named', { time: null, identity: ['id'] }),
};

describe('requeue', () => {
  let folder: string;
  let spool: Spool;
  let reader: LogReader;
  let clock: ManualClock;
  let accepted: Reading[];
  let requeue: Requeue;
  /** Appends of these kinds fail. */
  let broken: Set<LogRecord['kind']>;

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'millrace-requeue-'));
    clock = new ManualClock(RECEIVED_MS);
    accepted = [];
    broken = new Set();
    const options = { maxBytes: 2 ** 30, segmentBytes: 2 ** 20, historyBytes: 2 ** 30, readers: [] };
    const opened = await openSpool({ folder, ...options, clock, telemetry: silentTelemetry(), commitIntervalMs: 0 });
    assert.ok(opened.ok);
    spool = opened.value;
    reader = openSpoolReader({ folder, progress: spool.progress, clock, telemetry: silentTelemetry() });
    requeue = begin();
  });
  afterEach(async () => {
    await reader.close();
    await spool.close();
    rmSync(folder, { recursive: true, force: true });
  });

  /** As after a start: nothing is remembered. */
  function begin(onlyWriter = true): Requeue {
    const inspector = createInspector(Object.values(STREAMS), { schemas: new Map(), registries: new Map() });
    return createRequeue({
      deadLetters: reader,
      streams: STREAMS,
      inspect: (message) => inspector.inspect(message),
      append: (record, onDurable) =>
        broken.has(record.kind) ? onDurable(fail('SPOOL_IO', 'broken')) : spool.append(record, onDurable),
      received: () => clock.nowMs(),
      onlyWriter,
      telemetry: silentTelemetry(),
      onReceived: () => {},
      onAccepted: (reading) => accepted.push(reading),
    });
  }

  async function refuse(topic: string, payload: string, changes: Partial<Refusal> = {}): Promise<string> {
    const refusal: Refusal = {
      code: 'schema',
      reason: 'as it was',
      field: '',
      stream: topic.split('/')[0]!,
      topic,
      client: 'c1',
      payload: Buffer.from(payload),
      ...changes,
    };
    assert.ok((await spool.appendAll([refusalRecord(refusal, clock.nowMs())])).ok);
    clock.advance(1_000);
    return `0-${spool.stats().endOffset - 1}`;
  }

  async function records(kind: LogRecord['kind']): Promise<StoredRecord[]> {
    const found: StoredRecord[] = [];
    for await (const batch of reader.range(0, 0, Number.MAX_SAFE_INTEGER)) {
      found.push(...batch.records.filter((record) => record.kind === kind));
    }
    return found;
  }

  const readings = async () =>
    (await records('reading')).map(({ value }) => decodeReading(Buffer.from(value).toString())!);
  const kinds = async (...ids: string[]) => {
    const outcome = await requeue(ids.map((id) => ({ id })));
    return outcome.ok ? outcome.value.map(({ kind }) => kind) : outcome.failure.code;
  };

  it('appends what now passes, with the received stamp of now, and a mark behind it', async () => {
    const id = await refuse('timed/d1', '{"ts":1600000000000,"x":1}');
    clock.advance(3_600_000);
    assert.deepEqual(await requeue([{ id }]), { ok: true, value: [{ kind: 'accepted', readings: 1 }] });
    const [record] = await records('reading');
    assert.deepEqual([record!.key, record!.topic, record!.receivedMs], ['d1', 'timed/d1', clock.nowMs()]);
    assert.equal((await readings())[0]!.timeMs, 1_600_000_000_000);
    const [mark] = await records('requeued');
    assert.equal(Buffer.from(mark!.value).toString(), `{"letter":"${id}"}`);
    assert.ok(mark!.offset > record!.offset);
    assert.equal(accepted.length, 1);
  });

  it('sends nothing twice, neither in this process nor after a start', async () => {
    const ids = [
      await refuse('timed/d1', '{"ts":1600000000000,"x":1}'),
      await refuse('timed/d2', '{"ts":1600000000000,"x":1}'),
    ];
    assert.deepEqual(await kinds(...ids), ['accepted', 'accepted']);
    const requeuedMs = clock.nowMs();
    assert.deepEqual(await kinds(...ids), ['already', 'already']);
    requeue = begin();
    assert.deepEqual(await requeue([{ id: ids[1]! }]), { ok: true, value: [{ kind: 'already', requeuedMs }] });
    assert.deepEqual(await kinds(ids[0]!), ['already']);
    assert.equal((await readings()).length, 2);
  });

  it('sees what another writer of the same log has requeued meanwhile', async () => {
    const [one, two] = [
      await refuse('timed/d1', '{"ts":1600000000000,"x":1}'),
      await refuse('timed/d2', '{"ts":1600000000000,"x":1}'),
    ];
    const other = begin(false);
    requeue = begin(false);
    assert.deepEqual(await kinds(one), ['accepted']);
    await other([{ id: two }]);
    assert.deepEqual(await kinds(one, two), ['already', 'already']);
    assert.equal((await readings()).length, 2);
  });

  it('answers calls that come at once one after the other', async () => {
    const id = await refuse('timed/d1', '{"ts":1600000000000,"x":1}');
    const answers = await Promise.all([kinds(id), kinds(id), kinds(id)]);
    assert.deepEqual(answers.flat(), ['accepted', 'already', 'already']);
    assert.equal((await readings()).length, 1);
  });

  it('leaves a letter that is refused again as it is, to be sent another time', async () => {
    const id = await refuse('timed/d1', '{"x":1}');
    const outcome = await requeue([{ id }]);
    assert.ok(outcome.ok && outcome.value[0]!.kind === 'refused');
    assert.equal(outcome.value[0]!.refusal.code, 'time-missing');
    assert.deepEqual(await kinds(id), ['refused']);
    assert.equal((await records('refusal')).length, 1, 'no second letter');
    assert.equal((await records('requeued')).length, 0);
  });

  it('has no mark without its readings in the log', async () => {
    const id = await refuse('timed/d1', '{"ts":1600000000000,"x":1}');
    broken.add('reading');
    assert.equal(await kinds(id), 'SPOOL_IO');
    assert.equal((await records('requeued')).length, 0);
    assert.deepEqual(accepted, []);
    broken.clear();
    assert.deepEqual(await kinds(id), ['accepted']);
  });

  it('repeats, after a crash before the mark, the same readings by their identity', async () => {
    const ids = [
      await refuse('timed/d1', '{"ts":1600000000000,"x":1}'),
      await refuse('untimed/d1', '{"x":1}'),
      await refuse('untimed/d1', '[{"x":2},{"x":3}]'),
      await refuse('named/d1', '{"x":1,"id":"e1"}'),
    ];
    broken.add('requeued');
    assert.equal(await kinds(...ids), 'SPOOL_IO');
    broken.clear();
    clock.advance(7_200_000);
    requeue = begin();
    assert.deepEqual(await kinds(...ids), Array(4).fill('accepted'));
    const all = await readings();
    const names = all.map(({ stream: name, timeMs, identity }) => `${name} ${timeMs} ${identity}`);
    assert.equal(all.length, 10);
    assert.deepEqual(names.slice(5), names.slice(0, 5));
    assert.equal(new Set(names).size, 5);
  });

  it('gives a reading without a time of its own the time at which its letter was received', async () => {
    clock.advance(5_000);
    const id = await refuse('untimed/d1', '{"x":1}');
    clock.advance(86_400_000);
    await requeue([{ id }]);
    assert.equal((await readings())[0]!.timeMs, RECEIVED_MS + 5_000);
  });

  it('sends a reading that Kafka refused as it was, byte for byte', async () => {
    const reading: Reading = {
      stream: 'timed',
      key: 'd1',
      timeMs: 1,
      tags: { device: 'd1' },
      values: { x: 1 },
      payload: '{"ts":1, "x":1}',
    };
    const was = readingRecord(reading, clock.nowMs(), 'timed/d1');
    const letter = {
      ...refusalRecord(
        {
          code: 'log-refused',
          reason: '',
          field: '',
          stream: 'timed',
          topic: 'timed/d1',
          client: '',
          payload: Buffer.from(was.value),
        },
        clock.nowMs(),
      ),
      key: 'd1',
    };
    assert.ok((await spool.appendAll([letter])).ok);
    assert.deepEqual(await kinds('0-0'), ['accepted']);
    const [record] = await records('reading');
    assert.deepEqual(Buffer.from(record!.value), Buffer.from(was.value));
    assert.deepEqual([record!.key, record!.stream, record!.topic], ['d1', 'timed', 'timed/d1']);
  });

  it('does not take for a payload what is none, and says what to do', async () => {
    const row = await refuse('timed/d1', '{"stream":"timed"}', { code: 'store-refused' });
    const hash = await refuse('timed/d1', '{"bytes":1,"sha256":"ab"}', { code: 'log-refused' });
    const outcome = await requeue([{ id: row }, { id: hash }]);
    assert.ok(outcome.ok);
    const reasons = outcome.value.map((one) => (one.kind === 'refused' ? one.refusal.reason : one.kind));
    assert.match(reasons[0]!, /millrace recompute/);
    assert.match(reasons[1]!, /length and hash/);
  });

  it('answers for what is not there, is no letter, or is not the one that was meant', async () => {
    const id = await refuse('timed/d1', '{"ts":1600000000000,"x":1}');
    await spool.appendAll([
      readingRecord({ stream: 'timed', key: 'd', timeMs: 1, tags: {}, values: {} }, clock.nowMs(), 't'),
    ]);
    const wishes = [{ id: '0-1' }, { id: '0-99' }, { id: '7-0' }, { id: 'x' }, { id, receivedMs: 1 }];
    assert.deepEqual(await requeue(wishes), { ok: true, value: Array(5).fill({ kind: 'missing' }) });
    assert.deepEqual(await requeue([{ id, receivedMs: RECEIVED_MS }]), {
      ok: true,
      value: [{ kind: 'accepted', readings: 1 }],
    });
  });

  it('answers many at once in the order asked, through groups that share commits', async () => {
    const ids: string[] = [];
    for (let i = 0; i < 250; i++)
      ids.push(await refuse(`timed/d${i % 7}`, i % 5 === 0 ? '{}' : `{"ts":${1_600_000_000_000 + i},"x":1}`));
    const asked = [...ids].reverse();
    assert.deepEqual(
      await kinds(...asked),
      asked.map((id) => (Number(id.slice(2)) % 5 === 0 ? 'refused' : 'accepted')),
    );
    assert.equal((await records('requeued')).length, 200);
    assert.deepEqual(
      (await readings()).map(({ timeMs }) => timeMs),
      (await readings()).map(({ timeMs }) => timeMs).sort(),
      'oldest first',
    );
  });

  describe('the list of dead letters', () => {
    const find = async (limit: number, sinceMs = 0) => {
      const found = await findDeadLetters(reader, { limit, sinceMs });
      assert.ok(found.ok);
      return found.value;
    };

    it('says which were requeued, and when', async () => {
      const [one, two] = [await refuse('timed/d1', '{"ts":1600000000000,"x":1}'), await refuse('timed/d2', '{}')];
      await requeue([{ id: one }, { id: two }]);
      const requeuedMs = clock.nowMs();
      clock.advance(1_000);
      const three = await refuse('timed/d3', '{}');
      assert.deepEqual(
        (await find(10)).map((letter) => [letter.id, letter.requeuedMs]),
        [
          [three, undefined],
          [two, undefined],
          [one, requeuedMs],
        ],
      );
      assert.ok((await deadLetterAt(reader, one)).ok);
    });

    it('is newest first and no longer than asked, however many there are behind one another', async () => {
      const ids: string[] = [];
      for (let i = 0; i < 700; i++) ids.push(await refuse('timed/d', `${i}`));
      assert.deepEqual(
        (await find(5)).map(({ id }) => id),
        ids.slice(-5).reverse(),
      );
      assert.deepEqual(
        (await find(600)).map(({ id }) => id),
        ids.slice(-600).reverse(),
      );
      assert.deepEqual(
        (await find(1_000, RECEIVED_MS + 690_000)).map(({ id }) => id),
        ids.slice(690).reverse(),
      );
    });
  });
});
