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
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.shape import shaped, whole

Object = dict[str, t.Any]

# For how long (s) a Job that was found both complete and being deleted may yet be replaced.
REPLACED_WITHIN = 10.0
# A container that ran this long before it ended is restarted without a back-off by the kubelet
# too: its restart is not part of a crash loop (seconds).
LONG_RUN = 600.0


class Clock(t.NamedTuple):
    """A moment: C(now) on this host's monotonic clock, C(wall) on the API server's (both s)."""

    now: float
    wall: float


class State:
    """The objects seen so far. It holds facts only; verdicts are made elsewhere.

    Whatever a verdict asks for is found by an index: among thousands of pods and events, a look at
    one object must not cost a look at all of them.
    """

    def __init__(self) -> None:
        self._objects: dict[Kind, dict[tuple[str, str], Object]] = {}
        # The version of each object last heard of, of deleted ones too.
        self._versions: dict[tuple[Kind, tuple[str, str]], int] = {}
        self._synced: set[tuple[Kind, str | None]] = set()
        # The kinds that this account may not list.
        self._hidden: set[Kind] = set()
        # When each container instance started, on the monotonic clock.
        self._started: dict[_Instance, float] = {}
        # How long (s) the longest run of each container was, of those that may be part of a loop.
        self._longest: dict[tuple[str, str], float] = {}
        # What was seen to have completed, and the moment from which that can be relied upon.
        self._completed: dict[tuple[Kind, tuple[str, str]], Completion] = {}
        # The pods that a node rejected or evicted, by their controller; also when they are gone.
        self._fallen: dict[str, dict[str, Fall]] = {}
        self._owned: dict[tuple[Kind, str], set[tuple[str, str]]] = {}
        self._events: dict[tuple[str, str], dict[tuple[str, str], Object]] = {}
        self._in_order: dict[tuple[str, str], list[Object]] = {}
        self._mounting: dict[tuple[str, str], set[tuple[str, str]]] = {}
        self._going: set[tuple[str, str]] = set()
        # When a pod was last seen to have gone from a namespace (s, monotonic).
        self._freed: dict[str, float] = {}

    def replace(
        self, kind: Kind, namespace: str | None, items: t.Iterable[Object], clock: Clock
    ) -> None:
        """Take a list as the whole truth about a kind in a namespace (None: in all)."""
        known = self._objects.setdefault(kind, {})
        for key in [key for key in known if namespace is None or key[0] == namespace]:
            self._forget(kind, key)
        # A list counts whatever was heard before: a restored etcd begins with lower versions.
        for about in [one for one in self._versions if one[0] == kind]:
            if namespace is None or about[1][0] == namespace:
                del self._versions[about]
        self._synced.add((kind, namespace))
        self._hidden.discard(kind)
        for one in items:
            item = shaped(kind, one)
            if item is not None:
                self._versions[kind, _key(item)] = _version(item)
                self._keep(kind, item)
                self._note(kind, item, clock, listed=True)

    def apply(self, kind: Kind, event: str, item: Object, clock: Clock) -> None:
        """Take one watch event: ADDED, MODIFIED or DELETED; leave one older than what is known."""
        found = shaped(kind, item)
        if found is None:
            return
        key, version = _key(found), _version(found)
        if version and version < self._versions.get((kind, key), 0):
            return
        self._versions[kind, key] = version
        self._forget(kind, key)
        if event != "DELETED":
            self._keep(kind, found)
        elif kind == POD:
            self._freed[key[0]] = clock.now
        self._note(kind, found, clock, listed=False)

    def hide(self, kind: Kind, namespace: str | None) -> None:
        """Note that this kind cannot be listed here: there is nothing to wait for."""
        self._hidden.add(kind)
        self._synced.add((kind, namespace))

    def sees(self, kind: Kind) -> bool:
        """Say whether objects of this kind can be seen at all."""
        return kind not in self._hidden

    def _keep(self, kind: Kind, item: Object) -> None:
        key = _key(item)
        self._objects.setdefault(kind, {})[key] = item
        if kind == EVENT:
            about = _about(item)
            self._events.setdefault(about, {})[key] = item
            self._in_order.pop(about, None)
            return
        for uid in _owners(item):
            self._owned.setdefault((kind, uid), set()).add(key)
        if kind == POD:
            if item["metadata"].get("deletionTimestamp"):
                self._going.add(key)
            for name in claim_names(item):
                self._mounting.setdefault((key[0], name), set()).add(key)

    def _forget(self, kind: Kind, key: tuple[str, str]) -> None:
        item = self._objects.setdefault(kind, {}).pop(key, None)
        if item is None:
            return
        if kind == EVENT:
            about = _about(item)
            self._events.get(about, {}).pop(key, None)
            self._in_order.pop(about, None)
            return
        for uid in _owners(item):
            self._owned.get((kind, uid), set()).discard(key)
        if kind == POD:
            self._going.discard(key)
            for name in claim_names(item):
                self._mounting.get((key[0], name), set()).discard(key)

    def _note(self, kind: Kind, item: Object, clock: Clock, listed: bool) -> None:
        if kind in (JOB, POD):
            self._note_completion(kind, item, clock, listed)
        if kind != POD:
            return
        self._note_fall(item, None if listed else clock.wall)
        for status in container_statuses(item):
            self._note_run(item, status)
            running = (status.get("state") or {}).get("running")
            if running is None:
                continue
            key = _instance(item, status)
            if key not in self._started:
                started = wall_seconds(running.get("startedAt")) if listed else None
                age = max(0.0, clock.wall - started) if started is not None else 0.0
                self._started[key] = clock.now - age

    def _note_run(self, pod: Object, status: Object) -> None:
        lasted = run_length(last_ending(status) or {})
        if lasted is not None and lasted < LONG_RUN:
            key = _instance(pod, status)[:2]
            self._longest[key] = max(lasted, self._longest.get(key, 0.0))

    def _note_completion(self, kind: Kind, item: Object, clock: Clock, listed: bool) -> None:
        about = (kind, _key(item))
        if not has_completed(item):
            # Another one of the same name, or one that was only thought to be done.
            self._completed.pop(about, None)
            return
        if about in self._completed:
            return
        # What is already going away when it is first seen may be going to be replaced.
        going = bool(item["metadata"].get("deletionTimestamp"))
        since = clock.now + REPLACED_WITHIN if going else clock.now
        at = _completion_time(item)
        self._completed[about] = Completion(since, clock.wall if at is None else at)

    def _note_fall(self, pod: Object, seen: float | None) -> None:
        status = pod.get("status") or {}
        if status.get("phase") != "Failed" or not status.get("reason"):
            return
        for uid in _owners(pod):
            fallen = self._fallen.setdefault(uid, {})
            uid_of_pod = str(pod["metadata"].get("uid") or pod["metadata"]["name"])
            before = fallen.get(uid_of_pod)
            fallen[uid_of_pod] = Fall(pod, before.seen if before else seen)

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
        """Return the objects of a kind whose controller is the given object, by name."""
        uid = owner["metadata"].get("uid")
        if not uid:
            return []
        known = self._objects.get(kind, {})
        namespace = owner["metadata"].get("namespace") or ""
        keys = self._owned.get((kind, str(uid)), ())
        return [known[key] for key in sorted(keys) if key[0] == namespace]

    def events(self, item: Object) -> list[Object]:
        """Return the events about an object, the oldest first.

        Not those about an earlier object of the same name.
        """
        metadata = item["metadata"]
        found = self._sorted(("", str(metadata.get("uid") or "")))
        unsure = self._sorted((str(metadata.get("namespace") or ""), str(metadata["name"])))
        if not unsure:
            return found
        created = wall_seconds(metadata.get("creationTimestamp")) or 0.0
        fitting = [
            event
            for event in unsure
            if (event.get("involvedObject") or {}).get("kind") in (None, "", item.get("kind"))
            and (wall_seconds(event_time(event)) or created) >= created - 1.0
        ]
        return sorted([*found, *fitting], key=_event_order)

    def _sorted(self, about: tuple[str, str]) -> list[Object]:
        if not about[1] or not self._events.get(about):
            return []
        if about not in self._in_order:
            self._in_order[about] = sorted(self._events[about].values(), key=_event_order)
        return self._in_order[about]

    def claims(self, pod: Object) -> list[Object]:
        """Return the claims that a pod mounts, as far as they exist."""
        namespace = pod["metadata"].get("namespace") or ""
        found = (self.get(CLAIM, namespace, name) for name in claim_names(pod))
        return [claim for claim in found if claim is not None]

    def mounting(self, claim: Object) -> list[Object]:
        """Return the pods that mount a claim, by name."""
        known = self._objects.get(POD, {})
        return [known[key] for key in sorted(self._mounting.get(_key(claim), ()))]

    def going(self, namespace: str) -> list[Object]:
        """Return the pods of a namespace that are being deleted, by name."""
        known = self._objects.get(POD, {})
        return [known[key] for key in sorted(self._going) if key[0] == namespace]

    def freed(self, namespace: str) -> float | None:
        """Return when (s, monotonic) a pod was last seen to have gone from a namespace."""
        return self._freed.get(namespace)

    def fallen(self, owner: Object) -> list[Fall]:
        """Return the pods of a controller that a node rejected or evicted, gone ones too."""
        return list(self._fallen.get(str(owner["metadata"].get("uid") or ""), {}).values())

    def completed(self, kind: Kind, namespace: str, name: str) -> Completion | None:
        """Return when what has this name was seen complete, if it was (it may be gone since)."""
        return self._completed.get((kind, (namespace, name)))

    def running_for(self, pod: Object, status: Object, clock: Clock) -> float:
        """Return for how many seconds this instance of a container has been running."""
        if (status.get("state") or {}).get("running") is None:
            return 0.0
        return max(0.0, clock.now - self._started.get(_instance(pod, status), clock.now))

    def longest_run(self, pod: Object, status: Object) -> float | None:
        """Return how long (s) the longest run of a container was, of those that may be a loop."""
        return self._longest.get(_instance(pod, status)[:2])


