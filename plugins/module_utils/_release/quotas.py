# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the namespace's quotas and limit ranges let a release be what it is, before it begins.

What counts is the most that there is at a time: in a rollout, with the pods that go still there.
"""

from __future__ import annotations

import collections
import math
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Api
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import KINDS
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.quantities import (
    quantity,
    readable,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._release import database

Object = dict[str, t.Any]
Amounts = dict[str, float]
_WORKLOADS = ("Deployment", "Job", "StatefulSet")
# Kinds of pods that ours are not: each of them asks for something, and has no end.
_NOT_OURS = frozenset({"BestEffort", "Terminating", "CrossNamespacePodAffinity"})
# A quota counts these for every pod that can hold on to them.
_COMPUTE = ("cpu", "memory", "ephemeral-storage")


class Found(t.NamedTuple):
    """What is wrong, a line each, and what this account may not see."""

    problems: list[str]
    unseen: list[str]


def check(
    cluster: Api, namespace: str, stages: dict[str, list[Object]], changes: dict[str, list[str]]
) -> Found:
    """Hold what a release creates and restarts against what the namespace has left."""
    every = [line for lines in changes.values() for line in lines]
    if not every:
        return Found([], [])
    unseen: list[str] = []

    def listed(plural: str) -> list[Object]:
        answer = cluster.request("GET", f"/api/v1/namespaces/{namespace}/{plural}")
        if answer.status not in (200, 404):
            unseen.append(plural)
        return answer.body.get("items") or [] if answer.status == 200 else []

    ranges, quotas = listed("limitranges"), listed("resourcequotas")
    objects = [
        item
        for items in stages.values()
        for item in items
        if any(line.endswith(f" {item['kind']}/{item['metadata']['name']}") for line in every)
    ]
    new = [item for item in objects if f"create {item['kind']}/{item['metadata']['name']}" in every]
    defaulted = _Defaults(ranges)
    problems = [
        problem
        for item in objects
        if item["kind"] in _WORKLOADS
        for problem in defaulted.outside(item)
    ]
    for quota in quotas:
        problems += _exceeds(cluster, namespace, quota, objects, new, defaulted)
    return Found(problems, unseen)


# --- What pods ask for ----------------------------------------------------------------------------


def _pod(item: Object) -> Object:
    return t.cast(Object, item["spec"]["template"]["spec"])


def _containers(pod: Object) -> list[Object]:
    return [*(pod.get("initContainers") or []), *pod["containers"]]


class _Defaults:
    """What limit ranges give to containers that say nothing, and what they allow."""

    def __init__(self, ranges: list[Object]) -> None:
        self._rules = [
            (item["metadata"]["name"], rule)
            for item in ranges
            for rule in item["spec"].get("limits") or []
        ]

    def amounts(self, container: Object) -> dict[str, Amounts]:
        """Return a container's requests and limits, as admission will have them."""
        has = container.get("resources") or {}
        given: dict[str, dict[str, t.Any]] = {
            which: dict(has.get(which) or {}) for which in ("requests", "limits")
        }
        for _name, rule in self._rules:
            if rule["type"] == "Container":
                for resource, amount in (rule.get("default") or {}).items():
                    given["limits"].setdefault(resource, amount)
        for resource, amount in (has.get("limits") or {}).items():
            given["requests"].setdefault(resource, amount)
        for _name, rule in self._rules:
            if rule["type"] == "Container":
                for resource, amount in (rule.get("defaultRequest") or {}).items():
                    given["requests"].setdefault(resource, amount)
        return {
            which: {name: quantity(amount) or 0.0 for name, amount in amounts.items()}
            for which, amounts in given.items()
        }

    def of_pod(self, pod: Object) -> dict[str, Amounts]:
        """Return what a pod counts for: what runs at a time, at the most."""
        total: dict[str, Amounts] = {"requests": {}, "limits": {}}
        for which in total:
            running: Amounts = collections.defaultdict(float)
            peak: Amounts = collections.defaultdict(float)
            for container in pod.get("initContainers") or []:
                for name, amount in self.amounts(container)[which].items():
                    if container.get("restartPolicy") == "Always":
                        running[name] += amount
                    else:
                        peak[name] = max(peak[name], running[name] + amount)
            for container in pod["containers"]:
                for name, amount in self.amounts(container)[which].items():
                    running[name] += amount
            names = {*running, *peak}
            total[which] = {name: max(running[name], peak[name]) for name in names}
        return total

    def outside(self, item: Object) -> t.Iterator[str]:
        """Say which containers of a workload a limit range does not let start."""
        pod = _pod(item)
        for container in _containers(pod):
            for problem in self._outside(self.amounts(container), "Container"):
                yield (
                    f"{item['kind']} {item['metadata']['name']}, container {container['name']}: "
                    f"{problem}"
                )
        for problem in self._outside(self.of_pod(pod), "Pod"):
            yield f"{item['kind']} {item['metadata']['name']}: {problem}"

    def _outside(self, amounts: dict[str, Amounts], kind: str) -> t.Iterator[str]:
        for name, rule in self._rules:
            if rule["type"] != kind:
                continue
            for bound, which, is_wrong in (
                ("max", "limits", float.__gt__),
                ("min", "requests", float.__lt__),
            ):
                for resource, border in (rule.get(bound) or {}).items():
                    has = amounts[which].get(resource)
                    if has is not None and is_wrong(has, quantity(border) or 0.0):
                        yield (
                            f"{which}.{resource} {readable(has, resource)} is "
                            f"{'above the most' if bound == 'max' else 'below the least'} that "
                            f"LimitRange {name} allows, {border}. Change mlflow_resources or "
                            "mlflow_size"
                        )


