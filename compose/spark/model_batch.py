"""
A model trained on the rows of closed windows, and its scores written back beside them: for each series, a linear regression of a
window's value on the windows before it, learnt from the older part of the rows; the score of a window is how far it is from what
was expected, in standard deviations of the errors in what was learnt from.

  spark-submit ... model_batch.py --rows DIR --stream environment --metric temperature --window 1m --model DIR \
      --influx http://127.0.0.1:8086 --org millrace --bucket telemetry_1m        (INFLUX_TOKEN in the environment)

Rows are read as rollup_stream.py writes them, or as `/api/v1/rows` gives them. Scores are points of the measurement
STREAM_model_scores with the tags of the row, `metric` and `window`, the time of the window's start, and the fields value, expected, score and
trained (the window is one of those learnt from). A new run replaces the scores of the same range: they are deleted first, because
InfluxDB does not always honour a change of a value. Without --influx they are only written to --out.
"""
import argparse
import json
import math
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from datetime import datetime, timedelta, timezone

from pyspark.ml import Pipeline
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.regression import LinearRegression
from pyspark.sql import SparkSession, Window
from pyspark.sql.functions import abs as absolute
from pyspark.sql.functions import avg, col, lag, lit, sqrt, to_json

ROW = "stream STRING, metric STRING, window STRING, startMs BIGINT, tags MAP<STRING, STRING>, count BIGINT, mean DOUBLE, min DOUBLE, max DOUBLE, last DOUBLE, sum DOUBLE"
LINES_PER_WRITE = 5_000
TIMEOUT_S = 60
FEWEST_ROWS = 20


def options():
    parser = argparse.ArgumentParser(description="Scores of closed windows by a model of Spark ML.")
    parser.add_argument("--rows", required=True, help="folder of rows, NDJSON")
    parser.add_argument("--stream", required=True)
    parser.add_argument("--metric", default="", help="of a stream without metrics: none")
    parser.add_argument("--window", required=True)
    parser.add_argument("--statistic", choices=["mean", "min", "max", "last", "sum", "count"], default="mean")
    parser.add_argument("--lags", type=int, default=3, help="windows before that are looked at")
    parser.add_argument("--train", type=float, default=0.7, help="share of the time that is learnt from, the oldest")
    parser.add_argument("--model", required=True, help="folder of the trained model")
    parser.add_argument("--out", required=True, help="folder of the scores, NDJSON")
    parser.add_argument("--influx", help="URL")
    parser.add_argument("--org", default="millrace")
    parser.add_argument("--bucket")
    return parser.parse_args()


class Influx:
    """What little of InfluxDB's API is needed."""

    def __init__(self, asked, token):
        self.url, self.org, self.bucket = asked.influx.rstrip("/"), asked.org, asked.bucket
        self.headers = {"Authorization": f"Token {token}"}

    def _post(self, path, body, **query):
        query = urllib.parse.urlencode({"org": self.org, "bucket": self.bucket, **query})
        request = urllib.request.Request(f"{self.url}{path}?{query}", data=body, headers=self.headers, method="POST")
        try:
            urllib.request.urlopen(request, timeout=TIMEOUT_S).close()
        except urllib.error.HTTPError as error:
            sys.exit(f"model_batch: InfluxDB answered {error.code} to {path}: {error.read(500).decode(errors='replace')}")
        except OSError as error:
            sys.exit(f"model_batch: InfluxDB at {self.url} cannot be reached: {error}")

    def delete(self, measurement, tags, from_ms, to_ms):
        conditions = {"_measurement": measurement, **tags}
        predicate = " AND ".join(f"{name}={json.dumps(value)}" for name, value in conditions.items())
        body = {"start": _rfc3339(from_ms), "stop": _rfc3339(to_ms), "predicate": predicate}
        self._post("/api/v2/delete", json.dumps(body).encode())

    def write(self, lines):
        for at in range(0, len(lines), LINES_PER_WRITE):
            self._post("/api/v2/write", "\n".join(lines[at : at + LINES_PER_WRITE]).encode(), precision="ms")


