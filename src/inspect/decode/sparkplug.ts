/**
 * Sparkplug B (specification 3.0): topics `spBv1.0/GROUP/TYPE/NODE[/DEVICE]`, protobuf payloads. The stream's topic says with
 * `+` that any TYPE will do: `spBv1.0/{group}/+/{node}/{device}` for devices, `spBv1.0/{group}/+/{node}` for nodes; a gateway
 * needs both, because a node and its devices share one row of sequence numbers.
 *
 * Readings: the metrics of a birth or data message that have the same time (their own, else the payload's, else the received
 * stamp) are one reading, its document `{ timestamp, NAME: value, ... }`. Of a message with metrics at several times, readings
 * that hold none of the stream's metrics are left out: nodes report what has changed, which may be something else. Deaths
 * and commands are no readings; nor is STATE.
 *
 * Aliases and types come from births (births.ts). A metric whose name or type is not known, because the gateway has not seen
 * the birth or may have missed one, refuses the message as `no-birth`, and the node is asked to be born again. A message
 * sent again from the dead letters neither uses nor changes what is known now.
 *
 * Values: integers in the range of their type, those beyond 2^53 refused; NaN and infinities refused; DateTime is
 * milliseconds; data sets, templates, arrays and files are base64 text; a null metric is absent.
 */
import { messageOf } from '../../errors.ts';
import type { BirthMemory, Born } from '../births.ts';
import { Problem, printable, show } from '../refusal.ts';
import { type Decoded, type DecodeLimits, type Decoder, type Document, decoded, sizeProblem } from './document.ts';
import { pointerTo } from './json.ts';
import { exactNumber, forbidden, toPlain } from './plain.ts';
import { readSparkplug, type SparkplugMetric, type SparkplugPayload, type SparkplugValue } from './sparkplug-wire.ts';

const NAMESPACE = 'spBv1.0';
const NOTHING: Decoded = { documents: [], texts: [], batch: true };

interface Address {
  readonly group: string;
  readonly type: string;
  readonly node: string;
  /** '' = the node itself. */
  readonly device: string;
}

/** `metrics`: the first part of each of the stream's metrics; empty = all. */
export function sparkplugDecoder(births: BirthMemory, metrics: readonly string[]): Decoder {
  return (payload, limits, { topic, receivedMs, replayed = false }) => {
    const address = addressOf(topic);
    if (address instanceof Problem) return address;
    const { group, type, node } = address;
    if (type === 'NCMD' || type === 'DCMD' || type === 'STATE') return NOTHING;
    const read = readPayload(payload, limits);
    if (read instanceof Problem) {
      if (!replayed) births.lost(group, node, receivedMs);
      return read;
    }
    if (type === 'NDEATH' || type === 'DDEATH') {
      if (!replayed) noteDeath(births, address, read, receivedMs);
      return NOTHING;
    }
    const known = replayed ? ALONE : note(births, address, read, receivedMs);
    if (known instanceof Problem) return known;
    const documents = readingsOf(address, read, known, receivedMs);
    if (documents instanceof Problem) return documents;
    const wanted =
      metrics.length === 0 ? documents : documents.filter((one) => metrics.some((name) => Object.hasOwn(one, name)));
    return wanted.length === 0 ? NOTHING : decoded(wanted, documents.length > 1, limits);
  };
}

const TYPES = ['NBIRTH', 'NDATA', 'NDEATH', 'NCMD', 'DBIRTH', 'DDATA', 'DDEATH', 'DCMD'];

function addressOf(topic: string): Address | Problem {
  const levels = topic.split('/');
  if (levels[0] === NAMESPACE && levels[1] === 'STATE') return { group: '', type: 'STATE', node: '', device: '' };
  const [namespace, group = '', type = '', node = '', device = ''] = levels;
  const ofDevice = type.startsWith('D');
  if (namespace !== NAMESPACE || levels.length !== (ofDevice ? 5 : 4) || !TYPES.includes(type)) {
    const expected = `expected ${NAMESPACE}/GROUP/NBIRTH/NODE, ${NAMESPACE}/GROUP/DDATA/NODE/DEVICE or the like`;
    return new Problem('malformed', '', `${show(topic)} is not a topic of Sparkplug B; ${expected}`);
  }
  return { group, type, node, device };
}

