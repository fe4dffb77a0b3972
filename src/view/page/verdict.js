// Is all well, and if not: what is wrong, what it means, and what to do.
import { byId, make, reconcile, setText } from './dom.js';
import { compact, duration, latency, rate } from './format.js';

const KIND = { error: 'Broken', warning: 'Attention', note: 'Note' };

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

function summary({ stages, board, role, ack }) {
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
  if (rollup.here && rollup.latencyMs) parts.push(`Windows are final up to ${latency(rollup.latencyMs.p50)} ago.`);
  return parts.join(' ');
}

/** What is serious is open; a note is one line until somebody wants to know more. */
function showProblems(problems, nowMs) {
  reconcile(byId('problems'), problems, keyOf, createProblem, (item, problem) => {
    const lastedMs = nowMs - problem.sinceMs;
    const since = problem.severity === 'note' || lastedMs < 3_000 ? '' : `for ${duration(lastedMs)}`;
    setText(item.querySelector('.problem-title'), problem.title);
    setText(item.querySelector('.problem-since'), since);
    setText(item.querySelector('.meaning'), problem.meaning);
    setText(item.querySelector('.way-out span'), problem.wayOut);
  });
}

function keyOf({ id, severity }) {
  return `${severity} ${id}`;
}

function createProblem({ severity }) {
  const summary = make(
    'summary',
    {},
    make('span', { class: 'problem-kind' }, KIND[severity]),
    make('span', { class: 'problem-title' }),
    make('span', { class: 'problem-since' }),
  );
  const text = make(
    'div',
    { class: 'problem-text' },
    make('p', { class: 'meaning' }),
    make('p', { class: 'way-out' }, make('strong', {}, 'What to do: '), make('span')),
  );
  return make(
    'li',
    { class: 'problem', 'data-severity': severity },
    make('details', { open: severity !== 'note' }, summary, text),
  );
}
