# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find MLflow in a namespace, whoever deployed it: pure functions of the objects there.

Nothing is taken for granted about names and labels, which every chart and operator chooses for
itself. What a container runs says best what it is; labels and image names help where that is left
to the image.
"""

from __future__ import annotations

import json
import re
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import (
    CLAIM,
    DAEMON_SET,
    DEPLOYMENT,
    JOB,
    POD,
    REPLICA_SET,
    STATEFUL_SET,
    Kind,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.schema import HELPER
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.state import (
    Object,
    State,
    claim_names,
    words_of,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict import Target

SERVER = "server"
DATABASE = "database"
MIGRATION = "migration"
JOB_ROLE = "job"
OTHER = "other"
VOLUME = "volume"
ORDER = (DATABASE, MIGRATION, SERVER, OTHER, JOB_ROLE, VOLUME)

_WORKLOADS = (DEPLOYMENT, STATEFUL_SET, DAEMON_SET)
# The command line of a tracking server, be it `mlflow server`, a shell's line, or its WSGI or ASGI
# application in a server of the user's choice. `mlflow models serve` is something else.
_SERVES = re.compile(
    r"(?:^|[\s/;&|(\"'])mlflow\s+(?:-\S+\s+)*(?:server|ui)\b"
    r"|-m\s+mlflow\s+(?:server|ui)\b|\bmlflow\.server(?:\.\w+)*:\w+"
)
_ARGUMENTS = re.compile(r"^(?:server|ui)\s.*--(?:backend-store-uri|host|port)\b")
_MIGRATES = re.compile(r"\bmlflow\s+db\s+upgrade\b|schema\.py\s+migrate\b|\balembic\s+upgrade\b")
_MLFLOW_IMAGE = re.compile(r"(?:^|/)[\w.-]*mlflow[\w.-]*(?:[:@]|$)", re.IGNORECASE)
_DATABASE_IMAGE = re.compile(
    r"(?:^|/)[\w.-]*(?:postgres|timescaledb|spilo|pgbouncer|pgpool|mysql|mariadb|mssql)[\w.-]*"
    r"(?:[:@]|$)",
    re.IGNORECASE,
)
_PORT_OPTION = re.compile(r"(?:--port|-p|--bind|-b)[\s=](?:[\w.\[\]]*:)?(\d{2,5})\b")
_NAME_LABELS = ("app.kubernetes.io/name", "app.kubernetes.io/part-of", "app", "k8s-app")


class Found(t.NamedTuple):
    """One object that belongs to an MLflow, and what it is for."""

    target: Target
    role: str
    # None: a claim that something mounts, and that does not exist.
    item: Object | None

    @property
    def deployed_by(self) -> str:
        """Who deployed it, in words, or an empty string."""
        return deployed_by(self.item) if self.item else ""


def find(state: State, namespace: str, sees_claims: bool = True) -> list[Found]:
    """Return all that belongs to MLflow in a namespace, in the order in which it depends."""
    candidates = [*_workloads(state, namespace), *_lone_pods(state, namespace)]
    servers = [found for found in candidates if is_server(found.item, found.target.kind)]
    others = [found for found in candidates if found not in servers]
    chosen = [found._replace(role=SERVER) for found in servers]
    chosen += _databases(others, servers)
    for found in others:
        item = found.item or {}
        if found.target.kind == JOB:
            if _controller(item).get("kind") == "CronJob":
                continue
            migrates = bool(_MIGRATES.search(_words_of_all(item, JOB)))
            if migrates or any(_related(item, server.item) for server in servers):
                role = MIGRATION if migrates or _label(item, "component") == MIGRATION else JOB_ROLE
                chosen.append(found._replace(role=role))
        elif not _is_database(item, found.target.kind) and (
            _is_mlflow(item, found.target.kind)
            or any(_related(item, server.item) for server in servers)
        ):
            chosen.append(found._replace(role=OTHER))
    if sees_claims:
        chosen += _volumes(state, chosen)
    return sorted(chosen, key=lambda one: (ORDER.index(one.role), one.target.name))


def _workloads(state: State, namespace: str) -> list[Found]:
    return [
        Found(Target(kind, namespace, item["metadata"]["name"]), OTHER, item)
        for kind in (*_WORKLOADS, JOB)
        for item in state.all(kind, namespace)
    ]


def _lone_pods(state: State, namespace: str) -> list[Found]:
    """Return the pods that no workload in sight stands for: made by hand, or by an operator."""
    known = {
        item["metadata"].get("uid")
        for kind in (*_WORKLOADS, JOB)
        for item in state.all(kind, namespace)
    }
    known |= {
        item["metadata"].get("uid")
        for item in state.all(REPLICA_SET, namespace)
        if _controller(item).get("uid") in known
    }
    return [
        Found(Target(POD, namespace, pod["metadata"]["name"]), OTHER, pod)
        for pod in state.all(POD, namespace)
        if _controller(pod).get("uid") not in known
        and not pod["metadata"].get("deletionTimestamp")
        and (pod.get("status") or {}).get("phase") != "Succeeded"
    ]


def _databases(others: list[Found], servers: list[Found]) -> list[Found]:
    """Return the servers' databases; all databases there are if none can be told to be theirs."""
    databases = [
        found._replace(role=DATABASE)
        for found in others
        if found.target.kind != JOB and _is_database(found.item or {}, found.target.kind)
    ]
    theirs = [
        found
        for found in databases
        if any(
            _related(found.item, server.item)
            or _mentions(server.item, server.target.kind, found.target.name)
            for server in servers
        )
    ]
    return theirs or (databases if servers else [])


