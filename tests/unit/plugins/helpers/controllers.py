# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the controllers of Kubernetes make of manifests: ReplicaSets, pods and statuses."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]
FIXTURES = Path(__file__).parents[1] / "fixtures/diagnosis"
NAMESPACE = "ns"
EARLY = "2026-01-01T00:00:00Z"
_REVISION = {"deployment.kubernetes.io/revision": "1"}


def fixture(name: str) -> dict[str, Any]:
    """Return a fixture: its objects, and what is expected of them."""
    document: dict[str, Any] = yaml.safe_load((FIXTURES / f"{name}.yml").read_text())
    return document


def brought_up(manifests: list[Object], broken: dict[str, Object] | None = None) -> list[Object]:
    """Return the objects and what controllers add; C(broken) maps KIND/NAME to a status.

    The status is that of the first container of the workload's pod.
    """
    objects: list[Object] = []
    for manifest in copy.deepcopy(manifests):
        name, kind = manifest["metadata"]["name"], manifest["kind"]
        manifest["metadata"] |= {"namespace": NAMESPACE, "generation": 1}
        manifest["metadata"].setdefault("uid", f"{kind}-{name}")
        manifest["metadata"].setdefault("creationTimestamp", EARLY)
        objects.append(manifest)
        if kind not in ("Deployment", "StatefulSet"):
            continue
        trouble = (broken or {}).get(f"{kind}/{name}")
        up = 0 if trouble else manifest["spec"]["replicas"]
        manifest["status"] = {
            "observedGeneration": 1,
            "replicas": manifest["spec"]["replicas"],
            "updatedReplicas": manifest["spec"]["replicas"],
            "readyReplicas": up,
            "availableReplicas": up,
            "currentRevision": "1",
            "updateRevision": "1",
        }
        owner = manifest
        if kind == "Deployment":
            manifest["metadata"].setdefault("annotations", {}).update(_REVISION)
            owner = _owned("ReplicaSet", f"{name}-1", manifest)
            owner["metadata"]["annotations"] = dict(_REVISION)
            objects.append(owner)
        for template in manifest["spec"].get("volumeClaimTemplates") or []:
            claim = _owned("PersistentVolumeClaim", f"{template['metadata']['name']}-{name}-0")
            objects.append(claim | {"spec": {}, "status": {"phase": "Bound"}})
        if manifest["spec"]["replicas"]:
            objects.append(_pod(manifest, owner, trouble))
    return objects


def _owned(kind: str, name: str, owner: Object | None = None) -> Object:
    metadata: Object = {
        "name": name,
        "namespace": NAMESPACE,
        "uid": f"{kind}-{name}",
        "creationTimestamp": EARLY,
    }
    if owner:
        reference = {"kind": owner["kind"], "name": owner["metadata"]["name"], "controller": True}
        metadata["ownerReferences"] = [{**reference, "uid": owner["metadata"]["uid"]}]
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata}


def _pod(workload: Object, owner: Object, trouble: Object | None) -> Object:
    pod = _owned("Pod", f"{workload['metadata']['name']}-0", owner)
    pod["metadata"]["labels"] = {"controller-revision-hash": "1"}
    pod["spec"] = copy.deepcopy(workload["spec"]["template"]["spec"])
    up = {"ready": True, "restartCount": 0, "state": {"running": {"startedAt": EARLY}}}
    down = {"ready": False, "restartCount": 0, "state": {}}
    pod["status"] = {
        "phase": "Running",
        "conditions": [
            {"type": "PodScheduled", "status": "True"},
            {"type": "Ready", "status": str(not trouble), "lastTransitionTime": EARLY},
        ],
        "containerStatuses": [
            {"name": container["name"], **(down | trouble if trouble else up)}
            for container in pod["spec"]["containers"]
        ],
    }
    return pod


CRASHED: Object = {
    "restartCount": 5,
    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
    "lastState": {
        "terminated": {
            "exitCode": 1,
            "reason": "Error",
            "startedAt": EARLY,
            "finishedAt": "2026-01-01T00:00:01Z",
        }
    },
}
