/**
 * Record batches of Kafka, format 2, back into records; kafka-batch.ts says what stands where, kafka-record.ts what is in a
 * record. The heads are read when the batches come, the records when their turn has come, a few thousand at a time: what
 * is read long before it is wanted costs the garbage collector more than all the reading.
 *
 * Throws an Error on what is no record batch, never a TypeError or RangeError; and one named `KafkaBatchUnreadable` when the
 * turn has come of records that are compressed with another method than gzip, which no gateway writes.
 */
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import type { RecordKind, StoredRecord } from '../log.ts';
import { type BatchHead, RecordBytes, RecordReader } from './kafka-record.ts';

export interface BatchOnWire extends BatchHead {
  /** Behind its last record, there or compacted away. */
  readonly nextOffset: number;
  /** Holds a transaction's marker instead of records. */
  readonly isControl: boolean;
  /** What the marker says; null where there is none. */
  readonly marker: Buffer | null;
  readonly inTransaction: boolean;
  readonly producerId: string;
  /** As in the attributes. */
  readonly compression: number;
  /** The records, packed or not. */
  readonly body: Buffer;
}

export interface Piece {
  readonly records: readonly StoredRecord[];
  /** Where the next piece begins. */
  readonly nextOffset: number;
}

const HEAD_BYTES = 61;
const LENGTH_END = 12;
const MAGIC_AT = 16;
const MAGIC = 2;
const COMPRESSION = 0x07;
const COMPRESSIONS = ['none', 'gzip', 'snappy', 'lz4', 'zstd'];
const [NONE, GZIP] = [0, 1];
const [BROKER_STAMPS, IN_TRANSACTION, CONTROL] = [0x08, 0x10, 0x20];
/** Records of a piece, unless one batch has more. */
const PIECE_RECORDS = 2_000;
/** More than this is not believed of the size that gzip writes at the end, which is there to allocate at once. */
const MAX_FIRST_CHUNK_BYTES = 16 * 2 ** 20;
const MIN_CHUNK_BYTES = 64;

const unpack = promisify<Buffer, { chunkSize: number }, Buffer>(gunzip);

/** The heads of the batches that are there in full; the last one may be cut off. */
export function batchesIn(bytes: Buffer): BatchOnWire[] {
  const batches: BatchOnWire[] = [];
  for (let at = 0; at + HEAD_BYTES <= bytes.length; ) {
    if (bytes[at + MAGIC_AT] !== MAGIC) throw new Error('records in the format of a Kafka before 0.11');
    const end = at + LENGTH_END + bytes.readInt32BE(at + 8);
    if (end > bytes.length) break;
    if (end < at + HEAD_BYTES) throw new Error('a record batch is shorter than its head');
    batches.push(batchIn(bytes.subarray(at, end)));
    at = end;
  }
  return batches;
}

function batchIn(bytes: Buffer): BatchOnWire {
  const attributes = bytes.readInt16BE(21);
  const baseOffset = Number(bytes.readBigInt64BE(0));
  const body = bytes.subarray(HEAD_BYTES);
  const isControl = (attributes & CONTROL) !== 0;
  return {
    nextOffset: baseOffset + bytes.readInt32BE(23) + 1,
    isControl,
    marker: isControl ? markerIn(body) : null,
    inTransaction: (attributes & IN_TRANSACTION) !== 0,
    producerId: bytes.readBigInt64BE(43).toString(),
    baseOffset,
    baseMs: Number(bytes.readBigInt64BE(27)),
    stampMs: attributes & BROKER_STAMPS ? Number(bytes.readBigInt64BE(35)) : null,
    records: bytes.readInt32BE(57),
    compression: attributes & COMPRESSION,
    body,
  };
}

/** The key of the one record, which is never compressed. */
function markerIn(body: Buffer): Buffer {
  const from = new RecordBytes(body);
  from.integer();
  from.at++;
  from.integer();
  from.integer();
  const length = from.pass();
  return body.subarray(from.at - length, from.at);
}

/**
 * The records of [from, to), in pieces that follow on one another; there may be pieces without any. `to` is behind all that
 * was fetched, with what is not among the batches: markers, and what was aborted.
 */
export async function* recordsOf(
  batches: readonly BatchOnWire[],
  { from, to }: { readonly from: number; readonly to: number },
  implied: RecordKind,
): AsyncGenerator<Piece> {
  const reader = new RecordReader(implied);
  for (let i = 0; i < batches.length; ) {
    const records: StoredRecord[] = [];
    while (i < batches.length && (records.length === 0 || records.length + batches[i]!.records <= PIECE_RECORDS)) {
      const batch = batches[i++]!;
      reader.read(await unpacked(batch), batch, from, records);
    }
    yield { records, nextOffset: batches[i]?.baseOffset ?? to };
  }
}

async function unpacked({ compression, body, baseOffset }: BatchOnWire): Promise<Buffer> {
  if (compression === NONE) return body;
  if (compression === GZIP) return unpack(body, { chunkSize: chunkSize(body) });
  const name = COMPRESSIONS[compression] ?? `method ${compression}`;
  throw Object.assign(new Error(`${name} at offset ${baseOffset}`), { name: 'KafkaBatchUnreadable' });
}

/** One byte more than what comes out: a chunk that is full is followed by another. */
function chunkSize(packed: Buffer): number {
  const size = packed.length < 4 ? 0 : packed.readUInt32LE(packed.length - 4);
  return Math.min(Math.max(size + 1, MIN_CHUNK_BYTES), MAX_FIRST_CHUNK_BYTES);
}
