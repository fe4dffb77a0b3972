/**
 * Appended records that wait for the next commit, already encoded, with the callbacks that wait for it. Refused appends
 * stand in the same line, so that every callback fires in the order of the appends.
 */
import type { Failure, Outcome } from '../errors.ts';
import type { NewRecord } from '../log.ts';
import { encodeFrame, type FrameBuffer, frameBuffer, frameBytesAtMost } from './frame.ts';

export type OnDurable = (outcome: Outcome) => void;

const CHUNK_BYTES = 2 ** 20;
/** Chunks kept for reuse; a burst may use more. */
const SPARE_CHUNKS = 8;

/** Memory for frames that is used again and again. */
export class ChunkPool {
  readonly #spare: FrameBuffer[] = [];

  take(leastBytes: number): FrameBuffer {
    if (leastBytes > CHUNK_BYTES) return frameBuffer(Buffer.allocUnsafeSlow(leastBytes));
    return this.#spare.pop() ?? frameBuffer(Buffer.allocUnsafeSlow(CHUNK_BYTES));
  }

  giveBack(chunks: readonly FrameBuffer[]): void {
    for (const chunk of chunks) {
      if (chunk.bytes.length === CHUNK_BYTES && this.#spare.length < SPARE_CHUNKS) this.#spare.push(chunk);
    }
  }
}

/** One commit group in the making. */
export class Staging {
  /** Offset of its first record. */
  readonly first: number;
  /** Encoded records. */
  count = 0;
  bytes = 0;
  lastReceivedMs = 0;
  readonly #pool: ChunkPool;
  readonly #callbacks: OnDurable[] = [];
  /** By index of the callback: the appends that were refused. */
  readonly #refused = new Map<number, Failure>();
  readonly #chunks: FrameBuffer[] = [];
  readonly #filled: Uint8Array[] = [];
  #chunk: FrameBuffer | null = null;
  #used = 0;

  constructor(pool: ChunkPool, first: number) {
    this.#pool = pool;
    this.first = first;
  }

  get isEmpty(): boolean {
    return this.#callbacks.length === 0;
  }

  add(record: NewRecord, onDurable: OnDurable): void {
    this.#encode(record, false);
    this.#callbacks.push(onDurable);
  }

  /** One group, so one commit: with one callback, and after a crash all of them or none. */
  addBatch(records: readonly NewRecord[], onDurable: OnDurable): void {
    const last = records.length - 1;
    for (let i = 0; i <= last; i++) this.#encode(records[i]!, i < last);
    this.#callbacks.push(onDurable);
  }

  #encode(record: NewRecord, joined: boolean): void {
    const most = frameBytesAtMost(record);
    let chunk = this.#chunk;
    if (chunk === null || this.#used + most > chunk.bytes.length) {
      this.#seal();
      chunk = this.#pool.take(most);
      this.#chunk = chunk;
      this.#chunks.push(chunk);
    }
    const length = encodeFrame(chunk, this.#used, record, this.first + this.count, this.count, joined);
    this.#used += length;
    this.bytes += length;
    this.count++;
    if (record.receivedMs > this.lastReceivedMs) this.lastReceivedMs = record.receivedMs;
  }

  refuse(failure: Failure, onDurable: OnDurable): void {
    this.#refused.set(this.#callbacks.length, failure);
    this.#callbacks.push(onDurable);
  }

  /** The frames in order; nothing is added afterwards. */
  buffers(): readonly Uint8Array[] {
    this.#seal();
    return this.#filled;
  }

  #seal(): void {
    if (this.#chunk && this.#used > 0) this.#filled.push(this.#chunk.bytes.subarray(0, this.#used));
    this.#chunk = null;
    this.#used = 0;
  }

  /** Tells everyone, in order, and lets go of the memory. A callback that throws is a bug and ends the process. */
  settle(outcome: Outcome): void {
    this.#callbacks.forEach((onDurable, index) => {
      const failure = this.#refused.size > 0 ? this.#refused.get(index) : undefined;
      try {
        onDurable(failure ? { ok: false, failure } : outcome);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    });
    this.#pool.giveBack(this.#chunks);
  }
}
