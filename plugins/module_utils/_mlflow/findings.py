# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say how the objects of an MLflow are at one moment: the engine's verdicts, in words.

A wait counts a tolerance from when it first saw a problem. A diagnosis comes later than the
problem: here the clock starts when the API says that it began.
"""

from __future__ import annotations

import math
import re
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.errors import is_to_be_typed
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import (
    CLAIM,
    DEPLOYMENT,
    POD,
    REPLICA_SET,
    known_kind,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow.discover import (
    DATABASE,
    SERVER,
    Found,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait import hints
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import Problem, Tracker
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.state import (
    Clock,
    Object,
    State,
    condition,
    container_statuses,
    wall_seconds,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict import (
    PROGRESSING,
    READY,
    Rules,
    Verdict,
    current_pods,
    judge,
    newest_replica_set,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict_terms import number

FAILED = "failed"
EMPTY = "empty"

# The condition whose last change says since when a problem lasts, and the status it has then.
_SINCE = {
    "unschedulable": ("PodScheduled", "False"),
    "progress_deadline": ("Progressing", "False"),
    "job_failed": ("Failed", "True"),
    "http_unready": ("Ready", "True"),
    "database_unreachable": ("Ready", "True"),
    "quota_or_admission": ("ReplicaFailure", "True"),
}
# What MLflow and its libraries write before they end, and what it takes. The first that fits.
_SAID = (
    (
        r"out-of-date database schema",
        "The database's schema is not this MLflow's (MLflow says out-of-date for a newer one, "
        "too): deploy the version that migrated it last or, after a backup, run the migration "
        "(mlflow db upgrade)",
    ),
    (
        r"Can't locate revision identified by",
        "A newer or different MLflow migrated the database: deploy that version, or restore a "
        "backup from before",
    ),
    (
        r"password authentication failed|no password supplied|role \S+ does not exist",
        "Give MLflow the user and password that the database has (its backend store URI, or the "
        "Secret that it reads them from)",
    ),
    (
        r"database \S+ does not exist",
        "Create that database, or correct its name in the backend store URI",
    ),
    (
        r"could not translate host name|Name or service not known|Temporary failure in name",
        "Correct the database's host in the backend store URI: kubectl -n {namespace} get services",
    ),
    (
        r"connection refused|could not connect to server|server closed the connection|timeout "
        r"expired",
        "See that the database runs and that its address is right: kubectl -n {namespace} get "
        "pods,services,endpointslices",
    ),
    (
        r"No module named '?(psycopg2?|pymysql|MySQLdb|pyodbc|boto3|google|azure)",
        "The image lacks a Python package that the backend or artifact store needs: use an image "
        "that has it (of the official ones, those with -full)",
    ),
    (
        r"No space left on device",
        "Make the volume that is full larger: kubectl -n {namespace} get pvc",
    ),
    (
        r"Permission denied",
        "The container may not write there: set fsGroup in the pod's securityContext, or mount a "
        "volume at that place",
    ),
)
# Hints that speak of this collection, for those who did not deploy with it.
_FOREIGN = {
    "oom_killed": "Raise the container's memory limit, or start fewer workers (MLFLOW_WORKERS)",
    "schema_behind": "After a backup, run the migration of this MLflow version (mlflow db upgrade)",
    "database_unreachable": "See that the database runs and that its address is right: kubectl -n "
    "{namespace} get pods,services,endpointslices",
    "database_denied": "Give MLflow the user and password that the database has (its backend "
    "store URI, or the Secret that it reads them from)",
}


class Finding(t.NamedTuple):
    """What is to be said about one object."""

    found: Found
    status: str
    message: str
    problem: Problem | None = None
    # For how many seconds the problem lasts, as far as the API tells.
    seconds: float | None = None
    # The pod and container whose log may tell more.
    pod: str = ""
    container: str = ""
    previous: bool = False

    def as_dict(self, log: str, redact: t.Callable[[str], str]) -> dict[str, t.Any]:
        """Return it as the module's documentation describes, its texts without secrets."""
        target, problem = self.found.target, self.problem
        return {
            "role": self.found.role,
            "kind": target.kind.kind,
            "name": target.name,
            "namespace": target.namespace,
            "deployed_by": self.found.deployed_by or None,
            "status": self.status,
            "message": redact(self.message),
            "reason": problem.reason if problem else None,
            "container": self.container or None,
            "seconds": _whole(self.seconds),
            "log": redact(log) or None,
            "hint": redact(advice(problem, self.found, log)) or None,
            **_serving(self.found),
        }


def _serving(found: Found) -> dict[str, int | None]:
    """Return how many pods of a server there should be, and how many serve, of any revision."""
    if found.role != SERVER or found.target.kind != DEPLOYMENT or found.item is None:
        return {"serving": None, "wanted": None}
    return {
        "serving": number(found.item, "availableReplicas"),
        "wanted": number(found.item, "replicas", "spec", 1),
    }


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None or math.isinf(seconds) else round(seconds)


