/** A problem, and the situation in which problems are looked for. */
import type { Alert } from '../alert.ts';
import type { Stream } from '../stream.ts';
import type { BoardSummary, StreamView } from './board.ts';
import type { PipelineStatus, StageName } from './feed.ts';
import type { Growth } from './meter.ts';
import type { StageStatus } from './stages.ts';

export type Severity = 'error' | 'warning' | 'note';

export interface Problem {
  /** Stable while the same thing is wrong. */
  readonly id: string;
  readonly severity: Severity;
  readonly stage: StageName;
  readonly title: string;
  readonly meaning: string;
  readonly wayOut: string;
  readonly sinceMs: number | null;
}

export interface Recent {
  readonly turnedAway: Growth;
  readonly accepted: Growth;
  readonly deadLetters: Growth;
  readonly counted: Growth;
  readonly late: Growth;
}

export interface Situation {
  readonly status: PipelineStatus;
  readonly stages: readonly StageStatus[];
  readonly board: BoardSummary;
  readonly streams: readonly StreamView[];
  readonly configured: Readonly<Record<string, Stream>>;
  readonly nowMs: number;
  /** What came in the last minute. */
  readonly recent: Recent;
  /** Raised and not cleared. */
  readonly alerts: readonly Alert[];
  /** Readings that no term of the ledger explains. */
  readonly imbalance: number;
  /** Growth of the spool in bytes per second, and of the unread part of the log in records per second. */
  readonly spoolGrowth: number;
  readonly lagGrowth: number;
}
