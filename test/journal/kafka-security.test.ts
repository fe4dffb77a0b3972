/** A broker of our own with TLS, passwords and access control: what is accepted, and what each refusal is called. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '../../compose/stack/launch.ts';
import { type KafkaServer, startKafka } from '../../compose/stack/servers.ts';
import type { KafkaConfig } from '../../src/config.ts';
import { kafkaReader } from '../../src/journal/kafka-reader.ts';
import { kafkaTopics, prepareTopics } from '../../src/journal/kafka-topics.ts';
import { kafkaWriter } from '../../src/journal/kafka-writer.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { needKafka } from '../support/servers.ts';
import { kafkaConfig, reading } from './kafka-fixture.ts';

const telemetry = silentTelemetry();
const alice = { mechanism: 'plain', username: 'alice', password: 'right' } as const;

describe('a Kafka with TLS, passwords and access control', function () {
  this.timeout(60_000);
  let dir: string;
  let server: KafkaServer;
  let config: KafkaConfig;
  let brokers: string[];

  before(async function () {
    needKafka(this); // where there is one for all, the parts for one of our own are there too
    dir = mkdtempSync(join(tmpdir(), 'millrace-security-'));
    const [key, cert, store] = ['key.pem', 'cert.pem', 'store.pem'].map((name) => join(dir, name)) as [
      string,
      string,
      string,
    ];
    const request = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=localhost'];
    const made = spawnSync('openssl', [
      ...request,
      '-addext',
      'subjectAltName=IP:127.0.0.1',
      '-keyout',
      key,
      '-out',
      cert,
    ]);
    assert.equal(made.status, 0, String(made.stderr ?? made.error));
    writeFileSync(store, readFileSync(key, 'utf8') + readFileSync(cert, 'utf8'));
    const port = await freePort();
    brokers = [`127.0.0.1:${port}`];
    const module = 'org.apache.kafka.common.security.plain.PlainLoginModule required';
    server = await startKafka({
      dir,
      settings: (ours) => ({
        listeners: `${ours.listeners},SASL_SSL://127.0.0.1:${port}`,
        'advertised.listeners': `${ours['advertised.listeners']},SASL_SSL://127.0.0.1:${port}`,
        'sasl.enabled.mechanisms': 'PLAIN',
        'listener.name.sasl_ssl.plain.sasl.jaas.config': `${module} user_alice="right" user_bob="right";`,
        'ssl.keystore.type': 'PEM',
        'ssl.keystore.location': store,
        'authorizer.class.name': 'org.apache.kafka.metadata.authorizer.StandardAuthorizer',
        'super.users': 'User:ANONYMOUS;User:alice',
      }),
    });
    config = kafkaConfig(server.brokers);
    const prepared = await prepareTopics(config, telemetry);
    assert.ok(prepared.ok);
  });

  after(async () => {
    await server?.kill();
    if (dir) rmSync(dir, { recursive: true, force: true });
  });

  const as = (sasl: KafkaConfig['sasl'], ca: string | null = join(dir, 'cert.pem')): KafkaConfig => ({
    ...config,
    brokers,
    sasl,
    tls: { ca, cert: null, key: null },
  });

  async function append(to: KafkaConfig) {
    const writer = kafkaWriter(to, kafkaTopics(to).readings, { gateway: 'g', telemetry });
    const outcome = await writer.append([reading('device-1', 1)]);
    await writer.close();
    return outcome;
  }

  it('takes records from a user with the right password, and gives them back', async () => {
    assert.deepEqual(await append(as(alice)), { ok: true, value: undefined });
    const reader = kafkaReader(as(alice), kafkaTopics(config).readings, telemetry);
    let count = 0;
    for (const partition of [0, 1, 2]) {
      for await (const batch of reader.range(partition, 0, 100)) count += batch.records.length;
    }
    await reader.close();
    assert.equal(count, 1);
  });

  const refusals: readonly [name: string, config: () => KafkaConfig, code: string][] = [
    ['a wrong password', () => as({ ...alice, password: 'wrong' }), 'KAFKA_AUTHENTICATION'],
    ['a mechanism that is not offered', () => as({ ...alice, mechanism: 'scram-sha-256' }), 'KAFKA_AUTHENTICATION'],
    ['a certificate that nobody vouches for', () => as(alice, null), 'KAFKA_AUTHENTICATION'],
    ['a user without the right to write', () => as({ ...alice, username: 'bob' }), 'KAFKA_NOT_AUTHORIZED'],
  ];
  for (const [name, make, code] of refusals) {
    it(`is ${code} for ${name}, tried again after a pause`, async () => {
      const outcome = await append(make());
      assert.ok(!outcome.ok);
      assert.equal(outcome.failure.code, code, outcome.failure.message);
      assert.equal(outcome.failure.retryable, true);
      assert.ok(outcome.failure.retryAfterMs! >= 1_000);
    });
  }

  it('names a TLS file that cannot be read, instead of ending the process', async () => {
    const outcome = await append(as(alice, join(dir, 'missing.pem')));
    assert.ok(!outcome.ok);
    assert.match(outcome.failure.message, /missing\.pem/);
  });
});
