/** The `kafka:` section: what each preset sets, what the user's words change, and every login that cannot work. */
import assert from 'node:assert/strict';
import { PRESET_NAMES, PRESETS } from '../../src/config/kafka.ts';
import { formatMistake } from '../../src/config/report.ts';
import { type Config, parseConfig } from '../../src/config.ts';

const STREAM = 'streams: { s: { topic: "t/{device}", time: ts, metrics: [x] } }\n';

function parse(kafka: string, env: Record<string, string> = {}) {
  return parseConfig(`kafka: { brokers: ["k:9092"]${kafka} }\n${STREAM}`, {
    file: 'm.yaml',
    env,
    baseFolder: '/etc/m',
    hostName: 'h',
  });
}

function valid(kafka: string): NonNullable<Config['kafka']> {
  const loaded = parse(kafka);
  assert.ok(loaded.ok, JSON.stringify(loaded));
  return loaded.config.kafka!;
}

/** Without the place. */
function mistakes(kafka: string): string[] {
  const loaded = parse(kafka);
  assert.ok(!loaded.ok, 'it must not be valid');
  return loaded.mistakes.map((one) => formatMistake(one).replace(/^\S+ /, ''));
}

const password = 'password: p';
const noFiles = { ca: null, cert: null, key: null };

describe('kafka.preset', () => {
  const cases: Record<(typeof PRESET_NAMES)[number], { sasl: string; login: unknown; more?: object }> = {
    'msk-iam': {
      sasl: 'sasl: { region: eu-west-1 }',
      login: { mechanism: 'oauthbearer', token: { from: 'aws', region: 'eu-west-1' }, extensions: {} },
    },
    'msk-scram': {
      sasl: `sasl: { username: u, ${password} }`,
      login: { mechanism: 'scram-sha-512', username: 'u', password: 'p' },
    },
    'confluent-cloud': {
      sasl: `sasl: { username: u, ${password} }`,
      login: { mechanism: 'plain', username: 'u', password: 'p' },
      more: { replicationFactor: 3 },
    },
    'event-hubs': {
      sasl: `sasl: { ${password} }`,
      login: { mechanism: 'plain', username: '$ConnectionString', password: 'p' },
      more: { compression: 'none', createTopics: false, requestBytes: 1_000_000, sessionTimeoutMs: 30_000 },
    },
    'google-managed': {
      sasl: 'sasl: {}',
      login: {
        mechanism: 'oauthbearer',
        token: {
          from: 'google',
          url: 'http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token',
        },
        extensions: {},
      },
    },
    redpanda: {
      sasl: `sasl: { username: u, ${password} }`,
      login: { mechanism: 'scram-sha-256', username: 'u', password: 'p' },
    },
  };
  for (const [name, { sasl, login, more = {} }] of Object.entries(cases)) {
    it(`${name} turns TLS on and sets how to log in${Object.keys(more).length > 0 ? ', and what it needs' : ''}`, () => {
      const plain = valid('');
      const { tls, sasl: made, ...rest } = valid(`, preset: ${name}, ${sasl}`);
      const { tls: _, sasl: __, ...before } = plain;
      assert.deepEqual(tls, noFiles);
      assert.deepEqual(made, login);
      assert.deepEqual(rest, { ...before, ...more });
    });
  }

  it('gives way to what the user writes', () => {
    const made = valid(
      ', preset: event-hubs, compression: gzip, create_topics: true, request: 900KiB, session_timeout: 10s, sasl: { username: me, password: p }, tls: { ca: ca.pem }',
    );
    assert.deepEqual(
      [made.compression, made.createTopics, made.requestBytes, made.sessionTimeoutMs, made.tls],
      ['gzip', true, 900 * 1024, 10_000, { ...noFiles, ca: '/etc/m/ca.pem' }],
    );
    assert.deepEqual(made.sasl, { mechanism: 'plain', username: 'me', password: 'p' });
  });

  it('msk-iam takes the region from the name of the broker, and needs nothing more', () => {
    const region = (broker: string) => {
      const loaded = parseConfig(`kafka: { brokers: ["${broker}"], preset: msk-iam }\n${STREAM}`, {
        file: 'm.yaml',
        env: {},
        baseFolder: '/',
        hostName: 'h',
      });
      assert.ok(loaded.ok, JSON.stringify(loaded));
      const { sasl } = loaded.config.kafka!;
      assert.ok(sasl?.mechanism === 'oauthbearer' && sasl.token.from === 'aws');
      return sasl.token.region;
    };
    assert.equal(region('b-1.plant.abc123.c2.kafka.eu-central-1.amazonaws.com:9098'), 'eu-central-1');
    assert.equal(region('boot-abc.c1.kafka-serverless.us-east-2.amazonaws.com:9098'), 'us-east-2');
    assert.deepEqual(mistakes(', preset: msk-iam'), [
      'kafka.brokers: the name of the broker does not say the AWS region; add sasl: { region: eu-west-1 }',
    ]);
  });

  it('google-managed takes the key file of a service account for PLAIN', () => {
    const made = valid(', preset: google-managed, sasl: { key_file: key.json }');
    assert.deepEqual(made.sasl, { mechanism: 'plain', keyFile: '/etc/m/key.json' });
  });

  it('redpanda may be without TLS and login, as on a machine of one’s own', () => {
    const made = valid(', preset: redpanda, tls: false');
    assert.deepEqual([made.tls, made.sasl], [null, null]);
  });

  it('lets every batch of the defaults through what the service takes in one message', () => {
    const { batchBytes } = valid('');
    for (const name of PRESET_NAMES) assert.ok(batchBytes <= PRESETS[name].messageBytes, name);
  });
});

