# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the servers' volume is on one node at a time, and they with it. Pure functions."""

from __future__ import annotations

import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._release.volumes import ON_ONE_NODE
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render.edits_workloads import (
    patch,
    pointer,
)
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render.objects import (
    COMPONENT_LABEL,
    SERVER,
    Object,
    find,
    pod_of,
    pod_template_of,
)

__all__ = ["ON_ONE_NODE", "apart", "claims", "many_nodes", "patches", "together"]

_HOST = "kubernetes.io/hostname"
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
# As in base: by labels that the pods of every earlier release have too, beside which the first new
# one has to start.
_TOGETHER: Object = {
    "topologyKey": _HOST,
    "labelSelector": {"matchLabels": {"app.kubernetes.io/name": SERVER, COMPONENT_LABEL: "server"}},
}
_TEMPLATE = ("spec", "template")


def claims(objects: t.Iterable[Object], workload: Object | None) -> list[Object]:
    """Return the claims of the render that a workload mounts; others' are not known."""
    names = [
        (volume.get("persistentVolumeClaim") or {}).get("claimName")
        for volume in pod_of(workload).get("volumes") or []
    ]
    return [
        item
        for item in objects
        if item.get("kind") == "PersistentVolumeClaim" and item["metadata"]["name"] in names
    ]


def many_nodes(claim: Object) -> bool:
    """Whether a claim asks for a volume that many nodes mount at a time."""
    return bool({"ReadWriteMany", "ReadOnlyMany"} & set(claim["spec"].get("accessModes") or []))


def _terms(spec: Object, kind: str) -> list[Object]:
    return ((spec.get("affinity") or {}).get(kind) or {}).get(_REQUIRED) or []


def _means(term: Object, labels: t.Mapping[str, str]) -> bool:
    """Whether a term is about the pods with these labels, on the same node."""
    selector = term.get("labelSelector") or {}
    rules = selector.get("matchExpressions") or []
    return (
        term.get("topologyKey") == _HOST
        and bool(selector)
        and (selector.get("matchLabels") or {}).items() <= labels.items()
        and all(_holds(rule, labels) for rule in rules)
    )


def _holds(rule: Object, labels: t.Mapping[str, str]) -> bool:
    if rule["operator"] in ("Exists", "DoesNotExist"):
        return bool((rule["key"] in labels) == (rule["operator"] == "Exists"))
    inside = labels.get(rule["key"]) in (rule.get("values") or [])
    return bool(inside == (rule["operator"] == "In"))


def _labels(workload: Object) -> dict[str, str]:
    return (pod_template_of(workload).get("metadata") or {}).get("labels") or {}


def together(workload: Object) -> bool:
    """Whether a workload's pods have to be on one node."""
    terms = _terms(pod_of(workload), "podAffinity")
    return any(_means(term, _labels(workload)) for term in terms)


def apart(workload: Object) -> str:
    """Return which rule allows no two pods of a workload on one node, or nothing."""
    spec, labels = pod_of(workload), _labels(workload)
    if any(_means(term, labels) for term in _terms(spec, "podAntiAffinity")):
        return "podAntiAffinity"
    for term in spec.get("topologySpreadConstraints") or []:
        if term.get("whenUnsatisfiable") == "DoNotSchedule" and _means(term, labels):
            return "topologySpreadConstraints"
    return ""


def patches(objects: list[Object]) -> list[Object]:
    """Return what keeps the servers on the node of their volume, or lets them spread."""
    server = find(objects, "Deployment", SERVER)
    if server is None:
        return []
    mounted = claims(objects, server)
    named = [v for v in pod_of(server).get("volumes") or [] if "persistentVolumeClaim" in v]
    if len(mounted) < len(named):
        # How a claim that others made may be mounted is not known here.
        return []
    wanted = any(not many_nodes(claim) for claim in mounted)
    operations = list(_keep(server) if wanted else _release(server))
    return [patch("Deployment", SERVER, operations)] if operations else []


def _keep(server: Object) -> t.Iterator[Object]:
    affinity = pod_of(server).get("affinity") or {}
    if not together(server):
        path: tuple[str, ...] = (*_TEMPLATE, "spec", "affinity")
        term: t.Any = [_TOGETHER]
        if _REQUIRED in (affinity.get("podAffinity") or {}):
            path, term = (*path, "podAffinity", _REQUIRED, "-"), _TOGETHER
        elif "podAffinity" in affinity:
            path = (*path, "podAffinity", _REQUIRED)
        elif affinity:
            path, term = (*path, "podAffinity"), {_REQUIRED: term}
        else:
            term = {"podAffinity": {_REQUIRED: term}}
        yield {"op": "add", "path": pointer(path), "value": term}
    if ON_ONE_NODE not in _labels(server):
        path = (*_TEMPLATE, "metadata", "labels", ON_ONE_NODE)
        yield {"op": "add", "path": pointer(path), "value": "true"}


def _release(server: Object) -> t.Iterator[Object]:
    if ON_ONE_NODE not in _labels(server):
        # What is there is somebody's own.
        return
    terms = _terms(pod_of(server), "podAffinity")
    kept = [term for term in terms if term != _TOGETHER]
    path = pointer((*_TEMPLATE, "spec", "affinity", "podAffinity", _REQUIRED))
    if kept != terms:
        change = {"op": "replace", "value": kept} if kept else {"op": "remove"}
        yield {**change, "path": path}
    yield {"op": "remove", "path": pointer((*_TEMPLATE, "metadata", "labels", ON_ONE_NODE))}
