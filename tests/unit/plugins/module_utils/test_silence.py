# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Nothing waits in silence: what blocks is named, and so is what unblocks it."""

from __future__ import annotations

import threading
import time
import typing as t

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Api, ApiError
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import (
    CLAIM,
    DAEMON_SET,
    EVENT,
    POD,
    REVISION,
    Kind,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow.readiness import (
    MlflowCheck,
    Server,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.engine import (
    CheckResult,
    Engine,
    Options,
    Seen,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict import Target
from ansible_collections.mlops.mlflow.tests.unit.plugins.fake_api import FakeApi
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.streams import (
    DB,
    FAILED,
    MIGRATE,
    WEB,
    Object,
    Player,
    StubApi,
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
    web,
)

NOT_FOUND = 'Back-off pulling image "postgres:71": ErrImagePull: postgres:71: not found'


# --- What blocks a StatefulSet -------------------------------------------------------------------


def db_pod(main: Object, revision: str = "old", **more: t.Any) -> Object:
    """Return the pod db-0."""
    return pod(main, name="db-0", owner="s", revision=revision, **more)


@pytest.mark.parametrize(
    "main",
    [
        waiting("ImagePullBackOff", NOT_FOUND),
        looping(5, ended(1)),
        waiting("CreateContainerConfigError", 'secret "x" not found'),
    ],
    ids=["image", "crash", "config"],
)
@pytest.mark.parametrize("current", ["old", "new"])
def test_the_old_pod_that_it_keeps_is_named(main: Object, current: str) -> None:
    """The template was corrected, or the change taken back."""
    result = play([(0, [stateful_set(current=current), db_pod(main)])], DB)
    assert (outcome(result), result["failure"]["name"]) == ("blocked", "db-0")
    assert result["elapsed"] <= 21
    assert result["failure"]["hint"].endswith("kubectl -n ns delete pod db-0")


def test_the_old_pod_that_is_merely_slow_is_waited_for() -> None:
    """It may become ready, and be replaced then; the words name it meanwhile."""
    result = play([(0, [stateful_set(), db_pod(running(-5))])], DB, timeout=60)
    assert outcome(result) == "timeout"
    assert "db-0" in result["msg"]
    assert "delete pod db-0" in result["failure"]["hint"]


@pytest.mark.parametrize("spec", [{"podManagementPolicy": "Parallel"}, {"updateStrategy": None}])
def test_odd_specifications_do_not_break_it(spec: Object) -> None:
    """Parallel replaces by itself; null is as good as nothing."""
    result = play([(0, [stateful_set(**spec), db_pod(running(-5))])], DB, timeout=20)
    assert outcome(result) == "timeout"


# --- Pods that fall, one after the other ---------------------------------------------------------

FALLS = [
    ("SysctlForbidden", "forbidden sysctl: net.core.somaxconn"),
    ("UnexpectedAdmissionError", "Allocate failed: no healthy devices present"),
    ("Evicted", "The node was low on resource: ephemeral-storage."),
]


def fallen(name: str, why: str, text: str, **more: t.Any) -> Object:
    """Return a pod that its node rejected or evicted."""
    return pod(
        name=name,
        conditions=[],
        status={"phase": "Failed", "reason": why, "message": text},
        **more,
    )


@pytest.mark.parametrize(("why", "text"), FALLS)
def test_pods_that_lie_about_are_told(why: str, text: str) -> None:
    """Forty of them, and none that runs."""
    bad = [fallen(f"web-2-{number:02d}", why, text) for number in range(40)]
    result = play([(0, [deployment(), replica_set(), *bad])])
    assert outcome(result) == "rejected"
    assert why in result["msg"]
    assert text[:20] in result["msg"]


@pytest.mark.parametrize("name", ["same", "other"])
def test_pods_that_are_deleted_for_it_are_told(name: str) -> None:
    """A StatefulSet and a DaemonSet take them away, and make them anew."""
    steps: list[t.Any] = [(0, [stateful_set(current="new")])]
    for turn in range(6):
        at, uid = 10 * turn + 1, f"uid-{turn}"
        begins = db_pod(waiting("ContainerCreating"), "new", uid=uid)
        begins["status"]["phase"] = "Pending"
        gone = fallen("db-0", *FALLS[2], owner="s", revision="new", uid=uid)
        if name == "other":
            begins["metadata"]["name"] = gone["metadata"]["name"] = f"db-{turn}"
        steps += [(at, [begins]), (at + 6, [gone])]
    result = play(steps, DB)
    assert outcome(result) == "rejected"
    assert result["elapsed"] < 90


def test_those_of_long_ago_say_nothing_of_a_pod_that_starts() -> None:
    """They lie about until somebody clears them away."""
    old = [
        fallen(f"web-2-{number:02d}", *FALLS[2], creationTimestamp=stamp(-90000))
        for number in range(40)
    ]
    up = [pod(running(0)), pod(running(0), ready=True)]
    steps = [(0, [deployment(), replica_set(), *old, up[0]]), (200, [up[1], deployment(1)])]
    assert outcome(play(steps)) == "ready"


@pytest.mark.parametrize(("why", "text"), FALLS)
def test_a_job_s_pod_that_was_ended_from_outside(why: str, text: str) -> None:
    """Why it ended is in its status, not in the exit code."""
    killed: list[Object] = [{"name": "main", "restartCount": 0, "state": ended(137)}]
    for statuses in (killed, []):
        bad = fallen("migrate-a", why, text, owner="j", statuses=statuses)
        result = play([(0, [job([FAILED], status={"failed": 1}), bad])], MIGRATE)
        assert outcome(result) == "job_failed"
        assert text in result["msg"] or text.rstrip(".") in result["msg"]


@pytest.mark.parametrize(("why", "text"), FALLS)
def test_a_single_pod_that_was_ended_from_outside(why: str, text: str) -> None:
    """The same, for a pod that is waited for itself."""
    bad = fallen("solo", why, text, owner="", statuses=[{"name": "main", "state": ended(137)}])
    result = play([(0, [bad])], Target(POD, "ns", "solo"))
    assert outcome(result) == "rejected"
    assert text.rstrip(".") in result["msg"]


# --- What stands before the first container ------------------------------------------------------


@pytest.mark.parametrize(
    ("why", "text", "reason"),
    [
        ("FailedCreatePodSandBox", 'plugin type="aws-cni": no IP address', "sandbox"),
        ("NetworkNotReady", "network is not ready: cni config uninitialized", "sandbox"),
        ("FailedPrepareDynamicResources", "driver does not answer", "sandbox"),
        ("FailedMapVolume", "MapVolume.MapPodDevice failed for volume pvc-1", "volume"),
        ("FailedAttachVolume", "Multi-Attach error for volume", "volume"),
        ("FailedMount", "timed out waiting for the condition", "volume"),
    ],
)
@pytest.mark.parametrize("statuses", [True, False])
def test_what_the_node_lacks(why: str, text: str, reason: str, statuses: bool) -> None:
    """The kubelet may not have written a container's status yet."""
    main = waiting("ContainerCreating") if statuses else None
    first = pod(main, spec={"nodeName": "n1"}, status={"phase": "Pending"})
    result = web(first, event(first, why, text, at=-30, count=12))
    assert outcome(result) == reason
    assert text in result["msg"]
    assert result["elapsed"] <= 61


# --- Gates, nodes, pods that do not go -----------------------------------------------------------


def conditions(**more: str) -> list[Object]:
    """Return the conditions of a pod whose containers are ready, and which is not."""
    return [
        condition("PodScheduled"),
        condition("ContainersReady"),
        condition("Ready", "False", -40, **more),
    ]


GATE = "target-health.elbv2.k8s.aws/x"
SHUT = f'gate "{GATE}" does not exist'
UP = {"ready": True, **running(-500)}


@pytest.mark.parametrize(
    ("first", "says", "hint"),
    [
        (
            pod(
                spec={"schedulingGates": [{"name": "example.com/quota"}]},
                status={"phase": "Pending"},
                conditions=[condition("PodScheduled", "False", reason="SchedulingGated")],
            ),
            "scheduling gate: example.com/quota",
            "schedulingGates",
        ),
        (
            pod(
                spec={"schedulingGates": [{"name": "a"}]},
                status={"phase": "Pending"},
                conditions=[],
            ),
            "scheduling gate: a",
            "schedulingGates",
        ),
        (
            pod(UP, conditions=conditions(reason="ReadinessGatesNotReady", message=SHUT)),
            f"readiness gate: {SHUT}",
            "describe pod web-2-a",
        ),
        (
            pod(UP, conditions=conditions(), spec={"readinessGates": [{"conditionType": GATE}]}),
            f"readiness gate: {GATE}",
            "describe pod web-2-a",
        ),
        (
            pod(UP, conditions=conditions(), spec={"nodeName": "n1"}),
            "n1",
            "kubectl get nodes",
        ),
        (
            pod(UP, conditions=conditions(), spec={"nodeName": "n1"}, status={"phase": "Unknown"}),
            "node n1 of pod web-2-a does not answer",
            "kubectl get nodes",
        ),
        (
            pod(conditions=[], spec={"schedulerName": "volcano"}, status={"phase": "Pending"}),
            "volcano",
            "schedulerName",
        ),
        (
            pod(spec={"nodeName": "n1"}, status={"phase": "Pending"}),
            "node n1 has not begun",
            "kubectl get nodes",
        ),
    ],
)
def test_what_holds_up_a_pod_with_which_nothing_is_wrong(
    first: Object, says: str, hint: str
) -> None:
    """It may be meant to: so it is named from the beginning, and fails when the time is up."""
    result = web(first, timeout=60)
    assert outcome(result) == "timeout"
    assert says in result["msg"]
    assert hint in result["failure"]["hint"]
    named = [entry["at"] for entry in result["timeline"] if says in entry["event"]]
    assert named
    assert named[0] < 1
    assert outcome(web(first, timeout=60, tolerances={"blocked": 20})) == "blocked"


def test_a_node_that_is_not_ready() -> None:
    """The node's controller says so in an event about the pod."""
    first = pod(UP, conditions=conditions(), spec={"nodeName": "n1"})
    result = web(first, event(first, "NodeNotReady", "Node is not ready", at=-30), timeout=30)
    assert "Node is not ready" in result["msg"]
    assert "n1" in result["msg"]


@pytest.mark.parametrize("finalizers", [None, ["example.com/hold"]])
def test_an_old_pod_that_does_not_go(finalizers: list[str] | None) -> None:
    """Recreate and a StatefulSet both wait for it."""
    more: Object = {"finalizers": finalizers} if finalizers else {}
    old = pod(
        running(-9999),
        name="web-1-a",
        owner="web-1",
        deletionTimestamp=stamp(-400),
        spec={"nodeName": "n1"},
        **more,
    )
    waits = deployment(updated=0, total=0, strategy={"type": "Recreate"})
    result = play([(0, [waits, replica_set(1), old])], timeout=30)
    assert "web-1-a" in result["msg"]
    assert ("example.com/hold" in result["msg"]) == bool(finalizers)
    stuck = db_pod(running(-1000), "new", deletionTimestamp=stamp(-400), **more)
    result = play([(0, [stateful_set(current="new"), stuck])], DB, timeout=30)
    assert "db-0" in result["msg"]
    assert ("--force" in result["failure"]["hint"]) == (not finalizers)


# --- Jobs that cannot end ------------------------------------------------------------------------


def two(main: Object, proxy: Object, policy: str = "Never", name: str = "istio-proxy") -> Object:
    """Return a Job's pod with a proxy beside its main container."""
    statuses = [
        {"name": name, "restartCount": 0, **proxy},
        {"name": "main", "restartCount": 0, **main},
    ]
    containers = [{"name": "main"}, {"name": name}]
    spec = {"restartPolicy": policy, "containers": containers}
    return pod(name="migrate-a", owner="j", statuses=statuses, spec=spec)


@pytest.mark.parametrize(("code", "policy"), [(0, "Never"), (0, "OnFailure"), (1, "Never")])
def test_a_sidecar_keeps_a_job_from_ending(code: int, policy: str) -> None:
    """Classic: a proxy that knows nothing of Jobs."""
    first = two({"state": ended(code)}, running(-60), policy)
    result = play([(0, [job(), first])], MIGRATE)
    assert outcome(result) == "blocked"
    assert "main of pod migrate-a has ended, istio-proxy still runs" in result["msg"]
    assert result["elapsed"] < 12


def test_another_container_that_does_is_named_at_once() -> None:
    """It may be at work: so it is no failure before the time is up."""
    first = two({"state": ended(0)}, running(-60), name="shipper")
    result = play([(0, [job(), first])], MIGRATE, timeout=30)
    assert outcome(result) == "timeout"
    assert "shipper still runs" in result["msg"]


def test_a_native_sidecar_that_loops_before_the_main_container_starts() -> None:
    """No attempt is counted, so the Job would wait for ever."""
    spec = {
        "restartPolicy": "Never",
        "initContainers": [{"name": "vault-agent", "restartPolicy": "Always"}],
    }
    first = pod(
        waiting("PodInitializing"),
        name="migrate-a",
        owner="j",
        spec=spec,
        init=looping(6, ended(1), "back-off 2m40s"),
    )
    result = play([(0, [job(), first])], MIGRATE)
    assert (outcome(result), result["failure"]["container"]) == ("crash_loop", "vault-agent")


@pytest.mark.parametrize("policy", [None, {"rules": [{"succeededIndexes": "0-3"}]}])
def test_an_index_that_has_failed_for_good(policy: Object | None) -> None:
    """Unless the Job was told that some are enough."""
    spec = {"completionMode": "Indexed", "completions": 10, "backoffLimitPerIndex": 0}
    lost = job(spec={**spec, "successPolicy": policy}, status={"failed": 1, "failedIndexes": "2"})
    result = play([(0, [lost])], MIGRATE, timeout=30)
    assert outcome(result) == ("timeout" if policy else "job_failed")
    assert "index 2" in result["msg"]


def test_what_the_last_attempt_failed_of_is_told_while_the_next_one_starts() -> None:
    """The time is up before the Job gives up."""
    first = pod(name="migrate-a", owner="j", statuses=[{"name": "main", "state": ended(3)}])
    first["status"]["phase"] = "Failed"
    second = pod(waiting("ContainerCreating"), name="migrate-b", owner="j")
    result = play([(0, [job(status={"failed": 1}), first, second])], MIGRATE, timeout=20)
    assert outcome(result) == "timeout"
    assert "exit code 3" in result["msg"]


# --- When the time is up -------------------------------------------------------------------------


def test_the_autoscaler_that_was_triggered_and_the_node_that_never_came() -> None:
    """No time is counted, but it is said."""
    text = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    refused = condition("PodScheduled", "False", reason="Unschedulable", message=text)
    first = pod(conditions=[refused], status={"phase": "Pending"})
    result = web(first, event(first, "TriggeredScaleUp", "pod triggered scale-up", at=-3))
    assert outcome(result) == "timeout"
    assert "nvidia.com/gpu" in result["msg"]
    assert "TriggeredScaleUp" in result["msg"]
    assert "requests" in result["failure"]["hint"]


def test_conditions_and_events_of_what_is_pending_are_carried() -> None:
    """And what to type."""
    minimum = condition("Available", "False", reason="MinimumReplicasUnavailable", message="no")
    slow = pod({"ready": False, **running(-5)})
    probe = event(slow, "Unhealthy", "probe failed: 503", at=20, path="spec.containers{main}")
    steps = [(0, [deployment(conditions=[minimum]), replica_set(), slow]), (20, [probe])]
    result = play(steps, timeout=60)
    events = result["failure"]["events"]
    assert any(
        "Deployment/web: Available is False: MinimumReplicasUnavailable" in e for e in events
    )
    assert any("Pod/web-2-a: Ready is False" in line for line in events)
    assert any("probe failed: 503" in line for line in events)
    assert "kubectl -n ns" in result["failure"]["hint"]
    assert "probe failed: 503" in result["msg"]


def test_of_several_objects_the_cause_is_told() -> None:
    """The server waits for its database, which is what has a trouble."""
    refused = condition("PodScheduled", "False", reason="Unschedulable", message="Insufficient cpu")
    waits = pod(waiting("PodInitializing"), init=running(-30))
    db = pod(name="db-0", owner="s", revision="new", conditions=[refused])
    steps = [(0, [deployment(), replica_set(), waits, stateful_set(current="new"), db])]
    result = play(steps, [WEB, DB])
    assert (outcome(result), result["failure"]["name"]) == ("unschedulable", "db-0")
    for main in (looping(4, ended(1)), waiting("CrashLoopBackOff")):
        steps = [(0, [deployment(), replica_set(), pod(main), stateful_set(current="new"), db])]
        result = play(steps, [WEB, DB])
        assert (outcome(result), result["failure"]["name"]) == ("unschedulable", "db-0")


def test_a_server_proves_nothing_about_a_database_that_is_still_starting() -> None:
    """Its container says that the database does not answer: it is not there yet."""
    unreachable = '{"tracking": {"state": "unreachable"}}'
    main = looping(3, ended(1, message=unreachable))
    db = [db_pod(running(-1), "new"), db_pod(running(-1), "new", ready=True)]
    steps: list[t.Any] = [(0, [deployment(), replica_set(), pod(main), stateful_set(0, 1), db[0]])]
    steps.append((100, [stateful_set(1, 1), db[1]]))
    up = {"restartCount": 4, **running(105)}
    steps += [(105, [pod(up)]), (110, [pod(up, ready=True), deployment(1)])]
    assert outcome(play(steps, [WEB, DB])) == "ready"


# --- timeout: 0 ----------------------------------------------------------------------------------


@pytest.mark.parametrize("available", [0, 1])
def test_no_time_at_all_is_one_look(available: int) -> None:
    """Over HTTP, as modules do."""
    server = FakeApi()
    server.put("/apis/apps/v1/namespaces/ns/deployments", deployment(available))
    server.put("/apis/apps/v1/namespaces/ns/replicasets", replica_set())
    api = Api({"host": server.url, "api_key": "t"})
    result = Engine(api, [WEB], Options(timeout=0)).run()
    server.close()
    assert result["ready"] == bool(available)
    assert available or result["msg"].startswith(
        "Deployment/web is not ready (timeout): not ready now"
    )


def test_it_makes_the_check_as_well() -> None:
    """What is ready for Kubernetes may not serve."""
    asked = []

    class Asked:
        def __call__(self, seen: Seen) -> CheckResult:
            asked.append(seen)
            return CheckResult(False, "no answer")

        def meanwhile(self, seen: Seen) -> CheckResult | None:
            return None

    result = play([(0, [deployment(1), replica_set()])], timeout=0, check=Asked())
    assert len(asked) == 1
    assert not result["ready"]
    assert "no answer" in result["msg"]


# --- A check that raises -------------------------------------------------------------------------


class Patient(Player):
    """A player that lets the threads of a check report."""

    def _take_reports(self, seconds: float) -> None:
        time.sleep(0.02)
        super()._take_reports(seconds)
        while not self._reports.empty():
            self._take(self._reports.get_nowait())


@pytest.mark.parametrize("url", ["http://x.example.com:80a", "http://[::1", "http://x:99999"])
def test_a_check_that_raises_is_told_at_once(url: str) -> None:
    """A mistake or a bug; nobody waits for it to the end of the time."""
    check = MlflowCheck(t.cast(Api, StubApi({})), Server(url=url, schema="any"))
    up = pod(running(-50), ready=True)
    steps = [(0, [deployment(1), replica_set(), up])]
    result = Patient(steps, [WEB], check=check, timeout=60).run()
    assert not result["ready"]
    assert result["elapsed"] < 10
    assert (
        "Error" in result["msg"] or "InvalidURL" in result["msg"] or "http_unready" in result["msg"]
    )


def test_so_is_what_would_find_out_more() -> None:
    """The same for what is asked meanwhile."""

    def learn(seen: Seen) -> CheckResult | None:
        raise KeyError("nobody thought of it")

    steps = [(0, [deployment(), replica_set(), pod(running(-50))])]
    result = Patient(steps, [WEB], learn=learn, timeout=60).run()
    assert result["elapsed"] < 10
    assert "nobody thought of it" in result["msg"]
    assert threading.active_count() < 50


# --- Permissions taken away ----------------------------------------------------------------------


@pytest.mark.parametrize("refused", [{EVENT}, {CLAIM}, {EVENT, CLAIM}])
def test_a_wait_works_without_what_only_tells_why(refused: set[Kind]) -> None:
    """It becomes ready, fails, and times out as ever."""
    up = [pod(running(0)), pod(running(0), ready=True)]
    steps = [(0, [deployment(), replica_set(), up[0]]), (20, [up[1], deployment(1)])]
    assert outcome(play(steps, refused=refused)) == "ready"
    result = web(pod(looping(3, ended(1))), refused=refused)
    assert outcome(result) == "crash_loop"
    for kind in refused:
        assert result["msg"].count(str(kind)) == 1
        seen = [one for one in result["timeline"] if f"not allowed to list {kind}" in one["event"]]
        assert len(seen) == 1
    assert "may not list" in web(up[0], refused=refused, timeout=20)["msg"]


def test_a_claim_that_cannot_be_seen_is_not_called_missing() -> None:
    """The account may not list claims: it knows nothing of them."""
    message = "pod has unbound immediate PersistentVolumeClaims"
    refused = condition("PodScheduled", "False", reason="Unschedulable", message=message)
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    first = pod(conditions=[refused], spec={"volumes": volumes}, status={"phase": "Pending"})
    assert "does not exist" in web(first)["msg"]
    assert "does not exist" not in web(first, refused={CLAIM})["msg"]


def test_what_is_waited_for_itself_has_to_be_seen() -> None:
    """And a Deployment's pods, as nothing could be said of it."""
    result = play([(0, [])], Target(CLAIM, "ns", "data"), refused={CLAIM})
    assert "not allowed to list" in result["msg"]
    assert result["elapsed"] == 0
    result = web(pod(running(0)), refused={POD})
    assert "not allowed to list pods" in result["msg"]


def test_a_daemon_set_without_its_revisions() -> None:
    """Its pods bear the number of their template as well."""

    def agent(name: str, generation: str, main: Object) -> Object:
        item = pod(main, name=name, owner="a")
        item["metadata"]["labels"] = {"pod-template-generation": generation}
        return item

    daemon_set = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "agent", "namespace": "ns", "uid": "a", "generation": 2},
        "spec": {"template": {"spec": {"containers": [{"name": "main"}]}}},
        "status": {"observedGeneration": 2, "desiredNumberScheduled": 2, "numberAvailable": 1},
    }
    pods = [agent("agent-a", "1", looping(9, ended(1))), agent("agent-b", "2", running(-1))]
    target = Target(DAEMON_SET, "ns", "agent")
    result = play([(0, [daemon_set, *pods])], target, refused={REVISION}, timeout=30)
    assert outcome(result) == "timeout"
    pods[1] = agent("agent-b", "2", looping(9, ended(1)))
    result = play([(0, [daemon_set, *pods])], target, refused={REVISION}, timeout=30)
    assert (outcome(result), result["failure"]["name"]) == ("crash_loop", "agent-b")


def test_without_pods_log_the_log_is_said_not_to_be_readable() -> None:
    """Once."""

    class NoLogs(StubApi):
        def logs(self, *_args: t.Any, **_more: t.Any) -> list[str]:
            raise ApiError(403, "forbidden", "get", "pods/log")

    steps = [(0, [deployment(), replica_set(), pod(looping(3, ended(1)))])]
    player = Player(steps, [WEB])
    player._outcome._api = t.cast(Api, NoLogs({}))
    result = player.run()
    assert outcome(result) == "crash_loop"
    unreadable = [one for one in result["timeline"] if "log not readable" in one["event"]]
    assert len(unreadable) == 1
