/** What keeps the program from starting: said in one sentence with the way out, with the right exit code, harming nobody. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../src/clock.ts';
import { freePort } from '../../src/torture/program.ts';
import { type GatewayProcess, runMillrace, startGateway } from '../support/gateway-process.ts';
import { RawClient } from '../support/mqtt-raw.ts';

const STREAMS = `streams:
  environment:
    topic: sensors/{site}/{device}/environment
    time: ts
    metrics: [temperature]
`;

describe('A start that cannot be', function () {
  this.timeout(60_000);
  let folder: string;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'millrace-start-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  function run(yaml: string, name = 'm.yaml') {
    writeFileSync(join(folder, name), yaml);
    return runMillrace(['run', '--config', join(folder, name)], { env: { LOG_LEVEL: 'warn' } });
  }

  async function occupied(): Promise<{ port: number; server: Server }> {
    const server = createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return { port: (server.address() as { port: number }).port, server };
  }

  const listening = (mqtt: number, http: number) =>
    `mqtt: { listeners: [{ port: ${mqtt}, host: 127.0.0.1 }] }\nhttp: { port: ${http} }\n${STREAMS}`;

  it('for a broken configuration names every mistake with its place, and exits with 2', async () => {
    const { code, out, err } = await run(`ack: maybe
spol: { max: 10GiB }
mqtt: { limits: { packet: 3 parsecs } }
rollup: { grace: soon }
streams:
  environment:
    topic: sensors/{site}/{site}
    windows: [10s, 7s]
    schema: missing.schema.json
    metrics: [temperature]
`);
    assert.equal(code, 2);
    assert.equal(out, '');
    for (const place of [
      /:1:\d+.*ack/,
      /:2:\d+.*spol.*spool/,
      /:3:\d+.*packet/,
      /:4:\d+.*grace/,
      /:7:\d+.*site/,
      /:8:\d+.*7s/,
    ]) {
      assert.match(err, place);
    }
    assert.match(err, /m\.yaml has \d+ mistakes/);
    assert.doesNotMatch(err, /\bat .*\.js:\d+/, 'no stack trace');
  });

  it('for a schema that cannot be compiled names the file and what is wrong in it, and exits with 2', async () => {
    writeFileSync(join(folder, 's.json'), '{"type":"obect"}');
    const [mqtt, http] = [await freePort(), await freePort()];
    const { code, err } = await run(`${listening(mqtt, http)}    schema: s.json\n`);
    assert.equal(code, 2);
    assert.match(err, /s\.json.*type/);
  });

  for (const what of ['MQTT', 'HTTP'] as const) {
    it(`for an ${what} port in use says which one, and exits with 1`, async () => {
      const { port, server } = await occupied();
      const other = await freePort();
      const { code, err } = await run(what === 'MQTT' ? listening(port, other) : listening(other, port));
      server.close();
      assert.equal(code, 1, err);
      const sentence = err.split('\n').find((line) => line.startsWith('millrace: ')) ?? '';
      assert.match(sentence, new RegExp(`\\b${port}\\b.*in use`));
      assert.doesNotMatch(err, /\bat .*\.js:\d+/, 'no stack trace');
      // nothing is left behind that would hold the folder or the other port
      const [mqttPort, httpPort] = what === 'MQTT' ? [await freePort(), other] : [other, await freePort()];
      const gateway = await startGateway({ folder, yaml: STREAMS, mqttPort, httpPort });
      await gateway.end('SIGTERM');
    });
  }

  it('for a data folder in use names the process that has it, exits with 1, and leaves that process unharmed', async () => {
    const gateway: GatewayProcess = await startGateway({ folder, yaml: STREAMS });
    try {
      const client = await RawClient.connected(gateway.mqttPort);
      const publish = (id: number) =>
        client.publish('sensors/a/d/environment', `{"ts":${systemClock.nowMs()},"temperature":${id}}`, 1, id);
      publish(1);
      await client.until('puback');
      const { code, err } = await run(
        `data: ${join(folder, 'data')}\n${listening(await freePort(), await freePort())}`,
      );
      assert.equal(code, 1);
      assert.match(err, new RegExp(`in use by process ${gateway.child.pid}\\b`));
      publish(2);
      await client.until('puback', 2);
      assert.equal((await gateway.get('/readyz')).status, 200);
      assert.equal(await gateway.metric('millrace_accepted_total'), 2);
      assert.equal(await gateway.end('SIGTERM'), 0);
    } finally {
      await gateway.end('SIGKILL');
    }
  });
});
