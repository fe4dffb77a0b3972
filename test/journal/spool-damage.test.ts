/** Damaged files: what is lost is what was hit, it is reported, and nothing else is touched. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { Damage } from '../../src/journal/damage.ts';
import { FrameWalk } from '../../src/journal/frame-walk.ts';
import { SEGMENT_HEAD_BYTES } from '../../src/journal/segment.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { MemoryDisk } from './memory-disk.ts';
import { append, commitAs, FOLDER, numberOf, opened, readEverything, readerOf, recordsOf } from './spool-fixture.ts';

interface Place {
  readonly path: string;
  readonly number: number;
  readonly from: number;
  readonly to: number;
  /** Of its commit group: the number of the first record. */
  readonly group: number;
}

/** A log of several segments on a disk, and where each record lies. */
interface Written {
  readonly disk: MemoryDisk;
  readonly places: readonly Place[];
  readonly paths: readonly string[];
}

const AT_ONCE = 100;
/** In CI every byte, else every eighth: half a minute of work on a busy machine. */
const STRIDE = process.env.CI ? 1 : 8;
/** One for all: thousands of spools are opened, and making the metrics is most of the work. */
const telemetry = silentTelemetry();
const GROUP_RECORDS = 7;
const GROUPS = 14;
const RECORDS = GROUP_RECORDS * GROUPS;

async function write(clean: boolean): Promise<Written> {
  const disk = new MemoryDisk(() => 0.9);
  const files = disk.restart();
  const spool = await opened({ files });
  for (let i = 0; i < GROUPS; i++) await append(spool, recordsOf(GROUP_RECORDS, i * GROUP_RECORDS, 40 + i));
  if (!clean) disk.crash('kill');
  await spool.close();
  const after = disk.restart();
  const paths = disk.paths().filter((path) => path.endsWith('.seg'));
  const places: Place[] = [];
  for (const path of paths) {
    const first = Number(/(\d+)\.seg$/.exec(path)![1]);
    const walk = await FrameWalk.open(after, FOLDER, first);
    const visit = (_: unknown, __: number, number: number, position: number) => {
      places.push({ path, number, from: position, to: 0, group: number - (number % GROUP_RECORDS) });
    };
    while ((await walk.step(Number.POSITIVE_INFINITY, visit)) === 'more');
    const inFile = places.filter((place) => place.path === path);
    inFile.forEach((place, i) => {
      places[places.indexOf(place)] = { ...place, to: inFile[i + 1]?.from ?? walk.position };
    });
  }
  assert.equal(places.length, RECORDS);
  assert.ok(paths.length >= 3, `${paths.length} segments`);
  return { disk, places, paths };
}

interface Found {
  readonly numbers: readonly number[];
  /** Found at the start, and by a reader. */
  readonly atStart: readonly Damage[];
  readonly reported: readonly Damage[];
  readonly nextNumber: number;
}

/** Opens what is there, appends one more record, reads everything. */
async function reopen(disk: MemoryDisk): Promise<Found> {
  const files = disk.restart();
  const spool = await opened({ files, telemetry });
  try {
    const nextNumber = spool.stats().endOffset;
    await append(spool, recordsOf(1, 9_999));
    const reader = readerOf({ spool, files, telemetry });
    const records = await readEverything(reader);
    // As another process reads it.
    const other = readerOf({ files, telemetry });
    assert.deepEqual((await readEverything(other)).map(numberOf), records.map(numberOf));
    await other.close();
    await reader.close();
    assert.equal(numberOf(records.pop()!), 9_999);
    for (const record of records) assert.equal(record.offset, numberOf(record));
    return { numbers: records.map(numberOf), atStart: spool.damage, reported: reader.damage, nextNumber };
  } finally {
    await spool.close();
  }
}

/** Lost offsets by what was reported. */
function lost(damage: readonly Damage[]): number[] {
  return damage.flatMap(({ fromOffset, toOffset }) =>
    Array.from({ length: toOffset - fromOffset }, (_, i) => fromOffset + i),
  );
}

