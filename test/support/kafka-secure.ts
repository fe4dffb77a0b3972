/**
 * A Kafka of our own with a listener for each way to log in, all over TLS, with certificates and signing keys made for it:
 *   plain, scram   user alice, password right; sessions of `sessionMs`
 *   bearer         tokens signed with `signToken`, checked against a file of keys; sessions end with the token
 *   mutual         no login but a certificate of ours
 *   expired        whose certificate is over, until `renew`
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createPrivateKey, createPublicKey, type KeyObject, sign } from 'node:crypto';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '../../compose/stack/launch.ts';
import { type KafkaServer, startKafka } from '../../compose/stack/servers.ts';

const LISTENERS = ['plain', 'scram', 'bearer', 'mutual', 'expired'] as const;
type ListenerName = (typeof LISTENERS)[number];

export interface SecureKafka {
  readonly server: KafkaServer;
  readonly dir: string;
  readonly ca: string;
  readonly ports: Readonly<Record<ListenerName, number>>;
  /** Certificate and key of a client of `mutual`; and one that is over. */
  readonly client: { readonly cert: string; readonly key: string };
  readonly oldClient: { readonly cert: string; readonly key: string };
  /** A token of alice that is good for so long; negative: no longer. */
  signToken(lifeMs: number): string;
  /** The expired certificate is replaced, and the broker starts again with it. */
  renew(): Promise<void>;
  close(): Promise<void>;
}

const AUDIENCE = 'kafka';
const LOGIN = 'org.apache.kafka.common.security';

