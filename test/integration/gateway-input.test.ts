/**
 * What devices get wrong, against the running program: every bad payload becomes a dead letter with a reason that a
 * person can act on, kept byte for byte; what is not even a payload closes its connection and is logged and counted;
 * and whatever came before, the next good reading is accepted.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { generate } from 'mqtt-packet';
import { systemClock } from '../../src/clock.ts';
import { type GatewayProcess, runMillrace, startGateway } from '../support/gateway-process.ts';
import { RawClient } from '../support/mqtt-raw.ts';
import { until } from '../support/until.ts';

const SCHEMA = JSON.stringify({
  type: 'object',
  required: ['temperature'],
  properties: { temperature: { type: 'number', minimum: -60, maximum: 125 } },
});
const YAML = `streams:
  environment:
    topic: sensors/{site}/{device}/environment
    schema: environment.schema.json
    time: ts
    sequence: seq
    metrics: [temperature]
  power:
    topic: meters/{device}/power
    metrics: [watts]
`;
const TOPIC = 'sensors/hall/d1/environment';
const PACKET_LIMIT = 256 * 1024;

interface BadPayload {
  readonly what: string;
  readonly payload: string | Buffer;
  readonly topic?: string;
  readonly code: string;
  readonly field?: string;
  /** What the reason must say. */
  readonly says: RegExp;
}

const deep = (levels: number) => `{"ts":1,"temperature":${'['.repeat(levels)}${']'.repeat(levels)}}`;

const BAD: readonly BadPayload[] = [
  {
    what: 'cut off',
    payload: '{"ts":1700000000000,"temp',
    code: 'malformed',
    says: /not JSON: .*position 25|Unterminated/,
  },
  { what: 'no JSON at all', payload: 'temperature=21.5', code: 'malformed', says: /not JSON: .*temperatur/ },
  {
    what: 'not UTF-8',
    payload: Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x80, 0x00, 0x22, 0x7d]),
    code: 'not-utf8',
    says: /UTF-8/,
  },
  { what: 'empty', payload: '', code: 'empty', says: /empty/ },
  { what: 'blank', payload: ' \r\n\t', code: 'empty', says: /blank/ },
  {
    what: 'nested 100,000 levels deep',
    payload: deep(100_000),
    code: 'too-deep',
    says: /nested deeper than the limit of 64 levels/,
  },
  {
    what: 'a key __proto__',
    payload: '{"ts":1700000000000,"temperature":20,"__proto__":{"polluted":1}}',
    code: 'forbidden-key',
    field: '/__proto__',
    says: /__proto__/,
  },
  {
    what: 'a key constructor.prototype',
    payload: '{"temperature":20,"constructor":{"prototype":{}}}',
    code: 'forbidden-key',
    field: '/constructor',
    says: /constructor/,
  },
  {
    what: '1e999',
    payload: '{"ts":1700000000000,"temperature":1e999}',
    code: 'number-out-of-range',
    field: '/temperature',
    says: /too large/,
  },
  { what: 'NaN', payload: '{"ts":1700000000000,"temperature":NaN}', code: 'malformed', says: /not JSON: .*NaN/ },
  {
    what: 'text for a number',
    payload: '{"ts":1700000000000,"temperature":"21.5"}',
    code: 'schema',
    field: '/temperature',
    says: /number.*"21.5"|"21.5".*number/,
  },
  {
    what: 'a value out of the schema’s range',
    payload: '{"ts":1700000000000,"temperature":900}',
    code: 'schema',
    field: '/temperature',
    says: /125.*900|900.*125/,
  },
  { what: 'a missing required field', payload: '{"ts":1700000000000}', code: 'schema', says: /temperature/ },
  { what: 'no time', payload: '{"temperature":20}', code: 'time-missing', field: '/ts', says: /ts is missing/ },
  {
    what: 'a time that is none',
    payload: '{"ts":"yesterday","temperature":20}',
    code: 'time-invalid',
    field: '/ts',
    says: /"yesterday".*epoch/,
  },
  {
    what: 'a time far ahead',
    payload: '{"ts":4102444800000,"temperature":20}',
    code: 'time-future',
    field: '/ts',
    says: /4102444800000.*ahead/,
  },
  {
    what: 'a sequence that is none',
    payload: '{"ts":1700000000000,"temperature":20,"seq":-1}',
    code: 'sequence-invalid',
    field: '/seq',
    says: /-1/,
  },
  { what: 'a number', payload: '42', code: 'malformed', says: /a number, expected an object/ },
  { what: 'null', payload: 'null', code: 'malformed', says: /null, expected an object/ },
  { what: 'an empty batch', payload: '[]', code: 'empty', says: /no reading/ },
  {
    what: 'one bad reading in a batch',
    payload: '[{"ts":1700000000000,"temperature":20},{"ts":1700000000001,"temperature":"x"}]',
    code: 'schema',
    field: '/1/temperature',
    says: /reading 2 of the batch/,
  },
  {
    what: 'none of the metrics',
    topic: 'meters/m1/power',
    payload: '{"volts":230}',
    code: 'number-invalid',
    says: /watts/,
  },
  {
    what: 'a wrong type without a schema',
    topic: 'meters/m1/power',
    payload: '{"watts":{"value":3}}',
    code: 'number-invalid',
    field: '/watts',
    says: /not a number/,
  },
  {
    what: 'a topic of no stream',
    topic: 'sensors/hall/d1/enviroment',
    payload: '{"ts":1700000000000,"temperature":20}',
    code: 'unknown-topic',
    says: /no stream has a topic that matches "sensors\/hall\/d1\/enviroment"/,
  },
];

