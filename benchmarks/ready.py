# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An object becomes ready: how much later does who waits return?"""

from __future__ import annotations

import json
from collections.abc import Callable

from benchmarks.harness import (
    NAMESPACE,
    BenchError,
    Ended,
    Object,
    Observer,
    apply,
    deployment,
    kubectl,
    namespaces,
    rollout,
)
from benchmarks.report import Row, percentile

# A new pod is ready no sooner than this (s), so that whoever waits has started before.
WARM = 5


def _rolled_out(generation: int) -> Callable[[Object], bool]:
    def holds(item: Object) -> bool:
        status = item.get("status", {})
        return bool(
            status.get("observedGeneration", 0) >= generation
            and status.get("updatedReplicas") == 1
            and status.get("availableReplicas") == 1
            and status.get("replicas") == 1
        )

    return holds


def _our_wait() -> Ended:
    return rollout("web")


def _kubectls_wait() -> Ended:
    return Ended(["kubectl", "rollout", "status", "deployment/web", "-n", NAMESPACE])


def measure(quick: bool) -> list[Row]:
    """Restart a Deployment again and again, and wait for it with both at once."""
    ours: list[float] = []
    theirs: list[float] = []
    probe = {"exec": {"command": ["true"]}, "periodSeconds": 1, "initialDelaySeconds": WARM}
    with namespaces(NAMESPACE):
        apply(deployment("web", readinessProbe=probe))
        kubectl("rollout", "status", "deployment/web", "-n", NAMESPACE)
        for turn in range(6 if quick else 20):
            kubectl("rollout", "restart", "deployment/web", "-n", NAMESPACE)
            there = json.loads(kubectl("get", "deployment", "web", "-n", NAMESPACE, "-o", "json"))
            observer = Observer(
                f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments",
                _rolled_out(there["metadata"]["generation"]),
            )
            # By turns the first: the machine is shared by both.
            if turn % 2:
                mine, peer = _our_wait(), _kubectls_wait()
            else:
                peer, mine = _kubectls_wait(), _our_wait()
            ready = observer.wait()
            codes = mine.wait(), peer.wait()
            if any(codes):
                raise BenchError(f"a healthy rollout was called a failure: {codes}")
            if json.loads(mine.output())["elapsed"] < 1 or ready - peer.started < 1:
                raise BenchError("the rollout was over before the wait for it had begun")
            ours.append((mine.at - ready) * 1000)
            theirs.append((peer.at - ready) * 1000)
    p95, peers = percentile(ours, 95), percentile(theirs, 95)
    return [
        Row(
            "object becomes ready → module returns",
            "kubectl rollout status",
            "p95 ≤ 250 ms, ≤ 1.0 times",
            tuple(ours),
            tuple(theirs),
            p95 <= 250 and p95 <= peers,
            "ms",
            f"p95 {p95:.0f} ms against {peers:.0f} ms, from the moment at which a third party's "
            "watch shows it to the end of the process.",
        )
    ]
