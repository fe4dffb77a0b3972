/**
 * How fast a metric may change: |value - last| <= max * (time - last time) / per, for each series by itself. `last` is the
 * reading of the series with the latest event time that was accepted with this metric. A reading at or before that time is
 * not compared and does not become the last: it is a redelivery or came late. A value that changes too fast does not become
 * the last either, so a sensor that really jumped is believed again when enough time has passed for the jump.
 *
 * What is remembered lives with the series (series.ts) and does not outlive the process: after a restart, and after a series
 * was idle for so long that it was forgotten, the first value is accepted whatever it is. A dead letter sent again is neither
 * compared nor remembered. On refusal of a batch, what its readings changed in memory is put back.
 */
import type { Rate, Stream } from '../stream.ts';
import { formatDuration } from '../units.ts';
import { parseField } from './field.ts';
import { Problem } from './refusal.ts';
import type { Last, Series } from './series.ts';

export interface RateCheck {
  readonly name: string;
  readonly pointer: string;
  readonly rate: Rate;
}

/** Null: nothing is to be checked. */
export function makeRates({ rate = {} }: Stream): readonly RateCheck[] | null {
  const checks = Object.entries(rate).map(([name, limits]) => ({
    name,
    pointer: parseField(name).pointer,
    rate: limits,
  }));
  return checks.length === 0 ? null : checks;
}

/** What one message has changed, to be put back if it is refused. */
export class RateUndo {
  readonly #steps: { readonly series: Series; readonly name: string; readonly last: Last | undefined }[] = [];

  remember(series: Series, name: string, last: Last): void {
    series.lasts ??= new Map();
    this.#steps.push({ series, name, last: series.lasts.get(name) });
    series.lasts.set(name, last);
  }

  putBack(): void {
    for (const { series, name, last } of this.#steps.reverse()) {
      if (last) series.lasts?.set(name, last);
      else series.lasts?.delete(name);
    }
  }
}

/** Leaves out what is to be dropped; answers why the reading is none, or null. */
export function checkRates(
  checks: readonly RateCheck[],
  series: Series,
  timeMs: number,
  values: Record<string, number>,
  undo: RateUndo,
): Problem | null {
  let dropped: Problem | null = null;
  for (const { name, pointer, rate } of checks) {
    const value = values[name];
    if (value === undefined) continue;
    const last = series.lasts?.get(name);
    if (last !== undefined) {
      if (timeMs <= last.timeMs) continue;
      const change = value - last.value;
      if (Math.abs(change) > (rate.max * (timeMs - last.timeMs)) / rate.perMs) {
        const allowed = `${rate.max} in ${formatDuration(rate.perMs)}`;
        const reason = `${name}: ${value} is ${change} from ${last.value} ${timeMs - last.timeMs} ms before, faster than ${allowed}`;
        const problem = new Problem('number-out-of-range', pointer, reason);
        if (rate.beyond === 'refuse') return problem;
        delete values[name];
        dropped ??= problem;
        continue;
      }
    }
    undo.remember(series, name, { timeMs, value });
  }
  for (const _ in values) return null;
  return dropped;
}
