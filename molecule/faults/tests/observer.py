"""An eye of the tests' own on the cluster: when did what become visible at the API?

It shares no code with the engine that is measured, and notes when a watch delivered each change, on
this process' monotonic clock: both see the cluster through the same kind of window.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.parse
from collections.abc import Callable
from typing import Any, NamedTuple

import kubernetes
import urllib3

Object = dict[str, Any]
PATHS = {
    "Pod": "/api/v1/pods",
    "Event": "/api/v1/events",
    "PersistentVolumeClaim": "/api/v1/persistentvolumeclaims",
    "Deployment": "/apis/apps/v1/deployments",
    "ReplicaSet": "/apis/apps/v1/replicasets",
    "StatefulSet": "/apis/apps/v1/statefulsets",
    "Job": "/apis/batch/v1/jobs",
}


Change = tuple[float, str, str, Object]


class Snapshot:
    """The objects of one namespace at one moment."""

    def __init__(self) -> None:
        self._objects: dict[tuple[str, str], Object] = {}

    def take(self, kind: str, event: str, item: Object) -> None:
        key = (kind, item["metadata"]["name"])
        if event == "DELETED":
            self._objects.pop(key, None)
        else:
            self._objects[key] = item

    def all(self, kind: str) -> list[Object]:
        return [item for (of_kind, _name), item in self._objects.items() if of_kind == kind]


Seen = Callable[[Snapshot], bool]

# What lasts for a shorter time than this (s) is no state but a passage between two: the kubelet
# starts a container that has ended for the first time again at once. Nobody has to act on that.
PASSING = 1.5


class Signal(NamedTuple):
    """What shows a fault, and for how many seconds it is tolerated."""

    seen: Seen
    tolerance: float


class Observer:
    """Watches the whole cluster, for as long as the tests run."""

    def __init__(self, kubeconfig: str) -> None:
        self._client = kubernetes.config.new_client_from_config(kubeconfig)
        self._lock = threading.Lock()
        self._history: dict[str, list[Change]] = {}
        self._stopped = False
        self.broken: list[str] = []
        for kind, path in PATHS.items():
            threading.Thread(target=self._follow, args=(kind, path), daemon=True).start()

    def stop(self) -> None:
        self._stopped = True

    def _get(self, path: str, **query: str) -> Any:
        # Kind's kubeconfig has a client certificate, which the pool presents.
        return self._client.rest_client.pool_manager.request(
            "GET",
            f"{self._client.configuration.host}{path}?{urllib.parse.urlencode(query)}",
            preload_content=False,
            timeout=urllib3.Timeout(connect=5, read=900),
        )

    def _follow(self, kind: str, path: str) -> None:
        try:
            listed = json.loads(self._get(path).read())
            for item in listed["items"]:
                self._note(kind, "ADDED", item)
            version = listed["metadata"]["resourceVersion"]
            stream = self._get(path, watch="true", resourceVersion=version, timeoutSeconds="900")
            rest = b""
            for chunk in stream.stream(65536):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    self._note(kind, event["type"], event["object"])
            raise EOFError("the watch ended")
        except Exception as error:  # told by the test that needs it
            if not self._stopped:
                self.broken.append(f"{kind}: {error!r}")

    def _note(self, kind: str, event: str, item: Object) -> None:
        now = time.monotonic()
        with self._lock:
            history = self._history.setdefault(item["metadata"].get("namespace", ""), [])
            history.append((now, kind, event, item))

    def story(self, namespace: str, began: float) -> list[str]:
        """Return what happened to the containers of a namespace, for who has to understand it."""
        with self._lock:
            history = list(self._history.get(namespace, ()))
        lines = []
        for at, kind, event, item in history:
            if kind == "Pod":
                states = " ".join(
                    f"{status['name']}#{status.get('restartCount')}="
                    + "/".join([*status.get("state", {}), *_reasons(status.get("state", {}))])
                    for status in statuses(item)
                )
                lines.append(f"{at - began:+.2f} {event} {item['metadata']['name']} {states}")
        return lines

    def due(self, namespace: str, signals: list[Signal], began: float, ended: float) -> float:
        """Return when the first of the signals had lasted for its tolerance, not before C(began).

        A wait cannot count what it did not see, so its clock starts when it began at the earliest.
        Infinite if none did by C(ended).
        """
        with self._lock:
            history = list(self._history.get(namespace, ()))
        return min(
            (_due(history, signal, began, ended) for signal in signals), default=float("inf")
        )


def _due(history: list[Change], signal: Signal, began: float, ended: float) -> float:
    snapshot = Snapshot()
    tolerance = max(PASSING, signal.tolerance)
    since: float | None = began if signal.seen(snapshot) else None
    for at, kind, event, item in history:
        if since is not None and max(at, began) >= since + tolerance:
            break
        if at > ended:
            break
        snapshot.take(kind, event, item)
        if not signal.seen(snapshot):
            since = None
        elif since is None:
            since = max(at, began)
    return float("inf") if since is None else since + signal.tolerance


# --- What can be seen -----------------------------------------------------------------------------


def statuses(pod: Object) -> list[Object]:
    status = pod.get("status", {})
    return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]


def _reasons(state: Object) -> list[str]:
    return [str(entry.get("reason")) for entry in state.values() if entry.get("reason")]


def container_waits(container: str, *reasons: str) -> Seen:
    """Some pod's container waits for one of these reasons."""

    def seen(snapshot: Snapshot) -> bool:
        return any(
            status["name"] == container
            and status.get("state", {}).get("waiting", {}).get("reason") in reasons
            for pod in snapshot.all("Pod")
            for status in statuses(pod)
        )

    return seen


