# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The terms that verdicts are made of: what is waited for, what is found, and how it is said."""

from __future__ import annotations

import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import Kind
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.custom_rules import Rule
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import Problem
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.shape import whole
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.state import (
    Clock,
    Object,
    condition,
)

READY = "ready"
PROGRESSING = "progressing"


class Target(t.NamedTuple):
    """One object to wait for."""

    kind: Kind
    namespace: str
    name: str
    # Ready as soon as it is applied: a ConfigMap, a Service.
    inert: bool = False

    def __str__(self) -> str:
        return f"{self.kind.kind}/{self.name}"


class Verdict(t.NamedTuple):
    """What can be said about an object at one moment."""

    status: str
    message: str
    problems: tuple[Problem, ...] = ()
    # Seconds after which time alone may change the verdict.
    recheck: float | None = None


class Rules(t.NamedTuple):
    """What the user asked for and when, as far as it changes a verdict."""

    settle: float = 10.0
    # A migration is still to come or under way: an old schema is not a failure yet.
    migrating: bool = False
    # When the wait began, and when the last migration ended (s, the API server's clock).
    since: float | None = None
    migrated: float | None = None
    # How kinds are judged that the user gave a rule for, by the kind (Widget, Widget.example.com).
    custom: t.Mapping[str, Rule] = {}


# Evidence that is older than this (s) when a wait begins is no evidence of now: what was wrong may
# have been put right, and nothing has been tried again. Of a container that ended the next try is
# near; a pull that failed is worth more for longer, as those who apply and then wait see it.
OLD_ENDING = 15.0
OLD_ATTEMPT = 60.0
# By how much (s) a kubelet may be late with an attempt that it has announced.
LATE = 20.0


def until_retried(
    at: float | None, pause: float, fresh: float, clock: Clock, rules: Rules
) -> float | None:
    """Return the moment (monotonic) before which old evidence proves nothing; None if it does.

    at is when it was true (s, wall), pause how long until the next attempt, fresh how old it may
    be when a wait begins.
    """
    if at is None or rules.since is None or at >= rules.since - fresh:
        return None
    return clock.now + max(0.0, at + pause + LATE - clock.wall)


def missing(target: Target, what: str) -> Problem:
    """Report that an object to wait for is not there."""
    kind, name = target.kind.kind, target.name
    where = f" in namespace {target.namespace}" if target.namespace else ""
    return Problem(
        "not_found",
        kind,
        target.namespace,
        name,
        f"{kind} {name} {what}{where}",
        identity=f"{kind}/{target.namespace}/{name}",
        group=target.kind.group,
    )


def problem_of(item: Object, reason: str, message: str, **more: t.Any) -> Problem:
    metadata = item["metadata"]
    more.setdefault("identity", identity(item))
    owners = metadata.get("ownerReferences") or ()
    more.setdefault("group", str(item.get("apiVersion") or "").rpartition("/")[0])
    more.setdefault("family", str(owners[0].get("uid") or "") if owners else "")
    return Problem(
        reason,
        str(item.get("kind") or "Pod"),
        str(metadata.get("namespace") or ""),
        str(metadata["name"]),
        one_line(message),
        **more,
    )


def identity(item: Object) -> str:
    """Return what makes an object the same as one seen before."""
    return str(item["metadata"].get("uid") or item["metadata"]["name"])


def one_line(text: str) -> str:
    """Return a text with its line breaks and runs of spaces made single spaces."""
    return " ".join(text.split())


def observed(item: Object) -> bool:
    """Say whether the controller has acted on the object's present specification."""
    return number(item, "observedGeneration") >= whole(item["metadata"].get("generation"))


def unobserved(item: Object) -> Verdict:
    """Say that it has not."""
    return Verdict(PROGRESSING, f"waiting for the controller to see this {item['kind']}")


def number(item: Object, name: str, section: str = "status", default: int = 0) -> int:
    """Return a whole number of an object's status or specification."""
    return whole((item.get(section) or {}).get(name), default)


def leaving(pod: Object) -> bool:
    """Say whether a pod is on its way out: deleted, ended, evicted or preempted."""
    phase = (pod.get("status") or {}).get("phase")
    return bool(
        pod["metadata"].get("deletionTimestamp")
        or phase in ("Failed", "Succeeded")
        or condition(pod, "DisruptionTarget", "True")
    )


def why_it_ended(pod: Object) -> str:
    """Return why a pod was ended from outside, as its status says, or nothing."""
    status = pod.get("status") or {}
    if status.get("phase") != "Failed" or not status.get("reason"):
        return ""
    text = str(status.get("message") or "")
    return f"{status['reason']}: {text}" if text else str(status["reason"])


def counted(number_: int, noun: str) -> str:
    """Return a number of things in words."""
    return f"{number_} {noun}" + ("" if number_ == 1 else "s")
