/**
 * What is used of kafkajs that it does not promise to keep: package.json pins the exact version. Producing and fetching go
 * past its encoders and decoders (kafka-produce.ts, kafka-fetch.ts), which take every message apart; the connections stay
 * kafkajs', with all that it knows of leaders, TLS, SASL, timeouts and versions.
 */
import { createRequire } from 'node:module';
import type { Kafka } from 'kafkajs';

export interface Cluster {
  connect(): Promise<void>;
  disconnect(): Promise<void>;
  addMultipleTargetTopics(topics: readonly string[]): Promise<void>;
  refreshMetadataIfNecessary(): Promise<void>;
  /** Partitions by the node id of their leader; without those that do not exist. */
  findLeaderForPartitions(topic: string, partitions: readonly number[]): Record<string, number[]>;
  findBroker(options: { nodeId: string }): Promise<Broker>;
}

export interface Broker {
  lookupRequest(apiKey: number, definition: unknown): (options: object) => ProtocolRequest;
  readonly connectionPool: { send(request: ProtocolRequest): Promise<unknown> };
  fetch(options: object): Promise<unknown>;
  disconnect(): Promise<void>;
}

export interface ProtocolRequest {
  readonly request: { readonly apiVersion: number };
  /** `parse` throws kafkajs' error when the answer decoded is one. */
  readonly response: { readonly parse: unknown };
}

type MakeCluster = (options: object) => Cluster;

const require = createRequire(import.meta.url);

/** How kafkajs makes requests of that kind, in each version. */
export function requestDefinition(name: 'produce' | 'fetch'): unknown {
  return require(`kafkajs/src/protocol/requests/${name}`);
}

export function makeCluster(client: Kafka, options: object): Cluster {
  return methodsOf(client)[makeClusterKey(client)]!(options);
}

/** Every cluster that the client makes from now on, for its consumers too, passes `change` first. */
export function changeClusters(client: Kafka, change: (cluster: Cluster) => void): void {
  const [methods, key] = [methodsOf(client), makeClusterKey(client)];
  const make = methods[key]!;
  methods[key] = (options) => {
    const cluster = make(options);
    change(cluster);
    return cluster;
  };
}

/** The requests of one connection. */
export interface RequestQueue {
  readonly pending: readonly unknown[];
  scheduleCheckPendingRequests(): void;
}

/** What kafkajs makes a queue of for each connection. */
function requestQueues(): { readonly prototype: RequestQueue } {
  return require('kafkajs/src/network/requestQueue');
}

const calm = new WeakSet<RequestQueue>();

/**
 * From its first answer on such a queue looks each millisecond whether a request may be sent, for as long as it lives: a
 * few hundredths of a core for each connection. Where no request waits it need not: it looks when one comes, and at each
 * answer.
 */
export function calmQueues({ prototype } = requestQueues()): void {
  if (calm.has(prototype)) return;
  calm.add(prototype);
  const schedule = prototype.scheduleCheckPendingRequests;
  prototype.scheduleCheckPendingRequests = function (this: RequestQueue) {
    if (this.pending.length > 0) schedule.call(this);
  };
}

function methodsOf(client: Kafka): Record<symbol, MakeCluster> {
  return client as unknown as Record<symbol, MakeCluster>;
}

function makeClusterKey(client: Kafka): symbol {
  const key = Object.getOwnPropertySymbols(client).find(
    ({ description }) => description === 'private:Kafka:createCluster',
  );
  if (!key) throw new Error('this kafkajs does not make a cluster the way 2.2.4 does');
  return key;
}
