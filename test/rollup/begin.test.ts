/**
 * A rollup that is told to begin in the middle of the log: what it writes is the truth of the whole log, what was open where it
 * began is left out, restarts go on from the commit, and `verify` knows which windows nobody had to write.
 */
import assert from 'node:assert/strict';
import { ManualClock } from '../../src/clock.ts';
import { done, fail, succeed } from '../../src/errors.ts';
import { begun } from '../../src/rollup/begin.ts';
import { decodeCheckpoint } from '../../src/rollup/checkpoint.ts';
import { type Rollup, startRollup } from '../../src/rollup/run.ts';
import { type VerifyReport, verify } from '../../src/rollup/verify.ts';
import type { Row, RowQuery } from '../../src/row.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { MemoryLog } from '../support/memory-log.ts';
import { Random } from '../support/random.ts';
import { rowKey, truthOf } from '../support/simulation-oracle.ts';
import { makeWorkload, type Workload } from '../support/simulation-workload.ts';

class Installation {
  readonly workload: Workload;
  readonly log: MemoryLog;
  readonly rows = new Map<string, Row>();
  readonly #late = new MemoryLog([[]]);

  constructor(seed: number) {
    this.workload = makeWorkload(seed, { shape: 'disordered' });
    this.log = new MemoryLog(this.workload.partitions);
  }

  async start(begin: 'latest' | number): Promise<Rollup> {
    const { graceMs, disorderMs, skewMs } = this.workload;
    const started = await startRollup({
      reader: this.log,
      group: 'rollup',
      streams: this.workload.streams,
      config: {
        ...{ graceMs, disorderMs, skewMs, begin, stages: 1, tickMs: 5_000, repair: 'off', repairDelayMs: 0 },
        ...{ maxSeries: 1_000, flushMs: 1, liveMs: 1_000 },
      },
      store: {
        write: async (rows) => {
          for (const row of rows) this.rows.set(rowKey(row), row);
          return succeed({ refused: [] });
        },
      },
      appendLate: async () => done,
      deadLetter: async () => done,
      telemetry: silentTelemetry(),
      clock: new ManualClock(0),
    });
    assert.ok(started.ok);
    return started.value;
  }

  async verify(): Promise<VerifyReport> {
    const { rows } = this;
    async function* readRows({ stream, window, fromMs, toMs }: RowQuery): AsyncIterable<Row> {
      const found = [...rows.values()].filter((row) => row.stream === stream && row.window === window);
      found.sort((a, b) => a.startMs - b.startMs);
      for (const row of found) if (row.startMs >= fromMs && row.startMs < toMs) yield row;
    }
    const { streams } = this.workload;
    const outcome = await verify({
      reader: this.log,
      lateReader: this.#late,
      ...{ group: 'rollup', streams, config: this.workload, readRows, fromMs: 0, toMs: Number.MAX_SAFE_INTEGER },
    });
    assert.ok(outcome.ok);
    return outcome.value;
  }

  /** Reads all of the log in pieces, with a new start between some of them. */
  async readAll(random: Random, begin: number): Promise<void> {
    let rollup = await this.start(begin);
    for (let piece = 0; piece < 12; piece++) {
      for (let partition = 0; partition < this.log.partitions; partition++) {
        await this.log.deliver(partition, random.integer(1, 40));
      }
      if (random.next() < 0.3) {
        await rollup.stop();
        rollup = await this.start(begin);
      }
    }
    for (let partition = 0; partition < this.log.partitions; partition++) await this.log.deliver(partition);
    await rollup.stop();
  }
}

const SEEDS = 25;

