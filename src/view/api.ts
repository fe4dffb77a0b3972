/**
 * The routes under `/api/v1`. All read, except requeue and commands. A bad parameter is a 400 that names the field, its value and what is
 * expected; a store or a log that cannot answer is a 503; each of the costly answers has a limit (429, 503).
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { type Failure, messageOf } from '../errors.ts';
import type { RowQuery } from '../row.ts';
import { parseWindow, type Stream } from '../stream.ts';
import { DEVICE_ORDERS } from './board.ts';
import type { DeadLetter, Feed, Requeued, RequeueWish } from './feed.ts';
import { mayChange } from './guard.ts';
import type { LiveHub, Watch } from './live.ts';
import type { Observer } from './overview.ts';
import { type BadParameter, MAX_TIME_MS, ParameterReader, readRowQuery } from './query.ts';
import { encodeRow, streamRows } from './rows.ts';
import { MAX_TOP_VALUES, topOf } from './top.ts';

export const MAX_ROW_STREAMS = 8;
const MAX_DEVICES_PER_PAGE = 500;
const MAX_RUNNING_ROWS = 10_000;
const MAX_COMMANDS = 1_000;
const MAX_DEAD_LETTERS = 500;
const MAX_TOP = 1_000;
/** Of receipt, in one audit; at once there is one. */
const MAX_AUDIT_RANGE_MS = 24 * 3_600_000;
const DEFAULT_AUDIT_RANGE_MS = 3_600_000;
/** In one call; the body has a limit too. */
const MAX_REQUEUED = 250;
/** Of a payload in a list; one by its id comes whole. */
const PREVIEW_BYTES = 2_048;

export interface ApiParts {
  readonly feed: Feed;
  readonly observer: Observer;
  readonly hub: LiveHub;
  readonly token: string | null;
}

