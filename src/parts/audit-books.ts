/**
 * The books of `millrace audit`: what gateways say that they took in (account.ts) against what is in the log, by minute and
 * device, and what became of it there. Pure; fed by audit.ts in about the order of the received stamps, in which an account
 * stands behind what it counts.
 *
 *   received     = forwarded + dead-lettered + refused + spooled           the gateway's hop
 *   log records  = counted + open + late + duplicate (+ unreadable)        the rollup's hop
 *
 * A record counts once, however often it is in Kafka: a second copy has a place in its spool (`Origin`) that its partition
 * has passed. Where an account says more than the log holds, the difference is `spooled` while that device's partition has
 * not come as far as the account, and `missing` after that. Where the log holds more, it is not accounted for *yet* while the
 * last of it stands behind the newest account; else it is `unaccounted`: an account is gone, or somebody added records.
 *
 * Memory: what balances is forgotten. Kept are the minutes that have no account yet, what does not balance (MAX_IMBALANCES),
 * and totals of MAX_DEVICES devices; those beyond share one line.
 */
import type { Origin } from '../log.ts';
import type { Fate } from '../rollup/engine.ts';
import { type Account, OTHERS } from './account.ts';

export const MAX_DEVICES = 10_000;
/** Minutes of devices that do not balance and are named; all are counted. */
export const MAX_IMBALANCES = 10_000;

export interface Totals {
  /** Taken in by gateways: all that follows down to `missing`. */
  received: number;
  forwarded: number;
  deadLettered: number;
  refused: number;
  spooled: number;
  /** In an account, and not in the log. */
  missing: number;
  /** In the log, and in no account, though later ones are. */
  unaccounted: number;
  /** Reading records in the log, all copies. */
  logRecords: number;
  counted: number;
  open: number;
  late: number;
  duplicate: number;
  unreadable: number;
  /** Of a window that began before the log did. */
  outOfReach: number;
}

export const NO_TOTALS: Readonly<Totals> = {
  ...{ received: 0, forwarded: 0, deadLettered: 0, refused: 0, spooled: 0, missing: 0, unaccounted: 0 },
  ...{ logRecords: 0, counted: 0, open: 0, late: 0, duplicate: 0, unreadable: 0, outOfReach: 0 },
};

export interface Imbalance {
  readonly device: string;
  readonly minuteMs: number;
  readonly kind: 'missing' | 'unaccounted';
  readonly readings: number;
}

/** Offsets of a spool for which there is no account, between two that are there. */
export interface Gap {
  readonly spool: string;
  readonly from: number;
  readonly to: number;
}

interface Cell {
  accounted: number;
  seen: number;
  spool: string;
  firstOffset: number;
  lastOffset: number;
  /** The end of the last account that has it. */
  accountTo: number;
}

interface Minute {
  readonly cells: Map<string, Cell>;
  others: number;
}

interface Chain {
  readonly begin: number;
  to: number;
  readonly skipped: (readonly [number, number])[];
}

export interface BooksRange {
  /** Whole minutes. */
  readonly fromMs: number;
  readonly toMs: number;
  /** Only this device; absent = all. */
  readonly device?: string;
}

export interface Verdict {
  readonly totals: Readonly<Totals>;
  readonly devices: ReadonlyMap<string, Readonly<Totals>>;
  readonly imbalances: readonly Imbalance[];
  /** Those that are not named among them. */
  readonly moreImbalances: number;
  readonly gaps: readonly Gap[];
  readonly accounts: number;
  /** In the log, behind the newest account. */
  readonly notAccountedYet: number;
  /** In the log before its spool's first account, or written past any spool. */
  readonly withoutBooks: number;
}

export class AuditBooks {
  readonly #range: BooksRange;
  readonly #minutes = new Map<number, Minute>();
  readonly #devices = new Map<string, Totals>();
  readonly #totals: Totals = { ...NO_TOTALS };
  readonly #chains = new Map<string, Chain>();
  readonly #gaps: Gap[] = [];
  /** Counted in windows that are not closed: end -> device -> readings. */
  readonly #open = new Map<number, Map<string, number>>();
  #accounts = 0;
  #withoutBooks = 0;

  constructor(range: BooksRange) {
    this.#range = range;
  }

  isIn(receivedMs: number): boolean {
    return receivedMs >= this.#range.fromMs && receivedMs < this.#range.toMs;
  }

  isWanted(device: string): boolean {
    return this.#range.device === undefined || device === this.#range.device;
  }

  /** A record of the log, for the first time. Null: it came through no spool. */
  seen(device: string, minuteMs: number, what: 'forwarded' | 'deadLettered', origin: Origin | null): void {
    this.#add(device, 'received', 1);
    this.#add(device, what, 1);
    if (origin === null) {
      this.#withoutBooks++;
      return;
    }
    const cell = this.#cell(minuteMs, device);
    cell.seen++;
    cell.spool = origin.spool;
    cell.firstOffset = Math.min(cell.firstOffset, origin.offset);
    cell.lastOffset = Math.max(cell.lastOffset, origin.offset);
  }

  /** What became of a reading record; `endMs`: of the window that counts it. */
  fate(device: string, fate: Fate, endMs: number | null): void {
    this.#add(device, 'logRecords', 1);
    this.#add(device, fate, 1);
    if (fate !== 'counted' || endMs === null) return;
    const window = this.#open.get(endMs) ?? new Map<string, number>();
    this.#open.set(endMs, window.set(device, (window.get(device) ?? 0) + 1));
  }

