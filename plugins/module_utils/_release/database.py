# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a database on a volume does not take: another size, another major version."""

from __future__ import annotations

import copy
import re
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Api
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import CLAIM, STATEFUL_SET
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.ownership import Object

NAME = "postgres"
_MAJOR = re.compile(r":v?(\d+)(?:[.\-_]|$)")


class Volumes(t.NamedTuple):
    """What it takes for a StatefulSet that is there to have other volumes."""

    # Claims with their sizes: name, from, to.
    grow: tuple[Object, ...] = ()
    # Whether it has to be made anew, around its pods, for its templates of claims to be these.
    anew: bool = False
    problems: tuple[str, ...] = ()


def claims(item: Object) -> dict[str, Object]:
    """Return the templates of a StatefulSet by the names of the claims that they make."""
    spec = item["spec"]
    return {
        f"{template['metadata']['name']}-{item['metadata']['name']}-{ordinal}": template
        for template in spec.get("volumeClaimTemplates") or []
        for ordinal in range(spec.get("replicas", 1))
    }


def _size(claim: Object) -> str:
    return str(claim["spec"]["resources"]["requests"]["storage"])


def _covers(there: t.Any, wanted: t.Any) -> bool:
    """Whether all that is wanted is there, whatever the server added."""
    if isinstance(wanted, dict):
        return isinstance(there, dict) and all(
            key in there and _covers(there[key], value) for key, value in wanted.items()
        )
    return bool(there == wanted)


def same_templates(there: list[Object], wanted: list[Object]) -> bool:
    """Whether templates of claims are what is wanted, and what the server added."""
    return len(there) == len(wanted) and all(map(_covers, there, wanted))


def fit(cluster: Api, namespace: str, item: Object, there: Object) -> Volumes:
    """Return what it takes to change a StatefulSet's volumes; its templates never change."""
    wanted = copy.deepcopy(item["spec"].get("volumeClaimTemplates") or [])
    has = there["spec"].get("volumeClaimTemplates") or []
    if same_templates(has, wanted):
        return Volumes()
    grow: list[Object] = []
    problems: list[str] = []
    asked = {**item, "spec": {**item["spec"], "volumeClaimTemplates": wanted}}
    for name, template in claims(asked).items():
        path, size = CLAIM.item(namespace, name), _size(template)
        found = cluster.find(path, f"{CLAIM.kind}/{name}")
        if found is None:
            continue
        before = _size(found)
        definition = {"spec": {"resources": {"requests": {"storage": size}}}}
        then = cluster.request(
            "PATCH", path, definition, {"dryRun": "All"}, "application/merge-patch+json"
        )
        if then.status != 200:
            problems.append(
                f"mlflow_database_storage_size: the volume {name} has {before}, and the cluster "
                f"does not make it {size}: {then.message}. Set it to {before}, or restore a backup "
                "into a release with a new volume"
            )
            continue
        # As the server writes it: 5120Mi is 5Gi.
        template["spec"]["resources"]["requests"]["storage"] = _size(then.body)
        if before != _size(then.body):
            grow.append({"name": name, "from": before, "to": _size(then.body)})
    return Volumes(tuple(grow), not same_templates(has, wanted), tuple(problems))


def major(image: str) -> int | None:
    """Return the major version of Postgres that an image's tag names, if it names one."""
    found = _MAJOR.search(image.rpartition("/")[2].partition("@")[0])
    return int(found[1]) if found else None


def image_of(item: Object) -> str:
    """Return the image of a StatefulSet's container of the database."""
    containers = item["spec"]["template"]["spec"].get("containers") or []
    return next((str(one.get("image", "")) for one in containers if one.get("name") == NAME), "")


def other_version(item: Object, last: str) -> str:
    """Return why an image must not be started on the volume that another one served from."""
    image = image_of(item)
    before, after = major(last), major(image)
    if before is None or after is None or before == after:
        return ""
    return (
        f"mlflow_postgres_image: the database's volume is of Postgres {before} ({last}), which "
        f"Postgres {after} ({image}) cannot open. Set it back to an image of Postgres {before}. Or "
        f"go to Postgres {after} with all that is there: playbooks/upgrade_postgres.yml"
    )


def is_database(item: Object) -> bool:
    """Whether an object is the bundled database."""
    return (item["kind"], item["metadata"]["name"]) == (STATEFUL_SET.kind, NAME)
