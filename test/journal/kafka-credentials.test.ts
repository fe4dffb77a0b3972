/** Where tokens for Kafka come from, and how long each is kept; a server for tokens stands in for those of others. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  CredentialsMissing,
  expiryOf,
  keptToken,
  REAUTHENTICATE_MS,
  readKeyFile,
  type Token,
  tokensFrom,
} from '../../src/journal/kafka-credentials.ts';

describe('a token for Kafka', () => {
  /** Asks as the clock stands; answers how often the source was asked. */
  function kept(lifeMs: number | null) {
    const state = { nowMs: 0, asked: 0 };
    const ask = keptToken(
      async (): Promise<Token> => ({
        value: `t${++state.asked}`,
        expiresAtMs: lifeMs === null ? null : state.nowMs + lifeMs,
      }),
      () => state.nowMs,
    );
    return {
      state,
      at: async (ms: number) => {
        state.nowMs = ms;
        return (await ask()).value;
      },
      both: async () => Promise.all([ask(), ask()]),
    };
  }

  it('is kept until a minute before its end', async () => {
    const { at } = kept(3_600_000);
    assert.deepEqual([await at(0), await at(3_539_000), await at(3_540_001)], ['t1', 't1', 't2']);
  });

  it('is replaced in time for the login before its end, however short its life', async () => {
    for (const lifeMs of [4_000, 5_000, 10_000, 60_000, 900_000]) {
      const { at } = kept(lifeMs);
      await at(0);
      assert.equal(await at(lifeMs - REAUTHENTICATE_MS), 't2', `a life of ${lifeMs} ms`);
    }
  });

  it('is asked for at every login when nothing says how long it is good', async () => {
    const { at } = kept(null);
    assert.deepEqual([await at(0), await at(1)], ['t1', 't2']);
  });

  it('is asked for once by those who need it at the same time', async () => {
    const { both, state } = kept(60_000);
    await both();
    assert.equal(state.asked, 1);
  });

  it('says when it ends, if it is a JWT with that claim', () => {
    const jwt = (claims: object) => `a.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.c`;
    assert.equal(expiryOf(jwt({ exp: 1_700_000_000 })), 1_700_000_000_000);
    for (const other of [jwt({}), jwt({ exp: 'soon' }), 'opaque', 'a.b.c', '', 'a.e30.c']) {
      assert.equal(expiryOf(other), null, other);
    }
  });
});

