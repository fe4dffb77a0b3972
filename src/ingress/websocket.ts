/**
 * MQTT over WebSocket as a byte stream: binary messages in and out, packets not aligned with them [MQTT-6.0.0-2]. What is
 * written in one turn leaves as one message.
 */
import { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';

export class WebSocketStream extends Duplex {
  readonly #socket: WebSocket;

  constructor(socket: WebSocket) {
    super({ highWaterMark: 64 * 1024 });
    this.#socket = socket;
    socket.on('message', (data, isBinary) => {
      if (!isBinary) {
        // [MQTT-6.0.0-1]
        socket.close(1003);
        this.destroy(new Error('a WebSocket message that is not binary [MQTT-6.0.0-1]'));
      } else if (!this.push(data as Buffer)) {
        socket.pause();
      }
    });
    socket.on('close', () => {
      // a clean end first, so that what was received is still read
      this.push(null);
      if (!this.writableEnded) this.end();
    });
    socket.on('error', (error) => this.destroy(error));
  }

  override _read(): void {
    if (this.#socket.isPaused) this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#send(chunk, done);
  }

  override _writev(
    chunks: { readonly chunk: Buffer; readonly encoding: BufferEncoding }[],
    done: (error?: Error | null) => void,
  ): void {
    this.#send(Buffer.concat(chunks.map(({ chunk }) => chunk)), done);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#socket.close();
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#socket.terminate();
    done(error);
  }

  #send(bytes: Buffer, done: (error?: Error | null) => void): void {
    if (this.#socket.readyState === this.#socket.OPEN) this.#socket.send(bytes, { binary: true }, done);
    else done(new Error('the WebSocket is closed'));
  }
}
