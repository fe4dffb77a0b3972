/**
 * The guide in compose/mqtt/README.md, as written: its commands in a copy of the checkout, with real sockets, certificates and
 * passwords; its users file, its settings and the notice that it shows.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connectAsync, type MqttClient } from 'mqtt';
import { parseUsers } from '../../src/ingress/users.ts';
import { CHECKOUT, codeBlocks, copyCheckout } from '../support/checkout-copy.ts';
import { needTime } from '../support/servers.ts';
import { until } from '../support/until.ts';

const guide = readFileSync(join(CHECKOUT, 'compose/mqtt/README.md'), 'utf8');
const lines = (block: string) => block.trimEnd().split('\n');
const [prepare, publish] = codeBlocks(guide, 'sh').map(lines) as [string[], string[]];
const [users, listeners, sources] = codeBlocks(guide, 'yaml') as [string, string, string];
const TOPIC = 'sensors/berlin/pump-17/environment';

describe('The guide to devices and other brokers', function () {
  this.timeout(120_000);
  let folder: string;
  let gateway: ChildProcess;
  let log = '';
  const clients: MqttClient[] = [];

  const bash = (script: string) => execFileSync('bash', ['-ec', script], { cwd: folder, encoding: 'utf8' });

  async function connectPump(): Promise<MqttClient> {
    const file = (name: string) => readFileSync(join(folder, 'secured', name));
    const client = await connectAsync('mqtts://localhost:8883', {
      ca: file('ca.pem'),
      cert: file('pump-17.pem'),
      key: file('pump-17-key.pem'),
      clientId: 'pump-17',
      reconnectPeriod: 0,
    });
    clients.push(client);
    return client;
  }

  before(async function () {
    needTime(this);
    folder = copyCheckout();
    symlinkSync(join(CHECKOUT, 'node_modules'), join(folder, 'node_modules'));
    bash(prepare.slice(0, -1).join('\n'));
    gateway = spawn('bash', ['-c', prepare.at(-1)!], {
      cwd: folder,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [gateway.stdout!, gateway.stderr!]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        log += text;
      });
    }
    const up = () =>
      fetch('http://127.0.0.1:8080/readyz').then(
        ({ ok }) => ok,
        () => false,
      );
    await until(up, 60_000, `the gateway is ready: ${log}`);
  });

  after(async () => {
    for (const client of clients) await client.endAsync(true);
    if (gateway?.exitCode === null) {
      process.kill(-gateway.pid!, 'SIGINT');
      await once(gateway, 'close');
    }
    if (folder) rmSync(folder, { recursive: true, force: true });
  });

  it('publishes with a password, and with a certificate in its place', async () => {
    assert.equal(publish.length, 2);
    for (const [index, command] of publish.entries()) {
      bash(command);
      const metrics = await (await fetch('http://127.0.0.1:8080/metrics')).text();
      assert.match(metrics, new RegExp(`millrace_accepted_total{stream="environment"[^}]*} ${index + 1}\n`), command);
    }
  });

  it('lets a device publish under no other name than its own', async () => {
    const pump = await connectPump();
    const closed = new Promise((resolve) => pump.once('close', () => resolve(null)));
    pump.publish(TOPIC.replace('pump-17', 'pump-18'), '{"temperature": 1}', { qos: 1 }, () => {});
    await closed;
    await until(() => log.includes('not allowed to publish to'), 5_000, 'the log says why');
  });

  it('lets nobody in with a wrong password, by any of its two ports', async () => {
    const ca = readFileSync(join(folder, 'secured/ca.pem'));
    for (const url of ['mqtts://localhost:8883', 'wss://localhost:8884']) {
      const wrong = { ca, username: 'pump-17', password: 'shallow water', reconnectPeriod: 0 };
      await assert.rejects(connectAsync(url, wrong), /Bad username or password/, url);
      clients.push(await connectAsync(url, { ...wrong, password: 'deep water' }));
    }
  });

  it('tells the device why its payload was refused, in the words that it shows', async () => {
    const pump = await connectPump();
    await pump.subscribeAsync('$millrace/refused/pump-17');
    const told = new Promise<string>((resolve) => pump.once('message', (_, payload) => resolve(payload.toString())));
    await pump.publishAsync(TOPIC, '{"temperatur": 21.5}', { qos: 1 });
    assert.equal(`${await told}\n`, codeBlocks(guide, 'json')[0]);
    const metrics = await (await fetch('http://127.0.0.1:8080/metrics')).text();
    assert.match(metrics, /millrace_dead_letters_total{reason="[\w-]+"[^}]*} 1\n/);
  });

  it('shows a users file that is valid, but for the hashes that it leaves out', () => {
    const [, hash] = /password: "(.*)"/.exec(readFileSync(join(folder, 'secured/users.yaml'), 'utf8'))!;
    const read = parseUsers(users.replaceAll('$scrypt$ln=14,r=8,p=1$...', () => hash!));
    assert.ok(typeof read !== 'string', `${read}`);
    assert.deepEqual([...read.named.keys()], ['pump-17', 'dashboard']);
    assert.ok(read.certificates !== null && read.anonymous.publish.length === 1);
  });

  for (const [name, settings] of Object.entries({ listeners, sources })) {
    it(`shows settings for ${name} that are valid`, () => {
      const whole = readFileSync(join(folder, 'secured/millrace.yaml'), 'utf8');
      copyFileSync(join(folder, 'secured/ca.pem'), join(folder, 'secured/emqx-ca.pem'));
      const auth = name === 'listeners' ? '  auth: { users: users.yaml }\n' : '';
      writeFileSync(
        join(folder, `secured/${name}.yaml`),
        `${settings}${auth}${whole.slice(whole.indexOf('streams:'))}`,
      );
      bash(`EMQX_PASSWORD=x npm run --silent millrace -- check --config secured/${name}.yaml`);
    });
  }
});