def _volumes(state: State, chosen: list[Found]) -> list[Found]:
    names: dict[str, str] = {}
    for found in chosen:
        item, namespace = found.item or {}, found.target.namespace
        pod = {"metadata": item.get("metadata") or {"name": ""}, "spec": pod_spec(item, POD)}
        if found.target.kind != POD:
            pod["spec"] = pod_spec(item, found.target.kind)
        names |= dict.fromkeys(claim_names(pod), namespace)
        spec = item.get("spec") or {}
        for template in spec.get("volumeClaimTemplates") or []:
            for ordinal in range(_replicas(item)):
                name = f"{template['metadata']['name']}-{found.target.name}-{ordinal}"
                names[name] = namespace
    return [
        Found(Target(CLAIM, namespace, name), VOLUME, state.get(CLAIM, namespace, name))
        for name, namespace in names.items()
        if name
    ]


# --- What an object is --------------------------------------------------------------------------


def is_server(item: Object | None, kind: Kind) -> bool:
    """Say whether a workload is an MLflow tracking server."""
    return bool(item) and server_container(item, kind) is not None


def server_container(item: Object | None, kind: Kind) -> Object | None:
    """Return the container of a workload that is the tracking server, or None."""
    if item is None or kind == JOB:
        return None
    containers = pod_spec(item, kind).get("containers") or []
    for container in containers:
        words = _command_line(container)
        if _SERVES.search(words) or _ARGUMENTS.search(words):
            return t.cast(Object, container)
    # What the image runs by itself is anyone's guess: an image of that name most likely serves.
    for container in containers:
        if not _command_line(container) and _MLFLOW_IMAGE.search(str(container.get("image") or "")):
            return t.cast(Object, container)
    return None


def server_pod(pod: Object) -> Object:
    """Return a pod as if the tracking server were its only container, with the port it serves.

    Its version is left out of the image: a tag of somebody's own need not be MLflow's version.
    """
    container = server_container(pod, POD)
    if container is None:
        return pod
    image = re.sub(r"(?<=[\w])(?::[\w.-]+)?(?:@.*)?$", "", str(container.get("image") or ""))
    only = {**container, "image": image}
    port = _PORT_OPTION.search(_command_line(container))
    if port:
        only["ports"] = [{"name": "http", "containerPort": int(port[1])}]
    return {**pod, "spec": {**(pod.get("spec") or {}), "containers": [only]}}


