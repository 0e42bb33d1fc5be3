# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person reads when a wait fails: the line of the log that explains it, and what to type."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._wait import schema as _schema
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import Problem
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.state import (
    Object,
    event_time,
)

# The longest line of a log or message that is quoted in one line of output (characters).
LONGEST_QUOTE = 300

_TELLING = (
    re.compile(r"\b(?:fatal|panic|critical)\b", re.IGNORECASE),
    re.compile(r"^\s*(?:[\w.]+\.)*\w*(?:Error|Exception|Exit|Interrupt)\b\s*[:(]"),
    re.compile(
        r"\b(?:error|exception|denied|refused|failed|failure|cannot|could not|unable|not found"
        r"|no such|out of memory|out-of-date|traceback|invalid|missing|timed? ?out)\b",
        re.IGNORECASE,
    ),
)
# The last two are the kubelet's, in place of a log, and SQLAlchemy's, after each error.
_NOISE = re.compile(
    r"^\s*(?:at |File \"|\^+$|~+|\.\.\.|During handling|The above exception"
    r"|unable to retrieve container logs|\(Background on this error)"
)


def telling_line(lines: t.Sequence[str]) -> str:
    """Return the line of a log that says best why the program ended, or an empty string."""
    useful = [
        line.strip()
        for line in lines
        if line.strip() and not _NOISE.match(line) and not _schema.parse(line)
    ]
    for pattern in _TELLING:
        for line in reversed(useful):
            if pattern.search(line):
                return shorten(line)
    return shorten(useful[-1]) if useful else ""


def shorten(text: str) -> str:
    """Return a text in one line of bounded length."""
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_QUOTE else text[: LONGEST_QUOTE - 1] + "…"


def describe_event(event: Object) -> str:
    """Return one event as one line, as kubectl shows it."""
    count = int(event.get("count") or (event.get("series") or {}).get("count") or 1)
    times = f" (x{count})" if count > 1 else ""
    text = " ".join(str(event.get("message") or "").split())
    return f"{event_time(event)} {event.get('type')} {event.get('reason')}{times}: {text}"


def hint(problem: Problem) -> str:
    """Return one line that says what to do about a problem, with what to type where it can."""
    if "the account needs" in problem.message:
        return (
            f"Grant it: kubectl -n {problem.namespace} create role mlflow-wait --verb=get,create "
            "--resource=pods/portforward,pods/exec, and bind it to the account"
        )
    if "with schema=any" in problem.message:
        return "Use an image with the schema helper mounted, or set schema=any"
    function = _HINTS.get(problem.reason)
    return function(problem) if function else ""


def _describe(problem: Problem) -> str:
    kind = {"PersistentVolumeClaim": "pvc"}.get(problem.kind, problem.kind.lower())
    return f"kubectl -n {problem.namespace} describe {kind} {problem.name}"


def _logs(problem: Problem) -> str:
    previous = " --previous" if problem.previous else ""
    return f"kubectl -n {problem.namespace} logs {problem.pod} -c {problem.container}{previous}"


def _config(problem: Problem) -> str:
    text, namespace = problem.message, problem.namespace
    key = re.search(r"couldn't find key (\S+) in (Secret|ConfigMap) (?:\S+/)?(\S+)", text)
    if key:
        kind = key[2].lower()
        where = f"{key[2]} {key[3]}"
        return f"Add the key {key[1]} to {where}: kubectl -n {namespace} edit {kind} {key[3]}"
    missing = re.search(r"(secret|configmap) \"([^\"]+)\" not found", text, re.IGNORECASE)
    if missing:
        kind = missing[1].lower()
        what = "secret generic" if kind == "secret" else "configmap"
        return (
            f"Create the missing {kind}: kubectl -n {namespace} create {what} {missing[2]} "
            "--from-file=KEY=FILE"
        )
    return f"Look at what the container refers to: {_describe(problem)}"


def _image_pull(problem: Problem) -> str:
    text = problem.message.lower()
    if re.search(r"unauthori|denied|forbidden|authentication", text):
        return (
            "Check the image's name, and give the pod's service account an imagePullSecret for "
            f"that registry: {_describe(problem)}"
        )
    if "not found" in text or "unknown" in text:
        return f"Correct the image's name or tag, or push it: {_describe(problem)}"
    return (
        "The node cannot reach the registry: check its name, DNS and proxy on the node, or load "
        f"the image into it: {_describe(problem)}"
    )


def _unschedulable(problem: Problem) -> str:
    text = problem.message.lower()
    namespace = problem.namespace
    if "insufficient" in text:
        return (
            "Lower the pod's resource requests or add nodes: kubectl describe nodes | "
            "grep -A8 'Allocated resources'"
        )
    if "taint" in text:
        return "Add a toleration or remove the taint: kubectl get nodes -o json | grep -A4 taints"
    if "selector" in text or "affinity" in text:
        return "Correct nodeSelector or affinity, or label a node: kubectl get nodes --show-labels"
    return f"See which nodes refuse it: kubectl -n {namespace} describe pod {problem.name}"


