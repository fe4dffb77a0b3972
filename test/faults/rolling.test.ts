/**
 * Rolling restarts under load: two gateways on one Kafka are told to stop and started again in turn while devices publish to
 * both. A stop in order acknowledges what is pending and gives Kafka what is in the spool, so that, held against the devices'
 * own ledgers, nothing is lost and nothing comes twice. The twin kills instead: it must show what the drain is for.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { dropTopics } from '../journal/kafka-fixture.ts';
import { type GatewayProcess, startGateway } from '../support/gateway-process.ts';
import { needKafka } from '../support/servers.ts';
import { until } from '../support/until.ts';
import { acknowledged, drained, KafkaSide, kafkaYaml, type Load, startLoad } from './kafka-gateway.ts';
import { type Comparison, Ledger } from './ledger.ts';

const RATE = 1_000;
const ROUNDS = 2;
const NAMES = ['one', 'two'];

describe('Two gateways on one Kafka, restarted in turn under load', function () {
  this.timeout(240_000);
  let folder: string;
  let side: KafkaSide;
  let yaml: string;
  let gateways: GatewayProcess[];
  let loads: Load[];

  beforeEach(function () {
    const brokers = needKafka(this);
    folder = mkdtempSync(join(tmpdir(), 'millrace-rolling-'));
    const prefix = `rolling-${randomUUID().slice(0, 8)}`;
    side = new KafkaSide(brokers, prefix);
    yaml = kafkaYaml(brokers, prefix);
    gateways = [];
    loads = [];
  });
  afterEach(async function () {
    if (this.currentTest?.state === 'failed') for (const gateway of gateways) console.log(gateway.log());
    for (const load of loads) await load.end(new Ledger()).catch(() => {});
    for (const gateway of gateways) await gateway.end('SIGKILL');
    if (side) await dropTopics(side.config);
    if (folder) rmSync(folder, { recursive: true, force: true });
  });

  const start = (index: number, before?: GatewayProcess) => {
    const ports = before ? { mqttPort: before.mqttPort, httpPort: before.httpPort } : undefined;
    return startGateway({ folder: join(folder, NAMES[index]!), yaml, role: 'gateway', ...ports });
  };

  /** How each of them ended, in order, and what Kafka has in the end of what the devices sent. */
  async function roll(signal: NodeJS.Signals): Promise<{ ends: unknown[]; report: Comparison }> {
    const ledger = new Ledger();
    for (const [index, name] of NAMES.entries()) {
      gateways.push(await start(index));
      loads.push(await startLoad(gateways[index]!, { folder, name, rate: RATE, reconnect: true }));
    }
    const ends: unknown[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      for (const index of NAMES.keys()) {
        ends.push(await gateways[index]!.end(signal));
        gateways[index] = await start(index, gateways[index]);
        const flows = async () => (await acknowledged(gateways[index]!)) > 200;
        await until(flows, 60_000, `the devices of gateway ${NAMES[index]} are back`);
      }
    }
    for (const load of loads.splice(0)) await load.end(ledger);
    // What a killed one left in its spool is forwarded beside the live traffic, and more than a stop can wait for.
    for (const gateway of gateways) await drained(gateway);
    for (const gateway of gateways) ends.push(await gateway.end('SIGTERM'));
    return { ends, report: await side.compare(ledger) };
  }

  it('lose nothing and repeat nothing', async () => {
    const { ends, report } = await roll('SIGTERM');
    assert.deepEqual(ends, Array(NAMES.length * (ROUNDS + 1)).fill(0));
    assert.ok(report.acknowledged > 200 * NAMES.length * ROUNDS, JSON.stringify(report));
    const { lost, repeated, neverSent, altered, disordered, acknowledged, stored } = report;
    assert.deepEqual(
      { lost: lost.count, repeated, neverSent, altered, disordered },
      { lost: 0, repeated: 0, neverSent: 0, altered: 0, disordered: 0 },
      JSON.stringify(report),
    );
    assert.equal(stored, acknowledged, 'what was acknowledged, and nothing else');
  });

  it('would repeat without the drain: killed, they still lose nothing, but devices must send again', async () => {
    const { ends, report } = await roll('SIGKILL');
    assert.equal(ends.filter((end) => end === 'SIGKILL').length, NAMES.length * ROUNDS);
    assert.equal(report.lost.count, 0, JSON.stringify(report));
    assert.ok(report.repeated > 0, JSON.stringify(report));
  });
});
