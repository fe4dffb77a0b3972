/**
 * What is lost when it is killed: under load, all processes of a system get `kill -9` and are started again on their data;
 * the devices come back and send again what was not acknowledged. Then every message that was acknowledged is looked for in
 * Kafka, by device and counter, against the ledger of the load generator. Throughput and cost beside the same peers:
 * `npm run bench -- ingress --peers`.
 *
 *   eval "$(npm run --silent stack -- env)" && npm run bench -- peers [--kills 3] [--rate 5000]
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { kafkaReader } from '../../src/journal/kafka-reader.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { Ledger } from '../faults/ledger.ts';
import { kafkaConfig } from '../journal/kafka-fixture.ts';
import { startSimulator } from '../support/gateway-process.ts';
import { PARTITIONS, startMillrace, type Target } from './ingress/target.ts';
import { startMosquittoBenthos } from './peers/mosquitto-benthos.ts';
import { startMosquittoTelegraf } from './peers/mosquitto-telegraf.ts';

/** Between two kills, and after the last. */
const FLOW_MS = 4_000;
/** Nothing new in Kafka for so long: all that comes has come. */
const QUIET_MS = 5_000;
const MOST_TICKS = (PARTITIONS * (QUIET_MS + 1_000)) / 1_000;

export async function run(args: string[]): Promise<object> {
  const { values } = parseArgs({
    args,
    options: { kills: { type: 'string', default: '3' }, rate: { type: 'string', default: '5000' } },
  });
  const brokers = process.env.MILLRACE_TEST_KAFKA;
  if (!brokers) throw new Error('set MILLRACE_TEST_KAFKA: eval "$(npm run --silent stack -- env)"');
  const systems: Record<string, () => Promise<Target>> = {
    millrace: () => startMillrace(brokers),
    'mosquitto + telegraf': () => startMosquittoTelegraf(brokers),
    'mosquitto + benthos': () => startMosquittoBenthos(brokers),
  };
  const results: Record<string, object> = {};
  for (const [name, start] of Object.entries(systems)) {
    const target = await start();
    try {
      results[name] = await strike(target, brokers, Number(values.kills), values.rate);
    } finally {
      await target.close();
    }
  }
  return results;
}

async function strike(target: Target, brokers: string, kills: number, rate: string): Promise<object> {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-peers-'));
  try {
    const file = join(folder, 'ledger.ndjson');
    const { child, ended } = startSimulator('load', [
      ...['--url', `mqtt://127.0.0.1:${target.port}`, '--connections', '50', '--in-flight', '20'],
      ...['--rate', `${rate}/s`, '--duration', '0s', '--reconnect', '--ledger', file],
    ]);
    for (let kill = 0; kill < kills; kill++) {
      await sleep(FLOW_MS);
      await target.killAndRestart();
    }
    await sleep(FLOW_MS);
    child.kill('SIGTERM');
    await ended;
    await quiet(target);
    const ledger = new Ledger();
    ledger.read(file);
    return { kills, ...(await compare(target.topic!, brokers, ledger)) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A gateway writes a tick to each partition now and then, also when nothing comes. */
async function quiet(target: Target): Promise<void> {
  for (let before = Number.NEGATIVE_INFINITY; ; ) {
    const now = (await target.stored())!;
    if (now - before <= MOST_TICKS) return;
    before = now;
    await sleep(QUIET_MS);
  }
}

async function compare(topic: string, brokers: string, ledger: Ledger): Promise<object> {
  const found = new Map<string, Set<number>>();
  let stored = 0;
  const config = kafkaConfig(brokers.split(','), { partitions: PARTITIONS, group: `${topic}.look` });
  const reader = kafkaReader(config, { name: topic, partitions: PARTITIONS, kind: 'reading' }, silentTelemetry());
  for (let partition = 0; partition < PARTITIONS; partition++) {
    for await (const { records } of reader.range(partition, 0, Number.MAX_SAFE_INTEGER)) {
      for (const { kind, value } of records) {
        if (kind !== 'reading') continue;
        stored++;
        const { tags, fields, sequence } = JSON.parse(Buffer.from(value).toString());
        const seqs = found.get(tags.device) ?? new Set();
        found.set(tags.device, seqs.add(sequence ?? fields.seq));
      }
    }
  }
  await reader.close();
  let [acknowledged, lost] = [0, 0];
  for (const [device, seqs] of ledger.acknowledged) {
    acknowledged += seqs.size;
    for (const seq of seqs) if (!found.get(device)?.has(seq)) lost++;
  }
  const different = [...found.values()].reduce((sum, seqs) => sum + seqs.size, 0);
  return { acknowledged, lost, repeated: stored - different };
}
