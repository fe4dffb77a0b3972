import assert from 'node:assert/strict';
import { ManualClock } from '../../src/clock.ts';
import type { PartKind, PartState, PipelineStatus } from '../../src/view/feed.ts';
import { KAFKA_AWAY_MS, liveness, readiness } from '../../src/view/health.ts';
import { FakeFeed } from '../support/fake-feed.ts';

const clock = new ManualClock();
const NOW = clock.nowMs();

function status(kind: PartKind, state: PartState, more: Partial<PipelineStatus> = {}, sinceMs = NOW): PipelineStatus {
  const feed = new FakeFeed(clock, { devices: 0 });
  const part = [...feed.parts.values()].find((one) => one.kind === kind)!;
  feed.setPart({ ...part, state, sinceMs });
  return { ...feed.status(), ...more };
}

describe('readiness', () => {
  it('holds while every part works', () => {
    assert.equal(readiness(status('spool', 'ok'), NOW).ok, true);
  });

  const notReady: [PartKind, PartState][] = [
    ['spool', 'full'],
    ['spool', 'failing'],
    ['spool', 'starting'],
    ['listener', 'failing'],
    ['listener', 'starting'],
    ['rollup', 'stopped'],
    ['store', 'stopped'],
  ];
  for (const [kind, state] of notReady) {
    it(`falls while the ${kind} is ${state}, and says what that means`, () => {
      const health = readiness(status(kind, state), NOW);
      assert.equal(health.ok, false);
      const part = health.parts.find((one) => one.state === state);
      assert.equal(part?.ready, false);
      assert.ok(health.reason.includes(part?.means ?? '?'));
    });
  }

  it('does not fall because Kafka or the store is away: that is what the log is for', () => {
    for (const kind of ['kafka', 'store', 'rollup'] as const) {
      const health = readiness(status(kind, 'away', {}, NOW - 86_400_000), NOW);
      assert.equal(health.ok, true, kind);
      assert.match(health.parts.find(({ state }) => state === 'away')?.means ?? '', /wait|later/);
    }
  });

  it('falls with ack: kafka when Kafka stays away, not when it is away for a moment', () => {
    const away = status('kafka', 'away', { ack: 'kafka' });
    assert.equal(readiness(away, NOW + KAFKA_AWAY_MS - 1).ok, true);
    assert.equal(readiness(away, NOW + KAFKA_AWAY_MS).ok, false);
  });

  it('falls while the process stops', () => {
    assert.equal(readiness(status('spool', 'ok', { stopping: true }), NOW).ok, false);
  });
});

describe('liveness', () => {
  it('fails only when a restart is the remedy', () => {
    for (const state of ['away', 'failing', 'full', 'starting'] as const)
      assert.equal(liveness(status('spool', state)).ok, true);
    const health = liveness(status('rollup', 'stopped'));
    assert.equal(health.ok, false);
    assert.match(health.reason, /rollup/);
  });

  it('does not fail during a stop in order', () => {
    assert.equal(liveness(status('rollup', 'stopped', { stopping: true })).ok, true);
  });
});