describe('kafka.start', () => {
  const begin = (text: string) => {
    const loaded = parse(text);
    assert.ok(loaded.ok, JSON.stringify(loaded));
    return loaded.config.rollup.begin;
  };

  it('is earliest, latest or a time', () => {
    assert.equal(begin(''), undefined);
    assert.equal(begin(', start: earliest'), undefined);
    assert.equal(begin(', start: latest'), 'latest');
    assert.equal(begin(', start: 2026-01-31T12:00:00+01:00'), Date.UTC(2026, 0, 31, 11));
    assert.equal(begin(', start: 2026-01-31T12:00Z'), Date.UTC(2026, 0, 31, 12));
  });

  for (const [value, says] of [
    [
      'newest',
      'kafka.start: "newest" is not of the right form; expected earliest, latest, or a time such as 2026-01-31T12:00:00Z',
    ],
    [
      '2026-02-31',
      'kafka.start: "2026-02-31" is not of the right form; expected earliest, latest, or a time such as 2026-01-31T12:00:00Z',
    ],
    [
      '2026-13-01T00:00:00Z',
      'kafka.start: "2026-13-01T00:00:00Z" is not a time; expected earliest, latest, or a time such as 2026-01-31T12:00:00Z',
    ],
  ] as const) {
    it(`is not ${value}`, () => assert.deepEqual(mistakes(`, start: ${value}`), [says]));
  }
});

describe('kafka.schema_registry', () => {
  it('is off by default, and Avro that registers itself when it is on', () => {
    assert.equal(valid('').schemaRegistry, null);
    const { schemaRegistry } = valid(', schema_registry: { url: "https://r:8081" }');
    assert.deepEqual(schemaRegistry, {
      ...{ url: 'https://r:8081', format: 'avro', register: true, username: null, password: null, timeoutMs: 10_000 },
    });
    const login = 'username: u, password_file: p, format: json, register: false';
    const made = valid(`, schema_registry: { url: "https://r", ${login} }`).schemaRegistry!;
    assert.deepEqual(
      [made.username, made.password, made.format, made.register],
      ['u', { file: '/etc/m/p' }, 'json', false],
    );
  });

  for (const [what, text, line] of [
    [
      'an address that is none',
      'url: r',
      'kafka.schema_registry.url: "r" is not an address; expected an address that starts with https:// or http://',
    ],
    [
      'a password in the address',
      'url: "https://u:p@r"',
      'kafka.schema_registry.url: an address with a password in it is shown in logs; use the settings for it',
    ],
    [
      'a user without a password',
      'url: "https://r", username: u',
      'kafka.schema_registry.password: is missing; expected text',
    ],
    [
      'a password without a user',
      'url: "https://r", password: p',
      'kafka.schema_registry.password: a password without a user name',
    ],
    [
      'another format',
      'url: "https://r", format: protobuf',
      'kafka.schema_registry.format: "protobuf" is not known; expected one of avro, json',
    ],
  ] as const) {
    it(`finds ${what}`, () => assert.deepEqual(mistakes(`, schema_registry: { ${text} }`), [line]));
  }
});

