#!/usr/bin/env bash
# Brings an image into a kind cluster under the names that the manifests use, unless it is there.
# Usage: load_image.sh ENGINE CLUSTER WORK_DIR IMAGE NAME …
set -euo pipefail
engine=$1 cluster=$2 work=$3 image=$4
shift 4
mapfile -t nodes < <(kind get nodes --name="$cluster" 2>/dev/null)
id=$("$engine" image inspect --format '{{.Id}}' "$image")
# A name of ours in the node that carries the image's id: this very content is there.
marker=localhost/mlops-mlflow/loaded:${id#sha256:}
in_node() { "$engine" exec "$1" ctr --namespace=k8s.io images "${@:2}" 2>/dev/null; }
missing=
for node in "${nodes[@]}"; do
  if [ -z "$(in_node "$node" list --quiet "name==$marker")" ]; then missing=1; fi
done
if [ -z "$missing" ]; then exit 0; fi

mkdir -p "$work"
archive=$(mktemp "$work/image-XXXXXX.tar")
trap 'rm -f "$archive"' EXIT
rm "$archive" # podman save refuses to overwrite
case $engine in
  podman) podman save --quiet --format=docker-archive --output="$archive" "$image" ;;
  *) docker save --output="$archive" "$image" ;;
esac
kind load image-archive --name="$cluster" "$archive"
full=$image
# containerd knows images of Docker Hub by their full name.
case $image in */*/*) ;; */*) full=docker.io/$image ;; *) full=docker.io/library/$image ;; esac
for node in "${nodes[@]}"; do
  for name in "$@" "$marker"; do
    if [ "$name" != "$full" ]; then in_node "$node" tag --force "$full" "$name" >/dev/null; fi
  done
done
echo loaded