class Fall(t.NamedTuple):
    """A pod that a node rejected or evicted, and when that was seen to happen (s, wall), if so."""

    pod: Object
    seen: float | None


class Completion(t.NamedTuple):
    """That a Job or a pod completed: since when it can be relied upon (s, monotonic), and when."""

    sure: float
    wall: float


_Instance = tuple[str, str, int, str]


def has_completed(item: Object) -> bool:
    """Say whether a Job or a pod has done what it was there for."""
    if item.get("kind") == JOB.kind:
        return condition(item, "Complete", "True") is not None
    return (item.get("status") or {}).get("phase") == "Succeeded"


def _completion_time(item: Object) -> float | None:
    status = item.get("status") or {}
    entry = condition(item, "Complete", "True") or {}
    for text in (status.get("completionTime"), entry.get("lastTransitionTime")):
        at = wall_seconds(text)
        if at is not None:
            return at
    return None


def conditions(item: Object) -> list[Object]:
    """Return an object's conditions; of a custom resource that has odd ones, those that are."""
    status = item.get("status")
    found = status.get("conditions") if isinstance(status, dict) else None
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def condition(item: Object, kind: str, status: str | None = None) -> Object | None:
    """Return an object's condition of a type (and status), or None."""
    for entry in conditions(item):
        if entry.get("type") == kind and (status is None or entry.get("status") == status):
            return entry
    return None


