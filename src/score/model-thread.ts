/**
 * One ONNX model in a worker thread of its own, so that a model that takes long, or never ends, holds up nothing else.
 *
 * One batch at a time: the caller waits for the answer. A batch that takes longer than `timeoutMs` ends the thread; the next
 * batch starts another one. A model that cannot be loaded is tried again no sooner than after RELOAD_AFTER_MS.
 */
import { Worker } from 'node:worker_threads';
import type { Clock } from '../clock.ts';
import { fail, messageOf, type Outcome, succeed } from '../errors.ts';
import { formatDuration } from '../units.ts';

export interface ModelThreadData {
  readonly file: string;
}

export interface Asked {
  readonly batch: number;
  readonly count: number;
  readonly windows: number;
  /** `count` rows of `windows` values. */
  readonly values: Float32Array;
}

export type Reason = 'load' | 'timeout' | 'error' | 'shape' | 'not-finite';

export type Answer =
  | { readonly batch: number; readonly scores: Float32Array }
  | { readonly batch: number; readonly reason: Reason; readonly message: string };

export const RELOAD_AFTER_MS = 60_000;

export interface ModelThreadOptions {
  readonly file: string;
  readonly windows: number;
  readonly timeoutMs: number;
  readonly clock: Clock;
  /** Default: the compiled one beside this file. */
  readonly entry?: URL | undefined;
  readonly failed: (reason: Reason) => void;
}

export class ModelThread {
  readonly #options: ModelThreadOptions;
  #worker: Worker | null = null;
  #batches = 0;
  #notBeforeMs = Number.NEGATIVE_INFINITY;
  #whyNot = '';
  #stopping = false;
  #ended: Promise<unknown> = Promise.resolve();

  constructor(options: ModelThreadOptions) {
    this.#options = options;
  }

  /** `values`: the newest windows of each series, one after the other. Not to be called again before it has answered. */
  async run(count: number, values: Float32Array): Promise<Outcome<Float32Array>> {
    const { windows, clock } = this.#options;
    if (this.#stopping) return fail('STOPPED', 'stopped before the model was asked');
    if (clock.monotonicMs() < this.#notBeforeMs) return fail('MODEL', this.#whyNot, { retryable: true });
    const answer = await this.#ask({ batch: ++this.#batches, count, windows, values });
    if (answer === null) return fail('STOPPED', 'stopped before the model answered');
    if ('scores' in answer) return succeed(answer.scores);
    const { reason, message } = answer;
    this.#options.failed(reason);
    if (reason === 'load') {
      this.#end();
      this.#notBeforeMs = clock.monotonicMs() + RELOAD_AFTER_MS;
      this.#whyNot = message;
    }
    return fail('MODEL', message, { retryable: true });
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    this.#end();
    await this.#ended;
  }

  /** Null: the thread was stopped meanwhile. */
  #ask(asked: Asked): Promise<Answer | null> {
    const { timeoutMs } = this.#options;
    this.#worker ??= this.#start();
    const worker = this.#worker;
    const { batch } = asked;
    return new Promise((resolve) => {
      const settle = (answer: Answer | null) => {
        clearTimeout(timer);
        worker.off('message', settle).off('error', onError).off('exit', onExit);
        resolve(answer);
      };
      const onError = (error: unknown) =>
        settle({ batch, reason: 'error', message: `its thread failed: ${messageOf(error)}` });
      const onExit = (code: number) =>
        settle(this.#stopping ? null : { batch, reason: 'error', message: `its thread ended with ${code}` });
      const timer = setTimeout(() => {
        settle({ batch, reason: 'timeout', message: `it has not answered within ${formatDuration(timeoutMs)}` });
        this.#end();
      }, timeoutMs);
      worker.on('message', settle).on('error', onError).on('exit', onExit);
      worker.postMessage(asked);
    });
  }

  #start(): Worker {
    const { file, entry = new URL('./onnx-thread.js', import.meta.url) } = this.#options;
    const worker = new Worker(entry, { workerData: { file } satisfies ModelThreadData });
    // Also between two batches; whoever waits for an answer hears of it as well.
    const gone = () => {
      if (this.#worker === worker) this.#worker = null;
    };
    return worker.on('error', gone).on('exit', gone);
  }

  #end(): void {
    if (this.#worker) this.#ended = this.#worker.terminate();
    this.#worker = null;
  }
}
