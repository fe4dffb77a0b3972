/**
 * How many gateways, rollups and partitions so many events a second need, from what a message was measured to cost. Pure.
 * Each process costs what it did among the most that were measured; how that grew is said beside it, and not carried on: where
 * processes shared cores, they waited for one another, and that is in it. No thread is to be busier than UTILISATION.
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

/** As many processes as keep the busiest thread of each at or below UTILISATION, at the cost that so many have. */
export function planFor(measured: readonly Measured[], perSecond: number): Plan {
  const steps = [
    `${perSecond.toLocaleString('en')} events a second, no thread busier than ${100 * UTILISATION} % of a core:`,
  ];
  const of = (kind: 'gateway' | 'rollup') => {
    const [first, last] = [measured[0]!, measured.at(-1)!];
    const doublings = Math.log2(last.processes / first.processes);
    const growthOf = (key: keyof Cost) => (last[kind][key] / first[kind][key]) ** (1 / doublings);
    const { process: whole, busiestThread: thread } = last[kind];
    let count = 1;
    while (thread * (perSecond / 1e6) > UTILISATION * count * (1 + 1e-9)) count++;
    const cores = Math.ceil((whole * perSecond) / 1e6 / UTILISATION);
    steps.push(
      `${kind}: measured ${measured.map((one) => `${one[kind].process} (busiest thread ${one[kind].busiestThread})`).join(', ')} CPU-s per million at ${measured.map(({ processes }) => processes).join(', ')}`,
      `  growth with each doubling: ${growthOf('process').toFixed(2)}, busiest thread ${growthOf('busiestThread').toFixed(2)}; not carried on beyond what was measured`,
      `  so at the cost of the most processes measured: ${whole.toFixed(1)} CPU-s per million, busiest thread ${thread.toFixed(1)}; ${thread.toFixed(1)} x ${perSecond / 1e6} / ${UTILISATION} = ${((thread * perSecond) / 1e6 / UTILISATION).toFixed(1)}, rounded up ${count} processes`,
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
