// Dead letters: when, from where, why; opened, the payload as it came; and sending one again.
import { getJson, requeue } from './api.js';
import { byId, make, plain, plainLines, reconcile, setText, WHOLE_NAME } from './dom.js';
import { bytes, moment, whole } from './format.js';

const FIRST = 10;
const MOST = 500;
let limit = FIRST;
let token = null;
let canRequeue = false;

export function startDeadLetters() {
  byId('letters-more').addEventListener('click', () => {
    limit = Math.min(MOST, limit * 5);
    loadDeadLetters();
  });
  startTokenDialog();
}

export async function loadDeadLetters() {
  let answer;
  try {
    answer = await getJson('/api/v1/deadletters', { limit }, { signal: AbortSignal.timeout(10_000) });
  } catch (error) {
    setText(byId('letters-count'), `The dead letters cannot be read now: ${error.message}`);
    return;
  }
  canRequeue = answer.requeue;
  const letters = answer.deadLetters;
  setText(byId('letters-count'), words(letters.length));
  byId('letters-more').hidden = letters.length < limit || limit >= MOST;
  reconcile(byId('letters'), letters, ({ id }) => id, createLetter, updateLetter);
}

function words(count) {
  if (count === 0) return 'None. Every payload so far could be read.';
  const more = count >= limit ? `The newest ${whole(count)}.` : count === 1 ? 'One.' : `${whole(count)} in all.`;
  return canRequeue ? more : `${more} This gateway is read-only; set http.token to send them again from here.`;
}

/** How many by reason, since the gateway started. */
export function showReasons(by) {
  const reasons = Object.entries(by).sort((a, b) => b[1] - a[1]);
  setText(byId('letters-reasons'), reasons.map(([reason, count]) => `${reason} ${whole(count)}`).join(' · '));
}

function createLetter(letter) {
  const body = make('div', { class: 'letter-body' });
  const details = make(
    'details',
    {},
    make(
      'summary',
      {},
      make('span', { class: 'letter-time' }),
      make('span', { class: 'flag warning' }, letter.code),
      make(
        'span',
        { class: 'letter-topic', title: plain(letter.topic, WHOLE_NAME) },
        plain(letter.topic) || '(no topic)',
      ),
      make('span', { class: 'letter-reason', title: plain(letter.reason, WHOLE_NAME) }, plain(letter.reason, 300)),
    ),
    body,
  );
  details.addEventListener('toggle', () => {
    if (details.open && body.childElementCount === 0) open(letter, body);
  });
  return make('li', { class: 'letter' }, details);
}

function updateLetter(item, letter) {
  setText(item.querySelector('.letter-time'), moment(letter.receivedMs, Date.now()));
  const flag = item.querySelector('.flag');
  setText(flag, letter.requeuedMs === null ? letter.code : `${letter.code}, sent again`);
  flag.classList.toggle('warning', letter.requeuedMs === null);
}

async function open(letter, body) {
  body.replaceChildren(make('p', { class: 'quiet-text' }, 'Reading…'));
  let whole = letter;
  try {
    if (!letter.whole)
      whole = await getJson(
        `/api/v1/deadletters/${encodeURIComponent(letter.id)}`,
        {},
        { signal: AbortSignal.timeout(10_000) },
      );
  } catch (error) {
    body.replaceChildren(make('p', { class: 'quiet-text' }, error.message));
    return;
  }
  const facts = [
    ['Reason', plain(whole.reason, WHOLE_NAME)],
    ['Field', plain(whole.field) || 'the whole payload'],
    ['Topic', plain(whole.topic, WHOLE_NAME) || '(no topic)'],
    ['Stream', whole.stream || 'none: no stream has this topic'],
    ['Client', plain(whole.client, WHOLE_NAME) || 'unknown'],
    ['Id', whole.id],
  ];
  const result = make('p', { class: 'letter-result', role: 'status' });
  const button = make(
    'button',
    { class: 'button', type: 'button', onclick: () => sendAgain(letter, button, result) },
    'Send again',
  );
  button.disabled = !canRequeue || letter.requeuedMs !== null;
  if (letter.requeuedMs !== null) setText(result, sentBefore(letter.requeuedMs));
  else if (!canRequeue) setText(result, 'Read-only: no http.token is configured.');
  body.replaceChildren(
    make(
      'dl',
      { class: 'letter-facts' },
      ...facts.map(([term, value]) => make('div', { class: 'pair' }, make('dt', {}, term), make('dd', {}, value))),
    ),
    make(
      'p',
      { class: 'quiet-text' },
      `Payload, ${bytes(whole.bytes)}${whole.text === null ? ', not text, as hexadecimal' : ''}`,
    ),
    make(
      'pre',
      { class: whole.text === null ? 'payload is-hexadecimal' : 'payload', tabindex: '0' },
      whole.text === null ? hexadecimal(whole.base64) : plainLines(whole.text) || '(empty)',
    ),
    make('div', { class: 'letter-buttons' }, button, result),
  );
}

async function sendAgain(letter, button, result) {
  token ??= await askForToken();
  if (token === null) return;
  button.disabled = true;
  setText(result, 'Sending…');
  try {
    const answer = await requeue(letter.id, token);
    if (answer.result === 'accepted') letter.requeuedMs = Date.now();
    if (answer.result === 'already') letter.requeuedMs = answer.requeuedMs;
    setText(result, outcome(answer));
  } catch (error) {
    if (error.status === 401) token = null;
    setText(result, error.message);
  } finally {
    button.disabled = letter.requeuedMs !== null;
  }
}

function outcome({ result, readings, reason, requeuedMs }) {
  if (result === 'accepted') return `Accepted: ${readings} ${readings === 1 ? 'reading' : 'readings'} went to the log.`;
  return result === 'already' ? sentBefore(requeuedMs) : `Refused again: ${reason}`;
}

function sentBefore(requeuedMs) {
  return `Sent again ${moment(requeuedMs, Date.now())}, and accepted.`;
}

let answerToken = null;

function startTokenDialog() {
  const dialog = byId('token-dialog');
  const field = byId('token');
  const finish = (value) => {
    field.value = '';
    dialog.close();
    answerToken?.(value);
    answerToken = null;
  };
  byId('token-use').addEventListener('click', () => finish(field.value.trim() || null));
  byId('token-cancel').addEventListener('click', () => finish(null));
  field.addEventListener('keydown', (event) => {
    if (event.key === 'Enter') finish(field.value.trim() || null);
  });
  dialog.addEventListener('cancel', (event) => {
    event.preventDefault();
    finish(null);
  });
}

function askForToken() {
  byId('token-dialog').showModal();
  return new Promise((resolve) => {
    answerToken = resolve;
  });
}

function hexadecimal(base64) {
  const text = atob(base64);
  const lines = [];
  for (let at = 0; at < Math.min(text.length, 4_096); at += 16) {
    const codes = Array.from(text.slice(at, at + 16), (char) => char.charCodeAt(0));
    const hex = codes.map((code) => code.toString(16).padStart(2, '0')).join(' ');
    const plain = codes.map((code) => (code >= 32 && code < 127 ? String.fromCharCode(code) : '.')).join('');
    lines.push(`${at.toString(16).padStart(6, '0')}  ${hex.padEnd(47)}  ${plain}`);
  }
  if (text.length > 4_096) lines.push(`… ${text.length - 4_096} more bytes`);
  return lines.join('\n');
}
