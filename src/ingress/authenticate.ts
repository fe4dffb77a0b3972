/**
 * Who a client is: a certificate's common name, a user name with a password, or nobody (anonymous). Decides the CONNACK
 * and hands over the access rules; `users.ts` has the file's format.
 *
 * scrypt is slow on purpose, so: two run at a time, a bounded number waits, and a password that was right once is
 * recognised again by a keyed digest in memory (a plant that comes back after a power cut logs in at once). Failed logins
 * of one address and user are answered later and later, up to 10 s; so are those of one address with ever new names.
 * A slowed login waits outside the queue: it costs the others nothing.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import type { Clock } from '../clock.ts';
import type { Telemetry } from '../telemetry.ts';
import { type AccessRules, NOTHING } from './access.ts';
import { verifyPassword } from './password.ts';
import { NO_USERS, type Users } from './users.ts';

export interface Login {
  readonly username: string | undefined;
  readonly password: Uint8Array | undefined;
  /** Common name of a verified client certificate. */
  readonly certificateName: string | null;
  readonly address: string;
}

/** CONNACK return codes of MQTT 3.1.1 that a refusal uses. */
export const CONNACK = { identifierRejected: 2, unavailable: 3, badCredentials: 4, notAuthorized: 5 } as const;
export type ConnackCode = (typeof CONNACK)[keyof typeof CONNACK];

export type Decision =
  | { readonly kind: 'in'; readonly identity: Identity }
  | { readonly kind: 'out'; readonly code: ConnackCode; readonly reason: string };

export interface Identity {
  /** Null: anonymous. */
  readonly user: string | null;
  readonly by: 'certificate' | 'password' | 'nothing';
  readonly rules: AccessRules;
}

const MAX_RUNNING = 2;
const MAX_PASSWORD_BYTES = 1_024;
/** Verified against when the user is unknown, so that the answer takes as long. */
const NOBODY = `$scrypt$ln=14,r=8,p=1$${'A'.repeat(22)}$${'A'.repeat(43)}`;

export interface AuthenticatorOptions {
  readonly users: Users;
  readonly anonymous: boolean;
  readonly telemetry: Telemetry;
  readonly clock: Clock;
  /** Logins that wait for their password to be checked; as many again may be slowed down. */
  readonly maxWaiting: number;
  /** First delay after a failed login. */
  readonly slowDownMs?: number;
}

export class Authenticator {
  readonly #anonymous: boolean;
  readonly #telemetry: Telemetry;
  readonly #maxWaiting: number;
  readonly #slowDown: SlowDown;
  readonly #digestKey = randomBytes(32);
  /** User -> the hash that a password matched, and that password's digest. */
  readonly #verified = new Map<string, { readonly hash: string; readonly digest: Buffer }>();
  readonly #waiting: (() => Promise<void>)[] = [];
  #users: Users;
  #running = 0;

  constructor(options: AuthenticatorOptions) {
    this.#users = options.users;
    this.#maxWaiting = options.maxWaiting;
    this.#anonymous = options.anonymous;
    this.#telemetry = options.telemetry;
    this.#slowDown = new SlowDown(options.clock, options.maxWaiting, options.slowDownMs ?? 250);
  }

