/**
 * What is wrong right now, in words: title, what it means for the data, and the way out. Pure: states and numbers in,
 * problems out, most serious first. `error` = a promise cannot be kept or data stands still until a person acts;
 * `warning` = it may heal by itself, or will become an error; `note` = good to know.
 */
import type { Code } from '../errors.ts';
import type { Stream } from '../stream.ts';
import { formatBytes } from '../units.ts';
import type { BoardSummary, StreamView } from './board.ts';
import type { PartStatus, PipelineStatus, StageName } from './feed.ts';
import type { Growth, StageStatus } from './meter.ts';

export type Severity = 'error' | 'warning' | 'note';

export interface Problem {
  /** Stable while the same thing is wrong. */
  readonly id: string;
  readonly severity: Severity;
  readonly stage: StageName;
  readonly title: string;
  readonly meaning: string;
  readonly wayOut: string;
  readonly sinceMs: number | null;
}

export interface Recent {
  readonly turnedAway: Growth;
  readonly accepted: Growth;
  readonly deadLetters: Growth;
  readonly counted: Growth;
  readonly late: Growth;
}

export interface Situation {
  readonly status: PipelineStatus;
  readonly stages: readonly StageStatus[];
  readonly board: BoardSummary;
  readonly streams: readonly StreamView[];
  readonly configured: Readonly<Record<string, Stream>>;
  readonly nowMs: number;
  /** What came in the last minute. */
  readonly recent: Recent;
  /** Growth of the spool in bytes per second, and of the unread part of the log in records per second. */
  readonly spoolGrowth: number;
  readonly lagGrowth: number;
}

const NEARLY_FULL = 0.8;
const STREAM_SILENT_MS = 60_000;
const MANY_DEAD_LETTERS = 0.05;
const MANY_LATE = 0.01;
const LAG_SECONDS = 30;
const RANK: Readonly<Record<Severity, number>> = { error: 0, warning: 1, note: 2 };

export function findProblems(situation: Situation): Problem[] {
  const problems: Problem[] = [];
  for (const part of situation.status.parts) {
    const problem = partProblem(part, situation);
    if (problem) problems.push(problem);
  }
  if (situation.status.role !== 'rollup') {
    problems.push(...intakeProblems(situation), ...deviceProblems(situation));
  }
  problems.push(...backlogProblems(situation));
  return problems.sort((a, b) => RANK[a.severity] - RANK[b.severity]);
}

/** Kept by the view between looks: since when each problem has been there. */
export function rememberSince(problems: readonly Problem[], since: Map<string, number>, nowMs: number): Problem[] {
  const ids = new Set(problems.map((problem) => problem.id));
  for (const id of since.keys()) if (!ids.has(id)) since.delete(id);
  return problems.map((problem) => {
    const sinceMs = problem.sinceMs ?? since.get(problem.id) ?? nowMs;
    since.set(problem.id, sinceMs);
    return { ...problem, sinceMs };
  });
}

function partProblem(part: PartStatus, situation: Situation): Problem | null {
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
  const spool = situation.stages.find((stage) => stage.name === 'journal')?.queue;
  const room = spool?.limit ? roomFor(spool.limit - spool.depth, situation.spoolGrowth) : '';
  return `Nothing is lost: devices are acknowledged and their readings wait in the spool.${room}`;
}

function roomFor(bytes: number, growthPerSecond: number): string {
  if (growthPerSecond <= 0 || bytes <= 0) return '';
  return ` There is room for about ${roughly((bytes / growthPerSecond) * 1_000)} more at this rate.`;
}

