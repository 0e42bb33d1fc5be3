# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Deploy into a fresh namespace, and then once more with nothing to do."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from benchmarks.harness import ROOT, namespaces, timed
from benchmarks.report import Row, percentile

OURS, THEIRS = "bench-site", "bench-kubectl"


def _site() -> list[str]:
    return [
        "ansible-playbook", "-i", str(ROOT / "inventories/development"), str(ROOT / "site.yml"),
        "-e", f"mlflow_namespace={OURS}", "-e", '{"mlflow_service": {"type": "ClusterIP"}}',
        "-e", "mlflow_url=", "-e", "mlflow_smoke_test=false",
    ]  # fmt: skip


def _kubectl(place: Path) -> list[str]:
    """Return what applies the same overlay, for another namespace, and waits for it."""
    overlay = os.path.relpath(ROOT / "kustomize/overlays/development", place)
    to_cluster_ip = [
        {"op": "remove", "path": "/spec/ports/0/nodePort"},
        {"op": "replace", "path": "/spec/type", "value": "ClusterIP"},
    ]
    service = {"target": {"kind": "Service", "name": "mlflow"}, "patch": json.dumps(to_cluster_ip)}
    (place / "kustomization.yml").write_text(
        json.dumps({"resources": [overlay], "namespace": THEIRS, "patches": [service]})
    )
    script = (
        f"kubectl apply -k {place} && "
        f"kubectl -n {THEIRS} rollout status deployment/mlflow --timeout=10m"
    )
    return ["bash", "-c", script]


def measure(quick: bool) -> list[Row]:
    """Deploy with both by turns, each alone."""
    ours: list[float] = []
    theirs: list[float] = []
    again: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        deployments = [(ours, _site()), (theirs, _kubectl(Path(folder).resolve()))]
        for turn in range(1 if quick else 3):
            with namespaces(OURS, THEIRS):
                for figures, command in deployments[:: 1 if turn % 2 else -1]:
                    figures.append(timed(command))
                again += [timed(_site()) for _turn in range(2)]
    more = percentile(ours, 50) - percentile(theirs, 50)
    return [
        Row(
            "site.yml on a fresh namespace",
            "kubectl apply -k && kubectl rollout status",
            "≤ +5 s",
            tuple(ours),
            tuple(theirs),
            more <= 5,
            "s",
            f"{more:+.1f} s, of the medians. Ours also waits for the migration and asks every "
            "server for its database; the smoke test, which kubectl has nothing like, is left out.",
        ),
        Row(
            "site.yml with nothing to do",
            "—",
            "≤ 10 s",
            tuple(again),
            (),
            percentile(again, 95) <= 10,
        ),
    ]
