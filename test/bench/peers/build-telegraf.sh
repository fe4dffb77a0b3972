#!/usr/bin/env bash
# build-telegraf.sh FOLDER VERSION: builds Telegraf with just the plugins that the benches use from its Go module into
# FOLDER/telegraf-VERSION: about 3 minutes on two cores, 2 GB of scratch in FOLDER, which is removed at the end. Needed on PATH: go. Sources
# come from the Go module proxy, checked by Go's checksum database. Exit 3: a tool is missing, 1: it failed.
set -euo pipefail

folder=$1
version=$2
binary=$folder/telegraf-$version
scratch=$folder/build-$version
plugins=inputs.mqtt_consumer,inputs.kafka_consumer,parsers.json_v2,parsers.json,outputs.kafka,outputs.influxdb_v2,outputs.file
plugins=$plugins,serializers.influx,serializers.json,aggregators.basicstats,aggregators.quantile,parsers.influx

say() { echo "build-telegraf (${SECONDS} s): $*" >&2; }
stop() { say "$2"; exit "$1"; }

command -v go >/dev/null || stop 3 "building Telegraf needs go on PATH"
[ ! -x "$binary" ] || exit 0
mkdir -p "$scratch"
export GOMODCACHE=$scratch/modules GOCACHE=$scratch/go-cache GOWORK=off CGO_ENABLED=0 GOFLAGS='-buildvcs=false -modcacherw'
export GOTOOLCHAIN=local # use the Go that is here; never download another
cd "$scratch"
source=$(go mod download -json "github.com/influxdata/telegraf@$version" | sed -n 's/^[[:space:]]*"Dir": "\(.*\)",\{0,1\}$/\1/p')
[ -d "$source" ] || stop 1 "the Go module proxy does not hand out telegraf $version"
cd "$source"
say "go build with $plugins"
go build -trimpath -tags "custom,$plugins" -ldflags "-s -w -X github.com/influxdata/telegraf/internal.Version=${version#v}" \
  -o "$scratch/telegraf" ./cmd/telegraf >"$scratch/log" 2>&1 || { tail -n 30 "$scratch/log" >&2; stop 1 'go build failed'; }
"$scratch/telegraf" version >/dev/null || stop 1 'the new telegraf does not start'
mv "$scratch/telegraf" "$binary"
cd /
rm -rf "$scratch"
say "done: $binary"
