#!/usr/bin/env bash
# Runs a command where Python is 3.13: in a Debian trixie, for a machine that has an older Debian.
# Home, checkout, caches, temporary folders and network are those of the machine, at the same paths.
# Usage: trixie.sh COMMAND …
set -euo pipefail
checkout=$(cd -P "$(dirname "$0")/../.." && pwd -P)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/mlops-mlflow
root=$cache/trixie-python
mkdir -p "$cache"
# One run makes it, others wait.
exec 9>"$root.lock"
flock 9
if [ ! -e "$root/made" ]; then
  if [ "$(id -u)" != 0 ]; then
    echo "python3.13 is not on the PATH, and only root can bootstrap Debian trixie, which has it" >&2
    exit 1
  fi
  if ! command -v debootstrap >/dev/null; then
    { apt-get update && apt-get install --yes --no-install-recommends debootstrap; } >"$root.log" 2>&1
  fi
  rm -rf "$root"
  # In a mount namespace of its own, so that an interrupted run leaves nothing mounted.
  if ! unshare --mount debootstrap --variant=minbase --include=ca-certificates,git,python3-venv \
    trixie "$root" >>"$root.log" 2>&1; then
    tail -n 5 "$root.log" >&2
    exit 1
  fi
  rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
  touch "$root/made"
fi
exec 9>&-
export root
# shellcheck disable=SC2016 # The inner shell expands them.
exec unshare --mount bash -c '
  set -euo pipefail
  mount --make-rprivate /
  here=$PWD
  for path in /proc /dev /tmp /etc/ssl /etc/resolv.conf /etc/hosts /etc/pip.conf "$@"; do
    if [ "$path" = -- ]; then break; fi
    [ -e "$path" ] || continue
    # Home may hold the rest already.
    if [ "$path" -ef "$root$path" ]; then continue; fi
    if [ -d "$path" ]; then mkdir -p "$root$path"; else mkdir -p "$root${path%/*}"; touch "$root$path"; fi
    mount --rbind "$path" "$root$path"
  done
  while [ "$1" != -- ]; do shift; done
  shift
  exec chroot "$root" /usr/bin/env --chdir="$here" "$@"
' trixie "$HOME" "$cache" "$checkout" "${TMPDIR:-/tmp}" -- "$@"
