/**
 * Passwords as scrypt hashes, in the text form of the users file:
 *   $scrypt$ln=14,r=8,p=1$<salt, base64>$<hash, base64>      (N = 2^ln; base64 without padding)
 * The parameters travel with the hash, so they can be raised for new passwords while the old ones go on working.
 * scrypt runs in libuv's four threads, which the spool's fdatasync shares: whoever verifies many must bound how many
 * run at once (`authenticate.ts` does).
 */
import { randomBytes, scrypt, timingSafeEqual } from 'node:crypto';

/** 16 MiB and about 40 ms each. */
const DEFAULT_LN = 14;
const DEFAULT_R = 8;
const DEFAULT_P = 1;
const SALT_BYTES = 16;
const HASH_BYTES = 32;
/** More is refused when the users file is read: one login must not take the machine. */
const MAX_LN = 18;
const MAX_MEMORY_BYTES = 256 * 2 ** 20;

const FORM = /^\$scrypt\$ln=(\d{1,2}),r=(\d{1,3}),p=(\d{1,3})\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{22,86})$/;

interface Parsed {
  readonly ln: number;
  readonly r: number;
  readonly p: number;
  readonly salt: Buffer;
  readonly hash: Buffer;
}

export async function hashPassword(password: string | Uint8Array): Promise<string> {
  const salt = randomBytes(SALT_BYTES);
  const hash = await derive(password, {
    ln: DEFAULT_LN,
    r: DEFAULT_R,
    p: DEFAULT_P,
    salt,
    hash: Buffer.alloc(HASH_BYTES),
  });
  return `$scrypt$ln=${DEFAULT_LN},r=${DEFAULT_R},p=${DEFAULT_P}$${base64(salt)}$${base64(hash)}`;
}

/** False for a wrong password and for a text that is not such a hash. Takes as long as the hash's parameters say. */
export async function verifyPassword(password: string | Uint8Array, text: string): Promise<boolean> {
  const parsed = parse(text);
  if (parsed === null) return false;
  return timingSafeEqual(await derive(password, parsed), parsed.hash);
}

/** Why the text cannot be used as a hash, or null. */
export function passwordHashProblem(text: string): string | null {
  if (parse(text) !== null) return null;
  return 'is not a hash of the form $scrypt$ln=14,r=8,p=1$salt$hash; make one with: millrace passwd';
}

function parse(text: string): Parsed | null {
  const match = FORM.exec(text);
  if (!match) return null;
  const [ln, r, p] = [Number(match[1]), Number(match[2]), Number(match[3])];
  if (ln < 1 || ln > MAX_LN || r < 1 || p < 1 || memoryBytes(ln, r) * p > MAX_MEMORY_BYTES) return null;
  return { ln, r, p, salt: Buffer.from(match[4]!, 'base64'), hash: Buffer.from(match[5]!, 'base64') };
}

function derive(password: string | Uint8Array, { ln, r, p, salt, hash }: Parsed): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const options = { N: 2 ** ln, r, p, maxmem: memoryBytes(ln, r) * 2 };
    scrypt(password, salt, hash.length, options, (error, derived) => (error ? reject(error) : resolve(derived)));
  });
}

function memoryBytes(ln: number, r: number): number {
  return 128 * 2 ** ln * r;
}

function base64(bytes: Buffer): string {
  return bytes.toString('base64').replace(/=+$/, '');
}