  account({ spool, from, to, part, skipped, entries }: Account): void {
    let chain = this.#chains.get(spool);
    if (chain === undefined) {
      chain = { begin: from, to, skipped: [] };
      this.#chains.set(spool, chain);
    } else {
      if (from > chain.to) this.#gaps.push({ spool, from: chain.to, to: from });
      chain.to = Math.max(chain.to, to);
    }
    if (part[0] === 0) this.#accounts++;
    if (part[0] === 0 && skipped) chain.skipped.push(skipped);
    for (const { minuteMs, device, readings, letters, refused } of entries) {
      if (!this.isIn(minuteMs)) continue;
      if (device !== OTHERS && !this.isWanted(device)) continue;
      if (device === OTHERS && this.#range.device !== undefined) {
        this.#minute(minuteMs).others += readings + letters;
        continue;
      }
      if (refused > 0) {
        this.#add(device, 'received', refused);
        this.#add(device, 'refused', refused);
      }
      if (device === OTHERS) {
        this.#minute(minuteMs).others += readings + letters;
        continue;
      }
      const cell = this.#cell(minuteMs, device);
      cell.accounted += readings + letters;
      cell.accountTo = Math.max(cell.accountTo, to);
      if (cell.spool === '') cell.spool = spool;
    }
  }

  /** Forgets what balances; windows that end at or before `frontierMs` are closed. */
  sweep(frontierMs: number): void {
    for (const endMs of this.#open.keys()) if (endMs <= frontierMs) this.#open.delete(endMs);
    for (const [minuteMs, minute] of this.#minutes) {
      for (const [device, cell] of minute.cells) if (cell.seen === cell.accounted) minute.cells.delete(device);
      if (minute.others > 0) this.#settleOthers(minute);
      if (minute.cells.size === 0 && minute.others === 0) this.#minutes.delete(minuteMs);
    }
  }

  /** A minute whose devices beyond the limit are counted together: what is too much for each must be that in all. */
  #settleOthers(minute: Minute): void {
    let surplus = 0;
    for (const { seen, accounted } of minute.cells.values()) if (seen > accounted) surplus += seen - accounted;
    if (surplus !== minute.others) return;
    minute.others = 0;
    for (const [device, { seen, accounted }] of minute.cells) if (seen > accounted) minute.cells.delete(device);
  }

  /** `reached`: the smallest spool offset that the partition of this device has certainly come to; Infinity where the spool is the log. */
  finish(frontierMs: number, reached: (device: string, spool: string) => number): Verdict {
    this.sweep(frontierMs);
    for (const window of this.#open.values()) {
      for (const [device, count] of window) {
        this.#add(device, 'counted', -count);
        this.#add(device, 'open', count);
      }
    }
    const imbalances: Imbalance[] = [];
    let more = 0;
    let notYet = 0;
    const say = (device: string, minuteMs: number, kind: Imbalance['kind'], readings: number) => {
      this.#add(device, kind, readings);
      if (imbalances.length < MAX_IMBALANCES) imbalances.push({ device, minuteMs, kind, readings });
      else more++;
    };
    for (const [minuteMs, { cells, others }] of [...this.#minutes].sort(([a], [b]) => a - b)) {
      let shared = others;
      for (const [device, cell] of cells) {
        const lack = cell.accounted - cell.seen;
        if (lack > 0) {
          this.#add(device, 'received', lack);
          if (reached(device, cell.spool) < cell.accountTo) this.#add(device, 'spooled', lack);
          else say(device, minuteMs, 'missing', lack);
          continue;
        }
        const surplus = -lack - Math.min(-lack, shared);
        shared -= -lack - surplus;
        const chain = this.#chains.get(cell.spool);
        if (surplus === 0) continue;
        const isSkipped = chain?.skipped.some(([from, to]) => cell.firstOffset < to && cell.lastOffset >= from);
        if (chain !== undefined && (cell.firstOffset < chain.begin || isSkipped)) this.#withoutBooks += surplus;
        else if (chain === undefined || cell.lastOffset >= chain.to) notYet += surplus;
        else say(device, minuteMs, 'unaccounted', surplus);
      }
      if (shared > 0 && this.#range.device === undefined) {
        this.#add(OTHERS, 'received', shared);
        say(OTHERS, minuteMs, 'missing', shared);
      }
    }
    return {
      totals: this.#totals,
      devices: this.#devices,
      imbalances,
      moreImbalances: more,
      gaps: this.#gaps,
      accounts: this.#accounts,
      notAccountedYet: notYet,
      withoutBooks: this.#withoutBooks,
    };
  }

  #minute(minuteMs: number): Minute {
    const known = this.#minutes.get(minuteMs);
    if (known) return known;
    const minute = { cells: new Map<string, Cell>(), others: 0 };
    this.#minutes.set(minuteMs, minute);
    return minute;
  }

  #cell(minuteMs: number, device: string): Cell {
    const { cells } = this.#minute(minuteMs);
    const known = cells.get(device);
    if (known) return known;
    const offsets = { firstOffset: Number.POSITIVE_INFINITY, lastOffset: -1, accountTo: 0 };
    const cell = { accounted: 0, seen: 0, spool: '', ...offsets };
    cells.set(device, cell);
    return cell;
  }

  #add(device: string, term: keyof Totals, count: number): void {
    this.#totals[term] += count;
    let totals = this.#devices.get(device);
    if (!totals) {
      const name = this.#devices.size < MAX_DEVICES ? device : OTHERS;
      totals = this.#devices.get(name) ?? { ...NO_TOTALS };
      this.#devices.set(name, totals);
    }
    totals[term] += count;
  }
}
