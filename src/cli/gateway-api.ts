/** The HTTP API of a gateway, as commands ask it: of the one that runs on a configuration on this machine, or of one by its address. */
import type { HttpConfig } from '../config.ts';
import { done, fail, messageOf, type Outcome, succeed } from '../errors.ts';
import type { AuditAnswer } from '../parts/audit-run.ts';
import type { RequeueWish } from '../view/feed.ts';

const ASK_MS = 10_000;
/** The gateway may have to look through a long log first. */
const REQUEUE_MS = 10 * 60_000;
/** Longer than the gateway allows an audit to take. */
const AUDIT_MS = 150_000;

/** What became of one dead letter. */
export interface Result {
  readonly id: string;
  readonly result: 'accepted' | 'refused' | 'already' | 'missing';
  readonly code?: string;
  readonly reason?: string;
}

export interface GatewayApi {
  readonly name: string;
  /** `http://127.0.0.1:8080` */
  readonly address: string;
  requeue(wishes: readonly RequeueWish[]): Promise<Outcome<Result[]>>;
  /** Ok: it is durable in the log of commands. */
  command(body: object): Promise<Outcome>;
}

/** Null: nobody listens there, or a process that runs no gateway. */
export async function findGateway({ host, port, token }: HttpConfig): Promise<Outcome<GatewayApi | null>> {
  if (port === 0) return succeed(null);
  const address = `http://${reachable(host)}:${port}`;
  let status: { gateway?: unknown; role?: unknown };
  try {
    const answer = await fetch(`${address}/api/v1/status`, { signal: AbortSignal.timeout(ASK_MS) });
    status = (await answer.json()) as typeof status;
  } catch (thrown) {
    const { code } = ((thrown as Error).cause ?? {}) as { code?: string };
    if (code === 'ECONNREFUSED') return succeed(null);
    return fail(
      'GATEWAY_UNREACHABLE',
      `something listens at ${address} and does not answer as a gateway: ${messageOf(thrown)}`,
    );
  }
  const { gateway, role } = status;
  if (typeof gateway !== 'string') return fail('GATEWAY_UNREACHABLE', `what listens at ${address} is not a gateway`);
  if (role === 'rollup') return succeed(null);
  if (token === null) {
    const wayOut = 'set http.token and restart it, or stop it and run this again';
    return fail(
      'GATEWAY_REFUSED',
      `the gateway at ${address} runs without http.token, so that it is read-only: ${wayOut}`,
    );
  }
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
  return succeed({
    name: gateway,
    address,
    async command(body) {
      try {
        const answer = await fetch(`${address}/api/v1/commands`, {
          method: 'POST',
          headers,
          body: JSON.stringify(body),
          signal: AbortSignal.timeout(ASK_MS),
        });
        if (answer.ok) return done;
        const { error } = (await answer.json()) as { error?: { message: string } };
        return fail('GATEWAY_REFUSED', `the gateway at ${address} refuses: ${error?.message ?? answer.status}`);
      } catch (thrown) {
        return fail(
          'GATEWAY_UNREACHABLE',
          `the gateway at ${address} did not answer, run this again: ${messageOf(thrown)}`,
        );
      }
    },
    async requeue(letters) {
      try {
        const answer = await fetch(`${address}/api/v1/deadletters/requeue`, {
          method: 'POST',
          headers,
          body: JSON.stringify({ letters }),
          signal: AbortSignal.timeout(REQUEUE_MS),
        });
        const body = (await answer.json()) as { results?: Result[]; error?: { message: string } };
        if (answer.ok && body.results) return succeed(body.results);
        return fail('GATEWAY_REFUSED', `the gateway at ${address} refuses: ${body.error?.message ?? answer.status}`);
      } catch (thrown) {
        return fail(
          'GATEWAY_UNREACHABLE',
          `the gateway at ${address} did not answer, run this again: ${messageOf(thrown)}`,
        );
      }
    },
  });
}

/** `url`: `http://plant-7:8080`. */
export async function auditOf(url: string, parameters: URLSearchParams): Promise<Outcome<AuditAnswer>> {
  if (!URL.canParse(url)) return fail('USAGE', `--url ${url} is not an address such as http://plant-7:8080`);
  const place = new URL(`/api/v1/audit?${parameters}`, url);
  try {
    const answer = await fetch(place, { signal: AbortSignal.timeout(AUDIT_MS) });
    const body = (await answer.json()) as AuditAnswer & { error?: { message: string } };
    if (answer.ok) return succeed(body);
    const code = answer.status === 400 ? 'USAGE' : 'GATEWAY_REFUSED';
    return fail(code, `the gateway at ${url} refuses: ${body.error?.message ?? answer.status}`);
  } catch (thrown) {
    return fail('GATEWAY_UNREACHABLE', `no gateway answers at ${url}: ${messageOf(thrown)}`);
  }
}

/** An address to listen on as one to connect to. */
function reachable(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  if (host === '::') return '[::1]';
  return host.includes(':') ? `[${host}]` : host;
}
