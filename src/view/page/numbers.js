// The numbers behind the chart: of one window, and the newest rows as a table.
import { make, reconcile, setText } from './dom.js';
import { measure, moment, time, whole } from './format.js';

const TABLE_ROWS = 20;
const STATISTICS = [
  ['mean', 'Mean'],
  ['min', 'Min'],
  ['max', 'Max'],
  ['stddev', 'Std dev'],
  ['p50', 'p50'],
  ['p95', 'p95'],
  ['p99', 'p99'],
];

/** `shown`: `{ row, isRunning }` or null. */
export function fillReadout(list, shown, nowMs) {
  const facts = shown ? factsOf(shown, nowMs) : [];
  const create = ([term]) => make('div', { class: 'pair' }, make('dt', {}, term), make('dd'));
  reconcile(
    list,
    facts,
    ([term]) => term,
    create,
    (pair, [, value, alert]) => {
      setText(pair.lastChild, value);
      pair.dataset.alert = String(alert === true);
    },
  );
}

function factsOf({ row, isRunning }, nowMs) {
  const statistics = row.mean === null ? [] : STATISTICS;
  return [
    ['Window', `${moment(row.startMs, nowMs)} to ${time(row.endMs)}`],
    ['State', stateOf(row, isRunning), isRunning],
    ['Count', whole(row.count)],
    ...statistics.map(([field, name]) => [name, measure(row[field], true)]),
    ['Missing', whole(row.missing), row.missing > 0],
    ['Duplicates', whole(row.duplicates)],
  ];
}

function stateOf(row, isRunning) {
  if (isRunning) return 'still open';
  return row.rev > 0 ? `repaired ${row.rev}×` : 'final';
}

/** The open windows and the newest closed ones, newest first. */
export function fillTable(table, finals, open, nowMs) {
  const shown = [
    ...open.map((row) => ({ row, isRunning: true })),
    ...finals.slice(-TABLE_ROWS).map((row) => ({ row, isRunning: false })),
  ].sort((a, b) => b.row.startMs - a.row.startMs);
  const statistics = shown[0]?.row.mean === null ? [] : STATISTICS;
  const names = ['Window', 'State', 'Count', ...statistics.map(([, name]) => name), 'Missing', 'Duplicates'];
  const cells = ({ row, isRunning }) => [
    moment(row.startMs, nowMs),
    stateOf(row, isRunning),
    whole(row.count),
    ...statistics.map(([field]) => measure(row[field], true)),
    whole(row.missing),
    whole(row.duplicates),
  ];
  const style = (column) => ({ class: column > 1 ? 'number' : '' });
  const line = (entry) =>
    make(
      'tr',
      { class: entry.isRunning ? 'is-open' : '' },
      ...cells(entry).map((text, i) => make('td', style(i), text)),
    );
  const head = names.map((name, i) => make('th', { scope: 'col', ...style(i) }, name));
  table.replaceChildren(make('thead', {}, make('tr', {}, ...head)), make('tbody', {}, ...shown.map(line)));
}
