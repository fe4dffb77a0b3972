/**
 * The gate between a connection's socket and the broker's decoder: backpressure, and the place where `wire.ts` sees the
 * bytes and takes the publishes out of them. It takes the place of `read` on the one stream that it is given (the broker
 * reads with `read()` on 'readable' and nothing else); what may not pass yet is put back into the stream by `unshift`, so
 * the stream's own buffer fills, the socket stops being read, and the sender is slowed by TCP. The broker's `client.pause()` is not used: it deadlocks.
 *
 * aedes reads on when as many packets are done as it had read, less one for each 'readable': with acknowledgements held
 * that is sometimes too much, sometimes nothing at all, pings included. So the gate alone bounds what is read, and says
 * 'readable' again until the broker takes what may pass.
 *
 * A closed gate opens by itself when its reason has gone. While it is closed, the other packets behind the publish that
 * waits wait too, pings included: a client whose publishes wait longer than its keep-alive is disconnected and comes again.
 */
import type { Duplex } from 'node:stream';
import type { Clock } from '../clock.ts';
import type { MqttLimits } from '../config.ts';
import { type PendingBytes, TokenBucket } from './pending.ts';
import { type Budget, Framing, PUBLISH, type PublishTaker, type Violation } from './wire.ts';

/** More packets than this are never in a client's hand at once: packet identifiers end there. */
const MAX_INSIST = 65_536;

/** Why a gate is closed. `connect`: waiting for the broker's CONNACK. `shut`: for good, the connection is about to end. */
export type Hold = 'connect' | Limit | 'shut';
type Limit = 'pending_per_client' | 'pending' | 'rate_per_client' | 'subscribe_rate' | 'unsent';

export interface GateOwner extends PublishTaker {
  readonly limits: MqttLimits;
  readonly pendingBytes: PendingBytes;
  readonly clock: Clock;
  /** The connection must end: wire.ts says why. */
  violated(violation: Violation): void;
  /** The whole CONNECT packet has arrived. */
  connectArrived(): void;
  /** Publishes have been taken. */
  published(): void;
  /** The gate closed because a limit was reached. */
  limitReached(limit: string): void;
}

export class Gate {
  /** Publishes that passed and are not completed. */
  pending = 0;
  /** The user's rate, known from the CONNECT on; null = unlimited. */
  bucket: TokenBucket | null = null;

