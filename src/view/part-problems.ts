/** What it means when a part is not in order: by its kind, its state and the code of its failure. Pure. */
import type { Code } from '../errors.ts';
import type { PartStatus, StageName } from './feed.ts';
import type { Problem, Situation } from './problem.ts';
import { roomFor } from './words.ts';

export function partProblem(part: PartStatus, situation: Situation): Problem | null {
  if (part.state === 'ok' || part.state === 'starting') return null;
  const said = part.failure ? ` It said: ${part.failure.message}` : '';
  const base = { id: `part ${part.name}`, stage: part.stage, sinceMs: part.sinceMs };
  const person = part.failure && NEEDS_A_PERSON[part.failure.code];
  if (part.state === 'stopped') {
    return {
      ...base,
      severity: 'error',
      title: `${part.name} has stopped and will not come back by itself`,
      meaning: `${STANDS_STILL[part.kind]}${said}`,
      wayOut:
        person ??
        'Restart this process; it goes on where it stopped. If it stops again, the log of the process says why.',
    };
  }
  switch (part.kind) {
    case 'listener':
      return {
        ...base,
        severity: 'error',
        title: `Devices cannot reach ${part.name}`,
        meaning: `Devices that use this address are not connected and keep what they want to send.${said}`,
        wayOut: person ?? 'Free the port or name another one under mqtt.listeners, then restart.',
      };
    case 'spool':
      return spoolProblem(part, situation, base, person, said);
    case 'kafka':
      return {
        ...base,
        severity: person || situation.status.ack === 'kafka' ? 'error' : 'warning',
        title: person ? 'Kafka does not accept our records' : 'Kafka cannot be reached',
        meaning: `${kafkaMeaning(situation)}${said}`,
        wayOut: person ?? 'Start Kafka or mend the way to it. What waits is then sent in order, by itself.',
      };
    case 'store':
      return {
        ...base,
        severity: person ? 'error' : 'warning',
        title: person ? 'The store does not accept our rows' : 'The store of rows cannot be reached',
        meaning: `Nothing is lost: closed windows wait, and the log keeps the readings. New rows do not appear until it is back.${said}`,
        wayOut: person ?? 'Start InfluxDB or mend the way to it. The rows are then written by themselves.',
      };
    case 'bridge':
      return {
        ...base,
        severity: person ? 'error' : 'warning',
        title: `The source ${part.name} cannot be reached`,
        meaning: `Its readings do not arrive; the other broker keeps those it already acknowledged to its devices.${said}`,
        wayOut: person ?? 'Start that broker or mend the way to it; the connection is tried again by itself.',
      };
    case 'rollup':
      return {
        ...base,
        severity: person ? 'error' : 'warning',
        title: `Windows are not being counted (${part.name})`,
        meaning: `Readings are safe in the log, but windows do not close until this is mended.${said}`,
        wayOut: person ?? 'It is tried again by itself. If it stays, the log of the process says why.',
      };
  }
}

function spoolProblem(
  part: PartStatus,
  situation: Situation,
  base: { id: string; stage: StageName; sinceMs: number },
  person: string | undefined,
  said: string,
): Problem {
  const kafka = situation.status.parts.find((other) => other.kind === 'kafka');
  const store = situation.status.parts.find((other) => other.kind === 'store');
  const away = [kafka, store].find((other) => other && other.state !== 'ok');
  const full = part.state === 'full' || part.failure?.code === 'SPOOL_FULL';
  const drain = away
    ? `Bring ${away.name} back: the spool then drains and devices are acknowledged again, without a restart.`
    : 'Raise spool.max, or wait until its readers have caught up; devices are then acknowledged again, without a restart.';
  return {
    ...base,
    severity: 'error',
    title: full
      ? 'The spool is full: devices are not acknowledged'
      : 'The spool cannot be written: devices are not acknowledged',
    meaning: `Devices keep their readings and send them again. Everything acknowledged so far is safe.${said}`,
    wayOut: person ?? (full ? drain : 'Look at the disk of the data folder; it is tried again by itself.'),
  };
}

function kafkaMeaning(situation: Situation): string {
  if (situation.status.ack === 'kafka') {
    return 'With ack: kafka no device is acknowledged until Kafka is back; devices keep their readings and send them again.';
  }
  if (situation.status.role === 'rollup') return 'Readings are safe in Kafka, but windows do not close.';
  if (situation.status.parts.some((part) => part.kind === 'spool' && part.state !== 'ok')) {
    return 'What was acknowledged is safe in the spool, but nothing more fits in.';
  }
  const spool = situation.stages.find((stage) => stage.name === 'journal')?.queue;
  const room = spool?.limit ? roomFor(spool.limit - spool.depth, situation.spoolGrowth) : '';
  return `Nothing is lost: devices are acknowledged and their readings wait in the spool.${room}`;
}

const STANDS_STILL: Readonly<Record<PartStatus['kind'], string>> = {
  listener: 'Devices that use this address cannot connect.',
  bridge: 'Readings of that broker do not arrive.',
  spool: 'Devices are not acknowledged; what was acknowledged is safe.',
  kafka: 'Readings no longer reach Kafka.',
  rollup: 'Readings are safe in the log, but windows no longer close.',
  store: 'Rows are no longer written; the log keeps the readings.',
};

/** Failures that trying again does not mend. */
const NEEDS_A_PERSON: Readonly<Partial<Record<Code, string>>> = {
  PORT_IN_USE: 'Stop the program that uses the port, or name another port in the configuration, then restart.',
  LISTEN_FAILED: 'Correct the address under mqtt.listeners, or its certificate files, then restart.',
  DATA_DAMAGED:
    'Keep a copy of the data folder and read what the log of the process says; nothing is cut off by itself.',
  SPOOL_NO_SPACE: 'Make room on the disk of the data folder. Devices are then acknowledged again, without a restart.',
  KAFKA_AUTHENTICATION:
    'Correct what is said above, in kafka.sasl or kafka.tls. Files are read again by themselves; a changed configuration needs a restart.',
  REGISTRY_REFUSED: 'Correct what is said above, in kafka.schema_registry or in the registry itself.',
  KAFKA_NOT_AUTHORIZED: 'Allow this user to write to and read from the topics with the configured prefix.',
  KAFKA_TOPIC_MISMATCH:
    'Set kafka.partitions to what the topic has, or choose another kafka.prefix; the number is never changed in place.',
  KAFKA_BATCH_UNREADABLE:
    'Let whoever writes to the topic use gzip or no compression, and have Kafka delete what is there.',
  STORE_AUTHENTICATION: 'Correct influx.token; it needs read and write permission for the buckets.',
  STORE_NOT_FOUND: 'Correct influx.org and influx.bucket, or set create_buckets so that they are made.',
  LOG_TRUNCATED:
    'Kafka deleted records before they were counted: lengthen the topic’s retention. Windows that would be partial are left out.',
};