function without(places: readonly Place[], gone: (place: Place) => boolean): number[] {
  return places.filter((place) => !gone(place)).map(({ number }) => number);
}

type Case = readonly [clean: boolean, segment: number, byte: number, bit: number];

describe('damage in the spool', function () {
  this.timeout(60_000);
  let written: { readonly clean: Written; readonly crashed: Written };

  before(async () => {
    written = { clean: await write(true), crashed: await write(false) };
  });

  const flips = fc.tuple(fc.boolean(), fc.nat(), fc.nat(), fc.integer({ min: 0, max: 7 }));

  /** Flips one bit and compares. `repair` stands for what a planted bug does to the files before the spool opens. */
  async function flip([clean, segment, byte, bit]: Case, repair = async (_: MemoryDisk, __: Written) => {}) {
    const { places, paths, disk: original } = clean ? written.clean : written.crashed;
    const path = paths[segment % paths.length]!;
    const disk = original.copy();
    const inFile = places.filter((place) => place.path === path);
    const position = byte % inFile.at(-1)!.to;
    disk.content(path)[position]! ^= 1 << bit;
    await repair(disk, written.clean);
    const hit = inFile.find(({ from, to }) => position >= from && position < to);
    const found = await reopen(disk);
    if (!hit) {
      assert.deepEqual(
        found.numbers,
        places.map(({ number }) => number),
        'the head holds no record',
      );
      assert.ok(found.atStart.some((damage) => damage.file === path && damage.position === 0));
      return;
    }
    // The very last commit before a crash looks like one that was under way.
    const lastGroup = places.at(-1)!.group;
    if (!clean && hit.group === lastGroup) {
      assert.deepEqual(
        found.numbers,
        without(places, ({ number }) => number >= hit.number),
      );
      return;
    }
    assert.deepEqual(
      found.numbers,
      without(places, ({ number }) => number === hit.number),
    );
    assert.deepEqual(lost(found.reported), [hit.number], 'the reader reports what it passed over');
    assert.equal(found.reported[0]!.file, path);
    assert.equal(found.reported[0]!.position, hit.from);
    assert.equal(found.reported[0]!.failure.code, 'DATA_DAMAGED');
    if (path === paths.at(-1)) assert.deepEqual(lost(found.atStart), [hit.number]);
  }

  it('costs the record whose bit flipped, and no other, wherever the bit is', async () => {
    await fc.assert(
      fc.asyncProperty(flips, (flipped) => flip(flipped)),
      { numRuns: 120 },
    );
  });

  /** Calls it for each byte (see STRIDE) of the last segment; many at a time, because each mostly waits for the spool's timers. */
  async function eachByteOfTheLastSegment(use: (written: Written, byte: number) => Promise<void>): Promise<void> {
    for (const one of [written.clean, written.crashed]) {
      const length = one.places.at(-1)!.to;
      assert.ok(length > 500, `${length} bytes`);
      const start = Math.floor(Math.random() * STRIDE);
      const bytes = Array.from({ length: Math.ceil((length - start) / STRIDE) }, (_, i) => start + i * STRIDE);
      for (let from = 0; from < bytes.length; from += AT_ONCE) {
        await Promise.all(bytes.slice(from, from + AT_ONCE).map((byte) => use(one, byte)));
      }
    }
  }

  it('costs the record whose bit flipped, and no other, at every byte of the last segment', async () => {
    await eachByteOfTheLastSegment(({ paths }, byte) => {
      return flip([paths === written.clean.paths, paths.length - 1, byte, byte % 8]);
    });
  });

  it('would be noticed if the start cut the file at the first damage', async () => {
    const cutAtDamage = async (disk: MemoryDisk, { paths }: Written) => {
      const files = disk.copy().restart();
      for (const path of paths) {
        const walk = await FrameWalk.open(files, FOLDER, Number(/(\d+)\.seg$/.exec(path)![1]));
        while ((await walk.step(Number.POSITIVE_INFINITY, () => undefined)) === 'more');
        disk.replace(path, disk.content(path).subarray(0, walk.position));
      }
    };
    const result = await fc.check(
      fc.asyncProperty(flips, (flipped) => flip(flipped, cutAtDamage)),
      { numRuns: 120, endOnFailure: true },
    );
    assert.ok(result.failed);
  });

  it('keeps every record before the place where the last segment is cut off, wherever that is', async () => {
    await eachByteOfTheLastSegment(async ({ places, paths, disk: original }, cut) => {
      const disk = original.copy();
      const path = paths.at(-1)!;
      disk.replace(path, disk.content(path).subarray(0, cut));
      const found = await reopen(disk);
      const gone = (place: Place) => place.path === path && place.to > cut;
      assert.deepEqual(found.numbers, without(places, gone));
      // After a clean shutdown it is known that there was more.
      if (paths === written.clean.paths) {
        assert.equal(found.nextNumber, RECORDS);
        assert.deepEqual(
          lost(found.reported),
          places.filter(gone).map(({ number }) => number),
        );
        assert.ok(found.atStart.length > 0);
      }
    });
  });

  it('reports what is missing when an older segment is cut off', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(), async (byte) => {
        const { places, paths, disk: original } = written.crashed;
        const disk = original.copy();
        const path = paths[1]!;
        const inFile = places.filter((place) => place.path === path);
        const cut = SEGMENT_HEAD_BYTES + (byte % (inFile.at(-1)!.to - SEGMENT_HEAD_BYTES));
        disk.replace(path, disk.content(path).subarray(0, cut));
        const found = await reopen(disk);
        const gone = (place: Place) => place.path === path && place.to > cut;
        const goneNumbers = places.filter(gone).map(({ number }) => number);
        assert.deepEqual(found.numbers, without(places, gone));
        assert.deepEqual(lost(found.reported), goneNumbers);
        assert.deepEqual(lost(found.atStart), goneNumbers);
      }),
      { numRuns: 30 },
    );
  });

  it('reports a segment that is missing between two others', async () => {
    const { places, paths, disk: original } = written.crashed;
    const disk = original.copy();
    const path = paths[1]!;
    await disk.restart().remove(path);
    const found = await reopen(disk);
    const gone = (place: Place) => place.path === path;
    assert.deepEqual(found.numbers, without(places, gone));
    assert.deepEqual(
      lost(found.atStart),
      places.filter(gone).map(({ number }) => number),
    );
    assert.deepEqual(
      lost(found.reported),
      places.filter(gone).map(({ number }) => number),
    );
  });

  it('begins behind a checkpoint whose records are gone, and says that they are', async () => {
    const { places, paths, disk: original } = written.crashed;
    const disk = original.copy();
    await commitAs(readerOf({ files: disk.restart() }), 'rollup', RECORDS);
    const path = paths.at(-1)!;
    const inFile = places.filter((place) => place.path === path);
    disk.replace(path, disk.content(path).subarray(0, inFile[2]!.from));
    const found = await reopen(disk);
    assert.equal(found.nextNumber, RECORDS);
    assert.deepEqual(
      lost(found.atStart),
      inFile.slice(2).map(({ number }) => number),
    );
  });

  it('passes over a stretch of zeros in the middle of a segment', async () => {
    const { places, paths, disk: original } = written.crashed;
    const disk = original.copy();
    const inFile = places.filter((place) => place.path === paths[0]);
    disk.content(paths[0]!).fill(0, inFile[3]!.from + 5, inFile[9]!.from + 1);
    const found = await reopen(disk);
    const goneNumbers = inFile.slice(3, 10).map(({ number }) => number);
    assert.deepEqual(
      found.numbers,
      without(places, ({ number }) => goneNumbers.includes(number)),
    );
    assert.deepEqual(lost(found.reported), goneNumbers);
  });

  it('finds nothing where nothing is', async () => {
    for (const { disk, places } of [written.clean, written.crashed]) {
      const found = await reopen(disk.copy());
      assert.deepEqual(
        found.numbers,
        places.map(({ number }) => number),
      );
      assert.deepEqual([...found.atStart, ...found.reported], []);
      assert.equal(found.nextNumber, RECORDS);
    }
  });
});