def examine(
    all_found: list[Found],
    state: State,
    clock: Clock,
    tolerances: t.Mapping[str, float],
    settle: float,
) -> list[Finding]:
    """Judge every object."""
    tracker = Tracker(tolerances)
    migrating = any(
        found.target.kind.kind == "Job"
        and found.role == "migration"
        and not condition(found.item or {}, "Failed", "True")
        and not condition(found.item or {}, "Complete", "True")
        for found in all_found
    )
    rules = Rules(settle, migrating=migrating)
    return [_examine(found, state, clock, tracker, rules) for found in all_found]


def _examine(found: Found, state: State, clock: Clock, tracker: Tracker, rules: Rules) -> Finding:
    verdict = judge(found.target, state, clock, rules)
    finding = _judged(found, verdict, state, clock, tracker)
    return finding if finding.status == READY else _with_log(finding, state)


def _judged(
    found: Found, verdict: Verdict, state: State, clock: Clock, tracker: Tracker
) -> Finding:
    if verdict.status == READY and found.role in (SERVER, DATABASE) and _is_scaled_down(found):
        return Finding(found, FAILED, "is scaled to 0: nothing runs", _scaled_down(found))
    return _weigh(found, verdict, state, clock, tracker)


def _weigh(found: Found, verdict: Verdict, state: State, clock: Clock, tracker: Tracker) -> Finding:
    """Say whether the problems of an object have lasted longer than is tolerated."""
    if not verdict.problems:
        words = verdict.message
        if verdict.status != READY:
            words += _still_served(found, state)
        return Finding(found, verdict.status, words)
    aged = [(problem, age(problem, state, clock)) for problem in verdict.problems]
    over = [(problem, old) for problem, old in aged if old >= tracker.tolerance(problem)]
    problem, old = (over or aged)[0]
    words = problem.message + _still_served(found, state)
    if over:
        return Finding(found, FAILED, words, problem, old)
    left = tracker.tolerance(problem) - old
    words += f" (this may still pass: a failure only after {left:.0f} s more)"
    return Finding(found, PROGRESSING, words, problem, old)


def _with_log(finding: Finding, state: State) -> Finding:
    """Add whose log may tell more: the failed container's, or the one that is slow to get ready."""
    problem = finding.problem
    if problem and problem.pod and problem.container:
        return finding._replace(
            pod=problem.pod, container=problem.container, previous=problem.previous
        )
    for pod in current_pods(finding.found.target, state):
        for status in container_statuses(pod):
            if "running" in (status.get("state") or {}) and not status.get("ready"):
                return finding._replace(pod=pod["metadata"]["name"], container=status["name"])
    return finding


def weigh(finding: Finding, problems: t.Sequence[Problem], state: State, clock: Clock) -> Finding:
    """Return a finding with what a check beyond the objects found out."""
    if not problems:
        return finding
    verdict = Verdict(PROGRESSING, problems[0].message, tuple(problems))
    if problems[0].reason == "http_unready" and _is_starting(problems[0], state, clock):
        words = f"is starting: {problems[0].message}"
        return _with_log(Finding(finding.found, PROGRESSING, words, problems[0]), state)
    return _with_log(_weigh(finding.found, verdict, state, clock, Tracker()), state)


# A server that nothing probes is ready for Kubernetes as soon as its program runs. MLflow takes so
# long (s) to answer, on a node that has other things to do.
STARTS_WITHIN = 90.0


def _is_starting(problem: Problem, state: State, clock: Clock) -> bool:
    """Say whether a server that does not answer has been started only a moment before."""
    pod = state.get(POD, problem.namespace, problem.pod or problem.name)
    starts = [
        wall_seconds(running.get("startedAt"))
        for entry in container_statuses(pod or {})
        if (running := (entry.get("state") or {}).get("running"))
    ]
    return any(at is not None and clock.wall - at < STARTS_WITHIN for at in starts)


def age(problem: Problem, state: State, clock: Clock) -> float:
    """Return for how many seconds a problem lasts, as far as the API tells."""
    kind = known_kind(problem.kind, None)
    item = state.get(kind, problem.namespace, problem.name) if kind else None
    if item is None:
        return float("inf")
    holder: Object | None = item
    if problem.reason == "quota_or_admission" and kind == DEPLOYMENT:
        holder = newest_replica_set(item, state)
    name, status = _SINCE.get(problem.reason, ("", ""))
    entry = condition(holder, name, status) if holder and name else None
    times = [wall_seconds(entry.get("lastTransitionTime"))] if entry else []
    if not any(times):
        times = [
            wall_seconds(event.get("firstTimestamp") or event.get("eventTime"))
            for event in state.events(item)
            if event.get("type") == "Warning"
        ]
    if not any(times):
        times = [wall_seconds(item["metadata"].get("creationTimestamp"))]
    began = min((at for at in times if at), default=None)
    return float("inf") if began is None else max(0.0, clock.wall - began)


def _is_scaled_down(found: Found) -> bool:
    item = found.item or {}
    return found.target.kind not in (POD, CLAIM) and (item.get("spec") or {}).get("replicas") == 0


