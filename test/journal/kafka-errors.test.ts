import assert from 'node:assert/strict';
import kafkajs from 'kafkajs';
import type { Code } from '../../src/errors.ts';
import { classify, isBug, MEANINGS, needsPerson } from '../../src/journal/kafka-errors.ts';

const { KafkaJSConnectionError, KafkaJSNonRetriableError, KafkaJSNumberOfRetriesExceeded, KafkaJSProtocolError } =
  kafkajs as unknown as Record<string, new (...args: unknown[]) => Error>;

const again = true;
const never = false;
/** Every row of the table, and what must come of it: is it worth another try, and must a person act? */
const ROWS: readonly [name: string, code: Code, retryable: boolean, person: boolean][] = [
  ['MESSAGE_TOO_LARGE', 'KAFKA_RECORD_REFUSED', never, true],
  ['RECORD_LIST_TOO_LARGE', 'KAFKA_RECORD_REFUSED', never, true],
  ['INVALID_RECORD', 'KAFKA_RECORD_REFUSED', never, true],
  ['REBALANCE_IN_PROGRESS', 'KAFKA_GENERATION_LOST', never, true],
  ['ILLEGAL_GENERATION', 'KAFKA_GENERATION_LOST', never, true],
  ['UNKNOWN_MEMBER_ID', 'KAFKA_GENERATION_LOST', never, true],
  ['FENCED_INSTANCE_ID', 'KAFKA_GENERATION_LOST', never, true],
  ['SASL_AUTHENTICATION_FAILED', 'KAFKA_AUTHENTICATION', again, true],
  ['UNSUPPORTED_SASL_MECHANISM', 'KAFKA_AUTHENTICATION', again, true],
  ['ILLEGAL_SASL_STATE', 'KAFKA_AUTHENTICATION', again, true],
  ['SECURITY_DISABLED', 'KAFKA_AUTHENTICATION', again, true],
  ['TOPIC_AUTHORIZATION_FAILED', 'KAFKA_NOT_AUTHORIZED', again, true],
  ['GROUP_AUTHORIZATION_FAILED', 'KAFKA_NOT_AUTHORIZED', again, true],
  ['CLUSTER_AUTHORIZATION_FAILED', 'KAFKA_NOT_AUTHORIZED', again, true],
  ['TRANSACTIONAL_ID_AUTHORIZATION_FAILED', 'KAFKA_NOT_AUTHORIZED', again, true],
  ['INVALID_TIMESTAMP', 'KAFKA_OTHER', again, true],
  ['UNKNOWN_TOPIC_OR_PARTITION', 'KAFKA_OTHER', again, false],
  ['LEADER_NOT_AVAILABLE', 'KAFKA_OTHER', again, false],
  ['NOT_LEADER_FOR_PARTITION', 'KAFKA_OTHER', again, false],
  ['NOT_ENOUGH_REPLICAS', 'KAFKA_OTHER', again, false],
  ['NOT_ENOUGH_REPLICAS_AFTER_APPEND', 'KAFKA_OTHER', again, false],
  ['KAFKA_STORAGE_ERROR', 'KAFKA_OTHER', again, false],
  ['CORRUPT_MESSAGE', 'KAFKA_OTHER', again, false],
  ['REQUEST_TIMED_OUT', 'KAFKA_OTHER', again, false],
  ['GROUP_LOAD_IN_PROGRESS', 'KAFKA_OTHER', again, false],
  ['GROUP_COORDINATOR_NOT_AVAILABLE', 'KAFKA_OTHER', again, false],
  ['NOT_COORDINATOR_FOR_GROUP', 'KAFKA_OTHER', again, false],
  ['NOT_CONTROLLER', 'KAFKA_OTHER', again, false],
  ['OFFSET_METADATA_TOO_LARGE', 'KAFKA_OTHER', never, true],
  ['OFFSET_OUT_OF_RANGE', 'LOG_TRUNCATED', never, true],
  ['INVALID_REPLICATION_FACTOR', 'KAFKA_OTHER', again, false],
  ['ECONNREFUSED', 'KAFKA_UNREACHABLE', again, false],
  ['ECONNRESET', 'KAFKA_UNREACHABLE', again, false],
  ['EPIPE', 'KAFKA_UNREACHABLE', again, false],
  ['ETIMEDOUT', 'KAFKA_UNREACHABLE', again, false],
  ['EHOSTUNREACH', 'KAFKA_UNREACHABLE', again, false],
  ['ENETUNREACH', 'KAFKA_UNREACHABLE', again, false],
  ['ENOTFOUND', 'KAFKA_UNREACHABLE', again, false],
  ['EAI_AGAIN', 'KAFKA_UNREACHABLE', again, false],
  ['DEPTH_ZERO_SELF_SIGNED_CERT', 'KAFKA_AUTHENTICATION', again, true],
  ['SELF_SIGNED_CERT_IN_CHAIN', 'KAFKA_AUTHENTICATION', again, true],
  ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'KAFKA_AUTHENTICATION', again, true],
  ['UNABLE_TO_GET_ISSUER_CERT_LOCALLY', 'KAFKA_AUTHENTICATION', again, true],
  ['CERT_HAS_EXPIRED', 'KAFKA_AUTHENTICATION', again, true],
  ['ERR_TLS_CERT_ALTNAME_INVALID', 'KAFKA_AUTHENTICATION', again, true],
  ['CERT_NOT_YET_VALID', 'KAFKA_AUTHENTICATION', again, true],
  ['ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED', 'KAFKA_AUTHENTICATION', again, true],
  ['ERR_SSL_SSLV3_ALERT_CERTIFICATE_UNKNOWN', 'KAFKA_AUTHENTICATION', again, true],
  ['ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE', 'KAFKA_AUTHENTICATION', again, true],
  ['ERR_SSL_TLSV1_ALERT_UNKNOWN_CA', 'KAFKA_AUTHENTICATION', again, true],
  ['ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED', 'KAFKA_AUTHENTICATION', again, true],
  ['KafkaTokenRefused', 'KAFKA_AUTHENTICATION', again, true],
  ['KafkaCredentialsMissing', 'KAFKA_AUTHENTICATION', again, true],
  ['KafkaBatchUnreadable', 'KAFKA_BATCH_UNREADABLE', again, true],
  ['KafkaJSSASLAuthenticationError', 'KAFKA_AUTHENTICATION', again, true],
  ['KafkaJSConnectionClosedError', 'KAFKA_UNREACHABLE', again, false],
  ['KafkaJSConnectionError', 'KAFKA_UNREACHABLE', again, false],
  ['KafkaJSRequestTimeoutError', 'KAFKA_UNREACHABLE', again, false],
  ['KafkaJSBrokerNotFound', 'KAFKA_UNREACHABLE', again, false],
  ['KafkaJSNoBrokerAvailableError', 'KAFKA_UNREACHABLE', again, false],
  ['KafkaJSGroupCoordinatorNotFound', 'KAFKA_UNREACHABLE', again, false],
  ['KafkaJSTopicMetadataNotLoaded', 'KAFKA_OTHER', again, false],
  ['KafkaJSMetadataNotLoaded', 'KAFKA_OTHER', again, false],
  ['KafkaJSLockTimeout', 'KAFKA_UNREACHABLE', again, false],
];

