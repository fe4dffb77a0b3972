// The table of streams.
import { byId, make, reconcile, setText } from './dom.js';
import { compact, rate, whole } from './format.js';

const CELLS = ['name', 'topic', 'windows', 'devices', 'rate', 'accepted', 'refused', 'late', 'duplicates'];
const LABELS = ['', 'Topic', 'Windows', 'Devices', 'Readings/s', 'Accepted', 'Refused', 'Late', 'Duplicates'];
const TEXT_CELLS = new Set(['name', 'topic', 'windows']);

/** `chosen(name)` when a person picks a stream. */
export function showStreams(streams, chosen) {
  reconcile(
    byId('stream-rows'),
    streams,
    ({ name }) => name,
    (stream) => create(stream, chosen),
    update,
  );
}

function create(stream, chosen) {
  const row = make('tr');
  for (const [i, cell] of CELLS.entries())
    row.append(make('td', { class: TEXT_CELLS.has(cell) ? `is-${cell}` : 'number', 'data-label': LABELS[i] }));
  row.cells[0].append(make('button', { class: 'link', type: 'button', onclick: () => chosen(stream) }, stream.name));
  return row;
}

function update(row, stream) {
  const refused = Object.entries(stream.refusedBy).map(([code, count]) => `${code}: ${whole(count)}`);
  const values = [
    null,
    stream.topic || 'made of another stream',
    stream.windows.map(({ label }) => windowName(label)).join(', '),
    compact(stream.devices),
    rate(stream.ratePerSecond),
    compact(stream.accepted),
    compact(stream.refused),
    compact(stream.late),
    compact(stream.duplicates),
  ];
  for (const [i, value] of values.entries()) if (value !== null) setText(row.cells[i], value);
  row.cells[6].title = refused.join('\n');
  row.cells[6].classList.toggle('is-exit', stream.refused > 0);
}

/** `5m_1m` -> `5m every 1m` */
export function windowName(label) {
  return label.replace('_', ' every ');
}
