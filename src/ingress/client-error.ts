/** What aedes' errors about a client mean. It has no codes for its own, only sentences. */

export type Meaning =
  /** A connection that breaks off or falls silent: everyday life. */
  | { readonly kind: 'gone' }
  | { readonly kind: 'limit'; readonly limit: 'drain_timeout' | 'topic_levels' }
  | { readonly kind: 'protocol' };

const GONE: ReadonlySet<string> = new Set(['keep alive timeout', 'connection closed']);

export function meaningOf(error: NodeJS.ErrnoException): Meaning {
  const { message } = error;
  // codes are those of sockets and TLS
  if (error.code !== undefined || GONE.has(message)) return { kind: 'gone' };
  if (message === 'drain timeout') return { kind: 'limit', limit: 'drain_timeout' };
  if (message === 'topic has too many levels') return { kind: 'limit', limit: 'topic_levels' };
  return { kind: 'protocol' };
}
