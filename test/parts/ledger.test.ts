import assert from 'node:assert/strict';
import fc from 'fast-check';
import { fail, type Outcome, succeed } from '../../src/errors.ts';
import type { ForwardTally } from '../../src/journal/forward.ts';
import type { NewRecord, RecordKind } from '../../src/log.ts';
import { Ledger } from '../../src/parts/ledger.ts';

/** A spool and a forward in memory that can be told to make one mistake. */
class World {
  mistake: Mistake | null = null;
  mistakes = 0;
  readonly ledger: Ledger;
  readonly #kinds: (RecordKind | null)[] = [];
  #waiting: { kind: RecordKind; onDurable: (outcome: Outcome) => void }[] = [];
  #voided = 0;
  #voidTo = 0;
  #from = 0;
  #position = 0;
  #tally = { readReadings: 0, readOthers: 0, confirmed: 0, refused: 0 };
  /** Readings that were read and are on their way. */
  #lane = 0;
  #published: ForwardTally | undefined;

  constructor(kafka: boolean, leftOver: number) {
    for (let i = 0; i < leftOver; i++) this.#kinds.push('reading');
    const spool = {
      append: ({ kind }: NewRecord, onDurable: (outcome: Outcome) => void) =>
        void this.#waiting.push({ kind, onDurable }),
      appendBatch: (records: readonly NewRecord[], onDurable: (outcome: Outcome) => void) =>
        records.forEach(({ kind }, i) => {
          this.#waiting.push({ kind, onDurable: i === records.length - 1 ? onDurable : () => {} });
        }),
      stats: () => ({ endOffset: this.#kinds.length, voided: this.#voided, voidTo: this.#voidTo }),
    };
    this.ledger = new Ledger(spool, kafka ? () => this.#published : null);
    this.restart();
  }

  receive(kind: RecordKind): void {
    if (kind === 'reading' || kind === 'refusal') this.ledger.received(1);
    if (this.#errs('never appended')) return;
    this.ledger.append({ kind, key: '', receivedMs: 0, stream: '', topic: '', value: new Uint8Array() }, () => {});
  }

  receiveBatch(readings: number): void {
    this.ledger.received(readings);
    const record = { kind: 'reading', key: '', receivedMs: 0, stream: '', topic: '', value: new Uint8Array() } as const;
    this.ledger.appendBatch(Array<NewRecord>(readings).fill(record), () => {});
  }

  /** One group commit. */
  commit(works: boolean): void {
    const group = this.#waiting;
    this.#waiting = [];
    for (const { kind } of group) this.#kinds.push(works ? kind : null);
    if (!works) {
      this.#voided += group.length;
      this.#voidTo = this.#kinds.length;
    }
    for (const { onDurable } of group) {
      if (works && this.#errs('durable, answered with a failure')) onDurable(fail('SPOOL_IO', 'no'));
      else onDurable(works ? succeed(undefined) : fail('SPOOL_IO', 'no'));
    }
  }

  read(count: number): void {
    for (; count > 0 && this.#position < this.#kinds.length; count--, this.#position++) {
      const kind = this.#kinds[this.#position]!;
      if (kind === null || this.#position < this.#from) continue;
      if (kind === 'reading') {
        if (this.#errs('not forwarded')) continue;
        this.#tally.readReadings++;
        this.#lane++;
      } else this.#tally.readOthers++;
    }
  }

  answer(count: number, refused: boolean): void {
    for (; count > 0 && this.#lane > 0; count--, this.#lane--) {
      if (this.#errs('dropped by forward')) continue;
      this.#tally[refused ? 'refused' : 'confirmed']++;
      if (this.#errs('confirmed twice')) this.#tally.confirmed++;
    }
  }

  /** The numbers of forward reach the main thread. */
  publish(): void {
    this.#published = { ...this.#tally, position: this.#position, idle: this.#lane === 0 };
  }

  /** The forward thread has died and begins where Kafka has everything, or before. */
  restart(): void {
    this.#from = this.ledger.beginAnew();
    this.#lane = 0;
    this.#tally = { readReadings: 0, readOthers: 0, confirmed: 0, refused: 0 };
    this.#published = undefined;
  }

  settle(): void {
    this.commit(true);
    this.read(Number.MAX_SAFE_INTEGER);
    this.answer(Number.MAX_SAFE_INTEGER, false);
    this.publish();
  }

  #errs(mistake: Mistake): boolean {
    if (this.mistake !== mistake) return false;
    this.mistake = null;
    this.mistakes++;
    return true;
  }
}

const MISTAKES = [
  'never appended',
  'durable, answered with a failure',
  'not forwarded',
  'dropped by forward',
  'confirmed twice',
] as const;
type Mistake = (typeof MISTAKES)[number];

const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc
      .constantFrom<RecordKind>('reading', 'reading', 'refusal', 'tick')
      .map((kind) => (world: World) => world.receive(kind)),
  },
  { weight: 2, arbitrary: fc.integer({ min: 2, max: 5 }).map((count) => (world: World) => world.receiveBatch(count)) },
  { weight: 3, arbitrary: fc.boolean().map((works) => (world: World) => world.commit(works)) },
  { weight: 3, arbitrary: fc.nat(5).map((count) => (world: World) => world.read(count)) },
  {
    weight: 3,
    arbitrary: fc.tuple(fc.nat(5), fc.boolean()).map(
      ([count, refused]) =>
        (world: World) =>
          world.answer(count, refused),
    ),
  },
  { weight: 3, arbitrary: fc.constant((world: World) => world.publish()) },
  { weight: 1, arbitrary: fc.constant((world: World) => world.restart()) },
);

describe("The gateway's ledger", () => {
  it('balances at every moment, whatever is written, fails, is read, confirmed, refused or started again', () => {
    fc.assert(
      fc.property(fc.boolean(), fc.nat(3), fc.array(step, { maxLength: 80 }), (kafka, leftOver, steps) => {
        const world = new World(kafka, leftOver);
        for (const take of steps) {
          take(world);
          const { terms, imbalance } = world.ledger.books();
          assert.equal(imbalance, 0, JSON.stringify(terms));
          for (const [term, count] of Object.entries(terms)) assert.ok(count >= 0, `${term} is ${count}`);
        }
      }),
      { numRuns: 500 },
    );
  });

  it('says where each reading is', () => {
    const world = new World(true, 2);
    for (const kind of ['reading', 'reading', 'reading', 'reading', 'refusal', 'tick'] as const) world.receive(kind);
    assert.deepEqual(world.ledger.books().terms, terms({ received: 5, pending: 5 }));
    world.commit(true);
    world.read(5);
    world.answer(1, false);
    world.answer(1, true);
    world.publish();
    assert.deepEqual(world.ledger.books().terms, terms({ received: 5, dead_lettered: 2, forwarded: 1, spooled: 2 }));
    world.receive('reading');
    world.commit(false);
    assert.equal(world.ledger.books().terms.refused, 1);
  });

  for (const mistake of MISTAKES) {
    it(`does not balance after a planted bug: a reading that is ${mistake}`, () => {
      const world = new World(true, 1);
      for (let i = 0; i < 10; i++) world.receive('reading');
      world.settle();
      assert.equal(world.ledger.books().imbalance, 0);
      world.mistake = mistake;
      for (let i = 0; i < 10; i++) world.receive('reading');
      world.settle();
      assert.equal(world.mistakes, 1);
      assert.notEqual(world.ledger.books().imbalance, 0);
    });
  }
});

function terms(some: Partial<ReturnType<Ledger['books']>['terms']>) {
  return { received: 0, pending: 0, refused: 0, dead_lettered: 0, spooled: 0, forwarded: 0, ...some };
}
