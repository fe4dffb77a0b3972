/**
 * A running gateway that Kafka does not let in, for a wrong password, a token or a certificate that is over: it starts, devices
 * are acknowledged from the spool, log and /readyz name the setting and show no secret, and when that is put right, nothing
 * restarted on this side, Kafka gets every acknowledged reading in order.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type GatewayProcess, startGateway } from '../support/gateway-process.ts';
import { type SecureKafka, startSecureKafka } from '../support/kafka-secure.ts';
import { needKafka } from '../support/servers.ts';
import { until } from '../support/until.ts';
import { books, endsInKafka, KafkaSide, type Load, STREAM, startLoad } from './kafka-gateway.ts';
import { Ledger } from './ledger.ts';

const DEADLINE_MS = 60_000;

describe('A gateway that Kafka does not let in', function () {
  this.timeout(240_000);
  let kafka: SecureKafka;
  let folder: string;
  let gateway: GatewayProcess | null;
  let load: Load | null;

  before(async function () {
    needKafka(this); // where there is one for all, the parts for one of our own are there too
    kafka = await startSecureKafka();
  });
  after(async () => {
    await kafka?.close();
  });
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'millrace-login-'));
    gateway = null;
    load = null;
  });
  afterEach(async function () {
    if (this.currentTest?.state === 'failed') console.log(gateway?.log());
    await gateway?.end('SIGKILL');
    await load?.end(new Ledger()).catch(() => {});
    rmSync(folder, { recursive: true, force: true });
  });

  interface Trouble {
    readonly listener: keyof SecureKafka['ports'];
    readonly sasl: string;
    /** Before the start. */
    wrong(): void;
    right(): void | Promise<void>;
    readonly says: RegExp;
  }

  async function isHealed(trouble: Trouble): Promise<void> {
    const prefix = `login-${randomUUID().slice(0, 8)}`;
    trouble.wrong();
    const settings = [
      `brokers: ["127.0.0.1:${kafka.ports[trouble.listener]}"], prefix: ${prefix}, partitions: 4`,
      `tls: { ca: ${kafka.ca} }${trouble.sasl}`,
    ];
    const running = await startGateway({
      folder,
      role: 'gateway',
      yaml: `kafka: { ${settings.join(', ')} }\n${STREAM}`,
    });
    gateway = running;
    load = await startLoad(running, { folder, name: 'load', rate: 500 });
    await until(
      async () => trouble.says.test(await (await running.get('/readyz')).text()),
      DEADLINE_MS,
      '/readyz says what is wrong',
    );
    const ready = await running.get('/readyz');
    assert.equal(ready.status, 200, 'the spool keeps the promise');
    assert.match(await ready.text(), /"KAFKA_AUTHENTICATION"/);
    const page = await (await running.get('/api/v1/status')).text();
    assert.match(page, trouble.says);
    assert.match(running.log(), trouble.says);
    assert.ok((await books(running)).spooled > 200, 'acknowledged, and in the spool');
    assert.equal(await running.metric('millrace_forwarded_total'), 0, 'nothing got through');

    await trouble.right();
    await until(
      async () => (await running.metric('millrace_forwarded_total')) > 200,
      DEADLINE_MS,
      'records flow, without a restart',
    );
    await endsInKafka(running, load, new KafkaSide(kafka.server.brokers, prefix), 500);
    load = null;
    assert.doesNotMatch(running.log(), /hunter2|eyJ/, 'no secret in the log');
    assert.doesNotMatch(page, /hunter2|eyJ/);
  }

  it('for a wrong password in a file is healed when the file is', async () => {
    const file = join(folder, 'password');
    await isHealed({
      listener: 'scram',
      sasl: `, sasl: { mechanism: scram-sha-512, username: alice, password_file: ${file} }`,
      wrong: () => writeFileSync(file, 'hunter2\n'),
      right: () => writeFileSync(file, 'right\n'),
      says: /kafka\.sasl\.username, kafka\.sasl\.password/,
    });
  });

  it('for a token that is over is healed by the next token', async () => {
    const file = join(folder, 'token');
    await isHealed({
      listener: 'bearer',
      sasl: `, sasl: { token_file: ${file} }`,
      wrong: () => writeFileSync(file, kafka.signToken(-60_000)),
      right: () => writeFileSync(file, kafka.signToken(600_000)),
      says: /kafka\.sasl\.token_file: the token there has expired/,
    });
  });

  it('because its certificate has expired is healed when Kafka has another', async () => {
    await isHealed({
      listener: 'expired',
      sasl: '',
      wrong: () => {},
      right: () => kafka.renew(),
      says: /certificate has expired: renew it at the brokers/,
    });
  });
});
