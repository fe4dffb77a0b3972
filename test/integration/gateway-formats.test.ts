/**
 * Every payload format through the running program: what devices send in it becomes readings in the log, in the windows and
 * in the answer of `millrace check`; what it cannot be becomes a dead letter; and a Sparkplug node that the gateway does not
 * know is asked, over MQTT, to be born again, also after a restart of the gateway.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { encode as encodeMsgpack } from '@msgpack/msgpack';
import { encode as encodeCbor } from 'cborg';
import { check } from '../../src/cli/check.ts';
import { systemClock } from '../../src/clock.ts';
import { openSpoolReader } from '../../src/journal/spool-reader.ts';
import { decodeReading } from '../../src/reading.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { readBack, sparkplug, TYPE } from '../inspect/decode/sparkplug-payload.ts';
import { type GatewayProcess, startGateway } from '../support/gateway-process.ts';
import { RawClient } from '../support/mqtt-raw.ts';

const SCHEMA = JSON.stringify({ required: ['t'], properties: { t: { type: 'number', maximum: 100 } } });
const YAML = `streams:
  cbor: { topic: "cbor/{device}", format: cbor, compression: gzip, schema: t.schema.json, time: ts, metrics: [t] }
  msgpack: { topic: "msgpack/{device}", format: msgpack, schema: t.schema.json, time: ts, metrics: [t] }
  senml: { topic: "senml/{site}", format: senml, schema: t.schema.json, key: name, tags: [name], time: time, metrics: [t] }
  lines: { topic: "lines/{site}", format: line-protocol, precision: ms, schema: t.schema.json, key: room, tags: [room], time: time, metrics: [t] }
  lorawan: { topic: "v3/{app}/devices/{device}/up", format: lorawan, schema: t.schema.json, time: uplink.time, sequence: uplink.f_cnt, metrics: [t] }
  nodes: { topic: "spBv1.0/{group}/+/{node}", format: sparkplug-b, key: node, time: timestamp, metrics: [t] }
  devices: { topic: "spBv1.0/{group}/+/{node}/{device}", format: sparkplug-b, schema: t.schema.json, time: timestamp, metrics: [t] }
`;

describe('Payload formats through the running program', function () {
  this.timeout(60_000);
  let folder: string;
  let gateway: GatewayProcess;
  let client: RawClient;
  let messageId = 0;
  const now = systemClock.nowMs();

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'millrace-formats-'));
    writeFileSync(join(folder, 't.schema.json'), SCHEMA);
    gateway = await startGateway({ folder, yaml: YAML });
    client = await RawClient.connected(gateway.mqttPort, { clientId: 'devices' });
  });
  after(async () => {
    client?.end();
    await gateway?.end('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  });

  async function send(topic: string, payload: string | Uint8Array): Promise<void> {
    client.publish(topic, Buffer.from(payload), 1, ++messageId);
    await client.until('puback', messageId);
  }

  /** The records of the log that are readings or refusals: [stream, values or code]. */
  async function logged(): Promise<[string, unknown][]> {
    const clock = systemClock;
    const reader = openSpoolReader({ folder: join(folder, 'data', 'spool'), clock, telemetry: silentTelemetry() });
    const found: [string, unknown][] = [];
    for await (const { records } of reader.range(0, 0, Number.MAX_SAFE_INTEGER)) {
      for (const { kind, value } of records) {
        const text = Buffer.from(value).toString();
        const reading = kind === 'reading' ? decodeReading(text) : null;
        if (reading) found.push([reading.stream, reading.values.t]);
        else if (kind === 'refusal') found.push([JSON.parse(text).stream, JSON.parse(text).code]);
      }
    }
    await reader.close();
    return found;
  }

  const uplink = (t: number) =>
    JSON.stringify({
      end_device_ids: { device_id: 'd1' },
      uplink_message: { received_at: new Date(now).toISOString(), f_cnt: 1, decoded_payload: { t } },
    });
  const senml = (t: number) =>
    JSON.stringify([
      { bn: 'a:', n: 't', v: 20 },
      { bn: 'b:', n: 't', v: t },
    ]);
  const MESSAGES: [topic: string, payload: string | Uint8Array, becomes: [string, unknown][]][] = [
    ['cbor/d1', encodeCbor({ ts: now, t: 1.5 }), [['cbor', 1.5]]],
    [
      'cbor/d1',
      gzipSync(
        encodeCbor([
          { ts: now + 1, t: 2 },
          { ts: now + 2, t: 3 },
        ]),
      ),
      [
        ['cbor', 2],
        ['cbor', 3],
      ],
    ],
    [
      'cbor/d1',
      encodeCbor([
        { ts: now, t: 2 },
        { ts: now, t: 101 },
      ]),
      [['cbor', 'schema']],
    ],
    ['cbor/d1', gzipSync(Buffer.alloc(8 * 2 ** 20)), [['cbor', 'too-large']]],
    ['msgpack/d1', encodeMsgpack({ ts: now, t: 4 }), [['msgpack', 4]]],
    ['msgpack/d1', Buffer.from('{"ts":1,"t":1}'), [['msgpack', 'malformed']]],
    [
      'msgpack/d1',
      encodeMsgpack({ ts: now, t: 2n ** 53n + 1n }, { useBigInt64: true }),
      [['msgpack', 'number-out-of-range']],
    ],
    [
      'senml/s1',
      senml(5),
      [
        ['senml', 20],
        ['senml', 5],
      ],
    ],
    ['senml/s1', senml(101), [['senml', 'schema']]],
    [
      'lines/s1',
      `home,room=Kitchen t=6,h=1i ${now}\nhome,room=Hall t=7 ${now}`,
      [
        ['lines', 6],
        ['lines', 7],
      ],
    ],
    ['lines/s1', `home,room=Kitchen t=101 ${now}`, [['lines', 'schema']]],
    ['v3/app/devices/d1/up', uplink(8), [['lorawan', 8]]],
    ['v3/app/devices/d1/up', uplink(101), [['lorawan', 'schema']]],
  ];

  it('makes readings of them, schema and batches included, and dead letters of the rest', async () => {
    for (const [topic, payload] of MESSAGES) await send(topic, payload);
    assert.deepEqual(
      await logged(),
      MESSAGES.flatMap(([, , becomes]) => becomes),
    );
    const accepted = MESSAGES.flatMap(([, , becomes]) => becomes.filter(([, t]) => typeof t === 'number')).length;
    assert.equal(await gateway.metric('millrace_accepted_total'), accepted);
  });

  it('says in `millrace check` what would become of each', async () => {
    for (const [topic, payload, becomes] of MESSAGES) {
      const file = join(folder, 'payload');
      writeFileSync(file, payload);
      const lines: string[] = [];
      const code = await check({
        config: join(folder, 'all.yaml'),
        topic,
        payload: file,
        json: true,
        colour: false,
        env: {},
        out: (line) => lines.push(line),
      });
      const { message } = JSON.parse(lines[0]!);
      const said = message.accepted
        ? message.readings.map((one: { values: { t: number } }) => one.values.t)
        : [message.refusal.code];
      assert.deepEqual(
        said,
        becomes.map(([, t]) => t),
        topic,
      );
      assert.equal(code, message.accepted ? 0 : 1);
    }
  });

  const bdSeq = { name: 'bdSeq', datatype: TYPE.int64, long_value: 0 };
  const birth = { name: 't', alias: 1, datatype: TYPE.double, double_value: 10 };
  const data = (seq: number) => sparkplug(seq, [{ alias: 1, double_value: seq }], now + seq);

  it('asks a Sparkplug node that it does not know for a rebirth, and then understands its aliases', async () => {
    const before = (await logged()).length;
    await client.subscribe('spBv1.0/plant/NCMD/n1');
    await send('spBv1.0/plant/DDATA/n1/d1', data(7));
    const command = await client.until('publish');
    assert.equal((command as { topic: string }).topic, 'spBv1.0/plant/NCMD/n1');
    const { metrics } = readBack((command as unknown as { payload: Buffer }).payload);
    assert.equal((metrics as { name: string }[])[0]!.name, 'Node Control/Rebirth');
    await send('spBv1.0/plant/NBIRTH/n1', sparkplug(0, [bdSeq], now));
    await send('spBv1.0/plant/DBIRTH/n1/d1', sparkplug(1, [birth], now + 1));
    await send('spBv1.0/plant/DDATA/n1/d1', data(2));
    await send('spBv1.0/plant/DDEATH/n1/d1', sparkplug(3, [], now));
    assert.deepEqual((await logged()).slice(before), [
      ['devices', 'no-birth'],
      ['devices', 10],
      ['devices', 2],
    ]);
    // the birth of the node, which has none of the metrics, and the death of the device
    assert.equal(await gateway.metric('millrace_without_reading_total'), 2);
  });

  it('asks again after a restart, when it has forgotten the births', async () => {
    client.end();
    await gateway.end('SIGTERM');
    gateway = await startGateway({ folder, yaml: YAML });
    client = await RawClient.connected(gateway.mqttPort, { clientId: 'devices' });
    messageId = 0;
    await client.subscribe('spBv1.0/+/NCMD/+');
    await send('spBv1.0/plant/DDATA/n1/d1', data(4));
    await client.until('publish');
    assert.deepEqual((await logged()).at(-1), ['devices', 'no-birth']);
  });
});