def _rfc3339(time_ms):
    at = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=time_ms)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _escaped(text, characters):
    return "".join(f"\\{each}" if each in characters else each for each in text)


def line_of(measurement, score):
    tags = {**score["tags"], "window": score["window"], **({"metric": score["metric"]} if score["metric"] else {})}
    text = _escaped(measurement, ", ")
    for name in sorted(tags):
        if tags[name] != "":
            text += f",{_escaped(name, ',= ')}={_escaped(tags[name], ',= ')}"
    fields = ",".join(f"{name}={score[name]!r}" for name in ("value", "expected", "score"))
    return f"{text} {fields},trained={'true' if score['trained'] else 'false'} {score['startMs']}"


def main():
    asked = options()
    token = os.environ.get("INFLUX_TOKEN")
    if asked.influx and not (asked.bucket and token):
        sys.exit("model_batch: --influx needs --bucket, and INFLUX_TOKEN in the environment")
    if not 0 < asked.train < 1 or asked.lags < 1:
        sys.exit("model_batch: --train is a share between 0 and 1, --lags a number from 1 on")

    spark = SparkSession.builder.appName(f"a model of {asked.stream} {asked.metric}").getOrCreate()
    rows = spark.read.schema(ROW).json(asked.rows, recursiveFileLookup=True)
    rows = rows.where((col("stream") == asked.stream) & (col("metric") == asked.metric) & (col("window") == asked.window))
    rows = rows.select("tags", to_json("tags").alias("series"), "startMs", col(asked.statistic).cast("double").alias("value"))

    before = Window.partitionBy("series").orderBy("startMs")
    names = [f"before{i}" for i in range(1, asked.lags + 1)]
    for i, name in enumerate(names, 1):
        rows = rows.withColumn(name, lag("value", i).over(before))
    rows = rows.dropna(subset=["value", *names]).cache()
    count, from_ms, last_ms = rows.selectExpr("count(*)", "min(startMs)", "max(startMs)").first()
    if count < FEWEST_ROWS:
        sys.exit(f"model_batch: {count} rows of {asked.stream} {asked.metric} {asked.window} have {asked.lags} before them: {FEWEST_ROWS} are needed")
    learnt_to_ms = from_ms + math.floor((last_ms - from_ms) * asked.train)
    rows = rows.withColumn("trained", col("startMs") <= lit(learnt_to_ms))

    regression = LinearRegression(featuresCol="before", labelCol="value", predictionCol="expected", solver="normal")
    pipeline = Pipeline(stages=[VectorAssembler(inputCols=names, outputCol="before"), regression])
    model = pipeline.fit(rows.where("trained"))
    model.write().overwrite().save(asked.model)

    judged = model.transform(rows).withColumn("error", absolute(col("value") - col("expected")))
    spread = judged.where("trained").select(sqrt(avg(col("error") * col("error")))).first()[0]
    # Values that were foreseen without any error have no unit to measure another by.
    judged = judged.withColumn("score", col("error") / lit(spread if spread > 0 else 1.0))
    judged = judged.withColumn("metric", lit(asked.metric)).withColumn("window", lit(asked.window))
    scores = judged.select("tags", "metric", "window", "startMs", "value", "expected", "score", "trained")
    scores.orderBy("startMs").coalesce(1).write.mode("overwrite").json(asked.out)

    written = ""
    if asked.influx:
        influx, measurement = Influx(asked, token), f"{asked.stream}_model_scores"
        of_metric = {"metric": asked.metric} if asked.metric else {}
        influx.delete(measurement, {"window": asked.window, **of_metric}, from_ms, last_ms + 1)
        lines = [line_of(measurement, row.asDict()) for row in scores.orderBy("startMs").toLocalIterator()]
        influx.write(lines)
        written = f", {len(lines)} written to {asked.bucket} as {measurement}"
    print(f"{count} rows scored, learnt from those until {_rfc3339(learnt_to_ms)}, typical error {spread:.6g}{written}")


if __name__ == "__main__":
    main()
