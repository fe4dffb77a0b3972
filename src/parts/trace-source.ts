/**
 * Makes trace contexts for messages that bring none, and counts where they came from. A made one is marked as sampled:
 * whoever has `trace:` set wants to follow these readings.
 */
import { randomFillSync } from 'node:crypto';
import type { Telemetry } from '../telemetry.ts';
import type { TraceSource } from '../traceparent.ts';

const ID_BYTES = 24;
/** Random bytes are dear by the call, not by the byte. */
const POOL_BYTES = 512 * ID_BYTES;

export function createTraceSource(telemetry: Telemetry): TraceSource {
  const pool = Buffer.alloc(POOL_BYTES);
  let at = POOL_BYTES;
  const counters = {
    payload: telemetry.traceContexts.labels('payload'),
    made: telemetry.traceContexts.labels('made'),
    invalid: telemetry.traceContexts.labels('invalid'),
  };
  return {
    make() {
      if (at === POOL_BYTES) {
        randomFillSync(pool);
        at = 0;
      }
      const hex = pool.toString('hex', at, at + ID_BYTES);
      at += ID_BYTES;
      return `00-${hex.slice(0, 32)}-${hex.slice(32)}-01`;
    },
    seen: (outcome) => counters[outcome].inc(),
  };
}
