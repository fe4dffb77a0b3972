/** Tells a device why its payload was refused: to itself alone, if it asked by subscribing, at most once a second. */
import type { Clock } from '../clock.ts';
import type { RefusalCode } from '../reading.ts';
import type { Connection } from './connection.ts';
import { refusedTopic } from './permit.ts';

const EVERY_MS = 1_000;

/** The payload: `{"code":…,"reason":…,"topic":…,"untold":<how many were left out since the last notice>}`. */
export function tellRefused(
  connection: Connection,
  topic: string,
  refused: { readonly code: RefusalCode; readonly reason: string },
  clock: Clock,
): void {
  const to = refusedTopic(connection.id);
  if (connection.client === null || !connection.filters.has(to)) return;
  const nowMs = clock.monotonicMs();
  if (nowMs - connection.noticeMs < EVERY_MS) {
    connection.untold++;
    return;
  }
  const notice = { code: refused.code, reason: refused.reason, topic, untold: connection.untold };
  connection.noticeMs = nowMs;
  connection.untold = 0;
  const payload = Buffer.from(JSON.stringify(notice));
  connection.client.publish({ cmd: 'publish', topic: to, payload, qos: 0, retain: false, dup: false }, () => {});
}
