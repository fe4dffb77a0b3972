/**
 * How many gateways, rollups and partitions so many events a second need, from what a message was measured to cost. Pure.
 * A message costs what it did flat out in one gateway and one rollup, times what it cost more among the most processes than among the
 * fewest where each had the same rate; that growth is not carried on beyond what was measured. No thread is to be busier than UTILISATION.
 */
export interface Cost {
  /** CPU seconds of a million messages. */
  readonly process: number;
  readonly busiestThread: number;
}

export interface Measured {
  readonly processes: number;
  readonly gateway: Cost;
  readonly rollup: Cost;
}

export interface Costs {
  /** Every process with the same rate, from the fewest processes to the most. */
  readonly steady: readonly Measured[];
  /** The fewest processes, with all that they can take. */
  readonly flatOut: Measured;
}

/** Of a core that a thread may use. */
const UTILISATION = 0.6;
/** A rollup's partitions, so that rollups can be added before topics must be changed. */
export const PARTITIONS_PER_ROLLUP = 4;

export interface Plan {
  readonly gateways: number;
  readonly rollups: number;
  readonly partitions: number;
  readonly cores: number;
  readonly steps: readonly string[];
}

/** What a message costs more among the most processes than among the fewest, at the same rate for each; 1 where it costs less. */
export function growthOf(steady: readonly Measured[], kind: 'gateway' | 'rollup', key: keyof Cost): number {
  return Math.max(1, steady.at(-1)![kind][key] / steady[0]![kind][key]);
}

/** As many processes as keep the busiest thread of each at or below UTILISATION. */
export function planFor({ steady, flatOut }: Costs, perSecond: number): Plan {
  const steps = [
    `${perSecond.toLocaleString('en')} events a second, no thread busier than ${100 * UTILISATION} % of a core:`,
  ];
  const of = (kind: 'gateway' | 'rollup') => {
    const costOf = (key: keyof Cost) => flatOut[kind][key] * growthOf(steady, kind, key);
    const [whole, thread] = [costOf('process'), costOf('busiestThread')];
    let count = 1;
    while (thread * (perSecond / 1e6) > UTILISATION * count * (1 + 1e-9)) count++;
    const cores = Math.ceil((whole * perSecond) / 1e6 / UTILISATION);
    steps.push(
      `${kind}: ${flatOut[kind].process} CPU-s per million flat out, ${flatOut[kind].busiestThread} of them in the busiest thread`,
      `  at the same rate for each: ${steady.map((one) => `${one[kind].process} (${one[kind].busiestThread})`).join(', ')} with ${steady.map(({ processes }) => processes).join(', ')} of them, so times ${growthOf(steady, kind, 'process').toFixed(2)} (${growthOf(steady, kind, 'busiestThread').toFixed(2)})`,
      `  ${thread.toFixed(1)} x ${perSecond / 1e6} / ${UTILISATION} = ${((thread * perSecond) / 1e6 / UTILISATION).toFixed(1)}, rounded up ${count} processes`,
      `  ${whole.toFixed(1)} x ${perSecond / 1e6} / ${UTILISATION} = ${cores} cores`,
    );
    return { count, cores };
  };
  const [gateway, rollup] = [of('gateway'), of('rollup')];
  const partitions = rollup.count * PARTITIONS_PER_ROLLUP;
  steps.push(
    `partitions: ${rollup.count} rollups x ${PARTITIONS_PER_ROLLUP} = ${partitions}, ${Math.round(perSecond / partitions).toLocaleString('en')} events a second each`,
  );
  const cores = gateway.cores + rollup.cores;
  steps.push(`together ${gateway.count} gateways, ${rollup.count} rollups, ${partitions} partitions, ${cores} cores`);
  return { gateways: gateway.count, rollups: rollup.count, partitions, cores, steps };
}
