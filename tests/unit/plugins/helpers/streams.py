# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Streams of objects for the engine, on a clock that runs as the stream says: no HTTP, no cluster.

Second 0 is when the wait begins. What a stream has before that is in the first lists, as it is in a
real one: old events, old conditions, how a container ended before. The engine wakes once a second,
as it does when nothing is reported.
"""

from __future__ import annotations

import copy
import datetime
import itertools
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Api, ApiError
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import (
    CLAIM,
    DAEMON_SET,
    DEPLOYMENT,
    EVENT,
    JOB,
    POD,
    REPLICA_SET,
    REVISION,
    STATEFUL_SET,
    Kind,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait import watch
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.engine import (
    Check,
    CheckResult,
    Engine,
    Options,
    Seen,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict import Target
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers import said

Object = dict[str, t.Any]
Result = dict[str, t.Any]

# 2026-01-10T00:00:00Z.
WALL = 1768003200.0
KINDS = {
    kind.kind: kind
    for kind in (
        CLAIM,
        DAEMON_SET,
        DEPLOYMENT,
        EVENT,
        JOB,
        POD,
        REPLICA_SET,
        REVISION,
        STATEFUL_SET,
    )
}
# More judgements than this, and the engine does not wait but spins.
MOST_LOOKS = 20_000
WEB = Target(DEPLOYMENT, "ns", "web")
DB = Target(STATEFUL_SET, "ns", "db")
MIGRATE = Target(JOB, "ns", "migrate")
PROBE: Object = {"readinessProbe": {"httpGet": {"port": 8080}}}

_versions = itertools.count(1000)
_numbers = itertools.count()


def stamp(second: float) -> str:
    """Return a second of the stream as the API writes times."""
    moment = datetime.datetime.fromtimestamp(WALL + second, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class Gone(t.NamedTuple):
    """An object that is deleted."""

    item: Object


class Down(t.NamedTuple):
    """The stream of a kind that breaks."""

    kind: Kind


class Up(t.NamedTuple):
    """The stream of a kind that is there again, from where it broke."""

    kind: Kind


Step = tuple[float, "t.Sequence[Object | Gone | Down | Up]"]


class StubApi:
    """The little that the engine asks of an API beside its watches."""

    host = "https://stub"
    requests = 0

    def __init__(self, logs: dict[tuple[str, str], str]) -> None:
        self._logs = logs

    def server_wall(self, now: float) -> float:
        """Return the API server's time."""
        return WALL + now

    def logs(
        self, namespace: str, pod: str, container: str, lines: int, previous: bool = False
    ) -> list[str]:
        """Return the end of a log."""
        if (pod, container) not in self._logs:
            raise ApiError(400, "no log", "get", "pods/log")
        return self._logs[pod, container].splitlines()[-lines:]


class Player(Engine):
    """An engine that a stream is played to."""

    def __init__(
        self,
        steps: t.Sequence[Step],
        targets: t.Sequence[Target],
        *,
        logs: dict[tuple[str, str], str] | None = None,
        refused: t.Collection[Kind] = (),
        check: Check | None = None,
        learn: t.Callable[[Seen], CheckResult | None] | None = None,
        **options: t.Any,
    ) -> None:
        self.second = 0.0
        super().__init__(
            t.cast(Api, StubApi(logs or {})),
            targets,
            Options(**{"timeout": 300.0, **options}),
            check=check,
            clock=lambda: self.second,
            learn=learn,
        )
        self._kinds = {**KINDS, **{target.kind.kind: target.kind for target in targets}}
        self._steps = sorted(copy.deepcopy(list(steps)), key=lambda step: step[0])
        self._refused = refused
        self.looks = 0

    def _kind_of(self, item: Object) -> Kind:
        return self._kinds[item["kind"]]

    def _begin_watching(self) -> None:
        first = [item for at, items in self._steps if at <= 0 for item in items]
        self._steps = [step for step in self._steps if step[0] > 0]
        for kind, namespace in self._streams():
            if kind in self._refused:
                error = ApiError(403, f"{kind} is forbidden", "list", str(kind))
                self._take(watch.GaveUp(kind, namespace, error))
                continue
            mine = [
                item for item in first if isinstance(item, dict) and self._kind_of(item) == kind
            ]
            for item in mine:
                item["metadata"].setdefault("resourceVersion", str(next(_versions)))
            self._take(watch.Listed(kind, namespace, mine))

    def _take_reports(self, seconds: float) -> None:
        self.looks += 1
        if self.looks == 1:
            return  # the lists are there: they are judged before time goes on
        assert self.looks < MOST_LOOKS, "the engine spins"
        until = self.second + min(max(0.0, seconds), 1.0)
        if not self._steps or self._steps[0][0] > until:
            self.second = until
            return
        at, items = self._steps.pop(0)
        self.second = max(self.second, at)
        for item in items:
            self._report_item(item)

    def _report_item(self, item: Object | Gone | Down | Up) -> None:
        if isinstance(item, Down):
            self._take(watch.Interrupted(item.kind, "ns", "connection reset"))
            return
        if isinstance(item, Up):
            self._take(watch.Resumed(item.kind, "ns"))
            return
        event, found = ("DELETED", item.item) if isinstance(item, Gone) else ("MODIFIED", item)
        found["metadata"]["resourceVersion"] = str(next(_versions))
        kind = self._kind_of(found)
        if kind in {one for one, _namespace in self._streams()} and kind not in self._refused:
            self._take(watch.Changed(kind, "ns", event, found))


