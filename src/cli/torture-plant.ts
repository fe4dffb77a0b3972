/**
 * Bugs that `millrace torture --mutant NAME` plants in a build, to show that the torture finds them. Loaded before the
 * program, in each of its threads; which one is to be planted stands in this module's own address (`?plant=…`). Without
 * that nothing is changed: the command only reads the list.
 */
import { openSync } from 'node:fs';
import { devNull } from 'node:os';
import { done, type Outcome } from '../errors.ts';
import { Spool } from '../journal/spool.ts';
import type { OnDurable } from '../journal/staging.ts';
import type { LogRecord } from '../log.ts';
import { decodeReading } from '../reading.ts';
import { Engine } from '../rollup/engine.ts';
import { PartitionRollup } from '../rollup/partition.ts';

export interface PlantedBug {
  readonly text: string;
  /** Nothing that is stored is wrong by it. */
  readonly needsSoak?: boolean;
  plant(): void;
}

const EARLY_MS = 50;
/** Longer than the smallest window of a torture, so that a kill at any time finds rows that are not written. */
const WRITTEN_LATER_MS = 5_000;
/** Every so many readings one is held back until another has passed it. */
const OVERTAKEN = 40;
const FORGOTTEN = 200;
const LEAKED = 20;

type Append = (this: Spool, record: LogRecord, onDurable: OnDurable) => void;

/** Another append, of readings and refusals alike. */
function appending(change: (append: Append) => Append): void {
  Spool.prototype.append = change(Spool.prototype.append);
}

/** An engine that is given other records than the log has. */
function seeing(change: (record: Parameters<Engine['process']>[0]) => Parameters<Engine['process']>[0]): void {
  const count = Engine.prototype.process;
  Engine.prototype.process = function seeOther(record) {
    return count.call(this, change(record));
  };
}

/** An engine that answers something else than it worked out. */
function answering(change: (taken: ReturnType<Engine['take']>, engine: Engine) => ReturnType<Engine['take']>): void {
  const take = Engine.prototype.take;
  Engine.prototype.take = function takeOther() {
    return change(take.call(this), this);
  };
}

export const MUTANTS: Readonly<Record<string, PlantedBug>> = {
  'early-ack': {
    text: 'devices are acknowledged 50 ms before the reading is written',
    plant: () =>
      appending(
        (append) =>
          function appendTooLate(record, onDurable) {
            // Before the event loop does anything else.
            process.nextTick(onDurable, done);
            setTimeout(() => append.call(this, record, () => {}), EARLY_MS);
          },
      ),
  },
  'drop-when-full': {
    text: 'what finds no room on the disk is acknowledged and dropped',
    plant: () =>
      appending(
        (append) =>
          function appendOrDrop(record, onDurable) {
            append.call(this, record, (outcome: Outcome) => onDurable(outcome.ok ? outcome : done));
          },
      ),
  },
  'drop-refused': {
    text: 'refused payloads are acknowledged and not kept',
    plant: () =>
      appending(
        (append) =>
          function appendReadings(record, onDurable) {
            if (record.kind === 'refusal') process.nextTick(onDurable, done);
            else append.call(this, record, onDurable);
          },
      ),
  },
  overtake: {
    text: 'now and then a reading overtakes the one before it',
    plant: () => {
      let count = 0;
      let held: { record: LogRecord; onDurable: OnDurable } | null = null;
      appending(
        (append) =>
          function appendOutOfOrder(record, onDurable) {
            if (record.kind === 'reading' && held === null && ++count % OVERTAKEN === 0) {
              held = { record, onDurable };
              return;
            }
            append.call(this, record, onDurable);
            // Behind the next reading of the same device.
            if (held === null || record.topic !== held.record.topic) return;
            append.call(this, held.record, held.onDurable);
            held = null;
          },
      );
    },
  },
  'commit-before-write': {
    text: 'the position is committed before the rows are durable',
    plant: () => {
      const persist = PartitionRollup.prototype.persist;
      PartitionRollup.prototype.persist = async function persistLater(what, action) {
        if (what !== 'store') return persist.call(this, what, action) as never;
        setTimeout(() => persist.call(this, what, action), WRITTEN_LATER_MS);
        return { refused: [] } as never;
      };
    },
  },
  'commit-read-position': {
    text: 'the position that was read is committed, not that of the oldest open window',
    plant: () =>
      answering((taken, { position }) =>
        taken.checkpoint === null ? taken : { ...taken, checkpoint: { ...taken.checkpoint, offset: position } },
      ),
  },
  'no-dedupe': {
    text: 'a reading that is delivered twice is counted twice',
    plant: () =>
      seeing((record) => {
        if (record.kind !== 'reading') return record;
        // In the order in which readings are written.
        const { payload, ...reading } = JSON.parse(Buffer.from(record.value).toString());
        const unique = { ...reading, identity: String(record.offset), payload };
        return { ...record, value: Buffer.from(JSON.stringify(unique)) };
      }),
  },
  'device-time': {
    text: "the devices' clocks close windows",
    plant: () =>
      seeing((record) => {
        const reading = record.kind === 'reading' ? decodeReading(Buffer.from(record.value).toString()) : null;
        return reading === null ? record : { ...record, receivedMs: reading.timeMs };
      }),
  },
  'late-unlisted': {
    text: 'late readings are left out without being listed',
    plant: () => answering((taken) => ({ ...taken, late: [] })),
  },
  rounded: {
    text: 'means are rounded to single precision',
    plant: () =>
      answering((taken) => ({
        ...taken,
        rows: taken.rows.map((row) => (row.mean === null ? row : { ...row, mean: Math.fround(row.mean) })),
      })),
  },
  'forget-reading': {
    text: 'now and then an acknowledged reading is not counted',
    plant: () => {
      let count = 0;
      seeing((record) =>
        record.kind === 'reading' && ++count % FORGOTTEN === 0
          ? { ...record, kind: 'tick', value: new Uint8Array(0) }
          : record,
      );
    },
  },
  'keep-payloads': {
    text: 'every record that was appended, and who waited for it with its payload, is kept in memory',
    needsSoak: true,
    plant: () => {
      const kept: { record: LogRecord; onDurable: OnDurable }[] = [];
      appending(
        (append) =>
          function appendAndKeep(record, onDurable) {
            kept.push({ record, onDurable });
            append.call(this, record, onDurable);
          },
      );
    },
  },
  'leak-handles': {
    text: 'now and then a file is opened and not closed',
    needsSoak: true,
    plant: () => {
      let count = 0;
      appending(
        (append) =>
          function appendAndOpen(record, onDurable) {
            if (++count % LEAKED === 0) openSync(devNull, 'r');
            append.call(this, record, onDurable);
          },
      );
    },
  },
};

const wanted = new URL(import.meta.url).searchParams.get('plant');
if (wanted !== null) MUTANTS[wanted]!.plant();
