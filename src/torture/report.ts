/** What a torture run found, for programs (`--json`) and for people. */
import type { Claim } from './claim.ts';

export interface HappenedFault {
  readonly name: string;
  readonly text: string;
  readonly count: number;
  /** How it is known; why it could not be. */
  readonly evidence: string;
  /** This system or pipeline cannot have it: not missing from the run. */
  readonly impossible: boolean;
}

export type Verdict =
  /** Every claim held, and every fault happened. */
  | 'held'
  /** At least one claim is false. */
  | 'broken'
  /** No claim is false, but some fault did not happen, or there was nothing to look at. */
  | 'inconclusive';

export interface TortureReport {
  readonly verdict: Verdict;
  /** Processes were watched, not killed. */
  readonly soak: boolean;
  readonly seed: number;
  readonly seconds: number;
  /** `embedded`, or the servers. */
  readonly against: string;
  readonly mutant: string | null;
  readonly published: number;
  readonly acknowledged: number;
  readonly rows: number;
  /** The longest time from the end of a fault until devices were acknowledged again. */
  readonly longestRecoveryMs: number;
  readonly faults: readonly HappenedFault[];
  readonly claims: readonly Claim[];
  /** Faults that did not happen, and other reasons why the run proves less than it should. */
  readonly missing: readonly string[];
  /** Ledgers, data and outputs of all processes; null: nothing was wrong, it is gone. */
  readonly folder: string | null;
}

export function verdictOf(claims: readonly Claim[], missing: readonly string[]): Verdict {
  if (claims.some((claim) => claim.findings > 0)) return 'broken';
  return missing.length > 0 || claims.some((claim) => !claim.held) ? 'inconclusive' : 'held';
}

export function describe(report: TortureReport): string[] {
  const { soak, seed, seconds, against, mutant, faults, claims, missing, folder } = report;
  const lines = [
    '',
    `${soak ? 'Soak' : 'Torture'} of ${mutant === null ? 'Millrace' : `Millrace with a planted bug, ${mutant},`} for ${Math.round(seconds)} s, against ${against}, seed ${seed}`,
    '',
    `${count(report.published)} messages published by simulated devices, ${count(report.acknowledged)} acknowledged, ${count(report.rows)} rows`,
    `At most ${(report.longestRecoveryMs / 1_000).toFixed(1)} s from the end of a fault until devices were acknowledged again`,
    '',
    'What really happened',
  ];
  for (const fault of faults) {
    const times = fault.impossible ? 'not possible' : count(fault.count);
    lines.push(`  ${times.padStart(12)}  ${fault.text}${fault.evidence === '' ? '' : `: ${fault.evidence}`}`);
  }
  lines.push('', 'Claims');
  for (const claim of claims) {
    const word = claim.findings > 0 ? 'FALSE' : claim.held ? 'held' : 'open';
    const looked = `${count(claim.checked)} ${claim.unit}${claim.note === '' ? '' : `; ${claim.note}`}`;
    lines.push(`  ${word.padEnd(6)}${claim.text}`, `        ${looked}`);
    if (claim.findings > 0) lines.push(`        ${count(claim.findings)} contradictions, such as`);
    for (const example of claim.examples) lines.push(`          ${example}`);
  }
  lines.push('', closing(report));
  for (const reason of missing) lines.push(`  ${reason}`);
  if (folder !== null) lines.push(`  Ledgers, data and outputs: ${folder}`);
  return lines;
}

function closing({ verdict, mutant }: TortureReport): string {
  if (mutant !== null) return verdict === 'broken' ? 'The planted bug was caught.' : 'The planted bug was NOT caught.';
  if (verdict === 'held') return 'Every claim held, under every fault.';
  return verdict === 'broken' ? 'At least one claim is FALSE.' : 'Inconclusive: nothing was false, but';
}

function count(value: number): string {
  return value.toLocaleString('en');
}
