/** What the fault tests of a gateway on a private Kafka share: its configuration, the load, and what Kafka has. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import type { KafkaConfig } from '../../src/config.ts';
import { kafkaReader } from '../../src/journal/kafka-reader.ts';
import { kafkaTopics, type TopicRole } from '../../src/journal/kafka-topics.ts';
import type { StoredRecord } from '../../src/log.ts';
import type { LedgerTerm } from '../../src/parts/ledger.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { kafkaConfig } from '../journal/kafka-fixture.ts';
import { type GatewayProcess, startSimulator } from '../support/gateway-process.ts';
import { until } from '../support/until.ts';
import { type Comparison, Ledger, StoredReadings } from './ledger.ts';

const PARTITIONS = 4;

export const STREAM = `streams:
  environment:
    topic: sensors/{site}/{device}/environment
    time: ts
    sequence: seq
    metrics: [temperature, humidity, pressure]
    windows: [10s]
`;

export function kafkaYaml(brokers: readonly string[], prefix: string, more = ''): string {
  const settings = `brokers: ["${brokers[0]}"], prefix: ${prefix}, partitions: ${PARTITIONS}, request_timeout: 2s`;
  return `kafka: { ${settings}, group: ${prefix}, session_timeout: 6s }\n${more}${STREAM}`;
}

/** The topics of one test's gateway, read beside it. */
export class KafkaSide {
  readonly config: KafkaConfig;

  constructor(brokers: readonly string[], prefix: string, changes: Partial<KafkaConfig> = {}) {
    this.config = kafkaConfig(brokers, { prefix, partitions: PARTITIONS, group: `${prefix}.test`, ...changes });
  }

  async records(role: TopicRole): Promise<StoredRecord[]> {
    const found: StoredRecord[] = [];
    await this.#each(role, async (batches) => {
      for await (const { records } of batches) found.push(...records);
    });
    return found;
  }

  async compare(ledger: Ledger): Promise<Comparison> {
    const stored = new StoredReadings();
    await this.#each('readings', (batches) => stored.addAll(batches));
    return stored.compare(ledger);
  }

  async #each(
    role: TopicRole,
    use: (batches: ReturnType<ReturnType<typeof kafkaReader>['range']>) => Promise<void>,
  ): Promise<void> {
    const reader = kafkaReader(this.config, kafkaTopics(this.config)[role], silentTelemetry());
    try {
      for (let partition = 0; partition < reader.partitions; partition++) {
        await use(reader.range(partition, 0, Number.MAX_SAFE_INTEGER));
      }
    } finally {
      await reader.close();
    }
  }
}

export interface Load {
  /** Ends the load in order and adds what became of it to the ledger. */
  end(ledger: Ledger): Promise<{ sent: number; acknowledged: number }>;
}

/** Flows when it resolves. */
export async function startLoad(
  gateway: GatewayProcess,
  options: { folder: string; name: string; rate: number; reconnect?: boolean },
): Promise<Load> {
  const { folder, name, rate, reconnect = false } = options;
  const file = join(folder, `${name}.ndjson`);
  const run = startSimulator('load', [
    ...['--url', `mqtt://127.0.0.1:${gateway.mqttPort}`, '--connections', '10', '--in-flight', '20'],
    ...['--rate', `${rate}/s`, '--duration', '0s', '--drain', '30s', '--client', `${name}-`, '--ledger', file],
    ...(reconnect ? ['--reconnect'] : []),
  ]);
  const before = await acknowledged(gateway);
  await until(async () => (await acknowledged(gateway)) > before + 200, 60_000, 'the load flows');
  return {
    async end(ledger) {
      run.child.kill('SIGTERM');
      const { summary } = await run.ended;
      ledger.read(file);
      return { sent: summary.sent ?? 0, acknowledged: summary.acknowledged ?? 0 };
    },
  };
}

export function acknowledged(gateway: GatewayProcess): Promise<number> {
  return gateway.metric('millrace_acknowledged_total');
}

/** The terms of the gateway's ledger, which must balance at any moment. */
export async function books(gateway: GatewayProcess): Promise<Record<LedgerTerm, number>> {
  const text = await (await gateway.get('/metrics')).text();
  const terms = Object.fromEntries(
    [...text.matchAll(/^millrace_ledger_readings\{term="(\w+)"\} (\d+)$/gm)].map(([, term, count]) => [
      term,
      Number(count),
    ]),
  );
  assert.match(text, /^millrace_ledger_imbalance_readings 0$/m, JSON.stringify(terms));
  return terms as Record<LedgerTerm, number>;
}

/** Ends the load and demands that all it sent was acknowledged and is in Kafka, in order; at least so many readings. */
export async function endsInKafka(
  gateway: GatewayProcess,
  load: Load,
  side: KafkaSide,
  least: number,
): Promise<number> {
  const ledger = new Ledger();
  const { sent, acknowledged: known } = await load.end(ledger);
  assert.equal(known, sent, 'nothing went unacknowledged');
  await drained(gateway);
  const report = await side.compare(ledger);
  assert.deepEqual([report.lost.count, report.disordered, report.neverSent, report.altered], [0, 0, 0, 0]);
  assert.ok(report.acknowledged > least, `there was a load: ${JSON.stringify(report)}`);
  return report.acknowledged;
}

/** Kafka has all that the spool has: nothing but a tick waits. */
export async function drained(gateway: GatewayProcess, withinMs = 180_000): Promise<void> {
  // twice, because the figure is looked at once a second
  for (let seen = 0; seen < 2; seen++) {
    if (seen > 0) await new Promise((resolve) => setTimeout(resolve, 1_100));
    await until(
      async () => (await gateway.metric('millrace_spool_backlog_records')) <= 2,
      withinMs,
      'the spool drains',
    );
  }
}
