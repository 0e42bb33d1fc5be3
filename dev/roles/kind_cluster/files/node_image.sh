#!/usr/bin/env bash
# Makes kind's node image from Debian, kind's own base files and binaries built from source, and
# imports it into podman under the name given. For machines that no container registry answers.
# Usage: node_image.sh IMAGE KUBERNETES_VERSION ROOTFS_TAR KIND_BASE_FILES FILES_DIR PAUSE_C BINARIES_DIR …
set -euo pipefail
image=$1 version=$2 rootfs=$3 base=$4 files=$5 pause_c=$6
shift 6
tools=$WORK/binaries
mkdir -p "$tools"
for folder in "$@"; do ln -s "$folder"/* "$tools/"; done
tree=$WORK/tree
mkdir -p "$tree"
echo "unpacking Debian"
tar --numeric-owner -C "$tree" -xf "$rootfs"

echo "installing kind's base files and the binaries"
cp -r --no-preserve=mode,ownership "$base/." "$tree/"
chmod 0755 "$tree"/usr/local/bin/* "$tree"/kind "$tree"/kind/bin "$tree"/kind/bin/*
cp -r --no-preserve=mode,ownership "$files/." "$tree/"
install -m 0755 "$tools"/{kubeadm,kubectl,kubelet} "$tree/usr/bin/"
install -m 0755 "$tools"/{containerd,containerd-shim-runc-v2,ctr} "$tree/usr/local/bin/"
install -m 0755 "$tools/runc" "$tree/usr/local/sbin/runc"
mkdir -p "$tree/opt/cni/bin" "$tree/etc/kubernetes/manifests" "$tree/kind/manifests"
# The kubelet looks for CNI plugins in /opt/cni/bin, Debian installs them elsewhere.
cp "$tree"/usr/lib/cni/{host-local,loopback,portmap,ptp} "$tree/opt/cni/bin/"
printf '%s' "$version" >"$tree/kind/version"
# The name of the sandbox image, and the one setting that differs where the host may not lower
# a process's OOM score.
sed -i -e 's|^\( *sandbox_image = \).*|\1"localhost/kind/pause:3.10"|' \
  -e 's|^\( *restrict_oom_score_adj = \).*|\1true|' "$tree/etc/containerd/config.toml"

# What kind's own Containerfile does to a stock Debian: only its services start in the node.
find "$tree/lib/systemd/system/sysinit.target.wants/" -name systemd-tmpfiles-setup.service -delete
rm -f "$tree"/lib/systemd/system/multi-user.target.wants/* "$tree"/etc/systemd/system/*.wants/* \
  "$tree"/lib/systemd/system/local-fs.target.wants/* \
  "$tree"/lib/systemd/system/sockets.target.wants/*{udev,initctl}*
echo "ReadKMsg=no" >>"$tree/etc/systemd/journald.conf"
ln -sf /usr/lib/systemd/systemd "$tree/sbin/init"
systemctl --root="$tree" enable kubelet containerd undo-mount-hacks node-network
systemctl --root="$tree" mask systemd-binfmt
"$tools/ctr" oci spec |
  jq '.hooks.createContainer += [{"path": "/kind/bin/mount-product-files.sh"}]
      | del(.process.rlimits)' >"$tree/etc/containerd/cri-base.json"

echo "making the component images"
archives=$WORK/archives
mkdir -p "$archives"
one() { # NAME:TAG ENTRYPOINT, from the folder $WORK/image
  python3 "$(dirname "$0")/component_image.py" "$archives/${1%%:*}.tar" \
    "localhost/kind/$1" "$WORK/image" "$2"
  rm -rf "$WORK/image"
}
binary() { install -D -m 0755 "$1" "$WORK/image$2"; }
for component in kube-apiserver kube-controller-manager kube-scheduler; do
  binary "$tools/$component" "/usr/local/bin/$component"
  one "$component:$version" "/usr/local/bin/$component"
done
binary "$tools/etcd" /usr/local/bin/etcd
one etcd:built /usr/local/bin/etcd
binary "$tools/coredns" /coredns
one coredns:built /coredns
gcc -Os -static -o "$WORK/pause" "$pause_c"
binary "$WORK/pause" /pause
one pause:3.10 /pause
# kube-proxy calls iptables: its image carries that, and what it is linked against.
binary "$tools/kube-proxy" /usr/local/bin/kube-proxy
closure() {
  chroot "$tree" ldd "$1" | grep -o '/[^ :]*' | while read -r library; do
    install -D -m 0755 "$tree$library" "$WORK/image$library"
  done
}
binary "$tree/usr/sbin/xtables-nft-multi" /usr/sbin/xtables-nft-multi
closure /usr/sbin/xtables-nft-multi
binary "$tree/usr/sbin/conntrack" /usr/sbin/conntrack
closure /usr/sbin/conntrack
mkdir -p "$WORK/image/usr/lib/x86_64-linux-gnu" "$WORK/image/run" "$WORK/image/etc"
cp -r "$tree/usr/lib/x86_64-linux-gnu/xtables" "$WORK/image/usr/lib/x86_64-linux-gnu/"
# Its matches and targets are loaded when a rule names them, and bring libraries of their own
# (statistic, which spreads a Service over its endpoints, needs libm).
for extension in "$tree"/usr/lib/x86_64-linux-gnu/xtables/*.so; do
  closure "${extension#"$tree"}"
done
for name in iptables ip6tables; do
  for tool in "$name" "$name-save" "$name-restore"; do
    ln -s xtables-nft-multi "$WORK/image/usr/sbin/$tool"
  done
done
one "kube-proxy:$version" /usr/local/bin/kube-proxy
# The provisioner's helper pod runs a shell; a static one, since there is nothing else in the image.
binary "$tools/local-path-provisioner" /usr/bin/local-path-provisioner
binary "$tree/bin/busybox" /bin/busybox
for name in sh mkdir rm chmod; do ln -s busybox "$WORK/image/bin/$name"; done
one local-path-provisioner:built /usr/bin/local-path-provisioner

echo "importing them into the node's containerd"
"$tools/containerd" --root "$tree/var/lib/containerd" --state "$WORK/state" \
  --address "$WORK/containerd.sock" --log-level error &
containerd=$!
trap 'kill "$containerd" 2>/dev/null || true' EXIT
ctr() { "$tools/ctr" --address "$WORK/containerd.sock" --namespace k8s.io "$@"; }
for _ in $(seq 50); do
  ctr version >/dev/null 2>&1 && break
  sleep 0.2
done
for archive in "$archives"/*.tar; do
  ctr images import --local "$archive"
  rm "$archive"
done
ctr images check -q
kill "$containerd"
wait "$containerd" || true
trap - EXIT

echo "importing the node image into podman"
tar --numeric-owner -C "$tree" -cf - . | podman import \
  --change 'ENV container=docker' \
  --change 'STOPSIGNAL SIGRTMIN+3' \
  --change 'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]' \
  - "$image"
