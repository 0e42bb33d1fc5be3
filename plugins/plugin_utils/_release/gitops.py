# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release as plain files, for a controller that applies what is in Git. Pure functions.

Each stage is a folder. Argo CD goes by the sync waves of the objects, Flux by the dependencies of
its Kustomizations, kubectl by neither: pods wait for what they need.
"""

from __future__ import annotations

import copy
import json
import typing as t

import yaml
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render import kustomization

Object = dict[str, t.Any]
_WAVE = "argocd.argoproj.io/sync-wave"
_NO_HEALTH = "argocd.argoproj.io/ignore-healthcheck"
_KUSTOMIZATION = "kustomization.yml"
_OBJECTS = "objects.yml"
FLUX = "flux.yml"
# Whatever may have been written before, so that what a release no longer has goes.
OURS = (
    _KUSTOMIZATION,
    FLUX,
    *(f"{stage}/{name}" for stage in kustomization.STAGES for name in (_KUSTOMIZATION, _OBJECTS)),
)
# What there is to wait for before the next stage.
_WORKLOADS = ("Deployment", "Job", "StatefulSet")


def files(release: Object, path: str, source: str) -> dict[str, str]:
    """Return the text of each file, by its path; none of them holds a Secret."""
    stages = {
        stage: [_plain(item, wave) for item in release["stages"][stage]]
        for wave, stage in enumerate(kustomization.STAGES)
        if release["stages"][stage]
    }
    last = len(kustomization.STAGES)
    for items in stages.values():
        for item in items:
            if _waits_for_a_night(item):
                # A class may make the volume when its first pod comes, and Argo CD would wait.
                marks = item["metadata"]["annotations"]
                marks.update({_WAVE: str(last), _NO_HEALTH: "true"})
    found = {_KUSTOMIZATION: _dump(_document(list(stages)))}
    for stage, items in stages.items():
        found[f"{stage}/{_KUSTOMIZATION}"] = _dump(_document([_OBJECTS]))
        found[f"{stage}/{_OBJECTS}"] = _dump(*items)
    found[FLUX] = _dump(*_flux(release["namespace"], stages, path, source))
    return found


def _plain(item: Object, wave: int) -> Object:
    """Return an object without kubectl's note about itself, and with its place in the order."""
    plain = copy.deepcopy(item)
    marks = plain["metadata"].setdefault("annotations", {})
    marks.pop(kustomization.LAST_APPLIED, None)
    marks[_WAVE] = str(wave)
    return plain


def _waits_for_a_night(item: Object) -> bool:
    return item["kind"] == "PersistentVolumeClaim" and (
        kustomization.label(item, kustomization.COMPONENT_LABEL) == "backup"
    )


def _document(resources: list[str]) -> Object:
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": resources,
    }


def _flux(
    namespace: str, stages: dict[str, list[Object]], path: str, source: str
) -> t.Iterator[Object]:
    before: list[Object] = []
    for stage, items in stages.items():
        name = f"{namespace}-{stage}"
        checks = [
            {
                "apiVersion": item["apiVersion"],
                "kind": item["kind"],
                "name": item["metadata"]["name"],
                "namespace": namespace,
            }
            for item in items
            if item["kind"] in _WORKLOADS
        ]
        yield {
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
            "kind": "Kustomization",
            "metadata": {"name": name, "namespace": "flux-system"},
            "spec": {
                "interval": "10m",
                "timeout": "20m",
                "path": f"./{path}/{stage}" if path else f"./{stage}",
                "prune": True,
                "sourceRef": {"kind": "GitRepository", "name": source},
                **({"dependsOn": before} if before else {}),
                **({"healthChecks": checks} if checks else {}),
            },
        }
        before = [{"name": name}]


class _Dumper(yaml.SafeDumper):
    """Lists are indented, as in the tree; texts of many lines stay such."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def _dump(*documents: Object) -> str:
    # An inventory's texts are of classes of Ansible's own, which no dumper knows.
    plain = json.loads(json.dumps(documents))
    return yaml.dump_all(plain, Dumper=_Dumper, sort_keys=True, explicit_start=True, width=1000)
