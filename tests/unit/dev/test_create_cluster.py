"""A cluster that could not be created: why, what to type and where the log is, in eight lines."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[3] / "dev/roles/kind_cluster/files/create_cluster.py"
# As kind 0.33 says it; kubeadm's part is longer.
KUBEADM = """\
Creating cluster "mlflow" ...
 • Preparing nodes 📦   ...
 ✓ Preparing nodes 📦
 • Starting control-plane 🕹️  ...
 ✗ Starting control-plane 🕹️
ERROR: failed to create cluster: failed to init node with kubeadm: command "podman exec mlflow-\
control-plane kubeadm init --config=/kind/kubeadm.conf" failed with error: exit status 1
Command Output: I1129 14:00:00.000000     145 initconfiguration.go:255] loading configuration
"""
STARTING = "[kubelet-check] Waiting for a healthy kubelet\n" * 190


@pytest.fixture(scope="module")
def create() -> ModuleType:
    spec = importlib.util.spec_from_file_location("create_cluster", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("text", "reason", "to_do"),
    [
        (
            KUBEADM + STARTING + "[kubelet-check] The kubelet is not healthy after 4m0.000532104s\n"
            "error execution phase wait-control-plane: failed while waiting for the kubelet\n",
            "failed to init node with kubeadm: error execution phase wait-control-plane: failed",
            "too busy or too small",
        ),
        (
            KUBEADM + "\t[ERROR Swap]: running with swap on is not supported\nerror execution phase"
            " preflight: [preflight] Some fatal errors occurred:\n",
            "failed to init node with kubeadm: [ERROR Swap]: running with swap on is not supported",
            "look at the log",
        ),
        (
            'ERROR: failed to create cluster: command "podman run --name mlflow-control-plane"'
            " failed with error: exit status 126\n\nCommand Output: Error: cannot listen on the TCP"
            " port: listen tcp4 127.0.0.1:15000: bind: address already in use\n",
            "Reason: failed to create cluster: Error: cannot listen on the TCP port",
            "KIND_CLUSTER_HTTP_PORT",
        ),
        (
            'ERROR: failed to create cluster: failed to pull image "kindest/node:v1": command'
            ' "docker pull" failed with error: exit status 1\nCommand Output: Error response from'
            " daemon: manifest unknown\n",
            "manifest unknown",
            "KIND_CLUSTER_SOURCE=build",
        ),
        ("", "kind failed", "look at the log"),
    ],
)
def test_the_report_is_short_and_says_what_to_do(
    create: ModuleType, text: str, reason: str, to_do: str
) -> None:
    report = create.report(text, "mlflow", Path("/cache/log/cluster-mlflow.log"))
    lines = report.splitlines()
    assert len(lines) <= 8 and all(len(line) < 330 for line in lines)
    assert reason in report and to_do in report and "/cache/log/cluster-mlflow.log" in report


def kind(folder: Path, code: int) -> dict[str, str]:
    """A kind that writes down what it was called with, and fails to create with this code."""
    program = folder / "kind"
    program.write_text(
        f'#!/bin/sh\necho "$@" >>{folder}/calls\n'
        f'if [ "$1" = create ]; then cat >{folder}/configuration; echo said; exit {code}; fi\n'
    )
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


def run(folder: Path, code: int) -> tuple[int, str, list[str]]:
    done = subprocess.run(
        [sys.executable, SCRIPT, folder / "log/cluster.log", "mlflow", "--config=-"],
        input="kind: Cluster",
        env=kind(folder, code),
        capture_output=True,
        text=True,
        check=False,
    )
    calls = [line.split()[0] for line in (folder / "calls").read_text().splitlines()]
    return done.returncode, done.stdout, calls


def test_a_cluster_that_comes_up_is_kept(tmp_path: Path) -> None:
    assert run(tmp_path, 0) == (0, "", ["create"])
    assert (tmp_path / "configuration").read_text() == "kind: Cluster"


def test_of_one_that_does_not_the_logs_are_kept_before_it_goes(tmp_path: Path) -> None:
    code, said, calls = run(tmp_path, 1)
    assert code == 1 and calls == ["create", "export", "delete"]
    assert str(tmp_path / "log/cluster.log") in said
    assert (tmp_path / "log/cluster.log").read_text().startswith("said\n")


def test_a_network_that_another_one_made_meanwhile_is_taken(tmp_path: Path) -> None:
    environment = kind(tmp_path, 0)
    program = tmp_path / "kind"
    text = program.read_text()
    taken = "echo failed to ensure podman network: Error: network name kind: network already exists"
    program.write_text(
        text.replace(
            "cat >",
            f"[ -e {tmp_path}/network ] || {{ touch {tmp_path}/network; {taken}; exit 1; }}; cat >",
        )
    )
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path / "log/cluster.log", "mlflow", "--config=-"],
        input="kind: Cluster",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / "calls").read_text().count("create") == 2
    assert (tmp_path / "configuration").read_text() == "kind: Cluster"
