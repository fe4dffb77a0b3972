/** The example packs of RFC 8428, sections 5.1 and 6, and what its rules say of others, each with its section. */
import assert from 'node:assert/strict';
import { encode } from 'cborg';
import { decodeSenml } from '../../../src/inspect/decode/senml.ts';
import { documentsOf, hex, NOW, problemOf } from './sample.ts';

const read = (pack: unknown) => documentsOf(decodeSenml, JSON.stringify(pack));
const refused = (pack: unknown) => problemOf(decodeSenml, JSON.stringify(pack));

/** Section 6: the second pack of section 5.1.2 in CBOR. */
const CBOR_PACK = hex(`
  87 a7 21 78 1b 75726e3a6465763a6f773a3130653230373361303130383030363a
  22 fb 41d303a15b001062 23 61 41 20 05 00 67 766f6c74616765 01 61 56 02 fb 405e066666666666
  a3 00 67 63757272656e74 06 24 02 fb 3ff3333333333333
  a3 00 67 63757272656e74 06 23 02 fb 3ff4cccccccccccd
  a3 00 67 63757272656e74 06 22 02 fb 3ff6666666666666
  a3 00 67 63757272656e74 06 21 02 f9 3e00
  a3 00 67 63757272656e74 06 20 02 fb 3ff999999999999a
  a3 00 67 63757272656e74 06 00 02 fb 3ffb333333333333`);

const DEVICE = 'urn:dev:ow:10e2073a0108006';

