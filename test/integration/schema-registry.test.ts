/**
 * Readings in the frame of a schema registry, through a real Kafka: the registry is away at first, so they wait in the spool; then
 * they are in Kafka as any program of that registry reads them, the rollup makes rows of them, and `verify` agrees.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import avsc from 'avsc';
import { Kafka, type KafkaMessage, logLevel } from 'kafkajs';
import { pino } from 'pino';
import { kafkaReader } from '../../src/journal/kafka-reader.ts';
import { kafkaTopics, prepareTopics } from '../../src/journal/kafka-topics.ts';
import { kafkaWriter } from '../../src/journal/kafka-writer.ts';
import { Telemetry } from '../../src/telemetry.ts';
import { books, endsInKafka, KafkaSide, type Load, startLoad } from '../faults/kafka-gateway.ts';
import { Ledger } from '../faults/ledger.ts';
import { dropTopics } from '../journal/kafka-fixture.ts';
import { type GatewayProcess, runMillrace, startGateway } from '../support/gateway-process.ts';
import { RegistryStub } from '../support/registry-stub.ts';
import { needKafka } from '../support/servers.ts';
import { until } from '../support/until.ts';

const DEADLINE_MS = 60_000;

describe('a schema registry beside a real Kafka', function () {
  this.timeout(180_000);
  let brokers: string[];
  let folder: string;
  let stub: RegistryStub;
  let gateway: GatewayProcess | null;
  let load: Load | null;
  let side: KafkaSide;

  beforeEach(async function () {
    brokers = needKafka(this);
    folder = mkdtempSync(join(tmpdir(), 'millrace-registry-'));
    stub = new RegistryStub();
    await stub.open();
    gateway = null;
    load = null;
  });
  afterEach(async function () {
    if (this.currentTest?.state === 'failed') console.log(gateway?.log());
    await gateway?.end('SIGKILL');
    await load?.end(new Ledger()).catch(() => {});
    await stub?.close();
    if (side) await dropTopics(side.config);
    if (folder) rmSync(folder, { recursive: true, force: true });
  });

  /** As they are on the wire. */
  async function raw(topic: string, least: number): Promise<KafkaMessage[]> {
    const consumer = new Kafka({ brokers, logLevel: logLevel.NOTHING }).consumer({ groupId: `raw-${randomUUID()}` });
    const messages: KafkaMessage[] = [];
    await consumer.connect();
    try {
      await consumer.subscribe({ topics: [topic], fromBeginning: true });
      await consumer.run({
        eachMessage: async ({ message }) => void (message.value?.length && messages.push(message)),
      });
      await until(() => messages.length >= least, DEADLINE_MS, 'the messages are read');
      return messages;
    } finally {
      await consumer.disconnect();
    }
  }

  for (const format of ['avro', 'json'] as const) {
    it(`frames readings as ${format}, keeps them in the spool while it is away, and all is counted`, async () => {
      const prefix = `registry-${randomUUID().slice(0, 8)}`;
      const settings = { url: stub.url, format, register: true, username: null, password: null, timeoutMs: 2_000 };
      side = new KafkaSide(brokers, prefix, { schemaRegistry: settings });
      await stub.close();
      const yaml = `kafka:
  brokers: ["${brokers[0]}"]
  prefix: ${prefix}
  group: ${prefix}
  partitions: 4
  schema_registry: { url: "${stub.url}", format: ${format} }
rollup: { grace: 1s, disorder: 200ms, tick: 250ms, flush: 100ms, repair: 'off' }
streams:
  environment: { topic: "sensors/{site}/{device}/environment", time: ts, sequence: seq, metrics: [temperature, humidity], windows: [1s, 5s] }
`;
      gateway = await startGateway({ folder, yaml });
      const running = gateway;
      load = await startLoad(running, { folder, name: 'load', rate: 300 });
      const says = /"REGISTRY_UNREACHABLE".*registering [\w.-]+\.readings-value at .* does not answer/;
      await until(
        async () => says.test(await (await running.get('/readyz')).text()),
        DEADLINE_MS,
        '/readyz says that the registry is away',
      );
      assert.ok((await books(running)).spooled > 100, 'acknowledged, and in the spool');
      assert.equal(stub.registered.length, 0);

      await stub.open();
      await until(
        async () => (await running.metric('millrace_forwarded_total')) > 300,
        DEADLINE_MS,
        'records flow, without a restart',
      );
      const acknowledged = await endsInKafka(running, load, side, 300);
      load = null;

      assert.equal(stub.registered.length, 1);
      const { id, subject, schema, schemaType } = stub.registered[0]!;
      assert.deepEqual([subject, schemaType], [`${prefix}.readings-value`, format.toUpperCase()]);
      const type = format === 'avro' ? avsc.Type.forSchema(JSON.parse(schema)) : null;
      for (const { value } of await raw(`${prefix}.readings`, acknowledged)) {
        assert.deepEqual([value![0], value!.readUInt32BE(1)], [0, id]);
        const body = value!.subarray(5);
        const reading = type ? type.fromBuffer(body) : JSON.parse(body.toString());
        assert.equal(reading.stream, 'environment');
        assert.equal(typeof reading.values.temperature, 'number');
      }

      await until(
        async () => (await running.metric('millrace_counted_total')) >= acknowledged,
        DEADLINE_MS,
        'the rollup has counted every reading',
      );
      assert.equal(await running.metric('millrace_unexplained_total'), 0);
      await running.end('SIGTERM');
      const verified = await runMillrace(['verify', '--config', join(folder, 'all.yaml'), '--json']);
      assert.equal(verified.code, 0, verified.out + verified.err);
      const { rowsCompared, differences } = JSON.parse(verified.out);
      assert.ok(rowsCompared > 20 && differences === 0, verified.out);
    });
  }

  it('is missed by a reader that does not have the setting: it waits, says so, and goes on when it has it', async () => {
    const prefix = `registry-${randomUUID().slice(0, 8)}`;
    const login = { username: null, password: null } as const;
    const schemaRegistry = { ...login, url: stub.url, format: 'avro', register: true, timeoutMs: 2_000 } as const;
    side = new KafkaSide(brokers, prefix, { schemaRegistry });
    const lines: string[] = [];
    const telemetry = new Telemetry(pino({ level: 'warn' }, { write: (line: string) => lines.push(line) }));
    assert.ok((await prepareTopics(side.config, telemetry)).ok);
    const topic = kafkaTopics(side.config).readings;
    const writer = kafkaWriter(side.config, topic, { gateway: 'g', telemetry });
    const value = '{"stream":"s","time":1700000000000,"tags":{"device":"d"},"values":{"t":1.5},"payload":{"t":1.50}}';
    const record = { kind: 'reading', key: 'd', receivedMs: 1_700_000_000_000, stream: 's', topic: 't' } as const;
    assert.ok((await writer.append([{ ...record, value: Buffer.from(value) }])).ok);
    // Before the setting was made: both are in one topic.
    const plain = kafkaWriter({ ...side.config, schemaRegistry: null }, topic, { gateway: 'g', telemetry });
    assert.ok((await plain.append([{ ...record, value: Buffer.from(value) }])).ok);
    // Somebody else's, of which neither registry nor schema know anything, and bytes that only look like a frame.
    for (const other of ['\0\0\0\0\x07{}', '\0\x01\x02\x03\x04\x05\x06']) {
      assert.ok((await plain.append([{ ...record, value: Buffer.from(other) }])).ok);
    }
    await writer.close();
    await plain.close();

    const read = async (config: typeof side.config): Promise<string[]> => {
      const reader = kafkaReader(config, topic, telemetry);
      const values: string[] = [];
      const consumer = await reader.consume(`${prefix}-reader`, {
        assigned: async (all) => new Map(all.map(({ partition, firstOffset }) => [partition, firstOffset])),
        batch: async ({ records }) => void values.push(...records.map((one) => Buffer.from(one.value).toString())),
        stopping: async () => {},
        ended: (reason) => assert.fail(String(reason)),
      });
      const waits = () => lines.some((line) => line.includes('set kafka.schema_registry'));
      await until(() => values.length >= 4 || waits(), DEADLINE_MS, 'it reads, or says why not');
      await consumer.stop();
      await reader.close();
      return values;
    };
    assert.deepEqual(await read({ ...side.config, schemaRegistry: null }), []);
    assert.match(lines.join(''), /its readings have a schema \(id 70000\): set kafka\.schema_registry; reading waits/);
    lines.length = 0;
    const all = await read(side.config);
    assert.deepEqual(
      all.filter((one) => one.startsWith('{')),
      [value, value],
    );
    assert.equal(all.length, 4, 'others pass as they are, and hold nothing up');
  });
});
