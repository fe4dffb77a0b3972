/**
 * SenML packs (RFC 8428), JSON or CBOR, told apart by the first byte (`[` or an array of CBOR). Records are resolved
 * (section 4.6): base values are added, relative times become absolute from the received stamp.
 *
 * How records become readings: records with the same base name and the same resolved time are one reading, in the order
 * in which their first records stand in the pack. Its document:
 *
 *   { name: "urn:dev:ow:10e2073a01080063", time: 1700000000000, voltage: 120.1, units: { voltage: "V" }, sums: { ... } }
 *
 * `name` is the base name without the separator at its end (`:`, `/`, `.`, `-` or `_`); each record's own name is a field that
 * holds its value (number, text, boolean, or data in base64). A record without a name of its own has the last part of its base
 * name as field (`urn:dev:ow:10e2:temperature` -> `temperature` of `urn:dev:ow:10e2`), one without a base name likewise the
 * last part of its own name. `units` and `sums` hold what the records say under the same names; a base value or base sum alone
 * is a value or sum too (4.5.4). Time is in milliseconds, rounded down. A record of nothing but base fields sets them and is no
 * measurement.
 *
 * Refused: a name twice in one reading (one of them would be lost; the RFC's own example of humidity, longitude and latitude
 * under one name, 5.1.3, is such a pack), a version above 10 or two versions in a pack (4.4), a label ending in `_` (which says
 * that it must be understood), a record with neither value nor sum, two values (4.2), data that is not base64 of the URL-safe
 * alphabet without padding (5), or a name outside the RFC's characters (4.5.1).
 */
import { Problem, printable, show } from '../refusal.ts';
import { readCbor } from './cbor.ts';
import { type Decoded, type DecodeLimits, type Decoder, type Document, decoded } from './document.ts';
import { decodeJson } from './json.ts';
import { forbidden, plainDocuments } from './plain.ts';

export const decodeSenml: Decoder = (payload, limits, { receivedMs }) => {
  const records = isCborArray(payload) ? readRecords(payload, limits) : decodeJson(payload, limits);
  if (records instanceof Problem) return records;
  if (!records.batch) return new Problem('malformed', '', 'a SenML pack is an array of records, and this is an object');
  const pack = new Pack(receivedMs);
  for (const [i, record] of records.documents.entries()) {
    const problem = pack.add(record);
    if (problem) return new Problem(problem.code, `/${i}${problem.field}`, `record ${i + 1}: ${problem.reason}`);
  }
  return decoded(pack.documents(), true, limits, records.source);
};

function isCborArray(payload: Uint8Array): boolean {
  return payload.length > 0 && payload[0]! >= 0x80 && payload[0]! <= 0x9f;
}

/** RFC 8428, section 6: the labels of CBOR that are integers. */
const LABELS: Readonly<Record<string, string>> = {
  '-1': 'bver',
  '-2': 'bn',
  '-3': 'bt',
  '-4': 'bu',
  '-5': 'bv',
  '-6': 'bs',
  '0': 'n',
  '1': 'u',
  '2': 'v',
  '3': 'vs',
  '4': 'vb',
  '5': 's',
  '6': 't',
  '7': 'ut',
  '8': 'vd',
};

function readRecords(payload: Uint8Array, limits: DecodeLimits): Decoded | Problem {
  const value = readCbor(payload, limits);
  if (value instanceof Problem) return value;
  const plain = plainDocuments(value, limits);
  if (plain instanceof Problem) return plain;
  const documents: Document[] = [];
  for (const [i, record] of plain.documents.entries()) {
    const named: Record<string, unknown> = {};
    for (const key of Object.keys(record)) {
      const label = LABELS[key] ?? key;
      if (Object.hasOwn(named, label)) {
        return new Problem('malformed', `/${i}/${label}`, `record ${i + 1}: the label ${label} is there twice`);
      }
      named[label] = label === 'vd' ? urlSafe(record[key]) : record[key];
    }
    documents.push(named);
  }
  return { ...plain, documents };
}

/** Bytes, in base64 by now, as JSON has them (section 5). */
function urlSafe(data: unknown): unknown {
  return typeof data === 'string' ? data.replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '') : data;
}

/** Of a pack that names none: section 4.1. */
const VERSION = 10;
/** Smaller times are relative to now: RFC 8428, section 4.5.3. */
const ABSOLUTE_FROM_S = 2 ** 28;
const NAME = /^[A-Za-z0-9][A-Za-z0-9\-:./_]*$/;
const SEPARATOR = /[-:./_]$/;
const DATA = /^(?:[\w-]{4})*(?:[\w-]{2,3})?$/;
const LAST_PART = /^(.*)[:/.]([^:/.]+)$/;
const TAKEN = ['name', 'time', 'units', 'sums'];
const VALUES = { v: 'number', vs: 'string', vb: 'boolean', vd: 'string' } as const;

/** A record of these alone only sets what the ones behind it have. */
const BASE_LABELS = ['bn', 'bt', 'bu', 'bv', 'bs', 'bver'];

type Group = Record<string, unknown>;

