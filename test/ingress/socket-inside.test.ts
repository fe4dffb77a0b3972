import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { lendReads } from '../../src/ingress/socket-inside.ts';
import { eventually } from '../support/mqtt-raw.ts';

/** An accepted socket whose reads are lent, with what it pushed, and its other end. */
async function pair() {
  const server = createServer({ noDelay: true });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const near = connect((server.address() as AddressInfo).port, '127.0.0.1');
  const [socket] = (await once(server, 'connection')) as [Socket];
  socket.on('error', () => {});
  near.on('error', () => {});
  const seen = { bytes: '', buffers: new Set<ArrayBufferLike>(), ended: false, wanted: true };
  const lends = lendReads(socket);
  socket.push = (chunk: Buffer | null) => {
    if (chunk === null) {
      seen.ended = true;
      return false;
    }
    seen.bytes += chunk.toString();
    seen.buffers.add(chunk.buffer);
    return seen.wanted;
  };
  const close = () => {
    near.destroy();
    socket.destroy();
    server.close();
  };
  return { socket, near, seen, lends, close };
}

describe('a socket whose reads are lent', () => {
  it('reads into one buffer with all others, on this Node', async () => {
    const [one, other] = [await pair(), await pair()];
    for (const { near, seen } of [one, other, one]) {
      const before = seen.bytes.length;
      near.write('reading ');
      await eventually(() => seen.bytes.length === before + 8, 'the bytes');
    }
    assert(one.lends && other.lends);
    assert.equal(one.seen.bytes, 'reading reading ');
    assert.equal(new Set([...one.seen.buffers, ...other.seen.buffers]).size, 1);
    one.close();
    other.close();
  });

  it('is not read while it is told to wait, though somebody asks for what is buffered, and goes on when asked', async () => {
    const { socket, near, seen, close } = await pair();
    seen.wanted = false;
    near.write('first');
    await eventually(() => seen.bytes === 'first', 'the first');
    seen.wanted = true;
    socket.read(0);
    socket.read();
    const more = 8 * 2 ** 20;
    near.write(Buffer.alloc(more, '.'));
    const other = await pair();
    other.near.write('later');
    await eventually(() => other.seen.bytes === 'later', 'what was sent after it, to another socket');
    other.close();
    assert.equal(seen.bytes, 'first');
    socket._read(0);
    await eventually(() => seen.bytes.length === 5 + more, 'the rest');
    close();
  });

  it('announces the end of the other side', async () => {
    const { near, seen, close } = await pair();
    near.end('last');
    await eventually(() => seen.ended, 'the end');
    assert.equal(seen.bytes, 'last');
    close();
  });
});
