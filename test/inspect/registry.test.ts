import assert from 'node:assert/strict';
import fc from 'fast-check';
import { parseCsv } from '../../src/inspect/csv.ts';
import { buildRegistry } from '../../src/inspect/registry.ts';
import { failureOf, resultOf } from './sample.ts';

const rowsOf = (text: string) => resultOf(parseCsv(text, 'd.csv')).rows;

describe('CSV', () => {
  it('has a header, quoted fields, doubled quotes, commas and line ends inside quotes', () => {
    const table = resultOf(parseCsv('a,"b c",d\r\n1,"x, ""y""\r\nz",\r\n', 'd.csv'));
    assert.deepEqual(table.columns, ['a', 'b c', 'd']);
    assert.deepEqual(table.rows, [{ line: 2, cells: ['1', 'x, "y"\r\nz', ''] }]);
  });

  it('counts lines, across quoted line ends and empty lines', () => {
    assert.deepEqual(
      rowsOf('a\n"1\n2"\n\n3').map((row) => row.line),
      [2, 5],
    );
  });

  it('skips a byte order mark and needs no line end at the end', () => {
    assert.deepEqual(resultOf(parseCsv('\ufeffa,b\n1,2', 'd.csv')), {
      file: 'd.csv',
      columns: ['a', 'b'],
      rows: [{ line: 2, cells: ['1', '2'] }],
    });
  });

  it('reads a trailing empty field and a quoted empty line', () => {
    assert.deepEqual(rowsOf('a,b\n1,')[0]!.cells, ['1', '']);
    assert.deepEqual(rowsOf('a\n""')[0]!.cells, ['']);
  });

  const broken: [text: string, expected: RegExp][] = [
    ['', /d\.csv is empty/],
    ['\n\n', /d\.csv is empty/],
    ['a,a\n', /line 1: the column "a" appears twice/],
    ['a,\n', /line 1: a column has no name/],
    ['a,b\n1,2\n1\n', /line 3: 1 fields, but the header has 2/],
    ['a,b\n1,2,3\n', /line 2: 3 fields/],
    ['a\n"1', /line 2: a quote must be closed/],
    ['a\n1"2\n', /line 2: a quote/],
    ['a\n"1"2\n', /line 2: a quote/],
    ['a\n1\r2\n', /line 2/],
  ];
  for (const [text, expected] of broken) {
    it(`refuses ${JSON.stringify(text)}`, () => assert.match(failureOf(parseCsv(text, 'd.csv')), expected));
  }

  it('reads back whatever was written with quotes', () => {
    const cell = fc.oneof(fc.string(), fc.constantFrom('', ',', '"', '\r\n', '\n', '""', ' '));
    const table = fc
      .integer({ min: 1, max: 4 })
      .chain((width) =>
        fc.array(fc.array(cell, { minLength: width, maxLength: width }), { minLength: 1, maxLength: 5 }),
      );
    fc.assert(
      fc.property(table, fc.constantFrom('\n', '\r\n'), (rows, end) => {
        const header = rows[0]!.map((_, i) => `c${i}`);
        const quote = (text: string) => `"${text.replaceAll('"', '""')}"`;
        const text = [header, ...rows].map((row) => row.map(quote).join(',')).join(end);
        assert.deepEqual(
          rowsOf(text).map((row) => row.cells),
          rows,
        );
      }),
    );
  });

  it('never throws', () => {
    const text = fc.array(fc.constantFrom('a', ',', '"', '\r', '\n', '""'), { maxLength: 30 }).map((t) => t.join(''));
    fc.assert(fc.property(text, (csv) => void parseCsv(csv, 'd.csv')));
  });
});

describe('A device registry', () => {
  const enrich = {
    registry: 'd.csv',
    by: 'device',
    tags: ['model', 'room'],
    scale: { temperature: 'factor' },
    unknown: 'refuse' as const,
  };
  const build = (text: string) =>
    buildRegistry(resultOf(parseCsv(text, 'd.csv')), enrich, ['humidity', 'temperature'], 32);

  it('holds tags and factors by device, factors in the order of the metrics', () => {
    const registry = resultOf(build('device,model,room,factor\nd1,m1,attic,1.5\nd2,m2,,\n'));
    assert.deepEqual(registry.get('d1'), { tags: { model: 'm1', room: 'attic' }, factors: [1, 1.5] });
    assert.deepEqual(registry.get('d2'), { tags: { model: 'm2' }, factors: null });
  });

  const broken: [text: string, expected: RegExp][] = [
    ['device,model,factor\n', /no column "room"; it has "device", "model", "factor"/],
    ['device,model, room,factor\n', /no column "room"; .*" room"/],
    ['id,model,room,factor\n', /no column "device"/],
    ['device,model,room\n', /no column "factor"/],
    ['device,model,room,factor\nd1,m,r,1\nd1,m,r,1\n', /line 3: device "d1" is already listed on line 2/],
    ['device,model,room,factor\n,m,r,1\n', /line 2: the column "device" is empty/],
    ['device,model,room,factor\nd1,m,"a\tb",1\n', /line 2: the column "room" contains a control character/],
    [`device,model,room,factor\nd1,m,${'x'.repeat(33)},1\n`, /line 2: the column "room" has 33 bytes/],
    ['device,model,room,factor\nd1,m,r,0\n', /line 2: the column "factor" has "0"/],
    ['device,model,room,factor\nd1,m,r,fast\n', /line 2: the column "factor" has "fast"/],
    ['device,model,room,factor\nd1,m,r,1e999\n', /line 2: the column "factor" has "1e999"/],
    ['device,model,room,factor\nd1,m,r,0x10\n', /line 2: the column "factor" has "0x10"/],
  ];
  for (const [text, expected] of broken) {
    it(`refuses ${JSON.stringify(text.slice(0, 60))}`, () => assert.match(failureOf(build(text)), expected));
  }
});
