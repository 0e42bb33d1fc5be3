# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look once into a namespace, ask the servers there, and judge, for diagnose and mlflow_info."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Api, ApiError
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import (
    CLAIM,
    DAEMON_SET,
    DEPLOYMENT,
    EVENT,
    JOB,
    POD,
    REPLICA_SET,
    REVISION,
    STATEFUL_SET,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.redact import Redactor
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow import findings as _findings
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow.discover import (
    SERVER,
    find,
    has_helper,
    server_pod,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow.findings import Finding
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow.readiness import (
    MlflowCheck,
    Server,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait import hints
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import Problem
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.state import Clock, Object, State
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict import (
    READY,
    Target,
    current_pods,
)

_KINDS = (DEPLOYMENT, REPLICA_SET, STATEFUL_SET, DAEMON_SET, REVISION, JOB, POD, CLAIM, EVENT)
# What has to be visible at least, for anything to be said.
_LEAST = {POD, DEPLOYMENT, STATEFUL_SET}


class Diagnosis:
    """One look into a namespace."""

    def __init__(self, api: Api, params: dict[str, t.Any], known: t.Iterable[str] = ()) -> None:
        """Take what is known to be secret, too: it is in no text of the result."""
        self._api = api
        self._redact = Redactor(known)
        self._params = params
        self._namespace: str = params["namespace"]
        self._state = State()
        self._clock = Clock(0.0, 0.0)
        self._refused: list[ApiError] = []
        self.notes: list[str] = []

    @property
    def state(self) -> State:
        """Return the objects that were seen."""
        return self._state

    @property
    def wall(self) -> float:
        """Return the API server's time of the look."""
        return self._clock.wall

    def run(self) -> dict[str, t.Any]:
        """Look, and return the module's result; raise ApiError if nothing can be seen."""
        self._look()
        sees_claims = self._state.is_synced(CLAIM, self._namespace)
        found = find(self._state, self._namespace, sees_claims)
        findings = _findings.examine(
            found, self._state, self._clock, self._params["tolerances"], self._params["settle"]
        )
        servers: dict[str, dict[str, t.Any]] = {}
        if self._params["ask"]:
            findings = [self._ask(finding, servers) for finding in findings]
        objects = [finding.as_dict(self._explain(finding), self._redact) for finding in findings]
        status = _findings.overall(objects)
        return {
            "healthy": status == READY,
            "status": status,
            "objects": objects,
            "servers": servers,
            "notes": self.notes,
            "report": _findings.report(self._namespace, objects, self.notes),
            "msg": _findings.sentence(self._namespace, objects, self._nothing(objects)),
        }

    def _look(self) -> None:
        """List all that matters, and note what may not be listed."""
        for kind in _KINDS:
            try:
                items, _version = self._api.list_all(kind, self._namespace)
            except ApiError as error:
                if error.status != 403:
                    raise
                self._refused.append(error)
                self.notes.append(f"{kind.plural} (the account may not list {kind})")
                continue
            self._clock = self._now()
            self._state.replace(kind, self._namespace, items, self._clock)
        if not any(self._state.is_synced(kind, self._namespace) for kind in _LEAST):
            raise self._refused[0]
        self._clock = self._now()

    def _now(self) -> Clock:
        now = time.monotonic()
        return Clock(now, self._api.server_wall(now))

    def _nothing(self, objects: list[dict[str, t.Any]]) -> str:
        """Say that there is no MLflow here, and what there is instead."""
        if not self._exists():
            return (
                f"There is no namespace {self._namespace}. See which there are: "
                "kubectl get namespaces"
            )
        words = f"There is no MLflow server in namespace {self._namespace}"
        if objects:
            shown = ", ".join(f"{one['kind']}/{one['name']}" for one in objects[:5])
            return f"{words}; what else belongs to one: {shown}."
        running = [
            f"{kind.kind}/{item['metadata']['name']}"
            for kind in (DEPLOYMENT, STATEFUL_SET, DAEMON_SET)
            for item in self._state.all(kind, self._namespace)
        ]
        if not running:
            return (
                f"{words}: it holds no workload at all. If MLflow is elsewhere: kubectl get "
                "deployments,statefulsets --all-namespaces | grep -i mlflow"
            )
        more = f" and {len(running) - 5} more" if len(running) > 5 else ""
        return (
            f"{words}: no container there runs mlflow server or an image named mlflow. There are "
            f"{', '.join(running[:5])}{more}."
        )

    def _exists(self) -> bool:
        try:
            self._api.get(f"/api/v1/namespaces/{self._namespace}", "namespaces")
        except ApiError as error:
            # Who may not look at namespaces may well see into this one.
            return error.status != 404
        return True

    # --- The servers' own answers ----------------------------------------------------------------

    def _ask(self, finding: Finding, servers: dict[str, dict[str, t.Any]]) -> Finding:
        """Ask a server that Kubernetes calls ready, or one that waits for its schema."""
        found = finding.found
        pods = current_pods(found.target, self._state)
        if found.role != SERVER or not pods:
            return finding
        helper = has_helper(found.item, found.target.kind)
        check = MlflowCheck(self._api, Server(schema="at_head" if helper else "any"))
        if finding.status != READY:
            learned = check.meanwhile(self._seen(finding, pods)) if helper else None
            if learned is None:
                return finding
            servers[str(found.target)] = {"version": None, "schema": learned.facts.get("schema")}
            if not learned.problems:
                return finding._replace(message=f"{finding.message} · {learned.message}")
            return _findings.weigh(finding, learned.problems, self._state, self._clock)
        result = check(self._seen(finding, [server_pod(pod) for pod in pods]))
        told = result.facts.get("server") or {}
        servers[str(found.target)] = {
            "version": told.get("version"),
            "schema": result.facts.get("schema"),
        }
        problems = [problem for problem in result.problems if not self._set_aside(found, problem)]
        if not problems:
            version = f", MLflow {told['version']}" if told.get("version") else ""
            answers = "" if result.problems else ", answers from the database"
            schema = ", schema at head" if result.facts.get("schema") else ""
            return finding._replace(message=f"{finding.message}{version}{answers}{schema}")
        return _findings.weigh(finding, problems, self._state, self._clock)

    def _seen(self, finding: Finding, pods: list[Object]) -> dict[t.Any, t.Any]:
        """Return what the check takes; it looks for a Deployment."""
        target = finding.found.target
        return {Target(DEPLOYMENT, target.namespace, target.name): (finding.found.item, pods)}

    def _set_aside(self, found: t.Any, problem: Problem) -> bool:
        """Note what is not wrong with MLflow, but keeps this from being asked."""
        where = str(found.target)
        if "the account needs" in problem.message:
            right = "pods/exec" if "pods/exec" in problem.message else "pods/portforward"
            what = "the database's schema" if right == "pods/exec" else "what it answers"
            self._note(f"{what} of {where} (the account may not use {right})")
            return True
        if problem.reason == "unauthorized":
            self._note(f"whether {where} reaches its database (it asks for a user and password)")
            return True
        return False

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    # --- Logs ------------------------------------------------------------------------------------

    def _explain(self, finding: Finding) -> str:
        """Return the line of the log that says most of a container that failed or is slow."""
        if not finding.pod or not finding.container:
            return ""
        for previous in (finding.previous, not finding.previous):
            try:
                lines = self._api.logs(
                    self._namespace,
                    finding.pod,
                    finding.container,
                    self._params["log_lines"],
                    previous,
                )
            except ApiError as error:
                if error.status == 403:
                    self._note("logs (the account may not get pods/log)")
                    return ""
                continue
            if lines:
                # The whole first: one line of a key, or a part of one, does not look like a secret.
                return hints.telling_line(self._redact("\n".join(lines)).splitlines())
        return ""
