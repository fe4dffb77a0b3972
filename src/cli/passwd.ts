/** `millrace passwd`: a password from standard input becomes the hash that a users file holds. It is never an argument. */
import type { Readable } from 'node:stream';
import { hashPassword } from '../ingress/password.ts';
import { EXIT, type Terminal } from './terminal.ts';

const MAX_PASSWORD_BYTES = 1_024;

export async function passwd(input: Readable, terminal: Terminal): Promise<number> {
  let text = '';
  for await (const chunk of input) {
    text += chunk;
    if (text.length > MAX_PASSWORD_BYTES) {
      terminal.err(`millrace: a password may have at most ${MAX_PASSWORD_BYTES} bytes`);
      return EXIT.usage;
    }
  }
  const password = text.replace(/\r?\n$/, '');
  if (password === '') {
    terminal.err('millrace: no password on standard input; try: printf \'%s\' "$PASSWORD" | millrace passwd');
    return EXIT.usage;
  }
  terminal.out(await hashPassword(password));
  return EXIT.ok;
}
