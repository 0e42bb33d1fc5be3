# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the cluster can make the volumes that a release asks for, before it asks."""

from __future__ import annotations

import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Api
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import CLAIM, STATEFUL_SET
from ansible_collections.mlops.mlflow.plugins.module_utils._release import database

Object = dict[str, t.Any]
ON_ONE_NODE = "mlops.mlflow/on-one-node"
_CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
_VOLUMES = "/api/v1/persistentvolumes"
_NODES = "/api/v1/nodes"
_DEFAULT = "storageclass.kubernetes.io/is-default-class"
_MANY = {"ReadWriteMany", "ReadOnlyMany"}
# Disks, whose file system only one node can have.
_DISKS = (
    "cinder.csi.openstack.org", "csi.hetzner.cloud", "disk.csi.azure.com",
    "dobs.csi.digitalocean.com", "ebs.csi.aws.com", "kubernetes.io/aws-ebs",
    "kubernetes.io/azure-disk", "kubernetes.io/gce-pd", "pd.csi.storage.gke.io",
)  # fmt: skip


class Found(t.NamedTuple):
    """What is wrong with the volumes, and what whoever deploys should know."""

    problems: list[str]
    warnings: list[str]


def check(cluster: Api, namespace: str, objects: list[Object]) -> Found:
    """Look at the claims of a release: those that are there, and what would make the others."""
    wanted = _claims(objects)
    if not wanted:
        return Found([], [])
    there = {
        item["metadata"]["name"]: item
        for item in cluster.items(CLAIM.path(namespace), "the PersistentVolumeClaims")
    }
    problems = [
        problem
        for item in objects
        if item["kind"] == CLAIM.kind and (own := there.get(item["metadata"]["name"]))
        for problem in _fixed(item, own)
    ]
    new = {name: spec for name, spec in wanted.items() if name not in there}
    if not new:
        return Found(problems, [])
    unseen: list[str] = []
    warnings: list[str] = []
    classes = _seen(cluster, _CLASSES, "storage classes", unseen)
    if classes is not None:
        problems += _unmade(cluster, new, classes, unseen)
    artifacts = new.get("mlflow-artifacts")
    if artifacts and not _MANY & set(artifacts.get("accessModes") or []):
        nodes = _seen(cluster, _NODES, "nodes", unseen, {"limit": "2"})
        several = _replicas(objects) > 1
        if several and nodes is not None and len(nodes) > 1:
            warnings.append(
                "mlflow_components: the servers share one node, because the volume "
                "mlflow-artifacts is on one at a time; without that node MLflow is away until "
                "another has it. s3-artifacts or shared-artifacts lets them spread. It is easiest "
                "chosen now."
            )
    if unseen:
        warnings.append(
            f"mlflow_storage_class: this account may not list {', '.join(unseen)}, so nobody has "
            f"looked whether the cluster can make the volumes {', '.join(sorted(new))}."
        )
    return Found(problems, warnings)


def _claims(objects: list[Object]) -> dict[str, Object]:
    """Return what each claim of a release asks for, by its name."""
    found = {o["metadata"]["name"]: o["spec"] for o in objects if o["kind"] == CLAIM.kind}
    for item in objects:
        if item["kind"] == STATEFUL_SET.kind:
            made = database.claims(item).items()
            found.update({name: template["spec"] for name, template in made})
    return found


def _fixed(item: Object, own: Object) -> t.Iterator[str]:
    """Say what of a claim that is there would have to be another, which no claim can become."""
    name, wanted, has = item["metadata"]["name"], item["spec"], own["spec"]
    stays = (
        "A volume stays as it was made: copy what is in it, delete the claim while no pod has it, "
        "and run again"
    )
    modes = [" and ".join(spec.get("accessModes") or []) for spec in (has, wanted)]
    if set(has.get("accessModes") or []) != set(wanted.get("accessModes") or []):
        yield (
            f"PersistentVolumeClaim {name} is {modes[0]}, and the release asks for {modes[1]}. "
            f"{stays}, or leave out what asks for it (shared-artifacts in mlflow_components)"
        )
    chosen = wanted.get("storageClassName")
    if chosen is not None and has.get("storageClassName", chosen) != chosen:
        yield (
            f"mlflow_storage_class: PersistentVolumeClaim {name} is of the class "
            f"{has['storageClassName']}, and the release asks for {chosen}. {stays}, or set "
            f"mlflow_storage_class: {has['storageClassName']}"
        )


def _seen(
    cluster: Api, path: str, what: str, unseen: list[str], query: dict[str, str] | None = None
) -> list[Object] | None:
    """Return the objects of the cluster's own, or note that this account may not see them."""
    answer = cluster.request("GET", path, query=query)
    if answer.status in (200, 404):
        return answer.body.get("items") or []
    unseen.append(what)
    return None


def _unmade(
    cluster: Api, new: dict[str, Object], classes: list[Object], unseen: list[str]
) -> t.Iterator[str]:
    """Say which claims nothing in the cluster would make a volume for."""
    by_name = {item["metadata"]["name"]: item for item in classes}
    default = [name for name, item in by_name.items() if _is_default(item)]
    offered = f"it has {', '.join(sorted(by_name))}" if by_name else "it has none at all"
    without: list[str] = []
    unknown: dict[str, list[str]] = {}
    for name, spec in sorted(new.items()):
        chosen = spec.get("storageClassName")
        if spec.get("volumeName") or chosen == "":
            continue
        if chosen is None and not default:
            without.append(name)
        elif chosen is not None and chosen not in by_name:
            unknown.setdefault(chosen, []).append(name)
        else:
            provisioner = by_name[chosen or default[0]].get("provisioner", "")
            if provisioner in _DISKS and _MANY & set(spec.get("accessModes") or []):
                yield (
                    f"mlflow_storage_class: {name} is to be mounted by many nodes at a time, and "
                    f"the class {chosen or default[0]} makes disks ({provisioner}), which one "
                    "node has. Choose a class of a shared file system, or leave shared-artifacts "
                    "out"
                )
    if not (without or unknown):
        return
    made = _seen(cluster, _VOLUMES, "persistent volumes", unseen)
    if made is None:
        # Made by hand, perhaps.
        return
    free = {
        item["spec"].get("storageClassName", "")
        for item in made
        if (item.get("status") or {}).get("phase") == "Available"
    }
    if without and "" not in free:
        yield (
            f"mlflow_storage_class: is not set, and the cluster has no default storage class for "
            f"{', '.join(without)}; {offered}"
        )
    for chosen, names in unknown.items():
        if chosen not in free:
            yield (
                f"mlflow_storage_class: the cluster has no storage class {chosen} for "
                f"{', '.join(names)}; {offered}"
            )


def _is_default(item: Object) -> bool:
    return (item["metadata"].get("annotations") or {}).get(_DEFAULT) == "true"


def _replicas(objects: list[Object]) -> int:
    """Return how many servers there may be that follow a volume."""
    most = {item["kind"]: item["spec"].get("maxReplicas", 1) for item in objects if "spec" in item}
    return max(
        (
            item["spec"].get("replicas", most.get("HorizontalPodAutoscaler", 1))
            for item in objects
            if item["kind"] == "Deployment"
            and ON_ONE_NODE in (item["spec"]["template"]["metadata"].get("labels") or {})
        ),
        default=0,
    )
