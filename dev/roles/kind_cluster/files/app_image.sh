#!/usr/bin/env bash
# Builds one of the images under images/ on a Debian made by rootfs.sh, with its bill of materials in
# /usr/share/doc/sbom and in $OUT.
# Usage: app_image.sh IMAGE CONTEXT ROOTFS_TAR CA_BUNDLE SBOM_IMAGE [BUILD_ARG=VALUE …]
# SBOM_IMAGE is the image made from images/sbom; empty: this is that one, and it has none.
set -euo pipefail
image=$1 context=$2 rootfs=$3 bundle=$4 sbom=$5
shift 5
base=localhost/mlops-mlflow/debian:base
# By digest of the archive: an older base under the same name is replaced.
podman import "$rootfs" "$base" >/dev/null
cp -r "$context" "$WORK/context"
# Mounted while pip runs, for networks that re-encrypt; it does not become part of the image.
cp "$bundle" "$WORK/context/ca-certificates.crt"
arguments=()
for argument in "$@"; do arguments+=(--build-arg "$argument"); done
build() { podman build --network=host --layers=false "$@"; }
if [ -z "$sbom" ]; then
  build --build-arg "BASE=$base" --tag "$image" "$WORK/context"
  exit
fi
# The name is given last: until then this is no image that anything would take for a result.
build --build-arg "BASE=$base" "${arguments[@]}" --iidfile "$WORK/id" "$WORK/context"
built=$(cat "$WORK/id")
mkdir "$WORK/sbom"
podman run --rm --network=none --mount "type=image,source=$built,destination=/image" \
  --volume "$WORK/sbom:/sbom" "$sbom" "${image##*/}"
printf 'FROM %s\nCOPY --chmod=0444 *.cdx.json /usr/share/doc/sbom/\n' "$built" >"$WORK/sbom/Containerfile"
build --tag "$image" "$WORK/sbom"
cp "$WORK"/sbom/*.cdx.json "$OUT"
