/** What the numbers say: about what arrives, about devices, and about what waits. Pure. */
import type { Stream } from '../stream.ts';
import type { PipelineStatus, StageName } from './feed.ts';
import type { Problem, Severity, Situation } from './problem.ts';
import type { StageStatus } from './stages.ts';
import { amount, capital, count, percent, roomFor, roughly, worst } from './words.ts';

const NEARLY_FULL = 0.8;
const STREAM_SILENT_MS = 60_000;
const MANY_DEAD_LETTERS = 0.05;
const MANY_LATE = 0.01;
const LAG_SECONDS = 30;
export function intakeProblems({
  status,
  stages,
  streams,
  configured,
  recent,
  imbalance,
  nowMs,
}: Situation): Problem[] {
  const problems: Problem[] = [];
  if (imbalance !== 0) {
    problems.push({
      id: 'imbalance',
      severity: 'error',
      stage: 'journal',
      title: `The books do not balance: ${count(Math.abs(imbalance), 'reading')} ${imbalance > 0 ? 'too few' : 'too many'}`,
      meaning: 'Received readings are not equal to those refused, kept and forwarded. This is a bug in Millrace.',
      wayOut: 'Keep the data folder, run millrace verify, and report both with the output of /metrics.',
      sinceMs: null,
    });
  }
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

export function deviceProblems({ board }: Situation): Problem[] {
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

export function backlogProblems({ stages, status, recent, spoolGrowth, lagGrowth, nowMs }: Situation): Problem[] {
  const problems: Problem[] = [];
  for (const stage of stages) {
    const queue = stage.queue;
    const alreadyFull = status.parts.some((part) => part.kind === 'spool' && part.state !== 'ok');
    // What waits for the store comes in bursts, as windows end; when the store is slow, the rollup's lag says so.
    if (
      stage.name === 'store' ||
      !stage.here ||
      !queue?.limit ||
      queue.depth < NEARLY_FULL * queue.limit ||
      alreadyFull
    )
      continue;
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

function counter(stages: readonly StageStatus[], stage: StageName, name: string): number {
  const counters = stages.find((one) => one.name === stage)?.counters;
  return counters?.find((one) => one.name === name)?.value ?? 0;
}
