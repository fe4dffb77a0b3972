#!/usr/bin/env bash
# build-influxd.sh FOLDER VERSION: builds InfluxDB OSS 2 (the server without its web interface) from its Go module into
# FOLDER/influxd-VERSION. It takes about 7 minutes, 1.5 GB of memory and 3 GB of scratch in FOLDER, which is removed
# at the end. Needed on PATH: go >= 1.23, cargo and rustc >= 1.72, cc. Sources come from the Go module proxy (checked
# by Go's checksum database) and crates.io (checked by the module's own Cargo.lock).
#
# InfluxDB links the query language Flux as a static library written in Rust, `libflux`. Its usual build finds that
# library through a pkg-config wrapper that downloads and compiles it; here cargo is called directly and a stand-in
# for pkg-config answers with the result. A build under way is waited for; exit 3: a tool is missing, 1: it failed.
set -euo pipefail

folder=$1
version=$2
binary=$folder/influxd-$version
scratch=$folder/build-$version

say() { echo "build-influxd (${SECONDS} s): $*" >&2; }
stop() { say "$2"; exit "$1"; }
step() { # TITLE COMMAND...
  local title=$1 log; shift
  log=$scratch/log-${title// /-}.txt
  say "$title"
  "$@" >"$log" 2>&1 || { tail -n 30 "$log" >&2; stop 1 "$title failed; all of it is in $log"; }
}

for tool in go cargo rustc cc; do
  command -v "$tool" >/dev/null || stop 3 "building InfluxDB needs go, cargo, rustc and cc on PATH; '$tool' is missing"
done
at_least() { [ "$(printf '%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }
export GOTOOLCHAIN=local # use the Go that is here; never download another
go_version=$(go env GOVERSION); go_version=${go_version#go}
at_least "${go_version%% *}" 1.23 || stop 3 "building InfluxDB needs Go 1.23 or newer; this is $go_version"
rust_version=$(rustc --version | cut -d ' ' -f 2)
at_least "$rust_version" 1.72 || stop 3 "building InfluxDB needs Rust 1.72 or newer; this is $rust_version"

mkdir -p "$folder"
if command -v flock >/dev/null; then
  exec 8>"$folder/.build-lock"
  flock --nonblock 8 || { say 'another build is under way: waiting for it'; flock 8; }
  [ ! -x "$binary" ] || exit 0
fi
free_mb=$(df -Pm "$folder" | awk 'NR == 2 { print $4 }')
[ "$free_mb" -ge 3500 ] || stop 1 "$folder has $free_mb MB free; the build needs 3500"

mkdir -p "$scratch/lib"
export GOMODCACHE=$scratch/modules GOCACHE=$scratch/go-cache GOWORK=off CGO_ENABLED=1 GOFLAGS='-buildvcs=false -modcacherw'
tags=sqlite_foreign_keys,sqlite_json

cd "$scratch"
module_dir() { go mod download -json "$1" | sed -n 's/^[[:space:]]*"Dir": "\(.*\)",\{0,1\}$/\1/p'; }
source=$(module_dir "github.com/influxdata/influxdb/v2@$version") && [ -d "$source" ] ||
  stop 1 "the Go module proxy does not hand out influxdb/v2 $version"
cd "$source"
step 'go modules' go list -deps -tags "$tags" ./cmd/influxd

# The version of flux is the one that this InfluxDB's go.mod names. The module cache is kept as it came, so a copy is
# changed: its pinned compiler goes (rustup would fetch it), and newer compilers' warnings must not stop the build.
flux_module=$(module_dir github.com/influxdata/flux)
rm -rf "$scratch/flux"
cp -R "$flux_module" "$scratch/flux"
chmod -R u+w "$scratch/flux"
rm -f "$scratch/flux/rust-toolchain.toml" "$scratch/flux/rust-toolchain"
cd "$scratch/flux/libflux"
step 'libflux in Rust' env -u CARGO_BUILD_TARGET CARGO_TARGET_DIR="$scratch/target" RUSTFLAGS='--cap-lints warn' \
  CARGO_PROFILE_RELEASE_LTO=off cargo rustc --locked --release -p flux --lib --crate-type staticlib
cp "$scratch/target/release/libflux.a" "$scratch/lib/"

cat >"$scratch/pkg-config" <<STAND_IN
#!/bin/sh
case "\$*" in
  *--cflags*) echo "-I$scratch/flux/libflux/include" ;;
  *--libs*) echo "-L$scratch/lib -lflux -ldl -lm" ;;
  *) exit 1 ;;
esac
STAND_IN
chmod +x "$scratch/pkg-config"
cd "$source"
step 'influxd in Go' env PKG_CONFIG="$scratch/pkg-config" go build -trimpath -tags "$tags" \
  -ldflags "-s -w -X main.version=$version -X main.commit=source" -o "$scratch/influxd" ./cmd/influxd

"$scratch/influxd" version | grep -qF "$version" || stop 1 'the new influxd does not name its version'
mv "$scratch/influxd" "$binary"
cd /
rm -rf "$scratch"
say "done: $binary"
