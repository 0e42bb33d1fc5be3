# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the Kustomize overlay and components an inventory names."""

from __future__ import annotations

import base64
import itertools
import os
import pathlib
import typing as t

import yaml
from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory.types import suggestion

ROOT = pathlib.Path(__file__).resolve().parents[3]
KUSTOMIZE = ROOT / "kustomize"
ROLES = ROOT / "roles"
_FILE_NAMES = ("kustomization.yml", "kustomization.yaml", "Kustomization")

# Overlays on overlays, more than anybody has.
_DEEPEST = 10

# Added by the collection itself, at the time it knows is right.
BUILT_IN_COMPONENTS = ("migration", "smoke-test")

# What a shipped component is nothing without: that one, and why.
NEEDS = {
    "s3-ca": ("s3-artifacts", "there is no S3 store whose CA it could be"),
    "s3-credentials": ("s3-artifacts", "there is no S3 store to be let in to"),
    "backup-s3": ("backup", "there are no backups to copy"),
    "network-policy-external": ("network-policy", "nothing is closed that it could open"),
    "service-monitor": ("monitoring", "there are no metrics to scrape"),
    "dashboard": ("monitoring", "there are no metrics to show"),
}
# What cannot stand beside what, and why.
EXCLUDES = {
    pair: "a release has one size"
    for pair in itertools.combinations(("size-small", "size-medium", "size-large"), 2)
} | {("s3-artifacts", "shared-artifacts"): "artifacts are in one place"}
# What adds pods comes before what has something to say about every pod, and a number of replicas
# before the autoscaler that takes it over.
_FIRST = ("backup", "gc", "high-availability")
# What has nothing to do with the database, and so is not to be changed by what goes with that; and
# what has something to say about every pod there is.
_LAST = ("backup-s3", "openshift")


def kustomization_file(folder: pathlib.Path) -> pathlib.Path | None:
    """Return the folder's kustomization file, by any of the names kustomize accepts."""
    for name in _FILE_NAMES:
        if (folder / name).is_file():
            return folder / name
    return None


def namespace_of(folder: pathlib.Path, depth: int = 0) -> str:
    """Return the namespace that an overlay names, itself or in what it is built on, or nothing."""
    # One that is built on itself is for kustomize to refuse.
    file = kustomization_file(folder) if depth < _DEEPEST else None
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8")) if file else None
    except (OSError, yaml.YAMLError):
        return ""
    if not isinstance(document, dict):
        return ""
    if document.get("namespace"):
        return str(document["namespace"])
    below = [folder / str(entry) for entry in document.get("resources") or []]
    names = (namespace_of(path, depth + 1) for path in below if path.is_dir())
    return next(filter(None, names), "")


def shipped(kind: str) -> list[str]:
    """Return the names of the overlays or components that come with the collection."""
    parent = KUSTOMIZE / kind
    if not parent.is_dir():
        return []
    return sorted(child.name for child in parent.iterdir() if kustomization_file(child))


def _is_path(text: str) -> bool:
    return os.sep in text or text.startswith((".", "~"))


def find(variable: str, kind: str, text: str, base: str) -> tuple[pathlib.Path | None, str]:
    """Return the folder that a name or path means, or the problem with it.

    A relative path is taken from O(base), the inventory's folder.
    """
    names = shipped(kind)
    if not _is_path(text):
        if text in names:
            return KUSTOMIZE / kind / text, ""
        if not (pathlib.Path(base) / text).is_dir():
            close = suggestion(text, names)
            return None, (
                f"{variable}: no {kind[:-1]} {text!r} is shipped (there are: {', '.join(names)})"
                f"{close}; a path of your own is written with a '/'"
            )
    folder = pathlib.Path(os.path.realpath(os.path.join(base, os.path.expanduser(text))))
    if not folder.is_dir():
        return None, f"{variable}: there is no folder {folder}"
    if kustomization_file(folder) is None:
        return None, f"{variable}: {folder} holds no kustomization.yml"
    return folder, ""


def rank(folder: pathlib.Path) -> int:
    """Return a key that sorts components into the order in which they compose."""
    if folder.parent != KUSTOMIZE / "components":
        return 1
    if folder.name in _LAST:
        return 2 + _LAST.index(folder.name)
    return 0 if folder.name in _FIRST else 1


def contradictions(names: t.Collection[str]) -> list[str]:
    """Name each combination of shipped components that makes no sense."""
    problems = []
    for name, (needed, why) in NEEDS.items():
        if name in names and needed not in names:
            problems.append(f"mlflow_components: {name} needs {needed}: without it {why}")
    for (one, other), why in EXCLUDES.items():
        if one in names and other in names:
            problems.append(f"mlflow_components: {one} and {other} exclude each other: {why}")
    return problems


def development_values() -> set[str]:
    """Return the secret values of the development tree, which everyone can read."""
    try:
        text = (KUSTOMIZE / "base" / "secrets.yml").read_text(encoding="utf-8")
        documents = [item for item in yaml.safe_load_all(text) if isinstance(item, dict)]
    except (OSError, yaml.YAMLError):
        return set()
    found: dict[str, str] = {}
    for item in documents:
        for key, value in (item.get("data") or {}).items():
            found[key] = base64.b64decode(str(value)).decode(errors="replace")
        found.update({key: str(value) for key, value in (item.get("stringData") or {}).items()})
    return {value for key, value in found.items() if not key.endswith("username")}
