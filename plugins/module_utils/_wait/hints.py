# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person reads when a wait fails: the line of the log that explains it, and what to type."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import is_built_in
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


# What to do about a Postgres that does not let MLflow in, by the words that say why.
_DATABASE = (
    (
        r"does not match host name|hostname mismatch",
        "Set PGHOST (mlflow_config) to a name that is in the database's certificate",
    ),
    (
        r"client certificate",
        "Give MLflow a client certificate that the database accepts (PGSSLCERT and PGSSLKEY in "
        "mlflow_config)",
    ),
    (
        r"certificate verify failed|root certificate|sslrootcert|self.signed|unknown ca",
        "Give MLflow the CA that signed the database's certificate, as ca.crt: kubectl -n "
        "{namespace} get secret mlflow-database-ca",
    ),
    (
        r"does not support SSL|SSL was required|SSL is not enabled|channel binding",
        "Turn TLS on in the database, or ask for less of it (PGSSLMODE in mlflow_config)",
    ),
    (
        r"no pg_hba\.conf entry|pg_hba\.conf rejects",
        "Let the database's pg_hba.conf admit this user to this database from the pods' addresses",
    ),
    (
        r"database \S+ does not exist",
        "Create the database, or correct its name (MLFLOW_BACKEND_STORE_URI in mlflow_config)",
    ),
    (
        r"permission denied|must be owner",
        "Grant the user what the message names, as the database's owner or superuser",
    ),
)


def database_advice(message: str, namespace: str) -> str:
    """Return what to do about a Postgres that does not let MLflow in. A pure function."""
    for words, advice in _DATABASE:
        if re.search(words, message, re.IGNORECASE):
            return advice.replace("{namespace}", namespace)
    return (
        "Make the user and password in the Secret those of the database: kubectl -n "
        f"{namespace} get secret mlflow-credentials"
    )


# libpq tries without encryption what failed with it. That this is not allowed is not the cause.
_SECOND_TRY = re.compile(r"no pg_hba\.conf entry for .*(?:no encryption|SSL off)")


def telling_line(lines: t.Sequence[str]) -> str:
    """Return the line of a log that says best why the program ended, or an empty string."""
    useful = [
        line.strip()
        for line in lines
        if line.strip() and not _NOISE.match(line) and not _schema.parse(line)
    ]
    grave = [line for line in useful if not _MILD.search(line)]
    first = [line for line in grave if not _SECOND_TRY.search(line)]
    if any("FATAL:" in line for line in first):
        grave = first
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
    function = _HINTS.get(problem.cause or problem.reason)
    return function(problem) if function else ""


def _in(problem: Problem) -> str:
    """Return kubectl's option for a problem's namespace; there is none for what is in none."""
    return f" -n {problem.namespace}" if problem.namespace else ""


def _describe(problem: Problem) -> str:
    return f"kubectl{_in(problem)} describe {_resource(problem)} {problem.name}"


def _resource(problem: Problem) -> str:
    """Return what kubectl calls a problem's kind; with the group where it is not Kubernetes' own.

    Both Kubernetes and Knative have a Service.
    """
    if is_built_in(f"{problem.group}/v1" if problem.group else "v1"):
        return {"PersistentVolumeClaim": "pvc"}.get(problem.kind, problem.kind.lower())
    return f"{problem.kind.lower()}.{problem.group}"


def _platform(problem: Problem) -> str:
    return (
        "The image is built for another platform than the node's: build it for that one, or choose "
        "a node with kubernetes.io/arch: kubectl get nodes -L kubernetes.io/arch"
    )


def _logs(problem: Problem) -> str:
    if not problem.container:
        return _describe(problem._replace(kind="Pod", name=problem.pod) if problem.pod else problem)
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
    otherwise = f"See which nodes refuse it: {_describe(problem)}"
    # What most nodes say; those that are for the cluster itself are not meant for it anyway.
    said = [
        (int(count), words)
        for count, words in _PER_NODE.findall(problem.message)
        if "node-role.kubernetes.io/" not in words
    ]
    most = max((count for count, _words in said), default=0)
    words = ", ".join(words for count, words in said if count == most)
    return _by_text(problem, _NO_NODE, otherwise, words or problem.message)


