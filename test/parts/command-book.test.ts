import assert from 'node:assert/strict';
import fc from 'fast-check';
import { type CommandsConfig, commandRecord, decodeCommand, deviceOfClient, outcomeRecord } from '../../src/command.ts';
import type { StoredRecord } from '../../src/log.ts';
import { CommandBook, MAX_DONE } from '../../src/parts/command-book.ts';

const PLAN: CommandsConfig = {
  topic: 'devices/{device}/commands',
  client: '{device}',
  responses: null,
  ttlMs: 10_000,
  pending: 100,
  pendingPerDevice: 2,
  rate: 1_000,
  payloadBytes: 64,
};
const START = 1_700_000_000_000;

/** A log: each entry is a command or an outcome, a second apart. */
class Log {
  readonly records: StoredRecord[] = [];

  command(body: object, device = 'd1', atMs = START + this.records.length * 1_000): this {
    this.records.push({ ...commandRecord(device, body, atMs), offset: this.records.length });
    return this;
  }

  outcome(id: string, state: 'delivered' | 'answered' | 'expired', device = 'd1'): this {
    const atMs = START + this.records.length * 1_000;
    const said = state === 'answered' ? { response: 'ok' } : undefined;
    this.records.push({
      ...outcomeRecord({ id, state, atMs, gateway: 'g', ...said }, device),
      offset: this.records.length,
    });
    return this;
  }

  read(plan = PLAN, limits: string[] = []): CommandBook {
    const book = new CommandBook(plan, (limit) => limits.push(limit));
    for (const record of this.records) book.take(record);
    return book;
  }
}

const states = (book: CommandBook, nowMs = START) =>
  Object.fromEntries(book.list(nowMs).map(({ id, state }) => [id, state]));

describe('The book of commands', () => {
  it('has a command queued until its first outcome, and changes only a delivered one again, to answered', () => {
    const log = new Log();
    for (const id of ['a', 'b', 'c', 'd']) log.command({ id, payload: 1 }, id);
    log.outcome('b', 'delivered').outcome('c', 'delivered').outcome('c', 'answered').outcome('d', 'expired');
    log.outcome('b', 'expired').outcome('c', 'expired').outcome('nobody', 'delivered');
    const book = log.read();
    assert.deepEqual(states(book), { a: 'queued', b: 'delivered', c: 'answered', d: 'expired' });
    assert.equal(book.at('c')?.response, 'ok');
    assert.deepEqual(
      book.queuedFor('a').map(({ id }) => id),
      ['a'],
    );
    assert.deepEqual(book.devices(), ['a']);
  });

  it('believes a gateway that the device has it, when another one thought that its time was over', () => {
    const log = new Log().command({ id: 'a', payload: 1 }).outcome('a', 'expired').outcome('a', 'delivered');
    assert.deepEqual(states(log.read()), { a: 'delivered' });
    assert.deepEqual(states(log.outcome('a', 'expired').read()), { a: 'delivered' });
  });

  it('takes a second command with a known id for the same, done or not', () => {
    const book = new Log()
      .command({ id: 'a', payload: 1 })
      .command({ id: 'a', payload: 2 })
      .outcome('a', 'delivered')
      .command({ id: 'a', payload: 3 })
      .read();
    assert.deepEqual(states(book), { a: 'delivered' });
    assert.equal(Buffer.from(book.at('a')!.command!.payload).toString(), '1');
  });

  it('refuses what is beyond a limit, the same for everyone, and lets what has expired make room', () => {
    const log = new Log();
    for (const id of ['a', 'b', 'c']) log.command({ id, payload: 1 });
    log.command({ id: 'other', payload: 1 }, 'd2');
    log.command({ id: 'later', payload: 1 }, 'd1', START + 11_500);
    const limits: string[] = [];
    const book = log.read(PLAN, limits);
    assert.deepEqual(states(book, START + 5_000), {
      a: 'expired',
      b: 'expired',
      c: 'refused',
      other: 'queued',
      later: 'queued',
    });
    assert.equal(book.at('c')?.reason, '2 commands wait already for d1');
    assert.deepEqual(limits, ['commands_per_device']);
    const fewLimits: string[] = [];
    const few = log.read({ ...PLAN, pending: 1 }, fewLimits);
    assert.equal(few.at('other')?.reason, '1 commands wait already');
    assert.deepEqual(fewLimits, ['commands', 'commands', 'commands']);
  });

  it('lists as expired what no gateway has said anything about in time', () => {
    const book = new Log().command({ id: 'a', payload: 1, ttl_s: 5 }).read();
    assert.deepEqual(states(book, START + 4_999), { a: 'queued' });
    assert.deepEqual(states(book, START + 5_000), { a: 'expired' });
    assert.deepEqual(
      book.expiredBy(START + 5_000).map(({ id }) => id),
      ['a'],
    );
  });

  it('says from where on it must be read again: all that is queued or waits for its answer', () => {
    const log = new Log().command({ id: 'a', payload: 1 }).command({ id: 'b', payload: 1, response_topic: 'r' }, 'd2');
    assert.equal(log.read().firstNeeded(START), 0);
    log.outcome('a', 'delivered');
    assert.equal(log.read().firstNeeded(START), 1);
    log.outcome('b', 'delivered', 'd2');
    assert.equal(log.read().firstNeeded(START), 1);
    assert.equal(log.read().firstNeeded(START + 60_000), null);
    log.outcome('b', 'answered', 'd2');
    assert.equal(log.read().firstNeeded(START), null);
  });

  it('knows from there all that it knew from the beginning of what is queued', () => {
    const step = fc.record({ id: fc.integer({ min: 0, max: 12 }), what: fc.constantFrom('c', 'c', 'd', 'a', 'e') });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const log = new Log();
        const written = new Set<number>();
        for (const { id, what } of steps) {
          const device = `d${id % 3}`;
          // A known id again is only the same as long as it is remembered.
          if (what === 'c' && !written.has(id)) log.command({ id: `c${id}`, payload: id }, device);
          else if (what === 'd') log.outcome(`c${id}`, 'delivered', device);
          else if (what === 'e') log.outcome(`c${id}`, 'expired', device);
          else if (what === 'a') log.outcome(`c${id}`, 'answered', device);
          if (what === 'c') written.add(id);
        }
        const plan = { ...PLAN, pendingPerDevice: 100, ttlMs: 1_000_000 };
        const whole = log.read(plan);
        const again = new CommandBook(plan);
        const from = whole.firstNeeded(START) ?? log.records.length;
        for (const record of log.records.slice(from)) again.take(record);
        for (const device of ['d0', 'd1', 'd2']) assert.deepEqual(again.queuedFor(device), whole.queuedFor(device));
      }),
    );
  });

  it('remembers a bounded number of those that are done', () => {
    const log = new Log();
    for (let i = 0; i < MAX_DONE + 5; i++) log.command({ id: `c${i}` }, 'd1');
    assert.equal(log.read().list(START).length, MAX_DONE);
  });
});

