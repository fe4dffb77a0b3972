// What is known of the chosen device itself: when it was last seen, its clock, gaps in its sequence, what it had refused.
import { getJson } from './api.js';
import { byId, make, plain, reconcile, setText } from './dom.js';
import { ago, duration, whole } from './format.js';

const AGAIN_MS = 2_000;
const IN_STEP_MS = 1_000;
const WRONG_CLOCK_MS = 30_000;

export function startFacts() {
  let chosen = null;
  let known = null;

  async function load() {
    if (!chosen?.key || document.hidden) return;
    const mine = chosen;
    try {
      const { stream, key } = mine;
      const answer = await getJson('/api/v1/devices', { stream, key }, { signal: AbortSignal.timeout(5_000) });
      if (mine !== chosen) return;
      known = answer.devices[0] ?? null;
      show(Date.now());
    } catch {
      // The connection's state is shown at the top; the next look asks again.
    }
  }

  function show(nowMs) {
    const create = ([term]) => make('div', { class: 'pair' }, make('dt', {}, term), make('dd'));
    reconcile(
      byId('device-facts'),
      factsOf(known, nowMs),
      ([term]) => term,
      create,
      (pair, [, value, tone = '', title = '']) => {
        setText(pair.lastChild, value);
        pair.dataset.tone = tone;
        pair.title = title;
      },
    );
  }

  setInterval(load, AGAIN_MS);
  return {
    choose({ stream, key }) {
      chosen = { stream, key };
      known = null;
      byId('device-facts').hidden = key === '';
      load();
    },
    /** `nowMs`: the gateway's clock. */
    tick: (nowMs) => known && show(nowMs),
  };
}

function factsOf(device, nowMs) {
  if (!device) {
    const note = 'not since this gateway started';
    return [['Last seen', note], ...['Readings', 'Missing', 'Clock', 'Refused'].map((term) => [term, '–'])];
  }
  const { receivedMs, silent, readings, missing, gaps, restarts, skewMs, refusals, lastRefusal, sequence } = device;
  const reason = lastRefusal ? plain(lastRefusal.reason, 300) : '';
  return [
    [
      'Last seen',
      receivedMs === null ? 'never accepted' : ago(receivedMs, Math.max(nowMs, receivedMs)),
      silent ? 'warn' : '',
    ],
    [
      'Readings',
      `${whole(readings)}${restarts > 0 ? `, ${whole(restarts)} ${restarts === 1 ? 'restart' : 'restarts'}` : ''}`,
    ],
    ['Missing', sequence === null ? 'no sequence' : lost(missing, gaps), missing > 0 ? 'warn' : ''],
    [
      'Clock',
      clock(skewMs, readings),
      Math.abs(skewMs) > WRONG_CLOCK_MS ? 'warn' : '',
      `received ${skewMs} ms after its stamp`,
    ],
    ['Refused', refusals === 0 ? 'none' : `${whole(refusals)}: ${reason}`, refusals > 0 ? 'warn' : '', reason],
  ];
}

function lost(missing, gaps) {
  if (missing === 0) return 'none';
  // What came late has filled its gap: then their number says nothing.
  return gaps > missing ? whole(missing) : `${whole(missing)} in ${whole(gaps)} ${gaps === 1 ? 'gap' : 'gaps'}`;
}

/** `skewMs`: how long after its own stamp a reading arrives. */
function clock(skewMs, readings) {
  if (readings === 0) return '–';
  if (Math.abs(skewMs) < IN_STEP_MS) return 'in step';
  return `${duration(Math.abs(skewMs))} ${skewMs > 0 ? 'behind' : 'ahead'}`;
}
