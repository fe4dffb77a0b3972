/** What the spool is told when it opens, and what it tells about itself. */
import type { Clock } from '../clock.ts';
import type { Failure } from '../errors.ts';
import type { Telemetry } from '../telemetry.ts';
import type { Files } from './files.ts';

export interface SpoolOptions {
  readonly folder: string;
  /** All segments together. */
  readonly maxBytes: number;
  /** A segment is ended when the next group would make it larger. */
  readonly segmentBytes: number;
  /** What every reader has passed is kept up to this much, all segments together. */
  readonly historyBytes: number;
  /** Least time between the starts of two commits while busy. */
  readonly commitIntervalMs?: number;
  /** Consumer groups whose checkpoints hold segments back. Others read too, but may find segments gone. */
  readonly readers: readonly string[];
  /** Groups whose checkpoints hold segments like those of readers, but whose lag is no backlog. */
  readonly holders?: readonly string[];
  readonly clock: Clock;
  readonly telemetry: Telemetry;
  readonly files?: Files;
  /** Time between tries to become healthy again. */
  readonly probeIntervalMs?: number;
  /** How often the readers' checkpoints are looked at; ten times as often while the spool is full. */
  readonly refreshIntervalMs?: number;
}

export interface SpoolStats {
  /** Of all segments, without what is made ahead. */
  readonly bytes: number;
  readonly limitBytes: number;
  readonly firstOffset: number;
  readonly endOffset: number;
  /** By reader: offsets between its checkpoint and the end. */
  readonly backlog: Readonly<Record<string, number>>;
  /** Offsets since the start that no record has, because a write failed; and the end of the last such hole. */
  readonly voided: number;
  readonly voidTo: number;
  /** False: appends are refused, for this reason. */
  readonly healthy: boolean;
  readonly failure: Failure | null;
}