  /** `decided` is called once, at once or later. */
  check(login: Login, decided: (decision: Decision) => void): void {
    const { username, password, address } = login;
    const decision = this.#decideAtOnce(login);
    const delayMs = decision ? 0 : this.#slowDown.delayMs(address, username!);
    if (decision) decided(decision);
    else if (delayMs === 0) this.#queue(username!, password!, address, decided);
    else if (!this.#slowDown.enter()) decided(this.#busy());
    else {
      setTimeout(() => {
        this.#slowDown.leave();
        this.#queue(username!, password!, address, decided);
      }, delayMs);
    }
  }

  replaceUsers(users: Users): void {
    this.#users = users;
    for (const name of this.#verified.keys()) if (!users.named.has(name)) this.#verified.delete(name);
  }

  /** The rules of someone who is in, by the users as they are now; null: would not be let in any more. */
  rulesOf(identity: Identity): AccessRules | null {
    if (identity.by === 'nothing') return this.#anonymous ? this.#users.anonymous : null;
    const known = this.#users.named.get(identity.user!);
    if (identity.by === 'certificate') return known ?? this.#users.certificates;
    return known?.password ? known : null;
  }

  /** Null: there is a user name and a password, and the password has to be hashed to know. */
  #decideAtOnce({ certificateName, username, password }: Login): Decision | null {
    if (certificateName !== null) return this.#byCertificate(certificateName);
    const unnamed = username === undefined || (username === '' && password === undefined);
    // without a users file a name is only talk
    if (unnamed || (this.#users === NO_USERS && this.#anonymous)) return this.#byNothing();
    if (password === undefined || password.length > MAX_PASSWORD_BYTES) return badCredentials(username);
    const known = this.#users.named.get(username);
    if (!known?.password || !this.#isVerified(username, known.password, password)) return null;
    return { kind: 'in', identity: { user: username, by: 'password', rules: known } };
  }

  #byCertificate(name: string): Decision {
    const rules = this.#users.named.get(name) ?? this.#users.certificates;
    if (rules === null)
      return refuse(CONNACK.notAuthorized, `the users file does not list the certificate's "${name}"`);
    return { kind: 'in', identity: { user: name, by: 'certificate', rules } };
  }

  #byNothing(): Decision {
    if (!this.#anonymous) return refuse(CONNACK.notAuthorized, 'no user name, and anonymous clients are not allowed');
    return { kind: 'in', identity: { user: null, by: 'nothing', rules: this.#users.anonymous } };
  }

  #queue(username: string, password: Uint8Array, address: string, decided: (decision: Decision) => void): void {
    if (this.#waiting.length >= this.#maxWaiting) {
      decided(this.#busy());
      return;
    }
    this.#waiting.push(async () => {
      const known = this.#users.named.get(username);
      const hash = known?.password ?? NOBODY;
      const right = await verifyPassword(password, hash);
      if (right && known?.password === hash) {
        this.#verified.set(username, { hash, digest: this.#digest(password) });
        this.#slowDown.succeeded(address, username);
        decided({ kind: 'in', identity: { user: username, by: 'password', rules: known ?? NOTHING } });
      } else {
        this.#slowDown.failed(address, username);
        decided(badCredentials(username));
      }
    });
    this.#runNext();
  }

  #runNext(): void {
    if (this.#running >= MAX_RUNNING) return;
    const next = this.#waiting.shift();
    if (!next) return;
    this.#running++;
    next()
      .catch((thrown) => this.#telemetry.log.error({ err: thrown }, 'checking a password failed'))
      .finally(() => {
        this.#running--;
        this.#runNext();
      });
  }

  #isVerified(username: string, hash: string, password: Uint8Array): boolean {
    const verified = this.#verified.get(username);
    return verified?.hash === hash && timingSafeEqual(verified.digest, this.#digest(password));
  }

  #digest(password: Uint8Array): Buffer {
    return createHmac('sha256', this.#digestKey).update(password).digest();
  }

  #busy(): Decision {
    this.#telemetry.limitReached.inc({ limit: 'logins' });
    return refuse(CONNACK.unavailable, 'too many logins at once');
  }
}

/** Failed logins by address, and by address and user. */
class SlowDown {
  readonly #clock: Clock;
  readonly #maxDelayed: number;
  readonly #firstMs: number;
  readonly #failures = new Map<string, { count: number; atMs: number }>();
  #delayed = 0;

  constructor(clock: Clock, maxDelayed: number, firstMs: number) {
    this.#clock = clock;
    this.#maxDelayed = maxDelayed;
    this.#firstMs = firstMs;
  }

  delayMs(address: string, user: string): number {
    const own = this.#count(keyOf(address, user));
    const all = this.#count(address) - FREE_FAILURES_PER_ADDRESS;
    const failures = Math.max(own, all);
    return failures <= 0 ? 0 : Math.min(MAX_DELAY_MS, this.#firstMs * 2 ** Math.min(failures - 1, 20));
  }

  failed(address: string, user: string): void {
    this.#add(keyOf(address, user));
    this.#add(address);
  }

  succeeded(address: string, user: string): void {
    this.#failures.delete(keyOf(address, user));
  }

  /** One more slowed login; false: there are too many. */
  enter(): boolean {
    if (this.#delayed >= this.#maxDelayed) return false;
    this.#delayed++;
    return true;
  }

  leave(): void {
    this.#delayed--;
  }

  #count(key: string): number {
    const entry = this.#failures.get(key);
    if (!entry) return 0;
    if (this.#clock.monotonicMs() - entry.atMs < FORGET_MS) return entry.count;
    this.#failures.delete(key);
    return 0;
  }

  #add(key: string): void {
    const count = this.#count(key) + 1;
    // deleted and set again, so that the map's order is that of the last failure and its front is the oldest
    this.#failures.delete(key);
    this.#failures.set(key, { count, atMs: this.#clock.monotonicMs() });
    if (this.#failures.size > MAX_REMEMBERED) this.#failures.delete(this.#failures.keys().next().value!);
  }
}

const FREE_FAILURES_PER_ADDRESS = 20;
const MAX_DELAY_MS = 10_000;
const FORGET_MS = 10 * 60_000;
const MAX_REMEMBERED = 10_000;

function keyOf(address: string, user: string): string {
  return `${address}\0${user}`;
}

function badCredentials(username: string): Decision {
  return refuse(CONNACK.badCredentials, `wrong user name or password for "${username.slice(0, 64)}"`);
}

function refuse(code: ConnackCode, reason: string): Decision {
  return { kind: 'out', code, reason };
}