function intakeProblems({ status, stages, streams, configured, recent, nowMs }: Situation): Problem[] {
  const problems: Problem[] = [];
  const { turnedAway, deadLetters, accepted } = recent;
  if (turnedAway.total > 0) {
    problems.push({
      id: 'turned away',
      severity: 'warning',
      stage: 'ingress',
      title: `${count(turnedAway.total, 'publish', 'publishes')} of the last minute ${turnedAway.total === 1 ? 'was' : 'were'} not acknowledged`,
      meaning: `Devices keep them and send them again. Reason: ${worst(turnedAway.by)}.`,
      wayOut:
        'If the spool or Kafka is at fault, it is named here too. Otherwise the devices send more than mqtt.limits allows: raise the limit or slow them.',
      sinceMs: null,
    });
  }
  if (deadLetters.total > 0) {
    const share = deadLetters.total / (deadLetters.total + accepted.total);
    problems.push({
      id: 'dead letters',
      severity: share >= MANY_DEAD_LETTERS ? 'warning' : 'note',
      stage: 'inspect',
      title: `${count(deadLetters.total, 'payload')} of the last minute could not be read (${percent(share)})`,
      meaning: `Kept whole as dead letters, with the reason, and counted in no window. Most frequent: ${worst(deadLetters.by)}.`,
      wayOut:
        'Open Dead letters below: each names the field and what was expected. Mend the device or the schema, then send them again from there.',
      sinceMs: null,
    });
  }
  const seen = counter(stages, 'inspect', 'accepted') + counter(stages, 'inspect', 'dead_letters');
  if (seen === 0) problems.push(nothingYet(status, configured));
  for (const stream of streams) {
    if (stream.lastReceivedMs === null || nowMs - stream.lastReceivedMs < STREAM_SILENT_MS) continue;
    problems.push({
      id: `silent ${stream.name}`,
      severity: 'warning',
      stage: 'ingress',
      title: `Nothing arrives on the stream ${stream.name}`,
      meaning: `The last reading came ${roughly(nowMs - stream.lastReceivedMs)} ago.`,
      wayOut: 'See whether its devices have power, network and the right address and credentials.',
      sinceMs: stream.lastReceivedMs,
    });
  }
  return problems;
}

function nothingYet(status: PipelineStatus, configured: Readonly<Record<string, Stream>>): Problem {
  const example = Object.values(configured)[0];
  const address = status.listeners[0];
  const where = address ? ` to ${address}` : '';
  const topic = example ? `, for example on the topic ${example.topic.text.replace(/[{}]/g, '')}` : '';
  return {
    id: 'nothing yet',
    severity: 'note',
    stage: 'ingress',
    title: 'No reading has arrived yet',
    meaning: 'The gateway is waiting for the first device.',
    wayOut: `Let a device publish${where}${topic}.`,
    sinceMs: status.startedMs,
  };
}

function deviceProblems({ board }: Situation): Problem[] {
  const problems: Problem[] = [];
  const note = (id: string, severity: Severity, title: string, meaning: string, wayOut: string) =>
    problems.push({ id, severity, stage: 'ingress', title, meaning, wayOut, sinceMs: null });
  if (board.silent > 0) {
    note(
      'silent devices',
      'note',
      `${count(board.silent, 'device')} stopped sending`,
      `Nothing for much longer than usual, for example from ${board.examples.silent}.`,
      'Sort the devices by “last seen” to find them.',
    );
  }
  if (board.skewed > 0) {
    note(
      'skew',
      'warning',
      `The clock of ${count(board.skewed, 'device')} is wrong`,
      `Their stamps differ from the gateway’s clock by more than 30 seconds, for example ${board.examples.skewed}. Stamps from the future are refused, old ones may be late for their window.`,
      'Set the clocks (NTP). Sort the devices by “clock” to find them.',
    );
  }
  if (board.gapped > 0) {
    note(
      'gaps',
      'note',
      `${count(board.gapped, 'device')} skipped sequence numbers`,
      `Readings were lost on the way to the gateway, or are still to come, for example from ${board.examples.gapped}. The rows say how many are missing.`,
      'Let the devices publish with QoS 1 and keep what was not acknowledged.',
    );
  }
  if (board.unlisted > 0) {
    note(
      'unlisted',
      'note',
      'Not every device is listed on this page',
      'There are more devices than the page keeps in memory. All of them are counted and stored all the same.',
      'Nothing needs to be done. If there should be fewer, look for a key that is unique to each reading.',
    );
  }
  return problems;
}

