/**
 * Another schema, rehearsed on real history, then switched under a running gateway, then given the same messages again: what
 * was predicted is what happens, by device and reason. And no record is judged by two schemas, or by a version it does not name.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connectAsync, type MqttClient } from 'mqtt';
import { type Config, loadConfig } from '../../src/config.ts';
import type { StoredRecord } from '../../src/log.ts';
import { deviceOf } from '../../src/parts/account.ts';
import { openLogs } from '../../src/parts/open-logs.ts';
import { fieldWithin } from '../../src/parts/rehearsal.ts';
import { decodeReading, decodeRefusal } from '../../src/reading.ts';
import { type GatewayProcess, runMillrace, startGateway } from '../support/gateway-process.ts';
import { eventually } from '../support/rollup-run.ts';
import { needKafka } from '../support/servers.ts';

const DEVICES = ['a', 'b', 'c', 'd'];
const OLD = { type: 'object', required: ['ts'], properties: { temperature: { type: 'number', maximum: 50 } } };
/** Refuses what was good (above 40, without humidity) and takes what was bad (above 50, of `d`). */
const NEW = `{
  "type": "object",
  "required": ["ts"],
  "if": { "properties": { "kind": { "const": "oven" } }, "required": ["kind"] },
  "then": { "properties": { "temperature": { "maximum": 300 } } },
  "else": { "required": ["humidity"], "properties": { "temperature": { "type": "number", "maximum": 40 } } }
}`;

interface Message {
  readonly topic: string;
  readonly payload: string;
}

/** Single readings and batches; every third is good under both. */
function messages(nowMs: number): Message[] {
  const all: Message[] = [];
  for (let i = 0; i < 120; i++) {
    const device = DEVICES[i % 4]!;
    const ts = nowMs - i;
    const reading = (temperature: number, humidity: number | undefined) => ({
      ts: ts - temperature * 1_000,
      temperature,
      humidity,
    });
    const good = reading(20, 50);
    const payloads = [
      good,
      reading(45, 50),
      reading(20, undefined),
      [good, reading(21, 50), reading(22, 51)],
      [good, reading(46, 50), reading(23, undefined)],
      { ...good, temperature: 200, kind: device === 'd' ? 'oven' : 'none' },
      'no JSON',
      [reading(20, 5), { ...good, temperature: 201, kind: 'oven' }],
    ];
    const payload = payloads[Math.floor(i / 4) % payloads.length]!;
    const text = typeof payload === 'string' ? payload : JSON.stringify(payload);
    all.push({ topic: `sensors/attic/${device}/environment`, payload: text });
  }
  return all;
}

interface Forecast {
  readonly totals: Record<string, number>;
  readonly version: string;
  readonly versionNow: string;
  readonly devices: Record<
    string,
    Record<string, number> & { reasons: { code: string; field: string; messages: number; example: string }[] }
  >;
}

