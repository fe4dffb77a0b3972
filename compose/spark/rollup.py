"""
The rollup of one partition of the log: the same rows, to the last bit, as src/rollup makes of it. Pure: no Spark, no clock,
no file. The definitions are those in the header of src/rollup/engine.ts:

  watermark   the largest received stamp of any record so far, ticks and refusals too
  late        pane end + grace <= received;   straggler: pane end <= watermark - grace - disorder
  identity    the named one within its stream and pane, otherwise series + time; the first offset wins
  pane        the tumbling window that divides all windows of a stream; a window is the merge of its panes, and closed once
              its end <= watermark - grace - disorder

Sums and sums of squares are exact (integers over a power of two) and are rounded once, so neither the order of the readings nor
how they were cut into batches can be seen in a row. `state` and `Partition(rules, state)` carry a partition from batch to batch.
"""
import hashlib
import json
import math
import struct
import zlib

FAR_AHEAD_MS = 86_400_000
LARGEST_VALUE, SMALLEST_VALUE = 1e150, 1e-140
LARGEST_INTEGER = 2**53 - 1
LARGEST_TIME_MS = 8_640_000_000_000_000
KINDS = {"reading", "tick", "refusal", "late", "pane", "requeued", "alert", "command", "outcome", "account"}

STATISTICS = ("sum", "mean", "min", "max", "stddev", "first", "last", "p50", "p95", "p99")
COLUMNS = ("stream", "metric", "window", "startMs", "endMs", "tags", "count", *STATISTICS, "duplicates", "missing", "rev")


class RulesError(ValueError):
    """The rules are not to be had, or not of this checkpoint: the message is for a person."""


class Stream:
    def __init__(self, name, settings):
        if settings["distinct"]:
            raise RulesError(f"stream {name} counts different values (distinct), which this job does not: leave it out with --streams")
        self.name = name
        self.metrics = settings["metrics"]
        self.windows = [(w["label"], w["sizeMs"], w["everyMs"]) for w in settings["windows"]]
        self.pane_ms = math.gcd(*(size for _, size, _ in self.windows), *(every for _, _, every in self.windows))


class Rules:
    """What `millrace check --json` says under `rules`; `only`: names of streams, by default all."""

    def __init__(self, answer, only=None):
        unknown = [name for name in only or [] if name not in answer["streams"]]
        if unknown:
            raise RulesError(f"no stream {unknown[0]} in the rules, which have {', '.join(answer['streams'])}")
        self.grace_ms, self.disorder_ms, self.skew_ms = (answer[name] for name in ("graceMs", "disorderMs", "skewMs"))
        self.continues = bool(answer.get("continues"))
        wanted = {name: settings for name, settings in answer["streams"].items() if not only or name in only}
        self.streams = {name: Stream(name, settings) for name, settings in wanted.items()}
        content = [self.grace_ms, self.disorder_ms, self.skew_ms, self.continues, wanted]
        self.hash = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