export async function startSecureKafka(options: { sessionMs?: number } = {}): Promise<SecureKafka> {
  const dir = mkdtempSync(join(tmpdir(), 'millrace-secure-'));
  const at = (name: string) => join(dir, name);
  openssl(dir, ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=test-ca'], {
    keyout: 'ca-key.pem',
    out: 'ca.pem',
  });
  certificate(dir, 'server', false);
  certificate(dir, 'expired', true);
  certificate(dir, 'client', false);
  certificate(dir, 'old-client', true);
  openssl(dir, ['genpkey', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048'], { out: 'token-key.pem' });
  const tokenKey = createPrivateKey(readFileSync(at('token-key.pem')));
  writeFileSync(at('jwks.json'), JSON.stringify(keySet(tokenKey)));

  const ports = {} as Record<ListenerName, number>;
  for (const name of LISTENERS) ports[name] = await freePort();
  const listener = (name: string) => `${name.toUpperCase()}://127.0.0.1:${ports[name as ListenerName]}`;
  const all = LISTENERS.map(listener).join(',');
  const of = (name: ListenerName, settings: Record<string, string>) =>
    Object.fromEntries(Object.entries(settings).map(([key, value]) => [`listener.name.${name}.${key}`, value]));
  const session = String(options.sessionMs ?? 0);
  const scram = `${LOGIN}.scram.ScramLoginModule required;`;
  const server = await startKafka({
    dir,
    scram: ['SCRAM-SHA-256=[name=alice,password=right]', 'SCRAM-SHA-512=[name=alice,password=right]'],
    settings: (ours) => ({
      listeners: `${ours.listeners},${all}`,
      'advertised.listeners': `${ours['advertised.listeners']},${all}`,
      'listener.security.protocol.map': `${ours['listener.security.protocol.map']},PLAIN:SASL_SSL,SCRAM:SASL_SSL,BEARER:SASL_SSL,MUTUAL:SSL,EXPIRED:SSL`,
      'ssl.keystore.type': 'PEM',
      'ssl.keystore.location': at('server-store.pem'),
      'ssl.truststore.type': 'PEM',
      'ssl.truststore.location': at('ca.pem'),
      ...of('expired', { 'ssl.keystore.type': 'PEM', 'ssl.keystore.location': at('expired-store.pem') }),
      ...of('mutual', { 'ssl.client.auth': 'required' }),
      ...of('plain', {
        'sasl.enabled.mechanisms': 'PLAIN',
        'plain.sasl.jaas.config': `${LOGIN}.plain.PlainLoginModule required user_alice="right";`,
        'plain.connections.max.reauth.ms': session,
      }),
      ...of('scram', {
        'sasl.enabled.mechanisms': 'SCRAM-SHA-256,SCRAM-SHA-512',
        'scram-sha-256.sasl.jaas.config': scram,
        'scram-sha-512.sasl.jaas.config': scram,
        'scram-sha-256.connections.max.reauth.ms': session,
        'scram-sha-512.connections.max.reauth.ms': session,
      }),
      ...of('bearer', {
        'sasl.enabled.mechanisms': 'OAUTHBEARER',
        'oauthbearer.sasl.jaas.config': `${LOGIN}.oauthbearer.OAuthBearerLoginModule required;`,
        'oauthbearer.sasl.server.callback.handler.class': `${LOGIN}.oauthbearer.OAuthBearerValidatorCallbackHandler`,
        // The end of the token ends the session before this.
        'oauthbearer.connections.max.reauth.ms': '3600000',
        'oauthbearer.sasl.oauthbearer.clock.skew.seconds': '0',
        'oauthbearer.sasl.oauthbearer.jwks.endpoint.url': `file://${at('jwks.json')}`,
        'oauthbearer.sasl.oauthbearer.expected.audience': AUDIENCE,
      }),
    }),
  });
  return {
    server,
    dir,
    ca: at('ca.pem'),
    ports,
    client: { cert: at('client.pem'), key: at('client-key.pem') },
    oldClient: { cert: at('old-client.pem'), key: at('old-client-key.pem') },
    signToken: (lifeMs) => signed(tokenKey, lifeMs),
    async renew() {
      copyFileSync(at('server-store.pem'), at('expired-store.pem'));
      await server.restart();
    },
    async close() {
      await server.kill();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

function openssl(dir: string, args: readonly string[], files: Readonly<Record<string, string>>): void {
  const named = Object.entries(files).flatMap(([flag, name]) => [`-${flag}`, join(dir, name)]);
  const made = spawnSync('openssl', [...args, ...named]);
  assert.equal(made.status, 0, String(made.stderr ?? made.error));
}

/** `<name>.pem`, `<name>-key.pem`, and both in `<name>-store.pem`, signed by ca.pem. */
function certificate(dir: string, name: string, over: boolean): void {
  openssl(dir, ['req', '-newkey', 'rsa:2048', '-nodes', '-subj', `/CN=${name}`], {
    keyout: `${name}-key.pem`,
    out: `${name}.csr`,
  });
  writeFileSync(join(dir, 'names'), 'subjectAltName=IP:127.0.0.1,DNS:localhost\n');
  // A day that began and ended yesterday: openssl counts from now, so it is told a negative number of days.
  openssl(dir, ['x509', '-req', '-CAcreateserial', '-days', over ? '-1' : '2'], {
    in: `${name}.csr`,
    CA: 'ca.pem',
    CAkey: 'ca-key.pem',
    extfile: 'names',
    out: `${name}.pem`,
  });
  const [key, cert] = [`${name}-key.pem`, `${name}.pem`].map((file) => readFileSync(join(dir, file), 'utf8'));
  writeFileSync(join(dir, `${name}-store.pem`), `${key}${cert}`);
}

function keySet(key: KeyObject): object {
  return { keys: [{ ...createPublicKey(key).export({ format: 'jwk' }), kid: 'test', alg: 'RS256', use: 'sig' }] };
}

/** Whole seconds, as JWTs count: rounded up, so that it is good for at least that long. */
function signed(key: KeyObject, lifeMs: number): string {
  const nowS = Math.floor(Date.now() / 1_000);
  const exp = Math.ceil((Date.now() + lifeMs) / 1_000);
  const part = (object: object) => Buffer.from(JSON.stringify(object)).toString('base64url');
  const claims = { sub: 'alice', aud: AUDIENCE, iat: Math.min(nowS, exp - 1), exp, scope: 'kafka' };
  const text = `${part({ alg: 'RS256', typ: 'JWT', kid: 'test' })}.${part(claims)}`;
  return `${text}.${sign('sha256', Buffer.from(text), key).toString('base64url')}`;
}
