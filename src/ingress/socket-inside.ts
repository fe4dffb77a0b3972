/**
 * Where we reach into Node's sockets beyond what they publish of themselves.
 *
 * A socket that is read gets 64 KiB of its own for each read, which V8 then shrinks to what came, counts and frees: for a
 * device that sends one reading at a time that costs as much as looking into the reading. `onread`, which reads into a
 * buffer that is used again, is there for sockets that one opens, but not for those that a server accepts.
 */
import { Socket, type SocketConstructorOpts } from 'node:net';
import { Readable } from 'node:stream';

/** Read from here at once or not at all: the next read of any socket writes over it. */
const SHARED = Buffer.allocUnsafeSlow(64 * 1024);

type Pushing = { push(chunk: Buffer): boolean };

function onRead(this: Pushing, bytes: number, buffer: Uint8Array): boolean {
  return this.push((buffer as Buffer).subarray(0, bytes));
}

/** The properties in which a socket with `onread` keeps it; null: this Node has others, and sockets read as ever. */
const KEPT = findKept();

function findKept(): { readonly buffer: symbol; readonly callback: symbol } | null {
  const options = { onread: { buffer: SHARED, callback: onRead } };
  const probe = new Socket(options as SocketConstructorOpts);
  const held = probe as unknown as Record<symbol, unknown>;
  const symbols = Object.getOwnPropertySymbols(probe);
  const buffer = symbols.find((symbol) => held[symbol] === SHARED);
  const callback = symbols.find((symbol) => held[symbol] === onRead);
  probe.destroy();
  return buffer === undefined || callback === undefined ? null : { buffer, callback };
}

/**
 * What this accepted socket pushes into its stream from now on is lent: it is another read's as soon as `push` returns.
 * Only for who has taken the place of `push` (gate.ts). False: it stays as it was, because Node is not as we know it.
 */
export function lendReads(socket: Socket): boolean {
  const { _handle: handle } = socket as unknown as { _handle: { useUserBuffer?: (buffer: Uint8Array) => void } | null };
  if (KEPT === null || typeof handle?.useUserBuffer !== 'function') return false;
  Object.assign(socket, { [KEPT.buffer]: SHARED, [KEPT.callback]: onRead });
  handle.useUserBuffer(SHARED);
  // the socket's own would begin to read again whenever somebody asks for what is buffered
  socket.read = Readable.prototype.read;
  return true;
}
