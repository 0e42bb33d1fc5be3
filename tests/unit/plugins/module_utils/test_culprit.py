# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The culprit is the culprit, and what to do is what helps; whatever the API leaves out or null."""

from __future__ import annotations

import copy
import random
import typing as t

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import CLAIM, EVENT, POD, Kind
from ansible_collections.mlops.mlflow.plugins.module_utils._wait import shape
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.hints import telling_line
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.state import Clock, State
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict import Rules, Target, judge
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.watch import slim
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.streams import (
    DB,
    FAILED,
    KINDS,
    MIGRATE,
    WALL,
    WEB,
    Object,
    condition,
    deployment,
    ended,
    event,
    job,
    looping,
    outcome,
    play,
    pod,
    replica_set,
    running,
    stamp,
    stateful_set,
    waiting,
)

HEAD = 'failed to pull and unpack image "reg.corp/app:1": failed to resolve reference: '


def hint_of(main: Object, **more: t.Any) -> str:
    """Return what is advised on a pod whose container is so."""
    result = play([(0, [deployment(), replica_set(), pod(main, **more)])])
    return str(result["failure"]["hint"])


# --- The right container -------------------------------------------------------------------------


@pytest.mark.parametrize("order", [("main", "istio-proxy"), ("istio-proxy", "main")])
@pytest.mark.parametrize("code", [137, 143])
@pytest.mark.parametrize("later", [0, 5])
def test_it_is_not_the_sidecar_that_was_stopped(
    order: tuple[str, str], code: int, later: float
) -> None:
    """It was ended after the main container had failed; times are in whole seconds."""
    endings = {"main": ended(3, -60, -10), "istio-proxy": ended(code, -60, -10 + later)}
    statuses = [{"name": name, "restartCount": 0, "state": endings[name]} for name in order]
    spec = {"containers": [{"name": "main"}, {"name": "istio-proxy"}]}
    first = pod(name="migrate-a", owner="j", spec=spec, statuses=statuses)
    result = play([(0, [job([FAILED]), first])], MIGRATE)
    assert result["failure"]["container"] == "main"
    assert "exit code 3" in result["msg"]


def test_it_is_the_one_that_failed_first() -> None:
    """The other one failed because of it."""
    statuses = [
        {"name": "a", "restartCount": 0, "state": ended(1, -60, -10)},
        {"name": "b", "restartCount": 0, "state": ended(2, -60, -20)},
    ]
    first = pod(name="migrate-a", owner="j", statuses=statuses)
    result = play([(0, [job([FAILED]), first])], MIGRATE)
    assert result["failure"]["container"] == "b"


def test_it_is_the_latest_attempt() -> None:
    """Of several pods, the last one that failed."""
    pods = []
    for name, code, at in (("migrate-b", 5, -100), ("migrate-a", 6, -10)):
        status = {"name": "main", "restartCount": 0, "state": ended(code, at - 5, at)}
        pods.append(pod(name=name, owner="j", statuses=[status]))
    result = play([(0, [job([FAILED]), *pods])], MIGRATE)
    assert "exit code 6" in result["msg"]


def test_a_main_container_is_named_before_its_sidecar() -> None:
    """Both are in back-off; the kubelet sorts them by name."""
    statuses: list[Object] = [
        {"name": "istio-proxy", **looping(4, ended(1))},
        {"name": "main", **looping(4, ended(7))},
    ]
    spec = {"containers": [{"name": "main"}, {"name": "istio-proxy"}]}
    result = play([(0, [deployment(), replica_set(), pod(spec=spec, statuses=statuses)])])
    assert result["failure"]["container"] == "main"


# --- The right words -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says", "never"),
    [
        (
            HEAD + "tls: failed to verify certificate: x509: unknown",
            "trust",
            "name or tag",
        ),
        (
            HEAD + "429 Too Many Requests: pull rate limit",
            "limits",
            "cannot reach",
        ),
        ("SignatureValidationFailed: no signature exists", "signed", "cannot reach"),
        (HEAD + "no match for platform in manifest: not found", "platform", "name or tag"),
        (HEAD + "no matching manifest for linux/arm64", "platform", "name or tag"),
        ("write /var/lib/x: no space left on device", "disk is full", "cannot reach"),
        (HEAD + "http: server gave HTTP response to HTTPS client", "plain HTTP", "cannot reach"),
        (HEAD + "dial tcp: lookup reg.corp: no such host", "cannot reach", "name or tag"),
        (HEAD + "not found", "name or tag", "cannot reach"),
        (HEAD + "401 Unauthorized", "imagePullSecret", "cannot reach"),
    ],
)
def test_a_pull_that_fails(text: str, says: str, never: str) -> None:
    """What to do is another thing each time."""
    hint = hint_of(waiting("ErrImagePull", text))
    assert says in hint
    assert never not in hint


