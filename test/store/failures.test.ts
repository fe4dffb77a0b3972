import assert from 'node:assert/strict';
import { HttpError, RequestTimedOutError } from '@influxdata/influxdb-client';
import { aboutLines, classify } from '../../src/store/failures.ts';
import { StatementFailed } from '../../src/store/influxql.ts';

const at = 'InfluxDB at http://x';

function http(status: number, message = 'said', headers: Record<string, string> = {}): HttpError {
  const body = JSON.stringify({ code: 'x', message });
  return new HttpError(status, 'Status', body, headers['retry-after'], 'application/json', undefined, headers);
}

describe('a failure of InfluxDB', () => {
  it('has a code, and says whether trying again can help', () => {
    const cases: [unknown, string, boolean][] = [
      [http(401), 'STORE_AUTHENTICATION', false],
      [http(403), 'STORE_AUTHENTICATION', false],
      [http(404), 'STORE_NOT_FOUND', false],
      [http(429), 'STORE_BUSY', true],
      [http(503), 'STORE_BUSY', true],
      [http(500), 'STORE_OTHER', true],
      [http(502), 'STORE_OTHER', true],
      [http(504), 'STORE_OTHER', true],
      [http(408), 'STORE_OTHER', true],
      [http(400), 'STORE_OTHER', false],
      [http(302), 'STORE_OTHER', false],
      [new RequestTimedOutError(), 'STORE_UNREACHABLE', true],
      [Object.assign(new Error('connect'), { code: 'ECONNREFUSED' }), 'STORE_UNREACHABLE', true],
      ['thrown text', 'STORE_UNREACHABLE', true],
      [undefined, 'STORE_UNREACHABLE', true],
      [new StatementFailed('database not found: x'), 'STORE_NOT_FOUND', false],
      [new StatementFailed('default retention policy not set for: x'), 'STORE_NOT_FOUND', false],
      [new StatementFailed('insufficient permissions'), 'STORE_AUTHENTICATION', false],
      [new StatementFailed('query killed'), 'STORE_OTHER', true],
    ];
    for (const [thrown, code, retryable] of cases) {
      const { failure } = classify(thrown, at);
      assert.deepEqual([failure.code, failure.retryable], [code, retryable], String(thrown));
      assert.match(failure.message, /^InfluxDB at http:\/\/x/);
    }
  });

  it('carries the pause that the server asked for, in seconds or as a date, within reason', () => {
    const wait = (headers: Record<string, string>) => classify(http(429, 'm', headers), at).failure.retryAfterMs;
    assert.equal(wait({ 'retry-after': '7' }), 7_000);
    assert.equal(wait({ 'retry-after': '99999999' }), 300_000);
    const date = 'Wed, 21 Oct 2015 07:28:00 GMT';
    assert.equal(wait({ 'retry-after': 'Wed, 21 Oct 2015 07:28:30 GMT', date }), 30_000);
    assert.equal(wait({ 'retry-after': 'Wed, 21 Oct 2015 07:27:00 GMT', date }), undefined);
    assert.equal(wait({ 'retry-after': 'soon', date }), undefined);
    assert.equal(wait({}), undefined);
  });

  it('names the lines that InfluxDB quotes', () => {
    const lines = ['good a=1 1', 'bad1, 2', 'good a=1 3', 'bad2 4'];
    const message = "unable to parse 'bad1, 2': missing tag key\nunable to parse 'bad2 4': invalid field format";
    const answer = aboutLines(http(400, message), lines);
    assert(answer?.kind === 'none-stored');
    assert.deepEqual(
      [...answer.named],
      [
        [1, 'missing tag key'],
        [3, 'invalid field format'],
      ],
    );
  });

  it('says how many lines a 422 dropped', () => {
    const message = 'failure writing points to database: partial write: field type conflict: x dropped=3';
    assert.deepEqual(aboutLines(http(422, message), []), { kind: 'others-stored', dropped: 3, said: message });
  });

  it('blames no row for an answer that is not from the line parser', () => {
    const plain = new HttpError(400, 'Bad Request', '<html>plain HTTP request sent to HTTPS port', null, 'text/html');
    for (const thrown of [
      plain,
      http(400, 'org is required'),
      http(422, 'bucket name is taken'),
      http(500),
      new Error('x'),
    ]) {
      assert.equal(aboutLines(thrown, ['a']), null);
    }
    assert.equal(aboutLines(http(413), ['a'])?.kind, 'too-large');
  });
});
