# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edits of every pod of a release, in Kubernetes' own words. Pure functions.

Lists only grow at their end, and init containers come last of all edits: what other edits of the
same render say about the third entry stays true.
"""

from __future__ import annotations

import typing as t

from ansible_collections.mlops.mlflow.plugins.plugin_utils._render.edits_workloads import (
    patch,
    pointer,
    required,
)
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render.objects import (
    CREDENTIALS,
    DATABASE,
    PART_LABEL,
    SERVER,
    Object,
    containers_of,
    label,
    pod_template_of,
)
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render.settings import (
    Settings,
    SettingsError,
)

_MAPPINGS = ("labels", "annotations", "nodeSelector", "affinity")
_LISTS = (
    "tolerations", "imagePullSecrets", "env", "envFrom", "volumes", "volumeMounts", "containers",
    "initContainers",
)  # fmt: skip
# What Pod Security's level restricted asks of each container; the rest is the pod's.
_RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def _path(item: Object) -> tuple[str, ...]:
    below = ("jobTemplate", "spec") if item["kind"] == "CronJob" else ()
    return ("spec", *below, "template")


def _appended(path: tuple[object, ...], there: t.Any, more: list[t.Any]) -> t.Iterator[Object]:
    if more and not there:
        yield {"op": "add", "path": pointer(path), "value": more}
        return
    for item in more:
        yield {"op": "add", "path": pointer((*path, "-")), "value": item}


def _merged(
    path: tuple[object, ...], there: t.Any, more: t.Mapping[str, t.Any]
) -> t.Iterator[Object]:
    if more and not there:
        yield {"op": "add", "path": pointer(path), "value": dict(more)}
        return
    for key, value in more.items():
        yield {"op": "add", "path": pointer((*path, key)), "value": value}


def _scheduling(item: Object, wanted: Object) -> t.Iterator[Object]:
    """Say on which nodes, with which priority, and with whose leave to pull images."""
    path = (*_path(item), "spec")
    spec = pod_template_of(item)["spec"]
    yield from _merged((*path, "nodeSelector"), spec.get("nodeSelector"), wanted["nodeSelector"])
    for name in ("tolerations", "imagePullSecrets"):
        yield from _appended((*path, name), spec.get(name), wanted[name])
    if wanted["priorityClassName"]:
        place = pointer((*path, "priorityClassName"))
        yield {"op": "add", "path": place, "value": wanted["priorityClassName"]}
    # Which nodes holds for all. Beside or away from other pods is said of the servers: a Job that
    # may not stand beside one would find no place on a single node.
    affinity = {
        key: value
        for key, value in wanted["affinity"].items()
        if key == "nodeAffinity" or item["kind"] == "Deployment"
    }
    yield from _merged((*path, "affinity"), spec.get("affinity"), affinity)


def _contents(item: Object, wanted: Object) -> t.Iterator[Object]:
    """Say what is in the pods of MLflow, its Jobs and its CronJobs."""
    template, path = pod_template_of(item), _path(item)
    metadata, spec = template.get("metadata") or {}, template["spec"]
    for name in ("labels", "annotations"):
        yield from _merged((*path, "metadata", name), metadata.get(name), wanted[name])
    path = (*path, "spec")
    _refuse_twice(item, spec, wanted)
    for kind in ("containers", "initContainers"):
        for index, each in enumerate(spec.get(kind) or []):
            for name in ("env", "envFrom", "volumeMounts"):
                place = (*path, kind, index, name)
                yield from _appended(place, each.get(name), wanted[name])
    yield from _appended((*path, "volumes"), spec.get("volumes"), wanted["volumes"])
    if item["kind"] == "Deployment":
        # Beside the server only: a Job would never end.
        more = [_restricted(each) for each in wanted["containers"]]
        yield from _appended((*path, "containers"), spec["containers"], more)
    first = [_restricted(each) for each in wanted["initContainers"]]
    if first and not spec.get("initContainers"):
        yield {"op": "add", "path": pointer((*path, "initContainers")), "value": first}
        return
    # Before our own, which may need what they bring: a way to the database, for instance.
    for each in reversed(first):
        yield {"op": "add", "path": pointer((*path, "initContainers", 0)), "value": each}


def _restricted(container: Object) -> Object:
    return {"securityContext": _RESTRICTED, **container}


def _refuse_twice(item: Object, spec: Object, wanted: Object) -> None:
    """Refuse what a pod has already: which of the two holds would be a matter of chance."""
    whose = f"{item['kind']} {item['metadata']['name']}"
    every = containers_of(item)
    taken = {
        "env": ("name", [one for each in every for one in each.get("env") or []]),
        "volumeMounts": (
            "mountPath",
            [one for each in every for one in each.get("volumeMounts") or []],
        ),
        "volumes": ("name", spec.get("volumes") or []),
        "containers": ("name", every),
        "initContainers": ("name", every),
    }
    for field, (key, there) in taken.items():
        for index, one in enumerate(wanted[field]):
            found = next((other for other in there if other[key] == one[key]), None)
            if found is None:
                continue
            source = ((found.get("valueFrom") or {}).get("secretKeyRef") or {}).get("name")
            instead = "mlflow_secrets says where its value is" if source == CREDENTIALS else ""
            raise SettingsError(
                f"mlflow_pod.{field}[{index}].{key}: {whose} has {one[key]} already"
                f"{'; ' if instead else ''}{instead}"
            )


def pods(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
    """Yield the patches of all pods of the release."""
    if not any(settings.pod.values()):
        return
    required(objects, "Deployment", SERVER, "mlflow_pod")
    wanted: Object = {name: settings.pod.get(name) or {} for name in _MAPPINGS}
    wanted |= {name: settings.pod.get(name) or [] for name in _LISTS}
    wanted["priorityClassName"] = settings.pod.get("priorityClassName") or ""
    for item in objects:
        if not pod_template_of(item):
            continue
        name = item["metadata"]["name"]
        ours = (item["kind"], name) == ("Deployment", SERVER) or (
            item["kind"] in ("Job", "CronJob") and label(item, PART_LABEL) == SERVER
        )
        operations: list[Object] = []
        if ours or (item["kind"], name) == ("StatefulSet", DATABASE):
            operations += _scheduling(item, wanted)
        if ours:
            operations += _contents(item, wanted)
        if operations:
            yield patch(item["kind"], name, operations)
    annotations = settings.pod.get("serviceAccountAnnotations") or {}
    if annotations:
        account = required(
            objects, "ServiceAccount", SERVER, "mlflow_pod.serviceAccountAnnotations"
        )
        there = account["metadata"].get("annotations")
        operations = list(_merged(("metadata", "annotations"), there, annotations))
        yield patch("ServiceAccount", SERVER, operations)


def service(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
    """Edit the Service: its type and port, and what a load balancer's controller reads."""
    wanted = {key: value for key, value in settings.service.items() if value}
    if not wanted:
        return
    item = required(objects, "Service", SERVER, "mlflow_service")
    kind = wanted.get("type") or item["spec"].get("type", "ClusterIP")
    node_port = wanted.get("nodePort")
    if node_port is not None and kind == "ClusterIP":
        raise SettingsError(
            "mlflow_service.nodePort: the Service is of type ClusterIP; set mlflow_service.type"
        )
    ranges = wanted.get("loadBalancerSourceRanges")
    if ranges and kind != "LoadBalancer":
        raise SettingsError(
            f"mlflow_service.loadBalancerSourceRanges: the Service is of type {kind}; set "
            "mlflow_service.type: LoadBalancer"
        )
    operations: list[Object] = [{"op": "add", "path": "/spec/type", "value": kind}]
    for index, port in enumerate(item["spec"].get("ports", [])):
        path = f"/spec/ports/{index}/nodePort"
        if node_port is not None and (port.get("name") in ("http", None) or index == 0):
            operations.append({"op": "add", "path": path, "value": int(node_port)})
            break
        if kind == "ClusterIP" and "nodePort" in port:
            operations.append({"op": "remove", "path": path})
    if ranges:
        path = "/spec/loadBalancerSourceRanges"
        operations.append({"op": "add", "path": path, "value": ranges})
    there = item["metadata"].get("annotations")
    operations += _merged(("metadata", "annotations"), there, wanted.get("annotations") or {})
    yield patch("Service", SERVER, operations)
