/** Rows for tests: plain ones, and arbitrary ones with names and numbers that stores like to get wrong. */
import fc from 'fast-check';
import { type Row, STATISTICS, type Statistic } from '../../src/row.ts';
import { sortTags } from '../../src/store/order.ts';
import { parseWindow } from '../../src/stream.ts';

export const T0 = 1_700_000_000_000 - (1_700_000_000_000 % 3_600_000);

type Parts = Partial<Omit<Row, 'endMs'>>;

/** A row with plausible numbers that depend on `startMs` and `rev`. */
export function makeRow(parts: Parts = {}): Row {
  const window = parts.window ?? '10s';
  const startMs = parts.startMs ?? T0;
  const rev = parts.rev ?? 0;
  const x = ((startMs / 1_000) % 977) + 0.1 + rev;
  const row = {
    stream: 'environment',
    metric: 'temperature',
    count: 3,
    sum: 3 * x,
    mean: x,
    min: x - 1,
    max: x + 1,
    stddev: 0.5,
    first: x,
    last: x + 0.5,
    p50: x,
    p95: x + 0.9,
    p99: x + 1,
    duplicates: 0,
    missing: 0,
    ...parts,
    tags: sortTags(parts.tags ?? { device: 'd1' }),
    window,
    startMs,
    endMs: startMs + parseWindow(window)!.sizeMs,
    rev,
  };
  return row.metric === '' ? { ...row, ...nothing() } : row;
}

function nothing(): Record<Statistic, null> {
  return Object.fromEntries(STATISTICS.map((name) => [name, null])) as Record<Statistic, null>;
}

const HOSTILE_TEXTS = [
  ...['', ' ', '  x ', '\\', 'a\\', '\\\\', 'a\\,b', 'a\\ b', 'C:\\dir\\', 'a,b=c d', '=', ',', '"', "'", "it's", '`'],
  ...[
    '\n',
    'a\r\nb',
    '\0',
    '\t',
    '\x7f',
    '\u0085',
    '\u2028',
    '\ufeff',
    '\ufffd',
    '\ud800',
    'x\udc00y',
    'é',
    '日本',
    '😀',
  ],
  ...['%', '%41', '%%', '50%', '#', '#x', '_', '$', '*', '/*', '--', 'true', '1i', 'null', 'AND', "' OR '1'='1"],
];
const HOSTILE_NAMES = [
  ...['metric', 'metric_', 'window', 'time', '_time', '_field', '_measurement', 'count', 'sum', 'p50__', '__proto__'],
  ...['10', '9', 'constructor', 'select', 'from', 'name', 'device'],
];
const EXTREME_NUMBERS = [
  ...[0, -0, 5e-324, -5e-324, 2.2250738585072014e-308, Number.MAX_VALUE, -Number.MAX_VALUE, 1e21, -1e21, 1e-7, 1e150],
  ...[0.1, 0.1 + 0.2, 1 / 3, 123456789012345680000, 2 ** 53, 2 ** 53 + 2, 1e22, 21.5, 4.35, Number.EPSILON],
];

const text = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom(...HOSTILE_TEXTS) },
  { weight: 2, arbitrary: fc.string({ unit: 'binary', maxLength: 12 }) },
  {
    weight: 2,
    arbitrary: fc
      .array(fc.constantFrom('\\', ',', '=', ' ', '"', "'", '%', 'a', '\n'), { maxLength: 8 })
      .map((parts) => parts.join('')),
  },
);
const name = fc.oneof({ weight: 2, arbitrary: fc.constantFrom(...HOSTILE_NAMES) }, text);
const number = fc.oneof(fc.constantFrom(...EXTREME_NUMBERS), fc.double({ noNaN: true, noDefaultInfinity: true }));
const statistic = fc.oneof({ weight: 8, arbitrary: number }, { weight: 1, arbitrary: fc.constant(null) });
const count = fc.oneof(fc.nat(100), fc.maxSafeNat());

/** Any row of this stream and one of these windows that a store must keep. */
export function rowArbitrary(stream: string, windows: readonly string[] = ['10s', '1m']): fc.Arbitrary<Row> {
  return fc
    .record({
      metric: fc.oneof({ weight: 1, arbitrary: fc.constant('') }, { weight: 4, arbitrary: text }),
      window: fc.constantFrom(...windows),
      index: fc.oneof(fc.nat(5), fc.nat(5_000)),
      tags: fc.array(fc.tuple(name, text), { maxLength: 4 }),
      statistics: fc.tuple(...STATISTICS.map(() => statistic)),
      count,
      duplicates: count,
      missing: count,
      rev: fc.nat(9),
    })
    .map(({ index, tags, statistics, ...rest }) => {
      const { everyMs, sizeMs } = parseWindow(rest.window)!;
      const startMs = T0 + index * everyMs;
      const numbers = Object.fromEntries(STATISTICS.map((key, i) => [key, statistics[i] ?? null]));
      const unique = [...new Map(tags)].sort(([a], [b]) => (a < b ? -1 : 1));
      return {
        ...rest,
        ...(numbers as Record<Statistic, number | null>),
        ...(rest.metric === '' ? nothing() : undefined),
        stream,
        startMs,
        endMs: startMs + sizeMs,
        tags: Object.fromEntries(unique),
      };
    });
}

export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const collected: T[] = [];
  for await (const item of items) collected.push(item);
  return collected;
}
