# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The release lock: a Lease that one run holds, renews, and gives back.

Every write is made for the resourceVersion that was read, so that of two who try, one succeeds.

A holder that stopped renewing has lost its lock after C(ttl) seconds. Two controllers' clocks may
differ, so neither is asked what time it is: times are written and judged by the API server's clock,
as its answers tell it. Several API servers have several clocks; SKEW seconds are allowed for them.
Who waits also goes by what it saw itself, as client-go's leader election does: a Lease that has not
changed for C(ttl) seconds of a monotonic clock is nobody's, whatever time stands in it.

A lock alone does not stop a run that slept longer than its lock lasted, as a laptop does, and wakes
in the middle of its work. So whoever writes looks at the Lease before each single write.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import select
import signal
import socket
import threading
import time
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import (
    FIRST_REFUSALS,
    Answer,
    Api,
    ApiError,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.errors import Failure
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import LEASE

NAME = "mlflow-release"
DEFAULT_TTL = 120
# The option of every module that works for longer than a moment under the lock.
LEASE_ARG_SPEC: dict[str, t.Any] = {
    "type": "dict",
    "options": {
        "name": {"type": "str", "default": NAME},
        "namespace": {"type": "str", "required": True},
        "holder": {"type": "str", "required": True},
        "ttl": {"type": "int", "default": DEFAULT_TTL},
    },
}
# Seconds: what the clocks of several API servers may differ by, and between two looks at a Lease
# that another holds.
SKEW = 5.0
LOOK_EVERY = 1.0
# For how long a run that has the lock asks an API server again that does not answer: one that
# restarts is back by then (seconds).
OUTAGE = 60.0
# Goes on while the machine sleeps, where there is such a clock.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
# How often it is tried again when another writes at the same moment.
_ATTEMPTS = 5
# The environment variable that names the process whose end makes renewing pointless.
RUN_VARIABLE = "MLOPS_MLFLOW_RUN"
# On the Lease: host, boot, PID namespace, process and its start, of the run that holds it.
RUN_ANNOTATION = "mlops.mlflow/run"
# What a run that was killed had begun may go on for a moment: its modules look every second.
DEAD_AFTER = 3.0

Object = dict[str, t.Any]
Progress = t.Callable[[str, float], None]
T = t.TypeVar("T")


class LeaseError(Failure):
    """The lock is another's, or cannot be read or written."""


class Lost(LeaseError):
    """The lock was ours and is not any more."""


class Unavailable(LeaseError):
    """The API server answers that it cannot, at the moment."""


class Forbidden(LeaseError):
    """The API server answers that the account may not."""


def _patience(error: Exception) -> float:
    """Return for how many seconds an API server that is just starting may be all that is wrong."""
    if isinstance(error, Forbidden):
        return FIRST_REFUSALS
    away = isinstance(error, ApiError) and not error.status
    return OUTAGE if away or isinstance(error, Unavailable) else 0.0


def through_an_outage(work: t.Callable[[], T]) -> T:
    """Return what the work returns, done again while the API server is away or just starting.

    For work on a lock that the run has: so it was not refused before.
    """
    since: dict[type[Exception], float] = {}
    while True:
        try:
            return work()
        except Failure as error:
            now = time.monotonic()
            if now - since.setdefault(type(error), now) >= _patience(error):
                raise
        time.sleep(LOOK_EVERY)


class Held(t.NamedTuple):
    """A Lease as it is in the cluster; times are seconds since the epoch, 0 if unknown."""

    holder: str
    since: float
    renewed: float
    ttl: float
    item: Object

    @property
    def run(self) -> str:
        """What tells the process of the run that holds it, on its host."""
        return str((self.item["metadata"].get("annotations") or {}).get(RUN_ANNOTATION, ""))

    @property
    def version(self) -> str:
        """The resourceVersion, which any renewal changes."""
        return str(self.item["metadata"].get("resourceVersion", ""))


def _seconds(text: t.Any) -> float:
    try:
        return datetime.datetime.fromisoformat(str(text).replace("Z", "+00:00")).timestamp()
    except ValueError:
        return 0.0


def _words(seconds: float) -> str:
    """Return a time as Kubernetes writes it, to the microsecond."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _short(seconds: float) -> str:
    return _words(seconds)[:19] + "Z" if seconds else "an unknown time"


def read(item: Object) -> Held:
    """Read a Lease; what it does not say is empty or 0."""
    spec = item.get("spec") or {}
    return Held(
        str(spec.get("holderIdentity") or ""),
        _seconds(spec.get("acquireTime")),
        _seconds(spec.get("renewTime")),
        # One that does not say for how long is somebody's handiwork, and not to be hurried.
        float(spec.get("leaseDurationSeconds") or DEFAULT_TTL),
        item,
    )


def is_over(held: Held, wall: float, unchanged: float) -> bool:
    """Say whether a Lease is nobody's any more.

    wall is the API server's time, unchanged for how many seconds we saw the Lease as it is.
    """
    if not held.holder or unchanged >= held.ttl:
        return True
    return bool(held.renewed) and wall >= held.renewed + held.ttl + SKEW


def _here() -> list[str]:
    """Return what a process' number is valid in: host, boot, PID namespace."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return [socket.gethostname(), file.read().strip(), os.readlink("/proc/self/ns/pid")]


def _started(process: int) -> str:
    """Return when a process started, in ticks; empty if it has ended, or cannot be seen."""
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:
            state, *fields = file.read().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else fields[18]


def this_run() -> str:
    """Return what tells the process of this run; empty where that is not known."""
    run = os.environ.get(RUN_VARIABLE, "")
    try:
        started = _started(int(run))
        return " ".join([*_here(), run, started]) if started else ""
    except (ValueError, OSError):
        return ""


def has_ended(run: str) -> bool:
    """Whether a run can be seen to be dead: it was on this host, since this boot, and is gone."""
    *where, process, started = run.split(" ") if run.count(" ") == 4 else ["", "", ""]
    try:
        if not process.isdigit() or where != _here():
            return False
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    now = _started(int(process))
    return bool(now) and now != started


class Lease:
    """One Lease, as one holder sees it."""

    def __init__(self, cluster: Api, namespace: str, name: str, holder: str, ttl: float) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._holder = holder
        self._ttl = ttl
        self._collection = LEASE.path(namespace)
        self.path = f"{self._collection}/{name}"

    # --- Requests ---------------------------------------------------------------------------------

    def _wall(self) -> float:
        return self._cluster.server_wall(time.monotonic())

    def look(self) -> Held | None:
        """Return the Lease as it is, or None if there is none."""
        answer = self._cluster.request("GET", self.path)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise self._refused("read", answer)
        return read(answer.body)

    def _refused(self, verb: str, answer: Answer) -> LeaseError:
        kind = LeaseError
        if answer.status == 403:
            kind = Forbidden
        elif answer.status == 429 or answer.status >= 500:
            kind = Unavailable
        return kind(
            f"the release lock (Lease {self._name} in namespace {self._namespace}) cannot be "
            f"{verb}: {answer.message}"
        )

    def _spec(self, acquired: float, transitions: int) -> Object:
        now = self._wall()
        return {
            "holderIdentity": self._holder,
            "leaseDurationSeconds": int(self._ttl),
            "acquireTime": _words(acquired or now),
            "renewTime": _words(now),
            "leaseTransitions": transitions,
        }

    def _create(self) -> bool:
        metadata = {
            "name": self._name,
            "namespace": self._namespace,
            "annotations": {RUN_ANNOTATION: this_run()},
        }
        item = {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata}
        answer = self._cluster.request("POST", self._collection, {**item, "spec": self._spec(0, 0)})
        if answer.status not in (201, 409):
            raise self._refused("created", answer)
        return answer.status == 201

    def _replace(self, held: Held) -> bool:
        """Write ours over what was read; False if it has changed or gone since."""
        ours = held.holder == self._holder
        transitions = int((held.item.get("spec") or {}).get("leaseTransitions") or 0)
        item = dict(held.item)
        if not ours:
            marks = {**(item["metadata"].get("annotations") or {}), RUN_ANNOTATION: this_run()}
            item["metadata"] = {**item["metadata"], "annotations": marks}
        item["spec"] = self._spec(held.since if ours else 0, transitions + (not ours))
        answer = self._cluster.request("PUT", self.path, item)
        if answer.status not in (200, 404, 409):
            raise self._refused("written", answer)
        return answer.status == 200

    # --- What a run does --------------------------------------------------------------------------

    def acquire(self, wait: float, progress: Progress | None = None) -> None:
        """Take the lock, waiting so many seconds for another's; raise LeaseError if it stays held.

        A lock that we hold already is renewed.
        """
        start = seen_at = time.monotonic()
        seen = ""
        dead_since = 0.0
        while True:
            held = self.look()
            now = time.monotonic()
            if held is not None and held.version != seen:
                seen, seen_at, dead_since = held.version, now, 0.0
            if held is not None and has_ended(held.run):
                dead_since = dead_since or now
            if (
                held is None
                or held.holder == self._holder
                or is_over(held, self._wall(), now - seen_at)
                or (dead_since and now - dead_since >= DEAD_AFTER)
            ):
                if self._create() if held is None else self._replace(held):
                    return
                # Another was faster; who it is, the next look tells.
                continue
            left = max(start + wait, dead_since and dead_since + DEAD_AFTER) - now
            if left <= 0:
                raise LeaseError(self.explain(held, wait))
            if progress is not None:
                progress(self._waited_for(held), now - start)
            time.sleep(min(LOOK_EVERY, left))

    def _ours(self) -> Held:
        """Return the Lease as it is; raise Lost if it is not ours."""
        held = self.look()
        if held is None:
            raise Lost(self._lost("somebody deleted it"))
        if held.holder != self._holder:
            raise Lost(self._lost(f"it is held by {held.holder or 'nobody'}"))
        return held

    def check(self) -> None:
        """See that a write may follow; raise Lost if the lock is not ours any more.

        This process may be suspended before the answer comes, and wake when it has long been wrong.
        So an answer counts only for as long as nobody can have taken the lock since it was asked.
        """
        for _attempt in range(_ATTEMPTS):
            asked = time.clock_gettime(_CLOCK)
            held = through_an_outage(self._ours)
            left = held.renewed + held.ttl - self._wall()
            if time.clock_gettime(_CLOCK) - asked < left:
                return
            # Over, and nobody has taken it: it is renewed if nobody does in this moment.
            through_an_outage(self.renew)
        raise LeaseError(f"the release lock {self._name} cannot be kept: each look takes too long")

    def renew(self) -> None:
        """Say that we still hold it; raise Lost if we do not."""
        for _attempt in range(_ATTEMPTS):
            if self._replace(self._ours()):
                return
        raise LeaseError(f"the release lock {self._name} cannot be renewed: others write to it")

    def release(self, write: bool = True) -> bool:
        """Give the lock back if it is still ours; whether it was."""
        for _attempt in range(_ATTEMPTS):
            held = self.look()
            if held is None or held.holder != self._holder:
                return False
            if not write:
                return True
            # Only what was read is deleted: not the Lease of whoever took it in between.
            conditions = {"resourceVersion": held.version, "uid": held.item["metadata"].get("uid")}
            answer = self._cluster.request("DELETE", self.path, {"preconditions": conditions})
            if answer.status in (200, 202):
                return True
            if answer.status not in (404, 409):
                raise self._refused("deleted", answer)
        raise LeaseError(f"the release lock {self._name} cannot be deleted: others write to it")

    # --- Words ------------------------------------------------------------------------------------

    def _lost(self, why: str) -> str:
        return (
            f"this run has lost the release lock (Lease {self._name} in namespace "
            f"{self._namespace}): {why}. Another run may be working on this release, so this one "
            "stops here; start it again when the other has ended"
        )

    def _waited_for(self, held: Held) -> str:
        """Say whose lock is waited for, when it was last heard of, and when its lock ends."""
        ago = max(0.0, self._wall() - held.renewed)
        left = max(0.0, held.renewed + held.ttl + SKEW - self._wall())
        return (
            f"release lock held by {held.holder}, last sign of life {ago:.0f} s ago, over in "
            f"{left:.0f} s unless it is renewed"
        )

    def explain(self, held: Held, waited: float) -> str:
        """Say who holds it, since when, and what can be done about it."""
        after = f" after waiting {waited:.0f} s" if waited else ""
        left = max(0.0, held.renewed + held.ttl + SKEW - self._wall())
        if waited > held.ttl + SKEW:
            # A dead one's lock would have been taken.
            hope = "It keeps renewing its lock, so it is at work. To wait longer, add: "
            hope += "-e mlflow_lock_wait=SECONDS"
        else:
            hope = (
                "If that run is dead, its lock ends by itself in "
                f"{min(left, held.ttl + SKEW):.0f} s. To wait for it, add: "
                f"-e mlflow_lock_wait={held.ttl + 3 * SKEW:.0f}"
            )
        return (
            f"another run holds the release lock of namespace {self._namespace}{after}: "
            f"{held.holder}, since {_short(held.since)}, last renewed {_short(held.renewed)}\n"
            f"{hope}\n"
            "To break the lock of a run that certainly does nothing any more: "
            f"kubectl -n {self._namespace} delete lease {self._name}"
        )


# --- Renewing while something else is waited for --------------------------------------------------


def abandoned() -> bool:
    """Say whether nobody waits for this process any more, its ansible-playbook having been killed.

    A module outlives it. It would hold the lock of a dead run for as long as it waits.
    """
    run = os.environ.get(RUN_VARIABLE, "")
    if run.isdigit():
        try:
            os.kill(int(run), 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
    # Also on another host: whoever reads what we write has closed the other end.
    poll = select.poll()
    try:
        poll.register(1, 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _fd, event in poll.poll(0))
    except (OSError, ValueError):
        return False


class Renewal:
    """Renews a lock in a thread of its own, and tells the waiting one when it is lost."""

    def __init__(self, lease: Lease, ttl: float, progress: Progress | None = None) -> None:
        self._lease = lease
        self._pause = ttl / 3
        self._progress = progress
        self._ended = threading.Event()
        self._lost: Lost | None = None
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> Renewal:
        # The first renewal is at once, so that a lock lost before is known before any wait.
        through_an_outage(self._lease.renew)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()

    def __call__(self, words: str, elapsed: float) -> None:
        """Stand in for what shows progress, which the waiting thread calls every second."""
        if self._lost is not None:
            raise self._lost
        if self._progress is not None:
            self._progress(words, elapsed)

    def _renew(self) -> None:
        pause = self._pause
        due = time.monotonic() + pause
        while not self._ended.wait(1.0):
            if abandoned():
                # Nobody would read a result. A signal, so that the main thread cleans up.
                os.kill(os.getpid(), signal.SIGTERM)
                return
            if time.monotonic() < due:
                continue
            try:
                self._lease.renew()
                pause = self._pause
            except Lost as error:
                self._lost = error
                return
            except Failure:
                # The API server is away, for the wait as well; if another takes the lock
                # meanwhile, the first renewal that gets through finds out.
                pause = 1.0
            due = time.monotonic() + pause


def fence(cluster: Api, lease: Lease) -> None:
    """Let this client write only while the lock is held, which each write looks at first."""

    def guard(path: str) -> None:
        # The lock's own writes are made for the version that was read.
        if path != lease.path:
            lease.check()

    cluster.guard = guard


@contextlib.contextmanager
def renewing(
    cluster: Api, held: t.Mapping[str, t.Any] | None, progress: Progress | None = None
) -> t.Iterator[Progress | None]:
    """Renew the lock that the option C(lease) names while the block runs, and write only under it.

    Nothing without one.

    Yields what the block calls to show progress, which raises Lost once the lock is another's.
    """
    if held is None:
        yield progress
        return
    lease = Lease(cluster, held["namespace"], held["name"], held["holder"], held["ttl"])
    fence(cluster, lease)
    with Renewal(lease, held["ttl"], progress) as renewal:
        yield renewal
