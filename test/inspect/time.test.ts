import assert from 'node:assert/strict';
import fc from 'fast-check';
import { parseRfc3339Ms, parseTimeMs } from '../../src/inspect/time.ts';

describe('An event time', () => {
  it('is milliseconds from 1e11 on and seconds below', () => {
    assert.equal(parseTimeMs(1_700_000_000_000), 1_700_000_000_000);
    assert.equal(parseTimeMs(1_700_000_000), 1_700_000_000_000);
    assert.equal(parseTimeMs(1e11), 1e11);
    assert.equal(parseTimeMs(1e11 - 1), 99_999_999_999_000);
  });

  it('loses fractions of a millisecond, downwards, and no more', () => {
    assert.equal(parseTimeMs(1_700_000_000_000.999), 1_700_000_000_000);
    assert.equal(parseTimeMs(1_700_000_000.123), 1_700_000_000_123);
    assert.equal(parseTimeMs(1_700_000_000.9999), 1_700_000_000_999);
  });

  it('in seconds with three decimals is exact for every millisecond', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 99_999_999_999 }), fc.integer({ min: 0, max: 999 }), (s, ms) => {
        const seconds = Number(`${s}.${String(ms).padStart(3, '0')}`);
        // Beyond 2^33 s a double of seconds no longer holds the microsecond that rounding relies on.
        fc.pre(s < 2 ** 33);
        assert.equal(parseTimeMs(seconds), s * 1000 + ms);
      }),
    );
  });

  it('is neither zero, negative, absent, true nor an object', () => {
    for (const value of [0, -0, -1, 0.0001, -1e12, null, undefined, true, {}, [], '', '0', '1700000000000', NaN]) {
      assert.equal(parseTimeMs(value), null, String(value));
    }
  });
});

describe('RFC 3339', () => {
  const accepted: Record<string, string> = {
    '2023-11-14T22:13:20Z': '2023-11-14T22:13:20.000Z',
    '2023-11-14t22:13:20z': '2023-11-14T22:13:20.000Z',
    '2023-11-14 22:13:20Z': '2023-11-14T22:13:20.000Z',
    '2023-11-14T22:13:20.1239999999999Z': '2023-11-14T22:13:20.123Z',
    '2023-11-14T22:13:20.5Z': '2023-11-14T22:13:20.500Z',
    '2023-11-15T03:43:20+05:30': '2023-11-14T22:13:20.000Z',
    '2023-11-14T14:13:20-08:00': '2023-11-14T22:13:20.000Z',
    '2023-11-14T22:13:20-00:00': '2023-11-14T22:13:20.000Z',
    '2024-02-29T00:00:00Z': '2024-02-29T00:00:00.000Z',
    '2000-02-29T00:00:00Z': '2000-02-29T00:00:00.000Z',
    '2016-12-31T23:59:60Z': '2017-01-01T00:00:00.000Z',
    '2016-12-31T23:59:60.250Z': '2017-01-01T00:00:00.250Z',
    '2017-01-01T05:29:60+05:30': '2017-01-01T00:00:00.000Z',
    '0050-01-01T00:00:00Z': '0050-01-01T00:00:00.000Z',
  };
  for (const [text, meaning] of Object.entries(accepted)) {
    it(`reads ${text} as ${meaning}`, () => assert.equal(parseRfc3339Ms(text), Date.parse(meaning)));
  }

  const refused = [
    '2023-11-14',
    '2023-11-14T22:13:20',
    '2023-11-14T22:13Z',
    '2023-11-14T22:13:20.Z',
    '2023-11-14T22:13:20,5Z',
    '2023-11-14T22:13:20+0530',
    '2023-11-14T22:13:20+05',
    '2023-11-14T22:13:20+24:00',
    '2023-11-14T22:13:20+05:60',
    '2023-02-29T00:00:00Z',
    '1900-02-29T00:00:00Z',
    '2023-04-31T00:00:00Z',
    '2023-00-10T00:00:00Z',
    '2023-13-10T00:00:00Z',
    '2023-11-00T00:00:00Z',
    '2023-11-14T24:00:00Z',
    '2023-11-14T22:60:00Z',
    '2023-11-14T22:13:60Z',
    '2023-11-14T23:59:61Z',
    '2023-11-14T23:59:60+01:00',
    ' 2023-11-14T22:13:20Z',
    '2023-11-14T22:13:20Z\n',
    '+2023-11-14T22:13:20Z',
    '２０２３-11-14T22:13:20Z',
  ];
  for (const text of refused) {
    it(`refuses ${JSON.stringify(text)}`, () => assert.equal(parseRfc3339Ms(text), null));
  }

  it('agrees with the platform on every instant, written with any offset', () => {
    const offset = fc.integer({ min: -23 * 60 - 59, max: 23 * 60 + 59 });
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 253_402_300_799_999 - 86_400_000 }), offset, (ms, minutes) => {
        const local = new Date(ms + minutes * 60_000);
        fc.pre(local.getTime() >= 0);
        const size = Math.abs(minutes);
        const clock = `${String(Math.floor(size / 60)).padStart(2, '0')}:${String(size % 60).padStart(2, '0')}`;
        const text = `${local.toISOString().slice(0, -1)}${minutes < 0 ? '-' : '+'}${clock}`;
        assert.equal(parseRfc3339Ms(text), ms);
      }),
    );
  });
});
