# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask the cluster what it permits, by SelfSubjectAccessReview."""

from __future__ import annotations

import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Api, ApiError

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


class Permission(t.NamedTuple):
    """One verb on one resource; the resource may have a subresource after a slash.

    Without a namespace it is asked for in the whole cluster. A single namespace, though it is an
    object of the cluster, is one that a Role in it can grant.
    """

    verb: str
    group: str
    resource: str
    namespace: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}{'.' + self.group if self.group else ''}"


def _allowed(cluster: Api, permission: Permission) -> bool:
    resource, _slash, subresource = permission.resource.partition("/")
    attributes = {"verb": permission.verb, "group": permission.group, "resource": resource}
    if subresource:
        attributes["subresource"] = subresource
    if permission.namespace:
        attributes["namespace"] = permission.namespace
        if resource == "namespaces":
            attributes["name"] = permission.namespace
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    answer = cluster.request("POST", _REVIEWS, review)
    if answer.status not in (200, 201):
        raise ApiError(0, f"the cluster does not answer an access review: {answer.message}")
    return bool((answer.body.get("status") or {}).get("allowed"))


def missing(cluster: Api, permissions: list[Permission]) -> list[str]:
    """Return the permissions that the cluster denies."""
    if _allowed(cluster, Permission("*", "*", "*", "")):
        return []
    return [str(item) for item in permissions if not _allowed(cluster, item)]
