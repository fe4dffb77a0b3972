import assert from 'node:assert/strict';
import fc from 'fast-check';
import { baseSizeMs, floorTo, type Level, planLevels, windowStarts } from '../../src/rollup/window.ts';
import { makeWindow, parseWindow, type WindowSize } from '../../src/stream.ts';

const windows = (...labels: string[]): WindowSize[] => labels.map((label) => parseWindow(label)!);

/** `10s -> (1m -> (15m -> (1h)))` */
function show(level: Level): string {
  const feeds = level.feeds.map(show).join(', ');
  return feeds === '' ? String(level.label) : `${level.label} -> (${feeds})`;
}

describe('window arithmetic', () => {
  for (const [timeMs, stepMs, expected] of [
    [0, 10_000, 0],
    [9_999, 10_000, 0],
    [10_000, 10_000, 10_000],
    [-1, 10_000, -10_000],
    [-10_000, 10_000, -10_000],
    [1_700_000_000_000, 3_600_000, 1_699_999_200_000],
    [Number.MAX_SAFE_INTEGER, 1, Number.MAX_SAFE_INTEGER],
  ] as const) {
    it(`floors ${timeMs} to ${expected} in steps of ${stepMs}`, () => {
      assert.equal(floorTo(timeMs, stepMs), expected);
    });
  }

  it('floors every safe integer exactly', () => {
    fc.assert(
      fc.property(fc.maxSafeInteger(), fc.integer({ min: 1, max: 86_400_000 }), (timeMs, stepMs) => {
        const time = BigInt(timeMs);
        const step = BigInt(stepMs);
        const expected = time - (((time % step) + step) % step);
        fc.pre(expected >= -BigInt(Number.MAX_SAFE_INTEGER));
        assert.equal(BigInt(floorTo(timeMs, stepMs)), expected);
      }),
    );
  });

  it('never yields a negative zero', () => {
    assert.ok(Object.is(floorTo(-0, 10_000), 0));
  });

  it('puts a pane into exactly the windows that contain it', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: -100, max: 100 }),
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 1, max: 6 }),
        (paneIndex, everyPanes, sizeEverys) => {
          const paneMs = 10;
          const everyMs = everyPanes * paneMs;
          const sizeMs = everyMs * sizeEverys;
          const start = paneIndex * paneMs;
          const expected: number[] = [];
          for (let s = -200 * everyMs; s <= 200 * everyMs; s += everyMs) {
            if (s <= start && start + paneMs <= s + sizeMs) expected.push(s);
          }
          assert.deepEqual(windowStarts({ sizeMs, everyMs }, start, start + paneMs), expected);
        },
      ),
    );
  });

  for (const [labels, baseMs, plan] of [
    [['10s'], 10_000, '10s'],
    [['10s', '1m', '15m', '1h'], 10_000, '10s -> (1m -> (15m -> (1h)))'],
    [['10s', '1m', '5m_1m', '15m', '1h'], 10_000, '10s -> (1m -> (5m_1m, 15m -> (1h)))'],
    [['10s', '1m_10s', '1m'], 10_000, '10s -> (1m_10s, 1m)'],
    [['10s', '30s', '40s'], 10_000, '10s -> (30s, 40s)'],
    [['5m_1m', '1h'], 60_000, 'null -> (5m_1m, 1h)'],
    [['20s', '30s'], 10_000, 'null -> (20s, 30s)'],
  ] as const) {
    it(`plans ${labels.join(' ')} as ${plan}`, () => {
      assert.equal(baseSizeMs(windows(...labels)), baseMs);
      assert.equal(show(planLevels(windows(...labels))), plan);
    });
  }

  it('builds every window out of source windows that cover it without gap or overlap', () => {
    const sizes = fc.uniqueArray(fc.tuple(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 4 })), {
      minLength: 1,
      maxLength: 5,
      selector: ([every, times]) => `${every} ${times}`,
    });
    fc.assert(
      fc.property(sizes, (pairs) => {
        const root = planLevels(pairs.map(([every, times]) => makeWindow(every * times, every)));
        const visit = (source: Level): void => {
          for (const level of source.feeds) {
            assert.equal(source.sizeMs, source.everyMs, 'a source is tumbling');
            // The source windows that name the window [0, size) as one of theirs.
            const parts: number[] = [];
            for (let s = -2 * level.sizeMs; s < 2 * level.sizeMs; s += 1) {
              if (s % source.sizeMs === 0 && windowStarts(level, s, s + source.sizeMs).includes(0)) parts.push(s);
            }
            assert.equal(parts.length * source.sizeMs, level.sizeMs);
            assert.equal(parts[0]! + 0, 0);
            visit(level);
          }
        };
        visit(root);
      }),
    );
  });
});
