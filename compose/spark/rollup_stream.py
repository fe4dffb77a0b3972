"""
The rollup as a Spark Structured Streaming job: reads the topic of readings and writes the rows of closed windows, the same rows
as Millrace writes (rollup.py has the definitions).

  spark-submit ... rollup_stream.py --rules rules.json --checkpoint DIR --out DIR

`--rules` is what `millrace check --json` prints. The order of the log decides what is counted, so the state is kept for each partition
of the topic, in Spark's checkpoint, and a partition is one task of a batch. Rows of batch N are in OUT/batch=N, NDJSON. After a crash
Spark repeats the batch that had begun, from the same offsets and the same state: the same rows are written over its folder. So
what is in OUT is every row once, however often the job was killed; `millrace verify --against OUT` compares it with the log.
"""
import argparse
import json
import sys
from pathlib import Path

import pandas as pd
from pyspark.sql import SparkSession
from pyspark.sql.functions import from_json
from pyspark.sql.streaming.state import GroupStateTimeout

from rollup import COLUMNS, STATISTICS, Partition, Rules, RulesError

RECORDS = (
    "partition",
    "offset",
    "unix_millis(timestamp) AS receivedMs",
    "coalesce(CAST(get(filter(headers, header -> header.key = 'kind'), 0).value AS STRING), 'reading') AS kind",
    "value",
)
TYPES = {
    **dict.fromkeys(("stream", "metric", "window", "tags"), "STRING"),
    **dict.fromkeys(("startMs", "endMs", "count", "duplicates", "missing", "rev"), "BIGINT"),
    **dict.fromkeys(STATISTICS, "DOUBLE"),
}
ROWS = ", ".join(f"`{name}` {TYPES[name]}" for name in COLUMNS)


def options():
    parser = argparse.ArgumentParser(description="Rows of closed windows from the topic of readings.")
    parser.add_argument("--rules", required=True, help="what `millrace check --json` prints")
    parser.add_argument("--checkpoint", required=True, help="Spark's folder for this job")
    parser.add_argument("--out", required=True, help="folder of the rows")
    parser.add_argument("--streams", help="only these, separated by commas")
    parser.add_argument("--brokers", help="default: those of the rules")
    parser.add_argument("--topic", help="default: that of the rules")
    parser.add_argument("--kafka-option", action="append", default=[], metavar="NAME=VALUE", help="such as kafka.security.protocol=SSL")
    parser.add_argument("--records-per-batch", type=int, default=200_000, help="at most, over all partitions")
    parser.add_argument("--every", default="10 seconds", help="between batches")
    parser.add_argument("--available-now", action="store_true", help="ends when all that is in the topic was read")
    return parser.parse_args()


def folder(rules):
    """A function for Spark: the records of one partition in one batch, and what was kept of it before."""

    def fold(_, frames, kept):
        partition = Partition(rules, kept.get[0] if kept.exists else None)
        # A batch of one partition comes in pieces, whose order is nobody's promise.
        records = pd.concat(list(frames)).sort_values("offset")
        for record in zip(records["offset"], records["receivedMs"], records["kind"], records["value"]):
            partition.process(*record)
        rows = partition.close()
        kept.update((partition.state,))
        if rows:
            yield pd.DataFrame(rows, columns=list(COLUMNS)).astype(dict.fromkeys(STATISTICS, "float64"))

    return fold


def main():
    asked = options()
    try:
        with open(asked.rules, encoding="utf-8") as file:
            answer = json.load(file)
        if "rules" not in answer:
            raise RulesError(f"{asked.rules} has no rules: it is to be what `millrace check --json` prints of a valid configuration")
        rules = Rules(answer["rules"], asked.streams and asked.streams.split(","))
        kafka = answer["rules"]["kafka"] or {}
        brokers, topic = asked.brokers or ",".join(kafka.get("brokers", [])), asked.topic or kafka.get("topic")
        if kafka.get("registry"):
            raise RulesError("the readings are in the frame of a schema registry, which this job does not read")
        if not brokers or not topic:
            raise RulesError("the configuration has no kafka section: say --brokers and --topic")
    except (OSError, ValueError) as error:
        sys.exit(f"rollup_stream: {error}")

    spark = SparkSession.builder.appName(f"millrace rollup of {topic}").getOrCreate()
    spark.sparkContext.addPyFile(str(Path(__file__).with_name("rollup.py")))
    source = spark.readStream.format("kafka").options(**dict(each.split("=", 1) for each in asked.kafka_option))
    source = source.option("kafka.bootstrap.servers", brokers).option("subscribe", topic).option("includeHeaders", "true")
    # A log that has lost records ends the job: its rows would be partial.
    source = source.option("startingOffsets", "earliest").option("failOnDataLoss", "true")
    records = source.option("maxOffsetsPerTrigger", asked.records_per_batch).load().selectExpr(*RECORDS)
    rows = records.groupBy("partition").applyInPandasWithState(
        folder(rules), ROWS, "state BINARY", "append", GroupStateTimeout.NoTimeout
    )

    def write(batch, number):
        typed = batch.withColumn("tags", from_json("tags", "MAP<STRING, STRING>"))
        typed.write.mode("overwrite").json(f"{asked.out}/batch={number:09d}")

    query = rows.writeStream.outputMode("append").foreachBatch(write).option("checkpointLocation", asked.checkpoint)
    query = query.trigger(availableNow=True) if asked.available_now else query.trigger(processingTime=asked.every)
    query.start().awaitTermination()


if __name__ == "__main__":
    main()