def has_helper(item: Object | None, kind: Kind) -> bool:
    """Say whether this collection's schema helper is mounted into the tracking server."""
    folder = HELPER.rpartition("/")[0]
    container = server_container(item, kind) or {}
    return any(mount.get("mountPath") == folder for mount in container.get("volumeMounts") or [])


def pod_spec(item: Object, kind: Kind) -> Object:
    """Return the specification of a workload's pods."""
    spec: Object = item.get("spec") or {}
    if kind == POD:
        return spec
    found: Object = (spec.get("template") or {}).get("spec") or {}
    return found


def deployed_by(item: Object) -> str:
    """Say who deployed an object, as its labels, annotations and owners tell, or nothing."""
    labels = item["metadata"].get("labels") or {}
    annotations = item["metadata"].get("annotations") or {}
    owner = _controller(item)
    if owner and owner.get("kind") not in ("ReplicaSet", "StatefulSet", "DaemonSet", "Job"):
        return f"{owner.get('kind')} {owner.get('name')}"
    release = annotations.get("meta.helm.sh/release-name")
    if release or labels.get("app.kubernetes.io/managed-by") == "Helm":
        chart = labels.get("helm.sh/chart") or labels.get("chart")
        parts = [f"chart {chart}" if chart else "", f"release {release}" if release else ""]
        return "Helm" + (f" ({', '.join(filter(None, parts))})" if any(parts) else "")
    for key, words in (
        ("argocd.argoproj.io/instance", "Argo CD application"),
        ("kustomize.toolkit.fluxcd.io/name", "Flux Kustomization"),
    ):
        if labels.get(key):
            return f"{words} {labels[key]}"
    managers = {entry.get("manager") for entry in item["metadata"].get("managedFields") or []}
    return "mlops.mlflow" if "mlops.mlflow" in managers else ""


def _is_mlflow(item: Object, kind: Kind) -> bool:
    labels = item["metadata"].get("labels") or {}
    if any(labels.get(name) == "mlflow" for name in _NAME_LABELS[:2]):
        return True
    containers = pod_spec(item, kind).get("containers") or []
    return any(_MLFLOW_IMAGE.search(str(one.get("image") or "")) for one in containers) and any(
        str(labels.get(name) or "").startswith("mlflow") for name in _NAME_LABELS
    )


def _is_database(item: Object, kind: Kind) -> bool:
    return any(
        _DATABASE_IMAGE.search(str(container.get("image") or ""))
        for container in pod_spec(item, kind).get("containers") or []
    )


# --- What belongs together ----------------------------------------------------------------------


def _related(item: Object | None, server: Object | None) -> bool:
    """Say whether two objects were deployed together."""
    if item is None or server is None:
        return False
    for label in ("instance", "part-of"):
        if _label(item, label) and _label(item, label) == _label(server, label):
            return True
    release = "meta.helm.sh/release-name"
    ours, theirs = (
        (one["metadata"].get("annotations") or {}).get(release) for one in (item, server)
    )
    owner = _controller(item).get("uid")
    return bool((ours and ours == theirs) or (owner and owner == _controller(server).get("uid")))


def _mentions(item: Object | None, kind: Kind, name: str) -> bool:
    """Say whether a workload's pods name something, such as the host of their database."""
    text = json.dumps(pod_spec(item or {}, kind))
    return re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", text) is not None


def _label(item: Object, name: str) -> str:
    return str((item["metadata"].get("labels") or {}).get(f"app.kubernetes.io/{name}") or "")


def _controller(item: Object) -> Object:
    for reference in item["metadata"].get("ownerReferences") or []:
        if reference.get("controller", True):
            return t.cast(Object, reference)
    return {}


def _command_line(container: Object) -> str:
    return " ".join(words_of(container))


def _words_of_all(item: Object, kind: Kind) -> str:
    return "\n".join(_command_line(one) for one in pod_spec(item, kind).get("containers") or [])


def _replicas(item: Object) -> int:
    value = (item.get("spec") or {}).get("replicas")
    return 1 if value is None else int(value)
