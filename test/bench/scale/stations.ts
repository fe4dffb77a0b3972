/**
 * What a message waits for on its way, station by station: a thread that works on one after the other, the group commit of the spool, and
 * the requests that forwarding makes. Each takes times in ascending order and answers, for each, when it is through, again ascending. Pure.
 * Nothing that comes later changes what came before (load is open, queues have no end), so no event queue is needed. All in milliseconds.
 */

/** One server, first come, first served. */
export function serve(timesMs: Float64Array, serviceMs: (index: number) => number): Float64Array {
  const doneMs = new Float64Array(timesMs.length);
  let freeMs = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < timesMs.length; i++) {
    freeMs = Math.max(freeMs, timesMs[i]!) + serviceMs(i);
    doneMs[i] = freeMs;
  }
  return doneMs;
}

/** As the spool commits: all that is there goes together; groups begin at least `intervalMs` apart, one after the other. */
export function commitInGroups(timesMs: Float64Array, intervalMs: number, commitMs: () => number): Float64Array {
  return inGroups(timesMs, (firstMs, begunMs, doneMs) => Math.max(firstMs, begunMs + intervalMs, doneMs), commitMs)
    .doneMs;
}

export interface Requests {
  readonly doneMs: Float64Array;
  /** Which request took it, ascending from 0. */
  readonly request: Int32Array;
  readonly count: number;
}

/** As forwarding sends: the first that waits has waited `lingerMs`, all that is there goes along, one request after the other. */
export function sendInRequests(timesMs: Float64Array, lingerMs: number, requestMs: number): Requests {
  return inGroups(
    timesMs,
    (firstMs, _, doneMs) => Math.max(firstMs + lingerMs, doneMs),
    () => requestMs,
  );
}

/** A group begins at `beginMs` of its first member and of when the group before it began and was done, and takes all that is there. */
function inGroups(
  timesMs: Float64Array,
  beginMs: (firstMs: number, begunMs: number, doneMs: number) => number,
  takesMs: () => number,
): Requests {
  const done = new Float64Array(timesMs.length);
  const group = new Int32Array(timesMs.length);
  let [begunMs, doneMs, count] = [Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY, 0];
  for (let i = 0; i < timesMs.length; count++) {
    begunMs = beginMs(timesMs[i]!, begunMs, doneMs);
    doneMs = begunMs + takesMs();
    for (; i < timesMs.length && timesMs[i]! <= begunMs; i++) {
      done[i] = doneMs;
      group[i] = count;
    }
  }
  return { doneMs: done, request: group, count };
}