export function addApi(app: FastifyInstance, { feed, observer, hub, token }: ApiParts): void {
  let rowStreams = 0;
  let auditing = false;

  app.get('/api/v1/status', async (request) => {
    const reader = new ParameterReader(request.query);
    check(reader.bad());
    return { ...observer.overview(), history: observer.history() };
  });

  app.get('/api/v1/streams', async (request) => {
    check(new ParameterReader(request.query).bad());
    const rates = observer.ratesBy('millrace_accepted_total');
    const late = observer.totalsBy('millrace_late_total');
    const duplicates = observer.totalsBy('millrace_duplicates_total');
    const counted = observer.totalsBy('millrace_counted_total');
    const streams = feed.board.streams().map((view) => ({
      ...describe(feed.streams[view.name]!),
      ...view,
      ratePerSecond: rates[view.name] ?? 0,
      counted: counted[view.name] ?? 0,
      late: late[view.name] ?? 0,
      duplicates: duplicates[view.name] ?? 0,
    }));
    return { streams, refusedWithoutStream: feed.board.strays() };
  });

  app.get('/api/v1/devices', async (request) => {
    const reader = new ParameterReader(request.query);
    const search = reader.text('search', 200);
    const stream = reader.stream(feed.streams, false);
    const key = reader.text('key');
    const order = reader.oneOf('order', DEVICE_ORDERS, 'name');
    const limit = reader.integer('limit', 100, 1, MAX_DEVICES_PER_PAGE);
    const offset = reader.integer('offset', 0, 0, 10_000_000);
    check(reader.bad());
    const query = {
      order,
      limit,
      offset,
      ...(search ? { search } : undefined),
      ...(stream ? { stream: stream.name } : undefined),
      ...(key ? { key } : undefined),
    };
    return { offset, limit, ...feed.board.list(query, observer.nowMs()) };
  });

  app.get('/api/v1/rows', (request, reply) => sendRows(request, reply, (query) => feed.rows(query), encodeRow));

  /** Like rows, for what a model said about them. */
  app.get('/api/v1/scores', (request, reply) =>
    sendRows(request, reply, (query) => feed.scores(query), JSON.stringify),
  );

  async function sendRows<T>(
    request: FastifyRequest,
    reply: FastifyReply,
    find: (query: RowQuery) => AsyncIterable<T>,
    encode: (found: T) => string,
  ): Promise<FastifyReply> {
    const read = readRowQuery(request.query, feed.streams);
    if ('bad' in read) throw new BadRequest(read.bad);
    if (rowStreams >= MAX_ROW_STREAMS) {
      reply.header('retry-after', '1');
      throw new Refused(
        429,
        'BUSY',
        `${MAX_ROW_STREAMS} answers with rows are being sent already; ask again when one has ended.`,
      );
    }
    rowStreams++;
    let ended = false;
    const body = await streamRows(find(read.query), encode, () => {
      if (!ended) rowStreams--;
      ended = true;
    }).catch((thrown) => {
      throw new Refused(503, 'STORE_UNAVAILABLE', `The store cannot answer: ${messageOf(thrown)}`);
    });
    return reply.type('application/x-ndjson').send(body);
  }

  app.get('/api/v1/forecasts', async (request, reply) => {
    const reader = new ParameterReader(request.query);
    const stream = reader.stream(feed.streams, true);
    const tags = reader.series();
    const metric = reader.metric(stream);
    const limit = reader.integer('limit', 1_000, 1, MAX_RUNNING_ROWS);
    check(reader.bad());
    const found = await feed.forecasts({ stream: stream!.name, limit, ...optional({ tags, metric }) });
    return reply.type('application/x-ndjson').send(found.map((forecast) => `${JSON.stringify(forecast)}\n`).join(''));
  });

  app.get('/api/v1/top', async (request) => {
    const reader = new ParameterReader(request.query);
    const stream = reader.stream(feed.streams, true);
    const window = reader.window(stream, true);
    const by = reader.tag('by', stream) ?? '';
    const tags = reader.series();
    const metric = reader.metric(stream) ?? stream?.metrics[0];
    const limit = reader.integer('limit', 10, 1, MAX_TOP);
    const given = reader.time('from', -1);
    const toMs = reader.time('to', MAX_TIME_MS);
    check(reader.bad());
    const query = { stream: stream!.name, window: window!, toMs, ...optional({ tags, metric }) };
    try {
      const newest = async () => {
        for await (const row of feed.rows({ ...query, fromMs: 0, limit: 1 })) return row.startMs;
        return 0;
      };
      const fromMs = given >= 0 ? given : await newest();
      const top = await topOf(feed.rows({ ...query, fromMs }), metric ?? '', by, limit);
      if (top) return { stream: query.stream, window, by, fromMs, ...top };
    } catch (thrown) {
      throw new Refused(503, 'STORE_UNAVAILABLE', `The store cannot answer: ${messageOf(thrown)}`);
    }
    throw new Refused(422, 'TOO_MANY', `${by} has more than ${MAX_TOP_VALUES} values in this range; ask for less.`);
  });

  app.get('/api/v1/running', async (request, reply) => {
    const reader = new ParameterReader(request.query);
    const stream = reader.stream(feed.streams, true);
    const window = reader.window(stream, false);
    const tags = reader.series();
    const metric = reader.metric(stream);
    const limit = reader.integer('limit', 1_000, 1, MAX_RUNNING_ROWS);
    check(reader.bad());
    const query = { stream: stream!.name, limit, ...optional({ window, tags, metric }) };
    const rows = await feed.running(query).catch((thrown) => {
      throw new Refused(503, 'ROLLUP_UNAVAILABLE', `The open windows cannot be read: ${messageOf(thrown)}`);
    });
    const lines = rows.slice(0, limit).map((row) => `${encodeRow(row)}\n`);
    return reply.type('application/x-ndjson').send(lines.join(''));
  });

  app.get('/api/v1/audit', async (request, reply) => {
    const reader = new ParameterReader(request.query);
    const toMs = reader.time('to', observer.nowMs());
    const fromMs = reader.time('from', toMs - DEFAULT_AUDIT_RANGE_MS);
    const device = reader.text('device');
    if (fromMs > toMs || toMs - fromMs > MAX_AUDIT_RANGE_MS) {
      reader.refuse('from', String(fromMs), 'a time not after to, and at most 24 hours before it');
    }
    check(reader.bad());
    if (auditing) {
      reply.header('retry-after', '10');
      throw new Refused(429, 'BUSY', 'An audit is under way already; ask again when it has ended.');
    }
    auditing = true;
    const audited = await feed.audit({ fromMs, toMs, ...optional({ device }) }).finally(() => {
      auditing = false;
    });
    return unwrap(audited);
  });

  app.get('/api/v1/alerts', async (request) => {
    check(new ParameterReader(request.query).bad());
    const shown = feed.alerts();
    return { configured: shown !== null, active: shown?.active ?? [], recent: shown?.recent ?? [] };
  });

  app.get('/api/v1/deadletters', async (request) => {
    const reader = new ParameterReader(request.query);
    const limit = reader.integer('limit', 50, 1, MAX_DEAD_LETTERS);
    const sinceMs = reader.time('since', 0);
    check(reader.bad());
    const letters = unwrap(await feed.deadLetters({ limit, sinceMs }));
    return { requeue: token !== null, deadLetters: letters.map((letter) => showLetter(letter, PREVIEW_BYTES)) };
  });

  app.get<{ Params: { id: string } }>('/api/v1/deadletters/:id', async (request) => {
    check(new ParameterReader(request.query).bad());
    const letter = unwrap(await feed.deadLetter(letterId(request.params.id)));
    if (!letter) throw new Refused(404, 'NOT_FOUND', `There is no dead letter ${request.params.id}.`);
    return showLetter(letter, Number.POSITIVE_INFINITY);
  });

  const mustBeAllowed = (request: FastifyRequest, reply: FastifyReply): void => {
    const permission = mayChange(token, request.headers.authorization);
    if (permission.allowed) return;
    if (permission.status === 401) reply.header('www-authenticate', 'Bearer realm="millrace"');
    throw new Refused(permission.status, permission.status === 403 ? 'READ_ONLY' : 'TOKEN', permission.reason);
  };

  app.post<{ Params: { id: string } }>('/api/v1/deadletters/:id/requeue', async (request, reply) => {
    mustBeAllowed(request, reply);
    const [requeued] = unwrap(await feed.requeue([{ id: letterId(request.params.id) }]));
    if (requeued?.kind !== 'missing') return showRequeued(requeued!);
    throw new Refused(404, 'NOT_FOUND', `There is no dead letter ${request.params.id}.`);
  });

  app.post('/api/v1/deadletters/requeue', async (request, reply) => {
    mustBeAllowed(request, reply);
    const wishes = requeueWishes(request.body);
    const requeued = unwrap(await feed.requeue(wishes));
    return { results: requeued.map((one, index) => ({ id: wishes[index]!.id, ...showRequeued(one) })) };
  });

  app.get('/api/v1/commands', async (request) => {
    const reader = new ParameterReader(request.query);
    const limit = reader.integer('limit', 50, 1, MAX_COMMANDS);
    const device = reader.text('device');
    check(reader.bad());
    const all = feed.commands();
    const found = all?.filter((command) => device === undefined || command.device === device) ?? [];
    return { configured: all !== null, commands: found.slice(0, limit) };
  });

  app.post('/api/v1/commands', async (request, reply) => {
    mustBeAllowed(request, reply);
    const { body } = request;
    if (typeof body !== 'object' || body === null || Array.isArray(body)) {
      const expected = '{"device":"d1","payload":{"fan":"on"}}';
      throw new BadRequest({ field: 'body', value: JSON.stringify(body ?? null).slice(0, 100), expected });
    }
    const taken = await feed.command(body as Record<string, unknown>);
    if (!taken.ok && taken.failure.code === 'USAGE') throw new Refused(422, 'COMMAND', taken.failure.message);
    reply.code(202);
    return unwrap(taken);
  });

  app.get('/api/v1/live', (request: FastifyRequest, reply: FastifyReply) => {
    const reader = new ParameterReader(request.query);
    const stream = reader.stream(feed.streams, false);
    const window = reader.window(stream, stream !== undefined);
    const tags = reader.series();
    const metric = reader.metric(stream);
    check(reader.bad());
    if (hub.full) {
      reply.header('retry-after', '5');
      throw new Refused(
        503,
        'BUSY',
        'As many live pages as allowed are open already; close one, or use /api/v1/status.',
      );
    }
    let watch: Watch | null = null;
    if (stream && window !== undefined) {
      const everyMs = parseWindow(window)?.everyMs ?? 10_000;
      watch = { stream: stream.name, window, everyMs, ...optional({ tags, metric }) };
    }
    const status = JSON.stringify(observer.overview());
    reply.hijack();
    hub.attach(reply.raw, watch, status);
  });
}

