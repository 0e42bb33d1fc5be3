# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edits of the workloads: images, replicas, resources. Pure functions.

What they are given may hold Secrets, so what they raise is a fixed message without any value.
"""

from __future__ import annotations

import json
import re
import typing as t

from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory.notations import (
    image_parts,
    version_of_tag,
    with_version,
)
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render.objects import (
    BACKUP,
    DATABASE,
    PUBLISHED,
    SERVER,
    Object,
    autoscaler,
    container,
    containers_of,
    find,
)
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render.settings import (
    Settings,
    SettingsError,
)


def _image_edit(current: str, wanted: str, version: str = "") -> Object:
    parts = image_parts(current) or {"name": current, "tag": "", "digest": ""}
    edit: Object = {"name": parts["name"]}
    if wanted:
        new = image_parts(wanted) or {}
        edit["newName"] = new["name"]
        if new["tag"]:
            edit["newTag"] = new["tag"]
        if new["digest"]:
            edit["digest"] = new["digest"]
        if not new["tag"] and not new["digest"]:
            edit["newTag"] = parts["tag"] or "latest"
    else:
        edit["newTag"] = with_version(parts["tag"], version)
    return edit


def patch(kind: str, name: str, operations: list[Object] | Object) -> Object:
    target = {"kind": kind, "name": name}
    return {"target": target, "patch": json.dumps(operations, sort_keys=True)}


def pointer(path: t.Iterable[object]) -> str:
    """Return a path as JSON patches write it."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path)


def merge_patch(item: Object, change: Object) -> Object:
    head = {
        "apiVersion": item["apiVersion"],
        "kind": item["kind"],
        "metadata": {"name": item["metadata"]["name"]},
    }
    return patch(item["kind"], item["metadata"]["name"], {**head, **change})


def required(objects: list[Object], kind: str, name: str, variable: str) -> Object:
    item = find(objects, kind, name)
    if item is None:
        raise SettingsError(f"{variable}: the overlay has no {kind} {name} to set it on")
    return item


def _uses(objects: list[Object], image: str) -> bool:
    """Whether any container has an image of that name."""
    for item in objects:
        for each in containers_of(item):
            if (image_parts(str(each.get("image", ""))) or {}).get("name") == image:
                return True
    return False


def _as_published(
    objects: list[Object], current: str, edit: Object | None, which: str
) -> t.Iterator[Object]:
    """Give what still has the published image the one that the workload has, or will have."""
    parts = image_parts(current)
    published = PUBLISHED[which]
    if not parts or parts["name"] == published or not _uses(objects, published):
        return
    if edit is None:
        edit = {"newTag": parts["tag"] or "latest"}
        if parts["digest"]:
            edit = {"digest": parts["digest"]}
    yield {"newName": parts["name"], **edit, "name": published}


