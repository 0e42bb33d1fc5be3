"""The Kustomize tree as kustomize renders it, and ways to look at that."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TREE = ROOT / "kustomize"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
CACHED_TOOLS = CACHE / "mlops-mlflow" / "bin"

Object = dict[str, Any]


def kustomize() -> list[str]:
    """Return the command that builds: kustomize, or else kubectl's own."""
    for name, command in (("kustomize", ["build"]), ("kubectl", ["kustomize"])):
        found = shutil.which(name) or shutil.which(name, path=CACHED_TOOLS)
        if found:
            return [found, *command]
    pytest.fail(
        "there is neither kustomize nor kubectl: scripts/test.py --only manifests builds them"
    )


def combine(folder: Path, resource: str, *components: str) -> Path:
    """Write a kustomization of a part of the tree and components on top, and return its folder."""
    # kustomize takes relative paths only, and resolves links first.
    folder = folder.resolve()

    def relative(target: str) -> str:
        return os.path.relpath((TREE / target).resolve(), folder)

    document = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        # References between what a component adds and what there is hold within a namespace.
        **({"namespace": f"mlflow-{Path(resource).name}"} if resource != "base" else {}),
        "resources": [relative(resource)],
        "components": [relative(f"components/{name}") for name in components],
    }
    (folder / "kustomization.yml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return folder


@cache
def build(folder: Path) -> tuple[Object, ...]:
    """Return the objects that a folder renders."""
    done = subprocess.run([*kustomize(), str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def one(objects: tuple[Object, ...], kind: str, name: str) -> Object:
    """Return the one object of that kind and name."""
    (found,) = [o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, name)]
    return found


def pods(objects: tuple[Object, ...]) -> Iterator[tuple[str, Object]]:
    """Yield the template of every workload."""
    for item in objects:
        spec = item.get("spec", {})
        if item["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if "template" in spec:
            yield f"{item['kind']}/{item['metadata']['name']}", spec["template"]


def containers(pod: Object) -> list[Object]:
    """Return a pod's containers, init containers included."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def all_containers(objects: tuple[Object, ...]) -> Iterator[tuple[str, Object]]:
    """Yield every container."""
    for name, pod in pods(objects):
        for container in containers(pod):
            yield f"{name}/{container['name']}", container


def called(item: Object) -> str:
    """Return Kind/name, without the hash of a generated ConfigMap."""
    name = item["metadata"]["name"]
    if item["kind"] == "ConfigMap":
        name = re.sub(r"-[0-9a-z]{10}$", "", name)
    return f"{item['kind']}/{name}"


def image_of(objects: tuple[Object, ...], name: str) -> str:
    """Return the image of the first container of that name."""
    return next(str(c["image"]) for _name, c in all_containers(objects) if c["name"] == name)
