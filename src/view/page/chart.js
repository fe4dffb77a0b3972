// The chart of one series: the mean of each closed window as a line, minimum to maximum as a band, percentiles when asked
// for; windows that are still open dashed and hollow; marks where a window is incomplete or was repaired. A series without
// metrics is drawn as bars of its counts. Knows uPlot; knows nothing of where rows come from.
import { make } from './dom.js';
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
  let settings = { metric: '', percentiles: false };

  /** `rows` and `running` of one series, ascending; `fromMs`, `toMs` bound the time axis. */
  function show(next) {
    settings = next;
    entries = gather(next);
    data = columns(entries, next);
    full = { min: next.fromMs / 1_000, max: next.toMs / 1_000 };
    const wanted = `${next.metric === '' ? 'count' : 'metric'} ${next.percentiles}`;
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
      series: settings.metric === '' ? countSeries(style) : metricSeries(style, settings.percentiles),
      bands:
        settings.metric === ''
          ? []
          : [
              { series: [1, 2], fill: style.band },
              { series: [7, 8], fill: style.bandOpen },
            ],
      padding: [16, 12, 0, 0],
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

function columns(entries, { metric, percentiles }) {
  const xs = entries.map(({ x }) => x);
  const final = (field) => entries.map(({ row, running }) => (row && !running ? row[field] : null));
  const firstOpen = entries.findIndex(({ running }) => running);
  // The dashed line starts at the last closed window, so that the two meet.
  const open = (field, joined) =>
    entries.map(({ row, running }, i) => (row && (running || (joined && i === firstOpen - 1)) ? row[field] : null));
  if (metric === '') return [xs, final('count'), open('count', false)];
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

function metricSeries(style, percentiles) {
  const joined = (u, index) => openIndexes(u, index);
  const line = (stroke, width, more = {}) => ({ stroke, width, points: { show: false }, spanGaps: false, ...more });
  return [
    {},
    line(style.edge, 1),
    line(style.edge, 1),
    line(style.accent, 2, { points: { show: sparse, size: 6, fill: style.accent, stroke: style.accent } }),
    line(style.p50, 1.4, { show: percentiles, dash: [2, 3] }),
    line(style.p95, 1.4, { show: percentiles }),
    line(style.p99, 1.4, { show: percentiles, dash: [7, 3] }),
    line(style.edge, 1, { dash: [3, 4] }),
    line(style.edge, 1, { dash: [3, 4] }),
    line(style.accent, 2, {
      dash: [5, 5],
      points: { show: true, size: 9, width: 2, fill: style.surface, stroke: style.accent, filter: joined },
    }),
  ];
}

function countSeries(style) {
  const bars = uPlot.paths.bars({ size: [0.8, 60], align: 0 });
  return [
    {},
    { stroke: style.accent, fill: style.barFill, width: 1, paths: bars, points: { show: false } },
    { stroke: style.accent, width: 1.5, dash: [4, 4], paths: bars, points: { show: false } },
  ];
}

/** Dots only while they can be told apart. */
function sparse(u, _series, first, last) {
  return u.bbox.width / devicePixelRatio / Math.max(1, last - first) > 14;
}

/** Of the open windows' line all points but the first, which is the last closed window. */
function openIndexes(u, index) {
  const values = u.data[index];
  const indexes = [];
  for (let i = 0; i < values.length; i++) {
    if (values[i] !== null && u.data[3][i] === null) indexes.push(i);
  }
  return indexes;
}

function yRange(u, min, max) {
  if (min === null || max === null) return [0, 1];
  if (u.series.length === 3) return [0, Math.max(1, max * 1.1)];
  const room = max - min || Math.abs(max) * 0.01 || 1;
  return [min - room * 0.12, max + room * 0.12];
}

function axes(style) {
  const axis = {
    stroke: style.muted,
    font: style.font,
    grid: { stroke: style.grid, width: 1 },
    ticks: { stroke: style.grid, width: 1, size: 5 },
  };
  return [
    { ...axis, space: 80, values: timeLabels },
    { ...axis, size: 62, values: (_u, splits, _axis, _space, step) => splits.map((value) => label(value, step)) },
  ];
}

function label(value, step) {
  const digits = Math.max(0, Math.min(6, -Math.floor(Math.log10(step))));
  return Math.abs(value) >= 1e7 || (value !== 0 && Math.abs(value) < 1e-5)
    ? value.toExponential(2)
    : value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

const CLOCK = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' });
const SECONDS = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const DAY = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' });

function timeLabels(_u, splits, _axis, _space, step) {
  let day = '';
  return splits.map((seconds) => {
    const ms = seconds * 1_000;
    const today = DAY.format(ms);
    const text = step >= 86_400 ? today : step >= 60 ? CLOCK.format(ms) : SECONDS.format(ms);
    const changed = day !== '' && day !== today && step < 86_400;
    day = today;
    return changed ? `${text}\n${today}` : text;
  });
}

function triangle(ctx, x, y, size, colour) {
  ctx.fillStyle = colour;
  ctx.beginPath();
  ctx.moveTo(x, y - size * 1.8);
  ctx.lineTo(x + size, y);
  ctx.lineTo(x - size, y);
  ctx.fill();
}

function diamond(ctx, x, y, size, colour) {
  ctx.fillStyle = colour;
  ctx.beginPath();
  ctx.moveTo(x, y - size);
  ctx.lineTo(x + size, y);
  ctx.lineTo(x, y + size);
  ctx.lineTo(x - size, y);
  ctx.fill();
}

function disc(ctx, x, y, size, colour) {
  ctx.fillStyle = colour;
  ctx.beginPath();
  ctx.arc(x, y, size, 0, 2 * Math.PI);
  ctx.fill();
}

function styles() {
  const css = getComputedStyle(document.documentElement);
  const colour = (name) => css.getPropertyValue(`--${name}`).trim();
  return {
    accent: colour('accent'),
    edge: colour('chart-edge'),
    band: colour('chart-band'),
    bandOpen: colour('chart-band-open'),
    barFill: colour('chart-bar'),
    p50: colour('chart-p50'),
    p95: colour('chart-p95'),
    p99: colour('chart-p99'),
    surface: colour('surface'),
    muted: colour('muted'),
    grid: colour('grid'),
    warn: colour('warn'),
    repair: colour('repair'),
    font: '12px system-ui, sans-serif',
  };
}

/** What the signs mean, for the legend under the chart. */
export function legendItems(metric, percentiles) {
  const items =
    metric === ''
      ? [
          ['count', 'events in a closed window'],
          ['count-open', 'still open'],
        ]
      : [
          ['mean', 'mean'],
          ['band', 'minimum to maximum'],
          ['open', 'still open'],
        ];
  if (metric !== '' && percentiles) items.push(['p50', 'p50'], ['p95', 'p95'], ['p99', 'p99']);
  if (metric !== '') items.push(['missing', 'readings missing']);
  items.push(['duplicates', 'had duplicates'], ['repaired', 'repaired']);
  return items.map(([kind, text]) =>
    make('li', {}, make('span', { class: `swatch ${kind}`, 'aria-hidden': 'true' }), text),
  );
}
