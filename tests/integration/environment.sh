#!/usr/bin/env bash
# Makes $OUT/bin/python with what a lock file names. Takes 1 to 60 s, by what uv has in its cache.
# Usage: environment.sh PYTHON REQUIREMENTS
set -euo pipefail
python=$1
requirements=$2
uv=$(dirname "$python")/uv
# Relocatable, because $OUT gets its final name when all is done. The tests start Python only.
"$uv" venv --quiet --relocatable --python "$python" --allow-existing "$OUT"
"$uv" pip install --python "$OUT/bin/python" --require-hashes --only-binary :all: \
  --requirement "$requirements"
"$OUT/bin/python" -m compileall -q -j 0 "$OUT/lib"
