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
    conditions,
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
# A line that says of itself that it is none of these, whatever words are in it.
_MILD = re.compile(
    r"\b(?:INFO|DEBUG|TRACE|NOTICE)\b|\b(?i:level|severity|lvl)[\"']?\s*[=:]\s*[\"']?"
    r"(?i:info|debug|trace|notice)|\[(?:info|debug|notice)\]"
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
    grave = [line for line in useful if not _MILD.search(line)]
    for pattern in _TELLING:
        for line in reversed(grave):
            if pattern.search(line):
                return shorten(line)
    return shorten((grave or useful)[-1]) if useful else ""


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


def describe_conditions(item: Object) -> list[str]:
    """Return the conditions of an object that say that something is not as it should be."""
    name = f"{item.get('kind')}/{item['metadata']['name']}"
    lines = []
    for entry in conditions(item):
        kind, status = str(entry.get("type")), str(entry.get("status"))
        # Most say what should be, some what should not.
        if status == ("False" if kind in _SHOULD_NOT_BE else "True"):
            continue
        why = " ".join(str(entry.get(key) or "") for key in ("reason", "message")).split()
        lines.append(
            f"condition of {name}: {kind} is {status}" + (f": {' '.join(why)}" if why else "")
        )
    return lines


_SHOULD_NOT_BE = frozenset(
    {"ReplicaFailure", "DisruptionTarget", "Failed", "FailureTarget", "Stalled", "Degraded"}
)


def hint(problem: Problem, line: str = "") -> str:
    """Return one line that says what to do about a problem, with what to type where it can.

    line is the line of the log that says best why the program ended. What is to be typed comes
    last, and nothing after it: a full stop would be copied with it.
    """
    if "the account needs" in problem.message:
        return (
            f"Grant it, and bind it to the account: kubectl{_in(problem)} create role mlflow-wait "
            "--verb=get,create --resource=pods/portforward,pods/exec"
        )
    if "with schema=any" in problem.message:
        return "Use an image with the schema helper mounted, or set schema=any"
    if re.search(r"exec format error", f"{problem.message} {line}", re.IGNORECASE):
        return _platform(problem)
    function = _HINTS.get(problem.reason)
    return function(problem) if function else ""


def _in(problem: Problem) -> str:
    """Return kubectl's option for a problem's namespace; there is none for what is in none."""
    return f" -n {problem.namespace}" if problem.namespace else ""


def _describe(problem: Problem) -> str:
    kind = {"PersistentVolumeClaim": "pvc"}.get(problem.kind, problem.kind.lower())
    return f"kubectl{_in(problem)} describe {kind} {problem.name}"


def _platform(problem: Problem) -> str:
    return (
        "The image is built for another platform than the node's: build it for that one, or choose "
        "a node with kubernetes.io/arch: kubectl get nodes -L kubernetes.io/arch"
    )


def _logs(problem: Problem) -> str:
    previous = " --previous" if problem.previous else ""
    return f"kubectl{_in(problem)} logs {problem.pod} -c {problem.container}{previous}"


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
    if "runasnonroot" in text.lower() or "non-root" in text.lower():
        return (
            "Name the user in the container's securityContext by its number (runAsUser: 1000), or "
            f"use an image that does so: {_describe(problem)}"
        )
    if "failed to sync" in text:
        return f"See whether the node's kubelet reaches the API server: {_describe(problem)}"
    return f"Look at what the container refers to: {_describe(problem)}"


def _image_pull(problem: Problem) -> str:
    text = problem.message.lower()
    for pattern, advice in _PULL_HINTS:
        if re.search(pattern, text):
            return f"{advice}: {_describe(problem)}"
    if re.search(_OTHER_PLATFORM, text):
        return _platform(problem)
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


_OTHER_PLATFORM = (
    r"no match for platform|no matching manifest|exec format|does not match the .*platform"
)
# What the registry's or the node's words mean, before those that many of them have in common.
_PULL_HINTS = (
    (
        r"x509|certificate|tls: ",
        "Make the nodes trust the registry's certificate (its CA in the container runtime's "
        "certs.d), or correct the certificate",
    ),
    (
        r"toomanyrequests|too many requests|rate limit|\b429\b",
        "The registry limits how often it is asked: log in with an imagePullSecret, use a mirror, "
        "or wait",
    ),
    (
        r"signature",
        "The node accepts signed images only: sign this one, or correct the node's policy",
    ),
    (
        r"no space left|disk quota|disk pressure",
        "The node's disk is full: remove images or files there, or give it a larger one",
    ),
    (
        r"http response to https",
        "The registry speaks plain HTTP: give it TLS, or allow it in the container runtime's "
        "configuration",
    ),
)


def _unschedulable(problem: Problem) -> str:
    text = problem.message.lower()
    if "insufficient" in text:
        return (
            "Lower the pod's resource requests or add nodes: kubectl describe nodes | "
            "grep -A8 'Allocated resources'"
        )
    if "volume node affinity" in text or "no available volume zone" in text:
        return (
            "Its volume can be used on certain nodes only, and none of them takes the pod: make "
            "room there, or give the claim another volume: kubectl get pv -o wide"
        )
    if "too many pods" in text:
        return "Every node is full of pods: add one: kubectl get nodes -o wide"
    if "port" in text and "free" in text:
        return f"Another pod has the host port already: {_describe(problem)}"
    if "taint" in text:
        return "Add a toleration or remove the taint: kubectl get nodes -o json | grep -A4 taints"
    if "selector" in text or "affinity" in text:
        return "Correct nodeSelector or affinity, or label a node: kubectl get nodes --show-labels"
    return f"See which nodes refuse it: {_describe(problem)}"


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
    if "denied" in text and ("webhook" in text or "ValidatingAdmissionPolicy" in text):
        return (
            "Correct the pod as the message says: a rule of the cluster refuses it as it is: "
            f"{_describe(problem)}"
        )
    if "webhook" in text:
        return (
            "Make the webhook answer, or remove it: kubectl get "
            "validatingwebhookconfiguration,mutatingwebhookconfiguration"
        )
    return f"See what refuses the pods: kubectl -n {namespace} get events --sort-by=.lastTimestamp"


def _rejected(problem: Problem) -> str:
    text, seen = problem.message.lower(), f"kubectl{_in(problem)} describe pod {problem.pod}"
    if not problem.pod:
        seen = _describe(problem)
    if "evicted" in text or "low on resource" in text:
        return (
            "Give the container requests and limits that it keeps to (memory, ephemeral-storage), "
            f"or the node more: {seen}"
        )
    if "sysctl" in text:
        return f"Allow the sysctl on the nodes, or take it out of the pod: {seen}"
    if "nodeaffinity" in text or "nodeselector" in text or "outof" in text:
        return f"The pod was bound to a node that cannot take it: {seen}"
    return f"See why the node refuses it: {seen}"


def _sandbox(problem: Problem) -> str:
    text = problem.message.lower()
    if re.search(r"cni|network|ip address|plugin type", text):
        return (
            "Repair the node's network plugin (CNI), or its pool of addresses: "
            f"{_describe(problem)}"
        )
    return f"See what the node's container runtime lacks: {_describe(problem)}"


def _blocked(problem: Problem) -> str:
    text, name = problem.message, problem.name
    if "older revision" in text:
        return (
            "Delete that pod, and the StatefulSet makes it anew: "
            f"kubectl{_in(problem)} delete pod {name}"
        )
    if "should have gone" in text:
        if "finalizer" in text:
            return (
                "See to what its finalizer stands for; only if that is gone, take it out: "
                f"kubectl{_in(problem)} edit pod {name}"
            )
        return (
            "If its node is gone for good, remove the pod by force: "
            f"kubectl{_in(problem)} delete pod {name} --force --grace-period=0"
        )
    if "scheduling gate" in text:
        return (
            "Whoever put the gate there has to take it away: "
            f"kubectl{_in(problem)} get pod {name} -o jsonpath='{{.spec.schedulingGates}}'"
        )
    if "readiness gate" in text:
        return (
            f"Whoever sets that condition has not done so: see its controller: {_describe(problem)}"
        )
    if "still runs" in text:
        return (
            "Make what still runs an init container with restartPolicy: Always, or end it: "
            f"kubectl{_in(problem)} exec {problem.pod} -c {problem.container} -- kill 1"
        )
    if "scheduler" in text:
        return f"Run that scheduler, or correct schedulerName: {_describe(problem)}"
    return "See what is wrong with the node: kubectl get nodes -o wide"


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
    "sandbox": _sandbox,
    "rejected": _rejected,
    "blocked": _blocked,
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
        f"Apply it first, or correct its name: kubectl{_in(p)} get {p.kind.lower()}"
    ),
    "timeout": lambda p: f"Give it more time (timeout), or see what it waits for: {_describe(p)}",
}


def _repeats(line: str, text: str) -> bool:
    """Say whether a line of a log adds little to a text: its end, or all of it, is in there."""
    return line in text or (len(line) > 60 and line.rstrip(" .)")[-40:] in text)


def sentence(target: str, problem: Problem, line: str, advice: str, more: str = "") -> str:
    """Return the one line that Ansible prints for a failure; the advice stands at its end."""
    text = f"{target} is not ready ({problem.reason}): {problem.message.rstrip('.')}"
    if line and not _repeats(line, text):
        text += f". Its log says: {line.rstrip('.')}"
    if more:
        text += f". {more}"
    return f"{text}. {advice}" if advice else f"{text}."