interface Letter {
  readonly id: string;
  readonly code: string;
  readonly reason: string;
  readonly field: string;
  readonly stream: string;
  readonly topic: string;
  readonly client: string;
  readonly payload: string;
}

describe('Bad input against the running program', function () {
  this.timeout(120_000);
  let folder: string;
  let gateway: GatewayProcess;
  let config: string;
  let good: RawClient;
  let goodSent = 0;

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'millrace-input-'));
    writeFileSync(join(folder, 'environment.schema.json'), SCHEMA);
    config = join(folder, 'all.yaml');
    gateway = await startGateway({ folder, yaml: YAML });
    good = await RawClient.connected(gateway.mqttPort, { clientId: 'good' });
  });
  after(async () => {
    good?.end();
    await gateway?.end('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  });

  /** A good reading of another device is accepted right now. */
  async function goOn(): Promise<void> {
    goodSent++;
    good.publish(
      'sensors/hall/good/environment',
      `{"ts":${systemClock.nowMs()},"seq":${goodSent},"temperature":20}`,
      1,
      goodSent,
    );
    await good.until('puback', goodSent);
  }

  it('acknowledges each bad payload, and a good reading right after it', async () => {
    const client = await RawClient.connected(gateway.mqttPort, { clientId: 'bad' });
    for (const [index, { topic = TOPIC, payload }] of BAD.entries()) {
      client.publish(topic, payload, 1, index + 1);
      await client.until('puback', index + 1);
      await goOn();
    }
    assert.equal(client.closed, false);
    client.end();
    assert.equal(await gateway.metric('millrace_dead_letters_total'), BAD.length);
    assert.equal(await gateway.metric('millrace_accepted_total'), goodSent);
  });

  it('lists them all, each with a reason that names the field, the value and what was expected', async () => {
    const listed = await runMillrace(['deadletters', 'list', '--config', config, '--json']);
    assert.equal(listed.code, 0, listed.err);
    const letters = listed.out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Letter)
      .reverse();
    assert.equal(letters.length, BAD.length);
    for (const [index, { what, payload, topic = TOPIC, code, field, says }] of BAD.entries()) {
      const letter = letters[index]!;
      assert.equal(letter.code, code, what);
      assert.match(letter.reason, says, what);
      if (field !== undefined) assert.equal(letter.field, field, what);
      assert.equal(letter.topic, topic, what);
      assert.equal(letter.client, 'bad', what);
      assert.deepEqual(
        Buffer.from(letter.payload, 'base64'),
        Buffer.from(payload),
        `${what}: the payload, byte for byte`,
      );
    }
  });

  it('shows one by its id, with the payload byte for byte, and without a control character on the terminal', async () => {
    const { out } = await runMillrace(['deadletters', 'list', '--config', config, '--json']);
    const letters = out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Letter)
      .reverse();
    for (const what of ['not UTF-8', 'nested 100,000 levels deep', 'a key __proto__']) {
      const index = BAD.findIndex((bad) => bad.what === what);
      const { id } = letters[index]!;
      const shown = await runMillrace(['deadletters', 'show', id, '--config', config, '--json']);
      assert.equal(shown.code, 0, shown.err);
      assert.deepEqual(
        Buffer.from((JSON.parse(shown.out) as Letter).payload, 'base64'),
        Buffer.from(BAD[index]!.payload),
        what,
      );
      const page = (await (await gateway.get(`/api/v1/deadletters/${id}`)).json()) as { base64: string };
      assert.deepEqual(Buffer.from(page.base64, 'base64'), Buffer.from(BAD[index]!.payload), `${what}, by the API`);
      const plain = await runMillrace(['deadletters', 'show', id, '--config', config]);
      assert.equal(plain.code, 0, plain.err);
      // biome-ignore lint/suspicious/noControlCharactersInRegex: that none is there is what is tested
      assert.doesNotMatch(plain.out, /[\0-\x08\x0b-\x1f\x7f\ufffd]/, what);
    }
    const missing = await runMillrace(['deadletters', 'show', '0-99999999', '--config', config]);
    assert.deepEqual({ code: missing.code, out: missing.out }, { code: 1, out: '' });
  });

  it('takes a packet of exactly the limit, and closes the connection of one that is a byte longer', async () => {
    const empty = generate({
      cmd: 'publish',
      topic: TOPIC,
      payload: '',
      qos: 1,
      messageId: 1,
      dup: false,
      retain: false,
    });
    // The remaining length takes three bytes more for a packet of this size.
    const most = PACKET_LIMIT - empty.length - 2;
    const client = await RawClient.connected(gateway.mqttPort, { clientId: 'large' });
    const sized = (bytes: number) =>
      `{"ts":${systemClock.nowMs()},"temperature":20,"pad":"`.padEnd(bytes - 2, 'x').concat('"}');
    client.publish(TOPIC, sized(most));
    await client.until('puback');
    await goOn();
    client.publish(TOPIC, sized(most + 1), 1, 2);
    await client.untilClosed();
    assert.equal(client.of('puback').length, 1);
    await goOn();
  });

  it('closes the connection of a payload of 256 KiB and a byte: logged with the reason, and counted', async () => {
    const client = await RawClient.connected(gateway.mqttPort, { clientId: 'oversized' });
    client.publish(TOPIC, Buffer.alloc(PACKET_LIMIT + 1, 0x20));
    await client.untilClosed();
    await goOn();
    await until(
      async () => (await (await gateway.get('/metrics')).text()).includes('limit="packet"} 2'),
      5_000,
      'it is counted',
    );
    const line = gateway
      .log()
      .split('\n')
      .find((text) => text.includes('"large"') && text.includes('turned away'));
    assert.match(line ?? '', /a packet of \d+ bytes is longer than 262144/);
  });

  it('closes connections that do not speak MQTT, and goes on', async () => {
    const noise = [
      Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'),
      Buffer.alloc(64, 0xff),
      Buffer.from([0x10, 0xff, 0xff, 0xff, 0xff]),
      Buffer.from([0x30, 0x05, 0x00, 0x01, 0x61, 0x7b, 0x7d]),
      generate({ cmd: 'pingreq' }),
    ];
    for (const bytes of noise) {
      const client = await RawClient.open(gateway.mqttPort);
      client.write(bytes);
      await client.untilClosed();
      await goOn();
    }
    // in the middle of a packet
    const client = await RawClient.connected(gateway.mqttPort);
    const whole = generate({
      cmd: 'publish',
      topic: TOPIC,
      payload: '{}',
      qos: 1,
      messageId: 1,
      dup: false,
      retain: false,
    });
    client.write(whole.subarray(0, 10));
    client.end();
    await goOn();
  });

  it('is still the same process, and ready', async () => {
    assert.equal(gateway.child.exitCode, null);
    assert.equal((await gateway.get('/readyz')).status, 200);
    const { code, out } = await runMillrace(['deadletters', 'list', '--config', config]);
    assert.equal(code, 0);
    assert.equal(out.trim().split('\n').length, BAD.length, 'a line each');
  });
});
