import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import mqttPacket from 'mqtt-packet';
import { LoadConnection } from '../../devices-sim/load-connection.ts';
import { DEFAULT_LOAD, type LoadOptions, type LoadResult, runLoad } from '../../devices-sim/load-generator.ts';
import { until } from '../support/until.ts';
import { startBroker, type TestBroker } from './broker.ts';

let broker: TestBroker;
/** A broker for each test of the suite that calls this. */
function withBroker(): void {
  beforeEach(async () => {
    broker = await startBroker();
  });
  afterEach(() => broker.close());
}

const load = (changes: Partial<LoadOptions>, signal?: AbortSignal, measuring?: () => void) =>
  runLoad(
    { ...DEFAULT_LOAD, url: broker.url, connections: 4, inFlight: 5, devicesPerConnection: 2, ...changes },
    signal,
    measuring,
  );

/** Every counter that the broker received, by device. */
function receivedByDevice(): Map<string, Set<number>> {
  const found = new Map<string, Set<number>>();
  for (const { topic, payload } of broker.received) {
    const device = topic.split('/')[2]!;
    found.set(device, (found.get(device) ?? new Set()).add(JSON.parse(payload.toString()).seq));
  }
  return found;
}

function assertAcknowledgedWereReceived(result: LoadResult): void {
  const received = receivedByDevice();
  for (const { device, sent, acknowledged } of result.devices) {
    for (let seq = 0; seq < sent; seq++) {
      if (acknowledged.has(seq)) assert.ok(received.get(device)!.has(seq), `${device} ${seq} was never received`);
    }
  }
}

