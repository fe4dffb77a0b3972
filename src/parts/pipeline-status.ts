/** What a process says of itself, from its parts: listeners, bridges, the spool, and what its threads report. */
import type { Clock } from '../clock.ts';
import type { Config } from '../config.ts';
import type { Bridge } from '../ingress/bridge.ts';
import type { Address } from '../ingress/broker.ts';
import type { Spool } from '../journal/spool.ts';
import type { PartStatus, PipelineStatus } from '../view/feed.ts';
import type { Thread } from './threads.ts';

export interface StatusSources {
  readonly config: Config;
  readonly role: PipelineStatus['role'];
  readonly version: string;
  readonly clock: Clock;
  /** Of the process. */
  readonly startedMs: number;
  /** Addresses on which readings are taken in. */
  readonly listeners: readonly string[];
  readonly bridges: readonly Bridge[];
  readonly spool: Spool | null;
  readonly threads: readonly Thread[];
  isStopping(): boolean;
}

export function createStatus(sources: StatusSources): () => PipelineStatus {
  const { config, role, version, clock, startedMs, listeners, bridges, spool, threads } = sources;
  const states = new SpoolState(startedMs);
  return () => ({
    gateway: config.gateway,
    version,
    role,
    ack: config.ack,
    log: config.kafka ? 'kafka' : 'spool',
    store: config.influx ? 'influx' : 'embedded',
    startedMs,
    stopping: sources.isStopping(),
    listeners,
    parts: [
      ...listeners.map((name) => listenerPart(name, startedMs)),
      ...bridges.map((bridge) => bridgePart(bridge, startedMs)),
      ...(spool ? [states.of(spool, clock.nowMs())] : []),
      ...threads.flatMap((thread) => thread.status().parts),
    ],
    limits: {
      pendingBytes: spool ? config.mqtt.limits.pendingBytes : null,
      series: role === 'gateway' ? null : config.rollup.maxSeries,
    },
  });
}

/** Records of the log that the slowest of these readers has not read; null while unknown. */
export function backlogOf(readers: readonly Thread[], spool: Spool | null): number | null {
  const backlogs = readers.map((thread) => {
    const { backlog, position } = thread.status();
    // The end as the spool knows it now, not as the thread knew it when it last said something.
    return spool && position !== undefined ? spool.stats().endOffset - position : backlog;
  });
  return backlogs.length === 0 || backlogs.includes(null) ? null : Math.max(...(backlogs as number[]));
}

/** `mqtt://127.0.0.1:1883` */
export function urlOf({ host, port, tls, websocket }: Address): string {
  const scheme = websocket ? (tls ? 'wss' : 'ws') : tls ? 'mqtts' : 'mqtt';
  return `${scheme}://${host.includes(':') ? `[${host}]` : host}:${port}`;
}

function listenerPart(name: string, startedMs: number): PartStatus {
  return { kind: 'listener', name, stage: 'ingress', state: 'ok', sinceMs: startedMs };
}

function bridgePart(bridge: Bridge, startedMs: number): PartStatus {
  const { connected, subscribed } = bridge.stats();
  const state = connected && subscribed ? 'ok' : 'away';
  return { kind: 'bridge', name: bridge.source.url, stage: 'ingress', state, sinceMs: startedMs };
}

/** The spool as a part that can fail, with the time of its last change. */
class SpoolState {
  #state: PartStatus['state'] = 'ok';
  #sinceMs: number;

  constructor(sinceMs: number) {
    this.#sinceMs = sinceMs;
  }

  of(spool: Spool, nowMs: number): PartStatus {
    const { failure } = spool.stats();
    const state = failure === null ? 'ok' : failure.code === 'SPOOL_FULL' ? 'full' : 'failing';
    if (state !== this.#state) {
      this.#state = state;
      this.#sinceMs = nowMs;
    }
    const reason = failure ? { failure: { code: failure.code, message: failure.message } } : undefined;
    return { kind: 'spool', name: 'spool', stage: 'journal', state, sinceMs: this.#sinceMs, ...reason };
  }
}
