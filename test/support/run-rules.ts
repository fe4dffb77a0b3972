/** The streams and the rules that tests of the whole rollup share; each takes the windows that it needs. */
import type { StreamRules } from '../../src/torture/ledger-readings.ts';
import type { RunRules } from './rollup-run.ts';

/** What simulated devices of the profile `environment` publish. */
export const ENVIRONMENT: StreamRules = {
  name: 'environment',
  topic: 'sensors/{site}/{device}/environment',
  time: 'ts',
  sequence: 'seq',
  metrics: ['temperature', 'humidity', 'pressure'],
  windows: ['10s', '1m', '5m_1m', '15m', '1h'],
};

/** Events without a metric, known by their fields. */
export const CLICKS: StreamRules = {
  name: 'clicks',
  topic: 'web/{app}/clicks',
  time: 'timestamp',
  identity: ['userid', 'page', 'timestamp'],
  tags: ['page'],
  metrics: [],
  windows: ['10s', '1m', '1h'],
};

/** One metric from devices of the test's own making. */
export const TEMPERATURE: StreamRules = {
  name: 'environment',
  topic: 'sensors/{site}/{device}/environment',
  time: 'ts',
  metrics: ['temperature'],
  windows: ['10s', '1m'],
};

/** Windows close soon, for a clock that moves in steps of ten seconds. */
export function rulesFor(
  streams: readonly StreamRules[],
  times: Partial<Pick<RunRules, 'graceMs' | 'disorderMs' | 'skewMs'>> = {},
): RunRules {
  return { graceMs: 5_000, disorderMs: 500, skewMs: 60_000, ...times, streams };
}