/** A server on a raw socket. */
async function serve(onSocket: (socket: Socket) => void) {
  const server = createServer({ noDelay: true }, onSocket);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `mqtt://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { url, close: () => server.close() };
}

/** Answers each publish with a PINGRESP and its PUBACK; 1 to 7 bytes leave at a time. */
function startChoppingServer() {
  return serve(async (socket) => {
    socket.on('error', () => {});
    let left: Buffer = Buffer.alloc(0);
    const parser = mqttPacket.parser();
    parser.on('packet', ({ cmd, messageId }) => {
      if (cmd === 'connect') left = mqttPacket.generate({ cmd: 'connack', returnCode: 0, sessionPresent: false });
      if (cmd !== 'publish') return;
      const answers = [mqttPacket.generate({ cmd: 'pingresp' }), mqttPacket.generate({ cmd: 'puback', messageId })];
      left = Buffer.concat([left, ...answers]);
    });
    socket.on('data', (chunk) => parser.parse(chunk as Buffer));
    for (let i = 0; !socket.destroyed; i++) {
      const size = 1 + (i % 7);
      if (left.length > 0) socket.write(left.subarray(0, size));
      left = left.subarray(size);
      await new Promise((resolve) => setImmediate(resolve));
    }
  });
}

describe('The load generator', () => {
  withBroker();
  it('sends a number of messages flat out and knows each acknowledgement', async () => {
    const result = await load({ messages: 3_000, durationMs: 0 });
    assert.equal(result.ended, 'complete');
    assert.equal(result.sent, 3_000);
    assert.equal(result.acknowledged, 3_000);
    assert.equal(result.unacknowledged, 0);
    assert.equal(broker.received.length, 3_000);
    assert.equal(result.devices.length, 8);
    for (const { sent, acknowledged } of result.devices) assert.equal(acknowledged.ranges(), `0-${sent - 1}`);
    assertAcknowledgedWereReceived(result);
    const { p50, p99, p999, max } = result.latencyMs;
    assert.ok(p50 > 0 && p50 <= p99 && p99 <= p999 && p999 <= max);
    assert.ok(result.acknowledgedPerSecond > 500);
  });

  it('gives no two messages of a device the same time', async () => {
    await load({ messages: 1_000, durationMs: 0, devicesPerConnection: 1 });
    const times = broker.received.map(({ topic, payload }) => `${topic} ${JSON.parse(payload.toString()).ts}`);
    assert.equal(new Set(times).size, 1_000);
  });

  it('knows each acknowledgement however the bytes are cut, and between other packets', async () => {
    const server = await startChoppingServer();
    const result = await load({ url: server.url, messages: 300, durationMs: 0 });
    server.close();
    assert.equal(result.acknowledged, 300);
  });

  it('keeps a fixed rate', async () => {
    const result = await load({ rate: 500, durationMs: 1_000 });
    assert.equal(result.sent, 500);
    assert.ok(result.seconds > 0.9, `${result.seconds} s`);
    assert.equal(result.unacknowledged, 0);
  });

  it('leaves what comes before the end of the warm-up out of its figures, and in its record', async () => {
    let stalled = false;
    broker.answer = () => {
      if (!stalled) {
        stalled = true;
        const until = performance.now() + 300;
        while (performance.now() < until) {
          // Busy, as a broker is whose event loop is blocked.
        }
      }
      return true;
    };
    let before = 0;
    const result = await load({ rate: 500, durationMs: 600, warmupMs: 600 }, undefined, () => {
      before = broker.received.length;
    });
    assert.ok(before >= 250, `${before} messages before the figures began`);
    assert.equal(result.unacknowledged, 0);
    assert.ok(result.sent >= 590, `${result.sent} sent`);
    assert.ok(result.measured < result.acknowledged && result.measured >= result.acknowledged - before - 20);
    assert.ok(result.seconds < 1, `${result.seconds} s`);
    assert.ok(result.latencyMs.max < 300, `${result.latencyMs.max} ms`);
  });

  it('charges a stalled broker for the messages that had to wait', async () => {
    let stalled = false;
    broker.answer = () => {
      if (!stalled && broker.received.length === 100) {
        stalled = true;
        const until = performance.now() + 300;
        while (performance.now() < until) {
          // the process that answers stands still
        }
      }
      return true;
    };
    const result = await load({ rate: 1_000, durationMs: 1_000 });
    assert.ok(stalled);
    assert.ok(result.latencyMs.p99 > 150, `p99 ${result.latencyMs.p99} ms`);
  });

  it('never has more in flight than asked', async () => {
    broker.answer = () => false;
    const result = await load({ durationMs: 200, drainMs: 100 });
    assert.equal(result.ended, 'drain-timeout');
    assert.equal(result.sent, 4 * 5);
    assert.equal(result.acknowledged, 0);
    assert.equal(broker.received.length, 4 * 5);
  });

  it('ends with its ledger when the server dies', async () => {
    broker.answer = () => {
      if (broker.received.length === 500) setImmediate(() => broker.cut());
      return true;
    };
    const result = await load({ durationMs: 30_000 });
    assert.equal(result.ended, 'disconnected');
    assert.equal(result.broken, 4);
    assert.ok(result.acknowledged > 100 && result.acknowledged <= result.sent);
    assertAcknowledgedWereReceived(result);
  });

  it('comes back and sends again what was not acknowledged, when asked to', async () => {
    let answered = 0;
    broker.answer = () => {
      answered++;
      if (answered % 400 === 0) setImmediate(() => broker.cut());
      return answered % 50 !== 0;
    };
    const result = await load({ messages: 2_000, durationMs: 0, reconnect: true, drainMs: 300 });
    assert.ok(result.broken >= 4, `${result.broken} broken connections`);
    assert.ok(result.resent > 0);
    assert.equal(result.sent, 2_000);
    assertAcknowledgedWereReceived(result);
    const received = receivedByDevice();
    assert.equal(
      [...received.values()].reduce((sum, seqs) => sum + seqs.size, 0),
      2_000,
    );
  });

  it('stops when asked to', async () => {
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 200);
    const result = await load({ durationMs: 60_000 }, stop.signal);
    assert.equal(result.ended, 'stopped');
    assert.equal(result.unacknowledged, 0);
    assert.ok(result.sent > 0);
  });

  it('counts refused connections and ends', async () => {
    const { port } = broker;
    await broker.close();
    broker = await startBroker({ port, password: 'secret' });
    const refused = await load({ username: 'u', password: 'wrong' });
    assert.deepEqual([refused.ended, refused.broken, refused.sent], ['disconnected', 4, 0]);
    const admitted = await load({ username: 'u', password: 'secret', messages: 50, durationMs: 0 });
    assert.equal(admitted.acknowledged, 50);
  });

  it('pings for a connection that has sent nothing since the last time, and for no other', async () => {
    const seen: string[] = [];
    const { url, close } = await serve((socket) => {
      socket.on('error', () => {});
      const parser = mqttPacket.parser();
      parser.on('packet', ({ cmd, messageId }) => {
        seen.push(cmd);
        if (cmd === 'connect')
          socket.write(mqttPacket.generate({ cmd: 'connack', returnCode: 0, sessionPresent: false }));
        if (cmd === 'publish') socket.write(mqttPacket.generate({ cmd: 'puback', messageId }));
      });
      socket.on('data', (chunk) => parser.parse(chunk as Buffer));
    });
    const owner = { hasRoom: () => {}, acknowledged: () => {}, resent: () => {}, broke: () => {} };
    const connection = new LoadConnection(owner, { ...DEFAULT_LOAD, url, inFlight: 1, devicesPerConnection: 1 }, 0);
    connection.open();
    await until(() => connection.isOpen, 5_000, 'the CONNACK');
    connection.publishNext(0);
    connection.flush();
    connection.ping();
    connection.ping();
    connection.ping();
    await until(() => seen.length >= 4, 5_000, 'the packets');
    connection.close();
    await until(() => seen.at(-1) === 'disconnect', 5_000, 'the end');
    close();
    assert.deepEqual(seen, ['connect', 'publish', 'pingreq', 'pingreq', 'disconnect']);
  });
});
