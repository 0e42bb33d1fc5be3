# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of the cluster during a wait: the latest objects, and when containers started."""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import (
    CLAIM,
    EVENT,
    JOB,
    POD,
    Kind,
)

Object = dict[str, t.Any]


class Clock(t.NamedTuple):
    """A moment: C(now) on this host's monotonic clock, C(wall) on the API server's (both s)."""

    now: float
    wall: float


class State:
    """The objects seen so far. It holds facts only; verdicts are made elsewhere."""

    def __init__(self) -> None:
        self._objects: dict[Kind, dict[tuple[str, str], Object]] = {}
        # The version of each object last heard of, of deleted ones too.
        self._versions: dict[tuple[Kind, tuple[str, str]], int] = {}
        self._synced: set[tuple[Kind, str | None]] = set()
        # When each container instance started, on the monotonic clock.
        self._started: dict[tuple[str, str, int], float] = {}
        self._completed_jobs: set[tuple[str, str]] = set()

    def replace(
        self, kind: Kind, namespace: str | None, items: t.Iterable[Object], clock: Clock
    ) -> None:
        """Take a list as the whole truth about a kind in a namespace (None: in all)."""
        known = self._objects.setdefault(kind, {})
        for key in [key for key in known if namespace is None or key[0] == namespace]:
            del known[key]
        # A list counts whatever was heard before: a restored etcd begins with lower versions.
        for about in [one for one in self._versions if one[0] == kind]:
            if namespace is None or about[1][0] == namespace:
                del self._versions[about]
        self._synced.add((kind, namespace))
        for item in items:
            known[_key(item)] = item
            self._versions[kind, _key(item)] = _version(item)
            self._note(kind, item, clock, listed=True)

    def apply(self, kind: Kind, event: str, item: Object, clock: Clock) -> None:
        """Take one watch event: ADDED, MODIFIED or DELETED; leave one older than what is known."""
        key, version = _key(item), _version(item)
        if version and version < self._versions.get((kind, key), 0):
            return
        self._versions[kind, key] = version
        known = self._objects.setdefault(kind, {})
        if event == "DELETED":
            known.pop(key, None)
        else:
            known[key] = item
        self._note(kind, item, clock, listed=False)

    def _note(self, kind: Kind, item: Object, clock: Clock, listed: bool) -> None:
        if kind == JOB and condition(item, "Complete", "True"):
            self._completed_jobs.add(_key(item))
        if kind != POD:
            return
        for status in container_statuses(item):
            running = (status.get("state") or {}).get("running")
            if running is None:
                continue
            key = _instance(item, status)
            if key not in self._started:
                started = wall_seconds(running.get("startedAt")) if listed else None
                age = max(0.0, clock.wall - started) if started is not None else 0.0
                self._started[key] = clock.now - age

    def is_synced(self, kind: Kind, namespace: str | None) -> bool:
        """Say whether this kind has been listed in this namespace."""
        return (kind, namespace) in self._synced

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """Return one object, or None."""
        return self._objects.get(kind, {}).get((namespace, name))

    def all(self, kind: Kind, namespace: str) -> list[Object]:
        """Return the objects of a kind in a namespace, by name."""
        known = self._objects.get(kind, {})
        return [known[key] for key in sorted(known) if key[0] == namespace]

    def owned(self, kind: Kind, owner: Object) -> list[Object]:
        """Return the objects of a kind whose controller is the given object."""
        uid = owner["metadata"].get("uid")
        return [
            item
            for item in self.all(kind, owner["metadata"].get("namespace") or "")
            if any(
                reference.get("uid") == uid
                for reference in item["metadata"].get("ownerReferences") or []
            )
        ]

    def events(self, item: Object) -> list[Object]:
        """Return the events about an object, the oldest first."""
        metadata = item["metadata"]
        found = []
        for event in self.all(EVENT, metadata.get("namespace") or ""):
            about = event.get("involvedObject") or {}
            uid = about.get("uid")
            if uid == metadata.get("uid") or (not uid and about.get("name") == metadata["name"]):
                found.append(event)
        return sorted(found, key=_event_order)

    def claims(self, pod: Object) -> list[Object]:
        """Return the claims that a pod mounts, as far as they exist."""
        namespace = pod["metadata"].get("namespace") or ""
        found = (self.get(CLAIM, namespace, name) for name in claim_names(pod))
        return [claim for claim in found if claim is not None]

    def completed(self, namespace: str, name: str) -> bool:
        """Say whether a Job of this name was seen complete (it may have been cleaned up since)."""
        return (namespace, name) in self._completed_jobs

    def running_for(self, pod: Object, status: Object, clock: Clock) -> float:
        """Return for how many seconds this instance of a container has been running."""
        if (status.get("state") or {}).get("running") is None:
            return 0.0
        return max(0.0, clock.now - self._started.get(_instance(pod, status), clock.now))


def condition(item: Object, kind: str, status: str | None = None) -> Object | None:
    """Return an object's condition of a type (and status), or None."""
    for entry in (item.get("status") or {}).get("conditions") or []:
        if entry.get("type") == kind and (status is None or entry.get("status") == status):
            return t.cast(Object, entry)
    return None


def container_statuses(pod: Object) -> list[Object]:
    """Return the statuses of a pod's init containers and containers, in start order."""
    status = pod.get("status") or {}
    return [
        *(status.get("initContainerStatuses") or []),
        *(status.get("containerStatuses") or []),
    ]


def claim_names(pod: Object) -> list[str]:
    """Return the names of the claims that a pod mounts, generic ephemeral volumes included."""
    names = []
    for volume in (pod.get("spec") or {}).get("volumes") or []:
        if volume.get("persistentVolumeClaim"):
            names.append(volume["persistentVolumeClaim"].get("claimName", ""))
        elif volume.get("ephemeral"):
            names.append(f"{pod['metadata']['name']}-{volume.get('name')}")
    return names


def wall_seconds(timestamp: str | None) -> float | None:
    """Return an API timestamp (RFC 3339) in seconds, or None when there is none."""
    if not timestamp:
        return None
    try:
        return datetime.datetime.fromisoformat(timestamp).timestamp()
    except ValueError:
        return None


def event_time(event: Object) -> str:
    """Return when an event last happened, as the API wrote it."""
    series = event.get("series") or {}
    return str(
        series.get("lastObservedTime")
        or event.get("lastTimestamp")
        or event.get("eventTime")
        or event["metadata"].get("creationTimestamp")
        or ""
    )


def _version(item: Object) -> int:
    """Return an object's resourceVersion; 0 if it has none that can be compared."""
    text = str(item["metadata"].get("resourceVersion") or "")
    return int(text) if text.isdigit() else 0


def _event_order(event: Object) -> tuple[float, int]:
    seconds = wall_seconds(event_time(event)) or 0.0
    return int(seconds), _version(event)


def _key(item: Object) -> tuple[str, str]:
    metadata = item["metadata"]
    return str(metadata.get("namespace") or ""), str(metadata["name"])


def _instance(pod: Object, status: Object) -> tuple[str, str, int]:
    uid = str(pod["metadata"].get("uid") or pod["metadata"]["name"])
    return uid, str(status.get("name")), int(status.get("restartCount") or 0)
