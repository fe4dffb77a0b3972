// How the chart looks: lines, bands, bars, axes, marks and legend, in the colours of the page.
import { make } from './dom.js';
import uPlot from './uPlot.esm.js';

export function metricSeries(style, percentiles) {
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

export function countSeries(style) {
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

export function yRange(u, min, max) {
  if (min === null || max === null) return [0, 1];
  if (u.series.length === 3) return [0, Math.max(1, max * 1.1)];
  const room = max - min || Math.abs(max) * 0.01 || 1;
  return [min - room * 0.12, max + room * 0.12];
}

export function axes(style) {
  const axis = {
    stroke: style.muted,
    font: style.font,
    grid: { stroke: style.grid, width: 1 },
    ticks: { stroke: style.grid, width: 1, size: 5 },
  };
  return [
    { ...axis, space: 80, size: 40, values: timeLabels },
    { ...axis, size: 62, values: (_u, splits, _axis, _space, step) => splits.map((value) => label(value, step)) },
  ];
}

function label(value, step) {
  if (Math.abs(value) >= 1e7 || (value !== 0 && Math.abs(value) < 1e-5)) return value.toExponential(2);
  let digits = 0;
  while (digits < 6 && Math.abs(step * 10 ** digits - Math.round(step * 10 ** digits)) > 1e-6) digits++;
  return value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits });
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

export function triangle(ctx, x, y, size, colour) {
  ctx.fillStyle = colour;
  ctx.beginPath();
  ctx.moveTo(x, y - size * 1.8);
  ctx.lineTo(x + size, y);
  ctx.lineTo(x - size, y);
  ctx.fill();
}

export function diamond(ctx, x, y, size, colour) {
  ctx.fillStyle = colour;
  ctx.beginPath();
  ctx.moveTo(x, y - size);
  ctx.lineTo(x + size, y);
  ctx.lineTo(x, y + size);
  ctx.lineTo(x - size, y);
  ctx.fill();
}

export function disc(ctx, x, y, size, colour) {
  ctx.fillStyle = colour;
  ctx.beginPath();
  ctx.arc(x, y, size, 0, 2 * Math.PI);
  ctx.fill();
}

export function styles() {
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
export function legendItems(counts, what, percentiles) {
  const items = counts
    ? [
        ['count', `${what} in a closed window`],
        ['count-open', 'still open'],
      ]
    : [
        ['mean', 'mean'],
        ['band', 'minimum to maximum'],
        ['open', 'still open'],
      ];
  if (!counts && percentiles) items.push(['p50', 'p50'], ['p95', 'p95'], ['p99', 'p99']);
  if (!counts) items.push(['missing', 'readings missing']);
  items.push(['duplicates', 'had duplicates'], ['repaired', 'repaired']);
  return items.map(([kind, text]) =>
    make('li', {}, make('span', { class: `swatch ${kind}`, 'aria-hidden': 'true' }), text),
  );
}
