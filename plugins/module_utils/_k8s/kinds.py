# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one table of the Kubernetes kinds that need no question to the cluster.

And what has to be watched for each that something is waited for.
"""

from __future__ import annotations

import typing as t


class Kind(t.NamedTuple):
    """One resource type of the API: what is needed to build its URL."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def group(self) -> str:
        """The API group, empty for the core group."""
        return self.api_version.split("/")[0] if "/" in self.api_version else ""

    def path(self, namespace: str | None) -> str:
        """Return the URL path of the collection of these objects."""
        root = "/apis/" if "/" in self.api_version else "/api/"
        scope = "/namespaces/" + namespace if self.namespaced and namespace else ""
        return root + self.api_version + scope + "/" + self.plural

    def item(self, namespace: str | None, name: str) -> str:
        """Return the URL path of one of these objects."""
        return f"{self.path(namespace)}/{name}"

    def __str__(self) -> str:
        return self.plural + ("." + self.group if self.group else "")


POD = Kind("v1", "Pod", "pods")
EVENT = Kind("v1", "Event", "events")
CLAIM = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
REPLICA_SET = Kind("apps/v1", "ReplicaSet", "replicasets")
STATEFUL_SET = Kind("apps/v1", "StatefulSet", "statefulsets")
DAEMON_SET = Kind("apps/v1", "DaemonSet", "daemonsets")
REVISION = Kind("apps/v1", "ControllerRevision", "controllerrevisions")
JOB = Kind("batch/v1", "Job", "jobs")
CRON_JOB = Kind("batch/v1", "CronJob", "cronjobs")
NAMESPACE = Kind("v1", "Namespace", "namespaces", False)
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
SECRET = Kind("v1", "Secret", "secrets")
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")
DISRUPTION_BUDGET = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
AUTOSCALER = Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")

# What a release may consist of, by API version and kind. Any other kind is asked for.
KINDS: dict[tuple[str, str], Kind] = {
    (kind.api_version, kind.kind): kind
    for kind in (
        NAMESPACE,
        CONFIG_MAP,
        SECRET,
        Kind("v1", "Service", "services"),
        Kind("v1", "ServiceAccount", "serviceaccounts"),
        CLAIM,
        Kind("v1", "ResourceQuota", "resourcequotas"),
        Kind("v1", "LimitRange", "limitranges"),
        POD,
        EVENT,
        DEPLOYMENT,
        STATEFUL_SET,
        DAEMON_SET,
        REPLICA_SET,
        JOB,
        CRON_JOB,
        DISRUPTION_BUDGET,
        AUTOSCALER,
        Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
        Kind("networking.k8s.io/v1", "Ingress", "ingresses"),
        Kind("rbac.authorization.k8s.io/v1", "Role", "roles"),
        Kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"),
    )
}

# What a component brings, in a cluster that has the operator for it.
OPTIONAL_KINDS = (
    Kind("monitoring.coreos.com/v1", "ServiceMonitor", "servicemonitors"),
    Kind("monitoring.coreos.com/v1", "PodMonitor", "podmonitors"),
    Kind("monitoring.coreos.com/v1", "PrometheusRule", "prometheusrules"),
    Kind("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes"),
    Kind("route.openshift.io/v1", "Route", "routes"),
    Kind("external-secrets.io/v1", "ExternalSecret", "externalsecrets"),
)

# What else to watch so that a verdict about an object of this kind can be made.
COMPANIONS: dict[Kind, tuple[Kind, ...]] = {
    DEPLOYMENT: (REPLICA_SET, POD, CLAIM, EVENT),
    STATEFUL_SET: (POD, CLAIM, EVENT),
    DAEMON_SET: (REVISION, POD, CLAIM, EVENT),
    JOB: (POD, CLAIM, EVENT),
    POD: (CLAIM, EVENT),
    CLAIM: (POD, EVENT),
}

_SPELLINGS = {
    spelling: kind
    for kind, short in (
        (DEPLOYMENT, "deploy"),
        (STATEFUL_SET, "sts"),
        (DAEMON_SET, "ds"),
        (JOB, "job"),
        (POD, "po"),
        (CLAIM, "pvc"),
    )
    for spelling in (short, kind.kind.lower(), kind.plural)
}

# Groups that Kubernetes itself serves. Of their kinds only those above have something to wait
# for; an object of any other group is a custom resource and is judged by its conditions.
_BUILT_IN_GROUPS = frozenset(
    {
        "",
        "apps",
        "batch",
        "autoscaling",
        "policy",
        "extensions",
        "admissionregistration.k8s.io",
        "apiextensions.k8s.io",
        "apiregistration.k8s.io",
        "authentication.k8s.io",
        "authorization.k8s.io",
        "certificates.k8s.io",
        "coordination.k8s.io",
        "discovery.k8s.io",
        "events.k8s.io",
        "flowcontrol.apiserver.k8s.io",
        "internal.apiserver.k8s.io",
        "networking.k8s.io",
        "node.k8s.io",
        "rbac.authorization.k8s.io",
        "resource.k8s.io",
        "scheduling.k8s.io",
        "storage.k8s.io",
        "storagemigration.k8s.io",
    }
)


def known_kind(kind: str, api_version: str | None) -> Kind | None:
    """Return the workload kind that a user's C(kind) means, whatever the spelling, or None."""
    found = _SPELLINGS.get(kind.lower())
    if found is None or (
        api_version and api_version.split("/")[0] != found.api_version.split("/")[0]
    ):
        return None
    return found


def is_built_in(api_version: str) -> bool:
    """Say whether Kubernetes itself serves this API version (else it is a custom resource)."""
    return (api_version.split("/")[0] if "/" in api_version else "") in _BUILT_IN_GROUPS
