/**
 * `millrace simulate`: simulated devices that publish to the gateway of a configuration, as a profile file says (`init`
 * writes one). Until Ctrl-C, or with --for until the time is up. Exit 0: everything published was acknowledged; 1: not
 * everything was; 2: the command line, the configuration or the profile is wrong.
 */
import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { formatMistake, nearestName } from '../config/report.ts';
import { type Config, loadConfig } from '../config.ts';
import { messageOf } from '../errors.ts';
import { untilSignal } from './run.ts';
import { simulatorMistake, startSimulator, untilEnd } from './simulator.ts';
import { EXIT, type Terminal } from './terminal.ts';

export interface SimulateOptions {
  readonly config: string;
  readonly profile?: string;
  readonly url?: string;
  readonly for?: string;
  readonly devices?: string;
  readonly rate?: string;
  readonly json?: boolean;
}

/** Keys of a profile; each is an option of the simulator. */
const KEYS = [
  ...['devices', 'rate', 'jitter', 'qos', 'topic', 'profile', 'seed', 'client', 'devices-per-client', 'in-flight'],
  ...['reconnect-every', 'duplicates', 'late', 'late-by', 'future', 'malformed', 'gaps', 'flapping', 'clock-offset'],
  ...['username', 'password'],
];
const FOREVER = '87600h';

export async function simulate(options: SimulateOptions, terminal: Terminal): Promise<number> {
  const usage = (text: string) => {
    terminal.err(`millrace: ${text}`);
    return EXIT.usage;
  };
  const mistake = simulatorMistake(options);
  if (mistake !== null) return usage(mistake);
  const profile = options.profile === undefined ? [] : readProfile(options.profile);
  if (typeof profile === 'string') return usage(profile);
  let url = options.url;
  if (url === undefined) {
    const loaded = await loadConfig(options.config, terminal.env);
    if (!loaded.ok) {
      for (const mistake of loaded.mistakes) terminal.err(formatMistake(mistake));
      return EXIT.usage;
    }
    url = addressOf(loaded.config);
    if (url === undefined) return usage(`${options.config} has no listener without TLS; name the broker with --url`);
  }
  const args = [...profile, '--url', url, '--duration', options.for ?? FOREVER];
  if (options.devices !== undefined) args.push('--devices', options.devices);
  if (options.rate !== undefined) args.push('--rate', options.rate);
  if (!options.json) terminal.err(`Simulated devices publish to ${url}.${options.for ? '' : ' Ctrl-C stops them.'}`);
  const simulator = startSimulator(args);
  const ended = untilEnd(simulator);
  void untilSignal().then(() => simulator.kill('SIGINT'));
  const { code, summary } = await ended;
  if (code === EXIT.usage) return EXIT.usage;
  const { published, acknowledged, unacknowledged } = summary;
  if (options.json) terminal.out(JSON.stringify(summary));
  else terminal.out(`${published} published, ${acknowledged} acknowledged, ${unacknowledged} not.`);
  return code === 0 ? EXIT.ok : EXIT.no;
}

/** The options of the simulator that a profile stands for, or a sentence that says what is wrong with it. */
export function readProfile(file: string): string[] | string {
  let profile: unknown;
  try {
    profile = parse(readFileSync(file, 'utf8'));
  } catch (thrown) {
    return `the profile ${file} cannot be read: ${messageOf(thrown)}`;
  }
  if (typeof profile !== 'object' || profile === null || Array.isArray(profile)) {
    return `${file} is not a profile: it has settings such as devices: 20, one below the other`;
  }
  const args: string[] = [];
  for (const [key, value] of Object.entries(profile)) {
    if (!KEYS.includes(key)) {
      const nearest = nearestName(key, KEYS);
      return `${file}: ${key} is not a setting of a profile${nearest ? `; did you mean ${nearest}?` : ''}`;
    }
    if (typeof value !== 'string' && typeof value !== 'number') return `${file}: ${key} needs a text or a number`;
    args.push(`--${key}`, String(value));
  }
  return args;
}

function addressOf({ mqtt }: Config): string | undefined {
  const listener = mqtt.listeners.find(({ tls }) => tls === null);
  if (!listener) return undefined;
  const anywhere = listener.host === '0.0.0.0' || listener.host === '::';
  const host = anywhere ? '127.0.0.1' : listener.host.includes(':') ? `[${listener.host}]` : listener.host;
  return `${listener.websocket ? 'ws' : 'mqtt'}://${host}:${listener.port}`;
}
