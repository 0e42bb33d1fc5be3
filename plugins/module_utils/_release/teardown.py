# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide what a teardown removes, in which order, and what it keeps. Pure functions.

What a release applied bears its label and this collection as the manager of its fields. Volumes and
Secrets stay, together, unless they are named: a volume without the password that is in it is lost.
"""

from __future__ import annotations

import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._backup.catalogue import COMMAND_LABEL
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.ownership import (
    FIELD_MANAGER,
    Object,
    identity,
    is_kubectls,
    is_ours,
)

PART_OF = "app.kubernetes.io/part-of"
COMPONENT = "app.kubernetes.io/component"
CREDENTIALS = "mlflow-credentials"
# Kinds that are removed by name only.
KEPT = ("PersistentVolumeClaim", "Secret")
NAMESPACE = "Namespace"
# Made by controllers, and gone with what they were made for; or a record of what happened.
DERIVED = ("Endpoints", "EndpointSlice", "Event", "Pod", "ReplicaSet", "ControllerRevision")
# What runs pods. The database is the last of it to go, so that nobody loses it while at work.
_CLIENTS = ("CronJob", "HorizontalPodAutoscaler", "Job", "Deployment", "DaemonSet")
_DATABASE = ("StatefulSet",)
_WORKLOADS = (*_CLIENTS[:1], *_CLIENTS[2:], *_DATABASE)
# In every namespace, or of the run itself.
_OF_ITSELF = {
    ("ServiceAccount", "default"),
    ("ConfigMap", "kube-root-ca.crt"),
    ("Lease", "mlflow-release"),
}
# Jobs that a run makes, waits for and deletes, as their component.
_STEPS = ("schema-status",)
# The volumes that hold what cannot be read without the release's Secret.
_ENCRYPTED = ("database", "backup")


class Plan(t.NamedTuple):
    """What goes, step by step; what stays; and why nothing may be done at all."""

    steps: list[list[Object]]
    kept: list[str]
    foreign: list[str]
    absent: list[str]
    problems: list[str]

    @property
    def removed(self) -> list[str]:
        """Return what goes, as KIND/NAME."""
        return [name_of(item) for step in self.steps for item in step]


def name_of(item: Object) -> str:
    """Return KIND/NAME."""
    return "/".join(identity(item))


def _labels(item: Object) -> Object:
    return item["metadata"].get("labels") or {}


def _is_owned(item: Object) -> bool:
    return bool(item["metadata"].get("ownerReferences"))


def _applied(item: Object) -> bool:
    """Whether this collection made it: as part of a release, a note of one, or a step of a run."""
    managers = [
        str(entry.get("manager"))
        for entry in item["metadata"].get("managedFields") or []
        if entry.get("operation") == "Apply"
    ]
    noted = any(name.startswith(f"{FIELD_MANAGER}.") for name in managers)
    step = COMMAND_LABEL in _labels(item) or _labels(item).get(COMPONENT) in _STEPS
    return is_ours(item) or noted or (step and item["kind"] == "Job")


def check_names(names: t.Sequence[str], namespace: str) -> list[str]:
    """Return what is wrong with the names of what is to go as well."""
    problems = []
    for index, name in enumerate(names):
        kind, slash, rest = name.partition("/")
        if not slash or not rest or kind not in (*KEPT, NAMESPACE):
            problems.append(
                f"[{index}]: must be {', '.join(f'{kind}/NAME' for kind in KEPT)} or "
                f"{NAMESPACE}/{namespace}, not {name!r}"
            )
        elif kind == NAMESPACE and rest != namespace:
            problems.append(f"[{index}]: the release is in namespace {namespace}, not {rest}")
    return problems


def plan(
    objects: list[Object],
    namespace: Object | None,
    names: t.Sequence[str],
) -> Plan:
    """Decide about the objects of a namespace; names are those of what goes beside the release."""
    lone = [item for item in objects if not _is_owned(item) and item["kind"] not in DERIVED]
    labelled = [item for item in lone if _labels(item).get(PART_OF) == "mlflow"]
    data = [item for item in labelled if item["kind"] in KEPT]
    release = [item for item in labelled if item["kind"] not in KEPT and _applied(item)]
    foreign = [item for item in labelled if item not in data and item not in release]
    named = [item for item in data if name_of(item) in names]
    kept = [item for item in data if item not in named]
    whole = namespace is not None and name_of(namespace) in names
    there = {name_of(item) for item in (*data, *([namespace] if namespace else []))}
    problems = [
        *_not_ours(foreign),
        *_of_others(lone, labelled, names),
        *_unreadable(kept, named),
        *(_not_empty(namespace, lone, release, named) if whole and namespace else []),
    ]
    steps = [
        [item for item in release if item["kind"] in _CLIENTS],
        [item for item in release if item["kind"] in _DATABASE],
        [item for item in release if item["kind"] not in (*_CLIENTS, *_DATABASE)],
        named,
        [namespace] if whole and namespace else [],
    ]
    return Plan(
        [step for step in steps if step],
        sorted(map(name_of, kept)),
        sorted(map(name_of, foreign)),
        [name for name in names if name not in there],
        problems,
    )


def _not_ours(foreign: list[Object]) -> t.Iterator[str]:
    """Refuse what others run under the release's name: its configuration may be in use there."""
    for item in foreign:
        if item["kind"] in _WORKLOADS:
            how = (
                "kubectl applied it. Remove it in the same way, or let site.yml take it over"
                if is_kubectls(item)
                else "this collection did not apply it"
            )
            yield f"{name_of(item)} is not this release's to remove: {how}"


def _of_others(
    lone: list[Object], labelled: list[Object], names: t.Sequence[str]
) -> t.Iterator[str]:
    for item in lone:
        if name_of(item) in names and item not in labelled and item["kind"] in KEPT:
            yield f"{name_of(item)} is not this release's to remove: it does not bear its label"


def _unreadable(kept: list[Object], named: list[Object]) -> t.Iterator[str]:
    """Refuse to remove the credentials of data that stay."""
    locked = [
        name_of(item)
        for item in kept
        if item["kind"] == KEPT[0] and _labels(item).get(COMPONENT) in _ENCRYPTED
    ]
    if locked and any(identity(item) == ("Secret", CREDENTIALS) for item in named):
        yield (
            f"Secret/{CREDENTIALS} opens what is kept ({', '.join(sorted(locked))}), which would "
            "be lost without it; name that too, or keep both"
        )


def _not_empty(
    namespace: Object,
    lone: list[Object],
    release: list[Object],
    named: list[Object],
) -> t.Iterator[str]:
    """Refuse to remove a namespace with anything in it that was not named."""
    if not is_ours(namespace):
        yield f"{name_of(namespace)} is not this release's to remove: it did not make it"
    left = [
        name_of(item)
        for item in lone
        if item not in release
        and item not in named
        and identity(item) not in _OF_ITSELF
        and item.get("type") != "kubernetes.io/service-account-token"
    ]
    if left:
        more = f" and {len(left) - 10} more" if len(left) > 10 else ""
        yield (
            f"{name_of(namespace)} holds more than this release: "
            f"{', '.join(sorted(left)[:10])}{more}"
        )
