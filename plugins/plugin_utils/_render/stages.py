# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From rendered objects to stages, and the names of the Jobs. Pure functions."""

from __future__ import annotations

import hashlib
import json
import re
import typing as t

from ansible_collections.mlops.mlflow.plugins.plugin_utils._render.edits_workloads import patch
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render.objects import (
    DEVELOPMENT_LABEL,
    FIRST,
    LAST_APPLIED,
    STAGES,
    Object,
    jobs,
    label,
    stage_of,
)


def _digest(*parts: object) -> str:
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _job_name(prefix: str, version: str, digest: str) -> str:
    # Pods and their host names are called after it: the API server warns of dots in it.
    label = re.sub(r"[^a-z0-9]+", "-", version.lower())
    return "-".join(part for part in (prefix, label, digest) if part)


def job_names(objects: list[Object], version: str) -> dict[str, str]:
    """Return the new name of each migration and smoke-test Job.

    A Job's template cannot be changed, so its name follows what it runs: the migration's its own
    spec, the smoke test's the whole release, so that a changed release is tested again.
    """
    names = {}
    for job in jobs(objects, "migration"):
        names[job["metadata"]["name"]] = _job_name(
            "mlflow-migration", version, _digest(job["spec"])
        )
    release = [
        item
        for item in objects
        if item.get("kind") != "Secret" and stage_of(item) not in ("migration", "smoke-test")
    ]
    for job in jobs(objects, "smoke-test"):
        digest = _digest(job["spec"], release)
        names[job["metadata"]["name"]] = _job_name("mlflow-smoke-test", version, digest)
    return names


def rename_patches(names: t.Mapping[str, str]) -> list[Object]:
    """Return the patches that give Jobs their new names."""
    return [
        patch("Job", old, [{"op": "replace", "path": "/metadata/name", "value": new}])
        | {"options": {"allowNameChange": True}}
        for old, new in names.items()
        if old != new
    ]


def with_last_applied(item: Object) -> Object:
    """Return the object with the annotation from which kubectl tells what was taken out.

    Without it, C(kubectl apply) after Ansible would leave every key that it should remove.
    """
    text = json.dumps(item, sort_keys=True, separators=(",", ":"))
    metadata = dict(item["metadata"])
    metadata["annotations"] = {**(metadata.get("annotations") or {}), LAST_APPLIED: text + "\n"}
    return {**item, "metadata": metadata}


def by_stage(objects: list[Object]) -> dict[str, list[Object]]:
    """Return the objects by stage, what others refer to first; Secrets are left out."""
    stages: dict[str, list[Object]] = {stage: [] for stage in STAGES}
    for item in objects:
        if item.get("kind") != "Secret":
            stages[stage_of(item)].append(with_last_applied(item))
    order = {kind: index for index, kind in enumerate(FIRST)}
    for items in stages.values():
        items.sort(key=lambda item: order.get(item["kind"], len(order)))
    return stages


def kinds(objects: list[Object]) -> list[dict[str, str]]:
    """Return the kinds in the release, each once; Secrets are always among them."""
    found = {("v1", "Secret"): None}
    found.update({(item["apiVersion"], item["kind"]): None for item in objects})
    return [{"api_version": api_version, "kind": kind} for api_version, kind in found]


def secrets(objects: list[Object]) -> list[Object]:
    """Return the rendered Secrets, values included."""
    return [item for item in objects if item.get("kind") == "Secret"]


def summary_of_secrets(objects: list[Object]) -> list[dict[str, t.Any]]:
    """Return what may be shown of the rendered Secrets: names, and whose they are."""
    return [
        {
            "name": item["metadata"]["name"],
            "development_only": label(item, DEVELOPMENT_LABEL) == "true",
        }
        for item in secrets(objects)
    ]
