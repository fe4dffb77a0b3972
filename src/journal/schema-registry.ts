/**
 * A client of a schema registry by Confluent's published API: the id of our schema, and the schema of an id. Both are asked for
 * once and remembered; a failed question is asked again by whoever needs the answer. Which failures a person must heal is
 * decided here: a registry that is away, busy or broken heals by itself, one that refuses does not.
 */
import type { SchemaRegistryConfig } from '../config/kafka.ts';
import { fail, messageOf, type Outcome, succeed } from '../errors.ts';
import { CredentialsMissing, readSecret } from './kafka-credentials.ts';

export interface RegisteredSchema {
  readonly type: 'AVRO' | 'JSON' | 'PROTOBUF';
  readonly text: string;
}

export interface SchemaRegistry {
  /** Registers it, where the configuration says so; else it must be there already. */
  idOf(subject: string, schema: RegisteredSchema): Promise<Outcome<number>>;
  /** Null: the registry says that there is none. */
  schemaOf(id: number): Promise<Outcome<RegisteredSchema | null>>;
}

/** Ids whose schemas are remembered; the oldest makes room. */
const MAX_SCHEMAS = 100;
const MAX_ANSWER_BYTES = 4 * 2 ** 20;
const PERSON_PAUSE_MS = 10_000;
/** Of the published API; the web server in front may answer 404 too. */
const SCHEMA_NOT_FOUND = 40403;
const CONTENT_TYPE = 'application/vnd.schemaregistry.v1+json';

export function schemaRegistry(config: SchemaRegistryConfig): SchemaRegistry {
  const ids = new Map<string, number>();
  const schemas = new Map<number, RegisteredSchema | null>();
  const asking = new Map<string, Promise<Outcome<unknown>>>();

  /** Those who ask the same at the same time wait for one answer. */
  const once = <T>(key: string, ask: () => Promise<Outcome<T>>): Promise<Outcome<T>> => {
    const known = asking.get(key) as Promise<Outcome<T>> | undefined;
    if (known) return known;
    const answer = ask().finally(() => asking.delete(key));
    asking.set(key, answer);
    return answer;
  };

  return {
    async idOf(subject, schema) {
      const known = ids.get(subject);
      if (known !== undefined) return succeed(known);
      return once(subject, async () => {
        const path = `/subjects/${encodeURIComponent(subject)}${config.register ? '/versions' : ''}`;
        const body = { schema: schema.text, ...(schema.type === 'AVRO' ? {} : { schemaType: schema.type }) };
        const doing = config.register ? `registering ${subject}` : `looking up ${subject}`;
        const answer = await request(config, doing, path, body);
        if (!answer.ok) return answer;
        const { id } = answer.value;
        if (!Number.isInteger(id)) return odd(config, doing);
        ids.set(subject, id as number);
        return succeed(id as number);
      });
    },
    async schemaOf(id) {
      const known = schemas.get(id);
      if (known !== undefined) return succeed(known);
      return once(`#${id}`, async () => {
        const doing = `asking for schema ${id}`;
        const answer = await request(config, doing, `/schemas/ids/${id}`);
        const isUnknown = !answer.ok && answer.failure.cause === SCHEMA_NOT_FOUND;
        if (!answer.ok && !isUnknown) return answer;
        let found: RegisteredSchema | null = null;
        if (answer.ok) {
          const { schema, schemaType = 'AVRO' } = answer.value;
          if (typeof schema !== 'string') return odd(config, doing);
          found = { type: schemaType as RegisteredSchema['type'], text: schema };
        }
        if (schemas.size >= MAX_SCHEMAS) schemas.delete(schemas.keys().next().value!);
        schemas.set(id, found);
        return succeed(found);
      });
    },
  };
}

async function request(
  config: SchemaRegistryConfig,
  doing: string,
  path: string,
  body?: object,
): Promise<Outcome<Record<string, unknown>>> {
  const where = `${doing} at ${config.url}`;
  let status: number;
  let text: string;
  try {
    const response = await fetch(`${config.url.replace(/\/+$/, '')}${path}`, {
      method: body ? 'POST' : 'GET',
      ...(body ? { body: JSON.stringify(body) } : undefined),
      headers: { accept: CONTENT_TYPE, ...(body ? { 'content-type': CONTENT_TYPE } : {}), ...(await login(config)) },
      redirect: 'error',
      signal: AbortSignal.timeout(config.timeoutMs),
    });
    status = response.status;
    text = await response.text();
  } catch (error) {
    if (error instanceof CredentialsMissing) return refused(`${where}: ${error.message}`);
    const cause = error instanceof Error && error.cause ? ` (${messageOf(error.cause)})` : '';
    return away(`${where}: the schema registry does not answer: ${messageOf(error)}${cause}`);
  }
  const answer = text.length > MAX_ANSWER_BYTES ? null : parsed(text);
  if (status === 200 && answer) return succeed(answer);
  if (status === 200) return odd(config, doing);
  const said = `${status}${reasonIn(answer)}`;
  // 408 and 429 ask for patience, 5xx is trouble of its own.
  if (status >= 500 || status === 408 || status === 429) {
    return away(`${where}: the schema registry answers ${said}`);
  }
  const meaning = MEANINGS[status] ?? 'the schema registry refuses it';
  return refused(`${where}: ${meaning} (${said})`, answer?.error_code);
}

const MEANINGS: Readonly<Record<number, string>> = {
  401: 'the schema registry does not accept the login: see kafka.schema_registry.username and password',
  403: 'this user may not do that in the schema registry',
  404: 'it is not there; register it, or set kafka.schema_registry.register to true',
  409: 'another schema is registered there, and ours is not compatible with it: use another kafka.prefix, or change the compatibility of the subject',
  422: 'the schema registry finds the schema invalid',
};

async function login({ username, password }: SchemaRegistryConfig): Promise<Record<string, string>> {
  if (username === null || password === null) return {};
  const secret = await readSecret(password, 'kafka.schema_registry.password');
  return { authorization: `Basic ${Buffer.from(`${username}:${secret}`).toString('base64')}` };
}

const away = (message: string) => fail('REGISTRY_UNREACHABLE', message, { retryable: true });
/** `cause`: the registry's own code. */
const refused = (message: string, cause?: unknown) =>
  fail('REGISTRY_REFUSED', message, { retryable: true, retryAfterMs: PERSON_PAUSE_MS, cause });
const odd = ({ url }: SchemaRegistryConfig, doing: string) =>
  refused(`${doing} at ${url}: what answers is not a schema registry`);

/** What the registry says, on one line and short. */
function reasonIn(answer: Record<string, unknown> | null): string {
  const { message, error_code: code } = answer ?? {};
  const text = typeof message === 'string' ? message.replace(/[^\x20-\x7e]+/g, ' ').slice(0, 200) : '';
  return text === '' ? '' : `, ${typeof code === 'number' ? `${code}: ` : ''}${text}`;
}

function parsed(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}
