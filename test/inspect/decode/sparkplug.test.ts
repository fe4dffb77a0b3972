/** The rules of the Sparkplug specification 3.0 on topics, births, aliases, sequence numbers and types. */
import assert from 'node:assert/strict';
import { BirthMemory } from '../../../src/inspect/births.ts';
import { sparkplugDecoder } from '../../../src/inspect/decode/sparkplug.ts';
import { rebirthPayload } from '../../../src/inspect/decode/sparkplug-wire.ts';
import { Problem } from '../../../src/inspect/refusal.ts';
import { decode, documentsOf, NOW, problemOf } from './sample.ts';
import { type MetricFields, readBack, sparkplug, TYPE } from './sparkplug-payload.ts';

const NODE = { name: 'Node Control/Rebirth', datatype: TYPE.boolean, boolean_value: false };
const session = (bdSeq: number) => ({ name: 'bdSeq', datatype: TYPE.int64, long_value: bdSeq });
const TEMPERATURE = { name: 'temperature', alias: 1, datatype: TYPE.double, double_value: 20 };
const COUNT = { name: 'Inputs/count', alias: 2, datatype: TYPE.int32, int_value: 7 };
/** The form of the specification for a message that says only what changed. */
const changed = (value: number) => ({ alias: 1, double_value: value });

/** A host application, and the nodes that it asked to be born again. */
function makeHost(metrics: readonly string[] = [], limits?: { nodes: number; definitions: number }) {
  const asked: string[] = [];
  const births = new BirthMemory((group, node) => asked.push(`${group}/${node}`), limits);
  const decoder = sparkplugDecoder(births, metrics);
  const to = (type: string, device?: string, node = 'n') =>
    `spBv1.0/plant/${type}/${node}${device === undefined ? '' : `/${device}`}`;
  return {
    asked,
    decoder,
    born(node = 'n') {
      documentsOf(decoder, sparkplug(0, [session(1), NODE]), { topic: to('NBIRTH', undefined, node) });
      documentsOf(decoder, sparkplug(1, [TEMPERATURE, COUNT]), { topic: to('DBIRTH', 'd', node) });
    },
    read: (type: string, payload: Uint8Array, device: string | undefined = 'd', receivedMs = NOW) =>
      documentsOf(decoder, payload, { topic: to(type, device), receivedMs }),
    refuse: (type: string, payload: Uint8Array, device: string | undefined = 'd', receivedMs = NOW) =>
      problemOf(decoder, payload, { topic: to(type, device), receivedMs }),
    node: (type: string, payload: Uint8Array) => documentsOf(decoder, payload, { topic: to(type) }),
    data: (node: string, payload: Uint8Array) => decode(decoder, payload, { topic: to('DDATA', 'd', node) }),
  };
}

