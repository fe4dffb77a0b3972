import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { createInspector, DEFAULT_LIMITS } from '../../src/inspect/inspect.ts';
import { SeriesMemory } from '../../src/inspect/series.ts';
import { encodeReading, type RefusalCode } from '../../src/reading.ts';
import {
  assetsFor,
  inspectorFor,
  makeMessage,
  makeStream,
  NOW,
  readingOf,
  readingsOf,
  refusalOf,
  SCHEMA,
  TOPIC,
} from './sample.ts';

const CLICKS = {
  name: 'clicks',
  topic: 'web/{app}/clicks',
  key: 'page',
  identity: ['userid', 'page', 'timestamp'],
  time: 'timestamp',
  sequence: null,
  tags: ['page', 'action'],
  metrics: [],
};
const clicks = { topic: 'web/shop/clicks' };
const click = (changes: object = {}) => ({ timestamp: NOW, userid: 7, page: '/p', action: 'view', ...changes });

function expectRefusal(
  inspection: ReturnType<ReturnType<typeof inspectorFor>['inspect']>,
  code: RefusalCode,
  field: string,
  reason: RegExp,
) {
  const refusal = refusalOf(inspection);
  assert.deepEqual({ code: refusal.code, field: refusal.field }, { code, field });
  assert.match(refusal.reason, reason);
}

describe('Inspecting a message', () => {
  it('makes a reading of a valid payload', () => {
    const text = `{"ts":${NOW - 5}, "seq":3, "temperature":21.50, "humidity":-0, "note":"x"}`;
    assert.deepEqual(readingOf(inspectorFor({}, { schema: SCHEMA }).inspect(makeMessage(text))), {
      stream: 'environment',
      key: 'd1',
      timeMs: NOW - 5,
      tags: { device: 'd1', site: 'berlin' },
      tagsText: '{"device":"d1","site":"berlin"}',
      values: { temperature: 21.5, humidity: 0 },
      sequence: 3,
      identity: undefined,
      schema: createHash('sha256').update(JSON.stringify(SCHEMA)).digest('hex').slice(0, 12),
      payload: text,
    });
  });

  it('says of a refused payload by which schema it was judged, and of the readings of a list where they stood', () => {
    const version = /^[0-9a-f]{12}$/;
    const inspector = inspectorFor({}, { schema: SCHEMA });
    assert.match(refusalOf(inspector.inspect(makeMessage('no'))).schema!, version);
    assert.equal(refusalOf(inspectorFor().inspect(makeMessage('no'))).schema, undefined);
    const list = inspectorFor().inspect(
      makeMessage([
        { ts: NOW, temperature: 1 },
        { ts: NOW + 1, temperature: 1 },
      ]),
    );
    assert.ok(list.kind === 'readings');
    assert.deepEqual(
      list.readings.map(({ batch }) => batch),
      [
        [0, 2],
        [1, 2],
      ],
    );
  });

  it('keeps a refused payload whole, with stream, topic and client', () => {
    const message = makeMessage('{"ts":1', { client: 'c9' });
    const refusal = refusalOf(inspectorFor().inspect(message));
    assert.equal(refusal.payload, message.payload);
    assert.equal(refusal.stream, 'environment');
    assert.equal(refusal.topic, TOPIC);
    assert.equal(refusal.client, 'c9');
    assert.equal(refusal.code, 'malformed');
  });

  it('refuses a topic that belongs to no stream', () => {
    const inspection = inspectorFor().inspect(makeMessage('{}', { topic: 'other/\x1b[2J' }));
    expectRefusal(inspection, 'unknown-topic', '', /no stream.*other/);
    assert.equal(refusalOf(inspection).stream, '');
    assert.doesNotMatch(refusalOf(inspection).reason, /\p{C}/u);
  });

  it('refuses what the schema refuses', () => {
    const inspector = inspectorFor({}, { schema: SCHEMA });
    const message = makeMessage({ ts: NOW, temperature: 999 });
    expectRefusal(
      inspector.inspect(message),
      'schema',
      '/temperature',
      /^\/temperature: 999 is above the maximum 125$/,
    );
  });

  it('throws when assets were made for another configuration: a bug, not an input', () => {
    const stream = makeStream({ schema: '/s.json' });
    assert.throws(() => createInspector([stream], { schemas: new Map(), registries: new Map() }));
  });
});

