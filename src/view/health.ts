/**
 * Liveness and readiness, as an orchestrator asks for them. Pure.
 *
 * `/livez` fails only when a part has stopped for good, so that a restart is the remedy.
 * `/readyz` fails when a promise cannot be kept by this process: a listener is down, the spool is full or failing, or,
 * with `ack: kafka`, Kafka has been away for longer than KAFKA_AWAY_MS. Kafka (with `ack: spool`) or the store being away
 * is what the log is there for: the process stays ready and says that part's state.
 */
import type { PartStatus, PipelineStatus } from './feed.ts';

export const KAFKA_AWAY_MS = 15_000;

export interface PartHealth {
  readonly part: string;
  readonly stage: string;
  readonly state: PartStatus['state'];
  /** Whether this part, as it is, lets the process be ready. */
  readonly ready: boolean;
  /** What the state means for the data. */
  readonly means: string;
  readonly sinceMs: number;
  readonly failure?: { readonly code: string; readonly message: string };
}

export interface Health {
  readonly ok: boolean;
  readonly reason: string;
  readonly parts: readonly PartHealth[];
}

export function liveness(status: PipelineStatus): { ok: boolean; reason: string } {
  const stopped = status.parts.filter((part) => part.state === 'stopped');
  if (status.stopping || stopped.length === 0) return { ok: true, reason: 'running' };
  return { ok: false, reason: `${names(stopped)} stopped and will not come back without a restart` };
}

export function readiness(status: PipelineStatus, nowMs: number): Health {
  const parts = status.parts.map((part) => partHealth(part, status, nowMs));
  if (status.stopping) return { ok: false, reason: 'a stop in order is under way', parts };
  const blocking = parts.filter((part) => !part.ready);
  if (blocking.length === 0) return { ok: true, reason: 'every promise can be kept', parts };
  return { ok: false, reason: blocking.map((part) => `${part.part}: ${part.means}`).join('; '), parts };
}

function partHealth(part: PartStatus, status: PipelineStatus, nowMs: number): PartHealth {
  const { ready, means } = judge(part, status, nowMs);
  return {
    part: part.name,
    stage: part.stage,
    state: part.state,
    ready,
    means,
    sinceMs: part.sinceMs,
    ...(part.failure && part.state !== 'ok' ? { failure: part.failure } : undefined),
  };
}

function judge(part: PartStatus, status: PipelineStatus, nowMs: number): { ready: boolean; means: string } {
  if (part.state === 'ok') return { ready: true, means: 'works' };
  if (part.state === 'stopped') return { ready: false, means: 'stopped for good; only a restart helps' };
  switch (part.kind) {
    case 'listener':
      return { ready: false, means: part.state === 'starting' ? 'not listening yet' : 'devices cannot connect here' };
    case 'spool':
      return {
        ready: false,
        means:
          part.state === 'starting'
            ? 'reading what a former run left'
            : 'no reading can be made durable, so no device is acknowledged',
      };
    case 'kafka': {
      if (status.ack === 'spool' && status.role !== 'rollup') {
        return { ready: true, means: 'readings are acknowledged and wait in the spool' };
      }
      if (status.role === 'rollup') return { ready: true, means: 'windows close when it is back' };
      const awayMs = nowMs - part.sinceMs;
      return part.state !== 'starting' && awayMs < KAFKA_AWAY_MS
        ? { ready: true, means: 'away for a moment; devices wait for their acknowledgement' }
        : { ready: false, means: 'with ack: kafka no device is acknowledged' };
    }
    case 'store':
      return { ready: true, means: 'rows wait; the log keeps the readings' };
    case 'rollup':
      return { ready: true, means: 'windows close later; the log keeps the readings' };
    case 'bridge':
      return { ready: true, means: 'readings of that broker arrive when it is back' };
  }
}

function names(parts: readonly PartStatus[]): string {
  return parts.map((part) => part.name).join(', ');
}
