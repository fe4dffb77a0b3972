/**
 * The users file: who may connect and what they may do. YAML, read at the start and again at each reload; a file with a
 * mistake is refused as a whole, naming the place, and what was in force stays in force.
 *
 *   users:
 *     pump-17:
 *       password: $scrypt$ln=14,r=8,p=1$...        # made by `millrace passwd`; absent: only by client certificate
 *       publish: ["sensors/{site}/{username}/#"]   # access.ts says how rules read; absent: nothing
 *       subscribe: ["commands/{username}/#"]
 *   certificates:                                  # who shows a certificate that the listener's CA signed and is not
 *     publish: ["sensors/{site}/{username}/#"]     # listed above; the user name is its common name (CN).
 *     subscribe: []                                # Absent: such a client is refused.
 *   anonymous:                                     # with `auth: { anonymous: true }`; absent: may connect, do nothing
 *     publish: ["demo/#"]
 *     subscribe: ["demo/#"]
 *
 * A client with a certificate is its common name, whatever user name it sends, and needs no password.
 */
import { readFileSync } from 'node:fs';
import { parse, YAMLError } from 'yaml';
import { fail, messageOf, type Outcome, succeed } from '../errors.ts';
import { type AccessRule, type AccessRules, EVERYTHING, NOTHING, parseRule } from './access.ts';
import { passwordHashProblem } from './password.ts';

export interface User extends AccessRules {
  /** Null: no password logs this user in. */
  readonly password: string | null;
}

export interface Users {
  readonly named: ReadonlyMap<string, User>;
  /** Null: a certificate alone does not let anyone in. */
  readonly certificates: AccessRules | null;
  readonly anonymous: AccessRules;
}

/** Without a users file: nobody has a name, and whoever may connect may do everything. */
export const NO_USERS: Users = { named: new Map(), certificates: EVERYTHING, anonymous: EVERYTHING };

export function readUsers(file: string | null): Outcome<Users> {
  if (file === null) return succeed(NO_USERS);
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (thrown) {
    return fail('CONFIG_INVALID', `the users file cannot be read: ${messageOf(thrown)}`, { cause: thrown });
  }
  const users = parseUsers(text);
  return typeof users === 'string' ? fail('CONFIG_INVALID', `${file}: ${users}`) : succeed(users);
}

/** The users, or a sentence that says what is wrong and where. */
export function parseUsers(text: string): Users | string {
  try {
    const root = asMap(parse(text, { prettyErrors: true, logLevel: 'error' }), 'the users file', [
      'users',
      'certificates',
      'anonymous',
    ]);
    const named = new Map<string, User>();
    for (const [name, value] of Object.entries(asMap(root.users ?? {}, 'users'))) {
      named.set(name, readUser(value, `users.${name}`));
    }
    return {
      named,
      certificates: root.certificates === undefined ? null : readRules(root.certificates, 'certificates'),
      anonymous: root.anonymous === undefined ? NOTHING : readRules(root.anonymous, 'anonymous'),
    };
  } catch (thrown) {
    // The parser shows the line it stumbled over, below its message: it may hold a password. A name may hold anything.
    const message = messageOf(thrown);
    const first = thrown instanceof YAMLError ? message.split('\n', 1)[0]!.replace(/:$/, '') : message;
    return first.replace(/[\p{Cc}\p{Cs}]/gu, '\ufffd');
  }
}

function readUser(value: unknown, at: string): User {
  const map = asMap(value ?? {}, at, ['password', 'publish', 'subscribe']);
  const password = map.password ?? null;
  if (password !== null) {
    const problem = typeof password === 'string' ? passwordHashProblem(password) : 'is not text';
    // the value is not shown: it may be a password in clear
    if (problem !== null) throw new Error(`${at}.password ${problem}`);
  }
  return { password: password as string | null, ...readRules({ publish: map.publish, subscribe: map.subscribe }, at) };
}

function readRules(value: unknown, at: string): AccessRules {
  const map = asMap(value, at, ['publish', 'subscribe']);
  return { publish: readList(map.publish, `${at}.publish`), subscribe: readList(map.subscribe, `${at}.subscribe`) };
}

function readList(value: unknown, at: string): AccessRule[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw new Error(`${at} is not a list of rules`);
  return value.map((text, i) => {
    const rule = typeof text === 'string' ? parseRule(text) : 'a rule is text';
    if (typeof rule === 'string') throw new Error(`${at}[${i}]: ${rule}`);
    return rule;
  });
}

function asMap(value: unknown, at: string, keys?: readonly string[]): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Error(`${at} is not a map`);
  for (const key of Object.keys(value)) {
    if (keys && !keys.includes(key))
      throw new Error(`${at} has the unknown key "${key}"; known are ${keys.join(', ')}`);
  }
  return value as Record<string, unknown>;
}
