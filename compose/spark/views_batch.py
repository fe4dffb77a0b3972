"""
A batch job over the history in Kafka: how many readings, clicks or other events there were for each page (or any other tag), sorted;
where a registry is given, also by its columns.

  spark-submit ... views_batch.py --rules rules.json --stream clicks --by page --out DIR
  spark-submit ... views_batch.py --rules rules.json --stream environment --by site,room --registry devices.csv --on device --out DIR

It counts every event once, late ones too: those of the same identity, or else of the same tags and time, are one. `--on` is the tag that
is compared with the column of that name in the registry, a CSV file as `enrich` takes; a value that the registry does not have is
counted under ''. OUT gets NDJSON, the most viewed first, equal ones by name: {"page":"/","views":3,"share":0.6}.
"""
import argparse
import json
import sys

from pyspark.sql import SparkSession
from pyspark.sql.functions import broadcast, col, count, lit

READING = "stream STRING, time BIGINT, tags MAP<STRING, STRING>, identity STRING"
SHOWN = 20


def options():
    parser = argparse.ArgumentParser(description="Events by a tag or a column of a registry, sorted.")
    parser.add_argument("--rules", required=True, help="what `millrace check --json` prints")
    parser.add_argument("--stream", required=True)
    parser.add_argument("--by", required=True, help="tags or columns of the registry, separated by commas")
    parser.add_argument("--out", required=True, help="folder of the answer")
    parser.add_argument("--registry", help="a CSV file with a header line")
    parser.add_argument("--on", default="device", help="the tag that names a row of the registry")
    parser.add_argument("--from", dest="from_ms", type=int, help="event time in milliseconds, inclusive")
    parser.add_argument("--to", dest="to_ms", type=int, help="exclusive")
    return parser.parse_args()


def events(spark, kafka, asked):
    """One row for each event of the stream, with its tags."""
    source = spark.read.format("kafka").option("kafka.bootstrap.servers", ",".join(kafka["brokers"]))
    source = source.option("subscribe", kafka["topic"]).option("includeHeaders", "true")
    records = source.option("startingOffsets", "earliest").option("endingOffsets", "latest").load()
    kind = "coalesce(CAST(get(filter(headers, header -> header.key = 'kind'), 0).value AS STRING), 'reading')"
    readings = records.where(f"{kind} = 'reading'").selectExpr(f"from_json(CAST(value AS STRING), '{READING}') AS reading")
    readings = readings.select("reading.*").where(col("stream") == asked.stream)
    if asked.from_ms is not None:
        readings = readings.where(col("time") >= asked.from_ms)
    if asked.to_ms is not None:
        readings = readings.where(col("time") < asked.to_ms)
    event = "coalesce('i' || identity, 't' || time || to_json(tags)) AS event"
    return readings.selectExpr("tags", event).dropDuplicates(["event"])


def main():
    asked = options()
    try:
        with open(asked.rules, encoding="utf-8") as file:
            rules = json.load(file)["rules"]
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"views_batch: {asked.rules} is not what `millrace check --json` prints of a valid configuration: {error!r}")
    if asked.stream not in rules["streams"] or not rules["kafka"]:
        sys.exit(f"views_batch: the rules have no Kafka, or no stream {asked.stream}: they have {', '.join(rules['streams'])}")

    if rules["kafka"].get("registry"):
        sys.exit("views_batch: the readings are in the frame of a schema registry, which this job does not read")

    spark = SparkSession.builder.appName(f"{asked.stream} by {asked.by}").getOrCreate()
    found = events(spark, rules["kafka"], asked)
    names = asked.by.split(",")
    columns = []
    if asked.registry:
        registry = spark.read.csv(asked.registry, header=True)
        if asked.on not in registry.columns:
            sys.exit(f"views_batch: {asked.registry} has no column {asked.on}: it has {', '.join(registry.columns)}")
        found = found.join(broadcast(registry), col("tags").getItem(asked.on) == registry[asked.on], "left")
        columns = registry.columns
    keys = [(registry[name] if name in columns else col("tags").getItem(name)).alias(name) for name in names]
    counted = found.select(*keys).fillna("").groupBy(*names).agg(count(lit(1)).alias("views"))
    total = counted.selectExpr("coalesce(sum(views), 0)").first()[0]
    answer = counted.withColumn("share", col("views") / lit(max(total, 1))).orderBy(col("views").desc(), *names)
    # The order is the answer: one file.
    answer.coalesce(1).write.mode("overwrite").json(asked.out)
    answer.show(SHOWN, truncate=False)
    print(f"{total} events of {asked.stream} by {asked.by}: {asked.out}")


if __name__ == "__main__":
    main()
