# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watch streams of rollouts that are noisy but healthy, as the controllers and kubelets send them.

Each is made from a seed: an old revision, a new one, and troubles that pass by themselves. The
order in which the objects change, their conditions and events are those of Kubernetes 1.37.
"""

from __future__ import annotations

import copy
import random
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import (
    CLAIM,
    DEPLOYMENT,
    EVENT,
    POD,
    REPLICA_SET,
    Kind,
)
from ansible_collections.mlops.mlflow.tests.unit.plugins.replay import Recorded, stamp

Object = dict[str, t.Any]

NOISES = (
    "old_pods_die",
    "one_restart",
    "slow_pull",
    "pull_retried",
    "late_volume",
    "late_node",
    "probe_flaps",
    "autoscaled",
    "webhook",
    "failed_mount",
    "evicted",
    "late_config",
)


class Rollout:
    """One rollout of a Deployment; C(recording) is what the watches say of it."""

    def __init__(self, seed: int, namespace: str, wall: float) -> None:
        self.random = random.Random(seed)  # noqa: S311 - a recording, not a secret
        self.namespace = namespace
        self.wall = wall
        self.noises = {NOISES[seed % len(NOISES)], self.random.choice(NOISES)}
        self.probed = self.random.random() < 0.7
        self.replicas = self.random.randint(1, 3)
        self.recording: list[Recorded] = []
        self.numbers = 0
        self.old_pods: list[Object] = []
        self.ready = 0
        self.created = 0
        self._deployment = self._workload()
        self._play()
        # Watches of different kinds are not in step; each one of them is.
        self.recording.sort(key=lambda one: one.at)

    # --- Objects ---------------------------------------------------------------------------------

    def _meta(self, name: str, owner: str = "", **more: t.Any) -> Object:
        metadata: Object = {"name": name, "namespace": self.namespace, "uid": f"uid-{name}", **more}
        if owner:
            metadata["ownerReferences"] = [{"uid": f"uid-{owner}", "controller": True}]
        return metadata

    def _spec(self) -> Object:
        probe = {"readinessProbe": {"httpGet": {"port": 5000}}} if self.probed else {}
        spec: Object = {
            "initContainers": [{"name": "schema", "image": "mlflow"}],
            "containers": [{"name": "mlflow", "image": "mlflow", **probe}],
        }
        if "late_volume" in self.noises:
            claim = {"persistentVolumeClaim": {"claimName": "data"}}
            spec["volumes"] = [{"name": "data", **claim}]
        return spec

    def _workload(self) -> Object:
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": self._meta("web", generation=2, annotations=_revision(2)),
            "spec": {"replicas": self.replicas, "template": {"spec": self._spec()}},
            "status": {"observedGeneration": 1},
        }

    def _tell(self, at: float, kind: Kind, item: Object, event: str = "MODIFIED") -> None:
        self.recording.append(Recorded(at, kind, event, copy.deepcopy(item)))

    def _event(self, at: float, about: Object, reason: str, message: str, path: str = "") -> None:
        self.numbers += 1
        metadata = about["metadata"]
        involved = {"kind": about["kind"], "name": metadata["name"], "uid": metadata["uid"]}
        if path:
            involved["fieldPath"] = f"spec.containers{{{path}}}"
        event = {
            "kind": "Event",
            "metadata": self._meta(f"{metadata['name']}.{self.numbers}"),
            "involvedObject": involved,
            "reason": reason,
            "message": message,
            "lastTimestamp": stamp(at, self.wall),
        }
        # The events' watch is often behind the others.
        self._tell(at + self.random.uniform(0.0, 0.2), EVENT, event, "ADDED")

    def _count(self, at: float, **more: t.Any) -> None:
        """Tell what the Deployment's controller counts."""
        old = len(self.old_pods)
        self._deployment["metadata"]["annotations"] = _revision(2)
        self._deployment["status"] = {
            "observedGeneration": self._deployment["metadata"]["generation"],
            "replicas": old + self.created,
            "updatedReplicas": self.created,
            "readyReplicas": old + self.ready,
            "availableReplicas": old + self.ready,
            **more,
        }
        self._tell(at, DEPLOYMENT, self._deployment)

    # --- What happens ----------------------------------------------------------------------------

    def _play(self) -> None:
        before = dict(_revision(1))
        first = copy.deepcopy(self._deployment)
        first["metadata"]["annotations"] = before
        self._tell(0, DEPLOYMENT, first, "ADDED")
        old = {"kind": "ReplicaSet", "metadata": self._meta("web-1", "web", annotations=before)}
        self._tell(0, REPLICA_SET, old, "ADDED")
        for number in range(self.replicas):
            pod = self._pod(f"web-1-{number}", "web-1", 0.0)
            _run(pod, stamp(-3600, self.wall))
            self.old_pods.append(pod)
            self._tell(0, POD, pod, "ADDED")
        at = self.random.uniform(0.2, 2.0)
        new = {
            "kind": "ReplicaSet",
            "metadata": self._meta("web-2", "web", annotations=_revision(2)),
        }
        self._tell(at, REPLICA_SET, new, "ADDED")
        self._count(at + self.random.uniform(-0.1, 0.1))
        if "webhook" in self.noises:
            at = self._webhook(at, new)
        if "old_pods_die" in self.noises:
            self._kill_old(at)
        if "evicted" in self.noises:
            self._evict(at)
        end = at
        number = 0
        while number < self.replicas:
            if "autoscaled" in self.noises and number == self.replicas - 1 and self.replicas < 5:
                self.noises.discard("autoscaled")
                self.replicas += 2
                self._deployment["spec"]["replicas"] = self.replicas
                self._deployment["metadata"]["generation"] += 1
                self._tell(end + 0.1, DEPLOYMENT, self._deployment)
                self._count(end + 0.3)
            end = self._bring_up(end + 0.4, f"web-2-{number}") + 0.2
            number += 1
        while self.old_pods:
            end = self._retire(end)
        self._count(end + 0.5)
        self.end = end

    def _pod(self, name: str, owner: str, at: float) -> Object:
        return {
            "kind": "Pod",
            "metadata": self._meta(name, owner, creationTimestamp=stamp(at, self.wall)),
            "spec": self._spec(),
            "status": {"phase": "Pending", "conditions": []},
        }

    def _webhook(self, at: float, new: Object) -> float:
        """Let admission fail for less than half a minute."""
        message = 'failed calling webhook "policy.example.com": context deadline exceeded'
        refused = {"type": "ReplicaFailure", "status": "True", "message": message}
        new["status"] = {"conditions": [refused]}
        self._tell(at + 0.1, REPLICA_SET, new)
        self._event(at + 0.1, new, "FailedCreate", message)
        at += self.random.uniform(5, 28)
        new["status"] = {"conditions": []}
        self._tell(at, REPLICA_SET, new)
        return at

    def _kill_old(self, at: float) -> None:
        """Let an old pod crash while it is still there."""
        pod = copy.deepcopy(self.old_pods[0])
        status = pod["status"]["containerStatuses"][0]
        status |= {
            "ready": False,
            "restartCount": 7,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}},
            "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
        }
        pod["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
        self._tell(at + 0.2, POD, pod)
        self._event(at + 0.2, pod, "BackOff", "Back-off restarting failed container", "mlflow")

    def _evict(self, at: float) -> None:
        """Let a new pod be evicted soon after it was made; another one replaces it."""
        pod = self._pod("web-2-evicted", "web-2", at)
        self._tell(at + 0.1, POD, pod, "ADDED")
        pod["status"] = {
            "phase": "Failed",
            "reason": "Evicted",
            "message": "The node was low on resource: memory.",
            "conditions": [{"type": "DisruptionTarget", "status": "True"}],
        }
        self._tell(at + 0.3, POD, pod)
        self._event(at + 0.3, pod, "Evicted", "The node was low on resource: memory.")

    def _bring_up(self, at: float, name: str) -> float:
        """Bring one new pod up through the troubles of this rollout; return when it is ready."""
        r = self.random
        pod = self._pod(name, "web-2", at)
        self.created += 1
        self._tell(at, POD, pod, "ADDED")
        self._count(at + r.uniform(0.01, 0.1))
        at += 0.1
        if "late_volume" in self.noises:
            at = self._late_volume(at, pod)
        if "late_node" in self.noises:
            message = "0/3 nodes are available: 3 Insufficient memory."
            _set(pod, "PodScheduled", "False", reason="Unschedulable", message=message)
            self._tell(at, POD, pod)
            self._event(at, pod, "FailedScheduling", message)
            at += r.uniform(10, 55)
        _set(pod, "PodScheduled", "True")
        self._containers(pod, {"waiting": {"reason": "PodInitializing"}}, {"waiting": {}})
        init, main = _statuses(pod)
        init["state"] = {"waiting": {"reason": "PodInitializing"}}
        main["state"] = {"waiting": {"reason": "PodInitializing"}}
        self._tell(at, POD, pod)
        self._event(at, pod, "Scheduled", "Successfully assigned")
        if "failed_mount" in self.noises:
            message = 'MountVolume.SetUp failed for volume "credentials": secret not found'
            self._event(at + 0.1, pod, "FailedMount", message)
            at += r.uniform(5, 55)
        at = self._pull(at, pod, init)
        if "late_config" in self.noises:
            missing = {"reason": "CreateContainerConfigError", "message": "secret not found"}
            init["state"] = {"waiting": missing}
            self._tell(at, POD, pod)
            # The Secret is there a moment later; the kubelet looks again after 10 to 15 s.
            at += r.uniform(10.0, 15.0)
        init["state"] = {"running": {"startedAt": stamp(at, self.wall)}}
        self._tell(at, POD, pod)
        at += r.uniform(0.5, 3)
        init["state"] = {"terminated": {"exitCode": 0, "reason": "Completed"}}
        init["ready"] = True
        self._tell(at, POD, pod)
        return self._start(at + 0.3, pod, main)

    def _containers(self, pod: Object, init: Object, main: Object) -> None:
        pod["status"]["initContainerStatuses"] = [
            {"name": "schema", "restartCount": 0, "ready": False, "state": init}
        ]
        pod["status"]["containerStatuses"] = [
            {"name": "mlflow", "restartCount": 0, "ready": False, "state": main}
        ]
        _set(pod, "Ready", "False")
        _set(pod, "ContainersReady", "False")

    def _late_volume(self, at: float, pod: Object) -> float:
        claim: Object = {
            "kind": "PersistentVolumeClaim",
            "metadata": self._meta("data"),
            "spec": {"storageClassName": "standard"},
            "status": {"phase": "Pending"},
        }
        self._tell(at - 0.05, CLAIM, claim, "ADDED")
        self._event(at, claim, "WaitForFirstConsumer", "waiting for first consumer")
        message = "running PreBind plugin VolumeBinding: timed out; will try again"
        _set(pod, "PodScheduled", "False", reason="SchedulerError", message=message)
        self._tell(at, POD, pod)
        self._event(at + 0.3, claim, "ProvisioningFailed", "the storage is busy")
        at += self.random.uniform(5, 50)
        self._event(at - 1, claim, "Provisioning", "External provisioner is provisioning")
        claim["status"] = {"phase": "Bound"}
        self._tell(at - 0.1, CLAIM, claim)
        return at

    def _pull(self, at: float, pod: Object, status: Object) -> float:
        self._event(at, pod, "Pulling", "Pulling image mlflow", "schema")
        if "slow_pull" in self.noises:
            return at + self.random.uniform(60, 240)
        if "pull_retried" in self.noises:
            for reason in ("ErrImagePull", "ImagePullBackOff"):
                text = "dial tcp: i/o timeout" if reason == "ErrImagePull" else "Back-off pulling"
                status["state"] = {"waiting": {"reason": reason, "message": text}}
                self._tell(at + 0.5, POD, pod)
                at += self.random.uniform(2, 14)
        return at + self.random.uniform(0.3, 2)

    def _start(self, at: float, pod: Object, main: Object) -> float:
        """Start the server: perhaps it ends once, and perhaps its probe flaps."""
        pod["status"]["phase"] = "Running"
        if "one_restart" in self.noises:
            main["state"] = {"running": {"startedAt": stamp(at, self.wall)}}
            self._be_ready(pod, main, at) if not self.probed else None
            self._tell(at, POD, pod)
            ended = {"exitCode": 1, "reason": "Error", "startedAt": stamp(at, self.wall)}
            at += self.random.uniform(0.5, 2)
            ended["finishedAt"] = stamp(at, self.wall)
            self._be_unready(pod, main, at)
            main["state"] = {"terminated": ended}
            self._tell(at, POD, pod)
            at += 1
            main |= {"restartCount": 1, "state": {}, "lastState": {"terminated": ended}}
        main["state"] = {"running": {"startedAt": stamp(at, self.wall)}}
        self._tell(at, POD, pod)
        if self.probed:
            message = "Readiness probe failed: connection refused"
            self._event(at + 1, pod, "Unhealthy", message, "mlflow")
            at += self.random.uniform(3, 15)
        self._be_ready(pod, main, at)
        self._tell(at, POD, pod)
        self.ready += 1
        self._count(at + 0.1)
        if "probe_flaps" in self.noises and self.probed:
            for _flap in range(self.random.randint(1, 3)):
                self._be_unready(pod, main, at + 1)
                self._tell(at + 1, POD, pod)
                self.ready -= 1
                self._count(at + 1.1)
                at += self.random.uniform(3, 12)
                self._be_ready(pod, main, at)
                self._tell(at, POD, pod)
                self.ready += 1
                self._count(at + 0.1)
        return self._retire(at + 0.3)

    def _be_ready(self, pod: Object, main: Object, at: float) -> None:
        main["ready"] = True
        for kind in ("ContainersReady", "Ready"):
            _set(pod, kind, "True", lastTransitionTime=stamp(at, self.wall))

    def _be_unready(self, pod: Object, main: Object, at: float) -> None:
        main["ready"] = False
        for kind in ("ContainersReady", "Ready"):
            _set(pod, kind, "False", lastTransitionTime=stamp(at, self.wall))

    def _retire(self, at: float) -> float:
        """Let one old pod go, with an exit code that is not 0."""
        if not self.old_pods:
            return at
        pod = self.old_pods.pop()
        pod["metadata"]["deletionTimestamp"] = stamp(at, self.wall)
        self._tell(at, POD, pod)
        self._count(at + 0.05)
        ended = {"exitCode": 143, "reason": "Error"}
        pod["status"]["containerStatuses"][0] |= {"ready": False, "state": {"terminated": ended}}
        pod["status"]["phase"] = "Failed"
        self._tell(at + 0.6, POD, pod)
        self._tell(at + 0.8, POD, pod, "DELETED")
        return at + 0.2


def _revision(number: int) -> dict[str, str]:
    return {"deployment.kubernetes.io/revision": str(number)}


def _statuses(pod: Object) -> tuple[Object, Object]:
    status = pod["status"]
    return status["initContainerStatuses"][0], status["containerStatuses"][0]


def _set(pod: Object, kind: str, value: str, **more: t.Any) -> None:
    """Set a condition."""
    kept = [one for one in pod["status"]["conditions"] if one["type"] != kind]
    pod["status"]["conditions"] = [*kept, {"type": kind, "status": value, **more}]


def _run(pod: Object, since: str) -> None:
    """Make a pod one that has been running and ready."""
    pod["status"] = {
        "phase": "Running",
        "conditions": [
            {"type": "PodScheduled", "status": "True"},
            {"type": "Ready", "status": "True"},
        ],
        "containerStatuses": [
            {
                "name": "mlflow",
                "restartCount": 0,
                "ready": True,
                "state": {"running": {"startedAt": since}},
            }
        ],
    }
