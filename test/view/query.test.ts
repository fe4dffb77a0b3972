import assert from 'node:assert/strict';
import fc from 'fast-check';
import { ManualClock } from '../../src/clock.ts';
import { seriesName } from '../../src/reading.ts';
import { parseSeries, parseTimeMs, readRowQuery } from '../../src/view/query.ts';
import { FakeFeed } from '../support/fake-feed.ts';

const { streams } = new FakeFeed(new ManualClock(), { devices: 0 });

describe('query parameters', () => {
  it('reads back every series name that is written', () => {
    const tags = fc.dictionary(
      fc.string({ minLength: 1 }).filter((name) => name !== '__proto__'),
      fc.string(),
      { minKeys: 1 },
    );
    fc.assert(
      fc.property(tags, (given) => {
        assert.deepEqual(parseSeries(seriesName(given)), { ...given });
      }),
    );
  });

  it('refuses what is not a list of tags', () => {
    for (const text of ['device', 'device=d1,', ',', '=x', 'a=1,a=2', 'a=b=c', 'a=1\\'])
      assert.equal(parseSeries(text), null, text);
  });

  it('reads epoch milliseconds and RFC 3339 to the same instant', () => {
    const instant = fc.date({
      min: new Date('1970-01-01T00:00:00Z'),
      max: new Date('9999-12-31T23:59:59Z'),
      noInvalidDate: true,
    });
    fc.assert(
      fc.property(instant, fc.integer({ min: -1_439, max: 1_439 }), (date, offset) => {
        const ms = date.getTime();
        assert.equal(parseTimeMs(String(ms)), ms);
        assert.equal(parseTimeMs(date.toISOString()), ms);
        const local = new Date(ms + offset * 60_000);
        if (local.getUTCFullYear() > 9_999 || local.getTime() < 0) return;
        const size = Math.abs(offset);
        const zone = `${offset < 0 ? '-' : '+'}${String(Math.floor(size / 60)).padStart(2, '0')}:${String(size % 60).padStart(2, '0')}`;
        assert.equal(parseTimeMs(local.toISOString().replace('Z', zone)), ms);
      }),
    );
  });

  it('takes a plus sign that arrived as a space, and refuses days and hours that do not exist', () => {
    assert.equal(parseTimeMs('2026-01-31T12:00:00 01:00'), Date.UTC(2026, 0, 31, 11));
    for (const text of [
      '2026-02-30T00:00:00Z',
      '2026-13-01T00:00:00Z',
      '2026-01-01T24:00:00Z',
      '2026-01-01',
      '2026-01-01T00:00:00',
      'yesterday',
      '1e3',
      '1.5',
      ' 5',
    ]) {
      assert.equal(parseTimeMs(text), null, text);
    }
  });

  it('makes a row query of good parameters, with defaults for the rest', () => {
    const read = readRowQuery(
      {
        stream: 'environment',
        window: '1m',
        from: '10',
        to: '20',
        series: 'device=d1,site=a',
        metric: 'temperature',
        limit: '5',
      },
      streams,
    );
    assert.deepEqual(read, {
      query: {
        stream: 'environment',
        window: '1m',
        fromMs: 10,
        toMs: 20,
        tags: { device: 'd1', site: 'a' },
        metric: 'temperature',
        limit: 5,
      },
    });
    assert.deepEqual(readRowQuery({ stream: 'clicks', window: '10s' }, streams), {
      query: { stream: 'clicks', window: '10s', fromMs: 0, toMs: 8_640_000_000_000_000 },
    });
  });

  const wrong: [field: string, parameters: Record<string, unknown>][] = [
    ['stream', { window: '10s' }],
    ['stream', { stream: 'constructor', window: '10s' }],
    ['window', { stream: 'environment' }],
    ['window', { stream: 'environment', window: '11s' }],
    ['window', { stream: 'clicks', window: '15m' }],
    ['from', { stream: 'clicks', window: '10s', from: 'noon' }],
    ['to', { stream: 'clicks', window: '10s', to: '-x' }],
    ['from', { stream: 'clicks', window: '10s', from: '20', to: '10' }],
    ['series', { stream: 'clicks', window: '10s', series: 'page' }],
    ['metric', { stream: 'clicks', window: '10s', metric: 'temperature' }],
    ['metric', { stream: 'environment', window: '10s', metric: 'colour' }],
    ['limit', { stream: 'clicks', window: '10s', limit: '0' }],
    ['limit', { stream: 'clicks', window: '10s', limit: '1.5' }],
    ['form', { stream: 'clicks', window: '10s', form: '1' }],
    ['stream', { stream: ['clicks', 'environment'], window: '10s' }],
  ];
  for (const [field, parameters] of wrong) {
    it(`names ${field} in ${JSON.stringify(parameters)}`, () => {
      const read = readRowQuery(parameters, streams);
      assert.ok('bad' in read);
      assert.equal(read.bad.field, field);
      assert.ok(read.bad.expected.length > 0);
    });
  }
});
