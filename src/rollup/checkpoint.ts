/**
 * The commit: one offset, and beside it the few numbers that let an engine go on as if nothing had happened. Pure.
 *
 * Kafka keeps a metadata text with each committed offset, the spool's cursor file does the same. Ours is
 * `1 <WL> <F> <P> <S> <streams> <B>`, separated by blanks, `-` for minus infinity ("none"); `<B>` only where it means something:
 *
 * offset   L: the smallest offset that contributes to any open window. Reading starts again here.
 * WL       the watermark just before L, so that the replay decides about late readings as the first pass did.
 * F        every window with end <= F is durable; it is never emitted again.
 * P        the read position; what was late below it is in the late log already.
 * S        windows of the streams marked `!` are complete only if they start after S (truncated history; see engine.ts).
 * streams  one hash a stream, joined by `,`: its name, metrics, distinct fields and windows, grace and disorder. A stream whose hash is not
 *          among them is new or was changed: below L it was not read, or not by today's rules.
 * B        the group began in the middle of the log because the user chose so: it has no windows that start at or before B.
 *
 * About 80 characters for one stream; MAX_STREAMS of them fit into the 4,096 that Kafka allows.
 */
import { createHash } from 'node:crypto';
import type { Checkpoint } from '../log.ts';
import type { Stream } from '../stream.ts';
import { divide, type Stage, windowsOf } from './window.ts';

export const MAX_STREAMS = 400;

const VERSION = '1';
/** Changes when equal records would give other rows than before: other arithmetic, other admission. */
const RULES = 'rules-1';
const HASH_CHARACTERS = 8;

export interface Progress {
  readonly offset: number;
  readonly watermarkMs: number;
  readonly frontierMs: number;
  readonly position: number;
  readonly completeAfterMs: number;
  /** Hash of each stream -> whether `completeAfterMs` binds it. */
  readonly streams: ReadonlyMap<string, boolean>;
  readonly beganAfterMs?: number | undefined;
}

export function encodeCheckpoint(progress: Progress): Checkpoint {
  const numbers = [progress.watermarkMs, progress.frontierMs, progress.position, progress.completeAfterMs];
  const streams = [...progress.streams].map(([hash, bound]) => (bound ? `${hash}!` : hash));
  const began = progress.beganAfterMs === undefined ? [] : [encodeNumber(progress.beganAfterMs)];
  const metadata = [VERSION, ...numbers.map(encodeNumber), streams.join(','), ...began].join(' ');
  return { offset: progress.offset, metadata };
}

/** Null: not a checkpoint of this program, or of a version that meant something else. */
export function decodeCheckpoint(checkpoint: Checkpoint): Progress | null {
  const [version, watermark, frontier, position, completeAfter, streams, began, ...rest] =
    checkpoint.metadata.split(' ');
  if (version !== VERSION || streams === undefined || rest.length > 0) return null;
  const numbers = [watermark, frontier, position, completeAfter].map(decodeNumber);
  const [watermarkMs, frontierMs, readPosition, completeAfterMs] = numbers as [number, number, number, number];
  const beganAfterMs = began === undefined ? undefined : decodeNumber(began);
  if (
    Number.isNaN(beganAfterMs) ||
    numbers.some(Number.isNaN) ||
    readPosition < checkpoint.offset ||
    checkpoint.offset < 0
  )
    return null;
  return {
    offset: checkpoint.offset,
    watermarkMs,
    frontierMs,
    position: readPosition,
    completeAfterMs,
    ...(beganAfterMs === undefined ? undefined : { beganAfterMs }),
    streams: new Map(
      streams
        .split(',')
        .filter((hash) => hash !== '')
        .map((hash) => [hash.replace('!', ''), hash.endsWith('!')]),
    ),
  };
}

/**
 * Equal for two configurations of a stream if and only if (but for chance) they give equal rows for equal logs. Each of two
 * stages has its own, of its own windows: a change of the long ones does not concern the first.
 */
export function streamHash(
  stream: Stream,
  admission: { graceMs: number; disorderMs: number },
  stage: Stage = 'only',
): string {
  const windows = windowsOf(stream.windows, stage).map((window) => `${window.sizeMs}/${window.everyMs}`);
  const counted = stream.distinct?.length ? [stream.distinct] : [];
  const part = stage === 'only' ? [] : [stage, divide(stream.windows).jointMs];
  const rules = [
    RULES,
    stream.name,
    stream.metrics,
    windows,
    admission.graceMs,
    admission.disorderMs,
    ...counted,
    ...part,
  ];
  return createHash('sha256').update(JSON.stringify(rules)).digest('base64url').slice(0, HASH_CHARACTERS);
}

function encodeNumber(value: number): string {
  return value === Number.NEGATIVE_INFINITY ? '-' : String(value);
}

function decodeNumber(text: string | undefined): number {
  if (text === '-') return Number.NEGATIVE_INFINITY;
  return text !== undefined && /^-?\d+$/.test(text) ? Number(text) : Number.NaN;
}
