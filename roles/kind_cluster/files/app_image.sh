#!/usr/bin/env bash
# Builds one of the images under images/ on a Debian made by rootfs.sh.
# Usage: app_image.sh IMAGE CONTEXT ROOTFS_TAR CA_BUNDLE [BUILD_ARG=VALUE …]
set -euo pipefail
image=$1 context=$2 rootfs=$3 bundle=$4
shift 4
base=localhost/mlops-mlflow/debian:trixie
# By digest of the archive: an older base under the same name is replaced.
podman import "$rootfs" "$base" >/dev/null
cp -r "$context" "$WORK/context"
# Mounted while pip runs, for networks that re-encrypt; it does not become part of the image.
cp "$bundle" "$WORK/context/ca-certificates.crt"
arguments=()
for argument in "$@"; do arguments+=(--build-arg "$argument"); done
podman build --network=host --layers=false --build-arg "BASE=$base" "${arguments[@]}" \
  --tag "$image" "$WORK/context"