/** The error as kafkajs makes it: a protocol error, a connection error with a socket's code, or its own class. */
function original(name: string): Error {
  if (name.startsWith('KafkaJS')) {
    const make = (kafkajs as unknown as Record<string, new (...args: unknown[]) => Error>)[name];
    assert.ok(make, `kafkajs has no ${name}`);
    return new make('as kafkajs says it', {});
  }
  if (/^[A-Z]+$|^EAI|CERT|LEAF|SIGNED/.test(name)) return new KafkaJSConnectionError!('socket', { code: name });
  return new KafkaJSProtocolError!({ message: 'as the broker says it', type: name, code: 1, retriable: false });
}

describe('what a failure of kafkajs means', () => {
  it('is said for every row of the table', () => {
    assert.deepEqual(ROWS.map(([name]) => name).sort(), Object.keys(MEANINGS).sort());
  });

  for (const [name, code, retryable, person] of ROWS) {
    it(`${name} is ${code}, ${retryable ? 'worth another try' : 'final'}${person ? ', and needs a person' : ''}`, () => {
      const bare = original(name);
      const gaveUp = new KafkaJSNumberOfRetriesExceeded!(bare, { retryCount: 0, retryTime: 0 });
      const wrapped = new KafkaJSNonRetriableError!(gaveUp, { cause: gaveUp });
      for (const error of [bare, gaveUp, wrapped]) {
        const failure = classify(error, 'appending to t');
        assert.equal(failure.code, code);
        assert.equal(failure.retryable, retryable);
        assert.equal(needsPerson(failure), person);
        assert.match(failure.message, /^appending to t: /);
        assert.equal(failure.cause, error);
      }
    });
  }

  it('is another try for everything it does not know', () => {
    for (const thrown of [new Error('odd'), 'text', { type: 'SOMETHING_NEW' }, undefined, null, 7]) {
      const failure = classify(thrown, 'doing');
      assert.equal(failure.code, 'KAFKA_OTHER');
      assert.equal(failure.retryable, true);
    }
  });

  it('is found in the errors of several topics', () => {
    const inner = original('INVALID_REPLICATION_FACTOR');
    const all = Object.assign(new Error('Topic creation errors'), { errors: [inner] });
    assert.match(classify(all, 'creating').message, /fewer brokers/);
  });

  it('does not follow a cycle of causes for ever', () => {
    const error = new Error('round');
    error.cause = error;
    assert.equal(classify(error, 'doing').code, 'KAFKA_OTHER');
  });

  it('does not take a property of every object for a row', () => {
    assert.equal(classify({ type: 'constructor', name: 'toString' }, 'doing').code, 'KAFKA_OTHER');
  });

  it('tells a bug from trouble, also inside of kafkajs’ wrapping', () => {
    const bug = new KafkaJSNonRetriableError!('x', { cause: new TypeError('undefined is not a function') });
    assert.equal(isBug(bug), true);
    assert.equal(isBug(original('ECONNREFUSED')), false);
  });
});
