// The connection to the gateway: one stream of events, opened again whenever it breaks, goes silent, or the watched
// series changes. The gateway sends something every second, so silence means that it is gone.
import { address } from './api.js';

const SILENT_MS = 6_000;
const RETRY_MS = [1_000, 2_000, 3_000, 5_000];
const EVENTS = ['status', 'devices', 'running', 'rows'];

/**
 * `handlers.status(data)`, `.devices`, `.running`, `.rows` for events; `.state('live' | 'lost')`; `.resync()` when events
 * were missed and what is shown must be asked for again.
 */
export function startLive(handlers) {
  let source = null;
  let watch = {};
  let heardAt = 0;
  let failures = 0;
  let state = 'connecting';
  let retry = null;
  let missed = false;

  const heard = () => {
    heardAt = performance.now();
    failures = 0;
    if (state !== 'live') {
      state = 'live';
      handlers.state('live');
    }
    if (missed) {
      missed = false;
      handlers.resync();
    }
  };

  const open = () => {
    clearTimeout(retry);
    source?.close();
    heardAt = performance.now();
    source = new EventSource(address('/api/v1/live', watch));
    const mine = source;
    for (const name of EVENTS) {
      mine.addEventListener(name, (event) => {
        if (mine !== source) return;
        heard();
        handlers[name](JSON.parse(event.data));
      });
    }
    mine.addEventListener('skipped', () => {
      missed = true;
    });
    mine.addEventListener('error', () => {
      if (mine === source) lost();
    });
  };

  const lost = () => {
    source?.close();
    source = null;
    missed = true;
    if (state !== 'lost') {
      state = 'lost';
      handlers.state('lost');
    }
    clearTimeout(retry);
    retry = setTimeout(open, RETRY_MS[Math.min(failures++, RETRY_MS.length - 1)]);
  };

  setInterval(() => {
    if (source && performance.now() - heardAt > SILENT_MS) lost();
  }, 1_000);
  // A laptop that wakes up, a tab that was put to sleep: look at once.
  addEventListener('online', open);
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden && state === 'lost') open();
  });

  open();
  return {
    watch(next) {
      if (JSON.stringify(next) === JSON.stringify(watch)) return;
      watch = next;
      open();
    },
  };
}
