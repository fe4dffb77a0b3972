/**
 * What protects the page and the API: headers on every answer, who may ask, and who may change anything.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { isIP } from 'node:net';

/** No inline script or style, nothing from elsewhere, nobody may frame the page, and no text can become markup. */
export const SECURITY_HEADERS: Readonly<Record<string, string>> = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; " +
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'permissions-policy': 'camera=(), microphone=(), geolocation=(), payment=(), usb=()',
};

/**
 * A listener on loopback answers only to names that cannot be pointed at it from outside: otherwise any web page that a
 * person here has open could read the data by making its own host name resolve to 127.0.0.1.
 */
export function hostAllowed(listenHost: string, hostHeader: string | undefined): boolean {
  if (!isLoopback(listenHost) || hostHeader === undefined) return true;
  const name = hostHeader
    .replace(/:\d+$/, '')
    .replace(/^\[(.*)\]$/, '$1')
    .toLowerCase();
  return name === 'localhost' || name.endsWith('.localhost') || isIP(name) !== 0;
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || host.startsWith('127.');
}

export type Permission =
  | { readonly allowed: true }
  | { readonly allowed: false; readonly status: 401 | 403; readonly reason: string };

export function mayChange(token: string | null, authorization: string | undefined): Permission {
  if (token === null) {
    return {
      allowed: false,
      status: 403,
      reason: 'This gateway is read-only: no http.token is configured. Set one and restart.',
    };
  }
  const given = /^Bearer +(\S+)$/i.exec(authorization ?? '')?.[1];
  if (given !== undefined && timingSafeEqual(digest(given), digest(token))) return { allowed: true };
  const reason =
    given === undefined
      ? 'Send the header Authorization: Bearer <http.token>.'
      : 'The token is not the configured http.token.';
  return { allowed: false, status: 401, reason };
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
