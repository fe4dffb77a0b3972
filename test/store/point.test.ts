import assert from 'node:assert/strict';
import fc from 'fast-check';
import { whyNot } from '../../src/store/admit.ts';
import {
  decodeRow,
  decodeSeries,
  encodeLine,
  escapeText,
  FIELDS,
  tagKey,
  unescapeText,
} from '../../src/store/point.ts';
import { makeRow, rowArbitrary, T0 } from '../support/rows.ts';

const bare = makeRow({ metric: '', tags: {}, startMs: T0 });

/** The key of the line of a row with these names: what is before the fields. */
function keyOf(parts: Parameters<typeof makeRow>[0]): string {
  const line = encodeLine(makeRow({ metric: '', tags: {}, ...parts }));
  return line.slice(0, line.indexOf(' count='));
}

describe('a row as a line for InfluxDB', () => {
  it('has the layout that dashboards rely on', () => {
    const row = makeRow({ tags: { site: 'a', device: 'd1' }, sum: 1.5, mean: 0.5, min: -0, max: 1e21, p50: 5e-324 });
    assert.equal(
      encodeLine({ ...row, first: 0.1, last: 1e-7, stddev: 0, p95: 123456789012345680000, p99: -1.25, missing: 2 }),
      `environment,device=d1,metric=temperature,site=a,window=10s count=3i,sum=1.5,mean=0.5,min=-0,max=1e+21,stddev=0,` +
        `first=0.1,last=1e-7,p50=5e-324,p95=123456789012345680000,p99=-1.25,duplicates=0i,missing=2i,rev=0i ${row.startMs}`,
    );
  });

  it('has no metric tag and only counts for a stream without metrics', () => {
    assert.equal(encodeLine(bare), `environment,window=10s count=3i,duplicates=0i,missing=0i,rev=0i ${T0}`);
  });

  it('goes to another measurement when asked', () => {
    assert.match(encodeLine(bare, 'environment_live'), /^environment_live,window=10s count=3i/);
  });

  it('escapes what separates the parts of a line, and nothing else', () => {
    assert.equal(keyOf({ stream: 'a b,c=d"e' }), 'a\\ b\\,c=d"e,window=10s');
    assert.equal(keyOf({ tags: { 'k 1,=': 'v 1,=' } }), 'environment,k\\ 1\\,\\==v\\ 1\\,\\=,window=10s');
    assert.equal(keyOf({ tags: { path: 'C:\\dir', quote: '"\'' } }), 'environment,path=C:\\dir,quote="\',window=10s');
    assert.equal(keyOf({ tags: { ünï: '温度 😀' } }), 'environment,window=10s,ünï=温度\\ 😀');
  });

  it('writes texts that InfluxDB cannot hold with percent signs, and only those', () => {
    const cases: [string, string][] = [
      ['', '%'],
      ['a\\', '%a%5c'],
      ['a\\,b', '%a%5c,b'],
      ['a\nb', '%a%0ab'],
      ['\r\0\x7f', '%%0d%00%7f'],
      ['%', '%%25'],
      ['%41', '%%2541'],
      ['\ud800x', '%%ud800x'],
      ['50%', '50%'],
      ['C:\\dir', 'C:\\dir'],
      ['😀', '😀'],
      ['#1', '#1'],
    ];
    for (const [text, stored] of cases) assert.equal(escapeText(text), stored, JSON.stringify(text));
    assert.equal(keyOf({ stream: '#a' }), '%#a,window=10s');
  });

  it('keeps every text apart from every other, and gives it back', () => {
    const text = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.string({ unit: fc.constantFrom(...'%\\,= ua0\n\ud800\udc00') }),
    );
    fc.assert(
      fc.property(text, (original) => {
        const stored = escapeText(original);
        assert.equal(unescapeText(stored), original);
        assert(stored !== '' && !stored.endsWith('\\') && ![...stored].some((c) => c < ' ' || c === '\x7f'));
        assert.equal(Buffer.from(stored).toString(), stored);
      }),
      { numRuns: 2_000 },
    );
  });

  it('keeps a tag named like one of ours, with an underscore', () => {
    for (const [name, key] of [
      ['metric', 'metric_'],
      ['metric_', 'metric__'],
      ['window', 'window_'],
      ['time', 'time_'],
      ['_field', '_field_'],
      ['count', 'count_'],
      ['p50_', 'p50__'],
      ['metrics', 'metrics'],
      ['_', '_'],
    ] as const) {
      assert.equal(tagKey(name), key);
    }
  });

  it('can be parsed by the rules of the line protocol, and is the same row again', () => {
    fc.assert(
      fc.property(rowArbitrary('st ream'), (row) => {
        assert.equal(whyNot(row), null);
        const line = encodeLine(row);
        assert(!line.includes('\n'));
        const { measurement, tags, fields, time } = parseLine(line);
        assert.equal(unescapeText(measurement), row.stream);
        assert.deepEqual(
          tags.map(([key]) => key),
          tags.map(([key]) => key).sort(),
        );
        assert.equal(new Set(tags.map(([key]) => key)).size, tags.length);
        const series = decodeSeries(Object.fromEntries([...tags, ['elsewhere', '']]));
        const values = FIELDS.map((name) => fields.get(name) ?? null);
        assert.deepEqual(decodeRow(row.stream, series!, time, values), row);
      }),
      { numRuns: 1_000 },
    );
  });

  it('is not made of points that are none of ours', () => {
    assert.equal(decodeSeries({ device: 'd1', window: '' }), null);
    const series = decodeSeries({ device: 'd1', window: '10s' })!;
    assert.equal(decodeRow('environment', series, T0, [null, 1]), null);
    assert.equal(decodeRow('environment', { ...series, window: 'x' }, T0, [1]), null);
  });
});

/** A reader of the line protocol, from its description: https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/ */
function parseLine(line: string) {
  let at = 0;
  const take = (ends: string, escapable: string): string => {
    let text = '';
    for (; at < line.length && !ends.includes(line[at]!); at++) {
      if (line[at] === '\\' && escapable.includes(line[at + 1] ?? '\0')) at++;
      text += line[at];
    }
    assert.notEqual(text, '', `an empty part at ${at} of ${line}`);
    return text;
  };
  const measurement = take(', ', ', ');
  const tags: [string, string][] = [];
  while (line[at] === ',') {
    at++;
    const key = take('=', ',= ');
    at++;
    tags.push([key, take(', ', ',= ')]);
  }
  const fields = new Map<string, number>();
  do {
    at++;
    const key = take('=', ',= ');
    at++;
    const value = take(', ', '');
    assert.match(value, /^-?\d+i$|^-?\d+(\.\d+)?(e[+-]\d+)?$/);
    fields.set(key, Number(value.replace(/i$/, '')));
    assert.equal(value.endsWith('i'), ['count', 'duplicates', 'missing', 'rev'].includes(key));
  } while (line[at] === ',');
  assert.equal(line[at], ' ');
  return { measurement, tags, fields, time: Number(line.slice(at + 1)) };
}