def play(
    steps: t.Sequence[Step], targets: Target | t.Sequence[Target] = WEB, **more: t.Any
) -> Result:
    """Play a stream to the engine, and return the result of the wait."""
    several = [targets] if isinstance(targets, Target) else list(targets)
    result = Player(steps, several, **more).run()
    said.compare(_end_of(result))
    return result


def _end_of(result: Result) -> str:
    """Return how a wait ended, and when, with all that a person gets to read of it."""
    states = [f"{one['kind']}: {one['status']}, {one['message']}" for one in result["resources"]]
    return "\n".join([f"{result['elapsed']:.1f} s, {outcome(result)}", told(result), *states])


def web(first: Object, *more: Object, **options: t.Any) -> Result:
    """Wait for a rollout whose pod stays as it is."""
    return play([(0, [deployment(), replica_set(), first, *more])], **options)


def outcome(result: Result) -> str:
    """Return 'ready', or the reason of the failure."""
    if result["ready"]:
        return "ready"
    return str(result["failure"]["reason"]) if result["failure"] else "unknown"


def told(result: Result) -> str:
    """Return all that a person gets to read of a failure."""
    failure = result["failure"] or {"events": []}
    return "\n".join([str(result["msg"]), *failure["events"]])


# --- Objects ------------------------------------------------------------------------------------


def condition(kind: str, status: str = "True", at: float | None = None, **more: t.Any) -> Object:
    """Return a condition, as of a second."""
    when = {} if at is None else {"lastTransitionTime": stamp(at)}
    return {"type": kind, "status": status, **when, **more}


def template(probed: bool = True) -> Object:
    """Return a pod template of one container."""
    probe = PROBE if probed else {}
    return {"spec": {"containers": [{"name": "main", "image": "reg.example/app:1", **probe}]}}


def deployment(
    available: int = 0,
    updated: int = 1,
    total: int = 1,
    *,
    replicas: int = 1,
    probed: bool = True,
    conditions: t.Sequence[Object] = (),
    **spec: t.Any,
) -> Object:
    """Return the Deployment web in its second revision."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "web",
            "namespace": "ns",
            "uid": "d",
            "generation": 2,
            "annotations": {"deployment.kubernetes.io/revision": "2"},
        },
        "spec": {"replicas": replicas, "template": template(probed), **spec},
        "status": {
            "observedGeneration": 2,
            "replicas": total,
            "updatedReplicas": updated,
            "availableReplicas": available,
            "conditions": list(conditions),
        },
    }


def replica_set(revision: int = 2, conditions: t.Sequence[Object] = ()) -> Object:
    """Return the ReplicaSet of one of its revisions."""
    name = f"web-{revision}"
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": name,
            "annotations": {"deployment.kubernetes.io/revision": str(revision)},
            "ownerReferences": [{"uid": "d", "kind": "Deployment", "controller": True}],
        },
        "status": {"conditions": list(conditions)},
    }


def stateful_set(
    ready: int = 0, updated: int = 0, *, revision: str = "new", current: str = "old", **spec: t.Any
) -> Object:
    """Return the StatefulSet db of one pod."""
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "db", "namespace": "ns", "uid": "s", "generation": 2},
        "spec": {"replicas": 1, "template": template(), **spec},
        "status": {
            "observedGeneration": 2,
            "replicas": 1,
            "readyReplicas": ready,
            "availableReplicas": ready,
            "updatedReplicas": updated,
            "currentRevision": current,
            "updateRevision": revision,
        },
    }


def job(
    conditions: t.Sequence[Object] = (),
    *,
    status: Object | None = None,
    uid: str = "j",
    spec: Object | None = None,
    **metadata: t.Any,
) -> Object:
    """Return the Job migrate."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "migrate", "namespace": "ns", "uid": uid, "generation": 1, **metadata},
        "spec": {"template": {"spec": {"containers": [{"name": "main"}]}}, **(spec or {})},
        "status": {"active": 1, "conditions": list(conditions), **(status or {})},
    }


