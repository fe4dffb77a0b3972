// Is all well, and if not: what is wrong, what it means, and what to do.
import { byId, make, plain, reconcile, setText } from './dom.js';
import { compact, duration, latency, rate } from './format.js';

const KIND = { error: 'Broken', warning: 'Attention', note: 'Note' };
const MOST_CHARACTERS = 600;
/** By the id of a problem: what a person wants to see next. */
const SHOW = {
  'silent devices': ['Show the silent devices', { order: 'seen' }],
  skew: ['Show the devices with a wrong clock', { order: 'skew' }],
  gaps: ['Show the devices with gaps', { order: 'missing' }],
  'dead letters': ['Go to the dead letters', { section: 'deadletters' }],
};

let show = () => {};

/** `wanted({ order })` or `wanted({ section })` when a person wants to see what a problem is about. */
export function startVerdict(wanted) {
  show = wanted;
}

export function showVerdict(status) {
  byId('verdict').dataset.verdict = status.verdict;
  setText(byId('verdict-title'), headline(status));
  setText(byId('verdict-sub'), summary(status));
  showProblems(status.problems, status.nowMs);
}

export function showLost() {
  byId('verdict').dataset.verdict = 'lost';
  setText(byId('verdict-title'), 'No connection to the gateway');
  setText(
    byId('verdict-sub'),
    'What is shown is old. This page connects again by itself. If it does not: is the process running, and can this computer reach it?',
  );
  showProblems([], 0);
}

function headline({ verdict, problems, stages }) {
  const errors = problems.filter(({ severity }) => severity === 'error').length;
  const warnings = problems.filter(({ severity }) => severity === 'warning').length;
  if (verdict === 'broken') return errors === 1 ? 'Something is broken' : `${errors} things are broken`;
  if (verdict === 'attention')
    return warnings === 1 ? 'Flowing, but one thing needs attention' : `${warnings} things need attention`;
  const first = stages.find(({ here }) => here);
  return first && first.ratePerSecond > 0 ? 'All is well: readings are flowing' : 'All is well: waiting for readings';
}

function summary({ stages, board, role, ack, finalBehindMs }) {
  const parts = [];
  const inspect = stages.find(({ name }) => name === 'inspect');
  const ingress = stages.find(({ name }) => name === 'ingress');
  const rollup = stages.find(({ name }) => name === 'rollup');
  if (role !== 'rollup') {
    parts.push(
      `${rate(inspect.ratePerSecond)} readings a second from ${compact(board.devices)} ${board.devices === 1 ? 'device' : 'devices'}.`,
    );
    if (ingress.latencyMs)
      parts.push(
        `Acknowledged within ${latency(ingress.latencyMs.p99)} (99 of 100), when ${ack === 'kafka' ? 'Kafka has them' : 'they are on disk'}.`,
      );
  }
  if (rollup.here && finalBehindMs !== null) parts.push(`Windows are final up to ${latency(finalBehindMs)} ago.`);
  return parts.join(' ');
}

/** What is serious is open; a note is one line until somebody wants to know more. */
function showProblems(problems, nowMs) {
  reconcile(byId('problems'), problems, keyOf, createProblem, (item, problem) => {
    const lastedMs = nowMs - problem.sinceMs;
    const since = problem.severity === 'note' || lastedMs < 3_000 ? '' : `for ${duration(lastedMs)}`;
    if (item.dataset.severity !== problem.severity) {
      item.dataset.severity = problem.severity;
      item.querySelector('details').open = problem.severity !== 'note';
    }
    setText(item.querySelector('.problem-kind'), KIND[problem.severity]);
    setText(item.querySelector('.problem-title'), plain(problem.title, MOST_CHARACTERS));
    setText(item.querySelector('.problem-since'), since);
    setText(item.querySelector('.meaning'), plain(problem.meaning, MOST_CHARACTERS));
    setText(item.querySelector('.way-out span'), plain(problem.wayOut, MOST_CHARACTERS));
  });
}

function keyOf({ id }) {
  return id;
}

function createProblem({ id, severity }) {
  const summary = make(
    'summary',
    {},
    make('span', { class: 'problem-kind' }),
    make('span', { class: 'problem-title' }),
    make('span', { class: 'problem-since' }),
  );
  const text = make(
    'div',
    { class: 'problem-text' },
    make('p', { class: 'meaning' }),
    make('p', { class: 'way-out' }, make('strong', {}, 'What to do: '), make('span')),
    id in SHOW && make('button', { class: 'link', type: 'button', onclick: () => show(SHOW[id][1]) }, SHOW[id][0]),
  );
  return make(
    'li',
    { class: 'problem', 'data-severity': severity },
    make('details', { open: severity !== 'note' }, summary, text),
  );
}