  readonly #stream: Duplex;
  readonly #owner: GateOwner;
  readonly #framing: Framing;
  readonly #read: (size?: number) => Buffer | null;
  readonly #budget: Budget = { publishes: 0, bytes: 0, subscribes: 0 };
  readonly #subscribes: TokenBucket;
  readonly #wake = () => this.#release();
  #open = false;
  #hold: Hold | null = null;
  #waking = false;
  #rateBound = false;
  #insisting = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(stream: Duplex, owner: GateOwner) {
    this.#stream = stream;
    this.#owner = owner;
    this.#framing = new Framing(owner.limits.packetBytes, owner);
    this.#subscribes = new TokenBucket(owner.limits.subscribeRate, owner.clock);
    this.#read = stream.read.bind(stream);
    stream.read = (size?: number) => this.#pass(size);
  }

  /** To be called when the broker listens to the stream, so that it is asked first. */
  watch(): void {
    this.#stream.on('readable', () => this.#insist());
  }

  get hold(): Hold | null {
    return this.#hold;
  }

  /** The CONNECT was accepted: packets may pass. */
  open(): void {
    this.#open = true;
    if (this.#hold === 'connect') this.#release();
  }

  /** Nothing passes any more. */
  shut(): void {
    this.#leaveHold();
    this.#hold = 'shut';
  }

  /** Nothing passes any more, and what comes is thrown away, so that the connection can be closed in order. */
  discard(): void {
    this.shut();
    this.#stream.removeAllListeners('readable');
    this.#stream.read = this.#read;
    this.#stream.resume();
  }

  /** A publish that had passed is completed. */
  completed(): void {
    this.pending--;
    if (this.#hold === 'pending_per_client' && this.#hasRoom()) this.#release();
  }

  #hasRoom(): boolean {
    return this.pending <= this.#owner.limits.pendingPerClient >> 1;
  }

  /** The taker may have shut it. */
  #isShut(): boolean {
    return this.#hold === 'shut';
  }

  #pass(size: number | undefined): Buffer | null {
    if (size === 0) return this.#read(0);
    if (this.#hold !== null) return null;
    if (this.#stream.writableLength > this.#owner.limits.unsentBytes) {
      this.#close('unsent');
      return null;
    }
    const chunk = this.#read();
    if (chunk === null) return null;
    const framing = this.#framing;
    const allowed = this.#fillBudget();
    const { subscribes } = this.#budget;
    const connectSeen = framing.connectSeen;
    const end = framing.admit(chunk, this.#budget, this.#open);
    if (end < 0) {
      this.#hold = 'shut';
      this.#owner.violated(framing.violation!);
      return null;
    }
    const taken = allowed - this.#budget.publishes;
    if (taken > 0) {
      this.bucket?.take(taken);
      this.#owner.published();
    }
    if (this.#budget.subscribes !== subscribes) this.#subscribes.take(subscribes - this.#budget.subscribes);
    if (framing.connectSeen !== connectSeen) this.#owner.connectArrived();
    if (end < chunk.length && !this.#isShut()) {
      this.#stream.unshift(chunk.subarray(end));
      this.#close(this.#reason(chunk[end]!));
    }
    return framing.rest.length === 0 ? null : framing.rest;
  }

  /** Each event takes one off the broker's count of packets in hand, which each packet raised by one. */
  #insist(): void {
    if (!this.#open || this.#insisting) return;
    this.#insisting = true;
    for (let i = 0; i < MAX_INSIST && this.#hold === null && this.#stream.readableLength > 0; i++) {
      this.#stream.emit('readable');
    }
    this.#insisting = false;
  }

  #fillBudget(): number {
    const { limits, pendingBytes } = this.#owner;
    let allowed = limits.pendingPerClient - this.pending - (this.#framing.insidePublish ? 1 : 0);
    if (this.bucket !== null) {
      const available = this.bucket.available;
      this.#rateBound = available < allowed;
      if (this.#rateBound) allowed = available;
    }
    this.#budget.publishes = allowed;
    this.#budget.bytes = pendingBytes.room;
    this.#budget.subscribes = this.#subscribes.available;
    return allowed;
  }

  /** Why the walk stopped before the packet that begins with this byte. */
  #reason(next: number): Hold {
    if (!this.#open) return 'connect';
    if (next >> 4 !== PUBLISH) return 'subscribe_rate';
    if (this.#budget.publishes > 0) return 'pending';
    return this.#rateBound ? 'rate_per_client' : 'pending_per_client';
  }

  #close(hold: Hold): void {
    this.#hold = hold;
    if (hold === 'connect') return;
    this.#owner.limitReached(hold);
    if (hold === 'pending_per_client') {
      // settled within the walk
      if (this.#hasRoom()) this.#release();
    } else if (hold === 'pending') {
      if (this.#owner.pendingBytes.room > 0) this.#release();
      else this.#owner.pendingBytes.wait(this.#wake);
    } else if (hold === 'rate_per_client') {
      this.#timer = setTimeout(this.#wake, this.bucket!.waitMs);
    } else if (hold === 'subscribe_rate') {
      this.#timer = setTimeout(this.#wake, this.#subscribes.waitMs);
    } else if (hold === 'unsent') {
      this.#stream.once('drain', this.#wake);
      this.#timer = setTimeout(() => {
        this.#stream.destroy(new Error('drain timeout'));
      }, this.#owner.limits.drainTimeoutMs);
    }
  }

  /**
   * Opens the gate, in a turn of its own: this may be called from within the decoder, which must not be entered twice.
   */
  #release(): void {
    if (this.#waking || this.#hold === null || this.#hold === 'shut') return;
    this.#waking = true;
    setImmediate(() => {
      this.#waking = false;
      if (this.#hold === null || this.#hold === 'shut') return;
      this.#leaveHold();
      this.#hold = null;
      if (!this.#stream.destroyed) this.#stream.emit('readable');
    });
  }

  #leaveHold(): void {
    if (this.#hold === 'pending') this.#owner.pendingBytes.forget(this.#wake);
    if (this.#hold === 'unsent') this.#stream.removeListener('drain', this.#wake);
    clearTimeout(this.#timer);
  }
}
