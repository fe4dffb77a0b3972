/**
 * The login of a kafkajs client. kafkajs knows PLAIN and SCRAM, given the password when the client is made; so what comes from
 * a file is read at each login by a wrapper around its own exchange.
 *
 * The exchange of OAUTHBEARER (RFC 7628) is ours: a broker that refuses a token answers without an error code, with the reason
 * as the content, and waits for one more message; kafkajs does not look at the content and takes that for success, and the
 * next request then fails with a closed connection that says nothing of tokens.
 */
import { createRequire } from 'node:module';
import type { AuthenticationProviderArgs, Authenticator, Mechanism } from 'kafkajs';
import type { KafkaSasl } from '../config/kafka.ts';
import { type AskToken, readKeyFile, readSecret, tokensFrom } from './kafka-credentials.ts';

/** Kafka has answered that it does not take the token. `kafka-errors.ts` knows it by its name. */
export class TokenRefused extends Error {
  override readonly name = 'KafkaTokenRefused';
}

type Provider = (args: AuthenticationProviderArgs) => Authenticator;
type TokenLogin = Extract<KafkaSasl, { mechanism: 'oauthbearer' }>;
type PasswordLogin = Exclude<KafkaSasl, TokenLogin>;

const require = createRequire(import.meta.url);
const EXCHANGES: Readonly<Record<PasswordLogin['mechanism'], string>> = {
  plain: 'kafkajs/src/broker/saslAuthenticator/plain',
  'scram-sha-256': 'kafkajs/src/broker/saslAuthenticator/scram256',
  'scram-sha-512': 'kafkajs/src/broker/saslAuthenticator/scram512',
};

/** Clients of one thread, of which each failure makes a new one, share the tokens of their configuration. */
const tokens = new WeakMap<TokenLogin, AskToken>();

/** `failed` hears of every login that did not succeed, also of those that kafkajs repeats. */
export function kafkaLogin(sasl: KafkaSasl, failed: (error: unknown) => void): Mechanism {
  const { mechanism, authenticationProvider } = loginOf(sasl);
  return {
    mechanism,
    authenticationProvider: (args) => ({
      async authenticate() {
        try {
          await authenticationProvider(args).authenticate();
        } catch (error) {
          failed(error);
          throw error;
        }
      },
    }),
  };
}

function loginOf(sasl: KafkaSasl): Mechanism {
  if (sasl.mechanism === 'oauthbearer') {
    const ask = tokens.get(sasl) ?? tokensFrom(sasl.token);
    tokens.set(sasl, ask);
    return { mechanism: 'oauthbearer', authenticationProvider: bearer(ask, sasl.extensions) };
  }
  return { mechanism: sasl.mechanism, authenticationProvider: passwords(sasl) };
}

function passwords(sasl: PasswordLogin): Provider {
  const exchange = require(EXCHANGES[sasl.mechanism]) as (login: object) => Provider;
  return (args) => ({
    async authenticate() {
      const login =
        'keyFile' in sasl
          ? await readKeyFile(sasl.keyFile)
          : { username: sasl.username, password: await readSecret(sasl.password, 'kafka.sasl.password') };
      await exchange(login)(args).authenticate();
    },
  });
}

const SEPARATOR = '\u0001';

function bearer(ask: AskToken, extensions: Readonly<Record<string, string>>): Provider {
  const more = Object.entries(extensions).map(([name, value]) => `${name}=${value}${SEPARATOR}`);
  return ({ saslAuthenticate }) => ({
    async authenticate() {
      const { value } = await ask();
      const first = `n,,${SEPARATOR}auth=Bearer ${value}${SEPARATOR}${more.join('')}${SEPARATOR}`;
      const answer = await exchanged(saslAuthenticate, first);
      if (answer.length === 0) return;
      // RFC 7628, 3.2.3: the refusal is complete when this is sent; the broker then says so once more.
      await exchanged(saslAuthenticate, SEPARATOR).catch(() => {});
      throw new TokenRefused(`kafka.sasl: ${reasonIn(answer)}`);
    },
  });
}

type Exchange = AuthenticationProviderArgs['saslAuthenticate'];

/** One message of ours and the content of the answer. */
async function exchanged(saslAuthenticate: Exchange, text: string): Promise<Buffer> {
  const content = Buffer.from(text);
  const length = Buffer.alloc(4);
  length.writeInt32BE(content.length);
  const answer = await saslAuthenticate<Buffer>({
    request: { encode: () => Buffer.concat([length, content]) },
    // Behind its length, as in the request.
    response: { decode: (bytes) => bytes.subarray(4), parse: (bytes) => bytes },
  });
  return answer ?? Buffer.alloc(0);
}

/** {"status":"invalid_token"}, for a person; bounded, because another wrote it. */
function reasonIn(answer: Buffer): string {
  return answer
    .toString('utf8')
    .replace(/[^\x20-\x7e]/g, '')
    .slice(0, 200);
}
