#!/usr/bin/env node
/**
 * The device simulator's command line. It is a black box to the gateway: it knows MQTT and nothing else of it.
 * Exit 0: everything sent was acknowledged (oversized ones aside); 1: something was not; 2: the command line is wrong. SIGINT and SIGTERM stop
 * measuring and wait for what is under way; a second one ends at once.
 */
import { Command, InvalidArgumentError, Option } from 'commander';
import { FAULTS, type FaultRates } from './device.ts';
import { noLedger, openLedger } from './ledger.ts';
import { PROFILES, type ProfileName } from './profile.ts';
import { parseDurationMs, parseRate } from './quantity.ts';
import { type SimulationOptions, simulate } from './simulate.ts';

function durationArgument(text: string): number {
  const ms = parseDurationMs(text);
  if (ms === null) throw new InvalidArgumentError('expected a duration such as 500ms, 60s or 5m');
  return ms;
}

function rateArgument(text: string): number {
  const perSecond = parseRate(text);
  if (perSecond === null || perSecond <= 0) throw new InvalidArgumentError('expected a rate such as 1/s or 30/m');
  return perSecond;
}

function probabilityArgument(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !(value >= 0 && value <= 1))
    throw new InvalidArgumentError('expected a number from 0 to 1');
  return value;
}

function countArgument(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < 1) throw new InvalidArgumentError('expected an integer of at least 1');
  return value;
}

function integerArgument(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('expected an integer of at least 0');
  return Number(text);
}

interface Flags
  extends Record<'duplicates' | 'late' | 'future' | 'malformed' | 'oversized' | 'gaps' | 'flapping', number> {
  url: string;
  devices: number;
  rate: number;
  jitter: number;
  duration: number;
  qos: '0' | '1' | '2';
  topic?: string;
  profile: ProfileName;
  seed: number;
  start?: number;
  ledger?: string;
  username?: string;
  password?: string;
  client: string;
  devicesPerClient: number;
  inFlight: number;
  reconnectEvery: number;
  lateBy: number;
  clockOffset: number;
  oversizedBytes: number;
  drain: number;
  json: boolean;
}

const program = new Command('devices-sim')
  .description('Simulated devices that publish over MQTT and keep a ledger of what was acknowledged.')
  .option('--url <url>', 'the broker: mqtt, mqtts, ws or wss', 'mqtt://127.0.0.1:1883')
  .option('--devices <n>', 'number of devices', countArgument, 20)
  .option('--rate <rate>', 'reports of each device', rateArgument, 1)
  .option('--jitter <part>', 'how much intervals vary, as a part of them', probabilityArgument, 0.2)
  .option('--duration <time>', 'how long devices measure', durationArgument, 60_000)
  .addOption(new Option('--qos <n>', 'MQTT quality of service').choices(['0', '1', '2']).default('1'))
  .option('--topic <template>', 'with {site}, {device} or any other {name}; default: the profile’s')
  .addOption(new Option('--profile <name>', 'what is reported').choices(Object.keys(PROFILES)).default('environment'))
  .option('--seed <n>', 'same seed and start, same reports', integerArgument, 1)
  .option('--start <ms>', 'epoch milliseconds of the first interval; default: now', integerArgument)
  .option('--ledger <file>', 'write what was sent, acknowledged and failed, one JSON object a line')
  .option('--username <name>')
  .option('--password <text>')
  .option('--client <prefix>', 'client ids are this and a number', 'sim-')
  .option('--devices-per-client <n>', 'devices that share a connection', countArgument, 1)
  .option('--in-flight <n>', 'unacknowledged messages of a connection, at most', countArgument, 20)
  .option('--reconnect-every <time>', 'disconnect in order and come back this often; 0s = never', durationArgument, 0)
  .option('--duplicates <p>', 'part of reports published twice', probabilityArgument, 0)
  .option('--late <p>', 'part of reports held back', probabilityArgument, 0)
  .option('--late-by <time>', 'held back for up to this long', durationArgument, 60_000)
  .option('--future <p>', 'part of reports stamped hours ahead', probabilityArgument, 0)
  .option('--malformed <p>', 'part of payloads that are broken', probabilityArgument, 0)
  .option('--oversized <p>', 'part of payloads that are huge; sent once', probabilityArgument, 0)
  .option('--oversized-bytes <n>', 'how huge', countArgument, 300 * 1024)
  .option('--gaps <p>', 'part of reports that the device loses: its counter moves on', probabilityArgument, 0)
  .option('--flapping <p>', 'probability that a connection breaks after a report', probabilityArgument, 0)
  .option('--clock-offset <time>', 'device clocks are wrong by up to this much', durationArgument, 0)
  .option('--drain <time>', 'wait this long for the last acknowledgements', durationArgument, 30_000)
  .option('--json', 'end with one JSON object on stdout', false)
  .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2));

const flags = program.parse().opts<Flags>();
const rates: FaultRates = {
  gap: flags.gaps,
  duplicate: flags.duplicates,
  late: flags.late,
  future: flags.future,
  malformed: flags.malformed,
  oversized: flags.oversized,
};
if (FAULTS.reduce((sum, fault) => sum + rates[fault], 0) > 1) {
  console.error('devices-sim: the fault rates must not add up to more than 1, a report has one fault at most');
  process.exit(2);
}

const options: SimulationOptions = {
  device: {
    seed: flags.seed,
    profile: flags.profile,
    topic: flags.topic ?? PROFILES[flags.profile].defaultTopic,
    intervalMs: 1_000 / flags.rate,
    jitter: flags.jitter,
    startMs: flags.start ?? Date.now(),
    rates,
    lateByMs: flags.lateBy,
    clockOffsetMs: flags.clockOffset,
    oversizedBytes: flags.oversizedBytes,
    flapping: flags.flapping,
  },
  devices: flags.devices,
  devicesPerClient: flags.devicesPerClient,
  clientPrefix: flags.client,
  client: {
    url: flags.url,
    qos: Number(flags.qos) as 0 | 1 | 2,
    maxInFlight: flags.inFlight,
    reconnectEveryMs: flags.reconnectEvery,
    ...(flags.username === undefined ? undefined : { username: flags.username }),
    ...(flags.password === undefined ? undefined : { password: flags.password }),
  },
  durationMs: flags.duration,
  drainMs: flags.drain,
};

const stop = new AbortController();
const ledger = flags.ledger === undefined ? noLedger : openLedger(flags.ledger);
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    if (stop.signal.aborted) {
      ledger.close();
      process.exit(130);
    }
    stop.abort();
  });
}

// Started by another program with a channel: when that program ends, however it ends, this one does too.
if (process.channel) {
  process.channel.unref();
  process.once('disconnect', () => stop.abort());
}

const summary = await simulate(options, ledger, stop.signal);
ledger.close();
if (flags.json) {
  console.log(JSON.stringify(summary));
} else {
  const { published, acknowledged, unacknowledged, attempts, devices, seconds } = summary;
  console.log(
    `${devices} devices, ${seconds} s: ${published} published in ${attempts} attempts, ${acknowledged} acknowledged, ${unacknowledged} not`,
  );
}
process.exitCode = summary.unacknowledged === 0 && summary.unsent === 0 ? 0 : 1;