describe('Decoding SenML', () => {
  it('makes one reading of the data points that share name and time (5.1.2)', () => {
    const pack = [
      { bn: `${DEVICE}:`, n: 'voltage', u: 'V', v: 120.1 },
      { n: 'current', u: 'A', v: 1.2 },
    ];
    assert.deepEqual(read(pack), [
      { name: DEVICE, time: NOW, voltage: 120.1, current: 1.2, units: { voltage: 'V', current: 'A' } },
    ]);
  });

  it('takes the last part of the name where a record has only one (5.1.1)', () => {
    assert.deepEqual(read([{ n: `${DEVICE}:temperature`, u: 'Cel', v: 23.1 }]), [
      { name: DEVICE, time: NOW, temperature: 23.1, units: { temperature: 'Cel' } },
    ]);
    assert.deepEqual(read([{ bn: `${DEVICE}:temperature`, v: 23.1 }]), [
      { name: DEVICE, time: NOW, temperature: 23.1 },
    ]);
    assert.deepEqual(read([{ n: 'temperature', v: 1 }]), [{ name: '', time: NOW, temperature: 1 }]);
  });

  const series = (at: number, values: object, units: object) => ({ name: DEVICE, time: at, ...values, units });
  const expected = [
    series(1_276_020_076_001, { voltage: 120.1 }, { voltage: 'V' }),
    ...[1.2, 1.3, 1.4, 1.5, 1.6].map((current, i) =>
      series(1_276_020_071_001 + i * 1_000, { current }, { current: 'A' }),
    ),
  ];
  // the last current has the time of the voltage
  Object.assign(expected[0]!, { current: 1.7, units: { voltage: 'V', current: 'A' } });

  it('adds base values and makes one reading of each time (5.1.2, its second example)', () => {
    const pack = [
      { bn: `${DEVICE}:`, bt: 1.276020076001e9, bu: 'A', bver: 5, n: 'voltage', u: 'V', v: 120.1 },
      ...[-5, -4, -3, -2, -1].map((t, i) => ({ n: 'current', t, v: [1.2, 1.3, 1.4, 1.5, 1.6][i] })),
      { n: 'current', v: 1.7 },
    ];
    assert.deepEqual(read(pack), expected);
  });

  it('reads the same pack in CBOR (6)', () => {
    assert.deepEqual(documentsOf(decodeSenml, CBOR_PACK), expected);
  });

  it('reads resolved records, which say everything themselves (4.6)', () => {
    const record = (n: string, t: number, v: number, u: string) => ({ n: `${DEVICE}:${n}`, u, t, v });
    const pack = [
      record('voltage', 1.276020076e9, 120.1, 'V'),
      record('current', 1.276020071e9, 1.2, 'A'),
      record('current', 1.276020072e9, 1.3, 'A'),
    ];
    assert.deepEqual(
      new Set(read(pack)),
      new Set([
        series(1_276_020_076_000, { voltage: 120.1 }, { voltage: 'V' }),
        series(1_276_020_071_000, { current: 1.2 }, { current: 'A' }),
        series(1_276_020_072_000, { current: 1.3 }, { current: 'A' }),
      ]),
    );
  });

  it('reads numbers, text, booleans and data of one device (5.1.5)', () => {
    const pack = [
      { bn: `${DEVICE}:`, n: 'temp', u: 'Cel', v: 23.1 },
      { n: 'label', vs: 'Machine Room' },
      { n: 'open', vb: false },
      { n: 'nfv-reader', vd: 'aGkgCg' },
    ];
    const [only, ...more] = read(pack) as Record<string, unknown>[];
    assert.equal(more.length, 0);
    const { temp, label, open, 'nfv-reader': data, units } = only!;
    assert.deepEqual(
      { temp, label, open, units },
      { temp: 23.1, label: 'Machine Room', open: false, units: { temp: 'Cel' } },
    );
    assert.equal(Buffer.from(data as string, 'base64url').toString(), 'hi \n');
  });

  it('keeps the devices of a collection apart, whose names end in a slash (5.1.6)', () => {
    const pack = [
      { bn: '2001:db8::2/', bt: 1.320078429e9, n: 'temperature', u: 'Cel', v: 25.2 },
      { n: 'humidity', u: '%RH', v: 30 },
      { bn: '2001:db8::1/', n: 'temperature', u: 'Cel', v: 12.3 },
      { n: 'humidity', u: '%RH', v: 67 },
    ];
    const found = (read(pack) as { name: string; time: number; temperature: number; humidity: number }[]).map(
      ({ name, time, temperature, humidity }) => [name, time, temperature, humidity],
    );
    assert.deepEqual(found, [
      ['2001:db8::2', 1_320_078_429_000, 25.2, 30],
      ['2001:db8::1', 1_320_078_429_000, 12.3, 67],
    ]);
  });

  it('counts times below 2^28 from now (4.5.3)', () => {
    assert.deepEqual(
      (read([{ n: 'a', t: -10.0015, v: 1 }]) as { time: number }[]).map(({ time }) => time),
      [NOW - 10_002],
    );
    assert.deepEqual(read([{ bn: 'd:', bt: 60, n: 'a', t: -60, v: 1 }]), [{ name: 'd', time: NOW, a: 1 }]);
    assert.deepEqual(read([{ n: 'a', t: 2 ** 28, v: 1 }]), [{ name: '', time: 2 ** 28 * 1_000, a: 1 }]);
  });

  it('refuses the pack of one name for humidity, longitude and latitude at one time (5.1.3)', () => {
    const pack = [
      { bn: 'urn:dev:ow:10e2073a01080063', bt: 1.320067464e9, bu: '%RH', v: 20 },
      { u: 'lon', v: 24.30621 },
      { u: 'lat', v: 60.07965 },
    ];
    const { code, field, reason } = refused(pack);
    assert.deepEqual([code, field], ['malformed', '/1']);
    assert.match(reason, /10e2073a01080063" is there twice at one time/);
  });

  it('takes a record of base fields alone for no measurement (5.1.7)', () => {
    const pack = [{ bn: 'urn:dev:ow:10e2073a01080063:' }, { n: 'heat', u: '/', v: 1 }, { n: 'fan', u: '/', v: 0 }];
    assert.deepEqual(read(pack), [
      { name: 'urn:dev:ow:10e2073a01080063', time: NOW, heat: 1, fan: 0, units: { heat: '/', fan: '/' } },
    ]);
  });

  it('adds base value and value, base sum and sum, and takes a missing one for zero (4.5.4)', () => {
    const pack = [
      { bn: 'dev/', n: 'a', v: 1, s: 2 },
      { bv: 20, n: 'b', v: 1 },
      { n: 'c' },
      { n: 'd', vs: 'open' },
      { bs: 100, n: 'e', s: 5 },
      { n: 'f', vb: false },
    ];
    const values = { a: 1, b: 21, c: 20, d: 'open', e: 20, f: false };
    assert.deepEqual(read(pack), [{ name: 'dev', time: NOW, ...values, sums: { a: 2, e: 105, f: 100 } }]);
  });

  it('takes the unit of a record before the base unit (4.5.2), and a base field until the next of its kind (4)', () => {
    const pack = [
      { bn: 'dev/', bu: 'V', n: 'a', v: 1 },
      { n: 'b', u: 'A', v: 2 },
      { bu: 'W', n: 'c', v: 3 },
    ];
    assert.deepEqual(read(pack), [{ name: 'dev', time: NOW, a: 1, b: 2, c: 3, units: { a: 'V', b: 'A', c: 'W' } }]);
  });

  it('has the same data in JSON and in CBOR, where it is bytes (5, 6)', () => {
    const bytes = Buffer.from('fbefff00', 'hex');
    const records = [
      new Map<unknown, unknown>([
        [0, 'a'],
        [8, bytes],
      ]),
    ];
    const expected = [{ name: '', time: NOW, a: '--__AA' }];
    assert.deepEqual(documentsOf(decodeSenml, encode(records)), expected);
    assert.deepEqual(read([{ n: 'a', vd: '--__AA' }]), expected);
  });

  it('keeps the devices of one pack apart, in their order, also after a record that only sets the base', () => {
    assert.deepEqual(read([{ bn: 'a:', n: 'x', v: 1 }, { bn: 'b:' }, { n: 'x', v: 2 }, { bn: 'a:', n: 'y', v: 3 }]), [
      { name: 'a', time: NOW, x: 1, y: 3 },
      { name: 'b', time: NOW, x: 2 },
    ]);
  });

  it('passes over labels it does not know (4.4)', () => {
    assert.deepEqual(read([{ n: 'a', v: 1, foo: 7 }]), [{ name: '', time: NOW, a: 1 }]);
  });

  const bad: [what: string, pack: unknown, code: string, field: string][] = [
    ['an object', { n: 'a', v: 1 }, 'malformed', ''],
    ['an empty pack', [], 'empty', ''],
    ['a pack of base values alone', [{ bn: 'a' }], 'empty', ''],
    ['a label that must be understood (4.4)', [{ n: 'a', v: 1, foo_: 7 }], 'malformed', '/0'],
    ['a version from the future (4.4)', [{ bver: 11, n: 'a', v: 1 }], 'malformed', '/0'],
    ['a version that is no positive integer (4.1)', [{ bver: 0.5, n: 'a', v: 1 }], 'malformed', '/0/bver'],
    [
      'two versions in one pack (4.4)',
      [
        { bver: 5, n: 'a', v: 1 },
        { bver: 10, n: 'b', v: 1 },
      ],
      'malformed',
      '/1',
    ],
    [
      'a version that follows a record of the default one (4.4)',
      [
        { n: 'a', v: 1 },
        { bver: 5, n: 'b', v: 1 },
      ],
      'malformed',
      '/1',
    ],
    ['data with padding (5)', [{ n: 'a', vd: 'aGkgCg==' }], 'malformed', '/0/vd'],
    ['data of the other alphabet (5)', [{ n: 'a', vd: '++//' }], 'malformed', '/0/vd'],
    ['a record without a value (4.2)', [{ n: 'a', v: 1 }, { n: 'b' }], 'malformed', '/1'],
    ['a record with two values (4.2)', [{ n: 'a', v: 1, vs: 'x' }], 'malformed', '/0'],
    ['a record without a name', [{ v: 1 }], 'malformed', '/0'],
    ['a name the RFC does not have (4.5.1)', [{ n: 'a b', v: 1 }], 'malformed', '/0'],
    ['a name that begins with a dash (4.5.1)', [{ n: '-a', v: 1 }], 'malformed', '/0'],
    [
      'a name twice at one time',
      [
        { n: 'a', v: 1 },
        { n: 'a', v: 2 },
      ],
      'malformed',
      '/1',
    ],
    [
      'a value and a sum of one name in two records',
      [
        { n: 'a', s: 1 },
        { n: 'a', v: 2 },
      ],
      'malformed',
      '/1',
    ],
    ['a name that the reading has itself', [{ n: 'time', v: 1 }], 'malformed', '/0'],
    ['a value that is text (4.3)', [{ n: 'a', v: '1' }], 'malformed', '/0/v'],
    ['a time that is text (4.3)', [{ n: 'a', v: 1, t: '2' }], 'malformed', '/0/t'],
    ['a time beyond all time', [{ n: 'a', v: 1, t: 1e300 }], 'malformed', '/0'],
    ['a sum of base and value that overflows', [{ bv: 1.7e308, n: 'a', v: 1.7e308 }], 'number-out-of-range', '/0/v'],
  ];
  for (const [what, pack, code, field] of bad) {
    it(`refuses ${what}`, () => {
      const problem = refused(pack);
      assert.deepEqual([problem.code, problem.field], [code, field], problem.reason);
    });
  }

  it('refuses __proto__, two forms of one label, and 2^53 + 1 in CBOR', () => {
    assert.equal(problemOf(decodeSenml, '[{"n":"a","v":1,"__proto__":{}}]').code, 'forbidden-key');
    assert.equal(problemOf(decodeSenml, '[{"bn":"a:b:__proto__","v":1}]').code, 'forbidden-key');
    assert.equal(
      problemOf(
        decodeSenml,
        encode([
          new Map<unknown, unknown>([
            [0, 'a'],
            ['n', 'b'],
            [2, 1],
          ]),
        ]),
      ).code,
      'malformed',
    );
    assert.equal(problemOf(decodeSenml, hex('81a2006161021b0020000000000001')).code, 'number-out-of-range');
  });
});