def _volume(problem: Problem) -> str:
    text = problem.message.lower()
    if "storage class" in text or "storageclass" in text:
        return "Name a storage class that exists, or mark one as default: kubectl get storageclass"
    missing = re.search(r"(secret|configmap) \"([^\"]+)\" not found", text)
    if missing:
        kind = "Secret" if missing[1] == "secret" else "ConfigMap"
        what = "secret generic" if missing[1] == "secret" else "configmap"
        return (
            f"Create the {kind} that the volume shows: kubectl -n {problem.namespace} create "
            f"{what} {missing[2]} --from-file=KEY=FILE"
        )
    if problem.kind == "PersistentVolumeClaim":
        return f"See why the claim is not bound: {_describe(problem)}"
    return f"See which volume is missing: {_describe(problem)}"


def _refused(problem: Problem) -> str:
    text, namespace = problem.message, problem.namespace
    if "exceeded quota" in text or "must specify" in text:
        return (
            f"Raise the quota or lower the requests: kubectl -n {namespace} describe resourcequota"
        )
    if "PodSecurity" in text:
        return (
            "Correct the securityContext that the message names, or the namespace's level: "
            f"kubectl get namespace {namespace} --show-labels"
        )
    if "webhook" in text:
        return (
            "Make the webhook answer, or remove it: kubectl get "
            "validatingwebhookconfiguration,mutatingwebhookconfiguration"
        )
    return f"See what refuses the pods: kubectl -n {namespace} get events --sort-by=.lastTimestamp"


def _http_unready(problem: Problem) -> str:
    if "allowed hosts" in problem.message.lower() or "host header" in problem.message.lower():
        return "Add the host to MLFLOW_SERVER_ALLOWED_HOSTS, as name and as name:*"
    if problem.pod:
        return f"Look at the server's log: {_logs(problem)}"
    return "Check the address and what stands between it and the server"


_HINTS: dict[str, t.Callable[[Problem], str]] = {
    "image_invalid": lambda p: (
        "Correct the image's name, or load the image into the node where imagePullPolicy is Never: "
        f"{_describe(p)}"
    ),
    "image_pull": _image_pull,
    "config": _config,
    "container_start": lambda p: (
        f"Correct the container's command, working directory or mounts: {_describe(p)}"
    ),
    "crash_loop": lambda p: (
        f"Read the whole log: {_logs(p)}" if p.container else f"See what ended it: {_describe(p)}"
    ),
    "oom_killed": lambda p: (
        "Raise the container's memory limit (mlflow_resources for the MLflow server), or make it "
        f"use less: {_describe(p)}"
    ),
    "unschedulable": _unschedulable,
    "volume": _volume,
    "quota_or_admission": _refused,
    "job_failed": lambda p: (
        f"Read the log of its last pod: {_logs(p)}" if p.pod else f"See why: {_describe(p)}"
    ),
    "progress_deadline": lambda p: (
        f"Read the log: {_logs(p)}" if p.pod else f"See what it waits for: {_describe(p)}"
    ),
    "schema_behind": lambda p: (
        "Run the migration of this MLflow version first: site.yml does; with kubectl alone, delete "
        "the migration Job and apply the overlay again"
    ),
    "schema_ahead": lambda p: (
        "Deploy the MLflow version that migrated the database (or a newer one), or restore a "
        "backup made before the migration"
    ),
    "schema_unknown": lambda p: (
        "Deploy the MLflow image that knows this revision; a fork or a much older version may have "
        "written it"
    ),
    "schema_partial": lambda p: (
        "Restore the database from a backup, or empty it if it holds nothing of value: its tables "
        "and its recorded revision disagree"
    ),
    "database_unreachable": lambda p: (
        "Check that Postgres runs and that its address is right: kubectl -n "
        f"{p.namespace} get pods,endpoints -l app.kubernetes.io/component=database"
    ),
    "database_denied": lambda p: (
        "Make the user and password in the Secret those of the database: kubectl -n "
        f"{p.namespace} get secret mlflow-credentials"
    ),
    "http_unready": _http_unready,
    "unauthorized": lambda p: (
        "Give the user and password of somebody whom MLflow knows. Those of the Secret "
        "mlflow-credentials make the administrator once: a password that was changed in MLflow "
        f"since then has to be put there too, as admin-password: kubectl -n {p.namespace} edit "
        "secret mlflow-credentials"
    ),
    "paused": lambda p: (
        f"Let it go on: kubectl -n {p.namespace} patch job {p.name} -p "
        '\'{"spec":{"suspend":false}}\''
        if p.kind == "Job"
        else f"Let it go on: kubectl -n {p.namespace} rollout resume {p.kind.lower()}/{p.name}"
    ),
    "not_found": lambda p: (
        f"Apply it first, or correct its name: kubectl -n {p.namespace} get {p.kind.lower()}"
    ),
    "timeout": lambda p: f"Give it more time (timeout), or see what it waits for: {_describe(p)}",
}


def _repeats(line: str, text: str) -> bool:
    """Say whether a line of a log adds little to a text: its end, or all of it, is in there."""
    return line in text or (len(line) > 60 and line.rstrip(" .)")[-40:] in text)


def sentence(target: str, problem: Problem, line: str, advice: str) -> str:
    """Return the one line that Ansible prints for a failure."""
    text = f"{target} is not ready ({problem.reason}): {problem.message.rstrip('.')}"
    if line and not _repeats(line, text):
        text += f". Its log says: {line.rstrip('.')}"
    return f"{text}. {advice}" if advice else f"{text}."
