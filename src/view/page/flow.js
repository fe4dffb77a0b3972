// The way of a reading: the five stages, each with its rate, latency, queue against its limit, and where readings leave.
import { byId, make, makeSvg, reconcile, setText } from './dom.js';
import { bytes, compact, latency, rate, whole } from './format.js';

const TITLES = { ingress: 'Ingress', inspect: 'Inspect', journal: 'Journal', rollup: 'Rollup', store: 'Store' };
const STATE = { healthy: '', attention: 'needs attention', broken: 'broken' };
const HISTORY = 120;
const histories = new Map();

export function seedHistory(history) {
  for (const [name, rates] of Object.entries(history)) histories.set(name, [...rates]);
}

/** The stages before anything is known of them, so that nothing moves when it is. */
export function prepareFlow() {
  const counters = Array.from({ length: 4 }, (_, i) => ({
    name: `blank ${i}`,
    label: ' ',
    value: 0,
    kind: 'level',
    by: {},
  }));
  const blank = { here: false, does: '', rateOf: '', ratePerSecond: 0, latencyMs: null, latencyOf: ' ', queue: null };
  const stages = Object.keys(TITLES).map((name) => ({ ...blank, name, counters }));
  reconcile(
    byId('stages'),
    stages,
    ({ name }) => name,
    createStage,
    (item, stage) => updateStage(item, stage, false),
  );
  for (const item of byId('stages').children) {
    setText(item.querySelector('.stage-state'), '');
    for (const value of item.querySelectorAll('.counters dd')) setText(value, '');
  }
}

export function showFlow(status, alive) {
  for (const stage of status.stages) {
    const history = histories.get(stage.name) ?? [];
    history.push(stage.ratePerSecond);
    while (history.length > HISTORY) history.shift();
    histories.set(stage.name, history);
  }
  reconcile(
    byId('stages'),
    status.stages,
    ({ name }) => name,
    createStage,
    (item, stage) => updateStage(item, stage, alive),
  );
  setText(byId('promise'), promise(status));
}

function promise({ ack, log, role }) {
  if (role === 'rollup') return 'This process counts what the gateways wrote to Kafka.';
  const durable = ack === 'kafka' ? 'Kafka has it on all in-sync replicas' : 'it is synced to this gateway’s disk';
  return `A device gets its acknowledgement (QoS 1 or 2) when ${durable}. From there it is counted exactly once, or listed with a reason${log === 'kafka' ? '' : '; the log is this gateway’s own spool'}.`;
}

function createStage({ name }) {
  return make(
    'li',
    { class: 'stage', id: `stage-${name}` },
    make('div', { class: 'stage-head' }, make('h3', {}, TITLES[name] ?? name), make('span', { class: 'stage-state' })),
    make('p', { class: 'stage-does' }),
    make('div', { class: 'stage-rate' }, make('span', { class: 'big' }), make('span', { class: 'unit' })),
    sparkline(),
    make('dl', { class: 'facts' }),
    make(
      'div',
      { class: 'queue' },
      make(
        'div',
        { class: 'queue-text' },
        make('span', { class: 'queue-name' }),
        make('span', { class: 'queue-depth' }),
      ),
      make('div', { class: 'queue-bar' }, make('div', { class: 'queue-fill' })),
    ),
    make('dl', { class: 'counters' }),
  );
}

function updateStage(item, stage, alive) {
  item.dataset.verdict = stage.here ? stage.verdict : 'elsewhere';
  item.dataset.flowing = String(alive && stage.here && stage.ratePerSecond > 0);
  setText(item.querySelector('.stage-state'), stage.here ? STATE[stage.verdict] : 'in another process');
  setText(item.querySelector('.stage-does'), stage.does);
  setText(item.querySelector('.big'), stage.here ? rate(stage.ratePerSecond) : '–');
  setText(item.querySelector('.unit'), stage.rateOf ? `${stage.rateOf}/s` : '');
  drawSparkline(item.querySelector('svg'), histories.get(stage.name) ?? []);
  showFacts(item.querySelector('.facts'), stage);
  showQueue(item.querySelector('.queue'), stage);
  showCounters(item.querySelector('.counters'), stage);
}

