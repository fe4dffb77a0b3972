/**
 * What a kafkajs consumer fetches, past kafkajs' decoder: that one makes a dozen objects of every message, of all partitions
 * at once, at a multiple of what the rest of a rollup costs. For a client that was given to `fetchWholeBatches`, one
 * "message" in `eachBatch` is a record batch as it came (kafka-batch-read.ts), so kafkajs does its own work once for each of
 * these: what is before the position, aborted or a transaction's marker is passed over, and the last one's offset is
 * that of its last record. The request is kafkajs', and so are errors in the answer (kafka-internals.ts).
 *
 * The answer, from version 4 on; fields in brackets from that version on:
 *   throttle time (4), [7: error (2), session (4)], topics (4), each: name (2 + bytes), partitions (4), each:
 *   number (4), error (2), end (8), stable end (8), [5: beginning (8)], aborted (4) each producer (8), first offset (8),
 *   [11: preferred replica (4)], length (4), record batches
 */
import type { Kafka } from 'kafkajs';
import { type BatchOnWire, batchesIn } from './kafka-batch-read.ts';
import { type Broker, changeClusters, requestDefinition } from './kafka-internals.ts';

/** What stands in `messages` of a kafkajs batch. */
export interface FetchedBatch {
  /** Of its last record; kafkajs keeps offsets as texts. */
  readonly offset: string;
  readonly isControlRecord: boolean;
  /** Of a transaction's marker: what it says. */
  readonly key: Buffer | null;
  readonly batchContext: { readonly producerId: string; readonly inTransaction: boolean };
  readonly batch: BatchOnWire;
}

const FETCH = 1;
/** The answers of these versions are the ones read here. */
const VERSIONS = { least: 4, most: 11 };

const fetchDefinition = requestDefinition('fetch');

/** Before the client makes its consumer. */
export function fetchWholeBatches(client: Kafka): void {
  changeClusters(client, (cluster) => {
    const find = cluster.findBroker.bind(cluster);
    cluster.findBroker = async (options) => {
      const broker = await find(options);
      broker.fetch = (request) => fetch(broker, request);
      return broker;
    };
  });
}

async function fetch(broker: Broker, options: object): Promise<unknown> {
  const protocol = broker.lookupRequest(FETCH, fetchDefinition)(options);
  const version = protocol.request.apiVersion;
  if (version < VERSIONS.least || version > VERSIONS.most) {
    throw new Error(`no answer to a fetch can be read in version ${version}`);
  }
  const { parse } = protocol.response;
  const decode = async (bytes: Buffer) => new Answer(bytes, version).decode();
  try {
    return await broker.connectionPool.send({ ...protocol, response: { decode, parse } } as typeof protocol);
  } catch (thrown) {
    if (thrown instanceof Error && thrown.name === 'KafkaJSConnectionClosedError') await broker.disconnect();
    throw thrown;
  }
}

class Answer {
  readonly #bytes: Buffer;
  readonly #version: number;
  #at = 0;

  constructor(bytes: Buffer, version: number) {
    this.#bytes = bytes;
    this.#version = version;
  }

  /** In the form in which kafkajs wants it. */
  decode(): object {
    // From version 8 on the client has to wait, which kafkajs does for us as long as it thinks that the broker did not.
    const throttleTime = this.#int32();
    const clientSideThrottleTime = this.#version >= 8 ? throttleTime : 0;
    const head = this.#version >= 7 ? { errorCode: this.#int16(), sessionId: this.#int32() } : undefined;
    const responses = this.#list(() => ({
      topicName: this.#text(),
      partitions: this.#list(() => this.#partition()),
    }));
    return { ...head, throttleTime: throttleTime - clientSideThrottleTime, clientSideThrottleTime, responses };
  }

  #partition(): object {
    const partition = this.#int32();
    const errorCode = this.#int16();
    const highWatermark = this.#int64();
    const lastStableOffset = this.#int64();
    if (this.#version >= 5) this.#int64();
    const abortedTransactions = this.#list(() => ({ producerId: this.#int64(), firstOffset: this.#int64() }));
    const preferredReadReplica = this.#version >= 11 ? this.#int32() : -1;
    const from = this.#at + 4;
    this.#at = from + Math.max(0, this.#int32());
    const messages = batchesIn(this.#bytes.subarray(from, this.#at)).map(asMessage);
    const offsets = { highWatermark, lastStableOffset };
    return { partition, errorCode, ...offsets, abortedTransactions, preferredReadReplica, messages };
  }

  #list<T>(item: () => T): T[] {
    const items: T[] = [];
    for (let left = this.#int32(); left > 0; left--) items.push(item());
    return items;
  }

  #int16(): number {
    this.#at += 2;
    return this.#bytes.readInt16BE(this.#at - 2);
  }

  #int32(): number {
    this.#at += 4;
    return this.#bytes.readInt32BE(this.#at - 4);
  }

  #int64(): string {
    this.#at += 8;
    return this.#bytes.readBigInt64BE(this.#at - 8).toString();
  }

  #text(): string {
    const length = this.#int16();
    this.#at += length;
    return this.#bytes.toString('utf8', this.#at - length, this.#at);
  }
}

function asMessage(batch: BatchOnWire): FetchedBatch {
  const { nextOffset, isControl: isControlRecord, marker: key, producerId, inTransaction } = batch;
  return { offset: `${nextOffset - 1}`, isControlRecord, key, batchContext: { producerId, inTransaction }, batch };
}