/** An answer other than 200, thrown in a handler and caught by the error handler below. */
export class Refused extends Error {
  readonly statusCode: number;
  readonly code: string;
  constructor(statusCode: number, code: string, message: string) {
    super(message);
    this.statusCode = statusCode;
    this.code = code;
  }
  body(): object {
    return { error: { code: this.code, message: this.message } };
  }
}

export class BadRequest extends Refused {
  readonly parameter: BadParameter;
  constructor(parameter: BadParameter) {
    super(400, 'BAD_PARAMETER', `${parameter.field} is "${parameter.value}", expected ${parameter.expected}`);
    this.parameter = parameter;
  }
  override body(): object {
    return { error: { code: this.code, message: this.message, ...this.parameter } };
  }
}

function check(bad: BadParameter | null): void {
  if (bad) throw new BadRequest(bad);
}

function unwrap<T>(outcome: { ok: true; value: T } | { ok: false; failure: Failure }): T {
  if (outcome.ok) return outcome.value;
  throw new Refused(503, outcome.failure.code, outcome.failure.message);
}

function letterId(id: string): string {
  if (/^[A-Za-z0-9._-]{1,100}$/.test(id)) return id;
  throw new BadRequest({ field: 'id', value: id.slice(0, 100), expected: 'the id of a dead letter, as in the list' });
}