class Aggregate:
    """One metric of one series in one window. Sum and squares are pairs: integer, and the power of two that divides it."""

    __slots__ = ("count", "min", "max", "first_ms", "first", "last_ms", "last", "sum", "squares", "buckets")

    def __init__(self):
        self.count = 0
        self.min = self.first_ms = self.first = math.inf
        self.max = self.last_ms = self.last = -math.inf
        self.sum = self.squares = (0, 0)
        self.buckets = {}

    def add(self, time_ms, value):
        self.count += 1
        self._include(value, value, time_ms, value, time_ms, value)
        numerator, denominator = value.as_integer_ratio()
        power = denominator.bit_length() - 1
        self.sum = _plus(self.sum, (numerator, power))
        self.squares = _plus(self.squares, (numerator * numerator, 2 * power))
        bucket = _bucket_of(value)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1

    def merge(self, other):
        self.count += other.count
        self._include(other.min, other.max, other.first_ms, other.first, other.last_ms, other.last)
        self.sum = _plus(self.sum, other.sum)
        self.squares = _plus(self.squares, other.squares)
        for bucket, times in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + times

    def _include(self, low, high, first_ms, first, last_ms, last):
        self.min = min(self.min, low)
        self.max = max(self.max, high)
        self.first_ms, self.first = min((self.first_ms, self.first), (first_ms, first))
        self.last_ms, self.last = max((self.last_ms, self.last), (last_ms, last))

    def statistics(self):
        """In the order of STATISTICS. Python divides integers with one correct rounding."""
        total, power = self.sum
        rounded = total / (1 << power)
        quantiles = (self._percentile(percent) for percent in (50, 95, 99))
        return (rounded, rounded / self.count, self.min, self.max, self._stddev(), self.first, self.last, *quantiles)

    def _stddev(self):
        if self.min == self.max:
            return 0.0
        (total, power), (squares, power2) = self.sum, self.squares
        common = max(power2, 2 * power)
        numerator = (self.count * squares << (common - power2)) - (total * total << (common - 2 * power))
        return math.sqrt(numerator / (self.count * self.count << common)) if numerator > 0 else 0.0

    def _percentile(self, percent):
        rank = -(-percent * self.count // 100)
        for bucket in sorted(self.buckets):
            rank -= self.buckets[bucket]
            if rank <= 0:
                return min(max(_middle_of(bucket), self.min), self.max)

    def dump(self):
        numbers = [self.count, self.min, self.max, self.first_ms, self.first, self.last_ms, self.last]
        exact = [format(self.sum[0], "x"), self.sum[1], format(self.squares[0], "x"), self.squares[1]]
        return [*numbers, *exact, [part for entry in self.buckets.items() for part in entry]]

    @classmethod
    def load(cls, parts):
        self = cls()
        self.count, self.min, self.max, self.first_ms, self.first, self.last_ms, self.last = parts[:7]
        total, power, squares, power2, entries = parts[7:]
        self.sum, self.squares = (int(total, 16), power), (int(squares, 16), power2)
        self.buckets = dict(zip(entries[::2], entries[1::2]))
        return self


def _plus(a, b):
    (x, i), (y, j) = a, b
    return (x + (y << (i - j)), i) if i >= j else ((x << (j - i)) + y, j)


def _bucket_of(value):
    """Sign, exponent and the six highest bits of the mantissa."""
    bits = (struct.unpack(">q", struct.pack(">d", value))[0] & 0x7FFF_FFFF_FFFF_FFFF) >> 46
    return -bits if value < 0 else bits


def _middle_of(bucket):
    if bucket == 0:
        return 0.0
    low, high = (struct.unpack(">d", struct.pack(">q", bits << 46))[0] for bits in (abs(bucket), abs(bucket) + 1))
    middle = 2 * low * (high / (low + high))
    return -middle if bucket < 0 else middle


class Cell:
    """One series in one window."""

    __slots__ = ("count", "duplicates", "sequences", "min_sequence", "max_sequence", "aggregates")

    def __init__(self, metrics):
        self.count = self.duplicates = self.sequences = 0
        self.min_sequence = self.max_sequence = None
        self.aggregates = [None] * metrics

    def add(self, time_ms, values, sequence):
        self.count += 1
        if sequence is not None:
            self._include(1, sequence, sequence)
        for i, value in enumerate(values):
            if value is not None:
                self.aggregates[i] = self.aggregates[i] or Aggregate()
                self.aggregates[i].add(time_ms, value)

    def merge(self, other):
        self.count += other.count
        self.duplicates += other.duplicates
        if other.sequences:
            self._include(other.sequences, other.min_sequence, other.max_sequence)
        for i, part in enumerate(other.aggregates):
            if part is not None:
                self.aggregates[i] = self.aggregates[i] or Aggregate()
                self.aggregates[i].merge(part)

    def _include(self, sequences, low, high):
        self.min_sequence = low if not self.sequences else min(self.min_sequence, low)
        self.max_sequence = high if not self.sequences else max(self.max_sequence, high)
        self.sequences += sequences

    @property
    def missing(self):
        return max(0, int(self.max_sequence - self.min_sequence + 1 - self.sequences)) if self.sequences else 0

    def dump(self):
        numbers = [self.count, self.duplicates, self.sequences, self.min_sequence, self.max_sequence]
        return [*numbers, [aggregate and aggregate.dump() for aggregate in self.aggregates]]

    @classmethod
    def load(cls, parts):
        self = cls(0)
        self.count, self.duplicates, self.sequences, self.min_sequence, self.max_sequence, aggregates = parts
        self.aggregates = [parts and Aggregate.load(parts) for parts in aggregates]
        return self


class Pane:
    """What tells duplicates apart is needed only while it is open: a reading for a closed pane is late or a straggler."""

    __slots__ = ("cells", "seen")

    def __init__(self):
        self.cells = {}
        self.seen = set()


class Partition:
    """Records in the order of their offsets; `close` gives the rows of every window that is closed by them."""

    def __init__(self, rules, state=None):
        self.rules = rules
        self.position = None
        self.watermark_ms = None
        # Windows that start at or before it may be incomplete, and are not given out.
        self.complete_after_ms = None
        self.panes = {}
        self.windows = {}
        if state is not None:
            self._load(json.loads(zlib.decompress(state)))

    def process(self, offset, received_ms, kind, value):
        """`kind`: the header of that name, or None; `value`: bytes, or None."""
        if self.position is None and (offset > 0 or self.rules.continues):
            self.complete_after_ms = received_ms + self.rules.grace_ms + self.rules.disorder_ms + self.rules.skew_ms
        if kind == "reading" or kind not in KINDS:
            self._read(received_ms, value or b"")
        self.position = offset + 1
        if self.watermark_ms is None or received_ms > self.watermark_ms:
            self.watermark_ms = received_ms

    def _frontier_ms(self):
        if self.watermark_ms is None:
            return -math.inf
        return self.watermark_ms - self.rules.grace_ms - self.rules.disorder_ms

    def _read(self, received_ms, value):
        reading = _reading_of(value)
        stream = reading and self.rules.streams.get(reading["stream"])
        if not stream or reading["time"] - received_ms > self.rules.skew_ms + FAR_AHEAD_MS:
            return
        time_ms = reading["time"]
        start_ms = time_ms // stream.pane_ms * stream.pane_ms
        end_ms = start_ms + stream.pane_ms
        if end_ms + self.rules.grace_ms <= received_ms or end_ms <= self._frontier_ms():
            return
        values = _values_of(reading["values"], stream.metrics)
        tags = reading["tags"]
        if values is None or not all(isinstance(text, str) for text in tags.values()):
            return
        series = json.dumps(tags, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        identity = reading.get("identity")
        key = identity if isinstance(identity, str) else (series, time_ms)
        pane = self.panes.setdefault((stream.name, start_ms), Pane())
        cell = pane.cells.get(series)
        if cell is None:
            cell = pane.cells[series] = Cell(len(stream.metrics))
        if key in pane.seen:
            cell.duplicates += 1
            return
        pane.seen.add(key)
        sequence = reading.get("sequence")
        cell.add(time_ms, values, sequence if _is_number(sequence) else None)

    def close(self):
        """Rows by the end of their window; tuples in the order of COLUMNS, tags as JSON."""
        frontier_ms = self._frontier_ms()
        for (name, start_ms), pane in sorted(self.panes.items(), key=lambda item: item[0]):
            stream = self.rules.streams[name]
            if start_ms + stream.pane_ms > frontier_ms:
                continue
            del self.panes[(name, start_ms)]
            for index, (_, size_ms, every_ms) in enumerate(stream.windows):
                at = start_ms // every_ms * every_ms
                while at + size_ms > start_ms:
                    cells = self.windows.setdefault((name, index, at), {})
                    for series, cell in pane.cells.items():
                        cells.setdefault(series, Cell(len(stream.metrics))).merge(cell)
                    at -= every_ms
        rows = []
        for (name, index, start_ms), cells in list(self.windows.items()):
            stream = self.rules.streams[name]
            if start_ms + stream.windows[index][1] > frontier_ms:
                continue
            del self.windows[(name, index, start_ms)]
            if self.complete_after_ms is None or start_ms > self.complete_after_ms:
                for series, cell in cells.items():
                    rows.extend(_rows_of(stream, stream.windows[index], start_ms, series, cell))
        rows.sort(key=lambda row: (row[4], row[:6]))
        return rows

    @property
    def state(self):
        panes = [
            [name, start_ms, [[series, cell.dump()] for series, cell in pane.cells.items()], list(pane.seen)]
            for (name, start_ms), pane in self.panes.items()
        ]
        windows = [
            [*place, [[series, cell.dump()] for series, cell in cells.items()]] for place, cells in self.windows.items()
        ]
        content = [self.rules.hash, self.position, self.watermark_ms, self.complete_after_ms, panes, windows]
        return zlib.compress(json.dumps(content, separators=(",", ":")).encode(), 1)

    def _load(self, content):
        of_rules, self.position, self.watermark_ms, self.complete_after_ms, panes, windows = content
        if of_rules != self.rules.hash:
            raise RulesError("the rules have changed since this checkpoint was begun: begin another --checkpoint and --out")
        for name, start_ms, cells, seen in panes:
            pane = self.panes[(name, start_ms)] = Pane()
            pane.cells = {series: Cell.load(parts) for series, parts in cells}
            pane.seen = {key if isinstance(key, str) else tuple(key) for key in seen}
        for name, index, start_ms, cells in windows:
            self.windows[(name, index, start_ms)] = {series: Cell.load(parts) for series, parts in cells}


def _rows_of(stream, window, start_ms, series, cell):
    label, size_ms, _ = window
    place = (label, start_ms, start_ms + size_ms, series)
    rest = (cell.duplicates, cell.missing, 0)
    if not stream.metrics and cell.count:
        yield (stream.name, "", *place, cell.count, *(None for _ in STATISTICS), *rest)
    for metric, aggregate in zip(stream.metrics, cell.aggregates):
        if aggregate is not None:
            yield (stream.name, metric, *place, aggregate.count, *aggregate.statistics(), *rest)


def _refuse(text):
    raise ValueError(text)


def _reading_of(value):
    """None: not a reading."""
    try:
        reading = json.loads(value.decode("utf-8", "replace"), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    if not isinstance(reading, dict) or not isinstance(reading.get("stream"), str):
        return None
    if not all(isinstance(reading.get(name), dict) for name in ("tags", "values")):
        return None
    time_ms = reading.get("time")
    if isinstance(time_ms, float) and time_ms.is_integer():
        reading["time"] = time_ms = int(time_ms)
    if not isinstance(time_ms, int) or isinstance(time_ms, bool) or abs(time_ms) > min(LARGEST_INTEGER, LARGEST_TIME_MS):
        return None
    return reading


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _values_of(values, metrics):
    """One for each metric, None where it is not there; None when one cannot be added up."""
    found = []
    for metric in metrics:
        if metric not in values:
            found.append(None)
            continue
        value = values[metric]
        size = abs(value) if _is_number(value) else math.nan
        if not size <= LARGEST_VALUE or (size < SMALLEST_VALUE and size != 0):
            return None
        # Adding zero makes -0 a zero.
        found.append(float(value) + 0.0)
    return found
