"""What is built in Go is compiled once: what two programs are made of has one version."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROLE = Path(__file__).parents[3] / "dev/roles/kind_cluster"
TOOLS = ROLE / "files/tools"
# They are made of newer versions than Kubernetes is, and are compiled for themselves alone.
APART = ("containerd", "etcd", "runc")
# Nearly everything hangs on these: where one differs, hundreds of packages are compiled twice.
SHARED = (
    "golang.org/x/net",
    "google.golang.org/protobuf",
    "k8s.io/api",
    "k8s.io/apimachinery",
    "k8s.io/client-go",
)


def versions(module: str) -> dict[str, str]:
    """The modules that a go.mod asks for, with what it replaces them by."""
    text = (TOOLS / module / "go.mod").read_text()
    found = dict(re.findall(r"^\s*(?:require )?([\w./-]+\.\w+[\w./-]*) (v\S+)", text, re.MULTILINE))
    return found | dict(re.findall(r"^\s*(?:replace )?(\S+) => \S+ (v\S+)", text, re.MULTILINE))


@pytest.mark.parametrize("module", sorted(path.parent.name for path in TOOLS.glob("*/go.mod")))
def test_what_is_shared_with_kubernetes_has_its_version(module: str) -> None:
    mine, theirs = versions(module), versions("kubernetes")
    differing = [name for name in SHARED if name in mine and mine[name] != theirs[name]]
    assert bool(differing) is (module in APART), differing


def test_each_module_is_built_and_each_build_has_a_module() -> None:
    builds = yaml.safe_load((ROLE / "vars/main.yml").read_text())["__kind_cluster_go"]
    modules = {build.get("module", name) for name, build in builds.items()}
    assert modules == {path.parent.name for path in TOOLS.glob("*/go.mod")}


def test_coredns_has_every_plugin_that_kubeadm_asks_for() -> None:
    # kubeadm's Corefile (cmd/kubeadm/app/phases/addons/dns/manifests.go); prometheus is `metrics`.
    asked = {"errors", "health", "ready", "kubernetes", "metrics", "forward"}
    asked |= {"cache", "loop", "reload", "loadbalance"}
    has = re.findall(r"coredns/plugin/(\w+)", (TOOLS / "coredns/main.go").read_text())
    assert set(has) == asked


def test_steps_are_counted_with_the_flags_of_the_build() -> None:
    """Else Go would take everything for new: its cache goes by the flags."""
    flags = [
        set(
            re.findall(
                r"\s(-(?:buildvcs|trimpath|gcflags)\S*)", (ROLE / "files" / name).read_text()
            )
        )
        for name in ("go_build.sh", "go_steps.sh")
    ]
    assert flags[0] == flags[1] and len(flags[0]) == 3