function backlogProblems({ stages, status, recent, spoolGrowth, lagGrowth, nowMs }: Situation): Problem[] {
  const problems: Problem[] = [];
  for (const stage of stages) {
    const queue = stage.queue;
    const alreadyFull = status.parts.some((part) => part.kind === 'spool' && part.state !== 'ok');
    if (!stage.here || !queue?.limit || queue.depth < NEARLY_FULL * queue.limit || alreadyFull) continue;
    const room = stage.name === 'journal' ? roomFor(queue.limit - queue.depth, spoolGrowth) : '';
    problems.push({
      id: `queue ${stage.name}`,
      severity: 'warning',
      stage: stage.name,
      title: `${capital(queue.name)}: ${percent(queue.depth / queue.limit)} of ${amount(queue.limit, queue.unit)} in use`,
      meaning: `At the limit devices are no longer acknowledged until there is room.${room}`,
      wayOut:
        stage.name === 'journal'
          ? 'See that Kafka and the store keep up, or raise spool.max.'
          : 'The disk is slower than the devices: see the journal’s latency, or raise mqtt.limits.pending.',
      sinceMs: null,
    });
  }
  const rollup = stages.find((stage) => stage.name === 'rollup');
  if (rollup?.here && rollup.queue) {
    const behindSeconds = rollup.ratePerSecond > 0 ? rollup.queue.depth / rollup.ratePerSecond : 0;
    const away = status.parts.some((part) => (part.kind === 'store' || part.kind === 'kafka') && part.state !== 'ok');
    if (!away && behindSeconds > LAG_SECONDS && lagGrowth > 0) {
      problems.push({
        id: 'lag',
        severity: 'warning',
        stage: 'rollup',
        title: `The rollup is ${roughly(behindSeconds * 1_000)} behind and falling back`,
        meaning: 'Rows appear later than usual; they will be complete and exact all the same.',
        wayOut: 'Start another process with --role rollup (with Kafka), or use fewer window sizes.',
        sinceMs: null,
      });
    }
  }
  if (recent.late.total > 0) {
    const share = recent.late.total / (recent.late.total + recent.counted.total);
    problems.push({
      id: 'late',
      severity: share >= MANY_LATE ? 'warning' : 'note',
      stage: 'rollup',
      title: `${count(recent.late.total, 'reading')} of the last minute came too late for ${recent.late.total === 1 ? 'its window' : 'their windows'} (${percent(share)})`,
      meaning:
        'They are kept in the log of late readings. With rollup.repair: auto their windows are written again in a few minutes.',
      wayOut:
        'Devices that were offline and catch up are normal. Otherwise look at device clocks, or raise rollup.grace.',
      sinceMs: null,
    });
  }
  if (status.stopping) {
    problems.push({
      id: 'stopping',
      severity: 'warning',
      stage: 'ingress',
      title: 'This gateway is stopping',
      meaning: 'It takes no new readings; what it acknowledged is safe.',
      wayOut: 'Start it again when you want it back.',
      sinceMs: nowMs,
    });
  }
  return problems;
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
  KAFKA_AUTHENTICATION: 'Correct the credentials under kafka.sasl or kafka.tls, then restart.',
  KAFKA_NOT_AUTHORIZED: 'Allow this user to write to and read from the topics with the configured prefix.',
  KAFKA_TOPIC_MISMATCH:
    'Set kafka.partitions to what the topic has, or choose another kafka.prefix; the number is never changed in place.',
  STORE_AUTHENTICATION: 'Correct influx.token; it needs read and write permission for the buckets.',
  STORE_NOT_FOUND: 'Correct influx.org and influx.bucket, or set create_buckets so that they are made.',
  LOG_TRUNCATED:
    'Kafka deleted records before they were counted: lengthen the topic’s retention. Windows that would be partial are left out.',
};

function counter(stages: readonly StageStatus[], stage: StageName, name: string): number {
  const counters = stages.find((one) => one.name === stage)?.counters;
  return counters?.find((one) => one.name === name)?.value ?? 0;
}

function worst(by: Readonly<Record<string, number>>): string {
  const sorted = Object.entries(by).sort((a, b) => b[1] - a[1]);
  return (
    sorted
      .slice(0, 2)
      .map(([reason, times]) => `${reason} (${times})`)
      .join(', ') || 'not known'
  );
}

function percent(share: number): string {
  const value = share * 100;
  return value > 0 && value < 0.1 ? 'Less than 0.1 %' : `${value < 10 ? value.toFixed(1) : Math.round(value)} %`;
}

function amount(value: number, unit: 'bytes' | 'records'): string {
  return unit === 'bytes' ? formatBytes(value) : `${value} records`;
}

function count(n: number, one: string, many = `${one}s`): string {
  return `${n} ${n === 1 ? one : many}`;
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

const UNITS: readonly (readonly [ms: number, one: string, many: string])[] = [
  [86_400_000, 'day', 'days'],
  [3_600_000, 'hour', 'hours'],
  [60_000, 'minute', 'minutes'],
  [1_000, 'second', 'seconds'],
];

/** One unit is enough: 95 s -> `2 minutes`. */
function roughly(ms: number): string {
  for (const [unit, one, many] of UNITS) if (ms >= unit) return count(Math.round(ms / unit), one, many);
  return 'a moment';
}