describe('a server for tokens', () => {
  let server: Server;
  let url: string;
  let answer: (request: IncomingMessage, response: ServerResponse) => void;

  before(async () => {
    server = createServer((request, response) => answer(request, response));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/default/token`;
  });
  after(() => server.close());

  const ask = (secret = 'hunter2') =>
    tokensFrom({ from: 'url', url, clientId: 'c', clientSecret: secret, scope: null })();
  const json = (status: number, body: unknown) => (_: IncomingMessage, response: ServerResponse) => {
    response.statusCode = status;
    response.end(typeof body === 'string' ? body : JSON.stringify(body));
  };

  const bad: readonly [name: string, status: number, body: unknown, says: RegExp][] = [
    [
      'refuses the client',
      401,
      { error: 'invalid_client', error_description: 'hunter2 is wrong' },
      / 401 invalid_client$/,
    ],
    ['is broken', 500, 'hunter2', / answers 500$/],
    ['answers something else', 200, '<html>hunter2</html>', /has no access_token$/],
    ['answers without a token', 200, { token: 'hunter2' }, /has no access_token$/],
  ];
  for (const [name, status, body, says] of bad) {
    it(`that ${name} is named by its setting, and what it says is not repeated`, async () => {
      answer = json(status, body);
      await assert.rejects(ask(), (error: Error) => {
        assert.ok(error instanceof CredentialsMissing);
        assert.match(error.message, /^kafka\.sasl\.token_url: .*http:\/\/127\.0\.0\.1:\d+\/default\/token /);
        assert.match(error.message, says);
        assert.doesNotMatch(error.message, /hunter2/);
        return true;
      });
    });
  }

  it('that sends the client elsewhere is not followed with the secret', async () => {
    answer = (_, response) => response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end();
    await assert.rejects(ask(), /kafka\.sasl\.token_url: .* does not answer/);
  });

  it('of Google gives the token in the form its managed Kafka takes: a JWT whose third part is the token', async () => {
    const seen: string[] = [];
    answer = (request, response) => {
      seen.push(`${request.method} ${request.url} ${request.headers['metadata-flavor']}`);
      const email = request.url === '/default/email';
      json(200, email ? 'm@p.iam.gserviceaccount.com' : { access_token: 'ya29.x', expires_in: 3_599 })(
        request,
        response,
      );
    };
    const { value, expiresAtMs } = await tokensFrom({ from: 'google', url })();
    assert.deepEqual(seen, ['GET /default/email Google', 'GET /default/token Google']);
    const [head, claims, token] = value.split('.').map((part) => Buffer.from(part, 'base64url').toString()) as [
      string,
      string,
      string,
    ];
    assert.deepEqual(JSON.parse(head), { typ: 'JWT', alg: 'GOOG_OAUTH2_TOKEN' });
    const { exp, iat, ...rest } = JSON.parse(claims);
    assert.deepEqual(rest, { iss: 'Google', scope: 'kafka', sub: 'm@p.iam.gserviceaccount.com' });
    assert.equal(token, 'ya29.x');
    assert.equal(exp * 1_000, expiresAtMs);
    assert.ok(exp - iat >= 3_598 && exp - iat <= 3_600);
  });
});

describe('a key file of Google', () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'millrace-key-'));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  it('is the password, and says the user name', async () => {
    const file = join(folder, 'key.json');
    const text = JSON.stringify({ type: 'service_account', client_email: 'm@p.iam.gserviceaccount.com' });
    writeFileSync(file, text);
    assert.deepEqual(await readKeyFile(file), {
      username: 'm@p.iam.gserviceaccount.com',
      password: Buffer.from(text).toString('base64'),
    });
  });

  it('that is something else is named by its setting', async () => {
    const file = join(folder, 'other.json');
    writeFileSync(file, '{"type":"authorized_user"}');
    await assert.rejects(readKeyFile(file), /kafka\.sasl\.key_file: .*other\.json is not the key of a service account/);
  });
});

describe('a token of AWS', () => {
  const names = [
    'AWS_ACCESS_KEY_ID',
    'AWS_SECRET_ACCESS_KEY',
    'AWS_EC2_METADATA_DISABLED',
    'AWS_SHARED_CREDENTIALS_FILE',
    'AWS_CONFIG_FILE',
  ] as const;
  const before_ = Object.fromEntries(names.map((name) => [name, process.env[name]]));
  afterEach(() => {
    for (const name of names) {
      if (before_[name] === undefined) delete process.env[name];
      else process.env[name] = before_[name];
    }
  });

  it('is an address signed with the credentials of the environment, good for 15 minutes', async function () {
    this.timeout(30_000);
    Object.assign(process.env, { AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE', AWS_SECRET_ACCESS_KEY: 'hunter2' });
    const { value, expiresAtMs } = await tokensFrom({ from: 'aws', region: 'eu-west-1' })();
    const url = new URL(Buffer.from(value, 'base64url').toString());
    assert.equal(url.host, 'kafka.eu-west-1.amazonaws.com');
    assert.equal(url.searchParams.get('Action'), 'kafka-cluster:Connect');
    assert.match(
      url.searchParams.get('X-Amz-Credential') ?? '',
      /^AKIDEXAMPLE\/\d{8}\/eu-west-1\/kafka-cluster\/aws4_request$/,
    );
    assert.match(url.searchParams.get('X-Amz-Signature') ?? '', /^[0-9a-f]{64}$/);
    assert.equal(url.searchParams.get('X-Amz-Expires'), '900');
    const lifeMs = expiresAtMs! - Date.now();
    assert.ok(lifeMs > 800_000 && lifeMs <= 901_000, `${lifeMs}`);
  });

  it('says that there are no credentials, by the name of the preset', async function () {
    this.timeout(30_000);
    for (const name of names) delete process.env[name];
    Object.assign(process.env, {
      AWS_EC2_METADATA_DISABLED: 'true',
      AWS_SHARED_CREDENTIALS_FILE: '/nonexistent',
      AWS_CONFIG_FILE: '/nonexistent',
    });
    await assert.rejects(tokensFrom({ from: 'aws', region: 'eu-west-1' })(), (error: Error) => {
      assert.ok(error instanceof CredentialsMissing);
      assert.match(error.message, /^msk-iam, region eu-west-1: /);
      return true;
    });
  });
});
