/**
 * Loads schemas and registries again when a file changes or the process gets SIGHUP, without a restart. New assets are
 * handed over only when all of them are good; a bad file is reported, once for each change, and what was loaded before
 * stays in use.
 *
 * Files are looked at every `pollMs` rather than watched: editors replace files and orchestrators swap links, which
 * watchers of single files miss. A change is loaded when two looks in a row agree, so that a file still being written
 * is not taken for whole.
 */
import { stat } from 'node:fs/promises';
import type { Failure, Outcome } from '../errors.ts';
import { pause } from '../retry.ts';
import type { Stream } from '../stream.ts';
import { loadAssets } from './assets.ts';
import type { Assets } from './plan.ts';

export interface AssetWatch {
  /** Loads now, whether or not a file changed, and reports like any reload. */
  reload(): Promise<Outcome<Assets>>;
  /** After it resolves nothing is reported any more. */
  stop(): Promise<void>;
}

export interface AssetWatchOptions {
  readonly streams: readonly Stream[];
  readonly limits: { readonly tagBytes: number };
  readonly loaded: (assets: Assets) => void;
  readonly failed: (failure: Failure) => void;
  readonly pollMs?: number;
  /** Also reload on SIGHUP; default true. */
  readonly onHangup?: boolean;
}

/** Call it right after loadAssets: what changed before is not noticed. */
export async function watchAssets(options: AssetWatchOptions): Promise<AssetWatch> {
  const { streams, limits, loaded, failed, pollMs = 2_000, onHangup = true } = options;
  const files = [...new Set(streams.flatMap(({ schema, enrich }) => [schema, enrich?.registry ?? null]))].filter(
    (file) => file !== null,
  );
  const stopped = new AbortController();
  let used = await fingerprint(files);
  let queue: Promise<unknown> = Promise.resolve();

  const reload = (): Promise<Outcome<Assets>> => {
    const run = queue.then(async () => {
      const outcome = await loadAssets(streams, limits);
      if (stopped.signal.aborted) return outcome;
      if (outcome.ok) loaded(outcome.value);
      else failed(outcome.failure);
      return outcome;
    });
    queue = run;
    return run;
  };

  const poll = async (): Promise<void> => {
    let previous = used;
    while (await pause(pollMs, stopped.signal)) {
      const now = await fingerprint(files);
      if (now !== used && now === previous) {
        used = now;
        await reload();
      }
      previous = now;
    }
  };
  const polling = files.length === 0 ? Promise.resolve() : poll();
  const hangup = () => void reload();
  if (onHangup) process.on('SIGHUP', hangup);

  return {
    reload,
    stop: async () => {
      process.off('SIGHUP', hangup);
      stopped.abort();
      await Promise.all([polling, queue]);
    },
  };
}

/** Differs when a file was changed, replaced, added or removed. */
export async function fingerprint(files: readonly string[]): Promise<string> {
  const marks = files.map(async (file) => {
    try {
      const { ino, size, mtimeNs } = await stat(file, { bigint: true });
      return `${ino}:${size}:${mtimeNs}`;
    } catch {
      return 'absent';
    }
  });
  return (await Promise.all(marks)).join(' ');
}