COMPLETE = condition("Complete")
FAILED = condition("Failed", reason="BackoffLimitExceeded", message="reached its backoff limit")


def pod(
    main: Object | None = None,
    *,
    name: str = "web-2-a",
    owner: str = "web-2",
    ready: bool = False,
    init: Object | None = None,
    probed: bool = True,
    conditions: t.Sequence[Object] | None = None,
    spec: Object | None = None,
    status: Object | None = None,
    statuses: list[Object] | None = None,
    revision: str = "",
    **metadata: t.Any,
) -> Object:
    """Return a pod of one container, main is its state; 60 s old, if it is not said otherwise."""
    word = "True" if ready else "False"
    usual = [
        condition("PodScheduled"),
        condition("Ready", word, -50),
        condition("ContainersReady", word, -50),
    ]
    item: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": name,
            "creationTimestamp": stamp(-60),
            **metadata,
        },
        "spec": {**template(probed)["spec"], **(spec or {})},
        "status": {
            "phase": "Running",
            "conditions": list(usual if conditions is None else conditions),
        },
    }
    if owner:
        item["metadata"]["ownerReferences"] = [{"uid": owner, "controller": True}]
    if revision:
        item["metadata"]["labels"] = {"controller-revision-hash": revision}
    if init is not None:
        item["spec"].setdefault("initContainers", [{"name": "init"}])
        first = item["spec"]["initContainers"][0]["name"]
        item["status"]["initContainerStatuses"] = [{"name": first, "restartCount": 0, **init}]
    if main is not None:
        about = {"name": "main", "image": "reg.example/app:1", "restartCount": 0, "ready": ready}
        item["status"]["containerStatuses"] = [{**about, **main}]
    if statuses is not None:
        item["status"]["containerStatuses"] = statuses
    item["status"].update(status or {})
    return item


def event(
    about: Object, reason: str, message: str = "", at: float = 0.0, path: str = "", **more: t.Any
) -> Object:
    """Return an event about an object, as of a second; path is the container's."""
    metadata = about["metadata"]
    involved = {
        "kind": about["kind"],
        "name": metadata["name"],
        "namespace": "ns",
        "uid": metadata["uid"],
    }
    if path:
        involved["fieldPath"] = path
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{metadata['name']}.{next(_numbers):08x}",
            "namespace": "ns",
            "creationTimestamp": stamp(at),
        },
        "involvedObject": involved,
        "type": "Warning",
        "reason": reason,
        "message": message,
        "count": 1,
        "firstTimestamp": stamp(at),
        "lastTimestamp": stamp(at),
        **more,
    }


def running(at: float = 0.0) -> Object:
    """Return the status of a container that runs since a second."""
    return {"state": {"running": {"startedAt": stamp(at)}}}


def waiting(reason: str, message: str = "") -> Object:
    """Return the status of a container that waits."""
    return {"state": {"waiting": {"reason": reason, "message": message}}}


def ended(code: int = 1, since: float = -2.0, at: float = -1.0, **more: t.Any) -> Object:
    """Return how a container ended that ran from one second to another."""
    reason = "Completed" if code == 0 else "Error"
    times = {"startedAt": stamp(since), "finishedAt": stamp(at)}
    return {"terminated": {"exitCode": code, "reason": reason, **times, **more}}


def looping(restarts: int, last: Object, message: str = "back-off 10s") -> Object:
    """Return the status of a container in back-off."""
    return {
        **waiting("CrashLoopBackOff", message),
        "restartCount": restarts,
        "lastState": last,
    }