function showFacts(list, { latencyMs, latencyOf }) {
  const facts = [
    {
      key: 'of',
      term: capital(latencyOf),
      value: '',
      hint: 'Of the last minute, estimated from the histogram in /metrics',
    },
    { key: 'p50', term: 'half within', value: latencyMs ? latency(latencyMs.p50) : '–' },
    { key: 'p99', term: '99 % within', value: latencyMs ? latency(latencyMs.p99) : '–' },
  ];
  reconcile(list, facts, ({ key }) => key, createPair, updatePair);
}

function showQueue(element, { queue, here }) {
  const text = queue?.unit === 'bytes' ? bytes : compact;
  setText(element.querySelector('.queue-name'), queue ? capital(queue.name) : here ? 'Nothing waits here' : 'Waiting');
  setText(element.querySelector('.queue-depth'), queue ? depthOf(queue, text) : '–');
  const bar = element.querySelector('.queue-bar');
  bar.hidden = !queue?.limit;
  if (!queue?.limit) return;
  const share = Math.min(1, queue.depth / queue.limit);
  bar.dataset.level = share >= 0.95 ? 'full' : share >= 0.8 ? 'high' : 'normal';
  bar.querySelector('.queue-fill').style.width = `${Math.max(share * 100, queue.depth > 0 ? 1 : 0)}%`;
}

function depthOf({ depth, limit, within }, text) {
  if (limit) return `${text(depth)} of ${text(limit)}`;
  return within ? `${text(depth)} in ${within === 'kafka' ? 'Kafka' : 'the spool'}` : text(depth);
}

function showCounters(list, { counters, onward }) {
  const shown = counters.filter(({ kind, value }) => kind !== 'failure' || value > 0);
  const items = shown.map(({ name, label, value, limit, kind, by }) => ({
    key: name,
    term: label,
    value: limit ? `${compact(value)} of ${compact(limit)}` : compact(value),
    kind: value > 0 ? kind : 'none',
    hint: Object.keys(by).length > 1 || kind === 'exit' || kind === 'failure' ? breakdown(by) : '',
    exact: whole(value),
  }));
  if (onward?.latencyMs) {
    const hint = `${capital(onward.latencyOf)}, of the last minute`;
    items.push({ key: 'onward p50', term: 'in Kafka, half', value: latency(onward.latencyMs.p50), hint });
    items.push({ key: 'onward p99', term: 'in Kafka, 99 %', value: latency(onward.latencyMs.p99), hint });
  }
  reconcile(list, items, ({ key }) => key, createPair, updatePair);
}

function breakdown(by) {
  return Object.entries(by)
    .filter(([, value]) => value > 0)
    .sort((a, b) => b[1] - a[1])
    .slice(0, 6)
    .map(([label, value]) => `${label}: ${whole(value)}`)
    .join('\n');
}

function createPair() {
  return make('div', { class: 'pair' }, make('dt'), make('dd'));
}

function updatePair(pair, { term, value, kind = '', hint = '', exact }) {
  pair.dataset.kind = kind;
  setText(pair.firstChild, term);
  setText(pair.lastChild, value);
  pair.title = [exact && exact !== value ? exact : '', hint].filter(Boolean).join('\n');
}

function sparkline() {
  const svg = makeSvg('svg', {
    class: 'spark',
    viewBox: `0 0 ${HISTORY - 1} 30`,
    preserveAspectRatio: 'none',
    'aria-hidden': 'true',
  });
  svg.append(makeSvg('path', { class: 'spark-area' }), makeSvg('path', { class: 'spark-line' }));
  return svg;
}

function drawSparkline(svg, rates) {
  const top = Math.max(...rates, 0) * 1.15 || 1;
  const start = HISTORY - rates.length;
  const points = rates.map((value, i) => `${start + i} ${(29 - (28 * value) / top).toFixed(1)}`);
  const [area, line] = svg.children;
  line.setAttribute('d', points.length > 1 ? `M${points.join('L')}` : '');
  area.setAttribute('d', points.length > 1 ? `M${start} 30L${points.join('L')}L${HISTORY - 1} 30Z` : '');
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
