/**
 * What holds for every format, whatever the bytes: an answer and never a throw; what is accepted holds finite numbers only,
 * is no deeper than the limit, and is kept as the text that says it. A 64-bit integer is kept exactly or refused.
 */
import assert from 'node:assert/strict';
import { gzipSync } from 'node:zlib';
import { encode as encodeMsgpack } from '@msgpack/msgpack';
import { encode as encodeCbor } from 'cborg';
import fc from 'fast-check';
import { BirthMemory } from '../../../src/inspect/births.ts';
import { decodeCbor } from '../../../src/inspect/decode/cbor.ts';
import type { Decoder } from '../../../src/inspect/decode/document.ts';
import { unpacking } from '../../../src/inspect/decode/gzip.ts';
import { decodeJson } from '../../../src/inspect/decode/json.ts';
import { lineProtocolDecoder } from '../../../src/inspect/decode/line-protocol.ts';
import { decodeLorawan } from '../../../src/inspect/decode/lorawan.ts';
import { decodeMsgpack } from '../../../src/inspect/decode/msgpack.ts';
import { decodeSenml } from '../../../src/inspect/decode/senml.ts';
import { sparkplugDecoder } from '../../../src/inspect/decode/sparkplug.ts';
import { Problem } from '../../../src/inspect/refusal.ts';
import { decode, LIMITS } from './sample.ts';
import { sparkplug, TYPE } from './sparkplug-payload.ts';

const DOCUMENT = {
  ts: 1_700_000_000_123,
  temperature: -21.53125,
  count: 2 ** 40,
  ok: true,
  name: 'ü',
  deep: { a: [1, null] },
};
const SENML = [
  { bn: 'urn:dev:ow:10e2:', bt: 1.7e9, n: 'voltage', u: 'V', v: 120.1 },
  { n: 'current', t: -5, v: 1.2 },
];
const LORAWAN = {
  deviceInfo: { devEui: '0101010101010101' },
  fCnt: 4,
  object: { t: 1.5 },
  rxInfo: [{ rssi: -48, snr: 9 }],
};
const CBOR_SENML = [
  new Map<number, unknown>([
    [-2, 'a:'],
    [0, 'b'],
    [2, 1.5],
  ]),
  new Map<number, unknown>([
    [0, 'c'],
    [6, -5],
    [2, 1.5],
  ]),
];

interface Format {
  readonly name: string;
  readonly decoder: Decoder;
  readonly topic?: string;
  readonly valid: Uint8Array;
}

const births = new BirthMemory();
const json = (value: unknown) => Buffer.from(JSON.stringify(value));
const FORMATS: Format[] = [
  { name: 'json', decoder: decodeJson, valid: json([DOCUMENT]) },
  { name: 'cbor', decoder: decodeCbor, valid: encodeCbor(DOCUMENT) },
  { name: 'msgpack', decoder: decodeMsgpack, valid: encodeMsgpack([DOCUMENT, DOCUMENT]) },
  { name: 'senml in JSON', decoder: decodeSenml, valid: json(SENML) },
  { name: 'senml in CBOR', decoder: decodeSenml, valid: encodeCbor(CBOR_SENML) },
  { name: 'lorawan', decoder: decodeLorawan, valid: json(LORAWAN) },
  {
    name: 'line-protocol',
    decoder: lineProtocolDecoder('ns'),
    valid: Buffer.from('m,a=b\\ c f=1.5,g="x\\"y",h=12i 1556813561098000000\nm f=t\n'),
  },
  {
    name: 'sparkplug-b',
    decoder: sparkplugDecoder(births, []),
    topic: 'spBv1.0/g/DBIRTH/n/d',
    valid: sparkplug(1, [
      { name: 'a', alias: 1, datatype: TYPE.double, double_value: 1.5 },
      { name: 'b', alias: 2, datatype: TYPE.int64, long_value: -7n },
      { name: 'c', datatype: TYPE.string, string_value: 'ü' },
    ]),
  },
  { name: 'gzip', decoder: unpacking(decodeJson), valid: gzipSync(json(DOCUMENT)) },
];

function check({ decoder, topic = 't' }: Format, bytes: Uint8Array): void {
  const decoded = decode(decoder, bytes, { topic });
  if (decoded instanceof Problem) {
    assert.ok(decoded.reason.length > 0 && decoded.reason.length < 1_000, decoded.reason);
    assert.doesNotMatch(decoded.reason, /[\p{Cc}\p{Cs}]/u);
    return;
  }
  assert.ok(decoded.documents.length <= LIMITS.batchReadings);
  for (const [i, document] of decoded.documents.entries()) {
    walk(document, LIMITS.depth);
    assert.deepEqual(JSON.parse(decoded.texts[i]!), JSON.parse(JSON.stringify(document)));
  }
}