@pytest.mark.parametrize(
    ("text", "says", "never"),
    [
        (
            'admission webhook "kyverno" denied the request: no',
            "Correct the pod",
            "remove it",
        ),
        (
            'admission webhook "g.sh" denied the request: [owner] webhook',
            "Correct the pod",
            "remove it",
        ),
        (
            "ValidatingAdmissionPolicy 'x' with binding 'y' denied request: no",
            "Correct the pod",
            "remove it",
        ),
        ('failed calling webhook "x": context deadline exceeded', "remove it", "Correct the pod"),
        ("exceeded quota: compute", "quota", "webhook"),
        ('violates PodSecurity "restricted:latest"', "securityContext", "webhook"),
    ],
)
@pytest.mark.parametrize("how", ["replica set", "event"])
def test_a_pod_that_is_refused(text: str, says: str, never: str, how: str) -> None:
    """Who denies has answered: the pod is to be corrected."""
    if how == "event":
        waits = stateful_set(current="new")
        result = play([(0, [waits, event(waits, "FailedCreate", text, at=-1)])], DB)
    else:
        refused = replica_set(conditions=[condition("ReplicaFailure", message=text)])
        result = play([(0, [deployment(updated=0, total=0), refused])])
    assert outcome(result) == "quota_or_admission"
    assert says in result["failure"]["hint"]
    assert never not in result["failure"]["hint"]


def test_a_replica_set_that_is_refused() -> None:
    """There is none to say so: the Deployment does."""
    no = condition("Progressing", "False", reason="ReplicaSetCreateError", message="exceeded quota")
    result = play([(0, [deployment(updated=0, total=0, conditions=[no])])])
    assert outcome(result) == "quota_or_admission"


@pytest.mark.parametrize(
    ("message", "says", "never"),
    [
        ("3 node(s) had volume node affinity conflict.", "volume", "label a node"),
        ("3 Insufficient cpu.", "requests", "label a node"),
        ("3 node(s) didn't match Pod's node affinity/selector.", "label a node", "volume"),
        ("3 node(s) had untolerated taint {a: b}.", "toleration", "label a node"),
        ("3 Too many pods.", "add one", "label a node"),
    ],
)
def test_a_pod_that_no_node_takes(message: str, says: str, never: str) -> None:
    """The scheduler counts the nodes by why they refuse."""
    refused = condition("PodScheduled", "False", reason="Unschedulable", message=message)
    hint = hint_of(running(0), conditions=[refused])
    assert says in hint
    assert never not in hint


def test_a_user_that_may_be_root() -> None:
    """Nothing is missing: a number is."""
    text = "container has runAsNonRoot and image has non-numeric user (mlflow), cannot verify"
    assert "runAsUser" in hint_of(waiting("CreateContainerConfigError", text))


@pytest.mark.parametrize("where", ["message", "log"])
def test_a_program_for_another_platform(where: str) -> None:
    """It is in what the runtime says, or in the log."""
    text = "exec /usr/bin/mlflow: exec format error"
    last = ended(1)
    if where == "message":
        last["terminated"].update(message=text, reason="StartError")
    logs = {("web-2-a", "main"): text} if where == "log" else {}
    result = play([(0, [deployment(), replica_set(), pod(looping(3, last))])], logs=logs)
    assert "platform" in result["failure"]["hint"]


def test_what_is_in_no_namespace() -> None:
    """Neither the message nor the command names an empty one."""
    crd = Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "crds", False)
    result = play([(0, [])], Target(crd, "", "foos.example.com"))
    assert "-n  " not in result["failure"]["hint"]
    assert "in namespace" not in result["msg"]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["INFO  critical-section lock acquired", "psycopg2.OperationalError: no"], "Operational"),
        (["psycopg2.OperationalError: no", "[10:00] INFO  stopping (fatal=0)"], "Operational"),
        (
            ['{"level":"error","msg":"refused"}', '{"level":"info","msg":"fatal handler removed"}'],
            "refused",
        ),
        (["ERROR cannot start", 'level=debug msg="panic handler set"'], "cannot start"),
        (["FATAL:  password authentication failed", "LOG:  done"], "password"),
        (["INFO nothing", "INFO more"], "INFO more"),
        (["DEBUG failed to find x", "and so it ends"], "and so it ends"),
    ],
)
def test_the_line_that_is_quoted(lines: list[str], says: str) -> None:
    """A line that says of itself that it is harmless is."""
    assert says in telling_line(lines)


def every_failure() -> list[dict[str, t.Any]]:
    """Return failures of many kinds."""
    mains: list[Object] = [
        waiting("ErrImagePull", "not found."),
        waiting("InvalidImageName", "bad."),
        waiting("CreateContainerConfigError", 'secret "x" not found.'),
        waiting("CreateContainerError", "no."),
        looping(3, ended(1)),
        looping(3, ended(137, reason="OOMKilled")),
        running(-5),
    ]
    return [play([(0, [deployment(), replica_set(), pod(main)])]) for main in mains]


