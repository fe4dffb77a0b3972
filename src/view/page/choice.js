// What the chart shows: stream, device, tags, metric, window, range. Kept in the page's address, so that it can be sent on.

export const RANGES = [
  [300_000, '5 min'],
  [900_000, '15 min'],
  [3_600_000, '1 h'],
  [21_600_000, '6 h'],
  [86_400_000, '24 h'],
  [604_800_000, '7 d'],
  [2_592_000_000, '30 d'],
];
/** Short, so that a gateway that has just started fills it soon. */
export const FIRST_RANGE_MS = 300_000;
/** Longer names the gateway does not take in a question; no device whose readings are accepted has one. */
export const LONGEST_NAME = 1_000;
const MOST_ROWS = 3_000;
const FEWEST_ROWS = 4;
const GOOD_ROWS = 60;

export function fits(rangeMs, { everyMs }) {
  const count = rangeMs / everyMs;
  return count >= FEWEST_ROWS && count <= MOST_ROWS;
}

export function rangeName(ms) {
  return RANGES.find(([range]) => range === ms)?.[1] ?? '';
}

/** What can be drawn of a stream: its metrics, or '' for its events, and how many different values its windows had. */
export function metricsOf({ metrics, distinct }) {
  return [...(metrics.length > 0 ? metrics : ['']), ...distinct.map((field) => `distinct_${field}`)];
}

/** Rows of it have a count and nothing else. */
export function isCount(stream, metric) {
  return !stream.metrics.includes(metric);
}

/** Makes a choice one that exists: the metric and the window belong to the stream, the range shows a sensible number of rows. */
export function settle(choice, stream) {
  const metrics = metricsOf(stream);
  if (!metrics.includes(choice.metric)) choice.metric = metrics[0];
  const window = stream.windows.find(({ label }) => label === choice.window) ?? stream.windows[0];
  choice.window = window.label;
  if (fits(choice.rangeMs, window)) return;
  const target = window.everyMs * GOOD_ROWS;
  const fitting = RANGES.filter(([ms]) => fits(ms, window));
  choice.rangeMs = (fitting.find(([ms]) => ms >= target) ?? fitting.at(-1))[0];
}

export function readAddress() {
  const search = new URLSearchParams(location.search);
  const stream = search.get('stream');
  const key = search.get('device');
  if (!stream || key === null || key.length > LONGEST_NAME) return null;
  let tags;
  try {
    tags = JSON.parse(search.get('tags') ?? '');
  } catch {
    return null;
  }
  if (typeof tags !== 'object' || tags === null || !Object.values(tags).every((value) => typeof value === 'string'))
    return null;
  return {
    stream,
    key,
    tags,
    metric: search.get('metric') ?? '',
    window: search.get('window') ?? '',
    rangeMs: Number(search.get('range')) || FIRST_RANGE_MS,
    series: search.get('series') ?? '',
  };
}

export function writeAddress({ stream, key, tags, metric, window, rangeMs, series }) {
  const search = new URLSearchParams({
    stream,
    device: key,
    tags: JSON.stringify(tags),
    metric,
    window,
    range: String(rangeMs),
  });
  if (series) search.set('series', series);
  history.replaceState(null, '', `?${search}`);
}