def images(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
    mlflow = str(container(find(objects, "Deployment", SERVER), SERVER).get("image", ""))
    edits = list(_mlflow_image(objects, settings))
    yield from edits
    yield from _as_published(objects, mlflow, edits[0] if edits else None, SERVER)
    database = str(container(find(objects, "StatefulSet", DATABASE), DATABASE).get("image", ""))
    edits = list(_postgres_image(objects, settings))
    yield from edits
    yield from _as_published(objects, database, edits[0] if edits else None, DATABASE)


def _mlflow_image(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
    if settings.image or settings.version:
        variable = "mlflow_image" if settings.image else "mlflow_version"
        server = container(required(objects, "Deployment", SERVER, variable), SERVER)
        current = str(server.get("image", ""))
        tag = (image_parts(current) or {}).get("tag", "")
        tagged = version_of_tag(tag)
        if settings.image or not (re.search(r"\d", tag) or "@" in current):
            yield _image_edit(current, settings.image, settings.version)
        elif tagged and tagged != settings.version:
            if "@" in current:
                raise SettingsError(
                    f"mlflow_version: the overlay pins the image by digest, as {tagged}; set "
                    "mlflow_image as well"
                )
            yield _image_edit(current, "", settings.version)
        # Else it says what the image holds, whose tag is a number of somebody's own.


def _postgres_image(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
    if settings.postgres_image:
        # Where the database is somebody else's, the image is that of the backups.
        workload = find(objects, "CronJob", BACKUP) or required(
            objects, "StatefulSet", DATABASE, "mlflow_postgres_image"
        )
        current = str(container(workload, DATABASE).get("image", ""))
        yield _image_edit(current, settings.postgres_image)


def replicas(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
    scaled = autoscaler(objects)
    if settings.replicas is not None and scaled is not None:
        raise SettingsError(
            "mlflow_replicas: a HorizontalPodAutoscaler decides how many there are; leave it out"
        )
    deployment = find(objects, "Deployment", SERVER)
    if scaled is not None and deployment and "replicas" in deployment["spec"]:
        # Applying a number would undo the autoscaler's at every run.
        yield patch("Deployment", SERVER, [{"op": "remove", "path": "/spec/replicas"}])
    if settings.replicas is not None:
        item = required(objects, "Deployment", SERVER, "mlflow_replicas")
        yield merge_patch(item, {"spec": {"replicas": settings.replicas}})


def autoscaling(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
    """Say between which numbers the autoscaler chooses, and what for."""
    wanted = {name: int(number) for name, number in settings.autoscaling.items() if number}
    if not wanted:
        return
    scaled = autoscaler(objects)
    if scaled is None:
        raise SettingsError("mlflow_autoscaling: there is no autoscaler of the Deployment mlflow")
    spec = scaled["spec"]
    least = wanted.get("min") or spec.get("minReplicas", 1)
    most = wanted.get("max") or spec["maxReplicas"]
    if least > most:
        raise SettingsError(f"mlflow_autoscaling: min, {least}, is more than max, {most}")
    operations: list[Object] = [
        {"op": "add", "path": "/spec/minReplicas", "value": least},
        {"op": "add", "path": "/spec/maxReplicas", "value": most},
    ]
    if wanted.get("cpu"):
        for index, metric in enumerate(spec.get("metrics") or []):
            kind = {"Resource": "resource", "ContainerResource": "containerResource"}.get(
                metric.get("type", ""), ""
            )
            if kind and metric[kind].get("name") == "cpu":
                path = f"/spec/metrics/{index}/{kind}/target"
                target = {"type": "Utilization", "averageUtilization": wanted["cpu"]}
                operations.append({"op": "add", "path": path, "value": target})
                break
        else:
            raise SettingsError("mlflow_autoscaling.cpu: the autoscaler does not go by CPU")
    yield patch("HorizontalPodAutoscaler", scaled["metadata"]["name"], operations)


_MAX_CONNECTIONS = "max_connections="


def max_connections(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
    """Start the bundled Postgres with that many connections; of another it only says so."""
    database = find(objects, "StatefulSet", DATABASE)
    if settings.database_max_connections is None or database is None:
        return
    item = container(database, DATABASE)
    index = database["spec"]["template"]["spec"]["containers"].index(item)
    wanted = f"{_MAX_CONNECTIONS}{settings.database_max_connections}"
    words = [str(word) for word in item.get("args") or []]
    kept = [wanted if word.startswith(_MAX_CONNECTIONS) else word for word in words]
    if wanted not in kept:
        kept += ["-c", wanted]
    path = f"/spec/template/spec/containers/{index}/args"
    yield patch("StatefulSet", DATABASE, [{"op": "add", "path": path, "value": kept}])


def resources(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
    if any(settings.resources.values()):
        item = required(objects, "Deployment", SERVER, "mlflow_resources")
        wanted = {
            kind: {name: str(amount) for name, amount in amounts.items()}
            for kind, amounts in settings.resources.items()
            if amounts
        }
        change = {"name": container(item, SERVER).get("name", SERVER), "resources": wanted}
        yield merge_patch(item, {"spec": {"template": {"spec": {"containers": [change]}}}})
