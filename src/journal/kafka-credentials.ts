/**
 * What Kafka is shown at a login: passwords, and tokens for OAUTHBEARER. Nothing here is ever logged, and no error has a
 * secret in it; errors name the setting by its key. What comes from a file is read again at every login, so that a corrected
 * file heals without a restart.
 *
 * A token is kept for all connections of a thread until shortly before its end, which the server tells (`expires_in`) or the
 * token itself (the claim `exp` of a JWT); where neither does, each login asks anew. It is asked for when a login needs it,
 * never by a timer: kafkajs logs in again REAUTHENTICATE_MS before the broker would end the session, and by then the kept
 * token counts as old.
 */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { systemClock } from '../clock.ts';
import type { Secret, TokenSource } from '../config/kafka.ts';
import { messageOf } from '../errors.ts';

/** So long before the end of a session kafkajs logs in again. */
export const REAUTHENTICATE_MS = 2_500;
/** A token this near its end is replaced: more than the above, or the same one would be shown twice. */
const LEAST_MARGIN_MS = REAUTHENTICATE_MS + 1_000;
const MOST_MARGIN_MS = 60_000;
const MARGIN_SHARE = 0.2;
const ASK_TIMEOUT_MS = 10_000;
const MAX_ANSWER_BYTES = 256 * 1024;

/** There is nothing to show. `kafka-errors.ts` knows it by its name. */
export class CredentialsMissing extends Error {
  override readonly name = 'KafkaCredentialsMissing';
}

export interface Token {
  readonly value: string;
  /** Milliseconds of the epoch; null: not known. */
  readonly expiresAtMs: number | null;
}

/** `key` names the setting for errors. */
export async function readSecret(secret: Secret, key: string): Promise<string> {
  if (typeof secret === 'string') return secret;
  const text = (await readNamed(secret.file, `${key}_file`)).trim();
  if (text === '') throw new CredentialsMissing(`${key}_file: ${secret.file} is empty`);
  return text;
}

/** User name and password of a Google service account, as its managed Kafka takes them. */
export async function readKeyFile(file: string): Promise<{ username: string; password: string }> {
  const text = await readNamed(file, 'kafka.sasl.key_file');
  const username = field(parsed(text), 'client_email');
  if (username === null) {
    throw new CredentialsMissing(`kafka.sasl.key_file: ${file} is not the key of a service account: no client_email`);
  }
  return { username, password: Buffer.from(text).toString('base64') };
}

async function readNamed(file: string, key: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw new CredentialsMissing(`${key}: ${messageOf(error)}`);
  }
}

export type AskToken = () => Promise<Token>;

/** Kept until it is old; those who need it at the same time wait for the same answer. */
export function keptToken(ask: AskToken, nowMs: () => number = () => systemClock.nowMs()): AskToken {
  let kept: Token | null = null;
  let askedAtMs = 0;
  let asking: Promise<Token> | null = null;
  const isFresh = ({ expiresAtMs }: Token) => {
    if (expiresAtMs === null) return false;
    const margin = (expiresAtMs - askedAtMs) * MARGIN_SHARE;
    return expiresAtMs - nowMs() > Math.min(MOST_MARGIN_MS, Math.max(LEAST_MARGIN_MS, margin));
  };
  return () => {
    if (kept && isFresh(kept)) return Promise.resolve(kept);
    asking ??= ask()
      .then((token) => {
        askedAtMs = nowMs();
        kept = token;
        return token;
      })
      .finally(() => {
        asking = null;
      });
    return asking;
  };
}

export function tokensFrom(source: TokenSource): AskToken {
  switch (source.from) {
    // Read every time: another program puts the next token there when it likes.
    case 'file':
      return async () => checked(await readNamed(source.file, 'kafka.sasl.token_file'), 'kafka.sasl.token_file');
    case 'command':
      return keptToken(async () => checked(await printed(source.command), 'kafka.sasl.token_command'));
    case 'url':
      return keptToken(() => clientCredentials(source));
    case 'aws':
      return keptToken(() => awsToken(source.region));
    case 'google':
      return keptToken(() => googleToken(source.url));
  }
}

/** Without white space around; what is visibly too old is not sent, because Kafka's answer would say less. */
function checked(text: string, key: string): Token {
  const value = text.trim();
  if (!/^[\x21-\x7e]+$/.test(value)) {
    throw new CredentialsMissing(`${key}: ${value === '' ? 'it is empty' : 'what is there is not a token'}`);
  }
  const expiresAtMs = expiryOf(value);
  if (expiresAtMs !== null && expiresAtMs <= systemClock.nowMs()) {
    throw new CredentialsMissing(`${key}: the token there has expired at ${new Date(expiresAtMs).toISOString()}`);
  }
  return { value, expiresAtMs };
}

/** By the claim `exp`, where the token is a JWT. */
export function expiryOf(token: string): number | null {
  const claims = token.split('.')[1];
  if (claims === undefined) return null;
  const exp = parsed(Buffer.from(claims, 'base64url').toString())?.exp;
  return typeof exp === 'number' && Number.isFinite(exp) ? exp * 1_000 : null;
}

