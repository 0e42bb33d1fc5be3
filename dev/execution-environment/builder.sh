#!/usr/bin/env bash
# Makes a virtual environment with ansible-builder and ansible-runner in $OUT, from a lock with hashes.
# Usage: builder.sh PYTHON LOCK
set -euo pipefail
# It will be moved, so it is called as `bin/python -m ansible_builder`: programs name their interpreter.
"$1" -m venv --without-pip "$OUT"
"$(dirname "$1")/uv" pip install --require-hashes --python "$OUT/bin/python" --requirement "$2"
