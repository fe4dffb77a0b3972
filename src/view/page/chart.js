// The chart of one series: the mean of each closed window as a line, minimum to maximum as a band, percentiles when asked
// for; windows that are still open dashed and hollow; marks where a window is incomplete or was repaired. A series without
// metrics is drawn as bars of its counts. Knows uPlot; knows nothing of where rows come from.
import { axes, countSeries, diamond, disc, metricSeries, styles, triangle, yRange } from './chart-style.js';
import uPlot from './uPlot.esm.js';

const HEIGHT = 320;
const PERCENTILES = ['p50', 'p95', 'p99'];

/**
 * `inspected(row, isRunning)` when the person points at a window (null = none); `zoomed(isZoomed)`.
 * Returns `show`, `zoom`, `shift`, `reset`, `step`, `restyle`.
 */
export function createChart(host, { inspected, zoomed }) {
  let plot = null;
  let shape = '';
  let data = null;
  let entries = [];
  let full = { min: 0, max: 1 };
  let range = null;
  let settings = { counts: true, percentiles: false };

  /** `rows` and `running` of one series, ascending; `fromMs`, `toMs` bound the time axis. */
  function show(next) {
    settings = next;
    entries = gather(next);
    data = columns(entries, next);
    full = { min: next.fromMs / 1_000, max: next.toMs / 1_000 };
    const wanted = `${next.counts ? 'count' : 'metric'} ${next.percentiles}`;
    if (!plot || shape !== wanted) {
      shape = wanted;
      build();
    } else {
      plot.setData(data, false);
      scale();
    }
  }

  function build() {
    plot?.destroy();
    const style = styles();
    const options = {
      width: Math.max(200, host.clientWidth),
      height: HEIGHT,
      legend: { show: false },
      cursor: { y: false, drag: { x: true, y: false, setScale: false }, points: { size: 7 } },
      select: { show: true },
      scales: {
        x: {
          time: true,
          range: () => {
            const { min, max } = range ?? full;
            return [min, max];
          },
        },
        y: { range: yRange },
      },
      axes: axes(style),
      series: settings.counts ? countSeries(style) : metricSeries(style, settings.percentiles),
      bands: settings.counts
        ? []
        : [
            { series: [1, 2], fill: style.band },
            { series: [7, 8], fill: style.bandOpen },
          ],
      padding: [16, 34, 0, 0],
      hooks: { setSelect: [selected], setCursor: [pointed], draw: [marks] },
    };
    plot = new uPlot(options, data, host);
  }

  function scale() {
    const { min, max } = range ?? full;
    plot.setScale('x', { min, max });
  }

  function selected(u) {
    if (u.select.width < 4) return;
    const min = u.posToVal(u.select.left, 'x');
    const max = u.posToVal(u.select.left + u.select.width, 'x');
    u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    setRange(min, max);
  }

  function setRange(min, max) {
    const least = (settings.everyMs / 1_000) * 3;
    if (max - min < least) {
      const middle = (min + max) / 2;
      min = middle - least / 2;
      max = middle + least / 2;
    }
    const width = Math.min(max - min, full.max - full.min);
    const start = Math.min(Math.max(min, full.min), full.max - width);
    range = width >= (full.max - full.min) * 0.999 ? null : { min: start, max: start + width };
    zoomed(range !== null);
    if (plot) scale();
  }

  function pointed(u) {
    const index = u.cursor.idx;
    const entry = index === null || index === undefined ? null : entries[index];
    inspected(entry?.row ?? null, entry?.running ?? false);
  }

  function marks(u) {
    const style = styles();
    const { left, top, width, height } = u.bbox;
    const ctx = u.ctx;
    const unit = devicePixelRatio;
    ctx.save();
    for (const { row, running, x } of entries) {
      if (!row || running || (row.missing === 0 && row.duplicates === 0 && row.rev === 0)) continue;
      const at = u.valToPos(x, 'x', true);
      if (at < left || at > left + width) continue;
      if (row.missing > 0) triangle(ctx, at, top + height - 1 * unit, 4.5 * unit, style.warn);
      if (row.duplicates > 0) disc(ctx, at, top + height - 15 * unit, 2.5 * unit, style.muted);
      if (row.rev > 0) diamond(ctx, at, top - 7 * unit, 4.5 * unit, style.repair);
    }
    ctx.restore();
  }

  function move(factor) {
    const { min, max } = range ?? full;
    const middle = (min + max) / 2;
    const half = ((max - min) / 2) * factor;
    setRange(middle - half, middle + half);
  }

  /** Points at the next or previous window, for the keyboard. */
  function step(by) {
    if (!plot) return;
    const { min, max } = range ?? full;
    const within = entries
      .map((entry, i) => ({ entry, i }))
      .filter(({ entry }) => entry.row && entry.x >= min && entry.x <= max);
    if (within.length === 0) return;
    const now = plot.cursor.idx;
    const place = within.findIndex(({ i }) => i === now);
    const next = place < 0 ? within.length - 1 : Math.max(0, Math.min(within.length - 1, place + by));
    const { x } = within[next].entry;
    plot.setCursor({ left: plot.valToPos(x, 'x'), top: 20 });
  }

  new ResizeObserver(() => {
    if (plot) plot.setSize({ width: Math.max(200, host.clientWidth), height: HEIGHT });
  }).observe(host);

  return {
    show,
    step,
    zoom: (factor) => move(factor),
    shift(share) {
      const { min, max } = range ?? full;
      const by = (max - min) * share;
      setRange(min + by, max + by);
    },
    reset() {
      range = null;
      zoomed(false);
      if (plot) scale();
    },
    restyle() {
      if (plot) build();
    },
    clear() {
      plot?.destroy();
      plot = null;
      range = null;
      entries = [];
    },
  };
}

/** One entry a window, ascending; an empty one breaks the line where windows are missing. */
function gather({ rows, running, everyMs }) {
  const finals = new Set(rows.map(({ startMs }) => startMs));
  const all = [
    ...rows.map((row) => ({ row, running: false })),
    ...running.filter(({ startMs }) => !finals.has(startMs)).map((row) => ({ row, running: true })),
  ].sort((a, b) => a.row.startMs - b.row.startMs);
  const entries = [];
  let expectedMs = null;
  for (const { row, running: isRunning } of all) {
    if (expectedMs !== null && row.startMs > expectedMs)
      entries.push({ row: null, running: false, x: (expectedMs + everyMs / 2) / 1_000 });
    entries.push({ row, running: isRunning, x: (row.startMs + row.endMs) / 2_000 });
    expectedMs = row.startMs + everyMs;
  }
  return entries;
}

function columns(entries, { counts, percentiles }) {
  const xs = entries.map(({ x }) => x);
  const final = (field) => entries.map(({ row, running }) => (row && !running ? row[field] : null));
  const firstOpen = entries.findIndex(({ running }) => running);
  // The dashed line starts at the last closed window, so that the two meet.
  const open = (field, joined) =>
    entries.map(({ row, running }, i) => (row && (running || (joined && i === firstOpen - 1)) ? row[field] : null));
  if (counts) return [xs, final('count'), open('count', false)];
  const none = entries.map(() => null);
  const asked = PERCENTILES.map((field) => (percentiles ? final(field) : none));
  return [
    xs,
    final('max'),
    final('min'),
    final('mean'),
    ...asked,
    open('max', true),
    open('min', true),
    open('mean', true),
  ];
}