describe('The event time', () => {
  const at = (ts: unknown, receivedMs = NOW) =>
    inspectorFor().inspect(makeMessage({ ts, temperature: 1 }, { receivedMs }));

  it('may be milliseconds, seconds or RFC 3339, and as far back as 1970', () => {
    assert.equal(readingOf(at(NOW / 1000)).timeMs, NOW);
    assert.equal(readingOf(at(new Date(NOW).toISOString())).timeMs, NOW);
    assert.equal(readingOf(at(1)).timeMs, 1_000);
  });

  it('may be ahead of the clock by the skew and no more', () => {
    assert.equal(readingOf(at(NOW + 60_000)).timeMs, NOW + 60_000);
    expectRefusal(at(NOW + 60_001), 'time-future', '/ts', /ahead of the gateway's clock$/);
    expectRefusal(at(NOW * 1_000), 'time-future', '/ts', /looks like microseconds/);
    expectRefusal(at(NOW * 1_000_000), 'time-invalid', '/ts', /looks like nanoseconds; expected/);
  });

  it('is missing or invalid, each with its code', () => {
    expectRefusal(at(undefined), 'time-missing', '/ts', /is missing/);
    expectRefusal(at(null), 'time-missing', '/ts', /is missing/);
    expectRefusal(at('yesterday'), 'time-invalid', '/ts', /"yesterday" is not a time; expected epoch milliseconds/);
    expectRefusal(at(0), 'time-invalid', '/ts', /0 is not a time/);
    expectRefusal(at({}), 'time-invalid', '/ts', /an object is not a time/);
  });

  it('may lie deeper in the payload', () => {
    const inspector = inspectorFor({ time: 'meta.at' });
    assert.equal(readingOf(inspector.inspect(makeMessage({ meta: { at: NOW }, temperature: 1 }))).timeMs, NOW);
    const flat = makeMessage({ 'meta.at': NOW, temperature: 1 });
    expectRefusal(inspector.inspect(flat), 'time-missing', '/meta/at', /missing/);
  });

  describe('of a stream without a time field', () => {
    const unstamped = { time: null, metrics: ['temperature'] };
    const payload = { temperature: 1 };

    it('is the received stamp, one millisecond on for each reading of the series in the same millisecond', () => {
      const inspector = inspectorFor(unstamped);
      const times = [NOW, NOW, NOW, NOW + 1, NOW + 100].map(
        (receivedMs) => readingOf(inspector.inspect(makeMessage(payload, { receivedMs }))).timeMs,
      );
      assert.deepEqual(times, [NOW, NOW + 1, NOW + 2, NOW + 3, NOW + 100]);
      const other = makeMessage(payload, { topic: 'sensors/berlin/d2/environment' });
      assert.equal(readingOf(inspector.inspect(other)).timeMs, NOW);
    });

    it('does not run ahead of the clock by more than the skew', () => {
      const inspector = inspectorFor(unstamped, { limits: { skewMs: 2 } });
      for (let i = 0; i < 3; i++) readingOf(inspector.inspect(makeMessage(payload)));
      expectRefusal(inspector.inspect(makeMessage(payload)), 'time-future', '', /more than one reading a millisecond/);
    });

    it('goes on from the last one when schemas and registries are loaded anew', () => {
      const memory = new SeriesMemory(DEFAULT_LIMITS);
      const stream = makeStream(unstamped);
      const make = () => createInspector([stream], assetsFor(stream, {}), DEFAULT_LIMITS, memory);
      assert.equal(readingOf(make().inspect(makeMessage(payload))).timeMs, NOW);
      assert.equal(readingOf(make().inspect(makeMessage(payload))).timeMs, NOW + 1);
    });
  });
});

describe('Tags, key and identity', () => {
  it('come from topic and payload; numbers and booleans become text; names are sorted', () => {
    const inspector = inspectorFor({ ...CLICKS, tags: ['page', 'action', 'b.c', 'n'] });
    const message = makeMessage(click({ b: { c: true }, n: 1.5 }), clicks);
    const reading = readingOf(inspector.inspect(message));
    assert.deepEqual(Object.entries(reading.tags), [
      ['action', 'view'],
      ['app', 'shop'],
      ['b.c', 'true'],
      ['n', '1.5'],
      ['page', '/p'],
    ]);
    assert.equal(reading.key, '/p');
    assert.equal(reading.identity, `[7,"/p",${NOW}]`);
    assert.deepEqual(reading.values, {});
  });

  const badTags: [what: string, page: unknown, reason: RegExp][] = [
    ['absent', undefined, /is missing/],
    ['null', null, /null cannot be/],
    ['an object', {}, /an object cannot be/],
    ['an array', [1], /an array of 1 cannot be/],
    ['empty', '', /is empty/],
    ['too long', 'x'.repeat(257), /has 257 bytes, above the limit of 256/],
    ['too long in bytes', 'é'.repeat(129), /has 258 bytes/],
    ['with a line end', 'a\nb', /control character/],
    ['with U+0000', 'a\0', /control character/],
    ['half a surrogate pair', '\ud800', /surrogate/],
    ['an integer beyond 2^53', 2 ** 53, /too large to be kept exactly/],
  ];
  for (const [what, page, reason] of badTags) {
    it(`are refused: ${what}`, () => {
      const inspection = inspectorFor({ ...CLICKS, identity: [] }).inspect(makeMessage(click({ page }), clicks));
      expectRefusal(inspection, 'tag-invalid', '/page', reason);
    });
  }

  it('accept 256 bytes, and pairs of surrogates', () => {
    const inspector = inspectorFor(CLICKS);
    for (const page of ['x'.repeat(256), 'é'.repeat(128), '😀']) {
      assert.equal(readingOf(inspector.inspect(makeMessage(click({ page }), clicks))).tags.page, page);
    }
  });

  it('are refused where the topic itself holds what cannot be a tag', () => {
    const inspector = inspectorFor();
    for (const device of ['d\x07', 'x'.repeat(300)]) {
      const message = makeMessage({ ts: NOW, temperature: 1 }, { topic: `sensors/berlin/${device}/environment` });
      expectRefusal(inspector.inspect(message), 'tag-invalid', '', /topic level \{device\}/);
    }
  });

  it('the key may be a payload field that is no tag', () => {
    const inspector = inspectorFor({ key: 'meta.id' });
    const payload = { ts: NOW, temperature: 1, meta: { id: 12 } };
    assert.equal(readingOf(inspector.inspect(makeMessage(payload))).key, '12');
    const without = makeMessage({ ts: NOW, temperature: 1 });
    expectRefusal(inspector.inspect(without), 'tag-invalid', '/meta/id', /missing/);
  });

  it('the identity needs all its fields', () => {
    const message = makeMessage(click({ userid: undefined }), clicks);
    expectRefusal(inspectorFor(CLICKS).inspect(message), 'identity-missing', '/userid', /is missing/);
  });

  it('the identity may use captures', () => {
    const reading = readingOf(
      inspectorFor({ ...CLICKS, identity: ['app', 'userid'] }).inspect(makeMessage(click(), clicks)),
    );
    assert.equal(reading.identity, '["shop",7]');
  });

  it('two large integers that a double takes for one are refused rather than called the same event', () => {
    const text = `{"timestamp":${NOW},"userid":9007199254740993,"page":"/p","action":"view"}`;
    const inspection = inspectorFor(CLICKS).inspect(makeMessage(text, clicks));
    expectRefusal(inspection, 'number-out-of-range', '/userid', /too large to be kept exactly/);
  });

  it('a long identity is kept as its hash: equal for equal events, different for different ones', () => {
    const inspector = inspectorFor(CLICKS);
    const identityOf = (userid: string) =>
      readingOf(inspector.inspect(makeMessage(click({ userid }), clicks))).identity!;
    const long = 'u'.repeat(1_000);
    assert.match(identityOf(long), /^sha256:[0-9a-f]{64}$/);
    assert.equal(identityOf(long), identityOf(long));
    assert.notEqual(identityOf(long), identityOf(`${long}v`));
  });

  it('the sequence is an integer from 0 on, or absent', () => {
    const inspect = (seq: unknown) => inspectorFor().inspect(makeMessage({ ts: NOW, seq, temperature: 1 }));
    assert.equal(readingOf(inspect(0)).sequence, 0);
    assert.equal(readingOf(inspect(Number.MAX_SAFE_INTEGER)).sequence, Number.MAX_SAFE_INTEGER);
    assert.equal(readingOf(inspect(undefined)).sequence, undefined);
    for (const seq of [-1, 1.5, 2 ** 53, '3', {}])
      expectRefusal(inspect(seq), 'sequence-invalid', '/seq', /is not an integer/);
  });
});

describe('Metrics', () => {
  const inspect = (temperature: unknown, metrics = ['temperature']) =>
    inspectorFor({ metrics }).inspect(makeMessage({ ts: NOW, temperature }));
  const valuesOf = (temperature: unknown) => readingOf(inspect(temperature)).values;

  it('are finite numbers; booleans are 1 and 0; -0 is 0', () => {
    assert.deepEqual(valuesOf(1e150), { temperature: 1e150 });
    assert.deepEqual(valuesOf(-1e-140), { temperature: -1e-140 });
    assert.deepEqual(valuesOf(true), { temperature: 1 });
    assert.deepEqual(valuesOf(false), { temperature: 0 });
    const reading = readingOf(inspectorFor().inspect(makeMessage(`{"ts":${NOW},"temperature":-0}`)));
    assert.ok(Object.is(reading.values.temperature, 0));
  });

  it('that are not numbers are refused', () => {
    for (const value of ['21', '', {}, [1]])
      expectRefusal(inspect(value), 'number-invalid', '/temperature', /is not a number/);
  });

  it('outside the range of exact arithmetic are refused', () => {
    for (const value of [1.1e150, -1e300, 9e-141, -5e-324]) {
      expectRefusal(inspect(value), 'number-out-of-range', '/temperature', /is outside 1e-140 to 1e\+150/);
    }
    const overflow = makeMessage(`{"ts":${NOW},"temperature":1e999}`);
    expectRefusal(inspectorFor().inspect(overflow), 'number-out-of-range', '/temperature', /too large/);
  });

  it('written as an integer that a double may have rounded are refused, alone and in a batch; as a fraction or with an exponent not', () => {
    const written = (number: string) => makeMessage(`{"ts":${NOW},"temperature":${number}}`);
    for (const number of ['9007199254740993', '-9007199254740992', '123456789012345678901234']) {
      expectRefusal(inspectorFor().inspect(written(number)), 'number-out-of-range', '/temperature', /beyond 2\^53/);
    }
    const batch = makeMessage(`[{"ts":${NOW},"temperature":9007199254740993}]`);
    expectRefusal(inspectorFor().inspect(batch), 'number-out-of-range', '/0/temperature', /beyond 2\^53/);
    for (const number of ['9007199254740991', '1e17', '9.007199254740993e15', '12345678901234567.0']) {
      assert.equal(readingOf(inspectorFor().inspect(written(number))).values.temperature, Number(number));
    }
    const other = makeMessage(`{"ts":${NOW},"temperature":1,"id":9007199254740993}`);
    assert.equal(readingOf(inspectorFor().inspect(other)).values.temperature, 1);
  });

  it('may be absent or null, but not all of them', () => {
    const some = makeMessage({ ts: NOW, temperature: null, humidity: 5 });
    assert.deepEqual(readingOf(inspectorFor().inspect(some)).values, { humidity: 5 });
    expectRefusal(
      inspect(null),
      'number-invalid',
      '',
      /none of the metrics is there; expected at least one of temperature$/,
    );
    expectRefusal(inspect(undefined, ['a', 'b']), 'number-invalid', '', /a, b$/);
  });

  it('are looked up among own keys only, and deeper by dots', () => {
    expectRefusal(inspect(1, ['toString', 'constructor.name']), 'number-invalid', '', /none of the metrics/);
    const inspector = inspectorFor({ metrics: ['env.temperature', 'toString'] });
    const reading = readingOf(inspector.inspect(makeMessage({ ts: NOW, env: { temperature: 3 }, toString: 4 })));
    assert.deepEqual(reading.values, { 'env.temperature': 3, toString: 4 });
  });
});

describe('The registry', () => {
  const enrich = {
    registry: '/etc/devices.csv',
    by: 'device',
    tags: ['room', 'model'],
    scale: { temperature: 'factor' },
    unknown: 'refuse' as const,
  };
  const registry = 'device,model,room,factor\nd1,m1,attic,0.5\nd2,,attic,1e100\n';
  const payload = { ts: NOW, temperature: 42, humidity: 42 };

  it('adds tags and scales metrics', () => {
    const reading = readingOf(inspectorFor({ enrich }, { registry }).inspect(makeMessage(payload)));
    assert.deepEqual(Object.entries(reading.tags), [
      ['device', 'd1'],
      ['model', 'm1'],
      ['room', 'attic'],
      ['site', 'berlin'],
    ]);
    assert.deepEqual(reading.values, { temperature: 21, humidity: 42 });
  });

  it('checks the range again after scaling, and leaves out tags that the device has not', () => {
    const inspector = inspectorFor({ enrich }, { registry });
    const topic = 'sensors/berlin/d2/environment';
    assert.equal('model' in readingOf(inspector.inspect(makeMessage(payload, { topic }))).tags, false);
    const large = makeMessage({ ...payload, temperature: 1e51 }, { topic });
    expectRefusal(inspector.inspect(large), 'number-out-of-range', '/temperature', /1e\+51 times 1e\+100 is outside/);
  });

  it('refuses devices that it does not list, or accepts them as they are', () => {
    const message = makeMessage(payload, { topic: 'sensors/berlin/d3/environment' });
    const strict = inspectorFor({ enrich }, { registry });
    for (let i = 0; i < 2; i++) {
      expectRefusal(strict.inspect(message), 'unknown-device', '', /^device "d3" is not in devices\.csv$/);
    }
    const lenient = inspectorFor({ enrich: { ...enrich, unknown: 'accept' } }, { registry });
    assert.deepEqual(readingOf(lenient.inspect(message)).tags, { device: 'd3', site: 'berlin' });
  });

  it('may be joined by a tag of the payload, and may give the key', () => {
    const changes = { enrich: { ...enrich, by: 'id', registry: 'x' }, tags: ['id'], key: 'room' };
    const inspector = inspectorFor(changes, { registry: registry.replace('device', 'id') });
    assert.equal(readingOf(inspector.inspect(makeMessage({ ...payload, id: 'd1' }))).key, 'attic');
    expectRefusal(
      inspector.inspect(makeMessage({ ...payload, id: 'd9' })),
      'unknown-device',
      '/id',
      /id "d9" is not in x/,
    );
    expectRefusal(inspector.inspect(makeMessage(payload)), 'tag-invalid', '/id', /missing/);
  });
});

describe('A batch', () => {
  const element = (changes: object = {}) => ({ ts: NOW, temperature: 1, ...changes });

  it('becomes a reading for each element', () => {
    const readings = readingsOf(inspectorFor().inspect(makeMessage([element(), element({ ts: NOW - 1, seq: 2 })])));
    assert.deepEqual(
      readings.map(({ timeMs, sequence, payload }) => ({ timeMs, sequence, payload })),
      [
        { timeMs: NOW, sequence: undefined, payload: `{"ts":${NOW},"temperature":1}` },
        { timeMs: NOW - 1, sequence: 2, payload: `{"ts":${NOW - 1},"temperature":1,"seq":2}` },
      ],
    );
  });

  it('is refused whole for one bad element, which the reason names', () => {
    const message = makeMessage([element(), element({ temperature: 'x' })]);
    const inspection = inspectorFor().inspect(message);
    expectRefusal(inspection, 'number-invalid', '/1/temperature', /^reading 2 of the batch: \/temperature: "x"/);
    assert.equal(refusalOf(inspection).payload, message.payload);
  });

  it('of one is still a batch', () => {
    expectRefusal(inspectorFor().inspect(makeMessage([element({ ts: 0 })])), 'time-invalid', '/0/ts', /reading 1/);
  });

  it('without times counts on, one millisecond each', () => {
    const readings = readingsOf(inspectorFor({ time: null }).inspect(makeMessage([element(), element(), element()])));
    assert.deepEqual(
      readings.map((reading) => reading.timeMs),
      [NOW, NOW + 1, NOW + 2],
    );
  });

  it('leaves no series behind when there is room for only some of its series', () => {
    const memory = new SeriesMemory({ maxSeries: 2, seriesIdleMs: 1e9 });
    const inspector = inspectorFor({ tags: ['t'], metrics: ['temperature'] }, { memory });
    const batch = makeMessage(['a', 'b', 'c'].map((t) => element({ t })));
    expectRefusal(inspector.inspect(batch), 'too-many-series', '/2', /no room/);
    assert.equal(memory.size, 0);
    readingsOf(inspector.inspect(makeMessage(['d', 'e', 'd'].map((t) => element({ t })))));
    assert.equal(memory.size, 2);
  });
});

describe('The limit on series', () => {
  const device = (name: string, receivedMs = NOW) =>
    makeMessage({ ts: NOW, temperature: 1 }, { topic: `sensors/berlin/${name}/environment`, receivedMs });

  it('refuses new series and never known ones', () => {
    const inspector = inspectorFor({}, { limits: { maxSeries: 6 } });
    readingOf(inspector.inspect(device('a')));
    readingOf(inspector.inspect(device('b')));
    expectRefusal(inspector.inspect(device('c')), 'too-many-series', '', /6 series/);
    readingOf(inspector.inspect(device('a')));
  });

  it('lets new series in when others have gone quiet', () => {
    const inspector = inspectorFor({}, { limits: { maxSeries: 6, seriesIdleMs: 60_000 } });
    readingOf(inspector.inspect(device('a')));
    readingOf(inspector.inspect(device('b')));
    readingOf(inspector.inspect(device('b', NOW + 50_000)));
    readingOf(inspector.inspect(device('c', NOW + 70_000)));
    readingOf(inspector.inspect(device('b', NOW + 70_000)));
    expectRefusal(inspector.inspect(device('a', NOW + 70_000)), 'too-many-series', '', /no room/);
  });

  it('is not touched by refused payloads', () => {
    const memory = new SeriesMemory({ maxSeries: 3, seriesIdleMs: 1e9 });
    const inspector = inspectorFor({}, { memory });
    for (let i = 0; i < 10; i++) {
      const topic = `sensors/berlin/x${i}/environment`;
      refusalOf(inspector.inspect(makeMessage({ ts: NOW, temperature: 'x' }, { topic })));
    }
    assert.equal(memory.size, 0);
  });
});

describe('Remembered topics', () => {
  it('change nothing, however few are remembered', () => {
    const few = inspectorFor({}, { limits: { topics: 2 } });
    const many = inspectorFor();
    for (let i = 0; i < 200; i++) {
      const topic = `sensors/s/d${(i * 7) % 11}/environment`;
      const message = makeMessage({ ts: NOW + i, temperature: i }, { topic });
      assert.deepEqual(few.inspect(message), many.inspect(message));
    }
  });
});

describe('The record of a reading', () => {
  it('embeds the payload as one JSON value', () => {
    const text = ' {"ts":1700000000000,\n "temperature":1.0}\n';
    const encoded = encodeReading(readingOf(inspectorFor().inspect(makeMessage(text))));
    assert.ok(encoded.endsWith(`,"payload":${text}}`));
    assert.deepEqual(JSON.parse(encoded).payload, { ts: 1_700_000_000_000, temperature: 1 });
  });
});
