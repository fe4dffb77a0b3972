#!/usr/bin/env node
/**
 * The load generator's command line. Prints one JSON object: counts, throughput, latencies; with `--warmup` another one
 * before it, `{"event":"measuring"}`, at the moment when the figures begin. With `--ledger` it writes,
 * when the run ends for whatever reason, one line for each device: how many messages were sent (counters from 0) and
 * which were acknowledged, as ranges: {"device":"load-1-1","topic":"…","sent":1204,"acknowledged":"0-1200,1203"}.
 * Exit 0: everything sent was acknowledged; 1: not; 2: the command line is wrong.
 */
import { writeFileSync } from 'node:fs';
import { Command, InvalidArgumentError } from 'commander';
import { DEFAULT_LOAD, type LoadOptions, runLoad } from './load-generator.ts';
import { parseDurationMs, parseRate } from './quantity.ts';

function integerArgument(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('expected an integer');
  return Number(text);
}

function durationArgument(text: string): number {
  const ms = parseDurationMs(text);
  if (ms === null) throw new InvalidArgumentError('expected a duration such as 500ms, 60s or 5m');
  return ms;
}

function rateArgument(text: string): number {
  const perSecond = parseRate(text);
  if (perSecond === null) throw new InvalidArgumentError('expected a rate such as 10000/s, or 0 for flat out');
  return perSecond;
}

interface Flags {
  url: string;
  connections: number;
  inFlight: number;
  rate: number;
  duration: number;
  messages: number;
  warmup: number;
  topic: string;
  devicesPerConnection: number;
  client: string;
  username?: string;
  password?: string;
  reconnect: boolean;
  drain: number;
  ledger?: string;
}

const program = new Command('devices-load')
  .description('MQTT QoS 1 load over raw sockets, with PUBACK latencies and a record of what was acknowledged.')
  .option('--url <url>', 'mqtt:// or mqtts://', DEFAULT_LOAD.url)
  .option('--connections <n>', 'number of connections', integerArgument, DEFAULT_LOAD.connections)
  .option('--in-flight <n>', 'unacknowledged messages of each', integerArgument, DEFAULT_LOAD.inFlight)
  .option('--rate <rate>', 'of all connections together; 0 = flat out', rateArgument, DEFAULT_LOAD.rate)
  .option('--duration <time>', 'stop sending after this time; 0s = never', durationArgument, DEFAULT_LOAD.durationMs)
  .option('--messages <n>', 'stop sending after so many; 0 = no limit', integerArgument, DEFAULT_LOAD.messages)
  .option('--warmup <time>', 'send for so long before the figures begin', durationArgument, DEFAULT_LOAD.warmupMs)
  .option('--topic <template>', 'with {device}', DEFAULT_LOAD.topic)
  .option('--devices-per-connection <n>', 'topics of each', integerArgument, DEFAULT_LOAD.devicesPerConnection)
  .option('--client <prefix>', 'client ids and devices start with this', DEFAULT_LOAD.clientPrefix)
  .option('--username <name>')
  .option('--password <text>')
  .option('--reconnect', 'come back after a broken connection and send again what was not acknowledged', false)
  .option('--drain <time>', 'wait this long for the last acknowledgements', durationArgument, DEFAULT_LOAD.drainMs)
  .option('--ledger <file>', 'write what was acknowledged')
  .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2));

const flags = program.parse().opts<Flags>();
if (flags.connections < 1 || flags.devicesPerConnection < 1 || flags.inFlight < 1 || flags.inFlight > 65_535) {
  console.error('devices-load: connections, devices and messages in flight start at 1; at most 65535 are in flight');
  process.exit(2);
}
const options: LoadOptions = {
  url: flags.url,
  connections: flags.connections,
  inFlight: flags.inFlight,
  rate: flags.rate,
  durationMs: flags.duration,
  messages: flags.messages,
  warmupMs: flags.warmup,
  topic: flags.topic,
  devicesPerConnection: flags.devicesPerConnection,
  clientPrefix: flags.client,
  reconnect: flags.reconnect,
  drainMs: flags.drain,
  ...(flags.username === undefined ? undefined : { username: flags.username }),
  ...(flags.password === undefined ? undefined : { password: flags.password }),
};

const stop = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort());
const { devices, ...result } = await runLoad(options, stop.signal, () => {
  if (options.warmupMs > 0) console.log(JSON.stringify({ event: 'measuring' }));
});
if (flags.ledger !== undefined) {
  const lines = devices.map(({ device, topic, sent, acknowledged }) =>
    JSON.stringify({ device, topic, sent, acknowledged: acknowledged.ranges() }),
  );
  writeFileSync(flags.ledger, lines.map((line) => `${line}\n`).join(''));
}
console.log(JSON.stringify(result));
process.exitCode = result.sent > 0 && result.unacknowledged === 0 ? 0 : 1;
