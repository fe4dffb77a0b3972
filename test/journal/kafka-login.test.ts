/** Every way to log in to Kafka, on a real broker with a listener for each: what is accepted, what each refusal is called. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { pino } from 'pino';
import type { TokenSource } from '../../src/config/kafka.ts';
import type { KafkaConfig } from '../../src/config.ts';
import type { Failure } from '../../src/errors.ts';
import { kafkaReader } from '../../src/journal/kafka-reader.ts';
import { kafkaTopics, prepareTopics } from '../../src/journal/kafka-topics.ts';
import { kafkaWriter } from '../../src/journal/kafka-writer.ts';
import { silentTelemetry, Telemetry } from '../../src/telemetry.ts';
import { type SecureKafka, startSecureKafka } from '../support/kafka-secure.ts';
import { needKafka } from '../support/servers.ts';
import { until } from '../support/until.ts';
import { kafkaConfig, numberOf, reading } from './kafka-fixture.ts';

const telemetry = silentTelemetry();
/** Shorter than this test takes: what outlives it has logged in again. */
const SESSION_MS = 4_000;

describe('a login to Kafka', function () {
  this.timeout(90_000);
  let kafka: SecureKafka;
  let config: KafkaConfig;
  let count = 0;

  before(async function () {
    needKafka(this); // where there is one for all, the parts for one of our own are there too
    kafka = await startSecureKafka({ sessionMs: SESSION_MS });
    config = kafkaConfig(kafka.server.brokers);
    const prepared = await prepareTopics(config, telemetry);
    assert.ok(prepared.ok);
  });

  after(async () => {
    await kafka?.close();
  });

  const at = (listener: keyof SecureKafka['ports'], changes: Partial<KafkaConfig>): KafkaConfig => ({
    ...config,
    brokers: [`127.0.0.1:${kafka.ports[listener]}`],
    tls: { ca: kafka.ca, cert: null, key: null },
    ...changes,
  });
  const password = (mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512', secret: string | { file: string }) =>
    at(mechanism === 'plain' ? 'plain' : 'scram', { sasl: { mechanism, username: 'alice', password: secret } });
  const bearer = (token: TokenSource) => at('bearer', { sasl: { mechanism: 'oauthbearer', token, extensions: {} } });
  const file = (name: string, text: string): string => {
    const path = join(kafka.dir, name);
    writeFileSync(path, text);
    return path;
  };
  const tokenFile = (lifeMs: number) => ({ from: 'file' as const, file: file('token', kafka.signToken(lifeMs)) });

  async function append(to: KafkaConfig) {
    const writer = kafkaWriter(to, kafkaTopics(to).readings, { gateway: 'g', telemetry });
    const outcome = await writer.append([reading('device-1', ++count)]);
    await writer.close();
    return outcome;
  }

  const accepted: readonly [name: string, config: () => KafkaConfig][] = [
    ['PLAIN', () => password('plain', 'right')],
    ['SCRAM-SHA-256', () => password('scram-sha-256', 'right')],
    ['SCRAM-SHA-512', () => password('scram-sha-512', 'right')],
    ['PLAIN with the password in a file', () => password('plain', { file: file('password', 'right\n') })],
    ['SCRAM-SHA-256 with the password in a file', () => password('scram-sha-256', { file: file('password', 'right') })],
    ['OAUTHBEARER with a token in a file', () => bearer(tokenFile(60_000))],
    [
      'OAUTHBEARER with a token that a program prints',
      () => bearer({ from: 'command', command: ['cat', tokenFile(60_000).file] }),
    ],
    ['a certificate of our own', () => at('mutual', { tls: { ca: kafka.ca, ...kafka.client } })],
  ];
  for (const [name, make] of accepted) {
    it(`is accepted by ${name}`, async () => {
      assert.deepEqual(await append(make()), { ok: true, value: undefined });
    });
  }

  const refusals: readonly [name: string, config: () => KafkaConfig, says: RegExp][] = [
    ['a wrong password for PLAIN', () => password('plain', 'wrong-secret'), /kafka\.sasl\.password/],
    ['a wrong password for SCRAM-SHA-256', () => password('scram-sha-256', 'wrong-secret'), /kafka\.sasl\.password/],
    ['a wrong password for SCRAM-SHA-512', () => password('scram-sha-512', 'wrong-secret'), /kafka\.sasl\.password/],
    [
      'a password file that is not there',
      () => password('plain', { file: join(kafka.dir, 'none') }),
      /kafka\.sasl\.password_file: .*none/,
    ],
    [
      'a password file that is empty',
      () => password('plain', { file: file('empty', '\n') }),
      /password_file: .* is empty/,
    ],
    [
      'a token that is over',
      () => bearer(tokenFile(-60_000)),
      /kafka\.sasl\.token_file: the token there has expired at/,
    ],
    [
      'a token that somebody else signed',
      () => bearer({ from: 'file', file: file('forged', `${kafka.signToken(60_000).slice(0, -6)}AAAAAA`) }),
      /does not accept the token: see kafka\.sasl\.token_\*.*invalid_token/,
    ],
    ['a token file with something else', () => bearer({ from: 'file', file: file('odd', 'a b') }), /is not a token/],
    [
      'a program for tokens that fails',
      () => bearer({ from: 'command', command: ['false', 'wrong-secret'] }),
      /kafka\.sasl\.token_command: false failed \(1\)/,
    ],
    [
      'a program for tokens that is not there',
      () => bearer({ from: 'command', command: ['/no/such/program'] }),
      /kafka\.sasl\.token_command: \/no\/such\/program failed \(ENOENT\)/,
    ],
    [
      'a server for tokens that is away',
      () =>
        bearer({ from: 'url', url: 'http://127.0.0.1:1/', clientId: 'c', clientSecret: 'wrong-secret', scope: null }),
      /kafka\.sasl\.token_url: http:\/\/127\.0\.0\.1:1\/ does not answer/,
    ],
    ['a certificate of Kafka that has expired', () => at('expired', {}), /certificate has expired.*kafka\.tls\.ca/],
    [
      'a certificate of our own that has expired',
      () => at('mutual', { tls: { ca: kafka.ca, ...kafka.oldClient } }),
      /does not accept our certificate.*kafka\.tls\.cert/,
    ],
    ['no certificate where one is wanted', () => at('mutual', {}), /kafka\.tls\.cert/],
  ];
  for (const [name, make, says] of refusals) {
    it(`is KAFKA_AUTHENTICATION for ${name}, says where, and shows no secret`, async () => {
      const outcome = await append(make());
      assert.ok(!outcome.ok);
      assert.equal(outcome.failure.code, 'KAFKA_AUTHENTICATION', outcome.failure.message);
      assert.match(outcome.failure.message, says);
      assert.doesNotMatch(outcome.failure.message, /wrong-secret|eyJ/);
      assert.equal(outcome.failure.retryable, true);
      assert.ok(outcome.failure.retryAfterMs! >= 1_000);
    });
  }

  it('heals by itself when the file with the password, or with the token, is corrected', async () => {
    const wrong = password('scram-sha-512', { file: file('heals', 'wrong') });
    const over = bearer({ from: 'file', file: file('heals-token', kafka.signToken(-5_000)) });
    for (const [to, correct] of [
      [wrong, () => file('heals', 'right')],
      [over, () => file('heals-token', kafka.signToken(60_000))],
    ] as const) {
      const writer = kafkaWriter(to, kafkaTopics(to).readings, { gateway: 'g', telemetry });
      assert.equal((await writer.append([reading('device-1', ++count)])).ok, false);
      correct();
      assert.deepEqual(await writer.append([reading('device-1', ++count)]), { ok: true, value: undefined });
      await writer.close();
    }
  });

  /** One connection that writes, one that reads, for some sessions of the broker. */
  async function outlives(to: KafkaConfig, untilMs: number): Promise<number> {
    const topic = kafkaTopics(to).readings;
    const lines: string[] = [];
    const heard = new Telemetry(pino({ level: 'warn' }, { write: (line: string) => lines.push(line) }));
    const writer = kafkaWriter(to, topic, { gateway: 'g', telemetry: heard });
    const reader = kafkaReader(to, topic, heard);
    const read = new Set<number>();
    const consumer = await reader.consume(`outlives-${to.sasl!.mechanism}`, {
      assigned: async (assignments) => new Map(assignments.map((one) => [one.partition, one.endOffset])),
      batch: async (batch) => {
        for (const { offset } of batch.records) read.add(offset);
        const committed = await consumer.commit(batch.partition, { offset: batch.nextOffset, metadata: '' });
        assert.ok(committed.ok, JSON.stringify(committed));
      },
      stopping: async () => {},
      ended: (reason) => assert.fail(String(reason)),
    });
    const untilAt = performance.now() + untilMs;
    while (performance.now() < untilAt) {
      const outcome = await writer.append([reading('device-1', ++count)]);
      assert.deepEqual(outcome, { ok: true, value: undefined });
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    await writer.close();
    await reader.close();
    assert.deepEqual(lines, [], 'no connection was lost on the way');
    return read.size;
  }

  it('is repeated before the broker ends the session: nothing fails for three of them, writing or reading', async () => {
    assert.ok((await outlives(password('scram-sha-512', 'right'), 3 * SESSION_MS)) > 0);
  });

  it('asks for the next token before one is over: nothing fails for three lives of a token', async () => {
    const lifeMs = 5_000;
    const asked: string[] = [];
    const server = createServer((request, response) => {
      let body = '';
      request.on('data', (chunk) => {
        body += chunk;
      });
      request.on('end', () => {
        asked.push(`${request.headers.authorization} ${body}`);
        response.setHeader('content-type', 'application/json');
        response.end(JSON.stringify({ access_token: kafka.signToken(lifeMs), expires_in: lifeMs / 1_000 }));
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/token`;
    try {
      const token = { from: 'url' as const, url, clientId: 'mill race', clientSecret: 'p:w', scope: 'kafka' };
      assert.ok((await outlives(bearer(token), 3 * lifeMs)) > 0);
    } finally {
      server.close();
    }
    // Two connections of the writer and those of the reader share them: one for each life, not for each login.
    assert.ok(asked.length >= 3 && asked.length <= 16, `${asked.length} tokens`);
    const basic = `Basic ${Buffer.from('mill+race:p%3Aw').toString('base64')}`;
    assert.deepEqual([...new Set(asked)], [`${basic} grant_type=client_credentials&scope=kafka`]);
  });

  it('ends when the session ends and the password is no longer right, and begins again when it is, both ways', async () => {
    const to = password('scram-sha-512', { file: file('turns', 'right') });
    const topic = kafkaTopics(to).readings;
    const reader = kafkaReader(to, topic, telemetry);
    const read: number[] = [];
    await reader.consume('begins-again', {
      assigned: async (all) =>
        new Map(all.map(({ partition, checkpoint, endOffset }) => [partition, checkpoint?.offset ?? endOffset])),
      batch: async ({ records }) => void read.push(...records.map(numberOf)),
      stopping: async () => {},
      ended: (reason) => assert.fail(String(reason)),
    });
    const writer = kafkaWriter(to, topic, { gateway: 'g', telemetry });
    let failure: Failure | null = null;
    const append = async (): Promise<boolean> => {
      const outcome = await writer.append([reading('device-1', ++count)]);
      failure = outcome.ok ? null : outcome.failure;
      return outcome.ok;
    };
    try {
      await until(async () => (await append()) && read.length > 0, 30_000, 'both ways are open');
      file('turns', 'wrong');
      await until(async () => !(await append()), 20_000, 'the writer is shut out');
      assert.match((failure as Failure | null)?.message ?? '', /kafka\.sasl\.password/);
      file('turns', 'right');
      await until(append, 20_000, 'the writer is let in again');
      const last = count;
      // It has committed nothing, so it begins at the end again: what comes from then on is what it must read.
      await until(async () => (await append()) && read.some((one) => one > last), 45_000, 'the reader goes on');
    } finally {
      await writer.close();
      await reader.close();
    }
  });
});
