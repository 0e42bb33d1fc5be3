#!/usr/bin/env bash
# Builds a package of one of the modules under tools/ into $OUT; `tool` means all its tool lines.
# Usage: go_build.sh MODULE_DIR PACKAGE [go build flag …]
set -euo pipefail
module=$1 package=$2
shift 2
cd "$module"
export CGO_ENABLED="${CGO_ENABLED:-0}" GOFLAGS=-mod=readonly GOWORK=off
# -v names each package as it is compiled: it is what the progress line shows.
go build -v -buildvcs=false -trimpath -gcflags=all=-dwarf=false "$@" -o "$OUT/" "$package"
# Go names a binary after its import path; etcd's is …/server/v3.
if [ -e "$OUT/server" ]; then mv "$OUT/server" "$OUT/etcd"; fi
