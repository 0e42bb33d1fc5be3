#!/usr/bin/env bash
# Prints the packages that go_build.sh would compile: those that Go's cache does not have.
# Usage: as go_build.sh
set -euo pipefail
module=$1 package=$2
shift 2
cd "$module"
export CGO_ENABLED="${CGO_ENABLED:-0}" GOFLAGS=-mod=readonly GOWORK=off
go list -deps -f '{{if .Stale}}{{.ImportPath}}{{end}}' -buildvcs=false -trimpath \
  -gcflags=all=-dwarf=false "$@" "$package"
