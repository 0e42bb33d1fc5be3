#!/usr/bin/env bash
# Builds the execution environment from a copy of what it is made of.
# Usage: build.sh IMAGE ENGINE BUILDER CHECKOUT KUSTOMIZE [ROOTFS_TAR CA_BUNDLE]
#   BUILDER is the Python that has ansible-builder; with ROOTFS_TAR, made by rootfs.sh, no registry is asked.
set -euo pipefail
image=$1 engine=$2 builder=$3 checkout=$4 kustomize=$5
definition=$WORK/definition
mkdir -p "$definition"
cp "$checkout/bindep.txt" "$checkout"/dev/execution-environment/{execution-environment.yml,requirements.txt} "$definition/"
cp "$kustomize" "$definition/kustomize"
(cd "$checkout" && ansible-galaxy collection build --force --output-path "$definition")
(cd "$definition" && "$builder" -m ansible_builder create --verbosity 2 --context "$WORK/context")
arguments=()
if [ $# -gt 5 ]; then
  base=localhost/mlops-mlflow/debian:trixie
  "$engine" import "$6" "$base" >/dev/null
  # Mounted while it builds, for networks that re-encrypt; it does not become part of the image.
  arguments+=(--build-arg "EE_BASE_IMAGE=$base" --layers=false
    --volume "$7:/etc/ssl/certs/ca-certificates.crt:ro")
fi
"$engine" build --network=host "${arguments[@]}" --file "$WORK/context/Containerfile" \
  --tag "$image" "$WORK/context"