def test_a_command_can_be_copied() -> None:
    """It stands at the end, on one line, with no full stop."""
    for result in every_failure():
        hint = result["failure"]["hint"]
        assert "kubectl" in hint
        assert not hint.endswith(".")
        assert result["msg"].endswith(hint)
        assert "\n" not in hint
        assert ".." not in result["msg"].replace("...", "")


# --- Whatever the API leaves out -----------------------------------------------------------------

ODD: list[t.Any] = [None, "text", 7, [], {}, [None], ["text"], {"a": None}, True]


def places(value: t.Any, path: tuple[t.Any, ...] = ()) -> list[tuple[t.Any, ...]]:
    """Return the path of each value within a value."""
    found = [path] if path else []
    inner: t.Iterable[tuple[t.Any, t.Any]] = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    for key, one in inner:
        found += places(one, (*path, key))
    return found


def changed(item: Object, path: tuple[t.Any, ...], value: t.Any, remove: bool) -> Object:
    """Return an object with another value in one place, or without it."""
    copied = copy.deepcopy(item)
    holder: t.Any = copied
    for key in path[:-1]:
        holder = holder[key]
    if remove:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return copied


def everything() -> dict[Kind, list[Object]]:
    """Return objects of every kind, with about every field that a verdict reads."""
    spec = {
        "nodeName": "n1",
        "restartPolicy": "Never",
        "initContainers": [{"name": "init"}, {"name": "side", "restartPolicy": "Always"}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        "readinessGates": [{"conditionType": "x"}],
        "schedulingGates": [{"name": "x"}],
    }
    first = pod(
        looping(3, ended(1)),
        init=running(),
        spec=spec,
        labels={"controller-revision-hash": "new"},
        status={"nominatedNodeName": "n1"},
    )
    failed = pod(
        name="db-0",
        owner="s",
        revision="old",
        statuses=[{"name": "main", "restartCount": 3, "state": ended(137), "lastState": ended(1)}],
        status={"phase": "Failed", "reason": "Evicted", "message": "full"},
        deletionTimestamp=stamp(-100),
    )
    kept = pod(waiting("ImagePullBackOff", "Back-off"), name="db-1", owner="s", revision="old")
    ends = pod(running(-60), name="migrate-a", owner="j")
    claim: Object = {
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": "ns", "uid": "c"},
        "spec": {"storageClassName": "slow", "volumeName": ""},
        "status": {"phase": "Pending"},
    }
    late = condition("Progressing", "False", -10, reason="ProgressDeadlineExceeded", message="late")
    refused = condition("ReplicaFailure", "True", -10, message="exceeded quota")
    items = [
        deployment(conditions=[late], strategy={"type": "Recreate"}),
        replica_set(conditions=[refused]),
        stateful_set(updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}),
        job([condition("Suspended", "False")], status={"failed": 1, "failedIndexes": ""}),
        first,
        failed,
        kept,
        ends,
        claim,
        event(first, "FailedMount", "no", at=-5, path="spec.containers{main}"),
        event(first, "BackOff", "Back-off", at=0, path="spec.containers{main}"),
        event(claim, "ProvisioningFailed", "no", at=-5, series={"lastObservedTime": stamp(-4)}),
    ]
    by_kind: dict[Kind, list[Object]] = {kind: [] for kind in KINDS.values()}
    for item in items:
        by_kind[KINDS[item["kind"]]].append(item)
    return by_kind


def test_no_field_is_relied_upon() -> None:
    """Each one missing, null or of another type in turn: there is a verdict, and no error."""
    usual = everything()
    targets = [WEB, DB, MIGRATE, Target(POD, "ns", "web-2-a"), Target(CLAIM, "ns", "data")]
    some = random.Random(1)  # noqa: S311 - a choice of cases
    cases = 0
    for kind, items in usual.items():
        for number, item in enumerate(items):
            for path in places(item):
                if path[0] in ("apiVersion", "kind") or path in (
                    ("metadata", "name"),
                    ("metadata", "namespace"),
                ):
                    continue
                for odd in [some.choice(ODD), None, ...]:
                    state = State()
                    for other, present in usual.items():
                        state.replace(
                            other,
                            "ns",
                            [
                                slim(
                                    other,
                                    changed(one, path, odd, odd is ...)
                                    if (other, position) == (kind, number)
                                    else copy.deepcopy(one),
                                )
                                for position, one in enumerate(present)
                            ],
                            Clock(0.0, WALL),
                        )
                    for target in targets:
                        verdict = judge(target, state, Clock(50.0, WALL + 50), Rules(since=WALL))
                        assert verdict.message, (path, odd)
                    cases += 1
    assert cases > 500


@pytest.mark.parametrize("item", [None, "text", 7, [], {}, {"metadata": None}, {"metadata": {}}])
def test_what_has_no_name_is_no_object(item: t.Any) -> None:
    """It is left out."""
    assert shape.shaped(POD, item) is None
    state = State()
    state.replace(EVENT, "ns", [item], Clock(0, 0))
    assert state.all(EVENT, "ns") == []
