/**
 * What went wrong between us and InfluxDB, in the words of `errors.ts`; and, for an answer that is about single lines,
 * which ones. Total: everything that can be thrown has an answer here. Pure.
 */
import { HttpError, RequestTimedOutError } from '@influxdata/influxdb-client';
import { fail, messageOf } from '../errors.ts';
import { StatementFailed } from './influxql.ts';

type Failed = ReturnType<typeof fail>;

/** The whole request failed, or one statement of it. `where` names the server and the bucket. */
export function classify(thrown: unknown, where: string): Failed {
  if (thrown instanceof StatementFailed) return classifyStatement(thrown, where);
  if (thrown instanceof RequestTimedOutError) {
    return fail('STORE_UNREACHABLE', `${where} did not answer in time; what was sent may still be applied`, {
      retryable: true,
      cause: thrown,
    });
  }
  if (!(thrown instanceof HttpError)) {
    return fail('STORE_UNREACHABLE', `${where} cannot be reached: ${messageOf(thrown)}`, {
      retryable: true,
      cause: thrown,
    });
  }
  const status = thrown.statusCode;
  const said = `${where} answered ${status}: ${firstLine(thrown.message)}`;
  if (status === 401 || status === 403) {
    return fail('STORE_AUTHENTICATION', `${said}. Check influx.token and what it may do`, { cause: thrown });
  }
  if (status === 404) return fail('STORE_NOT_FOUND', `${said}. Check influx.url, org and bucket`, { cause: thrown });
  if (status === 429 || status === 503) {
    const retryAfterMs = retryAfter(thrown);
    return fail('STORE_BUSY', said, {
      retryable: true,
      cause: thrown,
      ...(retryAfterMs ? { retryAfterMs } : undefined),
    });
  }
  return fail('STORE_OTHER', said, { retryable: status >= 500 || status === 408 || status === 425, cause: thrown });
}

/** Statements fail with status 200 and a sentence. */
function classifyStatement(failed: StatementFailed, where: string): Failed {
  const said = `${where}: ${firstLine(failed.message)}`;
  if (/insufficient permissions|unauthorized|forbidden/i.test(failed.message)) {
    return fail('STORE_AUTHENTICATION', `${said}. Check what influx.token may do`, { cause: failed });
  }
  // Also the answer to a token that may not read the bucket.
  if (/database not found|retention policy not/i.test(failed.message)) {
    return fail('STORE_NOT_FOUND', `${said}. The bucket is missing, or influx.token may not read it`, {
      cause: failed,
    });
  }
  return fail('STORE_OTHER', said, { retryable: true, cause: failed });
}

/** Milliseconds from a Retry-After header in seconds or as a date relative to the answer's own Date; 0 = none. */
function retryAfter(error: HttpError): number {
  const header = error.headers?.['retry-after'];
  if (typeof header !== 'string') return 0;
  if (/^\d+$/.test(header)) return Math.min(Number(header) * 1_000, MAX_RETRY_AFTER_MS);
  const waitMs = Date.parse(header) - Date.parse(String(error.headers?.date));
  return Number.isFinite(waitMs) && waitMs > 0 ? Math.min(waitMs, MAX_RETRY_AFTER_MS) : 0;
}

/** A server that asks for more is asked again after this. */
const MAX_RETRY_AFTER_MS = 300_000;

/**
 * An answer about lines, not about the request:
 *   none-stored    400: nothing was stored; `named` are the lines that InfluxDB quotes as malformed (may miss some)
 *   others-stored  422: all lines but `dropped` of them were stored; which ones is not said
 *   too-large      413: nothing was stored, smaller requests may be
 * A 400 or 422 in other words is not from InfluxDB's line parser (a proxy, a wrong address): null, no row is to blame.
 */
export type LineAnswer =
  | { readonly kind: 'none-stored'; readonly named: ReadonlyMap<number, string>; readonly said: string }
  | { readonly kind: 'others-stored'; readonly dropped: number; readonly said: string }
  | { readonly kind: 'too-large'; readonly said: string };

export function aboutLines(thrown: unknown, lines: readonly string[]): LineAnswer | null {
  if (!(thrown instanceof HttpError)) return null;
  const said = firstLine(thrown.message);
  if (thrown.statusCode === 413) return { kind: 'too-large', said };
  if (thrown.statusCode === 422) {
    const dropped = /\bdropped=(\d+)/.exec(thrown.message)?.[1];
    return thrown.message.includes('partial write')
      ? { kind: 'others-stored', dropped: Number(dropped ?? 1), said }
      : null;
  }
  if (thrown.statusCode !== 400 || !thrown.message.includes(UNABLE_TO_PARSE)) return null;
  const named = new Map<number, string>();
  lines.forEach((line, index) => {
    const quoted = `${UNABLE_TO_PARSE}'${line}': `;
    const at = thrown.message.indexOf(quoted);
    if (at >= 0) named.set(index, firstLine(thrown.message.slice(at + quoted.length)));
  });
  return { kind: 'none-stored', named, said };
}

const UNABLE_TO_PARSE = 'unable to parse ';
const MAX_SAID_CHARACTERS = 300;

function firstLine(text: string): string {
  const line = text.split('\n', 1)[0] ?? '';
  return line.length > MAX_SAID_CHARACTERS ? `${line.slice(0, MAX_SAID_CHARACTERS)}…` : line;
}