describe('a rollup that begins in the middle of the log', () => {
  it('writes true rows only, all of those that lie wholly behind the beginning, and verify agrees', async () => {
    let left = 0;
    let written = 0;
    for (let seed = 1; seed <= SEEDS; seed++) {
      const at = new Installation(seed);
      const random = new Random(seed);
      const firstMs = at.workload.partitions[0]![0]!.receivedMs;
      const begin = firstMs + random.integer(1_000, 120_000);
      await at.readAll(random, begin);
      const { graceMs, disorderMs, skewMs } = at.workload;
      const missing: string[] = [];
      for (const records of at.workload.partitions) {
        const first = records.find(({ receivedMs }) => receivedMs >= begin)!;
        const completeAfterMs = first.receivedMs + graceMs + disorderMs + skewMs;
        for (const [key, row] of truthOf(records, at.workload).rows) {
          const stored = at.rows.get(key);
          if (row.startMs > completeAfterMs) {
            if (!stored) missing.push(key);
            else assert.deepEqual(stored, row, `seed ${seed}: ${key}`);
            written++;
          } else {
            assert.equal(stored, undefined, `seed ${seed}: ${key} may be incomplete`);
            left++;
          }
        }
      }
      assert.deepEqual(missing, [], `seed ${seed}`);
      const report = await at.verify();
      assert.deepEqual([report.differences, report.pending], [0, 0], `seed ${seed}`);
      assert.ok(report.outOfReach > 0, 'and says that it left windows out');
    }
    assert.ok(left > 100 && written > 100, `${left} left out, ${written} written`);
  });

  it('is found out by verify when its commits do not say that it was told to', async () => {
    const at = new Installation(3);
    await at.readAll(new Random(3), at.workload.partitions[0]![0]!.receivedMs + 60_000);
    for (let partition = 0; partition < at.log.partitions; partition++) {
      const checkpoint = await at.log.checkpoint('rollup', partition);
      assert.ok(checkpoint.ok && checkpoint.value);
      const { offset, metadata } = checkpoint.value;
      assert.notEqual(decodeCheckpoint(checkpoint.value)!.beganAfterMs, undefined);
      at.log.setCheckpoint(partition, { offset, metadata: metadata.slice(0, metadata.lastIndexOf(' ')) });
    }
    assert.ok((await at.verify()).differences > 0);
  });

  it('with `latest` reads only what comes after it started, and with a time before the log all of it', async () => {
    const newest = new Installation(1);
    const whole = newest.log.records.map((records) => [...records]);
    const ends = whole.map((records) => records.splice(0, 30));
    newest.log.records.splice(0, newest.log.partitions, ...ends);
    const rollup = await newest.start('latest');
    assert.deepEqual(
      rollup.status().map(({ engine }) => engine.position),
      ends.map((records) => records.at(-1)!.offset + 1),
    );
    await rollup.stop();

    const all = new Installation(1);
    const old = await all.start(1);
    assert.deepEqual(
      old.status().map(({ engine }) => engine.position),
      all.workload.partitions.map((records) => records[0]!.offset),
    );
    await old.stop();
  });

  it('asks again while the log does not answer, and gives up when it is stopped', async () => {
    const assignment = { partition: 0, checkpoint: null, firstOffset: 0, endOffset: 100 };
    const stop = new AbortController();
    let asked = 0;
    const reader = new (class extends MemoryLog {
      override async offsetAtTime() {
        return ++asked < 3 ? fail('KAFKA_UNREACHABLE', 'away', { retryable: true }) : succeed(40);
      }
    })([[]]);
    const options = { reader, begin: 5, telemetry: silentTelemetry(), signal: stop.signal, pause: async () => true };
    assert.deepEqual(await begun([assignment], options), [{ ...assignment, firstOffset: 40, isChosen: true }]);
    assert.equal(asked, 3);
    asked = Number.NEGATIVE_INFINITY;
    const stopping = {
      ...options,
      pause: async () => {
        stop.abort();
        return false;
      },
    };
    assert.deepEqual(await begun([assignment], stopping), [assignment]);
  });

  it('does not choose again once it has committed', async () => {
    const checkpoint = { offset: 7, metadata: '1 - - 7 - ' };
    const assignment = { partition: 0, checkpoint, firstOffset: 0, endOffset: 100 };
    const reader = new MemoryLog([[]]);
    const signal = new AbortController().signal;
    const options = { reader, begin: 'latest' as const, telemetry: silentTelemetry(), signal, pause: async () => true };
    assert.deepEqual(await begun([assignment], options), [assignment]);
  });
});
