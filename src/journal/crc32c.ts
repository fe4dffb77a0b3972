/**
 * CRC-32C (Castagnoli), the checksum of Kafka's record batches. Node has only the other CRC-32. Eight bytes at a time by
 * eight tables: every byte that goes to Kafka passes here, and one table takes three times as long.
 */

/** The polynomial 0x1edc6f41, its bits mirrored. */
const POLYNOMIAL = 0x82f63b78;
const [T0, T1, T2, T3, T4, T5, T6, T7] = makeTables();

/** Of bytes[from, to), as an unsigned 32-bit number. */
export function crc32c(bytes: Uint8Array, from: number, to: number): number {
  let crc = -1;
  let at = from;
  for (const end = to - 7; at < end; at += 8) {
    const low = crc ^ (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24));
    crc =
      T7[low & 255]! ^
      T6[(low >>> 8) & 255]! ^
      T5[(low >>> 16) & 255]! ^
      T4[low >>> 24]! ^
      T3[bytes[at + 4]!]! ^
      T2[bytes[at + 5]!]! ^
      T1[bytes[at + 6]!]! ^
      T0[bytes[at + 7]!]!;
  }
  for (; at < to; at++) crc = T0[(crc ^ bytes[at]!) & 255]! ^ (crc >>> 8);
  return ~crc >>> 0;
}

type Table = Int32Array;

/** Table k: what a byte does to the checksum k bytes later. */
function makeTables(): [Table, Table, Table, Table, Table, Table, Table, Table] {
  const tables = Array.from({ length: 8 }, () => new Int32Array(256));
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
    tables[0]![byte] = crc;
  }
  for (let k = 1; k < 8; k++) {
    for (let byte = 0; byte < 256; byte++) {
      const before = tables[k - 1]![byte]!;
      tables[k]![byte] = tables[0]![before & 255]! ^ (before >>> 8);
    }
  }
  return tables as [Table, Table, Table, Table, Table, Table, Table, Table];
}