def _scaled_down(found: Found) -> Problem:
    kind, name = found.target.kind.kind, found.target.name
    message = f"{kind} {name} is scaled to 0: nothing runs"
    return Problem("http_unready", kind, found.target.namespace, name, message, str(found.target))


def _still_served(found: Found, state: State) -> str:
    """Say whether pods of an older revision still serve while the current one does not."""
    if found.role != SERVER or found.target.kind != DEPLOYMENT or found.item is None:
        return ""
    current = {pod["metadata"].get("uid") for pod in current_pods(found.target, state)}
    old = [
        pod
        for replica_set in state.owned(REPLICA_SET, found.item)
        for pod in state.owned(POD, replica_set)
        if pod["metadata"].get("uid") not in current and condition(pod, "Ready", "True")
    ]
    if not old:
        return ""
    count = f"{len(old)} pod{'s' if len(old) > 1 else ''}"
    return f" (users are still served by {count} of an older revision)"


# --- Words --------------------------------------------------------------------------------------


def advice(problem: Problem | None, found: Found, log: str) -> str:
    """Return one line that says what to do about a problem, or about what a log says."""
    namespace = found.target.namespace
    said = next((words for pattern, words in _SAID if re.search(pattern, log, re.IGNORECASE)), "")
    said = said.format(namespace=namespace)
    if problem is None:
        return said
    if _is_scaled_down(found):
        workload = f"{found.target.kind.kind.lower()}/{found.target.name}"
        return f"Start it: kubectl -n {namespace} scale {workload} --replicas=1"
    if said and problem.reason in ("crash_loop", "job_failed", "progress_deadline"):
        return said if is_to_be_typed(said) else f"{said}. {hints.hint(problem)}"
    if problem.reason in _FOREIGN and found.deployed_by != "mlops.mlflow":
        return _FOREIGN[problem.reason].format(namespace=namespace)
    return hints.hint(problem)


def span(seconds: float) -> str:
    """Return a length of time as people say it."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def overall(objects: t.Sequence[t.Mapping[str, t.Any]]) -> str:
    """Return the status of the whole: the worst of its parts."""
    present = {entry["status"] for entry in objects}
    if not any(entry["role"] == SERVER for entry in objects):
        return EMPTY
    return next((status for status in (FAILED, PROGRESSING) if status in present), READY)


def sentence(namespace: str, objects: t.Sequence[t.Mapping[str, t.Any]], nothing: str) -> str:
    """Return the one line that says it all."""
    status = overall(objects)
    if status == EMPTY:
        return nothing
    servers = [entry for entry in objects if entry["role"] == SERVER]
    names = ", ".join(f"{entry['kind']}/{entry['name']}" for entry in servers)
    if status == READY:
        return f"MLflow in namespace {namespace} is well: {names}"
    chosen = next(entry for entry in objects if entry["status"] == status)
    if status == PROGRESSING:
        return f"MLflow in namespace {namespace} is on its way: {line(chosen, '')}"
    failed = sum(entry["status"] == FAILED for entry in objects)
    serving = serves(chosen)
    if failed == 1 and serving:
        words = f"MLflow in namespace {namespace} {serving}; the last attempt failed"
        return f"{words}: {line(chosen, '')}"
    more = f" ({failed - 1} more failed)" if failed > 1 else ""
    return f"MLflow in namespace {namespace} is not well{more}: {line(chosen, '')}"


def serves(entry: t.Mapping[str, t.Any]) -> str:
    """Say how many pods serve of a server whose rollout failed, or nothing."""
    count, wanted = entry.get("serving"), entry.get("wanted")
    return f"serves {count} of {wanted}" if entry["role"] == SERVER and count and wanted else ""


def line(entry: t.Mapping[str, t.Any], sign: str) -> str:
    """Return one object's line of the report."""
    who = entry["role"]
    if entry["deployed_by"]:
        who += f", by {entry['deployed_by']}"
    text = f"{sign}{entry['kind']}/{entry['name']} ({who}): {entry['status']}"
    if entry["reason"]:
        text += f", {entry['reason']}"
    if entry["status"] == FAILED and entry["seconds"] is not None:
        text += f" for {span(entry['seconds'])}"
    text += f": {entry['message'].rstrip('.')}."
    if entry["log"] and entry["log"].rstrip(" .") not in entry["message"]:
        text += f" Its log says: {entry['log'].rstrip('.')}."
    if entry["hint"]:
        # What is to be typed stands at its end: a full stop would be copied with it.
        text += f" {entry['hint'].rstrip('.')}"
    return text


def report(
    namespace: str, objects: t.Sequence[t.Mapping[str, t.Any]], notes: t.Sequence[str]
) -> list[str]:
    """Return the report for people, a line for each object, the failed ones first."""
    order = (FAILED, PROGRESSING, READY)
    signs = {FAILED: "✗ ", PROGRESSING: "… ", READY: "✓ "}
    lines = [
        line(entry, signs[entry["status"]])
        for entry in sorted(objects, key=lambda one: order.index(one["status"]))
    ]
    return [*lines, *(f"not seen: {note}" for note in notes)]