function printed([program, ...args]: readonly string[]): Promise<string> {
  const key = 'kafka.sasl.token_command';
  const limits = { timeout: ASK_TIMEOUT_MS, maxBuffer: MAX_ANSWER_BYTES, killSignal: 'SIGKILL' } as const;
  return new Promise((resolve, reject) => {
    execFile(program ?? '', args, limits, (error, stdout) => {
      if (!error) return resolve(stdout);
      // The message of the error has the arguments and what was printed, which may be secret.
      const { code, killed } = error;
      const how = killed ? `took longer than ${ASK_TIMEOUT_MS / 1_000} s` : `failed (${code ?? 'ended by a signal'})`;
      reject(new CredentialsMissing(`${key}: ${program} ${how}`));
    });
  });
}

async function clientCredentials(source: Extract<TokenSource, { from: 'url' }>): Promise<Token> {
  const key = 'kafka.sasl.token_url';
  const secret = await readSecret(source.clientSecret, 'kafka.sasl.client_secret');
  const form = new URLSearchParams({ grant_type: 'client_credentials' });
  if (source.scope !== null) form.set('scope', source.scope);
  // RFC 6749, 2.3.1: both are encoded as in forms first.
  const login = `${formEncoded(source.clientId)}:${formEncoded(secret)}`;
  const authorization = `Basic ${Buffer.from(login).toString('base64')}`;
  const answer = await asked(source.url, key, { method: 'POST', body: form, headers: { authorization } });
  return tokenOf(answer, key, source.url);
}

function formEncoded(text: string): string {
  return new URLSearchParams({ '': text }).toString().slice(1);
}

/** The answer of an OAuth 2 server. */
function tokenOf(text: string, key: string, url: string): Token {
  const answer = parsed(text);
  const value = field(answer, 'access_token');
  if (value === null) throw new CredentialsMissing(`${key}: the answer of ${url} has no access_token`);
  const seconds = Number(answer?.expires_in);
  const expiresAtMs = seconds > 0 ? systemClock.nowMs() + seconds * 1_000 : expiryOf(value);
  return { value, expiresAtMs };
}

/**
 * Google's managed Kafka takes an access token in the form of a JWT whose third part, instead of a signature, is the token;
 * the claims say whose it is. The address of the account's name is that of the token but for its last word.
 */
async function googleToken(url: string): Promise<Token> {
  const key = 'kafka.sasl (google-managed)';
  const headers = { 'metadata-flavor': 'Google' };
  const email = (await asked(new URL('email', url).href, key, { headers })).trim();
  const { value, expiresAtMs } = tokenOf(await asked(url, key, { headers }), key, url);
  const nowS = Math.floor(systemClock.nowMs() / 1_000);
  const exp = expiresAtMs === null ? nowS + 300 : Math.floor(expiresAtMs / 1_000);
  const part = (claims: object) => Buffer.from(JSON.stringify(claims)).toString('base64url');
  const claims = part({ exp, iss: 'Google', iat: nowS, scope: 'kafka', sub: email });
  const token = Buffer.from(value).toString('base64url');
  return { value: `${part({ typ: 'JWT', alg: 'GOOG_OAUTH2_TOKEN' })}.${claims}.${token}`, expiresAtMs: exp * 1_000 };
}

const AWS_SIGNER = 'aws-msk-iam-sasl-signer-js';

/** Signed here, with what the AWS SDK finds: environment, profile, web identity, container, machine. */
async function awsToken(region: string): Promise<Token> {
  let signer: typeof import('aws-msk-iam-sasl-signer-js');
  try {
    signer = await import('aws-msk-iam-sasl-signer-js');
  } catch (error) {
    throw new CredentialsMissing(`msk-iam needs a package: npm install ${AWS_SIGNER} (${messageOf(error)})`);
  }
  try {
    const { token, expiryTime } = await signer.generateAuthToken({ region });
    return { value: token, expiresAtMs: expiryTime };
  } catch (error) {
    throw new CredentialsMissing(`msk-iam, region ${region}: ${messageOf(error)}`);
  }
}

/** The body of a good answer. A bad one may quote what was sent, so only its status is told. */
async function asked(url: string, key: string, init: RequestInit): Promise<string> {
  let answer: Response;
  let text: string;
  try {
    answer = await fetch(url, { ...init, redirect: 'error', signal: AbortSignal.timeout(ASK_TIMEOUT_MS) });
    text = await answer.text();
  } catch (error) {
    const cause = error instanceof Error && error.cause ? ` (${messageOf(error.cause)})` : '';
    throw new CredentialsMissing(`${key}: ${url} does not answer: ${messageOf(error)}${cause}`);
  }
  if (!answer.ok) throw new CredentialsMissing(`${key}: ${url} answers ${answer.status} ${oauthError(text)}`.trim());
  if (text.length > MAX_ANSWER_BYTES) throw new CredentialsMissing(`${key}: the answer of ${url} is too long`);
  return text;
}

/** The closed word of RFC 6749, 5.2, such as invalid_client. */
function oauthError(text: string): string {
  const error = field(parsed(text), 'error');
  return error !== null && /^[a-z_]{1,40}$/.test(error) ? error : '';
}

function parsed(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

function field(object: Record<string, unknown> | null, name: string): string | null {
  const value = object?.[name];
  return typeof value === 'string' && value !== '' ? value : null;
}
