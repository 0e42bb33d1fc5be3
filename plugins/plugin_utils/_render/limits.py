# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What kustomize can do to a tree and a release cannot follow: said in one line. Pure functions."""

from __future__ import annotations

from ansible_collections.mlops.mlflow.plugins.plugin_utils._render.objects import (
    COMPONENT_LABEL,
    GENERATED,
    PART_LABEL,
    SERVER,
    Object,
    find,
    label,
    namespace_of,
    pod_template_of,
)

_NAME_LABEL = "app.kubernetes.io/name"
# By these the release knows its own: stages, policies, prune and teardown go by them.
OURS = (_NAME_LABEL, PART_LABEL, COMPONENT_LABEL)


def outside(objects: list[Object]) -> list[str]:
    """Name the objects that say that they are in a namespace which is not the release's."""
    release = namespace_of(objects)
    return sorted(
        f"{item['kind']} {item['metadata']['name']} in {namespace}"
        for item in objects
        if (namespace := item["metadata"].get("namespace")) and release and namespace != release
    )


def unsupported(objects: list[Object]) -> str:
    """Return what of an overlay cannot be deployed as a release, and why; or nothing."""
    elsewhere = outside(objects)
    if elsewhere:
        return (
            f"mlflow_overlay: renders objects outside {namespace_of(objects)}: "
            f"{', '.join(elsewhere)}; a release is one namespace, and what it prunes and tears "
            "down is there. Deploy them on their own"
        )
    if find(objects, "Deployment", SERVER) is None:
        named = [
            item["metadata"]["name"]
            for item in objects
            if item.get("kind") == "Deployment" and SERVER in item["metadata"]["name"]
        ]
        return _renamed(named[0]) if len(named) == 1 else ""
    bare = [
        item["metadata"]["name"]
        for item in objects
        if item.get("kind") == "ConfigMap" and item["metadata"]["name"] in GENERATED
    ]
    if bare:
        return (
            f"mlflow_overlay: ConfigMap {bare[0]} has no hash in its name (disableNameSuffixHash): "
            "pods would go on with what it held before. Leave that out"
        )
    return _relabelled(objects)


def _renamed(name: str) -> str:
    return (
        f"mlflow_overlay: renders Deployment {name}, not {SERVER} (namePrefix or nameSuffix): the "
        "parts of a release find each other by name, at http://mlflow:5000 for instance. Leave it "
        "out; what tells releases apart is mlflow_namespace"
    )


def _relabelled(objects: list[Object]) -> str:
    """Say so where a label is changed that the release goes by."""
    for kind, name in (("Deployment", SERVER), ("StatefulSet", "postgres")):
        item = find(objects, kind, name)
        for place in [item, pod_template_of(item)] if item else []:
            for key in OURS[:2]:
                value = label(place, key)
                if value != SERVER:
                    return (
                        f"mlflow_overlay: changes the label {key} of {kind} {name} to "
                        f"{value or 'nothing'}: policies, prune and teardown find the release by "
                        f"{key}: {SERVER}. Give it as another label"
                    )
    return ""


def labels_of_all(objects: list[Object]) -> list[Object]:
    """Return the labels that an overlay gives to everything, as kustomize's field C(labels).

    What is added on top of it is to have them too: they may be in what policies select.
    """
    server = find(objects, "Deployment", SERVER)
    # Of base, and so in every overlay, and changed together by nothing else.
    items = [server, *(find(objects, kind, SERVER) for kind in ("Service", "ServiceAccount"))]
    if not all(items):
        return []
    every = [(item or {})["metadata"].get("labels") or {} for item in items]
    pairs = {
        key: value
        for key, value in every[0].items()
        if key not in OURS and all(labels.get(key) == value for labels in every)
    }
    in_pods = (pod_template_of(server).get("metadata") or {}).get("labels") or {}
    found: list[Object] = []
    for included in (True, False):
        some = {key: value for key, value in pairs.items() if (key in in_pods) is included}
        if some:
            found.append({"pairs": some, "includeTemplates": included})
    return found
