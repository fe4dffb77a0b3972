/**
 * What each failure of kafkajs means to us. kafkajs wraps: the outermost error is usually `KafkaJSNonRetriableError` or
 * `KafkaJSNumberOfRetriesExceeded`, whose `retriable: false` only says that *it* gave up, so the chain of causes is
 * walked for the first thing that this table knows. Whatever it does not know is worth another try: a record that waits
 * is late, a record given up is lost.
 *
 * Only a failure that blames the record itself is final (`KAFKA_RECORD_REFUSED`): the sender then looks for the guilty
 * record by halving the batch. INVALID_TIMESTAMP is not among them on purpose: it comes from a clock or a topic setting
 * that is wrong for every record alike, and waits for a person.
 */
import { type Code, type Failure, messageOf } from '../errors.ts';

interface Meaning {
  readonly code: Code;
  readonly retryable: boolean;
  /** For a person, in the place of kafkajs' own words, which follow in brackets. */
  readonly says: string;
  readonly retryAfterMs?: number;
}

/** Nothing but a person heals these, so there is no hurry to try again. */
const PERSON_PAUSE_MS = 10_000;

const refused = (says: string): Meaning => ({ code: 'KAFKA_RECORD_REFUSED', retryable: false, says });
const lost = (says: string): Meaning => ({ code: 'KAFKA_GENERATION_LOST', retryable: false, says });
const away = (says: string): Meaning => ({ code: 'KAFKA_UNREACHABLE', retryable: true, says });
const passing = (says: string): Meaning => ({ code: 'KAFKA_OTHER', retryable: true, says });
const person = (code: Code, says: string): Meaning => ({ code, retryable: true, says, retryAfterMs: PERSON_PAUSE_MS });

const OWN_CERTIFICATE = 'Kafka does not accept our certificate, which may have expired: see kafka.tls.cert';
const LOGIN_REFUSED =
  'Kafka does not accept the login: see kafka.sasl.username, kafka.sasl.password and kafka.sasl.mechanism';

/** By the protocol's error name, the socket's error code, or the name of kafkajs' class; looked up in that order. */
export const MEANINGS: Readonly<Record<string, Meaning>> = {
  MESSAGE_TOO_LARGE: refused('the record is larger than the topic accepts (max.message.bytes)'),
  RECORD_LIST_TOO_LARGE: refused('the batch is larger than a log segment of the topic'),
  INVALID_RECORD: refused('the broker finds the record invalid'),

  REBALANCE_IN_PROGRESS: lost('the consumer group is being rebalanced'),
  ILLEGAL_GENERATION: lost('the consumer group has moved on to a new assignment'),
  UNKNOWN_MEMBER_ID: lost('the consumer group has given up on this member'),
  FENCED_INSTANCE_ID: lost('another member has taken this one’s place in the group'),

  SASL_AUTHENTICATION_FAILED: person('KAFKA_AUTHENTICATION', LOGIN_REFUSED),
  UNSUPPORTED_SASL_MECHANISM: person('KAFKA_AUTHENTICATION', 'Kafka does not offer this SASL mechanism'),
  ILLEGAL_SASL_STATE: person('KAFKA_AUTHENTICATION', 'Kafka does not expect SASL on this listener'),
  SECURITY_DISABLED: person('KAFKA_AUTHENTICATION', 'Kafka has security switched off'),
  TOPIC_AUTHORIZATION_FAILED: person('KAFKA_NOT_AUTHORIZED', 'this user may not use the topic'),
  GROUP_AUTHORIZATION_FAILED: person('KAFKA_NOT_AUTHORIZED', 'this user may not use the consumer group'),
  CLUSTER_AUTHORIZATION_FAILED: person('KAFKA_NOT_AUTHORIZED', 'this user may not do this on the cluster'),
  TRANSACTIONAL_ID_AUTHORIZATION_FAILED: person('KAFKA_NOT_AUTHORIZED', 'this user may not use the transactional id'),

  INVALID_TIMESTAMP: {
    code: 'KAFKA_OTHER',
    retryable: true,
    says: 'the received stamp is outside what the topic accepts: compare the clocks, or see message.timestamp.*.max.ms',
    retryAfterMs: PERSON_PAUSE_MS,
  },
  UNKNOWN_TOPIC_OR_PARTITION: passing('the topic or partition does not exist (yet)'),
  LEADER_NOT_AVAILABLE: passing('the partition has no leader'),
  NOT_LEADER_FOR_PARTITION: passing('the partition’s leader has moved'),
  NOT_ENOUGH_REPLICAS: passing('too few replicas of the partition are in sync (min.insync.replicas)'),
  NOT_ENOUGH_REPLICAS_AFTER_APPEND: passing('too few replicas of the partition are in sync (min.insync.replicas)'),
  KAFKA_STORAGE_ERROR: passing('the broker has trouble with its disk'),
  CORRUPT_MESSAGE: passing('the batch was damaged on its way'),
  REQUEST_TIMED_OUT: passing('the replicas did not confirm in time'),
  GROUP_LOAD_IN_PROGRESS: passing('the group’s coordinator is still starting'),
  GROUP_COORDINATOR_NOT_AVAILABLE: passing('the group has no coordinator'),
  NOT_COORDINATOR_FOR_GROUP: passing('the group’s coordinator has moved'),
  NOT_CONTROLLER: passing('the cluster’s controller has moved'),
  OFFSET_METADATA_TOO_LARGE: { code: 'KAFKA_OTHER', retryable: false, says: 'the checkpoint’s metadata is too long' },
  OFFSET_OUT_OF_RANGE: { code: 'LOG_TRUNCATED', retryable: false, says: 'the log no longer has the offset' },
  INVALID_REPLICATION_FACTOR: passing('there are fewer brokers than kafka.replication asks for'),

  ECONNREFUSED: away('nobody listens there'),
  ECONNRESET: away('the connection was cut'),
  EPIPE: away('the connection was cut'),
  ETIMEDOUT: away('no answer'),
  EHOSTUNREACH: away('no way to the host'),
  ENETUNREACH: away('no way to the network'),
  ENOTFOUND: away('the host name is unknown'),
  EAI_AGAIN: away('the host name cannot be looked up now'),
  DEPTH_ZERO_SELF_SIGNED_CERT: person(
    'KAFKA_AUTHENTICATION',
    'Kafka’s certificate is self-signed: name it as kafka.tls.ca',
  ),
  SELF_SIGNED_CERT_IN_CHAIN: person(
    'KAFKA_AUTHENTICATION',
    'Kafka’s certificate authority is not known: see kafka.tls.ca',
  ),
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: person(
    'KAFKA_AUTHENTICATION',
    'Kafka’s certificate cannot be verified: see kafka.tls.ca',
  ),
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: person(
    'KAFKA_AUTHENTICATION',
    'Kafka’s certificate cannot be verified: see kafka.tls.ca',
  ),
  CERT_HAS_EXPIRED: person(
    'KAFKA_AUTHENTICATION',
    'Kafka’s certificate has expired: renew it at the brokers, or see kafka.tls.ca',
  ),
  CERT_NOT_YET_VALID: person('KAFKA_AUTHENTICATION', 'Kafka’s certificate is not valid yet: compare the clocks'),
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED: person('KAFKA_AUTHENTICATION', OWN_CERTIFICATE),
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_UNKNOWN: person('KAFKA_AUTHENTICATION', OWN_CERTIFICATE),
  ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE: person('KAFKA_AUTHENTICATION', OWN_CERTIFICATE),
  ERR_SSL_TLSV1_ALERT_UNKNOWN_CA: person('KAFKA_AUTHENTICATION', OWN_CERTIFICATE),
  ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED: person(
    'KAFKA_AUTHENTICATION',
    'Kafka asks for a certificate: see kafka.tls.cert',
  ),

  ERR_TLS_CERT_ALTNAME_INVALID: person('KAFKA_AUTHENTICATION', 'Kafka’s certificate is for another host'),

  KafkaJSSASLAuthenticationError: person('KAFKA_AUTHENTICATION', LOGIN_REFUSED),
  KafkaTokenRefused: person('KAFKA_AUTHENTICATION', 'Kafka does not accept the token: see kafka.sasl.token_*'),
  KafkaCredentialsMissing: person('KAFKA_AUTHENTICATION', 'there is nothing to log in to Kafka with'),
  KafkaBatchUnreadable: person(
    'KAFKA_BATCH_UNREADABLE',
    'somebody wrote there with a compression that is not read here: let them use gzip or none; the partition waits until Kafka deletes what is there (retention, or kafka-delete-records)',
  ),
  KafkaJSConnectionClosedError: away('the connection was closed'),
  KafkaJSConnectionError: away('no connection'),
  KafkaJSRequestTimeoutError: away('no answer in time'),
  KafkaJSBrokerNotFound: away('the partition’s broker is away'),
  KafkaJSNoBrokerAvailableError: away('no broker is there'),
  KafkaJSGroupCoordinatorNotFound: away('the group has no coordinator'),
  KafkaJSTopicMetadataNotLoaded: passing('the topic does not exist (yet)'),
  KafkaJSMetadataNotLoaded: passing('the topic does not exist (yet)'),
  KafkaJSLockTimeout: away('the client was too busy to send'),
};