# --- Quotas ---------------------------------------------------------------------------------------


def _exceeds(
    cluster: Api,
    namespace: str,
    quota: Object,
    objects: list[Object],
    new: list[Object],
    defaults: _Defaults,
) -> t.Iterator[str]:
    status = quota.get("status") or {}
    hard = status.get("hard") or quota["spec"].get("hard") or {}
    used = status.get("used") or {}
    name = quota["metadata"]["name"]
    counted = [item for item in objects if item["kind"] in _WORKLOADS and _counts(quota, item)]
    demanded = {
        key.removeprefix("requests.") if not key.startswith("limits.") else key for key in hard
    }
    for item in counted:
        yield from _says_nothing(name, demanded, item, defaults)
    wanted = _peak(cluster, namespace, counted, new, defaults)
    for item in new:
        for key, amount in _of_object(item):
            wanted[key] = wanted.get(key, 0.0) + amount
    for key, border in sorted(hard.items()):
        # The same by an older name.
        spelled = f"requests.{key}" if key in _COMPUTE else key
        amount = wanted.get(spelled, 0.0)
        left = (quantity(border) or 0.0) - (quantity(used.get(key, 0)) or 0.0)
        if amount > left + 1e-9:
            yield (
                f"ResourceQuota {name}: {key} has {readable(max(0.0, left), key)} of {border} "
                f"left, and the release takes {readable(amount, key)} more at its most. Lower "
                "mlflow_resources, mlflow_replicas or mlflow_size, or have the quota raised"
            )


def _counts(quota: Object, item: Object) -> bool:
    """Whether a quota is about a workload's pods: all of ours ask for something and may run on."""
    spec = quota["spec"]
    if _NOT_OURS & set(spec.get("scopes") or []):
        return False
    priority = _pod(item).get("priorityClassName")
    for rule in (spec.get("scopeSelector") or {}).get("matchExpressions") or []:
        operator, values = rule["operator"], rule.get("values") or []
        if rule["scopeName"] in _NOT_OURS:
            return False
        if rule["scopeName"] != "PriorityClass":
            continue
        holds = {
            "In": priority in values,
            "NotIn": priority not in values,
            "Exists": priority is not None,
            "DoesNotExist": priority is None,
        }
        if not holds[operator]:
            return False
    return True