describe('Decoding Sparkplug B', () => {
  it('reads births, and data by the aliases that they gave', () => {
    const host = makeHost();
    assert.deepEqual(host.node('NBIRTH', sparkplug(0, [session(1), NODE])), [
      { timestamp: NOW, bdSeq: 1, 'Node Control/Rebirth': false },
    ]);
    assert.deepEqual(host.read('DBIRTH', sparkplug(1, [TEMPERATURE, COUNT])), [
      { timestamp: NOW, temperature: 20, 'Inputs/count': 7 },
    ]);
    assert.deepEqual(host.read('DDATA', sparkplug(2, [changed(20.5)])), [{ timestamp: NOW, temperature: 20.5 }]);
    assert.deepEqual(host.asked, []);
  });

  it('makes a reading of each time, and takes the received stamp where there is none', () => {
    const host = makeHost();
    host.born();
    const metrics = [
      { ...changed(1), timestamp: NOW - 2_000, is_historical: true },
      { ...changed(2), timestamp: NOW - 1_000, is_historical: true },
      { alias: 2, int_value: 5, timestamp: NOW - 1_000 },
    ];
    assert.deepEqual(host.read('DDATA', sparkplug(2, metrics)), [
      { timestamp: NOW - 2_000, temperature: 1 },
      { timestamp: NOW - 1_000, temperature: 2, 'Inputs/count': 5 },
    ]);
    assert.deepEqual(host.read('DDATA', sparkplug(3, [changed(3)], null), 'd', NOW + 5), [
      { timestamp: NOW + 5, temperature: 3 },
    ]);
  });

  it('leaves out what holds none of the metrics of the stream', () => {
    const host = makeHost(['temperature']);
    host.born();
    assert.deepEqual(host.read('DDATA', sparkplug(2, [{ alias: 2, int_value: 5 }])), []);
    assert.deepEqual(host.read('DDATA', sparkplug(3, [changed(3)])), [{ timestamp: NOW, temperature: 3 }]);
  });

  it('refuses an alias without a birth, and asks for one, at most every ten seconds', () => {
    const host = makeHost();
    const problem = host.refuse('DDATA', sparkplug(7, [changed(1)]));
    assert.equal(problem.code, 'no-birth');
    assert.equal(problem.reason, 'the alias 1 has no name; no birth of plant/n/d is known that says it');
    host.refuse('DDATA', sparkplug(8, [changed(1)]), 'd', NOW + 9_999);
    assert.deepEqual(host.asked, ['plant/n']);
    host.refuse('DDATA', sparkplug(9, [changed(1)]), 'd', NOW + 10_000);
    assert.deepEqual(host.asked, ['plant/n', 'plant/n']);
    host.born();
    assert.deepEqual(host.read('DDATA', sparkplug(2, [changed(1)])), [{ timestamp: NOW, temperature: 1 }]);
  });

  it('reads what names and types itself without a birth, and asks for one all the same', () => {
    const host = makeHost();
    const { alias: _, ...metric } = TEMPERATURE;
    assert.deepEqual(host.read('DDATA', sparkplug(7, [metric])), [{ timestamp: NOW, temperature: 20 }]);
    assert.deepEqual(host.asked, ['plant/n']);
    const { datatype: __, ...untyped } = metric;
    assert.equal(host.refuse('DDATA', sparkplug(8, [untyped])).code, 'no-birth');
  });

  it('believes no alias any more once a message is missing, which may have been a birth', () => {
    const host = makeHost();
    host.born();
    assert.equal(host.refuse('DDATA', sparkplug(3, [changed(1)])).code, 'no-birth');
    assert.deepEqual(host.asked, ['plant/n']);
    assert.equal(host.refuse('DDATA', sparkplug(4, [changed(1)])).code, 'no-birth');
  });

  it('takes a repeated message for the same, and goes on from 255 to 0', () => {
    const host = makeHost();
    host.born();
    for (let seq = 2; seq < 600; seq++) host.read('DDATA', sparkplug(seq % 256, [changed(seq)]));
    host.read('DDATA', sparkplug(599 % 256, [changed(1)]));
    assert.deepEqual(host.asked, []);
  });

  it('gives an alias its new meaning after a rebirth, and does not mix devices', () => {
    const host = makeHost();
    host.born();
    host.node('NBIRTH', sparkplug(0, [session(2)]));
    host.read('DBIRTH', sparkplug(1, [{ ...COUNT, alias: 1 }]), 'e');
    assert.deepEqual(host.read('DDATA', sparkplug(2, [{ alias: 1, int_value: 3 }]), 'e'), [
      { timestamp: NOW, 'Inputs/count': 3 },
    ]);
    assert.equal(host.refuse('DDATA', sparkplug(3, [{ alias: 1, int_value: 3 }]), 'd').code, 'no-birth');
  });

  it('forgets a node at its death, but not at the death of an earlier session', () => {
    const host = makeHost();
    host.born();
    host.node('NDEATH', sparkplug(null, [session(0)]));
    host.read('DDATA', sparkplug(2, [changed(1)]));
    host.read('DDEATH', sparkplug(3, []));
    assert.equal(host.refuse('DDATA', sparkplug(4, [changed(1)])).code, 'no-birth');
    assert.deepEqual(host.asked, []);
    host.born();
    host.node('NDEATH', sparkplug(null, [session(1)]));
    assert.equal(host.refuse('DDATA', sparkplug(2, [changed(1)])).code, 'no-birth');
  });

  it('takes a node whose message could not be read for unknown', () => {
    const host = makeHost();
    host.born();
    assert.equal(host.refuse('DDATA', Buffer.from('junk')).code, 'malformed');
    assert.equal(host.refuse('DDATA', sparkplug(2, [changed(1)])).code, 'no-birth');
  });

  it('neither uses nor changes what is known when a dead letter is sent again', () => {
    const host = makeHost();
    host.born();
    const topic = 'spBv1.0/plant/DDATA/n/d';
    const again = decode(host.decoder, sparkplug(2, [changed(1)]), { topic, replayed: true });
    assert.ok(again instanceof Problem && again.code === 'no-birth');
    const birth = { topic: 'spBv1.0/plant/DBIRTH/n/d', replayed: true };
    documentsOf(host.decoder, sparkplug(9, [{ ...COUNT, alias: 1 }]), birth);
    assert.deepEqual(host.read('DDATA', sparkplug(2, [changed(1)])), [{ timestamp: NOW, temperature: 1 }]);
    assert.deepEqual(host.asked, []);
  });

  it('makes no readings of commands, deaths and states', () => {
    const host = makeHost();
    for (const topic of ['spBv1.0/plant/NCMD/n', 'spBv1.0/plant/DCMD/n/d', 'spBv1.0/STATE/scada']) {
      assert.deepEqual(documentsOf(host.decoder, '{"online":true}', { topic }), []);
    }
    assert.deepEqual(host.asked, []);
  });

  it('refuses topics that are not of Sparkplug', () => {
    const { decoder } = makeHost();
    for (const topic of [
      'spBv1.0/plant/DDATA/n',
      'spBv1.0/plant/NDATA/n/d',
      'spBv1.0/plant/XDATA/n',
      'other/plant/NDATA/n',
    ]) {
      assert.equal(problemOf(decoder, sparkplug(0, []), { topic }).code, 'malformed');
    }
  });

  it('keeps to its limits: the node that was born first makes room', () => {
    const host = makeHost([], { nodes: 2, definitions: 100 });
    for (const node of ['a', 'b', 'c']) host.born(node);
    assert.ok(host.data('a', sparkplug(2, [changed(1)])) instanceof Problem);
    assert.ok(!(host.data('c', sparkplug(2, [changed(1)])) instanceof Problem));
    const small = makeHost([], { nodes: 10, definitions: 5 });
    for (const node of ['a', 'b']) small.born(node);
    assert.ok(small.data('a', sparkplug(2, [changed(1)])) instanceof Problem);
    assert.ok(!(small.data('b', sparkplug(2, [changed(1)])) instanceof Problem));
  });

  const values: [what: string, metric: MetricFields, value: unknown][] = [
    ['Int8 -7 in 32 bits', { datatype: TYPE.int8, int_value: 0xfffffff9 }, -7],
    ['Int8 -7 in 8 bits', { datatype: TYPE.int8, int_value: 0xf9 }, -7],
    ['Int16 -300 in 16 bits', { datatype: TYPE.int16, int_value: 65_236 }, -300],
    ['Int32 -1', { datatype: TYPE.int32, int_value: 0xffffffff }, -1],
    ['Int32 -1 in 64 bits', { datatype: TYPE.int32, long_value: -1n }, -1],
    ['Int64 -7', { datatype: TYPE.int64, long_value: -7n }, -7],
    ['Int64 2^53 - 1', { datatype: TYPE.int64, long_value: 2n ** 53n - 1n }, Number.MAX_SAFE_INTEGER],
    ['Int64 5 in 32 bits', { datatype: TYPE.int64, int_value: 5 }, 5],
    ['UInt8', { datatype: TYPE.uint8, int_value: 255 }, 255],
    ['UInt32', { datatype: TYPE.uint32, int_value: 0xffffffff }, 0xffffffff],
    ['UInt32 in 64 bits', { datatype: TYPE.uint32, long_value: 0xffffffff }, 0xffffffff],
    ['UInt64 in 32 bits', { datatype: TYPE.uint64, int_value: 0xffffffff }, 0xffffffff],
    ['Float', { datatype: TYPE.float, float_value: 1.5 }, 1.5],
    ['Double', { datatype: TYPE.double, double_value: 1.1 }, 1.1],
    ['Boolean', { datatype: TYPE.boolean, boolean_value: true }, true],
    ['String', { datatype: TYPE.string, string_value: 'ü' }, 'ü'],
    ['DateTime', { datatype: TYPE.dateTime, long_value: NOW }, NOW],
    ['Bytes', { datatype: TYPE.bytes, bytes_value: Uint8Array.of(1, 2) }, 'AQI='],
    ['DataSet', { datatype: TYPE.dataSet, dataset_value: Uint8Array.of(1, 2) }, 'AQI='],
    ['null', { datatype: TYPE.double, is_null: true }, null],
  ];
  for (const [what, metric, value] of values) {
    it(`reads ${what}`, () => {
      const [document] = makeHost().read('DDATA', sparkplug(0, [{ name: 'x', ...metric }]));
      assert.deepEqual(document, { timestamp: NOW, x: value });
    });
  }

  const bad: [what: string, metric: MetricFields, code: string][] = [
    ['Int64 2^53', { datatype: TYPE.int64, long_value: 2n ** 53n }, 'number-out-of-range'],
    ['Int64 -2^63', { datatype: TYPE.int64, long_value: -(2n ** 63n) }, 'number-out-of-range'],
    ['UInt64 2^53 + 1', { datatype: TYPE.uint64, long_value: 2n ** 53n + 1n }, 'number-out-of-range'],
    [
      'an Int64 in 32 bits that may be negative',
      { datatype: TYPE.int64, int_value: 0xffffffff },
      'number-out-of-range',
    ],
    ['Int8 of 256', { datatype: TYPE.int8, int_value: 256 }, 'number-out-of-range'],
    ['UInt8 of 256', { datatype: TYPE.uint8, int_value: 256 }, 'number-out-of-range'],
    ['UInt32 of 2^32', { datatype: TYPE.uint32, long_value: 2n ** 32n }, 'number-out-of-range'],
    ['NaN', { datatype: TYPE.double, double_value: Number.NaN }, 'number-invalid'],
    ['Infinity', { datatype: TYPE.float, float_value: Number.POSITIVE_INFINITY }, 'number-invalid'],
    ['text for a number', { datatype: TYPE.double, string_value: '1' }, 'number-invalid'],
    ['a number for text', { datatype: TYPE.string, int_value: 1 }, 'number-invalid'],
    ['a double for an integer', { datatype: TYPE.int32, double_value: 1 }, 'number-invalid'],
    ['a timestamp beyond 2^53', { datatype: TYPE.boolean, boolean_value: true, timestamp: -1n }, 'time-invalid'],
    ['the name __proto__', { name: '__proto__', datatype: TYPE.boolean, boolean_value: true }, 'forbidden-key'],
    ['the name timestamp', { name: 'timestamp', datatype: TYPE.boolean, boolean_value: true }, 'malformed'],
    ['neither name nor alias', { name: '', datatype: TYPE.boolean, boolean_value: true }, 'malformed'],
  ];
  for (const [what, metric, code] of bad) {
    it(`refuses ${what}`, () => {
      const problem = makeHost().refuse('DDATA', sparkplug(0, [{ name: 'x', ...metric }]));
      assert.equal(problem.code, code, problem.reason);
    });
  }

  it('refuses a metric twice at one time, a birth without names, and one alias for two', () => {
    const metric = { name: 'x', datatype: TYPE.boolean, boolean_value: true };
    assert.equal(makeHost().refuse('DDATA', sparkplug(0, [metric, metric])).code, 'malformed');
    assert.equal(makeHost().refuse('DBIRTH', sparkplug(0, [{ alias: 1, boolean_value: true }])).code, 'malformed');
    const twice = [
      { ...metric, alias: 1 },
      { ...metric, name: 'y', alias: 1 },
    ];
    assert.equal(makeHost().refuse('DBIRTH', sparkplug(0, twice)).code, 'malformed');
  });

  it('asks for a rebirth in the words of the specification', () => {
    const { metrics, timestamp } = readBack(rebirthPayload(NOW));
    assert.equal(timestamp, NOW);
    assert.deepEqual(metrics, [
      { name: 'Node Control/Rebirth', timestamp: NOW, datatype: TYPE.boolean, boolean_value: true },
    ]);
  });
});