function walk(value: unknown, levels: number): void {
  assert.ok(levels >= 0, 'too deep');
  if (typeof value === 'number') assert.ok(Number.isFinite(value));
  else if (typeof value === 'object' && value !== null) {
    assert.ok(Array.isArray(value) || Object.getPrototypeOf(value) === Object.prototype);
    for (const key of Object.keys(value)) {
      assert.notEqual(key, '__proto__');
      walk((value as Record<string, unknown>)[key], levels - 1);
    }
  } else assert.ok(value === null || ['string', 'boolean'].includes(typeof value), typeof value);
}

const mutation = fc.record({
  at: fc.nat(),
  byte: fc.nat(255),
  kind: fc.constantFrom('set', 'insert', 'remove', 'repeat', 'cut'),
});

function mutate(valid: Uint8Array, changes: readonly { at: number; byte: number; kind: string }[]): Uint8Array {
  let bytes = Buffer.from(valid);
  for (const { at, byte, kind } of changes) {
    const where = bytes.length === 0 ? 0 : at % bytes.length;
    const [before, after] = [bytes.subarray(0, where), bytes.subarray(where)];
    if (kind === 'set') bytes = Buffer.concat([before, Buffer.of(byte), after.subarray(1)]);
    else if (kind === 'insert') bytes = Buffer.concat([before, Buffer.of(byte), after]);
    else if (kind === 'remove') bytes = Buffer.concat([before, after.subarray(1)]);
    else if (kind === 'repeat') bytes = Buffer.concat([before, after, after]);
    else bytes = Buffer.from(before);
  }
  return bytes;
}

const RUNS = { numRuns: process.env.CI ? 300 : 2_000 };

describe('Every payload format', () => {
  for (const format of FORMATS) {
    it(`answers any bytes: ${format.name}`, () => {
      fc.assert(
        fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => check(format, bytes)),
        RUNS,
      );
    });

    it(`answers a valid payload with bytes changed, added, repeated or cut: ${format.name}`, () => {
      assert.ok(!(decode(format.decoder, format.valid, { topic: format.topic ?? 't' }) instanceof Problem));
      const changed = fc.array(mutation, { minLength: 1, maxLength: 6 });
      fc.assert(
        fc.property(changed, (changes) => check(format, mutate(format.valid, changes))),
        RUNS,
      );
    });

    it(`answers every beginning of a valid payload: ${format.name}`, () => {
      for (let length = 0; length < format.valid.length; length++) check(format, format.valid.subarray(0, length));
    });
  }

  const { document } = fc.letrec((tie) => ({
    value: fc.oneof(
      { depthSize: 'small' },
      fc.double({ noNaN: true, noDefaultInfinity: true }),
      fc.maxSafeInteger(),
      fc.boolean(),
      fc.constant(null),
      fc.string({ unit: 'grapheme' }).filter((text) => !text.includes('\ufffd')),
      fc.array(tie('value'), { maxLength: 4 }),
      tie('document'),
    ),
    document: fc.dictionary(
      fc.string().filter((key) => !['__proto__', 'constructor'].includes(key)),
      tie('value'),
      { maxKeys: 6 },
    ),
  }));

  it('says the same in JSON, CBOR and MessagePack', () => {
    fc.assert(
      fc.property(document, (value) => {
        const inJson = decode(decodeJson, json(value));
        for (const [decoder, bytes] of [
          [decodeCbor, encodeCbor(value)],
          [decodeMsgpack, encodeMsgpack(value)],
        ] as const) {
          const decoded = decode(decoder, bytes);
          if (inJson instanceof Problem) assert.ok(decoded instanceof Problem && decoded.code === inJson.code);
          else if (decoded instanceof Problem) assert.fail(decoded.reason);
          else assert.deepEqual(JSON.parse(decoded.texts[0]!), JSON.parse(JSON.stringify(inJson.documents[0])));
        }
      }),
      RUNS,
    );
  });

  it('keeps a 64-bit integer exactly or refuses it', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n }), (integer) => {
        const topic = 'spBv1.0/g/DDATA/n/d';
        const type = integer < 0n ? TYPE.int64 : TYPE.uint64;
        const answers = [
          decode(decodeCbor, encodeCbor({ v: integer })),
          decode(decodeMsgpack, encodeMsgpack({ v: integer }, { useBigInt64: true })),
          decode(
            sparkplugDecoder(new BirthMemory(), []),
            sparkplug(0, [{ name: 'v', datatype: type, long_value: integer }]),
            { topic },
          ),
          decode(lineProtocolDecoder('ns'), Buffer.from(`m v=${integer}i`)),
        ];
        for (const answer of answers) {
          if (answer instanceof Problem) {
            assert.equal(answer.code, 'number-out-of-range');
            assert.ok(!Number.isSafeInteger(Number(integer)));
          } else assert.equal(BigInt(answer.documents[0]!.v as number), integer);
        }
      }),
      RUNS,
    );
  });
});