/** Causes deeper than this are somebody's cycle. */
const MAX_DEPTH = 10;

/** `doing` names what failed, as the beginning of a sentence: `appending to telemetry.readings`. */
export function classify(thrown: unknown, doing: string): Failure {
  const chain = causes(thrown);
  const meaning = find(chain, 'type') ?? find(chain, 'code') ?? find(chain, 'name');
  const innermost = messageOf(chain.at(-1) ?? thrown);
  if (!meaning) {
    return { code: 'KAFKA_OTHER', message: `${doing}: ${innermost}`, retryable: true, cause: thrown };
  }
  const { code, retryable, says, retryAfterMs } = meaning;
  const pause = retryAfterMs === undefined ? undefined : { retryAfterMs };
  return { code, message: `${doing}: ${says} (${innermost})`, retryable, ...pause, cause: thrown };
}

/** True for what stays as it is until a person changes a setting somewhere. */
export function needsPerson(failure: Failure): boolean {
  return failure.retryAfterMs === PERSON_PAUSE_MS || !failure.retryable;
}

/** A mistake in a program rather than in the world. */
export function isBug(thrown: unknown): boolean {
  return causes(thrown).some(
    (error) => error instanceof TypeError || error instanceof RangeError || error instanceof ReferenceError,
  );
}

function causes(thrown: unknown): unknown[] {
  const chain: unknown[] = [];
  for (let error = thrown; error && chain.length < MAX_DEPTH; ) {
    chain.push(error);
    const { cause, errors } = error as { cause?: unknown; errors?: unknown };
    // Creating topics fails with one error for all, which carries one for each.
    error = cause ?? (Array.isArray(errors) ? errors[0] : undefined);
  }
  return chain;
}

function find(chain: readonly unknown[], field: 'type' | 'code' | 'name'): Meaning | undefined {
  for (const error of chain) {
    const name = (error as Record<string, unknown>)[field];
    if (typeof name === 'string' && Object.hasOwn(MEANINGS, name)) return MEANINGS[name];
  }
  return undefined;
}