describe('kafka.sasl', () => {
  it('takes a password, or the file of it', () => {
    const made = valid(', sasl: { username: u, password_file: secret/pw }');
    assert.deepEqual(made.sasl, {
      mechanism: 'scram-sha-512',
      username: 'u',
      password: { file: '/etc/m/secret/pw' },
    });
  });

  it('takes a token from a file, a program or a server, without naming the mechanism', () => {
    const token = (text: string) => {
      const { sasl } = valid(`, tls: true, sasl: { ${text} }`);
      assert.ok(sasl?.mechanism === 'oauthbearer');
      return sasl;
    };
    assert.deepEqual(token('token_file: t').token, { from: 'file', file: '/etc/m/t' });
    assert.deepEqual(token('token_command: [print-token, "-a"]').token, {
      from: 'command',
      command: ['print-token', '-a'],
    });
    const login = 'token_url: "https://l/t", client_id: c, client_secret_file: s, scope: kafka';
    const made = token(`${login}, extensions: { logicalCluster: lkc-1 }`);
    assert.deepEqual(made, {
      mechanism: 'oauthbearer',
      token: { from: 'url', url: 'https://l/t', clientId: 'c', clientSecret: { file: '/etc/m/s' }, scope: 'kafka' },
      extensions: { logicalCluster: 'lkc-1' },
    });
  });

  const wrong: Record<string, { text: string; lines: string[] }> = {
    'a preset without its password': {
      text: ', preset: msk-scram, sasl: { username: u }',
      lines: ['kafka.sasl.password: is missing; expected text'],
    },
    'a preset without any login': {
      text: ', preset: confluent-cloud',
      lines: ['kafka.preset: confluent-cloud needs a login; add sasl: { username: ..., password: ... }'],
    },
    'a preset that is not known': {
      text: ', preset: event-hub',
      lines: [
        'kafka.preset: "event-hub" is not known; expected one of msk-iam, msk-scram, confluent-cloud, event-hubs, google-managed, redpanda; did you mean "event-hubs"?',
      ],
    },
    'a mechanism that the service does not offer': {
      text: `, preset: msk-scram, sasl: { mechanism: plain, username: u, ${password} }`,
      lines: ['kafka.sasl.mechanism: plain is not offered by msk-scram; expected scram-sha-512'],
    },
    'a service without TLS': {
      text: `, preset: msk-scram, tls: false, sasl: { username: u, ${password} }`,
      lines: ['kafka.tls: msk-scram answers over TLS only; leave it out'],
    },
    'a password and its file': {
      text: ', sasl: { username: u, password: p, password_file: f }',
      lines: ['kafka.sasl.password_file: there is password too; keep one of them'],
    },
    'a token for a password': {
      text: `, sasl: { mechanism: scram-sha-256, username: u, ${password}, token_file: t }`,
      lines: ['kafka.sasl.token_file: has no effect with scram-sha-256; leave it out'],
    },
    'two sources of tokens': {
      text: ', sasl: { token_file: t, token_command: [x] }',
      lines: ['kafka.sasl.token_command: there is token_file too; keep one of them'],
    },
    'oauthbearer without a token': {
      text: ', sasl: { mechanism: oauthbearer }',
      lines: ['kafka.sasl: oauthbearer needs a token; expected token_file, token_command or token_url'],
    },
    'a server for tokens without who asks': {
      text: ', sasl: { token_url: "https://l/t" }',
      lines: ['kafka.sasl.client_id: is missing; expected text', 'kafka.sasl.client_secret: is missing; expected text'],
    },
    'a client id for a token file': {
      text: ', sasl: { token_file: t, client_id: c }',
      lines: ['kafka.sasl.client_id: belongs to token_url'],
    },
    'a key file elsewhere': {
      text: ', tls: true, sasl: { key_file: k }',
      lines: ['kafka.sasl.key_file: is for preset: google-managed, with mechanism plain'],
    },
    'a region elsewhere': {
      text: ', sasl: { token_file: t, region: eu-west-1 }',
      lines: ['kafka.sasl.region: is for preset: msk-iam'],
    },
    'a batch that is larger than a request': {
      text: ', batch: 2MiB, request: 1MiB',
      lines: ['kafka.batch: 2.0 MiB is more than one request, 1.0 MiB'],
    },
  };
  for (const [what, { text, lines }] of Object.entries(wrong)) {
    it(`finds ${what}`, () => assert.deepEqual(mistakes(text).sort(), [...lines].sort()));
  }

  it('never shows a secret, wherever the mistake is', () => {
    const text =
      ', batch: 1, sasl: { username: u, password: hunter2, password_file: f, client_secret: hunter2, mechanism: 7 }';
    const loaded = parse(text);
    assert.ok(!loaded.ok && loaded.mistakes.length >= 3);
    assert.doesNotMatch(JSON.stringify(loaded), /hunter2/);
  });

  it('warns of a batch that is larger than what the service takes', () => {
    const loaded = parse(`, preset: msk-scram, batch: 2MiB, sasl: { username: u, ${password} }`);
    assert.ok(loaded.ok);
    assert.match(loaded.warnings.map(formatMistake).join(), /2\.0 MiB is more than the 1\.0 MiB that msk-scram takes/);
  });
});