function readPayload(payload: Uint8Array, limits: DecodeLimits): SparkplugPayload | Problem {
  const size = sizeProblem(payload, limits);
  if (size) return size;
  try {
    return readSparkplug(payload);
  } catch (error) {
    return new Problem('malformed', '', `not Sparkplug B: ${printable(messageOf(error))}`);
  }
}

/** How names and types are found that a metric does not carry itself. */
interface Known {
  byAlias(alias: number): { readonly name: string; readonly type: number } | null;
  typeOf(name: string): number | null;
}

const ALONE: Known = { byAlias: () => null, typeOf: () => null };

function noteDeath(births: BirthMemory, address: Address, payload: SparkplugPayload, receivedMs: number): void {
  const { group, node, device, type } = address;
  if (type === 'NDEATH') births.nodeDied(group, node, sessionOf(payload));
  else if (births.follows(group, node, sequenceOf(payload), receivedMs)) births.deviceDied(group, node, device);
}

/** Takes the message into what is known, and answers what it may use of that. */
function note(births: BirthMemory, address: Address, payload: SparkplugPayload, receivedMs: number): Known | Problem {
  const { group, node, device, type } = address;
  const sequence = sequenceOf(payload);
  if (type === 'NDATA' || type === 'DDATA') {
    if (!births.follows(group, node, sequence, receivedMs)) return ALONE;
    return {
      byAlias: (alias) => {
        const found = births.byAlias(group, node, alias);
        return found?.device === device ? found : null;
      },
      typeOf: (name) => births.typeOf(group, node, device, name),
    };
  }
  const born = definitionsOf(payload);
  if (born instanceof Problem || (type === 'NBIRTH' && sequence === null)) {
    births.lost(group, node, receivedMs);
    return born instanceof Problem ? born : new Problem('malformed', '', 'a birth without a sequence number');
  }
  if (type === 'NBIRTH') births.nodeBorn(group, node, born, sequence!, sessionOf(payload));
  else if (births.follows(group, node, sequence, receivedMs)) births.deviceBorn(group, node, device, born);
  return ALONE;
}

function definitionsOf({ metrics }: SparkplugPayload): Born | Problem {
  const names = new Set<string>();
  const aliases = new Set<number>();
  const born: { alias: number | null; name: string; type: number }[] = [];
  for (const { name, alias: given, type } of metrics) {
    if (name === null || name === '' || type === null || type === 0) {
      return new Problem('malformed', '', `a birth holds the metric ${show(name)} without a name or a type`);
    }
    const alias = given === null ? null : exactNumber(given);
    if (alias instanceof Problem) return alias;
    if (alias !== null && aliases.has(alias)) {
      return new Problem('malformed', '', `a birth gives the alias ${alias} to two metrics`);
    }
    // A birth may hold a metric at several times; it is one definition.
    if (names.has(name)) continue;
    names.add(name);
    if (alias !== null) aliases.add(alias);
    born.push({ alias, name, type });
  }
  return born;
}

function sequenceOf({ sequence }: SparkplugPayload): number | null {
  return sequence !== null && sequence < 256n ? Number(sequence) : null;
}

function sessionOf({ metrics }: SparkplugPayload): number | null {
  const value = metrics.find(({ name }) => name === 'bdSeq')?.value;
  return value?.kind === 'int64' || value?.kind === 'int32' ? Number(value.value) : null;
}

function readingsOf(
  { group, node, device }: Address,
  payload: SparkplugPayload,
  known: Known,
  receivedMs: number,
): Document[] | Problem {
  const byTime = new Map<number, Record<string, unknown>>();
  for (const metric of payload.metrics) {
    const named = nameOf(metric, known);
    if (named instanceof Problem) {
      const from = device === '' ? `${group}/${node}` : `${group}/${node}/${device}`;
      return new Problem(named.code, named.field, `${named.reason}; no birth of ${from} is known that says it`);
    }
    const { name, type } = named;
    if (name === '__proto__') return forbidden(name);
    if (name === 'timestamp')
      return new Problem('malformed', '/timestamp', 'a metric is named timestamp, which is taken');
    const value = metric.isNull || metric.value === null ? null : plainValue(metric.value, type);
    if (value instanceof Problem)
      return new Problem(value.code, pointerTo(name), `${printable(name)}: ${value.reason}`);
    const timeMs = timeOf(metric.timestamp ?? payload.timestamp, receivedMs);
    if (timeMs instanceof Problem)
      return new Problem('time-invalid', pointerTo(name), `${printable(name)}: ${timeMs.reason}`);
    let document = byTime.get(timeMs);
    if (!document) {
      document = { timestamp: timeMs };
      byTime.set(timeMs, document);
    }
    if (Object.hasOwn(document, name)) {
      return new Problem('malformed', pointerTo(name), `the metric ${show(name)} is there twice at one time`);
    }
    document[name] = value;
  }
  return [...byTime.values()];
}

