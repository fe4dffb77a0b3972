"""What the definitions cost in Python, without Spark: CPU-seconds per million readings of three metrics, and the state of 1,000 series.

  python3 compose/spark/cost.py
"""
import json
import random
import time

from rollup import Partition, Rules

SERIES, SECONDS, RECORDS_PER_BATCH = 1_000, 120, 20_000
WINDOWS = {"10s": 10_000, "1m": 60_000, "15m": 900_000, "1h": 3_600_000}
START_MS = 1_700_000_000_000


def records():
    source = random.Random(1)
    for second in range(SECONDS):
        for device in range(SERIES):
            time_ms = START_MS + second * 1_000 + device % 1_000
            values = {"temperature": round(20 + 5 * source.random(), 2), "humidity": round(40 + 5 * source.random(), 1), "pressure": round(1000 + 9 * source.random(), 1)}
            reading = {"stream": "environment", "time": time_ms, "tags": {"device": f"d{device}", "site": "a"}, "values": values}
            yield time_ms, json.dumps(reading).encode()


def main():
    windows = [{"label": label, "sizeMs": size, "everyMs": size} for label, size in WINDOWS.items()]
    stream = {"metrics": ["temperature", "humidity", "pressure"], "windows": windows, "distinct": []}
    rules = Rules({"graceMs": 15_000, "disorderMs": 2_000, "skewMs": 60_000, "streams": {"environment": stream}})
    log = list(records())
    state, rows, largest, began = None, 0, 0, time.process_time()
    for first in range(0, len(log), RECORDS_PER_BATCH):
        partition = Partition(rules, state)
        for i, (received_ms, value) in enumerate(log[first : first + RECORDS_PER_BATCH]):
            partition.process(first + i, received_ms, "reading", value)
        rows += len(partition.close())
        state = partition.state
        largest = max(largest, len(state))
    cost = (time.process_time() - began) / len(log) * 1e6
    print(f"{len(log)} readings, {rows} rows: {cost:.0f} CPU-seconds per million, state {largest / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
