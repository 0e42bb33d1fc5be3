# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What one judgement costs in a large namespace: 5,000 pods, 20,000 events, 100 pods starting.

The lists come as a client reads them, page by page from JSON. Time is this process' own (CPU), and
memory what the process has grown by.

    PYTHONPATH=.ansible/collections python -m benchmarks.large_namespace
"""

from __future__ import annotations

import json
import pathlib
import statistics
import time
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import (
    CLAIM,
    DEPLOYMENT,
    EVENT,
    POD,
    REPLICA_SET,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.state import Clock, State
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict import (
    Rules,
    Target,
    judge,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.watch import slim

from benchmarks.harness import BIN, BenchError, Ended
from benchmarks.report import Row

WALL = 1768003200.0
PAGE = 500
Object = dict[str, t.Any]


def page(number: int, make: t.Callable[[int], Object]) -> bytes:
    """Return one page of a list, as the API server sends it."""
    return json.dumps([make(number * PAGE + one) for one in range(PAGE)]).encode()


def a_pod(number: int, starting: int) -> Object:
    """Return a pod as large as those of an MLflow server are, some 6 kB."""
    begins = number < starting
    name = f"web-2-{number:05d}" if begins else f"other-{number:05d}"
    probe = {"httpGet": {"path": "/health", "port": 5000}, "periodSeconds": 10}
    env = [{"name": f"MLFLOW_SETTING_{one}", "value": f"value-{one}-{number}"} for one in range(30)]
    state = {"waiting": {"reason": "ContainerCreating"}} if begins else {"running": {}}
    return {
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": f"uid-{number:032d}",
            "resourceVersion": str(number + 1),
            "creationTimestamp": "2026-01-09T23:59:00Z",
            "labels": {f"app.kubernetes.io/label-{one}": "mlflow" for one in range(6)},
            "annotations": {"checksum/config": "0" * 64},
            "ownerReferences": [{"uid": "r" if begins else "x", "controller": True}],
        },
        "spec": {
            "nodeName": f"node-{number % 50}",
            "containers": [
                {
                    "name": "main",
                    "image": "registry.example/mlflow:3.17.2",
                    "env": env,
                    "readinessProbe": probe,
                    "livenessProbe": probe,
                    "volumeMounts": [
                        {"name": f"v{one}", "mountPath": f"/v{one}"} for one in range(5)
                    ],
                    "resources": {"limits": {"memory": "1Gi"}, "requests": {"cpu": "100m"}},
                }
            ],
            "volumes": [
                {"name": f"v{one}", "configMap": {"name": f"config-{one}"}} for one in range(5)
            ],
            "tolerations": [{"key": f"key-{one}", "operator": "Exists"} for one in range(4)],
        },
        "status": {
            "phase": "Pending" if begins else "Running",
            "conditions": [
                {
                    "type": kind,
                    "status": str(not begins),
                    "lastTransitionTime": "2026-01-09T23:59:01Z",
                }
                for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
            ],
            "containerStatuses": [
                {"name": "main", "ready": not begins, "restartCount": 0, "state": state}
            ],
        },
    }


def an_event(number: int) -> Object:
    """Return an event of the usual size; the reasons are those of a pod's start."""
    pod = number % 5000
    reason = ("Scheduled", "Pulling", "Pulled", "Started")[number // 5000 % 4]
    return {
        "metadata": {
            "name": f"event-{number}.{number:016x}",
            "namespace": "ns",
            "uid": f"event-{number:030d}",
            "resourceVersion": str(number + 10_000),
            "creationTimestamp": "2026-01-09T23:59:00Z",
            "managedFields": [
                {"manager": "kubelet", "fieldsV1": {f"f:{k}": {} for k in range(20)}}
            ],
        },
        "involvedObject": {
            "kind": "Pod",
            "namespace": "ns",
            "name": f"pod-{pod}",
            "uid": f"uid-{pod:032d}",
            "apiVersion": "v1",
            "fieldPath": "spec.containers{main}",
        },
        "reason": reason,
        "message": f"{reason} of pod {pod}, as long as such a message usually is",
        "type": "Normal",
        "count": 1,
        "source": {"component": "kubelet", "host": f"node-{pod % 50}"},
        "firstTimestamp": "2026-01-09T23:59:00Z",
        "lastTimestamp": "2026-01-09T23:59:00Z",
        "reportingComponent": "kubelet",
        "reportingInstance": f"node-{pod % 50}",
    }


def memory() -> float:
    """Return how much memory this process has now (MiB)."""
    for line in pathlib.Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return float("nan")


def measure(pods: int = 5000, events: int = 20_000, starting: int = 100) -> dict[str, float]:
    """Return what it costs: milliseconds of a judgement, seconds to take the lists, MiB."""
    state, clock = State(), Clock(0.0, WALL)
    two = {"deployment.kubernetes.io/revision": "2"}
    web = {
        "metadata": {"name": "web", "namespace": "ns", "uid": "d", "annotations": two},
        "spec": {"replicas": starting},
        "status": {"replicas": starting, "updatedReplicas": starting, "availableReplicas": 0},
    }
    owner = [{"uid": "d"}]
    newest = {
        "metadata": {
            "name": "web-2",
            "namespace": "ns",
            "uid": "r",
            "annotations": two,
            "ownerReferences": owner,
        }
    }
    before, began = memory(), time.process_time()
    spent = 0.0
    for kind, count, make in (
        (POD, pods, lambda number: a_pod(number, starting)),
        (EVENT, events, an_event),
    ):
        items: list[Object] = []
        for number in range(count // PAGE):
            made = time.process_time()
            body = page(number, make)
            spent += time.process_time() - made
            items += [slim(kind, item) for item in json.loads(body)]
        state.replace(kind, "ns", items, clock)
    for kind, item in ((DEPLOYMENT, web), (REPLICA_SET, newest)):
        state.replace(kind, "ns", [item], clock)
    state.replace(CLAIM, "ns", [], clock)
    taken = time.process_time() - began - spent
    target = Target(DEPLOYMENT, "ns", "web")
    judgements = []
    for turn in range(30):
        began = time.process_time()
        judge(target, state, Clock(float(turn), WALL + turn), Rules(since=WALL))
        judgements.append((time.process_time() - began) * 1000)
    return {
        "first_judgement_ms": judgements[0],
        "judgement_ms": statistics.median(judgements),
        "lists_s": taken,
        "memory_mib": memory() - before,
    }


def rows(quick: bool) -> list[Row]:
    """Measure in a process of its own, whose memory is nobody else's."""
    process = Ended([str(BIN / "python"), "-m", "benchmarks.large_namespace"])
    if process.wait():
        raise BenchError(f"the large namespace cannot be measured: {process.words()[-500:]}")
    told = dict(line.split(": ") for line in process.output().splitlines())
    cost, grown = float(told["judgement_ms"]), float(told["memory_mib"])
    size = "5,000 pods, 20,000 events, 100 of the pods starting; the process' own time."
    return [
        Row(
            "a judgement in a large namespace", "—", "≤ 10 ms", (cost,), (), cost <= 10, "ms", size
        ),
        Row("… memory for it", "—", "≤ 150 MiB", (grown,), (), grown <= 150, "MiB"),
    ]


if __name__ == "__main__":
    for name, value in measure().items():
        print(f"{name}: {value:.1f}")
