# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads and writes of single objects, with errors a person can read.

On top of the one adapter over kubernetes.core: its authentication, option for option, and its
connection. kubernetes.core's own dynamic client asks for the whole API at start and waits without
a bound on a server that does not answer.
"""

from __future__ import annotations

import json
import typing as t
from urllib.parse import quote, urlencode

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import (
    AUTH_ARG_SPEC,
    Api,
    CredentialsError,
    require_libraries,
)

try:
    import urllib3
    import urllib3.exceptions
except ImportError:  # pragma: no cover - reported by require_libraries
    pass

CONNECT_TIMEOUT = 3.0
READ_TIMEOUT = 15.0

# kind → (plural, namespaced): what needs no question to the cluster.
KINDS: dict[tuple[str, str], tuple[str, bool]] = {
    ("v1", "Namespace"): ("namespaces", False),
    ("v1", "ConfigMap"): ("configmaps", True),
    ("v1", "Secret"): ("secrets", True),
    ("v1", "Service"): ("services", True),
    ("v1", "ServiceAccount"): ("serviceaccounts", True),
    ("v1", "PersistentVolumeClaim"): ("persistentvolumeclaims", True),
    ("v1", "ResourceQuota"): ("resourcequotas", True),
    ("v1", "LimitRange"): ("limitranges", True),
    ("v1", "Pod"): ("pods", True),
    ("v1", "Event"): ("events", True),
    ("apps/v1", "Deployment"): ("deployments", True),
    ("apps/v1", "StatefulSet"): ("statefulsets", True),
    ("apps/v1", "DaemonSet"): ("daemonsets", True),
    ("apps/v1", "ReplicaSet"): ("replicasets", True),
    ("batch/v1", "Job"): ("jobs", True),
    ("batch/v1", "CronJob"): ("cronjobs", True),
    ("policy/v1", "PodDisruptionBudget"): ("poddisruptionbudgets", True),
    ("autoscaling/v2", "HorizontalPodAutoscaler"): ("horizontalpodautoscalers", True),
    ("networking.k8s.io/v1", "NetworkPolicy"): ("networkpolicies", True),
    ("networking.k8s.io/v1", "Ingress"): ("ingresses", True),
    ("rbac.authorization.k8s.io/v1", "Role"): ("roles", True),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): ("rolebindings", True),
}


class ClusterError(Exception):
    """Why a request could not be made or was refused; names no value of an object."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


def split_api_version(api_version: str) -> tuple[str, str]:
    """Return group and version; the core group is the empty string."""
    group, _slash, version = api_version.rpartition("/")
    return group, version


def collection_path(api_version: str, plural: str, namespace: str = "") -> str:
    """Return the path of a resource's collection."""
    prefix = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
    middle = f"/namespaces/{quote(namespace)}" if namespace else ""
    return f"{prefix}{middle}/{plural}"


class Answer(t.NamedTuple):
    """An HTTP status and the object that came with it."""

    status: int
    body: dict[str, t.Any]

    @property
    def message(self) -> str:
        """What the API server says about it, one line."""
        return " ".join(str(self.body.get("message") or f"HTTP {self.status}").split())


class Cluster(Api):
    """The API server that kubernetes.core's authentication options mean."""

    def __init__(self, module: AnsibleModule, params: t.Mapping[str, t.Any] | None = None) -> None:
        """Take the module's options, or others where some of its own mean something else."""
        require_libraries(module)
        chosen = module.params if params is None else params
        try:
            super().__init__({name: chosen.get(name) for name in AUTH_ARG_SPEC})
        except CredentialsError as error:
            raise ClusterError(str(error)) from None
        self._plurals = dict(KINDS)

    def request(
        self,
        method: str,
        path: str,
        body: t.Any = None,
        query: dict[str, str] | None = None,
        content_type: str = "application/json",
        read_timeout: float = READ_TIMEOUT,
    ) -> Answer:
        """Make one request; raise ClusterError when there is no answer or it is a 401.

        Every other status is the caller's to judge.
        """
        url = self.host + path + (f"?{urlencode(query)}" if query else "")
        data = None if body is None else json.dumps(body).encode()
        self.requests += 1
        headers = urllib3.HTTPHeaderDict()
        for name, value in self._request_headers():
            headers.add(name, value)
        if data is not None:
            headers["Content-Type"] = content_type
        try:
            response = self._pool.request(
                method,
                url,
                body=data,
                headers=headers,
                timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT, read=read_timeout),
                retries=False,
            )
        except urllib3.exceptions.HTTPError as error:
            raise ClusterError(f"cannot reach the cluster at {self.host}: {_why(error)}") from None
        self._note_time(response.headers.get("Date"))
        try:
            answer = json.loads(response.data or b"{}")
        except ValueError:
            answer = {}
        if not isinstance(answer, dict):
            answer = {}
        if response.status == 401:
            raise ClusterError(
                f"the cluster at {self.host} refuses the credentials (401 Unauthorized); have "
                "they expired?",
                401,
            )
        return Answer(response.status, answer)

    def metadata_of(self, path: str) -> Answer:
        """List the metadata of objects: the values of Secrets never leave the API server so."""
        before = self._headers
        kind = "PartialObjectMetadataList;g=meta.k8s.io;v=v1"
        self._headers = {**before, "Accept": f"application/json;as={kind}"}
        try:
            return self.request("GET", path)
        finally:
            self._headers = before

    def resource(self, api_version: str, kind: str) -> tuple[str, bool]:
        """Return plural and scope of a kind; raise ClusterError when the cluster has no such."""
        known = self._plurals.get((api_version, kind))
        if known is not None:
            return known
        prefix = "/apis/" if "/" in api_version else "/api/"
        answer = self.request("GET", prefix + api_version)
        for item in answer.body.get("resources") or []:
            if "/" not in item.get("name", "/"):
                self._plurals[(api_version, item["kind"])] = (
                    item["name"],
                    item["namespaced"],
                )
        known = self._plurals.get((api_version, kind))
        if known is None:
            raise ClusterError(f"the cluster has no {kind} of {api_version}; is its CRD installed?")
        return known

    def path_of(self, item: dict[str, t.Any], namespace: str = "") -> str:
        """Return the path of an object."""
        plural, namespaced = self.resource(item["apiVersion"], item["kind"])
        where = (item["metadata"].get("namespace") or namespace) if namespaced else ""
        return f"{collection_path(item['apiVersion'], plural, where)}/{item['metadata']['name']}"


def _why(error: Exception) -> str:
    """Return the reason of a failed connection in a few words."""
    text = str(getattr(error, "reason", None) or error)
    for words, meaning in (
        ("refused", "connection refused"),
        ("Name or service not known", "its name cannot be resolved"),
        ("Temporary failure in name resolution", "its name cannot be resolved"),
        ("No address associated", "its name cannot be resolved"),
        ("Failed to resolve", "its name cannot be resolved"),
        ("No route to host", "no route to host"),
        ("Network is unreachable", "the network is unreachable"),
        ("CERTIFICATE_VERIFY_FAILED", "its certificate is not trusted"),
        ("WRONG_VERSION_NUMBER", "it does not speak TLS"),
        ("SSL", "TLS fails"),
        ("Read timed out", "no answer in time"),
        ("timed out", f"no connection within {CONNECT_TIMEOUT:g} s"),
    ):
        if words in text:
            return meaning
    return type(error).__name__
