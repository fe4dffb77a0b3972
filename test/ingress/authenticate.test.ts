/** Who may connect, and what they may do then. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hashPassword } from '../../src/ingress/password.ts';
import { eventually, type RawClient } from '../support/mqtt-raw.ts';
import { type Harness, type HarnessOptions, startHarness } from './harness.ts';

describe('authentication', () => {
  let harness: Harness;
  let folder: string;
  let file: string;
  let hashes: Record<string, string>;

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'millrace-users-'));
    file = join(folder, 'users.yaml');
    hashes = { 'pump-17': await hashPassword('secret-17'), 'pump-18': await hashPassword('secret-18') };
  });
  after(() => rmSync(folder, { recursive: true }));
  afterEach(() => harness.close());

  function write(names: readonly string[], more = ''): void {
    const users = names.map(
      (name) =>
        `  ${name}: { password: "${hashes[name]}", publish: ["sensors/{site}/{username}/#"], subscribe: ["commands/{username}/#"] }`,
    );
    writeFileSync(file, `users:\n${users.join('\n')}\n${more}`);
  }

  async function start(
    options: { anonymous?: boolean; slowDownMs?: number; limits?: HarnessOptions['limits'] } = {},
  ): Promise<void> {
    harness = await startHarness({
      ...(options.limits ? { limits: options.limits } : {}),
      auth: { anonymous: options.anonymous ?? false, users: file },
      broker: { slowDownMs: options.slowDownMs ?? 20 },
    });
  }

  function login(username: string, password: string, more: object = {}): Promise<RawClient> {
    return harness.connected({ username, password: Buffer.from(password), clientId: `of-${username}`, ...more });
  }

  function code(client: RawClient): number | undefined {
    return client.of('connack')[0]!.returnCode;
  }

  it('lets only so many wait to be checked (logins): the others are told to come again by CONNACK 3, and may', async () => {
    write(['pump-17']);
    await start({ limits: { logins: 3 } });
    const crowd = Array.from({ length: 12 }, (_, i) => login('pump-17', 'secret-17', { clientId: `crowd-${i}` }));
    const codes = (await Promise.all(crowd)).map(code);
    const busy = codes.filter((each) => each === 3).length;
    assert.ok(busy > 0, codes.join());
    assert.equal(codes.filter((each) => each === 0).length, 12 - busy, 'nobody else is refused');
    assert.equal(await harness.limitReached('logins'), busy);
    assert.equal(code(await login('pump-17', 'secret-17')), 0);
  });

  it('lets in who knows the password, and nobody else: CONNACK 4, then the end [MQTT-3.2.2-5]', async () => {
    write(['pump-17']);
    await start();
    assert.equal(code(await login('pump-17', 'secret-17')), 0);
    for (const [name, password] of [
      ['pump-17', 'secret-18'],
      ['pump-17', ''],
      ['nobody', 'secret-17'],
      ['', 'x'],
      ['__proto__', 'x'],
      ['pump-17', 'x'.repeat(5_000)],
    ] as const) {
      const client = await login(name, password);
      assert.equal(code(client), 4, name);
      await client.untilClosed();
    }
    const without = await harness.connected({ username: 'pump-17' });
    assert.equal(code(without), 4);
  });

  it('refuses anonymous clients by CONNACK 5 unless the configuration lets them in', async () => {
    write(['pump-17']);
    await start();
    const client = await harness.connected();
    assert.equal(code(client), 5);
    await client.untilClosed();
  });

  it('holds anonymous clients to their own rules', async () => {
    write(['pump-17'], 'anonymous: { publish: ["demo/{clientid}/#"] }');
    await start({ anonymous: true });
    const client = await harness.connected({ clientId: 'me' });
    client.publish('demo/me/x', 'x', 1, 1);
    await client.until('puback');
    client.publish('demo/you/x', 'x', 1, 2);
    await client.untilClosed();
    assert.deepEqual(client.acknowledged(), [1]);
  });

  it('does not ask for a password where anyone may connect and there are no users', async () => {
    harness = await startHarness({ auth: { anonymous: true, users: null } });
    assert.equal(code(await login('anyone', 'anything')), 0);
  });

  it('recognises a password that was right at once, without hashing it again', async () => {
    write(['pump-17']);
    await start();
    await login('pump-17', 'secret-17');
    const startMs = performance.now();
    for (let i = 0; i < 30; i++) assert.equal(code(await login('pump-17', 'secret-17')), 0);
    const hashedMs = performance.now();
    await hashPassword('as long as one');
    const oneMs = performance.now() - hashedMs;
    assert.ok(hashedMs - startMs < 30 * oneMs, `30 logins took ${hashedMs - startMs} ms, one hash ${oneMs} ms`);
    assert.equal(code(await login('pump-17', 'secret-18')), 4, 'and a wrong one is still wrong');
  });

  it('answers failed logins of one address and user later and later, and not those of others', async () => {
    write(['pump-17', 'pump-18']);
    await start({ slowDownMs: 150 });
    for (let i = 0; i < 2; i++) await login('pump-17', 'wrong');
    let startMs = performance.now();
    assert.equal(code(await login('pump-17', 'wrong')), 4);
    assert.ok(performance.now() - startMs >= 290, 'the third waits 300 ms');
    startMs = performance.now();
    let slowIsIn = false;
    const slow = login('pump-17', 'secret-17').then((client) => {
      slowIsIn = true;
      return client;
    });
    assert.equal(code(await login('pump-18', 'secret-18')), 0);
    assert.equal(slowIsIn, false);
    assert.equal(code(await slow), 0);
    assert.ok(performance.now() - startMs >= 590, 'the fourth waits 600 ms, right or wrong');
  });

  it('takes many at once, a few at a time, without keeping the connected ones waiting', async () => {
    write(['pump-17', 'pump-18']);
    await start();
    const client = await login('pump-18', 'secret-18');
    const logins = Array.from({ length: 12 }, (_, i) => login('pump-17', 'secret-17', { clientId: `c-${i}` }));
    let slowestMs = 0;
    for (let id = 1; id <= 30; id++) {
      const startMs = performance.now();
      client.publish('sensors/a/pump-18', 'x', 1, id);
      await client.until('puback', id);
      slowestMs = Math.max(slowestMs, performance.now() - startMs);
    }
    for (const other of await Promise.all(logins)) assert.equal(code(other), 0);
    assert.ok(slowestMs < 1_000, `the slowest took ${slowestMs} ms`);
  });

  describe('what a user may do', () => {
    it('is publish to the own topics; elsewhere the connection ends, after what came before is acknowledged', async () => {
      write(['pump-17']);
      await start();
      const client = await login('pump-17', 'secret-17');
      client.publish('sensors/berlin/pump-17/t', 'x', 1, 1);
      client.publish('sensors/berlin/pump-18/t', 'x', 1, 2);
      client.publish('sensors/berlin/pump-17/t', 'x', 1, 3);
      await client.untilClosed();
      assert.deepEqual(client.acknowledged(), [1]);
      assert.equal(harness.arrived.length, 1);
      assert.equal(await harness.counter('millrace_turned_away_total', { reason: 'not-authorized' }), 1);
    });

    it('is subscribe to the own topics; others are refused one by one', async () => {
      write(['pump-17']);
      await start();
      const client = await login('pump-17', 'secret-17');
      assert.equal(await client.subscribe('commands/pump-17/#', 1), 1);
      for (const filter of ['#', 'commands/#', 'commands/+/#', 'sensors/berlin/pump-17/#', '$SYS/#']) {
        assert.equal(await client.subscribe(filter), 128, filter);
      }
    });

    it('is not get around by a will or a retained message', async () => {
      write(['pump-17']);
      await start();
      const will = { topic: 'sensors/berlin/pump-18/t', payload: Buffer.from('x'), qos: 1 as const, retain: true };
      const refused = await login('pump-17', 'secret-17', { will });
      assert.equal(code(refused), 5);
      await refused.untilClosed();
      const allowed = await login('pump-17', 'secret-17', { will: { ...will, topic: 'sensors/berlin/pump-17/t' } });
      assert.equal(code(allowed), 0);
      allowed.publish('sensors/berlin/pump-18/t', '', 1, 1, { retain: true });
      await allowed.untilClosed();
      await eventually(() => harness.arrived.length === 1, 'the allowed will');
      assert.equal(harness.arrived[0]!.topic, 'sensors/berlin/pump-17/t');
    });

    it('is not got by a refused filter that is hidden in one SUBSCRIBE of a kept session', async () => {
      write(['pump-17', 'pump-18']);
      await start();
      const spy = await login('pump-17', 'secret-17', { clean: false });
      spy.send({
        cmd: 'subscribe',
        messageId: 1,
        subscriptions: [
          { topic: 'commands/pump-17/x', qos: 1 },
          { topic: 'sensors/+/pump-18/#', qos: 1 },
        ],
      });
      assert.deepEqual((await spy.until('suback')).granted, [1, 128]);
      spy.end();
      await eventually(() => harness.broker.stats().connections === 0, 'it to leave');
      const other = await login('pump-18', 'secret-18');
      other.publish('sensors/a/pump-18', 'private');
      await other.until('puback');
      await other.ping();
      const back = await login('pump-17', 'secret-17', { clean: false });
      await back.ping();
      await back.ping();
      assert.deepEqual(back.of('publish'), []);
    });

    it('is not to take the client id of another user, connected or away', async () => {
      write(['pump-17', 'pump-18']);
      await start();
      const owner = await login('pump-17', 'secret-17', { clientId: 'shared', clean: false });
      await owner.subscribe('commands/pump-17/#', 1);
      for (const clean of [true, false]) {
        const thief = await login('pump-18', 'secret-18', { clientId: 'shared', clean });
        assert.equal(code(thief), 2);
        await thief.untilClosed();
      }
      await owner.ping();
      owner.end();
      await eventually(() => harness.broker.stats().connections === 0, 'it to leave');
      assert.equal(code(await login('pump-18', 'secret-18', { clientId: 'shared', clean: true })), 2);
      assert.equal(code(await login('pump-17', 'secret-17', { clientId: 'shared', clean: true })), 0);
      harness.arrived.length = 0;
    });
  });

  describe('a reload', () => {
    it('lets new users in and new rules hold, for those connected too; who is gone is disconnected, nobody else', async () => {
      write(['pump-17']);
      await start();
      const stays = await login('pump-17', 'secret-17');
      stays.publish('sensors/a/pump-17', 'x', 1, 1);
      await stays.until('puback');
      assert.equal(code(await login('pump-18', 'secret-18')), 4);

      write(['pump-17', 'pump-18']);
      assert.ok(harness.broker.reload().ok);
      const comes = await login('pump-18', 'secret-18');
      assert.equal(code(comes), 0);
      stays.publish('sensors/a/pump-17', 'x', 1, 2);
      await stays.until('puback', 2);

      write(['pump-17'], 'certificates: { publish: ["#"] }');
      assert.ok(harness.broker.reload().ok);
      await comes.untilClosed();
      await stays.ping();
      assert.equal(code(await login('pump-18', 'secret-18')), 4);

      writeFileSync(file, `users:\n  pump-17: { password: "${hashes['pump-17']}", publish: ["elsewhere"] }\n`);
      assert.ok(harness.broker.reload().ok);
      stays.publish('elsewhere', 'x', 1, 3);
      await stays.until('puback', 3);
      stays.publish('sensors/a/pump-17', 'x', 1, 4);
      await stays.untilClosed();
    });

    it('ends the subscriptions that the new rules do not allow, those of sessions too', async () => {
      const allow = (filter: string): void =>
        writeFileSync(
          file,
          `users:\n  pump-17: { password: "${hashes['pump-17']}", publish: ["a/#"], subscribe: ["${filter}"] }\n`,
        );
      allow('a/#');
      await start();
      const client = await login('pump-17', 'secret-17', { clean: false });
      await client.subscribe('a/+', 1);
      const away = await login('pump-17', 'secret-17', { clean: false, clientId: 'away' });
      await away.subscribe('a/+', 1);
      away.end();
      await eventually(() => harness.broker.stats().connections === 1, 'it to leave');
      client.publish('a/b', 'allowed', 1, 1);
      await client.until('publish');
      allow('b/#');
      assert.ok(harness.broker.reload().ok);
      client.publish('a/b', 'not allowed any more', 1, 2);
      await client.until('puback', 2);
      await client.ping();
      await client.ping();
      assert.equal(client.of('publish').length, 1);
      const back = await login('pump-17', 'secret-17', { clean: false, clientId: 'away' });
      await back.ping();
      client.publish('a/b', 'nor now', 1, 3);
      await client.until('puback', 3);
      await back.ping();
      await back.ping();
      assert.ok(!back.of('publish').some(({ payload }) => payload.toString() === 'nor now'));
      assert.equal(harness.broker.stats().sessions, 0);
    });

    it('with a mistake changes nothing and says what it is', async () => {
      write(['pump-17']);
      await start();
      const client = await login('pump-17', 'secret-17');
      writeFileSync(file, 'users: { pump-17: { password: clear } }');
      const outcome = harness.broker.reload();
      assert.ok(!outcome.ok && outcome.failure.code === 'CONFIG_INVALID');
      await client.ping();
      assert.equal(code(await login('pump-17', 'secret-17')), 0);
    });

    it('with another password ends the old one', async () => {
      write(['pump-17']);
      await start();
      await login('pump-17', 'secret-17');
      const old = hashes['pump-17']!;
      hashes['pump-17'] = hashes['pump-18']!;
      write(['pump-17']);
      hashes['pump-17'] = old;
      assert.ok(harness.broker.reload().ok);
      assert.equal(code(await login('pump-17', 'secret-17')), 4);
      assert.equal(code(await login('pump-17', 'secret-18')), 0);
    });
  });
});