function nameOf({ name, alias, type }: SparkplugMetric, known: Known): { name: string; type: number } | Problem {
  if (name !== null && name !== '') {
    const found = type === null || type === 0 ? known.typeOf(name) : type;
    return found === null ? noBirth(`the metric ${show(name)} has no type`) : { name, type: found };
  }
  if (alias === null) return new Problem('malformed', '', 'a metric has neither a name nor an alias');
  const found = known.byAlias(Number(alias));
  if (found === null) return noBirth(`the alias ${alias} has no name`);
  if (type !== null && type !== 0 && type !== found.type) {
    return noBirth(`the alias ${alias} is of type ${type}, where the birth said ${found.type}`);
  }
  return found;
}

function noBirth(reason: string): Problem {
  return new Problem('no-birth', '', reason);
}

function timeOf(timestamp: bigint | null, receivedMs: number): number | Problem {
  return timestamp === null ? receivedMs : exactNumber(timestamp);
}

/** Bits and whether it has a sign, of the types 1 to 8. */
const INTEGERS: Readonly<Record<number, { readonly bits: number; readonly signed: boolean }>> = {
  1: { bits: 8, signed: true },
  2: { bits: 16, signed: true },
  3: { bits: 32, signed: true },
  4: { bits: 64, signed: true },
  5: { bits: 8, signed: false },
  6: { bits: 16, signed: false },
  7: { bits: 32, signed: false },
  8: { bits: 64, signed: false },
  13: { bits: 64, signed: false },
};
const FLOAT = 9;
const DOUBLE = 10;
const BOOLEAN = 11;
const TEXTS = [12, 14, 15];

function plainValue(value: SparkplugValue, type: number): unknown {
  const integer = INTEGERS[type];
  if (integer && (value.kind === 'int32' || value.kind === 'int64')) {
    return integerOf(value.value, value.kind === 'int32' ? 32 : 64, integer);
  }
  if ((type === FLOAT || type === DOUBLE) && (value.kind === 'float' || value.kind === 'double')) {
    return toPlain(value.value, 0);
  }
  if (type === BOOLEAN && value.kind === 'boolean') return value.value;
  if (TEXTS.includes(type) && value.kind === 'text') return toPlain(value.value, 0);
  const scalar = integer || type === FLOAT || type === DOUBLE || type === BOOLEAN || TEXTS.includes(type);
  if (!scalar && value.kind === 'bytes') return toPlain(value.value, 0);
  return new Problem('number-invalid', '', `a value of the kind ${value.kind} does not fit the type ${type}`);
}

/**
 * `wire` is the unsigned number as sent, in `width` bits. A negative one of a short type comes extended to the width, or
 * cut to its own bits: both are what encoders do, and they do not overlap.
 */
function integerOf(wire: bigint, width: number, { bits, signed }: { bits: number; signed: boolean }): number | Problem {
  const own = bits < width && wire < 1n << BigInt(bits) ? bits : width;
  if (signed && bits > width && wire >= 1n << BigInt(width - 1)) {
    return new Problem('number-out-of-range', '', `${wire} in ${width} bits does not say whether it is negative`);
  }
  const value = signed ? BigInt.asIntN(own, wire) : wire;
  const low = signed ? -(1n << BigInt(bits - 1)) : 0n;
  const high = 1n << BigInt(signed ? bits - 1 : bits);
  if (value >= low && value < high) return exactNumber(value);
  return new Problem('number-out-of-range', '', `${value} is not an integer of ${bits} bits`);
}
