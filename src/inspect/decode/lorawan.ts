/**
 * LoRaWAN uplinks as the common network servers publish them: The Things Stack v3, ChirpStack v4 and v3, Helium's
 * console. One envelope = one reading. Its document is the decoded object that the network server's payload formatter
 * made, with what the envelope says of the uplink beside it under `uplink`:
 *
 *   { temperature: 21.5, ..., uplink: { server, device, dev_eui, application, time, f_cnt, f_port, rssi, snr, gateways } }
 *
 * so that a stream reads `metrics: [temperature]`, `time: uplink.time`, `sequence: uplink.f_cnt`. `rssi` and `snr` are those
 * of the gateway that heard it best; `dev_eui` is lower-case hexadecimal; what the envelope lacks is absent. An uplink
 * without a decoded object is refused: the bytes alone are no reading.
 */
import { Problem, show } from '../refusal.ts';
import { type Decoded, type DecodeLimits, type Document, decoded } from './document.ts';
import { decodeJson } from './json.ts';
import { isMap } from './plain.ts';

export function decodeLorawan(payload: Uint8Array, limits: DecodeLimits): Decoded | Problem {
  const json = decodeJson(payload, limits);
  if (json instanceof Problem) return json;
  const documents: Document[] = [];
  for (const [i, envelope] of json.documents.entries()) {
    const document = readEnvelope(envelope, limits);
    if (document instanceof Problem) return json.batch ? document.within(i) : document;
    documents.push(document);
  }
  return decoded(documents, json.batch, limits, json.source);
}

function readEnvelope(envelope: Document, limits: DecodeLimits): Document | Problem {
  const uplink = isMap(envelope.uplink_message)
    ? thingsStack(envelope, envelope.uplink_message)
    : isMap(envelope.deviceInfo)
      ? chirpStack4(envelope, envelope.deviceInfo)
      : 'devEUI' in envelope && 'fCnt' in envelope
        ? chirpStack3(envelope, limits)
        : 'dev_eui' in envelope && 'fcnt' in envelope
          ? helium(envelope)
          : null;
  if (uplink === null) {
    const known = 'The Things Stack v3, ChirpStack v3 or v4, Helium';
    return new Problem('malformed', '', `the payload is not an uplink of ${known}`);
  }
  if (uplink instanceof Problem) return uplink;
  const { object, pointer, ...about } = uplink;
  if (!isMap(object)) {
    const hint = 'is not a decoded object; the network server needs a payload formatter for this device';
    return new Problem('malformed', pointer, `${pointer}: ${show(object)} ${hint}`);
  }
  if (Object.hasOwn(object, 'uplink')) {
    return new Problem('malformed', `${pointer}/uplink`, 'the decoded object has a field named uplink, which is taken');
  }
  return { ...object, uplink: withoutNothing(about) };
}

/** `object` is what was decoded, `pointer` where it stood. */
interface Uplink {
  readonly object: unknown;
  readonly pointer: string;
  readonly server: string;
  readonly device?: unknown;
  readonly dev_eui?: unknown;
  readonly application?: unknown;
  readonly time?: unknown;
  readonly f_cnt?: unknown;
  readonly f_port?: unknown;
  readonly rssi?: number;
  readonly snr?: number;
  readonly gateways?: number;
}

function thingsStack(envelope: Document, message: Document): Uplink {
  const ids = inner(envelope, 'end_device_ids');
  return {
    object: message.decoded_payload,
    pointer: '/uplink_message/decoded_payload',
    server: 'things-stack',
    device: ids.device_id,
    dev_eui: lowerCase(ids.dev_eui),
    application: inner(ids, 'application_ids').application_id,
    time: message.received_at ?? envelope.received_at,
    // An absent number is 0 in its JSON.
    f_cnt: message.f_cnt ?? 0,
    f_port: message.f_port ?? 0,
    ...heard(message.rx_metadata),
  };
}

function chirpStack4(envelope: Document, info: Document): Uplink {
  return {
    object: envelope.object,
    pointer: '/object',
    server: 'chirpstack',
    device: info.deviceName,
    dev_eui: lowerCase(info.devEui),
    application: info.applicationName,
    time: envelope.time,
    f_cnt: envelope.fCnt,
    f_port: envelope.fPort,
    ...heard(envelope.rxInfo),
  };
}

function chirpStack3(envelope: Document, limits: DecodeLimits): Uplink | Problem {
  let { object } = envelope;
  let pointer = '/object';
  if (object === undefined && typeof envelope.objectJSON === 'string' && envelope.objectJSON !== '') {
    pointer = '/objectJSON';
    const json = decodeJson(Buffer.from(envelope.objectJSON), limits);
    if (json instanceof Problem) return new Problem(json.code, pointer, `${pointer}: ${json.reason}`);
    object = json.batch ? json.documents : json.documents[0];
  }
  return {
    object,
    pointer,
    server: 'chirpstack',
    device: envelope.deviceName,
    dev_eui: euiOf(envelope.devEUI),
    application: envelope.applicationName,
    time: envelope.publishedAt ?? timeHeard(envelope.rxInfo),
    f_cnt: envelope.fCnt,
    f_port: envelope.fPort,
    ...heard(envelope.rxInfo),
  };
}

function helium(envelope: Document): Uplink {
  return {
    object: inner(envelope, 'decoded').payload,
    pointer: '/decoded/payload',
    server: 'helium',
    device: envelope.name,
    dev_eui: lowerCase(envelope.dev_eui),
    application: envelope.app_eui,
    time: envelope.reported_at,
    f_cnt: envelope.fcnt,
    f_port: envelope.port,
    ...heard(envelope.hotspots),
  };
}

function inner(document: Document, key: string): Document {
  const value = document[key];
  return isMap(value) ? value : {};
}

/** Of the gateways that heard it: how many, and the best signal. */
function heard(list: unknown): Pick<Uplink, 'rssi' | 'snr' | 'gateways'> {
  const gateways = Array.isArray(list) ? list.filter(isMap) : [];
  let best: Document | null = null;
  for (const gateway of gateways) {
    if (typeof gateway.rssi !== 'number') continue;
    if (best === null || gateway.rssi > (best.rssi as number)) best = gateway;
  }
  const snr = best?.snr ?? best?.loRaSNR;
  return {
    gateways: gateways.length,
    ...(best ? { rssi: best.rssi as number } : undefined),
    ...(typeof snr === 'number' ? { snr } : undefined),
  };
}

function timeHeard(list: unknown): unknown {
  return Array.isArray(list) ? list.filter(isMap).find(({ time }) => typeof time === 'string')?.time : undefined;
}

function lowerCase(value: unknown): unknown {
  return typeof value === 'string' ? value.toLowerCase() : value;
}

/** ChirpStack v3 writes it as hexadecimal or, with its other marshaler, as base64. */
function euiOf(value: unknown): unknown {
  if (typeof value !== 'string' || /^[0-9a-fA-F]{16}$/.test(value)) return lowerCase(value);
  const bytes = Buffer.from(value, 'base64');
  return bytes.length === 8 ? bytes.toString('hex') : value;
}

function withoutNothing(about: object): Document {
  return Object.fromEntries(Object.entries(about).filter(([, value]) => value !== undefined && value !== null));
}