def container_loops(container: str, restarts: int = 1) -> Seen:
    """Kubernetes backs off from a container that ended after so many restarts, or one more.

    The kubelet tells by an event that it backs off as soon as the container has ended again; in the
    pod's status CrashLoopBackOff appears ten seconds later only (Kubernetes 1.37).
    """

    def backs_off(snapshot: Snapshot) -> bool:
        return any(
            event.get("reason") == "BackOff"
            and f"{{{container}}}" in event.get("involvedObject", {}).get("fieldPath", "")
            for event in snapshot.all("Event")
        )

    def seen(snapshot: Snapshot) -> bool:
        for pod in snapshot.all("Pod"):
            for status in statuses(pod):
                state, count = status.get("state", {}), status.get("restartCount", 0)
                if status["name"] != container or count < restarts:
                    continue
                waits = state.get("waiting", {}).get("reason") == "CrashLoopBackOff"
                if waits or count > restarts:
                    return True
                if "terminated" in state and backs_off(snapshot):
                    return True
        return False

    return seen


def container_ended(container: str) -> Seen:
    """Some pod's container has ended with an error, and no new attempt runs."""

    def seen(snapshot: Snapshot) -> bool:
        return any(
            status["name"] == container
            and "running" not in status.get("state", {})
            and any(
                status.get(section, {}).get("terminated", {}).get("exitCode", 0) != 0
                for section in ("state", "lastState")
            )
            for pod in snapshot.all("Pod")
            for status in statuses(pod)
        )

    return seen


def has_condition(kind: str, name: str, status: str, reason: str = "") -> Seen:
    """Some object of a kind has a condition."""

    def seen(snapshot: Snapshot) -> bool:
        return any(
            entry["type"] == name
            and entry["status"] == status
            and reason in ("", entry.get("reason"))
            for item in snapshot.all(kind)
            for entry in item.get("status", {}).get("conditions", [])
        )

    return seen


def has_event(kind: str, *reasons: str) -> Seen:
    """There is an event about an object of a kind."""

    def seen(snapshot: Snapshot) -> bool:
        return any(
            event.get("reason") in reasons and event["involvedObject"].get("kind") == kind
            for event in snapshot.all("Event")
        )

    return seen


def exists(kind: str) -> Seen:
    return lambda snapshot: bool(snapshot.all(kind))


def observed(kind: str) -> Seen:
    """The controller has acted on what the object says."""

    def seen(snapshot: Snapshot) -> bool:
        return any(
            item.get("status", {}).get("observedGeneration", 0)
            >= item["metadata"].get("generation", 1)
            for item in snapshot.all(kind)
        )

    return seen


def absent(kind: str) -> Seen:
    return lambda snapshot: not snapshot.all(kind)


def either(*parts: Seen) -> Seen:
    return lambda snapshot: any(part(snapshot) for part in parts)


def both(*parts: Seen) -> Seen:
    return lambda snapshot: all(part(snapshot) for part in parts)
