# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""List a kind once, then follow it by a watch that survives what a network does to it.

One thread for each kind and namespace puts what it learns into a queue. It resumes from the last
resourceVersion seen after an end of stream, a reset, a silent connection or a restarted API
server, lists again after 410 Gone, waits as told after 429, reads the credentials again after one
401, and gives up only on what cannot get better by waiting: 403, a second 401, an unknown kind, a
certificate that does not verify.
"""

from __future__ import annotations

import queue
import random
import sys
import threading
import time
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import (
    FIRST_REFUSALS,
    ApiError,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import EVENT, POD, Kind

Object = dict[str, t.Any]

# The API server sends a bookmark about once a minute, so this long a silence means that the other
# end is gone. It sends none for events.
SILENCE = 95.0
SILENCE_WITHOUT_BOOKMARKS = 330.0
# Seconds between two attempts: the first, and the longest.
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 5.0
# A cluster that has not answered at all after this many seconds is reported, not waited for.
FIRST_ANSWER = 10.0


class Listed(t.NamedTuple):
    """All objects of a kind, as one consistent list."""

    kind: Kind
    namespace: str | None
    items: list[Object]


class Changed(t.NamedTuple):
    """One object was added, modified or deleted."""

    kind: Kind
    namespace: str | None
    type: str
    item: Object


class Interrupted(t.NamedTuple):
    """The stream is down; what is known may be stale until Resumed or Listed."""

    kind: Kind
    namespace: str | None
    error: str


class Resumed(t.NamedTuple):
    """The stream is up again, from where it broke."""

    kind: Kind
    namespace: str | None


class GaveUp(t.NamedTuple):
    """The stream ended for good."""

    kind: Kind
    namespace: str | None
    error: ApiError


class Source(t.Protocol):
    """What a watch needs of a client."""

    def list_all(
        self,
        kind: Kind,
        namespace: str | None,
        keep: t.Callable[[Kind, Object], Object] | None = None,
    ) -> tuple[list[Object], str]:
        """Return all objects and the version of the list."""

    def watch(
        self,
        kind: Kind,
        namespace: str | None,
        version: str,
        seconds: float,
        silence: float,
    ) -> t.Iterator[Object]:
        """Yield the events after a version."""

    def reload_credentials(self) -> None:
        """Read the credentials again."""


class Watch(threading.Thread):
    """Follow one kind in one namespace until stopped; report into a queue."""

    def __init__(
        self,
        source: Source,
        kind: Kind,
        namespace: str | None,
        reports: queue.SimpleQueue[t.Any],
        timeout: float,
    ) -> None:
        super().__init__(name=f"watch {kind}", daemon=True)
        self._source = source
        self._kind = kind
        self._namespace = namespace
        self._reports = reports
        self._end = time.monotonic() + timeout
        self._silence = SILENCE_WITHOUT_BOOKMARKS if kind == EVENT else SILENCE
        self._stopped = threading.Event()
        self._version = ""
        self._answered = False
        self._up = False
        self._reloaded = False
        self._refused_since: float | None = None
        self._followed = False
        self._pause = FIRST_PAUSE

    def stop(self) -> None:
        """Ask the thread to end; it does not report any more."""
        self._stopped.set()

    def _report(self, report: Listed | Changed | Interrupted | Resumed | GaveUp) -> None:
        if not self._stopped.is_set():
            self._reports.put(report)

    def run(self) -> None:
        """List and watch until stopped, or until going on is pointless."""
        began = time.monotonic()
        while not self._stopped.is_set():
            try:
                if not self._version:
                    self._list()
                self._follow()
            except ApiError as error:
                if error.status == 410:
                    self._version = ""
                    self._wait(None)
                    continue
                if self._is_final(error, began):
                    self._report(GaveUp(self._kind, self._namespace, error))
                    return
                self._report_down(error)
                self._wait(error.retry_after)
            except Exception as error:  # a bug must end the wait with its name, not hang it
                text = f"{type(error).__name__}: {error}"
                failure = ApiError(0, text, "watch", str(self._kind))
                self._report(GaveUp(self._kind, self._namespace, failure))
                return

    def _list(self) -> None:
        items, version = self._source.list_all(self._kind, self._namespace, slim)
        self._version = version
        self._alive()
        self._up = True
        self._report(Listed(self._kind, self._namespace, items))

    def _follow(self) -> None:
        # One second more than is left, so that a wait of five minutes needs one watch.
        seconds = min(3600.0, max(2.0, self._end - time.monotonic() + 1.0))
        opened = time.monotonic()
        stream = self._source.watch(
            self._kind,
            self._namespace,
            self._version,
            seconds,
            min(self._silence, seconds + 5.0),
        )
        try:
            for event in stream:
                if self._stopped.is_set():
                    return
                self._take(event)
        finally:
            close = getattr(stream, "close", None)
            if close is not None:
                close()
        # The normal end. A server that ends every stream at once must not be hammered.
        if time.monotonic() - opened < 1.0:
            self._wait(None)

    def _take(self, event: Object) -> None:
        if not event:
            if not self._up:
                self._up = True
                self._report(Resumed(self._kind, self._namespace))
            self._answered = self._followed = True
            return
        item = event.get("object") or {}
        if event.get("type") == "ERROR":
            raise ApiError(
                int(item.get("code") or 500),
                str(item.get("message") or "the watch ended with an error"),
                "watch",
                str(self._kind),
                _retry_after(item),
            )
        self._alive()
        version = (item.get("metadata") or {}).get("resourceVersion")
        if event.get("type") != "BOOKMARK":
            item.setdefault("kind", self._kind.kind)
            item = slim(self._kind, item)
            self._report(Changed(self._kind, self._namespace, str(event.get("type")), item))
        if version:
            self._version = str(version)

    def _alive(self) -> None:
        """Note that the server answers: the next trouble starts from a short pause again."""
        self._answered = True
        self._reloaded = False
        self._refused_since = None
        self._pause = FIRST_PAUSE

    def _is_final(self, error: ApiError, began: float) -> bool:
        """Say whether waiting longer cannot help."""
        if error.status == 401 and not self._reloaded:
            self._reloaded = True
            try:
                self._source.reload_credentials()
            except Exception:
                return True
            return False
        if error.status == 403 and self._followed:
            # An API server that has just started refuses everybody until it has read its roles.
            now = time.monotonic()
            self._refused_since = self._refused_since or now
            return now - self._refused_since > FIRST_REFUSALS
        if error.status in (400, 401, 403, 404, 405):
            return True
        if error.status == 0 and "certificate verify failed" in error.message.lower():
            return True
        return not self._answered and error.status == 0 and time.monotonic() - began > FIRST_ANSWER

    def _report_down(self, error: ApiError) -> None:
        if self._up:
            self._up = False
            self._report(Interrupted(self._kind, self._namespace, error.message))

    def _wait(self, seconds: float | None) -> None:
        """Pause before the next attempt: as told by the server, else longer each time."""
        if seconds is None:
            seconds = self._pause * random.uniform(0.7, 1.3)  # noqa: S311 - spreads load, guards nothing
            self._pause = min(LONGEST_PAUSE, self._pause * 2)
        self._stopped.wait(min(seconds, 30.0))


# What is read of an event, and what of the object that it is about.
_EVENT_FIELDS = (
    "kind",
    "reason",
    "message",
    "type",
    "count",
    "series",
    "firstTimestamp",
    "lastTimestamp",
    "eventTime",
)
_ABOUT_FIELDS = ("kind", "name", "uid", "fieldPath")
_NAME_FIELDS = ("name", "namespace", "resourceVersion", "creationTimestamp")
# What few read of a pod, and what makes up most of it in a large namespace.
_POD_FIELDS_UNREAD = (
    "tolerations",
    "affinity",
    "topologySpreadConstraints",
    "imagePullSecrets",
    "securityContext",
    "dnsConfig",
    "hostAliases",
)
_CONTAINER_FIELDS_UNREAD = (
    "env",
    "envFrom",
    "volumeMounts",
    "livenessProbe",
    "startupProbe",
    "securityContext",
)


def slim(kind: Kind, item: Object) -> Object:
    """Return an object without what no verdict reads, which is often the larger half of it.

    A namespace may hold thousands of pods and tens of thousands of events.
    """
    metadata = item.get("metadata")
    if isinstance(metadata, dict):
        metadata.pop("managedFields", None)
    if kind == EVENT:
        return _slim_event(item)
    if kind == POD:
        _slim_pod(item)
    return item


def _slim_event(item: Object) -> Object:
    kept: Object = {name: _shared(item[name]) for name in _EVENT_FIELDS if item.get(name)}
    for name, fields in (("metadata", _NAME_FIELDS), ("involvedObject", _ABOUT_FIELDS)):
        part = item.get(name)
        if isinstance(part, dict):
            kept[name] = {field: _shared(part[field]) for field in fields if part.get(field)}
    return kept


def _shared(value: t.Any) -> t.Any:
    """Return a value; one copy of a text serves all that have it."""
    short = isinstance(value, str) and len(value) < _WORTH_SHARING
    return sys.intern(str(value)) if short else value


# Names and messages of this length and more are mostly the only ones of their kind.
_WORTH_SHARING = 64


def _slim_pod(item: Object) -> None:
    spec = item.get("spec")
    if not isinstance(spec, dict):
        return
    for name in _POD_FIELDS_UNREAD:
        spec.pop(name, None)
    for name in ("initContainers", "containers"):
        containers = spec.get(name)
        for container in containers if isinstance(containers, list) else ():
            if isinstance(container, dict):
                for field in _CONTAINER_FIELDS_UNREAD:
                    container.pop(field, None)


def _retry_after(status: Object) -> float | None:
    value = (status.get("details") or {}).get("retryAfterSeconds")
    return float(value) if value else None
