#!/usr/bin/env bash
# Builds the documentation site into .state/docs/html: the guides of docs/, and a page for each plugin
# and role from the collection itself. A warning, such as a link to nowhere, is an error.
# Usage: build.sh, with the environment of `make env`
set -euo pipefail
# Not through the link that makes a checkout a collection: ansible-doc goes by what a path says.
cd -P "$(dirname "$0")/../.."
out=$(pwd -P)/.state/docs
lock=docs/site/requirements.txt
tools=${XDG_CACHE_HOME:-$HOME/.cache}/mlops-mlflow/docs
if ! cmp -s "$lock" "$tools/requirements.txt"; then
  rm -rf "$tools"
  python -m venv --without-pip "$tools"
  uv pip install --quiet --require-hashes --python "$tools/bin/python" --requirement "$lock"
  cp "$lock" "$tools/requirements.txt"
fi
rm -rf "$out"
# As in the repository, so that the links between pages are the same ones.
mkdir -p "$out/source/kustomize" "$out/source/collection"
cp -r docs "$out/source/docs"
rm -r "$out/source/docs/site"
cp docs/site/{conf.py,index.md} "$out/source/"
cp kustomize/README.md "$out/source/kustomize/"
cp CHANGELOG.rst CONTRIBUTING.md "$out/source/"
chmod -R go-w "$out/source"
# The pages are of the collection as it is installed: ansible-doc finds no roles through a link.
export ANSIBLE_COLLECTIONS_PATH=$out/collections
ansible-galaxy collection build --output-path "$out" >/dev/null
ansible-galaxy collection install --force --offline --no-deps \
  --collections-path "$ANSIBLE_COLLECTIONS_PATH" "$out"/mlops-mlflow-*.tar.gz >/dev/null
"$tools/bin/antsibull-docs" collection --use-current --squash-hierarchy --fail-on-error \
  --cleanup everything --dest-dir "$out/source/collection" mlops.mlflow
"$tools/bin/sphinx-build" --quiet --fail-on-warning --keep-going --nitpicky --builder html \
  --doctree-dir "$out/doctrees" "$out/source" "$out/html"
echo "docs: $out/html/index.html"
