/**
 * One simulated device: an endless sequence of reports, each with the moment it is taken, the moment it leaves the
 * device, and what goes wrong with it. A pure function of seed, number, options and start time; nothing here waits or
 * sends. Timing, values and faults draw from sequences of their own, so turning a fault on changes only what it breaks.
 */
import { PROFILES, type ProfileName } from './profile.ts';
import { Random } from './random.ts';

export const FAULTS = ['gap', 'duplicate', 'late', 'future', 'malformed', 'oversized'] as const;
/** What is wrong with a report, as the ledger names it. */
export type Fault = 'none' | (typeof FAULTS)[number];

/** Probabilities for each report, in [0, 1]; together at most 1, a report has one fault at most. */
export type FaultRates = Readonly<Record<(typeof FAULTS)[number], number>>;

export interface DeviceOptions {
  readonly seed: number;
  readonly profile: ProfileName;
  /** `{device}` and `{site}` are filled in; any other `{name}` becomes name and number. */
  readonly topic: string;
  readonly intervalMs: number;
  /** Each interval differs by up to this part of it. */
  readonly jitter: number;
  readonly startMs: number;
  readonly rates: FaultRates;
  /** A late report is held back for up to this long. */
  readonly lateByMs: number;
  /** Each device's clock is wrong by a constant of up to this much, either way. */
  readonly clockOffsetMs: number;
  /** Size of an oversized payload. */
  readonly oversizedBytes: number;
  /** Probability that the connection breaks right after a report was sent. */
  readonly flapping: number;
}

export interface Report {
  readonly device: string;
  readonly topic: string;
  readonly seq: number;
  /** The time in the payload. */
  readonly ts: number;
  readonly fault: Fault;
  /** When it is measured, by the true clock. */
  readonly takenMs: number;
  /** When it is ready to be sent; later than takenMs only for late ones. */
  readonly dueMs: number;
  /** Null for a gap: the counter moved on, nothing is sent. */
  readonly payload: Uint8Array | null;
  /** How often it is published: 2 for duplicates. */
  readonly copies: number;
  readonly flaps: boolean;
}

const SITES = ['berlin', 'lyon', 'osaka', 'quito'];
const HOUR_MS = 3_600_000;

export function deviceName(index: number): string {
  return `d${String(index + 1).padStart(4, '0')}`;
}

export function siteName(index: number): string {
  return SITES[index % SITES.length]!;
}

export function deviceTopic(template: string, index: number): string {
  return template.replace(/\{(\w+)\}/g, (_, name: string) => {
    if (name === 'device') return deviceName(index);
    if (name === 'site') return siteName(index);
    return `${name}${index + 1}`;
  });
}

export function* deviceReports(index: number, options: DeviceOptions): Generator<Report, never> {
  const { seed, profile, intervalMs, jitter, startMs, rates, lateByMs, clockOffsetMs } = options;
  const device = deviceName(index);
  const topic = deviceTopic(options.topic, index);
  const timing = new Random(seed, 'timing', device);
  const faults = new Random(seed, 'faults', device);
  const { source, timeField } = PROFILES[profile];
  const report = source(seed, siteName(index), device, startMs);
  const offsetMs = Math.round(new Random(seed, 'clock', device).between(-clockOffsetMs, clockOffsetMs));
  let idealMs = startMs + timing.next() * intervalMs;
  let previousMs = 0;
  for (let seq = 0; ; seq++) {
    // Two reports of one device never carry the same time, at whatever rate.
    const takenMs = Math.max(Math.floor(idealMs), previousMs + 1);
    previousMs = takenMs;
    idealMs += intervalMs * (1 + timing.between(-jitter, jitter));
    const fault = chooseFault(faults.next(), rates);
    const extent = faults.next();
    const variant = faults.next();
    const flaps = faults.next() < options.flapping;
    const ts = takenMs + offsetMs + (fault === 'future' ? Math.ceil((1 + 23 * extent) * HOUR_MS) : 0);
    const content = JSON.stringify({ [timeField]: ts, seq, ...report(takenMs) });
    yield {
      device,
      topic,
      seq,
      ts,
      fault,
      takenMs,
      dueMs: fault === 'late' ? takenMs + Math.ceil(extent * lateByMs) : takenMs,
      payload: makePayload(fault, content, variant, options.oversizedBytes),
      copies: fault === 'duplicate' ? 2 : 1,
      flaps,
    };
  }
}

function chooseFault(draw: number, rates: FaultRates): Fault {
  let below = 0;
  for (const fault of FAULTS) {
    below += rates[fault];
    if (draw < below) return fault;
  }
  return 'none';
}

function makePayload(fault: Fault, content: string, variant: number, oversizedBytes: number): Uint8Array | null {
  if (fault === 'gap') return null;
  if (fault === 'malformed') return MALFORMED[Math.floor(variant * MALFORMED.length)]!(content);
  if (fault !== 'oversized') return Buffer.from(content);
  const padding = 'x'.repeat(Math.max(0, oversizedBytes - content.length));
  return Buffer.from(`${content.slice(0, -1)},"padding":"${padding}"}`);
}

/** Each is wrong whatever the stream's configuration says. */
const MALFORMED: readonly ((content: string) => Uint8Array)[] = [
  (content) => Buffer.from(content.slice(0, Math.floor(content.length / 2))),
  (content) => Buffer.from(content.replaceAll('"', "'")),
  (content) => Buffer.from(content.replace(/:\s*\d[\d.]*/, ':NaN')),
  (content) => Buffer.concat([Buffer.from(content.slice(0, -1)), Buffer.from(',"note":"'), Buffer.of(0xff, 0xfe)]),
  () => Buffer.alloc(0),
  () => Buffer.from('ERROR: sensor not ready'),
  (content) => Buffer.from(`${content}${content}`),
];
