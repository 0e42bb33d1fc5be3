#!/usr/bin/env bash
# Gives each node its part of the pods' addresses, and ways to the others'. Once more, it changes nothing.
# Usage: pod_network.sh ENGINE KUBECONFIG
set -euo pipefail
engine=$1
export KUBECONFIG=$2
every='{range .items[*]}{.metadata.name} {.spec.podCIDR} {.status.addresses[?(@.type=="InternalIP")].address}{"\n"}{end}'
mapfile -t nodes < <(kubectl get nodes --output="jsonpath=$every")

# In the node: the addresses of its own pods, then pairs of others' addresses and where those are.
# shellcheck disable=SC2016 # expanded in the node
in_node='
  file=/etc/cni/net.d/10-ptp.conflist own=$1
  shift
  if ! grep -q "\"$own\"" "$file"; then
    sed -i "s#\"subnet\": \"[^\"]*\"#\"subnet\": \"$own\"#" "$file"
    echo changed
  fi
  # Before what the node refuses to everybody: see its node-network.service.
  allow() {
    if ! iptables -C FORWARD "$@" -j ACCEPT 2>/dev/null; then
      iptables -I FORWARD "$@" -j ACCEPT
      echo changed
    fi
  }
  allow -s 10.244.0.0/16 -d 10.244.0.0/16
  while [ $# -gt 0 ]; do
    allow -s 10.244.0.0/16 -d "$2"
    if ! ip route show "$1" via "$2" | grep -q .; then
      ip route replace "$1" via "$2"
      echo changed
    fi
    shift 2
  done'
for entry in "${nodes[@]}"; do
  read -r node own _address <<<"$entry"
  others=()
  for other in "${nodes[@]}"; do
    read -r name range address <<<"$other"
    if [ "$name" != "$node" ]; then others+=("$range" "$address"); fi
  done
  "$engine" exec "$node" sh -euc "$in_node" node "$own" "${others[@]}" | sort --unique
  # What started before has an address that leads to another node.
  of_node="{range .items[?(@.spec.hostNetwork!=true)]}{.metadata.namespace} {.metadata.name} {.status.podIP}{\"\\n\"}{end}"
  kubectl get pods --all-namespaces --field-selector="spec.nodeName=$node" --output="jsonpath=$of_node" |
    while read -r namespace pod address; do
      case $address in "${own%.*}".*) continue ;; esac
      kubectl --namespace="$namespace" delete pod "$pod" --wait=false >/dev/null
    done
done