def _says_nothing(
    name: str, demanded: set[str], item: Object, defaults: _Defaults
) -> t.Iterator[str]:
    """Say which containers have no amount of what a quota wants everybody to have one."""
    for container in _containers(_pod(item)):
        amounts = defaults.amounts(container)
        missing = [
            f"{which}.{resource}"
            for resource in ("cpu", "memory")
            for which, asked in (("requests", resource), ("limits", f"limits.{resource}"))
            if asked in demanded and resource not in amounts[which]
        ]
        if missing:
            yield (
                f"ResourceQuota {name}: container {container['name']} of {item['kind']} "
                f"{item['metadata']['name']} has no {' and no '.join(missing)}, and without it the "
                "quota lets no pod start. Give it resources"
            )


def _peak(
    cluster: Api, namespace: str, objects: list[Object], new: list[Object], defaults: _Defaults
) -> Amounts:
    """Return how much more than now there is at the most; Jobs come one by one."""
    always: Amounts = {}
    steps: list[Amounts] = [{}]
    rolled: Amounts = {}
    for item in objects:
        each = _flat(defaults.of_pod(_pod(item)))
        fresh = item in new
        if item["kind"] == "Job":
            # One that is there has ended, and one that is changed is made anew.
            steps.append(each if fresh else {})
            continue
        count = item["spec"].get("replicas", 1)
        before: Amounts = {}
        if not fresh:
            kind = KINDS[(item["apiVersion"], item["kind"])]
            path = kind.item(namespace, item["metadata"]["name"])
            there = cluster.request("GET", path).body
            if "spec" in there:
                before = _flat(defaults.of_pod(_pod(there)))
                count = max(count, there["spec"].get("replicas", 1))
        grown = {
            name: count * (amount if fresh else max(0.0, amount - before.get(name, 0.0)))
            for name, amount in each.items()
        }
        _add(always, grown)
        if item["kind"] == "Deployment":
            surge = _surge(item, count)
            _add(rolled, {name: surge * amount for name, amount in each.items()})
    steps.append(rolled)
    names = {name for step in steps for name in step} | set(always)
    return {
        name: always.get(name, 0.0) + max(step.get(name, 0.0) for step in steps) for name in names
    }


def _flat(amounts: dict[str, Amounts]) -> Amounts:
    found = {
        f"{which}.{name}": amount
        for which, each in amounts.items()
        for name, amount in each.items()
    }
    return {**found, "pods": 1.0, "count/pods": 1.0}


def _add(total: Amounts, more: Amounts) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0.0) + amount


def _surge(deployment: Object, replicas: int) -> int:
    strategy = deployment["spec"].get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return 0
    surge = (strategy.get("rollingUpdate") or {}).get("maxSurge", "25%")
    return math.ceil(replicas * int(surge[:-1]) / 100) if "%" in str(surge) else int(surge)


def _of_object(item: Object) -> t.Iterator[tuple[str, float]]:
    """Yield what a new object counts for by being there, claims of a StatefulSet included."""
    kind = KINDS.get((item["apiVersion"], item["kind"]))
    if kind is not None:
        yield f"count/{kind}", 1.0
        if not kind.group:
            yield kind.plural, 1.0
    spec = item.get("spec") or {}
    if item["kind"] == "Service" and spec.get("type") in ("NodePort", "LoadBalancer"):
        yield "services.nodeports", float(len(spec.get("ports") or []))
        if spec["type"] == "LoadBalancer":
            yield "services.loadbalancers", 1.0
    claims = [item] if item["kind"] == "PersistentVolumeClaim" else []
    if item["kind"] == "StatefulSet":
        claims = list(database.claims(item).values())
        yield "persistentvolumeclaims", float(len(claims))
        yield "count/persistentvolumeclaims", float(len(claims))
    for claim in claims:
        size = quantity(claim["spec"]["resources"]["requests"]["storage"]) or 0.0
        yield "requests.storage", size
        chosen = claim["spec"].get("storageClassName")
        if chosen:
            prefix = f"{chosen}.storageclass.storage.k8s.io/"
            yield f"{prefix}requests.storage", size
            yield f"{prefix}persistentvolumeclaims", 1.0
