# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The terms that verdicts are made of: what is waited for, what is found, and how it is said."""

from __future__ import annotations

import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import Kind
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import Problem
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.state import Object, condition

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
    """What the user asked for, as far as it changes a verdict."""

    settle: float = 5.0
    # A migration is still to come or under way: an old schema is not a failure yet.
    migrating: bool = False


def missing(target: Target, what: str) -> Problem:
    kind, name = target.kind.kind, target.name
    return Problem(
        "not_found",
        kind,
        target.namespace,
        name,
        f"{kind} {name} {what} in namespace {target.namespace}",
        identity=f"{kind}/{target.namespace}/{name}",
    )


def problem_of(item: Object, reason: str, message: str, **more: t.Any) -> Problem:
    metadata = item["metadata"]
    more.setdefault("identity", str(metadata.get("uid") or metadata["name"]))
    return Problem(
        reason,
        str(item.get("kind") or "Pod"),
        str(metadata.get("namespace") or ""),
        str(metadata["name"]),
        one_line(message),
        **more,
    )


def one_line(text: str) -> str:
    """Return a text with its line breaks and runs of spaces made single spaces."""
    return " ".join(text.split())


def observed(item: Object) -> bool:
    """Say whether the controller has acted on the object's present specification."""
    generation = int(item["metadata"].get("generation") or 0)
    return int((item.get("status") or {}).get("observedGeneration") or 0) >= generation


def unobserved(item: Object) -> Verdict:
    return Verdict(PROGRESSING, f"waiting for the controller to see this {item['kind']}")


def number(item: Object, name: str, section: str = "status", default: int = 0) -> int:
    value = (item.get(section) or {}).get(name)
    return default if value is None else int(value)


def leaving(pod: Object) -> bool:
    """Say whether a pod is on its way out: deleted, ended, evicted or preempted."""
    phase = (pod.get("status") or {}).get("phase")
    return bool(
        pod["metadata"].get("deletionTimestamp")
        or phase in ("Failed", "Succeeded")
        or condition(pod, "DisruptionTarget", "True")
    )