class Pack {
  readonly #receivedMs: number;
  readonly #groups = new Map<string, Group>();
  /** Of the first record; all have the same. */
  #version: number | null = null;
  /** Null: none was set. */
  #base: { name: string; time: number; unit: string | null; value: number | null; sum: number | null } = {
    name: '',
    time: 0,
    unit: null,
    value: null,
    sum: null,
  };

  constructor(receivedMs: number) {
    this.#receivedMs = receivedMs;
  }

  documents(): Document[] {
    return [...this.#groups.values()];
  }

  add(record: Document): Problem | null {
    const mistake = labelMistake(record);
    if (mistake) return mistake;
    const { bver = this.#version ?? VERSION } = record;
    this.#version ??= bver as number;
    if (bver !== this.#version) return malformed(`its version is ${show(bver)} in a pack of version ${this.#version}`);
    const base = this.#base;
    base.name = (record.bn as string | undefined) ?? base.name;
    base.time = (record.bt as number | undefined) ?? base.time;
    base.unit = (record.bu as string | undefined) ?? base.unit;
    base.value = (record.bv as number | undefined) ?? base.value;
    base.sum = (record.bs as number | undefined) ?? base.sum;
    if (Object.keys(record).every((label) => BASE_LABELS.includes(label))) return null;
    const own = (record.n as string | undefined) ?? '';
    const full = base.name + own;
    if (!NAME.test(full)) {
      const allowed = 'letters, digits, - : . / _ and begins with a letter or digit';
      return malformed(`the name ${show(full)} is not one of SenML, which has ${allowed}`);
    }
    const label = Object.keys(VALUES).find((one) => record[one] !== undefined);
    const value = label === undefined || label === 'v' ? added(record.v, base.value) : record[label];
    const sum = added(record.s, base.sum);
    if (value === undefined && sum === undefined) return malformed('it has neither a value nor a sum');
    const { device, metric } = split(base.name, own);
    if (metric === '__proto__') return forbidden(metric);
    if (TAKEN.includes(metric)) return malformed(`the name ${metric} is taken by the reading itself`);
    const timeMs = this.#timeMs(base.time + ((record.t as number | undefined) ?? 0));
    if (timeMs === null) return malformed('its time is out of range');
    const group = this.#group(device, timeMs);
    if (Object.hasOwn(group, metric) || Object.hasOwn((group.sums as object | undefined) ?? {}, metric)) {
      return malformed(`${show(full)} is there twice at one time`);
    }
    if (value === Number.POSITIVE_INFINITY || value === Number.NEGATIVE_INFINITY)
      return new Problem('number-out-of-range', '/v', OVERFLOW);
    if (value !== undefined) group[metric] = value;
    if (sum !== undefined && !Number.isFinite(sum)) return new Problem('number-out-of-range', '/s', OVERFLOW);
    if (sum !== undefined) put(group, 'sums', metric, sum);
    const unit = (record.u as string | undefined) ?? base.unit;
    if (unit !== null && unit !== '') put(group, 'units', metric, unit);
    return null;
  }

  #group(device: string, timeMs: number): Group {
    const id = `${timeMs} ${device}`;
    let group = this.#groups.get(id);
    if (!group) {
      group = { name: device, time: timeMs };
      this.#groups.set(id, group);
    }
    return group;
  }

  /** To the microsecond, which is what a double of that size holds; then down to the millisecond. */
  #timeMs(seconds: number): number | null {
    const ms = Math.floor(Math.round(seconds * 1e6) / 1e3);
    const absolute = seconds >= ABSOLUTE_FROM_S ? ms : this.#receivedMs + ms;
    return Number.isSafeInteger(absolute) ? absolute : null;
  }
}

/** Section 4.5.4: where only one of the two is there, the other is zero. */
function added(own: unknown, base: number | null): number | undefined {
  return own === undefined && base === null ? undefined : ((own as number | undefined) ?? 0) + (base ?? 0);
}

const OVERFLOW = 'with its base value it is too large for a double';

const TYPES: Readonly<Record<string, string>> = {
  bn: 'string',
  bt: 'number',
  bu: 'string',
  bv: 'number',
  bs: 'number',
  bver: 'number',
  n: 'string',
  u: 'string',
  s: 'number',
  t: 'number',
  ut: 'number',
  ...VALUES,
};

function labelMistake(record: Document): Problem | null {
  for (const label of Object.keys(record)) {
    if (label.endsWith('_'))
      return malformed(`it has the label ${printable(label)}, which must be understood and is not`);
    const type = Object.hasOwn(TYPES, label) ? TYPES[label] : undefined;
    if (type !== undefined && typeof record[label] !== type) {
      return new Problem('malformed', `/${label}`, `${label} is ${show(record[label])}, expected a ${type}`);
    }
  }
  const values = Object.keys(VALUES).filter((label) => record[label] !== undefined);
  if (values.length > 1) return malformed(`it has two values, ${values.join(' and ')}`);
  const { bver, vd } = record;
  if (bver !== undefined && (bver as number) > VERSION)
    return malformed(`its version ${show(bver)} is above ${VERSION}`);
  if (bver !== undefined && !(Number.isInteger(bver) && (bver as number) > 0)) {
    return new Problem('malformed', '/bver', `its version is ${show(bver)}, expected a positive integer`);
  }
  if (vd !== undefined && !DATA.test(vd as string)) {
    return new Problem(
      'malformed',
      '/vd',
      `vd is ${show(vd)}, expected base64 of the URL-safe alphabet without padding`,
    );
  }
  return null;
}

/** What is the device and what the metric, of a base name and a record's own name. */
function split(base: string, own: string): { device: string; metric: string } {
  if (base !== '' && own !== '') return { device: base.replace(SEPARATOR, ''), metric: own };
  const parts = LAST_PART.exec(base + own);
  return parts ? { device: parts[1]!, metric: parts[2]! } : { device: '', metric: base + own };
}

function put(group: Group, field: 'units' | 'sums', metric: string, value: unknown): void {
  group[field] ??= {};
  (group[field] as Group)[metric] = value;
}

function malformed(what: string): Problem {
  return new Problem('malformed', '', what);
}