_PER_NODE = re.compile(r"(\d+) ((?:node\(s\)|Insufficient|Too many|cannot)[^,]*)")
# The causes that a scheduler names, with what it takes to cure each. A node's own trouble shows as
# a taint, so it comes before the taints that somebody put there.
_NO_NODE = (
    (
        r"match pod affinity rules",
        "It has to be on the node of the pods that it shares a volume with, which has no room for "
        "it or is cordoned: make room there: "
        "kubectl describe nodes | grep -A8 'Allocated resources'",
    ),
    (
        r"node\.kubernetes\.io/\S*pressure",
        "The nodes run out of disk, memory or processes: make room there, or add a node: "
        "kubectl describe nodes | grep -A9 Conditions",
    ),
    (
        r"node\.kubernetes\.io/(?:not-ready|unreachable|network-unavailable)|agent-not-ready"
        r"|node\.cloudprovider\.kubernetes\.io/uninitialized",
        "The nodes are not ready: see to them, or to their network plugin: "
        "kubectl get nodes -o wide",
    ),
    (
        r"were unschedulable|node\.kubernetes\.io/unschedulable",
        "The nodes are cordoned: add one, or let one take pods again: kubectl uncordon NODE",
    ),
    (
        r"insufficient",
        "Lower the pod's resource requests or add nodes: kubectl describe nodes | "
        "grep -A8 'Allocated resources'",
    ),
    (
        r"volume node affinity|no available volume zone",
        "Its volume can be used on certain nodes only, and none of them takes the pod: make "
        "room there, or give the claim another volume: kubectl get pv -o wide",
    ),
    (
        r"persistent volumes? to bind|free storage|pvc\(s\)",
        "No volume fits its claim: add one, or correct the claim's class, size or access mode: "
        "kubectl{space} get pv,pvc",
    ),
    (
        r"max volume count",
        "Every node has as many volumes as it may: add a node: kubectl get csinodes -o yaml",
    ),
    (r"too many pods", "Every node is full of pods: add one: kubectl get nodes -o wide"),
    (r"port.*free|free.*port", "Another pod has the host port already: {describe}"),
    (
        r"taint",
        "Add a toleration or remove the taint: kubectl get nodes -o json | grep -A4 taints",
    ),
    (
        r"anti-affinity|topology spread",
        "Its replicas must not share a node (or zone), and there are too few: fewer replicas, more "
        "nodes, or a rule that only prefers it: {describe}",
    ),
    (
        r"selector|affinity",
        "Correct nodeSelector or affinity, or label a node: kubectl get nodes --show-labels",
    ),
)


def _by_text(
    problem: Problem, table: t.Iterable[tuple[str, str]], otherwise: str, text: str = ""
) -> str:
    """Return the advice of the first entry whose pattern is in a text, else the problem's own."""
    for pattern, advice in table:
        found = re.search(pattern, text or problem.message, re.IGNORECASE)
        if found:
            made = {"space": _in(problem), "describe": _describe(problem)}
            return advice.format(*found.groups(), **{**problem._asdict(), **made})
    return otherwise


def _volume(problem: Problem) -> str:
    text = problem.message.lower()
    if re.search(r"quota|exhausted|no space|not enough free|insufficient", text):
        return (
            "The storage is used up: make room there, raise its quota, or ask for less: "
            f"{_describe(problem)}"
        )
    if re.search(r"no storage class|storageclass\S* \S+ not found", text):
        return "Name a storage class that exists, or mark one as default: kubectl get storageclass"
    missing = re.search(r"(secret|configmap) \"([^\"]+)\" not found", text)
    if missing and missing[2] == "kube-root-ca.crt":
        return (
            "Kubernetes itself makes that ConfigMap: see whether kube-controller-manager runs: "
            "kubectl -n kube-system get pods"
        )
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
    return _by_text(
        problem,
        _REFUSALS,
        f"See what refuses the pods: kubectl{_in(problem)} get events --sort-by=.lastTimestamp",
    )


# Why an API server refuses a pod, with what it takes to cure each.
_REFUSALS = (
    (
        r"must specify",
        "The quota counts what the containers do not say: give each of them the requests and "
        "limits that it names: kubectl{space} describe resourcequota",
    ),
    (
        r"exceeded quota",
        "Raise the quota or lower the requests: kubectl{space} describe resourcequota",
    ),
    (
        r"(?:maximum|minimum) \S+ usage per|limit to request ratio",
        "Correct the requests and limits as the namespace's LimitRange says: "
        "kubectl{space} describe limitrange",
    ),
    (
        r"PodSecurity",
        "Correct the securityContext that the message names, or the namespace's level: "
        "kubectl get namespace {namespace} --show-labels",
    ),
    (
        r"security context constraint",
        "Leave runAsUser and fsGroup to the namespace (a release: openshift in mlflow_components), "
        "or let the service account use another SecurityContextConstraints: kubectl get scc",
    ),
    (
        r'serviceaccount "([^"]+)" not found',
        "Create the service account, or correct its name: kubectl{space} create serviceaccount {0}",
    ),
    (
        r'persistentvolumeclaim "([^"]+)" is being deleted',
        "The claim of before is still being deleted: see which pod or finalizer holds it: "
        "kubectl{space} describe pvc {0}",
    ),
    (
        r"no PriorityClass with name (\S+)",
        "Create the priority class {0}, or name one that exists: kubectl get priorityclass",
    ),
    (
        r'RuntimeClass "([^"]+)" not found',
        "Install the runtime class {0}, or name one that exists: kubectl get runtimeclass",
    ),
    (
        r"because it is being terminated",
        "The namespace is being deleted: wait until it has gone, or use another one: "
        "kubectl get namespace {namespace}",
    ),
    (
        r"ValidatingAdmissionPolicy.*denied|webhook.*denied",
        "Correct the pod as the message says: a rule of the cluster refuses it as it is: "
        "{describe}",
    ),
    (
        r"webhook",
        "Make the webhook answer, or remove it: kubectl get "
        "validatingwebhookconfiguration,mutatingwebhookconfiguration",
    ),
    (r" is invalid: ", "Correct the field of the pod template that the message names: {describe}"),
)


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
    return _by_text(problem, BLOCKS, "See what is wrong with the node: kubectl get nodes -o wide")


