/**
 * The configuration file, looked at while the program runs: every two seconds, and at once on SIGHUP. What runs is always
 * what one whole version of the file says: a version that only adds streams is applied; one with a mistake, or that also
 * changes something else, is reported with the places or keys, and the old one stays until the file is another.
 */

import { compareSettings } from '../config/change.ts';
import { formatMistake } from '../config/report.ts';
import type { Settings } from '../config/schema.ts';
import type { Config, Loaded } from '../config.ts';
import { messageOf, type Outcome } from '../errors.ts';
import { fingerprint } from '../inspect/watch.ts';
import { pause } from '../retry.ts';
import type { Stream } from '../stream.ts';
import type { Telemetry } from '../telemetry.ts';

export interface LiveConfigOptions {
  readonly file: string;
  /** What runs now. */
  readonly settings: Settings;
  /** Reads and checks the file again. */
  load(): Promise<Loaded>;
  /** Makes these streams part of what runs, or changes nothing. */
  add(streams: readonly Stream[], config: Config): Promise<Outcome>;
  readonly telemetry: Telemetry;
  readonly pollMs?: number;
}

export interface LiveConfig {
  stop(): Promise<void>;
}

/** Of a file with many. */
const MISTAKES_SAID = 10;
const POLL_MS = 2_000;

export async function watchConfig(options: LiveConfigOptions): Promise<LiveConfig> {
  const { file, load, add, telemetry, pollMs = POLL_MS } = options;
  const stopped = new AbortController();
  let { settings } = options;
  let queue: Promise<void> = Promise.resolve();
  let used = await fingerprint([file]);

  const refuse = (why: string, fields: object = {}) =>
    telemetry.log.error({ file, ...fields }, `the old configuration stays: ${why}`);

  const apply = async (): Promise<void> => {
    const loaded = await load();
    if (stopped.signal.aborted) return;
    if (!loaded.ok) {
      const mistakes = loaded.mistakes.map(formatMistake);
      const [first = ''] = mistakes;
      return refuse(mistakes.length > 1 ? `${first}, and ${mistakes.length - 1} more` : first, {
        mistakes: mistakes.slice(0, MISTAKES_SAID),
      });
    }
    const { addedStreams, needRestart } = compareSettings(settings, loaded.settings);
    if (needRestart.length > 0) {
      const keys = needRestart.join(', ');
      const waiting = addedStreams.length > 0 ? `; until then these streams wait: ${addedStreams.join(', ')}` : '';
      return refuse(`${keys} cannot be changed without a restart${waiting}`, { keys: needRestart });
    }
    if (addedStreams.length === 0) return;
    const streams = addedStreams.map((name) => loaded.config.streams[name]!);
    const added = await add(streams, loaded.config);
    if (!added.ok) return refuse(added.failure.message, { code: added.failure.code });
    settings = loaded.settings;
    telemetry.log.info({ streams: addedStreams }, 'streams were added');
  };

  const reload = (): Promise<void> => {
    queue = queue.then(() => apply().catch((thrown) => void refuse(messageOf(thrown))));
    return queue;
  };

  const poll = async (): Promise<void> => {
    let previous = used;
    while (await pause(pollMs, stopped.signal)) {
      const now = await fingerprint([file]);
      // A file that is still being written is not taken for whole.
      if (now !== used && now === previous) {
        used = now;
        await reload();
      }
      previous = now;
    }
  };
  const polling = poll();
  const hangup = () => void reload();
  process.on('SIGHUP', hangup);
  return {
    async stop() {
      process.off('SIGHUP', hangup);
      stopped.abort();
      await Promise.all([polling, queue]);
    },
  };
}
