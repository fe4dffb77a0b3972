/**
 * CSV as RFC 4180 has it: commas, optional double quotes, CRLF or LF, a header line. A byte order mark at the start is
 * skipped (spreadsheets write one), and so are empty lines; spaces belong to their field. Every failure names the line.
 */
import { fail, type Outcome, succeed } from '../errors.ts';
import { show } from './refusal.ts';

export interface Table {
  /** Named in failures. */
  readonly file: string;
  readonly columns: readonly string[];
  readonly rows: readonly TableRow[];
}

export interface TableRow {
  /** Where the row starts, counted from 1. */
  readonly line: number;
  readonly cells: readonly string[];
}

/** A field up to its comma or line end: quoted, or free of quotes. */
const FIELD = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|$)/y;

export function parseCsv(text: string, file: string): Outcome<Table> {
  const rows = splitRows(text);
  if ('brokenLine' in rows) {
    const hint = 'a quote must be closed, stand around the whole field, and be doubled inside it';
    return fail('CONFIG_INVALID', `${file}, line ${rows.brokenLine}: ${hint}.`);
  }
  const [header, ...body] = rows;
  if (!header) return fail('CONFIG_INVALID', `${file} is empty; its first line must name the columns.`);
  const columns = header.cells;
  const repeated = columns.find((name, i) => columns.indexOf(name) !== i);
  if (repeated !== undefined) {
    return fail('CONFIG_INVALID', `${file}, line ${header.line}: the column ${show(repeated)} appears twice.`);
  }
  if (columns.includes('')) return fail('CONFIG_INVALID', `${file}, line ${header.line}: a column has no name.`);
  const uneven = body.find((row) => row.cells.length !== columns.length);
  if (uneven) {
    const counts = `${uneven.cells.length} fields, but the header has ${columns.length}`;
    return fail('CONFIG_INVALID', `${file}, line ${uneven.line}: ${counts}.`);
  }
  return succeed({ file, columns, rows: body });
}

function splitRows(text: string): TableRow[] | { brokenLine: number } {
  const rows: TableRow[] = [];
  let position = text.charCodeAt(0) === 0xfeff ? 1 : 0;
  let line = 1;
  let start = line;
  let cells: string[] = [];
  while (position < text.length || cells.length > 0) {
    FIELD.lastIndex = position;
    const match = FIELD.exec(text);
    if (!match) return { brokenLine: line };
    const [whole, quoted, plain = '', end] = match;
    cells.push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    line += countLines(whole);
    position += whole.length;
    if (end === ',') continue;
    if (cells.length > 1 || cells[0] !== '' || quoted !== undefined) rows.push({ line: start, cells });
    cells = [];
    start = line;
  }
  return rows;
}

function countLines(text: string): number {
  let lines = 0;
  for (let at = text.indexOf('\n'); at !== -1; at = text.indexOf('\n', at + 1)) lines++;
  return lines;
}