for (const log of ['the spool', 'Kafka'] as const) {
  describe(`a schema that is switched, on ${log}`, function () {
    this.timeout(120_000);
    const name = `schema-${randomUUID().slice(0, 8)}`;
    let folder: string;
    let schema: string;
    let file: string;
    let config: Config;
    let gateway: GatewayProcess;
    let client: MqttClient;
    let sent: Message[];

    before(async function () {
      const servers =
        log === 'Kafka'
          ? `kafka: { brokers: [${needKafka(this)}], prefix: ${name}, group: ${name}, partitions: 3, linger: 5ms }`
          : '';
      folder = mkdtempSync(join(tmpdir(), 'millrace-schema-'));
      schema = join(folder, 'environment.schema.json');
      writeFileSync(schema, JSON.stringify(OLD));
      writeFileSync(join(folder, 'new.json'), NEW);
      const yaml = `${servers}
streams:
  environment:
    topic: sensors/{site}/{device}/environment
    schema: ${schema}
    time: ts
    metrics: [temperature, humidity]
    windows: [10s]
`;
      const role = log === 'Kafka' ? 'gateway' : 'all';
      gateway = await startGateway({ folder, yaml, role });
      file = join(folder, `${role}.yaml`);
      const loaded = await loadConfig(file, process.env);
      assert.ok(loaded.ok);
      config = loaded.config;
      client = await connectAsync(`mqtt://127.0.0.1:${gateway.mqttPort}`);
      sent = messages(Date.now() - 60_000);
      await publish(sent);
    });

    after(async () => {
      await client?.endAsync(true);
      await gateway?.end('SIGTERM');
      if (folder) rmSync(folder, { recursive: true, force: true });
    });

    async function publish(all: readonly Message[]): Promise<void> {
      for (const { topic, payload } of all) await client.publishAsync(topic, payload, { qos: 1 });
    }

    /** Everything that is in the log, by the order in which the gateway took it. */
    async function records(): Promise<StoredRecord[]> {
      const logs = openLogs(config);
      const all = new Map<number, StoredRecord>();
      for (const reader of config.kafka ? [logs.log, logs.deadLetters] : [logs.log]) {
        for (let partition = 0; partition < reader.partitions; partition++) {
          for await (const batch of reader.range(partition, 0, Number.MAX_SAFE_INTEGER)) {
            for (const record of batch.records) {
              if (record.kind === 'reading' || record.kind === 'refusal')
                all.set(record.origin?.offset ?? record.offset, record);
            }
          }
        }
      }
      await logs.close();
      return [...all].sort(([a], [b]) => a - b).map(([, record]) => record);
    }

    async function rehearse(): Promise<{ code: number | null; forecast: Forecast }> {
      const args = ['check', '--config', file, '--schema', join(folder, 'new.json'), '--last', '1h', '--json'];
      const { code, out, err } = await runMillrace(args);
      assert.match(out, /^\{/, err);
      return { code, forecast: JSON.parse(out) };
    }

    const readings = (all: readonly StoredRecord[]) => all.filter(({ kind }) => kind === 'reading');
    /** By device: code, field and how often. */
    const reasonsOf = (all: readonly StoredRecord[]) => {
      const counts = new Map<string, number>();
      for (const record of all.filter(({ kind }) => kind === 'refusal')) {
        const { code, field, reason } = decodeRefusal(Buffer.from(record.value).toString())!;
        const key = `${deviceOf(record, config.streams)} ${code} ${fieldWithin(field, reason)}`;
        counts.set(key, (counts.get(key) ?? 0) + 1);
      }
      return Object.fromEntries([...counts].sort());
    };

    it('does to the same messages what was predicted, by device and reason', async () => {
      const wanted = sent.length;
      const messagesIn = (all: readonly StoredRecord[]) =>
        all.filter(
          ({ kind, value }) =>
            kind === 'refusal' || (decodeReading(Buffer.from(value).toString())!.batch?.[0] ?? 0) === 0,
        ).length;
      await eventually('the log has every message', 30_000, async () => messagesIn(await records()) === wanted);
      const before = await records();
      const { code, forecast } = await rehearse();
      assert.equal(code, 1);
      assert.equal(forecast.totals.readings, readings(before).length);
      assert.ok(forecast.totals.refused! > 30 && forecast.totals.lettersPass! > 3, JSON.stringify(forecast.totals));
      assert.ok(forecast.totals.readingsLost! > forecast.totals.refused!);

      renameSync(join(folder, 'new.json'), schema);
      await eventually('the new schema is in use', 20_000, async () => gateway.log().includes('were loaded again'));
      await publish(sent);
      await eventually(
        'the log has every message again',
        30_000,
        async () => messagesIn(await records()) === 2 * wanted,
      );
      const after = (await records()).slice(before.length);

      const predicted = Object.entries(forecast.devices).flatMap(([device, { reasons }]) =>
        reasons.map(({ code: why, field, messages: count }) => [`${device} ${why} ${field}`, count] as const),
      );
      assert.deepEqual(reasonsOf(after), Object.fromEntries([...predicted].sort(([a], [b]) => (a < b ? -1 : 1))));
      for (const device of DEVICES) {
        const { readings: had, readingsLost, letters, lettersPass, refused } = forecast.devices[device]!;
        const lettersNow = after.filter(
          (record) => record.kind === 'refusal' && deviceOf(record, config.streams) === device,
        );
        assert.equal(lettersNow.length, refused! + letters! - lettersPass!, device);
        const kept = readings(after).filter(({ key }) => key === device).length;
        assert.ok(kept >= had! - readingsLost!, device);
        if (lettersPass === 0) assert.equal(kept, had! - readingsLost!, device);
      }
      const versions = (all: readonly StoredRecord[]) =>
        new Set(all.map(({ value }) => JSON.parse(Buffer.from(value).toString()).schema));
      assert.deepEqual([...versions(before)], [forecast.versionNow]);
      assert.deepEqual([...versions(after)], [forecast.version]);
    });

    it('is switched between two messages, and each record names the version that judged it', async () => {
      const from = (await records()).length;
      const loads = gateway.log().split('were loaded again').length;
      const at45 = { topic: 'sensors/attic/a/environment', payload: '' };
      let published = 0;
      writeFileSync(join(folder, 'again.json'), JSON.stringify(OLD));
      renameSync(join(folder, 'again.json'), schema);
      // Refused by the one, accepted by the other.
      const stop = async () => gateway.log().split('were loaded again').length > loads;
      for (let extra = 0; extra < 20; ) {
        const pair = { ts: Date.now() - 60_000, temperature: 45 };
        await publish([
          {
            ...at45,
            payload: JSON.stringify([
              { ...pair, humidity: 1 },
              { ...pair, ts: pair.ts - 1_000, humidity: 2 },
            ]),
          },
        ]);
        published++;
        if (await stop()) extra++;
      }
      const count = (all: readonly StoredRecord[]) =>
        all.filter(({ kind }) => kind === 'refusal').length + readings(all).length / 2;
      await eventually(
        'the log has all of them',
        30_000,
        async () => count((await records()).slice(from)) === published,
      );
      const all = (await records()).slice(from);
      const judged = all.map(({ kind, value }) => `${kind} ${JSON.parse(Buffer.from(value).toString()).schema}`);
      const different = [...new Set(judged)];
      assert.equal(different.length, 2, different.join(', '));
      assert.match(different[0]!, /^refusal /);
      assert.match(different[1]!, /^reading /);
      assert.notEqual(different[0]!.split(' ')[1], different[1]!.split(' ')[1]);
      // In order: never back.
      assert.deepEqual(
        judged,
        [...judged].sort((a, b) => different.indexOf(a) - different.indexOf(b)),
      );
    });
  });
}
