/**
 * `millrace check --schema FILE --last 24h`: what another schema would refuse of a stream's real history, before it is switched.
 * Exit 0: nothing that was accepted would be refused. 1: something would be. 2: the schema or the command line is wrong.
 */
import { resolve } from 'node:path';
import type { Config } from '../config.ts';
import { OTHERS } from '../parts/account.ts';
import { openLogs } from '../parts/open-logs.ts';
import { type DeviceForecast, type Rehearsal, rehearse as rehearseAll } from '../parts/rehearsal.ts';
import type { Stream } from '../stream.ts';
import { parseDurationMs } from '../units.ts';
import { EXIT, type Progress } from './terminal.ts';

export interface RehearseOptions {
  readonly schema: string;
  readonly last?: string | undefined;
  readonly stream?: string | undefined;
  readonly json: boolean;
  readonly nowMs: number;
  readonly out: (line: string) => void;
  readonly progress: Progress;
}

/** Devices that are printed, the most refused first; all are in the JSON. */
const SHOWN = 50;

/** A text says what is wrong with the command line. */
export async function rehearse(config: Config, options: RehearseOptions): Promise<number | string> {
  const { json, out, nowMs, last = '24h' } = options;
  const stream = streamOf(config, options.stream);
  if (typeof stream === 'string') return stream;
  const lastMs = parseDurationMs(last);
  if (lastMs === null) return `--last ${last} is not a duration such as 24h or 7d`;
  const logs = openLogs(config);
  try {
    const outcome = await rehearseAll({
      ...{ config, stream, log: logs.log, deadLetters: logs.deadLetters },
      schema: resolve(options.schema),
      fromMs: nowMs - lastMs,
      toMs: nowMs + 1,
      onProgress: (read, inAll) => options.progress(read, inAll, 'records'),
    });
    if (!outcome.ok) {
      const { code, message } = outcome.failure;
      if (code === 'CONFIG_INVALID') return message.replace(/\.$/, '');
      out(json ? JSON.stringify({ error: message }) : `millrace: ${message}`);
      return EXIT.no;
    }
    const { value } = outcome;
    if (json) out(JSON.stringify({ ...value, devices: Object.fromEntries(named(value)) }));
    else for (const line of describe(value, stream, options.schema, last)) out(line);
    return value.totals.refused === 0 ? EXIT.ok : EXIT.no;
  } finally {
    await logs.close();
  }
}

function streamOf({ streams }: Config, name: string | undefined): Stream | string {
  const all = Object.values(streams);
  if (name !== undefined)
    return streams[name] ?? `there is no stream ${name}; the configuration has ${Object.keys(streams).join(', ')}`;
  const withSchema = all.filter(({ schema }) => schema !== null);
  const only = withSchema.length === 1 ? withSchema : all;
  return only.length === 1 ? only[0]! : `--schema needs --stream, one of ${all.map((one) => one.name).join(', ')}`;
}

function named({ devices }: Rehearsal): [string, DeviceForecast][] {
  return [...devices].map(([device, forecast]) => [device === OTHERS ? '(others)' : device, forecast]);
}

function describe(found: Rehearsal, stream: Stream, file: string, last: string): string[] {
  const { totals, version, versionNow, untried } = found;
  const now = versionNow === null ? 'no schema now' : `now ${versionNow}`;
  const lines = [
    `Stream ${found.stream}, schema ${file} as version ${version} (${now}), on what was received in the last ${last}:`,
    `${number(totals.readings)} readings were accepted, ${number(totals.readingsLost)} of them would be refused, in ${count(totals.refused, 'message')}.`,
    `${number(totals.letters)} messages were refused, ${number(totals.lettersPass)} of them would pass.`,
  ];
  if (untried > 0) lines.push(`${number(untried)} readings are in the log without their payload: not tried.`);
  const devices = named(found).filter(([, { refused, letters }]) => refused + letters > 0);
  devices.sort(([, a], [, b]) => b.refused - a.refused || b.letters - a.letters);
  for (const [device, { readings, refused, readingsLost, letters, lettersPass, reasons }] of devices.slice(0, SHOWN)) {
    const then = letters > 0 ? `; of ${count(letters, 'dead letter')} ${number(lettersPass)} would pass` : '';
    lines.push(
      `${device}: ${number(readingsLost)} of ${count(readings, 'reading')} refused, in ${count(refused, 'message')}${then}`,
    );
    for (const { code, messages, example } of reasons) lines.push(`  ${number(messages)} x ${code}: ${example}`);
  }
  if (devices.length > SHOWN) lines.push(`... and ${number(devices.length - SHOWN)} more devices`);
  const place = stream.schema ?? 'a file, named by `schema` in the stream';
  lines.push(
    `To switch, move it to ${place}: a running gateway takes it as a whole, and every record names the version it was judged by.`,
  );
  return lines;
}

function count(amount: number, what: string): string {
  return `${number(amount)} ${what}${amount === 1 ? '' : 's'}`;
}

function number(value: number): string {
  return value.toLocaleString('en');
}
