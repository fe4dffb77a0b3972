#!/usr/bin/env bash
# build-benthos.sh FOLDER VERSION: builds Benthos (what Redpanda Connect was called until 2024; MIT) with just MQTT, Kafka and its
# own processors from its Go module into FOLDER/benthos-VERSION: about 5 minutes on two cores, 2 GB of scratch in FOLDER, which is
# removed at the end. Needed on PATH: go. Sources come from the Go module proxy, checked by Go's checksum database. Exit 3: a tool
# is missing, 1: it failed.
set -euo pipefail

folder=$1
version=$2
binary=$folder/benthos-$version
scratch=$folder/build-$version
module=github.com/benthosdev/benthos/v4

say() { echo "build-benthos (${SECONDS} s): $*" >&2; }
stop() { say "$2"; exit "$1"; }

command -v go >/dev/null || stop 3 "building Benthos needs go on PATH"
[ ! -x "$binary" ] || exit 0
mkdir -p "$scratch/main"
export GOMODCACHE=$scratch/modules GOCACHE=$scratch/go-cache GOWORK=off CGO_ENABLED=0 GOFLAGS='-buildvcs=false -modcacherw -mod=mod'
export GOTOOLCHAIN=local # use the Go that is here; never download another
cd "$scratch/main"
printf 'module peer\n\ngo 1.20\n\nrequire %s %s\n' "$module" "$version" >go.mod
cat >main.go <<EOF
package main

import (
	"context"

	_ "$module/public/components/kafka"
	_ "$module/public/components/mqtt"
	_ "$module/public/components/pure"
	"$module/public/service"
)

func main() { service.RunCLI(context.Background()) }
EOF
say 'go build with MQTT and Kafka'
go build -trimpath -ldflags '-s -w' -o "$scratch/benthos" . >"$scratch/log" 2>&1 || { tail -n 30 "$scratch/log" >&2; stop 1 'go build failed'; }
"$scratch/benthos" --version >/dev/null || stop 1 'the new benthos does not start'
mv "$scratch/benthos" "$binary"
cd /
rm -rf "$scratch"
say "done: $binary"
