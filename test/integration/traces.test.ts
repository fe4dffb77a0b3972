/**
 * Trace contexts on the real program, read as others read them: with kcat from Kafka's headers. From the payload or made at
 * the ingress, over a dead letter and its requeue, and late; without Kafka in the spool.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../src/clock.ts';
import { openSpoolReader } from '../../src/journal/spool-reader.ts';
import type { StoredRecord } from '../../src/log.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { KafkaSide } from '../faults/kafka-gateway.ts';
import { dropTopics } from '../journal/kafka-fixture.ts';
import { type GatewayProcess, runMillrace, startGateway } from '../support/gateway-process.ts';
import { RawClient } from '../support/mqtt-raw.ts';
import { needKafka } from '../support/servers.ts';
import { until } from '../support/until.ts';

const id = (digit: string) => `00-${digit.repeat(32)}-${digit.repeat(16)}-01`;
const MADE = /^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/;
const TOKEN = 'let-me-change-things';
const schemaUpTo = (maximum: number) => JSON.stringify({ properties: { v: { type: 'number', maximum } } });
const STREAMS = `rollup: { grace: 0s, disorder: 100ms, tick: 200ms, flush: 200ms }
streams:
  traced: { topic: "t/{device}", time: ts, metrics: [v], windows: [1s], schema: s.json, trace: { field: meta.tp } }
  made: { topic: "m/{device}", time: ts, metrics: [v], windows: [1s], trace: true }
  plain: { topic: "p/{device}", time: ts, metrics: [v], windows: [1s] }
`;

interface Seen {
  readonly what: string;
  readonly trace: string | undefined;
}

describe('A trace context', function () {
  this.timeout(120_000);
  let folder: string;
  let gateway: GatewayProcess | null;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'millrace-traces-'));
    writeFileSync(join(folder, 's.json'), schemaUpTo(50));
    gateway = null;
  });
  afterEach(async function () {
    if (this.currentTest?.state === 'failed') console.log(gateway?.log());
    await gateway?.end('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  });

  async function publishAll(): Promise<void> {
    const client = await RawClient.connected(gateway!.mqttPort);
    const now = systemClock.nowMs();
    const send = (packetId: number, topic: string, value: number, tp?: string, ts = now + packetId) =>
      client.publish(topic, JSON.stringify({ ts, v: value, ...(tp ? { meta: { tp } } : undefined) }), 1, packetId);
    send(1, 't/d1', 1, id('1'));
    send(2, 't/d1', 2);
    send(3, 't/d1', 3, id('3').replace('00-', '00_'));
    send(4, 't/d1', 99, id('4'));
    send(5, 't/d1', 5, id('5'), now - 600_000);
    send(6, 'm/d1', 6, id('6'));
    send(7, 'p/d1', 7, id('7'));
    await client.until('puback', 7);
    client.end();
  }

  /** What was sent as the numbers 1 to 7 carries the context that it should. */
  function check(seen: readonly Seen[]): void {
    const of = (what: string) => seen.filter((one) => one.what === what).map(({ trace }) => trace);
    assert.deepEqual(of('1'), [id('1')]);
    assert.match(of('2')[0] ?? '', MADE);
    assert.match(of('3')[0] ?? '', MADE);
    assert.deepEqual(of('99'), [id('4')], 'requeued with the context of its letter');
    assert.deepEqual(of('5'), [id('5')]);
    assert.match(of('6')[0] ?? '', MADE);
    assert.notEqual(of('6')[0], id('6'), 'the stream names no field');
    assert.deepEqual(of('7'), [undefined]);
  }

  async function requeue(role: string): Promise<void> {
    writeFileSync(join(folder, 's.json'), schemaUpTo(100));
    await until(() => gateway!.log().includes('were loaded again'), 20_000, 'the new schema');
    const args = ['deadletters', 'requeue', '--config', join(folder, `${role}.yaml`), '--stream', 'traced', '--json'];
    const { code, err } = await runMillrace(args);
    assert.equal(code, 0, err);
  }

  it('is in the header traceparent in Kafka, of readings, dead letters, requeued and late ones', async function () {
    const brokers = needKafka(this);
    const prefix = `traces-${randomUUID().slice(0, 8)}`;
    const side = new KafkaSide(brokers, prefix);
    const kafka = `kafka: { brokers: ["${brokers[0]}"], prefix: ${prefix}, partitions: 4, group: ${prefix}, session_timeout: 6s }\n`;
    // A fetch that waits longer than the next tick takes would never see the end.
    // A fetch that waits longer than the next tick takes would never see the end.
    const consume = (topic: string) =>
      execFileSync(
        'kcat',
        ['-C', '-J', '-e', '-q', '-X', 'fetch.wait.max.ms=10', '-b', brokers[0]!, '-t', `${prefix}.${topic}`],
        {
          encoding: 'utf8',
        },
      )
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as { headers?: string[]; payload: string | null })
        .map(({ headers = [], payload }) => {
          const at = headers.indexOf('traceparent');
          const value = JSON.parse(payload || '{}') as { values?: { v: number }; reading?: { values: { v: number } } };
          const what = String((value.values ?? value.reading?.values)?.v ?? (payload ? 'letter' : 'tick'));
          return { what, trace: at % 2 === 0 ? headers[at + 1] : undefined };
        });
    try {
      gateway = await startGateway({ folder, yaml: kafka + STREAMS, http: `token: ${TOKEN}` });
      await publishAll();
      const letters = () => consume('deadletters').filter(({ what }) => what === 'letter');
      await until(async () => (await side.records('deadletters').catch(() => [])).length > 0, 60_000, 'the letter');
      assert.deepEqual(letters(), [{ what: 'letter', trace: id('4') }]);
      await requeue('all');
      await until(() => consume('readings').some(({ what }) => what === '99'), 60_000, 'it is requeued');
      check(consume('readings'));
      await until(() => consume('late').some(({ what }) => what === '5'), 60_000, 'the late one');
      assert.deepEqual(consume('late').find(({ what }) => what === '5')?.trace, id('5'));
      const metrics = await (await gateway.get('/metrics')).text();
      assert.match(metrics, /^millrace_trace_contexts_total\{source="invalid"\} 1$/m);
      assert.match(metrics, /^millrace_trace_contexts_total\{source="made"\} 3$/m);
    } finally {
      await gateway?.end('SIGTERM');
      await dropTopics(side.config);
    }
  });

  it('stands in the spool where the spool is the log', async () => {
    gateway = await startGateway({ folder, yaml: STREAMS, http: `token: ${TOKEN}` });
    await publishAll();
    await requeue('all');
    assert.equal(await gateway.end('SIGTERM'), 0);
    const telemetry = silentTelemetry();
    const reader = openSpoolReader({ folder: join(folder, 'data/spool'), clock: systemClock, telemetry });
    const records: StoredRecord[] = [];
    for await (const batch of reader.range(0, 0, Number.MAX_SAFE_INTEGER)) records.push(...batch.records);
    await reader.close();
    const seen = records
      .filter(({ kind }) => kind === 'reading')
      .map(({ value, trace }) => ({ what: String(JSON.parse(Buffer.from(value).toString()).values.v), trace }));
    check(seen);
    assert.deepEqual(
      records.filter(({ kind }) => kind === 'refusal').map(({ trace }) => trace),
      [id('4')],
    );
  });
});