# What blocks without anything having failed, by the words that tell it, and who has to act.
BLOCKS = (
    (
        r"is of an older revision",
        "Delete that pod, and the StatefulSet makes it anew: kubectl{space} delete pod {name}",
    ),
    (
        r"should have gone.*finalizer",
        "See to what its finalizer stands for; only if that is gone, take it out: "
        "kubectl{space} edit pod {name}",
    ),
    (
        r"should have gone",
        "If its node is gone for good, remove the pod by force: "
        "kubectl{space} delete pod {name} --force --grace-period=0",
    ),
    (
        r"waits behind its scheduling gate",
        "Whoever put the gate there has to take it away: "
        "kubectl{space} get pod {name} -o jsonpath='{{.spec.schedulingGates}}'",
    ),
    (
        r"waits behind its readiness gate",
        "Whoever sets that condition has not done so: see its controller: {describe}",
    ),
    (
        r"still runs",
        "Make what still runs an init container with restartPolicy: Always, or end it: "
        "kubectl{space} exec {pod} -c {container} -- kill 1",
    ),
    (r"no scheduler has looked", "Run that scheduler, or correct schedulerName: {describe}"),
    (
        r"waits in the queue",
        "See what is before it in the queue: kubectl{space} get workloads,localqueues",
    ),
    (
        r"status\.phase is Paused",
        "Promote it, if it waits for that: kubectl argo rollouts promote {name}{space}",
    ),
    (r"status\.health\.status is Suspended", "Let go on what is suspended in it: {describe}"),
    (r"it is stopped", "Let it go on, if that was not meant: {describe}"),
)


def _what_ends_it(problem: Problem) -> str:
    if re.search(r"failed (?:liveness|startup) probe", problem.message):
        return "Its own probe ends it: give the probe more time or the container more CPU, and read"
    if "exit code 137" in problem.message:
        return "It was killed from outside, most often for its memory: see its limit, and the log"
    return "Read the whole log" if problem.container else "See what ended it"


def _http_unready(problem: Problem) -> str:
    if "allowed hosts" in problem.message.lower() or "host header" in problem.message.lower():
        return "Add the host to MLFLOW_SERVER_ALLOWED_HOSTS, as name and as name:*"
    if problem.pod:
        return f"Look at the server's log: {_logs(problem)}"
    return "Check the address and what stands between it and the server"


def _paused(problem: Problem) -> str:
    if problem.kind != "Job":
        what = f"{problem.kind.lower()}/{problem.name}"
        return f"Let it go on: kubectl{_in(problem)} rollout resume {what}"
    change = '{"parallelism":1}' if "parallelism" in problem.message else '{"suspend":false}'
    patch = f"patch job {problem.name} -p '{{\"spec\":{change}}}'"
    return f"Let it go on: kubectl{_in(problem)} {patch}"


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
    "crash_loop": lambda p: f"{_what_ends_it(p)}: {_logs(p)}",
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
        f"Read the log of its last pod: {_logs(p)}" if p.container else f"See why: {_describe(p)}"
    ),
    "progress_deadline": lambda p: (
        f"Read the log: {_logs(p)}" if p.container else f"See what it waits for: {_describe(p)}"
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
    "database_denied": lambda p: database_advice(p.message, p.namespace),
    "http_unready": _http_unready,
    "unauthorized": lambda p: (
        "Give the user and password of somebody whom MLflow knows. Those of the Secret "
        "mlflow-credentials make the administrator once: a password that was changed in MLflow "
        f"since then has to be put there too, as admin-password: kubectl -n {p.namespace} edit "
        "secret mlflow-credentials"
    ),
    "paused": _paused,
    "not_found": lambda p: (
        f"Apply it first, or correct its name: kubectl{_in(p)} get {_resource(p)}"
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