function requeueWishes(body: unknown): RequeueWish[] {
  const { letters } = (body ?? {}) as { letters?: unknown };
  const fit = (letter: unknown) => {
    const { id, receivedMs } = (letter ?? {}) as Partial<Record<keyof RequeueWish, unknown>>;
    return typeof id === 'string' && (receivedMs === undefined || Number.isSafeInteger(receivedMs));
  };
  if (Array.isArray(letters) && letters.length <= MAX_REQUEUED && letters.every(fit)) {
    return letters.map(({ id, receivedMs }: RequeueWish) => ({ id: letterId(id), ...optional({ receivedMs }) }));
  }
  const expected = `{"letters":[{"id":"0-1234","receivedMs":1700000000000}, ...]}, at most ${MAX_REQUEUED}`;
  throw new BadRequest({ field: 'body', value: JSON.stringify(body ?? null).slice(0, 100), expected });
}

/** Also the form in which the command line answers. */
export function showRequeued(requeued: Requeued): object {
  const { kind: result } = requeued;
  if (requeued.kind === 'accepted') return { result, readings: requeued.readings };
  if (requeued.kind === 'already') return { result, requeuedMs: requeued.requeuedMs };
  if (requeued.kind === 'missing') return { result };
  const { code, reason, field } = requeued.refusal;
  return { result, code, reason, field };
}

function optional<T extends object>(fields: T): { [K in keyof T]?: NonNullable<T[K]> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: NonNullable<T[K]>;
  };
}

function describe(stream: Stream): object {
  return {
    topic: stream.topic.text,
    format: stream.format,
    time: stream.time,
    sequence: stream.sequence,
    key: stream.key,
    metrics: stream.metrics,
    distinct: stream.distinct ?? [],
    windows: stream.windows,
    hasSchema: stream.schema !== null,
    hasSequence: stream.sequence !== null,
  };
}

function showLetter({ id, receivedMs, refusal, requeuedMs, payloadBytes }: DeadLetter, maxBytes: number): object {
  const bytes = Buffer.from(refusal.payload);
  const size = payloadBytes ?? bytes.length;
  const shown = bytes.subarray(0, Math.min(bytes.length, maxBytes));
  return {
    id,
    receivedMs,
    requeuedMs: requeuedMs ?? null,
    code: refusal.code,
    reason: refusal.reason,
    field: refusal.field,
    stream: refusal.stream,
    topic: refusal.topic,
    client: refusal.client,
    bytes: size,
    /** Null when it is not text. */
    text: asText(shown, shown.length < size),
    base64: shown.toString('base64'),
    whole: shown.length === size,
  };
}

/** A cut in the middle of a character (at most 3 bytes) does not make text something else. */
function asText(bytes: Buffer, cut: boolean): string | null {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes, { stream: cut });
  } catch {
    return null;
  }
}
