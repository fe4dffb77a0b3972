/** One client's connection, from the accepted socket on: who it is, what it may, its gate and its publishes in hand. */
import type { Duplex } from 'node:stream';
import type { Client } from 'aedes';
import type { Access } from './access.ts';
import { Acks } from './acks.ts';
import type { ConnackCode, Identity } from './authenticate.ts';
import { Gate, type GateOwner } from './gate.ts';
import type { KeepAlive } from './keep-alive.ts';
import { PublishQueue } from './publish.ts';

/** How it came in. */
export interface Origin {
  readonly stream: Duplex;
  readonly address: string;
  /** Common name of a verified client certificate. */
  readonly certificateName: string | null;
}

export class Connection {
  readonly origin: Origin;
  readonly gate: Gate;
  client: Client | null = null;

  /** '' until a CONNECT arrived. */
  id = '';
  identity: Identity | null = null;
  access: Access | null = null;
  /** The CONNECT is to be answered with this code. */
  refusal: { readonly code: ConnackCode; readonly reason: string } | null = null;
  will: object | null = null;
  /** Name of the bucket that limits its rate. */
  rateName: string | null = null;
  /** Among the connected clients. */
  counted = false;
  /** Its publishes are taken. */
  ready = false;
  closed = false;
  connectTimer: NodeJS.Timeout | undefined;
  /** Null: not connected yet. */
  keepAlive: KeepAlive | null = null;

  // subscriptions (session.ts's PeerState)
  /** Allowed filters and their QoS. */
  readonly filters = new Map<string, number>();
  withheld = -1;
  maxQos = 0;
  /** See aedes-inside.ts. */
  deliversAtHighest = false;
  /** Copies it got in the present slice of time (forward.ts). */
  forwards = 0;
  forwardsSliceMs = Number.NaN;

  // publishes in hand (acknowledge.ts)
  readonly publishes = new PublishQueue();
  readonly acks: Acks;
  completing = false;
  /** One of them could not be made durable. */
  failed = false;
  /** The last topic that was checked and allowed. */
  allowedTopic: string | null = null;
  /** When the last notice of a refusal went, and how many did not since (notice.ts). */
  noticeMs = Number.NEGATIVE_INFINITY;
  untold = 0;

  constructor(origin: Origin, owner: GateOwner) {
    this.origin = origin;
    this.acks = new Acks(origin.stream);
    this.gate = new Gate(origin.stream, owner);
  }

  get user(): string | null {
    return this.identity?.user ?? null;
  }
}

const CONNECTION = Symbol('connection');
type Linked = { [CONNECTION]?: Connection };

export function linkConnection(client: Client, connection: Connection): void {
  (client as Linked)[CONNECTION] = connection;
  connection.client = client;
}

/** The connection of a client of the broker; undefined for the `{ id }` that stands for an absent one. */
export function connectionOf(client: object): Connection | undefined {
  return (client as Linked)[CONNECTION];
}
