// The chart's surroundings: which device, metric, window and range; the rows behind it; the numbers of one window. The
// choice is kept in the address, so that it can be sent to someone else.
import { address, getRows } from './api.js';
import { createChart } from './chart.js';
import { legendItems } from './chart-style.js';
import {
  FIRST_RANGE_MS,
  fits,
  isCount,
  LONGEST_NAME,
  metricsOf,
  RANGES,
  rangeName,
  readAddress,
  settle,
  writeAddress,
} from './choice.js';
import { options, segments } from './controls.js';
import { byId, isolated, plain, setText, WHOLE_NAME } from './dom.js';
import { startFacts } from './facts.js';
import { seriesName } from './format.js';
import { fillReadout, fillTable } from './numbers.js';
import { windowName } from './streams.js';

const KEEP_ROWS = 10_000;
const RELOAD_MS = 60_000;
const BUSY = 429;
const AGAIN_MS = 1_000;
/** While there is less history than the range asks for, the axis begins where the history does. */
const FEWEST_WINDOWS = 12;

/** `watch(parameters)` whenever another series is looked at. */
export function startExplore({ watch }) {
  let streams = new Map();
  /**
   * stream, key (a device; '' = all of the stream), tags (what is asked for), metric, window, rangeMs, series (one of those
   * that matched; '' = the first)
   */
  let choice = readAddress();
  let rows = new Map();
  let running = new Map();
  let nowMs = Date.now();
  let asked = 0;
  let inspected = null;
  let problem = '';
  /** What is drawn: the closed windows and the open ones, ascending. */
  let drawn = { finals: [], open: [] };

  const facts = startFacts();
  const chart = createChart(byId('chart'), {
    inspected: (row, isRunning) => {
      inspected = row ? { row, isRunning } : null;
      showReadout();
    },
    zoomed: (isZoomed) => {
      byId('zoom-reset').classList.toggle('primary', isZoomed);
      byId('zoom-reset').disabled = !isZoomed;
    },
  });

  function choose(device) {
    const stream = streams.get(device.stream);
    if (!stream) return;
    const tags = device.tags[stream.key] === undefined ? device.tags : { [stream.key]: device.tags[stream.key] };
    show(stream, device.key, tags);
  }

  function show(stream, key, tags) {
    const same = choice?.stream === stream.name;
    choice = {
      stream: stream.name,
      key,
      tags,
      metric: same ? choice.metric : metricsOf(stream)[0],
      window: same ? choice.window : stream.windows[0].label,
      rangeMs: choice?.rangeMs ?? FIRST_RANGE_MS,
      series: '',
    };
    changed();
  }

  /** Everything is asked for again. */
  function changed() {
    settle(choice, streams.get(choice.stream));
    rows = new Map();
    running = new Map();
    inspected = null;
    drawn = { finals: [], open: [] };
    problem = '';
    chart.clear();
    writeAddress(choice);
    facts.choose(choice);
    showTitle('');
    showControls();
    watch(choice.key.length > LONGEST_NAME ? {} : parameters());
    load();
  }

  function windowOf({ stream, window }) {
    return streams.get(stream)?.windows.find(({ label }) => label === window);
  }

  function parameters() {
    return { stream: choice.stream, window: choice.window, series: seriesName(choice.tags), metric: choice.metric };
  }

  async function load() {
    if (!choice || !streams.has(choice.stream)) return;
    const mine = ++asked;
    const { everyMs, sizeMs } = windowOf(choice);
    const from = nowMs - choice.rangeMs - sizeMs;
    try {
      const loaded = await getRows(
        { ...parameters(), from: Math.floor(from / everyMs) * everyMs, limit: KEEP_ROWS },
        { signal: AbortSignal.timeout(20_000) },
      );
      if (mine !== asked) return;
      rows = new Map(loaded.map((row) => [keyOf(row), row]));
      problem = '';
    } catch (error) {
      if (mine !== asked) return;
      problem = error.message;
      // As many answers with rows as it sends at once are on their way: one of them ends soon.
      if (error.status === BUSY) setTimeout(() => mine === asked && load(), AGAIN_MS);
    }
    draw();
  }

  function allSeries() {
    const latest = new Map();
    for (const row of [...rows.values(), ...running.values()])
      latest.set(seriesName(row.tags), Math.max(row.startMs, latest.get(seriesName(row.tags)) ?? 0));
    return [...latest].sort((a, b) => b[1] - a[1]).map(([name]) => name);
  }

  function draw() {
    if (!choice) return;
    const names = allSeries();
    const series = names.includes(choice.series) ? choice.series : (names[0] ?? '');
    showSeries(names, series);
    const mine = (row) => seriesName(row.tags) === series;
    const { everyMs } = windowOf(choice);
    const fromMs = nowMs - choice.rangeMs;
    const finals = [...rows.values()].filter(mine).sort((a, b) => a.startMs - b.startMs);
    const open = [...running.values()].filter(mine);
    const empty = finals.length === 0 && open.length === 0;
    byId('chart-empty').hidden = !empty;
    setText(
      byId('chart-empty'),
      problem ||
        `No window of this series in the last ${rangeName(choice.rangeMs)}. The first one appears when it is closed.`,
    );
    if (empty) chart.clear();
    else {
      const toMs = Math.max(nowMs, ...open.map(({ endMs }) => endMs), finals.at(-1)?.endMs ?? 0);
      chart.show({
        rows: finals,
        running: open,
        everyMs,
        fromMs: startOf(finals, fromMs, everyMs),
        toMs,
        counts: isCount(streams.get(choice.stream), choice.metric),
        percentiles: byId('chart-percentiles').checked,
      });
    }
    showTitle(series);
    if (byId('row-table').closest('details').open) fillTable(byId('row-table'), finals, open, nowMs);
    drawn = { finals, open };
    if (!inspected) showReadout();
    byId('rows-link').href = address('/api/v1/rows', { ...parameters(), from: fromMs });
  }

  function showTitle(series) {
    const { key } = streams.get(choice.stream);
    showName(byId('chart-title'), choice.key === '' ? choice.stream : plain(choice.key, WHOLE_NAME));
    // Windows are by tags: where the name of a device is none of them, they hold those of the others too.
    const others = series && choice.key !== '' && choice.tags[key] === undefined ? `, every ${key} together` : '';
    const of = series ? ` · ${tagsOf(series)}${others}` : '';
    showName(byId('chart-sub'), `${what()} on ${choice.stream}, windows of ${windowName(choice.window)}${of}`);
  }

  function what() {
    return choice.metric || 'events';
  }

  /** Two lines of it; the whole where it is pointed at or, where it does not fit, reached by the keyboard. */
  function showName(element, text) {
    if (element.title === text) return;
    setText(element, text);
    element.title = text;
    if (element.scrollHeight > element.clientHeight + 1) element.tabIndex = 0;
    else element.removeAttribute('tabindex');
  }

  function showControls() {
    const stream = streams.get(choice.stream);
    options(byId('chart-metric'), metricsOf(stream), choice.metric, (name) => name || 'events');
    const window = windowOf(choice);
    segments(
      byId('chart-window'),
      stream.windows.map(({ label }) => ({ value: label, text: windowName(label), enabled: true })),
      choice.window,
      (value) => {
        choice.window = value;
        changed();
      },
    );
    segments(
      byId('chart-range'),
      RANGES.map(([ms, text]) => ({ value: ms, text, enabled: fits(ms, window) })),
      choice.rangeMs,
      (value) => {
        choice.rangeMs = value;
        changed();
      },
    );
    showLegend();
  }

  function showLegend() {
    const counts = isCount(streams.get(choice.stream), choice.metric);
    const percentiles = byId('chart-percentiles');
    percentiles.closest('label').hidden = counts;
    byId('legend').replaceChildren(...legendItems(counts, what(), percentiles.checked));
  }

  function showSeries(names, series) {
    byId('chart-series-control').hidden = names.length < 2;
    if (names.length >= 2) options(byId('chart-series'), names.toSorted(), series, (name) => plain(name));
  }

  function showReadout() {
    const shown = inspected ?? latest();
    fillReadout(byId('readout'), shown, nowMs);
  }

  function latest() {
    const { finals, open } = drawn;
    if (finals.length > 0) return { row: finals.at(-1), isRunning: false };
    return open.length > 0 ? { row: open.at(-1), isRunning: true } : null;
  }

  byId('chart-metric').addEventListener('change', (event) => {
    choice.metric = event.target.value;
    changed();
  });
  byId('chart-series').addEventListener('change', (event) => {
    choice.series = event.target.value;
    writeAddress(choice);
    chart.reset();
    draw();
  });
  byId('chart-percentiles').addEventListener('change', () => {
    if (!choice) return;
    showLegend();
    draw();
  });
  byId('row-table').closest('details').addEventListener('toggle', draw);
  byId('zoom-in').addEventListener('click', () => chart.zoom(0.5));
  byId('zoom-out').addEventListener('click', () => chart.zoom(2));
  byId('zoom-back').addEventListener('click', () => chart.shift(-0.5));
  byId('zoom-forward').addEventListener('click', () => chart.shift(0.5));
  byId('zoom-reset').addEventListener('click', () => chart.reset());
  const host = byId('chart');
  for (const [name, value] of Object.entries({
    role: 'application',
    tabindex: 0,
    'aria-label': 'Chart',
    'aria-describedby': 'chart-help',
  })) {
    host.setAttribute(name, value);
  }
  host.addEventListener('dblclick', () => chart.reset());
  host.addEventListener('keydown', (event) => {
    const actions = {
      ArrowLeft: () => chart.step(-1),
      ArrowRight: () => chart.step(1),
      '+': () => chart.zoom(0.5),
      '=': () => chart.zoom(0.5),
      '-': () => chart.zoom(2),
      0: () => chart.reset(),
      Escape: () => chart.reset(),
    };
    if (!(event.key in actions)) return;
    event.preventDefault();
    actions[event.key]();
  });
  // What was repaired long after its window closed is not among the live events.
  setInterval(() => {
    if (!document.hidden) load();
  }, RELOAD_MS);

  return {
    choose,
    /** All of a stream that no device of this gateway sends. */
    chooseStream: (stream) => show(stream, '', {}),
    load,
    restyle: () => chart.restyle(),
    /** The device of the address the page was opened with, once the streams are known. */
    setStreams(list) {
      const first = streams.size === 0;
      streams = new Map(list.map((stream) => [stream.name, stream]));
      if (!first) return null;
      if (choice && streams.has(choice.stream)) changed();
      else choice = null;
      return choice;
    },
    chosen: () => choice,
    rows({ stream, window, rows: fresh }) {
      if (!choice || stream !== choice.stream || window !== choice.window) return;
      for (const row of fresh) if (row.metric === choice.metric) rows.set(keyOf(row), row);
      const tooOldMs = nowMs - 2 * choice.rangeMs - 3_600_000;
      if (rows.size > KEEP_ROWS) for (const [key, row] of rows) if (row.startMs < tooOldMs) rows.delete(key);
      draw();
    },
    running({ stream, window, rows: open }) {
      if (!choice || stream !== choice.stream || window !== choice.window) return;
      running = new Map(open.filter(({ metric }) => metric === choice.metric).map((row) => [keyOf(row), row]));
      draw();
    },
    tick(atMs) {
      nowMs = atMs;
      facts.tick(atMs);
    },
  };
}

function startOf(finals, fromMs, everyMs) {
  const first = finals[0]?.startMs ?? fromMs;
  const { endMs } = finals.at(-1) ?? { endMs: fromMs };
  return Math.max(fromMs, Math.min(first - everyMs / 2, endMs - FEWEST_WINDOWS * everyMs));
}

/** `a=1,b=2` as it is read, each value with a writing direction of its own. */
function tagsOf(series) {
  return series
    .split(/(?<!\\),/)
    .map((tag) => isolated(tag.replace(/\\([\\,=])/g, '$1'), WHOLE_NAME))
    .join(', ');
}

function keyOf(row) {
  return `${row.startMs} ${seriesName(row.tags)}`;
}
