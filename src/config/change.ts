/**
 * What a changed configuration file asks of a running program. Streams may be added while it runs; every other difference
 * waits for a restart. Told by comparing what the two files say, in the user's own keys, so that a difference can be named. Pure.
 */
import type { Settings } from './schema.ts';

export interface ConfigChange {
  readonly addedStreams: readonly string[];
  /** Keys such as `kafka.partitions` or `streams.environment.windows`, in the order of the declaration. */
  readonly needRestart: readonly string[];
}

export function compareSettings(before: Settings, after: Settings): ConfigChange {
  const addedStreams = Object.keys(after.streams).filter((name) => !Object.hasOwn(before.streams, name));
  const kept = Object.entries(after.streams).filter(([name]) => !addedStreams.includes(name));
  const needRestart: string[] = [];
  compare(before, { ...after, streams: Object.fromEntries(kept) }, '', needRestart);
  return { addedStreams, needRestart };
}

function compare(before: unknown, after: unknown, path: string, different: string[]): void {
  if (!isSection(before) || !isSection(after)) {
    if (JSON.stringify(before) !== JSON.stringify(after)) different.push(path);
    return;
  }
  for (const key of new Set([...Object.keys(before), ...Object.keys(after)])) {
    compare(before[key], after[key], path === '' ? key : `${path}.${key}`, different);
  }
}

function isSection(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
