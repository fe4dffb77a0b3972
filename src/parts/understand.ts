/**
 * The thread that understands the messages of support chats (understand/run.ts): with Kafka it reads and writes the topic of
 * readings, in a consumer group of its own; without it reads the spool, and asks the main thread, which alone writes the
 * spool, to append. In every process that runs a rollup, where a stream has `understand:`.
 */
import { readFile, stat } from 'node:fs/promises';
import { monotoneStamp, systemClock } from '../clock.ts';
import type { Config } from '../config.ts';
import { fail, messageOf, type Outcome, succeed } from '../errors.ts';
import { kafkaReader } from '../journal/kafka-reader.ts';
import { kafkaTopics, untilTopicsReady } from '../journal/kafka-topics.ts';
import { type KafkaWriter, kafkaWriter } from '../journal/kafka-writer.ts';
import { openSpoolReader } from '../journal/spool-reader.ts';
import { type LogReader, withBytes } from '../log.ts';
import type { Reading } from '../reading.ts';
import type { Telemetry } from '../telemetry.ts';
import { type Example, type Intents, parseExamples, train } from '../understand/intents.ts';
import { Language } from '../understand/language.ts';
import { startUnderstanding, type Understanding } from '../understand/run.ts';
import { formatBytes } from '../units.ts';
import { readingRecord } from './accept.ts';
import { spoolFolder } from './folders.ts';
import { PartStates } from './states.ts';
import type { FromThread, Part, ThreadData } from './threads.ts';
import { UNDERSTAND_GROUP } from './understanding.ts';

const MAX_FILE_BYTES = 16 * 2 ** 20;

export async function readExamples(file: string): Promise<Outcome<readonly Example[]>> {
  try {
    const { size } = await stat(file);
    if (size > MAX_FILE_BYTES) {
      return fail('CONFIG_INVALID', `${file} has ${formatBytes(size)}, more than ${formatBytes(MAX_FILE_BYTES)}`);
    }
    return parseExamples(new TextDecoder('utf-8', { fatal: true }).decode(await readFile(file)), file);
  } catch (thrown) {
    return fail('CONFIG_INVALID', `${file} cannot be read: ${messageOf(thrown)}`);
  }
}

export async function startUnderstandPart(
  data: ThreadData,
  telemetry: Telemetry,
  say: (message: FromThread) => void,
): Promise<Part> {
  const { config } = data;
  const stopping = new AbortController();
  const parts = new PartStates(systemClock);
  parts.set('rollup', UNDERSTAND_GROUP, 'rollup', 'starting');
  const asked = new Map<number, (outcome: Outcome) => void>();
  let requests = 0;
  let understanding: Understanding | null = null;
  let writer: KafkaWriter | null = null;
  let reader: LogReader | null = null;

  const askMain = (readings: readonly Reading[]) =>
    new Promise<Outcome>((resolve) => {
      const request = ++requests;
      asked.set(request, resolve);
      say({ type: 'append', request, readings });
    });

  const starting = (async () => {
    const language = new Language();
    const intents = await trainAll(config, language);
    if (!intents.ok) {
      parts.set('rollup', UNDERSTAND_GROUP, 'rollup', 'stopped', intents.failure);
      telemetry.log.error({ code: intents.failure.code }, `messages are not understood: ${intents.failure.message}`);
      return;
    }
    let append = (_partition: number, readings: readonly Reading[]) => askMain(readings);
    if (config.kafka) {
      const topics = await untilTopicsReady(config.kafka, telemetry, stopping.signal, undefined, (failure) =>
        parts.failed('rollup', failure),
      );
      if (!topics.ok) {
        if (topics.failure.code !== 'STOPPED') {
          parts.set('rollup', UNDERSTAND_GROUP, 'rollup', 'stopped', topics.failure);
        }
        return;
      }
      const { readings: topic } = kafkaTopics(config.kafka);
      const { gateway } = config;
      const kafka = kafkaWriter(config.kafka, topic, { gateway, telemetry });
      const stamp = monotoneStamp(systemClock);
      writer = kafka;
      reader = kafkaReader(config.kafka, topic, telemetry);
      append = (partition, made) => {
        const receivedMs = stamp();
        return kafka.appendTo(
          partition,
          made.map((reading) => withBytes(readingRecord(reading, receivedMs, ''))),
        );
      };
    } else {
      reader = openSpoolReader({
        folder: spoolFolder(config),
        ...(data.progress ? { progress: data.progress } : undefined),
        clock: systemClock,
        telemetry,
      });
    }
    understanding = await startUnderstanding({
      reader,
      group: config.kafka ? `${config.kafka.group}.${UNDERSTAND_GROUP}` : UNDERSTAND_GROUP,
      streams: config.streams,
      intents: intents.value,
      language,
      append,
      telemetry,
      // The thread dies, and threads.ts starts it again from its checkpoint.
      onEnded: (reason) => {
        throw reason;
      },
    });
  })();

  return {
    status: () => {
      const status = understanding?.status();
      if (status?.failure) parts.failed('rollup', status.failure);
      else if (status) parts.works();
      const position = config.kafka === null && status?.position != null ? { position: status.position } : undefined;
      return { parts: parts.all(), backlog: status?.backlog ?? null, ...position };
    },
    appended(request, outcome) {
      asked.get(request)?.(outcome);
      asked.delete(request);
    },
    async stop() {
      stopping.abort();
      await starting;
      await understanding?.stop();
      await writer?.close();
      await reader?.close();
    },
  };
}

async function trainAll(config: Config, language: Language): Promise<Outcome<ReadonlyMap<string, Intents>>> {
  const intents = new Map<string, Intents>();
  for (const { name, understand } of Object.values(config.streams)) {
    if (!understand) continue;
    const examples = await readExamples(understand.intents);
    if (!examples.ok) return examples;
    intents.set(name, train(examples.value, language));
  }
  return succeed(intents);
}
