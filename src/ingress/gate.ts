/**
 * The gate between a connection's socket and the broker's decoder: backpressure, and the place where `wire.ts` sees the
 * bytes and takes the publishes out of them. It stands where the socket hands its bytes to its stream: in place of the
 * stream's `push` and `_read`. Publishes never enter the stream; all else does, and the broker reads it from there. Bytes
 * that may not pass yet wait here, and the socket is not read until they have passed, so that the sender is slowed by TCP.
 * The end of the stream waits behind them. The broker's `client.pause()` is not used: it deadlocks.
 *
 * What waits here is bounded by what a socket hands over after it was told to stop: one chunk of 64 KiB, for TLS and
 * WebSocket the messages within one.
 *
 * A closed gate opens by itself when its reason has gone. While it is closed, the other packets behind the publish that
 * waits wait too, pings included: a client whose publishes wait longer than its keep-alive is disconnected and comes again.
 */
import type { Duplex } from 'node:stream';
import type { Clock } from '../clock.ts';
import type { MqttLimits } from '../config.ts';
import { type PendingBytes, TokenBucket } from './pending.ts';
import { type Budget, Framing, PUBLISH, type PublishTaker, type Violation } from './wire.ts';

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

/** The stream's own, behind the gate: it takes what has passed, and asks the socket for more. */
interface Source {
  push(chunk: Buffer | null): boolean;
  _read(size: number): void;
}

const GATE = Symbol('gate');
type Gated = Duplex & { [GATE]: Gate };

function push(this: Gated, chunk: Buffer | null): boolean {
  return this[GATE].arrive(chunk);
}

function readMore(this: Gated): void {
  this[GATE].readMore();
}

/** What stays of bytes behind the call that brought them. */
function kept(bytes: Buffer, lent: boolean): Buffer {
  return lent ? Buffer.from(bytes) : bytes;
}

export class Gate {
  /** Publishes that passed and are not completed. */
  pending = 0;
  /** The user's rate, known from the CONNECT on; null = unlimited. */
  bucket: TokenBucket | null = null;

  readonly #stream: Duplex;
  readonly #inner: Source;
  readonly #owner: GateOwner;
  readonly #framing: Framing;
  readonly #budget: Budget = { publishes: 0, bytes: 0, subscribes: 0 };
  readonly #subscribes: TokenBucket;
  readonly #wake = () => this.#release();
  /** What may not pass yet, in order. */
  #waiting: Buffer[] = [];
  /** The stream ends behind what waits. */
  #ended = false;
  #discarding = false;
  #open = false;
  #hold: Hold | null = null;
  #waking = false;
  #rateBound = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(stream: Duplex, owner: GateOwner) {
    this.#stream = stream;
    this.#owner = owner;
    this.#framing = new Framing(owner.limits.packetBytes, owner);
    this.#subscribes = new TokenBucket(owner.limits.subscribeRate, owner.clock);
    this.#inner = Object.getPrototypeOf(stream) as Source;
    Object.assign(stream, { [GATE]: this, push, _read: readMore });
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
    this.#discarding = true;
    this.#waiting = [];
    this.#stream.removeAllListeners('readable');
    this.#stream.resume();
    this.#goOn();
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

  /** The socket's bytes, lent until this returns; null at their end. False: the socket is to be asked before it brings more. */
  arrive(chunk: Buffer | null): boolean {
    if (chunk === null) {
      this.#ended = true;
      return this.#waiting.length === 0 && this.#inner.push.call(this.#stream, null);
    }
    if (this.#discarding) return true;
    if (this.#hold !== null) {
      this.#waiting.push(kept(chunk, true));
      return false;
    }
    return this.#pass(chunk, true);
  }

  /** The stream wants more. */
  readMore(): void {
    if (this.#waiting.length === 0) this.#inner._read.call(this.#stream, 0);
  }

  /** False: the socket is not to be read on. */
  #pass(chunk: Buffer, lent: boolean): boolean {
    if (this.#stream.writableLength > this.#owner.limits.unsentBytes) {
      this.#waiting.unshift(kept(chunk, lent));
      this.#close('unsent');
      return false;
    }
    const framing = this.#framing;
    const allowed = this.#fillBudget();
    const { subscribes } = this.#budget;
    const connectSeen = framing.connectSeen;
    const end = framing.admit(chunk, this.#budget, this.#open);
    if (end < 0) {
      this.#hold = 'shut';
      this.#owner.violated(framing.violation!);
      return false;
    }
    const taken = allowed - this.#budget.publishes;
    if (taken > 0) {
      this.bucket?.take(taken);
      this.#owner.published();
    }
    if (this.#budget.subscribes !== subscribes) this.#subscribes.take(subscribes - this.#budget.subscribes);
    if (framing.connectSeen !== connectSeen) this.#owner.connectArrived();
    const { rest } = framing;
    const wanted = rest.length === 0 || this.#inner.push.call(this.#stream, kept(rest, lent));
    if (end === chunk.length || this.#isShut()) return wanted;
    this.#waiting.unshift(kept(chunk.subarray(end), lent));
    this.#close(this.#reason(chunk[end]!));
    return false;
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

  /** Opens the gate, in a turn of its own: this may be called from within the walk. */
  #release(): void {
    if (this.#waking || this.#hold === null || this.#hold === 'shut') return;
    this.#waking = true;
    setImmediate(() => {
      this.#waking = false;
      if (this.#hold === null || this.#hold === 'shut') return;
      this.#leaveHold();
      this.#hold = null;
      if (!this.#stream.destroyed) this.#passWaiting();
    });
  }

  #passWaiting(): void {
    let wanted = true;
    while (this.#waiting.length > 0) {
      wanted = this.#pass(this.#waiting.shift()!, false);
      if (this.#hold !== null) return;
    }
    if (this.#ended || wanted) this.#goOn();
  }

  /** Nothing waits any more. */
  #goOn(): void {
    if (this.#ended) {
      this.#inner.push.call(this.#stream, null);
      this.#stream.read(0);
    } else {
      this.readMore();
    }
  }

  #leaveHold(): void {
    if (this.#hold === 'pending') this.#owner.pendingBytes.forget(this.#wake);
    if (this.#hold === 'unsent') this.#stream.removeListener('drain', this.#wake);
    clearTimeout(this.#timer);
  }
}
