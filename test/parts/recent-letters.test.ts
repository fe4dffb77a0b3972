import assert from 'node:assert/strict';
import type { LogRecord, StoredRecord } from '../../src/log.ts';
import { refusalRecord } from '../../src/parts/accept.ts';
import { findDeadLetters, markRecord } from '../../src/parts/dead-letters.ts';
import { RecentLetters } from '../../src/parts/recent-letters.ts';
import type { DeadLetter } from '../../src/view/feed.ts';
import { MemoryLog } from '../support/memory-log.ts';
import { Random } from '../support/random.ts';
import { tickRecord } from '../support/readings.ts';

const T = 1_700_000_000_000;

/** Counts what is read. */
class CountingLog extends MemoryLog {
  read = 0;
  override async *range(partition: number, fromOffset: number, toOffset: number) {
    for await (const batch of super.range(partition, fromOffset, toOffset)) {
      this.read += batch.records.length;
      yield batch;
    }
  }
  add(partition: number, record: LogRecord): void {
    this.records[partition]!.push({ ...record, offset: this.records[partition]!.length });
  }
}

function letter(text: string, receivedMs: number): LogRecord {
  const payload = Buffer.from(text);
  return refusalRecord(
    { code: 'malformed', reason: 'not JSON', field: '', stream: 's', topic: 's/d', client: 'd', payload },
    receivedMs,
  );
}

describe('the newest dead letters', () => {
  it('are those that a whole search finds, whatever came between two looks', async () => {
    for (let seed = 1; seed <= 30; seed++) {
      const generator = new Random(seed);
      const random = () => generator.next();
      const log = new CountingLog([[], []]);
      const recent = new RecentLetters(log);
      let nowMs = T;
      for (let look = 0; look < 12; look++) {
        for (let i = random() * 60; i > 0; i--) {
          const partition = random() < 0.2 ? 1 : 0;
          const end = log.records[partition]!.length;
          const luck = random();
          nowMs++;
          if (luck < 0.2) log.add(partition, letter(`${seed} ${nowMs}`, nowMs));
          else if (luck < 0.25) log.add(partition, markRecord(`${partition}-${Math.floor(random() * end)}`, nowMs));
          else log.add(partition, tickRecord(0, nowMs));
        }
        const oldest = log.firstOffsets[0]!;
        if (random() < 0.1) log.firstOffsets[0] = oldest + Math.floor((log.records[0]!.length - oldest) * random());
        const limit = [3, 20, 100][Math.floor(random() * 3)]!;
        const [quick, whole] = [
          await recent.list({ limit, sinceMs: 0 }),
          await findDeadLetters(log, { limit, sinceMs: 0 }),
        ];
        assert.ok(quick.ok && whole.ok);
        assert.deepEqual(brief(quick.value), brief(whole.value), `seed ${seed}, look ${look}, limit ${limit}`);
      }
    }
  });

  it('cost what came since the last look, not the whole log', async () => {
    const records: StoredRecord[] = Array.from({ length: 50_000 }, (_, offset) => tickRecord(offset, T + offset));
    const log = new CountingLog([records]);
    log.add(0, letter('one', T + 50_000));
    const recent = new RecentLetters(log);
    await recent.list({ limit: 20, sinceMs: 0 });
    assert.equal(log.read, 50_001);
    log.read = 0;
    for (let i = 0; i < 10; i++) log.add(0, tickRecord(0, T + 50_001 + i));
    const answers = await Promise.all([1, 2, 3].map(() => recent.list({ limit: 20, sinceMs: 0 })));
    assert.equal(log.read, 10);
    for (const answer of answers) assert.equal(answer.ok && answer.value.length, 1);
  });

  it('keep the beginning of a large payload, and its size', async () => {
    const log = new CountingLog([[]]);
    log.add(0, letter('x'.repeat(100_000), T));
    const recent = new RecentLetters(log);
    for (let look = 0; look < 2; look++) {
      const found = await recent.list({ limit: 20, sinceMs: 0 });
      assert.ok(found.ok);
      assert.equal(found.value[0]!.refusal.payload.byteLength, 2_048);
      assert.equal(found.value[0]!.payloadBytes, 100_000);
    }
  });
});

function brief(letters: readonly DeadLetter[]): string[] {
  return letters.map(({ id, receivedMs, requeuedMs }) => `${id} ${receivedMs} ${requeuedMs}`);
}
