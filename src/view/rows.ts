/**
 * Rows as text, one JSON object a line with the fields always in the same order, streamed with the reader's speed.
 * An answer that could not be finished ends with a cut connection, never with a clean end.
 */
import { Readable } from 'node:stream';
import { type Row, STATISTICS } from '../row.ts';

const LINES_PER_CHUNK = 100;

/** Doubles are written in their shortest exact form: reading them back gives the same bits. */
export function encodeRow(row: Row): string {
  let text = `{"stream":${JSON.stringify(row.stream)},"metric":${JSON.stringify(row.metric)},"window":${JSON.stringify(row.window)},"startMs":${row.startMs},"endMs":${row.endMs},"tags":${JSON.stringify(row.tags)},"count":${row.count}`;
  for (const statistic of STATISTICS) text += `,"${statistic}":${JSON.stringify(row[statistic])}`;
  return `${text},"duplicates":${row.duplicates},"missing":${row.missing},"rev":${row.rev}}`;
}

/**
 * Waits for the first row, so that a store that cannot answer is a throw here and not half an answer. The source is told
 * when the reader has gone; `ended` is called exactly once, whatever happens.
 */
export async function streamRows<T>(
  rows: AsyncIterable<T>,
  encode: (row: T) => string,
  ended: () => void,
): Promise<Readable> {
  const iterator = rows[Symbol.asyncIterator]();
  let first: IteratorResult<T>;
  try {
    first = await iterator.next();
  } catch (thrown) {
    ended();
    throw thrown;
  }
  const stream = Readable.from(chunks(iterator, first, encode), { highWaterMark: 2 });
  stream.once('close', () => {
    ended();
    iterator.return?.().catch(() => {});
  });
  return stream;
}

async function* chunks<T>(
  iterator: AsyncIterator<T>,
  first: IteratorResult<T>,
  encode: (row: T) => string,
): AsyncGenerator<string> {
  let chunk = '';
  let lines = 0;
  for (let result = first; !result.done; result = await iterator.next()) {
    chunk += `${encode(result.value)}\n`;
    if (++lines < LINES_PER_CHUNK) continue;
    yield chunk;
    chunk = '';
    lines = 0;
  }
  if (chunk !== '') yield chunk;
}
