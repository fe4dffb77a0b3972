/**
 * Kafka's ways of logging in, as plain data; and the managed services, each with what it needs. A preset changes defaults
 * only: what the user writes stands, and build-kafka.ts says where that cannot work.
 */
export const MECHANISMS = ['plain', 'scram-sha-256', 'scram-sha-512', 'oauthbearer'] as const;
export type Mechanism = (typeof MECHANISMS)[number];

export const PRESET_NAMES = [
  'msk-iam',
  'msk-scram',
  'confluent-cloud',
  'event-hubs',
  'google-managed',
  'redpanda',
] as const;
export type PresetName = (typeof PRESET_NAMES)[number];

export interface Preset {
  readonly mechanism: Mechanism;
  /** The service takes no other. */
  readonly mechanisms: readonly Mechanism[];
  readonly username?: string;
  /** Nothing need be written to log in: the machine knows who it is. */
  readonly ownToken?: 'aws' | 'google';
  /** Without TLS the service does not answer. */
  readonly needsTls: boolean;
  /** What it takes at most in one message, by its documentation. */
  readonly messageBytes: number;
  readonly requestBytes?: number;
  readonly compression?: 'none';
  readonly createTopics?: false;
  readonly replicationFactor?: number;
  readonly sessionTimeoutMs?: number;
}

/** Itself, or the file in which it stands, read at every login. */
export type Secret = string | { readonly file: string };

/** How Kafka is shown who we are. Plain data, because it goes to the threads; journal/kafka-login.ts makes the login of it. */
export type KafkaSasl =
  | {
      readonly mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512';
      readonly username: string;
      readonly password: Secret;
    }
  /** Google's form of a login by service account: its key file is the password, and says the user name. */
  | { readonly mechanism: 'plain'; readonly keyFile: string }
  | {
      readonly mechanism: 'oauthbearer';
      readonly token: TokenSource;
      /** Sent beside the token, such as the logical cluster of Confluent Cloud. */
      readonly extensions: Readonly<Record<string, string>>;
    };

/** Where tokens for OAUTHBEARER come from. */
export type TokenSource =
  | { readonly from: 'file'; readonly file: string }
  /** A program and its arguments; it prints the token. */
  | { readonly from: 'command'; readonly command: readonly string[] }
  /** OAuth 2 client credentials. */
  | {
      readonly from: 'url';
      readonly url: string;
      readonly clientId: string;
      readonly clientSecret: Secret;
      readonly scope: string | null;
    }
  /** Signed with the credentials that the AWS SDK finds. */
  | { readonly from: 'aws'; readonly region: string }
  /** Google's metadata server, as every virtual machine there reaches it. */
  | { readonly from: 'google'; readonly url: string };

export interface SchemaRegistryConfig {
  readonly url: string;
  readonly format: 'avro' | 'json';
  /** Otherwise the schema must be there. */
  readonly register: boolean;
  readonly username: string | null;
  readonly password: Secret | null;
  readonly timeoutMs: number;
}

const MIB = 2 ** 20;

/** By the documentation of each service; compose/kafka/README.md says what was tried. */
export const PRESETS: Readonly<Record<PresetName, Preset>> = {
  'msk-iam': {
    mechanism: 'oauthbearer',
    mechanisms: ['oauthbearer'],
    ownToken: 'aws',
    needsTls: true,
    messageBytes: MIB,
  },
  'msk-scram': { mechanism: 'scram-sha-512', mechanisms: ['scram-sha-512'], needsTls: true, messageBytes: MIB },
  'confluent-cloud': {
    mechanism: 'plain',
    mechanisms: ['plain', 'oauthbearer'],
    needsTls: true,
    messageBytes: 2 * MIB,
    replicationFactor: 3,
  },
  'event-hubs': {
    mechanism: 'plain',
    mechanisms: ['plain', 'oauthbearer'],
    username: '$ConnectionString',
    needsTls: true,
    messageBytes: MIB,
    // It closes the connection at 1,046,528.
    requestBytes: 1_000_000,
    // Packed batches are taken by the premium and dedicated tiers only.
    compression: 'none',
    // Its event hubs are made with its own tools: what Millrace asks of a topic is not among the settings it takes.
    createTopics: false,
    sessionTimeoutMs: 30_000,
  },
  'google-managed': {
    mechanism: 'oauthbearer',
    mechanisms: ['oauthbearer', 'plain'],
    ownToken: 'google',
    needsTls: true,
    messageBytes: MIB,
  },
  redpanda: {
    mechanism: 'scram-sha-256',
    mechanisms: ['scram-sha-256', 'scram-sha-512', 'plain', 'oauthbearer'],
    needsTls: false,
    messageBytes: MIB,
  },
};

/** The metadata server of Google's machines, with the access token of the account they run as. */
export const GOOGLE_TOKEN_URL =
  'http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token';
