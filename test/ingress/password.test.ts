import assert from 'node:assert/strict';
import { randomBytes, scryptSync } from 'node:crypto';
import { hashPassword, passwordHashProblem, verifyPassword } from '../../src/ingress/password.ts';

const b64 = (bytes: Buffer): string => bytes.toString('base64').replace(/=+$/, '');

describe('a password hash', () => {
  it('verifies its password and no other, as text or bytes', async () => {
    const hash = await hashPassword('pässword');
    assert.match(hash, /^\$scrypt\$ln=14,r=8,p=1\$/);
    assert.equal(passwordHashProblem(hash), null);
    assert.equal(await verifyPassword('pässword', hash), true);
    assert.equal(await verifyPassword(Buffer.from('pässword'), hash), true);
    for (const wrong of ['passw0rd', '', 'pässword ']) assert.equal(await verifyPassword(wrong, hash), false);
  });

  it('is another each time', async () => {
    assert.notEqual(await hashPassword('x'), await hashPassword('x'));
  });

  it('carries its parameters, so that other ones verify too', async () => {
    const salt = randomBytes(16);
    const hash = scryptSync('x', salt, 48, { N: 2 ** 5, r: 4, p: 3 });
    const text = `$scrypt$ln=5,r=4,p=3$${b64(salt)}$${b64(hash)}`;
    assert.equal(await verifyPassword('x', text), true);
    assert.equal(await verifyPassword('x', text.replace('ln=5', 'ln=6')), false);
  });

  it('is refused when it is none, or would take more memory than one login may', async () => {
    const tail = `$${'A'.repeat(22)}$${'A'.repeat(43)}`;
    for (const text of [
      '',
      'secret',
      `$scrypt$ln=30,r=8,p=1${tail}`,
      `$scrypt$ln=18,r=99,p=1${tail}`,
      `$scrypt$ln=14,r=8,p=999${tail}`,
      `$scrypt$ln=0,r=8,p=1${tail}`,
      '$scrypt$ln=14,r=8,p=1$AAAA$AAAA',
      `$argon2id$ln=14,r=8,p=1${tail}`,
    ]) {
      assert.ok(passwordHashProblem(text), text);
      assert.equal(await verifyPassword('secret', text), false);
    }
  });
});
