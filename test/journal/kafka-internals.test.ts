/** What is changed in kafkajs, of which package.json pins the version. */
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { calmQueues, type RequestQueue } from '../../src/journal/kafka-internals.ts';

const require = createRequire(import.meta.url);

interface Queue extends RequestQueue {
  pending: { send(): void }[];
  throttledUntil: number;
  throttleCheckTimeoutId: NodeJS.Timeout | null;
  checkPendingRequests(): void;
  destroy(): void;
}

type Queues = { readonly prototype: Queue; new (options: object): Queue };

/** kafkajs' own, as yet unchanged, whatever other tests have changed. */
function freshQueues(): Queues {
  const path = require.resolve('kafkajs/src/network/requestQueue');
  const known = require.cache[path];
  delete require.cache[path];
  const fresh = require(path) as Queues;
  if (known) require.cache[path] = known;
  return fresh;
}

describe('a request queue of kafkajs', () => {
  let queue: Queue | null = null;
  afterEach(() => queue?.destroy());

  function open(Queues: Queues): Queue {
    const logger = { debug: () => {} };
    const limits = { maxInFlightRequests: 1, requestTimeout: 1_000, enforceRequestTimeout: false };
    queue = new Queues({ ...limits, clientId: 'c', broker: 'b:1', logger, isConnected: () => true });
    return queue;
  }

  it('looks for requests again and again where none waits, as it comes', () => {
    const each = open(freshQueues());
    each.checkPendingRequests();
    assert.notEqual(each.throttleCheckTimeoutId, null);
  });

  it('does not once it is calmed, however often that is done', () => {
    const fresh = freshQueues();
    for (let i = 0; i < 3; i++) calmQueues(fresh);
    const each = open(fresh);
    each.checkPendingRequests();
    assert.equal(each.throttleCheckTimeoutId, null);
  });

  it('looks again when its broker has asked it to wait, and a request waits for that', () => {
    const fresh = freshQueues();
    calmQueues(fresh);
    const each = open(fresh);
    each.throttledUntil = Date.now() + 60_000;
    each.pending.push({ send: () => assert.fail('it is not time yet') });
    each.checkPendingRequests();
    assert.notEqual(each.throttleCheckTimeoutId, null);
  });
});