describe('A command', () => {
  const decode = (body: unknown, device = 'd1') =>
    decodeCommand({ ...commandRecord(device, body as object, START), offset: 7 }, PLAN);

  it('needs a payload only: the device is the key, the id its place, the time to live that of the configuration', () => {
    const command = decode({ payload: { on: true } });
    assert.ok(!('reason' in command));
    assert.deepEqual(
      { ...command, payload: Buffer.from(command.payload).toString() },
      {
        id: '0-7',
        device: 'd1',
        topic: 'devices/d1/commands',
        payload: '{"on":true}',
        createdMs: START,
        expiresMs: START + 10_000,
        responseTopic: null,
      },
    );
  });

  it('sends text as it is and base64 as bytes, and fills device and id into the topic of the response', () => {
    const text = decode({ payload: 'on', id: 'x', response_topic: 'r/{device}/{id}' });
    assert.ok(!('reason' in text));
    assert.deepEqual([Buffer.from(text.payload).toString(), text.responseTopic], ['on', 'r/d1/x']);
    const bytes = decode({ payload_base64: 'AP8=' });
    assert.ok(!('reason' in bytes));
    assert.deepEqual([...bytes.payload], [0, 255]);
  });

  for (const [what, body, reason] of [
    ['no object', 'text', 'is not a JSON object'],
    ['no payload', {}, 'payload: is missing'],
    ['two payloads', { payload: 1, payload_base64: '' }, 'payload: there is a payload_base64 too'],
    [
      'a payload that no packet takes',
      { payload: 'x'.repeat(65) },
      'payload: 65 bytes are more than a packet of 64 takes',
    ],
    ['an id with a level', { payload: 1, id: 'a/b' }, 'id: "a/b" is not text of 1 to 128 characters without / + #'],
    [
      'a device with a wildcard',
      { payload: 1, device: '+' },
      'device: "+" is not the name of a device; give it as "device" or as the record\'s key',
    ],
    ['two expiries', { payload: 1, ttl_s: 1, expires_at: START }, 'ttl_s: there is an expires_at too'],
    ['a negative time to live', { payload: 1, ttl_s: -1 }, 'ttl_s: -1 is not a number of seconds up to 2592000'],
    [
      'an expiry in a far future',
      { payload: 1, expires_at: 9e15 },
      'expires_at: 9000000000000000 is not epoch milliseconds within 30 days',
    ],
    [
      'a wildcard for the response',
      { payload: 1, response_topic: '#' },
      'response_topic: "#" is not a topic to publish on',
    ],
  ] as const) {
    it(`is refused with ${what}, saying why`, () => {
      const command = decode(body);
      assert.ok('reason' in command);
      assert.equal(command.reason, reason);
    });
  }

  it('belongs to the device whose client id it fits', () => {
    assert.equal(deviceOfClient('{device}', 'd1'), 'd1');
    assert.equal(deviceOfClient('pump-{device}-x', 'pump-7-x'), '7');
    assert.equal(deviceOfClient('pump-{device}', 'valve-7'), null);
    assert.equal(deviceOfClient('pump-{device}', 'pump-'), null);
  });
});
