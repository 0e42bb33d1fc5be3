#!/usr/bin/env bash
# Makes $OUT/rootfs.tar: a minimal Debian of the named suite with the packages given.
# Usage: rootfs.sh SUITE [PACKAGE …]
set -euo pipefail
suite=$1
shift
tree="$WORK/$suite"
include=$(IFS=,; echo "$*")
# In a mount namespace of its own, so that an interrupted run leaves nothing mounted.
unshare --mount debootstrap --variant=minbase ${include:+--include="$include"} "$suite" "$tree"
# What only a package manager at work needs; lists and archives are most of it.
rm -rf "$tree"/var/cache/apt/archives/*.deb "$tree"/var/lib/apt/lists/* \
  "$tree"/usr/share/{doc,man,locale,info}/* "$tree"/var/log/*.log
tar --numeric-owner -C "$tree" -cf "$OUT/rootfs.tar" .