def words_of(container: Object) -> list[str]:
    """Return what a container is started with: its command, and the arguments of that."""
    return [str(word) for key in ("command", "args") for word in container.get(key) or ()]


def container_statuses(pod: Object) -> list[Object]:
    """Return the statuses of a pod's init containers and containers, in start order."""
    status = pod.get("status") or {}
    return [
        *(status.get("initContainerStatuses") or []),
        *(status.get("containerStatuses") or []),
    ]


def last_ending(status: Object) -> Object | None:
    """Return how a container's latest ended instance ended, or None."""
    now, before = (
        t.cast(Object, (status.get(section) or {}).get("terminated"))
        for section in ("state", "lastState")
    )
    # A node that is busy misses that it was for memory: of two that were killed, one says so.
    killed = now and (now.get("reason"), now.get("exitCode")) == ("Error", 137)
    if killed and before and before.get("reason") == "OOMKilled":
        return {**now, "reason": "OOMKilled"}
    return now or before


def run_length(ended: Object) -> float | None:
    """Return for how long (s) a container that ended had run, or None where that is not known."""
    began, finished = wall_seconds(ended.get("startedAt")), wall_seconds(ended.get("finishedAt"))
    return None if began is None or finished is None else max(0.0, finished - began)


def claim_names(pod: Object) -> list[str]:
    """Return the names of the claims that a pod mounts, generic ephemeral volumes included."""
    names = []
    for volume in (pod.get("spec") or {}).get("volumes") or []:
        if volume.get("persistentVolumeClaim"):
            names.append(volume["persistentVolumeClaim"].get("claimName", ""))
        elif volume.get("ephemeral"):
            names.append(f"{pod['metadata']['name']}-{volume.get('name')}")
    return names


def wall_seconds(timestamp: t.Any) -> float | None:
    """Return an API timestamp (RFC 3339) in seconds, or None when there is none.

    What never happened is written as the year 1 or 1970.
    """
    if not timestamp or not isinstance(timestamp, str):
        return None
    if timestamp.startswith(("0001-", "1970-")):
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
    return int(text) if text.isascii() and text.isdigit() else 0


def _event_order(event: Object) -> tuple[float, int]:
    seconds = wall_seconds(event_time(event)) or 0.0
    return int(seconds), _version(event)


def _key(item: Object) -> tuple[str, str]:
    metadata = item["metadata"]
    return str(metadata.get("namespace") or ""), str(metadata["name"])


def _owners(item: Object) -> list[str]:
    return [
        str(reference["uid"])
        for reference in item["metadata"].get("ownerReferences") or ()
        if reference.get("uid")
    ]


def _about(event: Object) -> tuple[str, str]:
    """Return the key by which an event's object is found: its uid or, without one, its name."""
    about = event.get("involvedObject") or {}
    if about.get("uid"):
        return "", str(about["uid"])
    return str(event["metadata"].get("namespace") or ""), str(about.get("name") or "")


def _instance(pod: Object, status: Object) -> _Instance:
    uid = str(pod["metadata"].get("uid") or pod["metadata"]["name"])
    running = (status.get("state") or {}).get("running") or {}
    # A count can begin again with a node's container runtime: the start tells two apart as well.
    return (
        uid,
        str(status.get("name")),
        whole(status.get("restartCount")),
        str(running.get("startedAt") or ""),
    )
