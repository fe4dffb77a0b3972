/** The thread that drains the spool into Kafka. Kafka may be absent when it starts: it waits, and says so once. */
import { systemClock } from '../clock.ts';
import { type Forward, forwardLimits, startForward } from '../journal/forward.ts';
import { kafkaSender } from '../journal/kafka-sender.ts';
import { kafkaTopics, untilTopicsReady } from '../journal/kafka-topics.ts';
import { openSpoolReader } from '../journal/spool-reader.ts';
import { spreadOf } from '../journal/spread.ts';
import type { Telemetry } from '../telemetry.ts';
import { spoolFolder } from './folders.ts';
import { PartStates } from './states.ts';
import type { FromThread, Part, ThreadData } from './threads.ts';

export async function startForwardPart(
  data: ThreadData,
  telemetry: Telemetry,
  say: (message: FromThread) => void,
): Promise<Part> {
  const { config } = data;
  const kafka = config.kafka!;
  const stopping = new AbortController();
  const parts = new PartStates(systemClock);
  parts.set('kafka', 'kafka', 'journal', 'starting');
  let forward: Forward | null = null;
  const sender = kafkaSender(kafka, config.gateway, telemetry, data.spoolId);
  const reader = openSpoolReader({
    folder: spoolFolder(config),
    ...(data.progress ? { progress: data.progress } : undefined),
    clock: systemClock,
    telemetry,
  });

  const running = (async () => {
    const ready = await untilTopicsReady(kafka, telemetry, stopping.signal, undefined, (failure) =>
      parts.failed('kafka', failure),
    );
    if (!ready.ok) {
      if (ready.failure.code !== 'STOPPED') {
        parts.set('kafka', 'kafka', 'journal', 'stopped', ready.failure);
        telemetry.log.error({ code: ready.failure.code }, `nothing is forwarded: ${ready.failure.message}`);
      }
      return;
    }
    forward = await startForward({
      reader,
      topics: kafkaTopics(kafka),
      spread: spreadOf(config.streams),
      sender,
      limits: forwardLimits(kafka),
      ...(data.tallyFrom === undefined ? undefined : { tallyFrom: data.tallyFrom }),
      telemetry,
      clock: systemClock,
      onProgress: (offset) => say({ type: 'forwarded', offset }),
      // The thread dies, and threads.ts starts it again from its checkpoint.
      onEnded: (reason) => {
        throw reason;
      },
    });
  })();

  return {
    status: () => {
      const failure = forward?.failure() ?? null;
      if (failure) parts.failed('kafka', failure);
      else if (forward) parts.works();
      return { parts: parts.all(), backlog: null, ...(forward ? { tally: forward.tally() } : undefined) };
    },
    async stop() {
      stopping.abort();
      await running;
      await forward?.stop();
      await sender.close();
      await reader.close();
    },
  };
}
