# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What other clusters say: autoscalers, admission, queues, nodes that go, operators."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import Kind
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict import Target
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.streams import (
    DB,
    MIGRATE,
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
    web,
)

CPU = "0/3 nodes are available: 3 Insufficient cpu."


def unscheduled(message: str = CPU) -> Object:
    """Return a pod that no node takes."""
    refused = condition("PodScheduled", "False", reason="Unschedulable", message=message)
    return pod(conditions=[refused], status={"phase": "Pending"})


# --- Nodes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("FailedScaleUp", "Node scale up failed: GCE quota exceeded"),
        ("NotTriggerScaleUp", "pod didn't trigger scale-up: 1 max node group size reached"),
        ("FailedScheduling", 'Failed to schedule pod, incompatible with nodepool "default"'),
    ],
)
def test_an_autoscaler_that_gave_up_stops_no_clock(reason: str, text: str) -> None:
    """It had begun, and says why no node comes."""
    first = unscheduled()
    began = event(first, "TriggeredScaleUp", "1->2", at=-20)
    result = web(first, began, event(first, reason, text, at=-5))
    assert (outcome(result), result["elapsed"]) == ("unschedulable", 60)
    assert text in result["msg"]


def test_an_autoscaler_that_begins_again_stops_it() -> None:
    """Another group of nodes may have room."""
    first = unscheduled()
    events = [event(first, "FailedScaleUp", "no quota in a", at=-20)]
    events.append(event(first, "TriggeredScaleUp", "b: 1->2", at=-5))
    assert outcome(web(first, *events, timeout=120)) == "timeout"


def test_what_the_scheduler_goes_on_to_say_is_no_word_of_the_autoscaler() -> None:
    """It tries again and again while the node comes."""
    first = unscheduled()
    events = [event(first, "TriggeredScaleUp", "a: 1->2", at=-20)]
    events.append(event(first, "FailedScheduling", CPU, at=-2))
    assert outcome(web(first, *events, timeout=120)) == "timeout"


TAINT = "node(s) had untolerated taint"


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        (f"0/1 nodes are available: 1 {TAINT} {{node.kubernetes.io/not-ready: }}.", "not ready"),
        (f"0/1 nodes are available: 1 {TAINT} {{node.cilium.io/agent-not-ready: }}.", "not ready"),
        (f"0/1 nodes are available: 1 {TAINT} {{node.kubernetes.io/disk-pressure: }}.", "run out"),
        ("0/2 nodes are available: 2 node(s) were unschedulable.", "uncordon"),
        ("0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules.", "replicas"),
        ("0/3 nodes are available: 3 node(s) didn't match pod topology spread constraints.", "few"),
        ("0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.", "label"),
        ("0/3 nodes are available: 3 node(s) didn't find available persistent volumes to bind.",
         "get pv,pvc"),
        ("0/3 nodes are available: 3 node(s) did not have enough free storage.", "get pv,pvc"),
        ("0/3 nodes are available: 3 node(s) exceed max volume count.", "as many volumes"),
        (f"0/5 nodes are available: 2 Insufficient cpu, 3 {TAINT} "
         "{node-role.kubernetes.io/control-plane: }.", "Lower"),
        (f"0/5 nodes are available: 1 Insufficient cpu, 4 {TAINT} {{gpu: only}}.", "toleration"),
        ("0/5 nodes are available: 1 node(s) were unschedulable, 4 Insufficient memory.", "Lower"),
        (f"0/1 nodes are available: 1 {TAINT} {{node-role.kubernetes.io/control-plane: }}.",
         "toleration"),
    ],
)  # fmt: skip
def test_the_hint_is_for_what_most_nodes_say(message: str, advice: str) -> None:
    """Those of the control plane refuse everybody."""
    assert advice in web(unscheduled(message))["failure"]["hint"]


def shutdown(name: str, made: float) -> Object:
    """Return a pod that went with its node."""
    text = "Pod was terminated in response to imminent node shutdown."
    return pod(
        name=name,
        conditions=[],
        creationTimestamp=stamp(made),
        status={"phase": "Failed", "reason": "Terminated", "message": text},
    )


def test_a_node_that_goes_takes_all_its_pods_at_once() -> None:
    """They are replaced, and nothing is wrong with those that come."""
    new = [f"web-2-n{number}" for number in range(3)]
    old = [f"web-2-{number}" for number in range(3)]
    three: Object = {"updated": 3, "total": 3, "replicas": 3}
    up = [pod(running(-10), name=name, creationTimestamp=stamp(-20)) for name in old]
    steps: list[t.Any] = [(0, [deployment(**three), replica_set(), *up])]
    steps.append((10, [shutdown(name, -20) for name in old]))
    comes = [pod(waiting("ContainerCreating"), name=name) for name in new]
    steps.append((12, comes))
    ready = [pod(running(70), name=name, ready=True) for name in new]
    steps.append((75, [*ready, deployment(3, **three)]))
    assert outcome(play(steps)) == "ready"


def test_nodes_that_go_one_after_the_other_under_one_pod_are_told() -> None:
    """Each was made after the one before it had fallen."""
    three: Object = {"updated": 3, "total": 3, "replicas": 3}
    steps: list[t.Any] = [(0, [deployment(**three), replica_set()])]
    for turn in range(4):
        steps.append((10 * turn + 8, [shutdown(f"web-2-{turn}", 10 * turn + 1)]))
    assert outcome(play(steps)) == "rejected"


@pytest.mark.parametrize("condition_of_it", [True, False])
def test_a_sandbox_that_cannot_be_made_after_the_node_came_back(condition_of_it: bool) -> None:
    """The statuses of its containers are of before."""
    lost = {"terminated": {"exitCode": 255, "reason": "Unknown", "finishedAt": stamp(-30)}}
    first = pod({"state": lost} if condition_of_it else waiting("ContainerCreating"))
    if condition_of_it:
        first["status"]["conditions"].append(condition("PodReadyToStartContainers", "False"))
    text = 'plugin type="cilium-cni" failed (add): unable to connect to Cilium agent'
    result = web(first, event(first, "FailedCreatePodSandBox", text, at=2))
    assert outcome(result) == "sandbox"
    assert "CNI" in result["failure"]["hint"]


def test_a_second_volume_that_came_is_no_news_of_the_first() -> None:
    """The controller tells of a Multi-Attach once only."""
    first = pod(waiting("ContainerCreating"), status={"phase": "Pending"})
    text = 'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) web-1-a'
    came = 'AttachVolume.Attach succeeded for volume "pvc-{}"'
    events = [event(first, "FailedAttachVolume", text, at=1)]
    events.append(event(first, "SuccessfulAttachVolume", came.format(2), at=2))
    assert outcome(web(first, *events)) == "volume"
    events.append(event(first, "SuccessfulAttachVolume", came.format(1), at=3))
    assert outcome(web(first, *events)) == "timeout"


CLAIMED: Object = {"volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]}


def claim(phase: str = "Pending") -> Object:
    """Return the claim data, of a class that waits for its first consumer."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": "ns", "uid": "c"},
        "spec": {"storageClassName": "slow"},
        "status": {"phase": phase},
    }


def unbound(message: str) -> Object:
    """Return a pod that waits for its claim."""
    refused = condition("PodScheduled", "False", reason="Unschedulable", message=message)
    return pod(conditions=[refused], spec=CLAIMED, status={"phase": "Pending"})


def test_a_provisioner_that_begins_when_its_consumer_is_there_is_at_work() -> None:
    """The scheduler's patience ends before the volume is made, again and again."""
    first = unbound('running PreBind plugin "VolumeBinding": context deadline exceeded')
    said = [event(claim(), "WaitForFirstConsumer", "waiting for first consumer", at=-60)]
    said.append(event(claim(), "Provisioning", "External provisioner is provisioning", at=-50))
    steps: list[t.Any] = [(0, [deployment(), replica_set(), first, claim(), *said])]
    steps.append((100, [claim("Bound")]))
    steps.append((120, [pod(running(115), spec=CLAIMED, ready=True), deployment(1)]))
    assert outcome(play(steps)) == "ready"


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ('with StorageClass "slow": rpc error: code = ResourceExhausted: quota', "used up"),
        ('storageclass.storage.k8s.io "slow" not found', "Name a storage class"),
        ('with StorageClass "slow": rpc error: code = Internal', "See why the claim is not bound"),
    ],
)
def test_why_a_volume_cannot_be_made(text: str, advice: str) -> None:
    """The name of the class is in each of these messages."""
    first = unbound("pod has unbound immediate PersistentVolumeClaims")
    said = event(claim(), "ProvisioningFailed", f"failed to provision volume {text}", at=2)
    result = web(first, claim(), said)
    assert outcome(result) == "volume"
    assert advice in result["failure"]["hint"]
    assert any(text in line for line in result["failure"]["events"])


# --- Admission -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refusal", "advice"),
    [
        ("failed quota: compute: must specify limits.cpu for: main", "requests and limits"),
        ("exceeded quota: compute, requested: pods=1", "Raise the quota"),
        ("[maximum memory usage per Container is 1Gi, but limit is 2Gi]", "describe limitrange"),
        ("[minimum cpu usage per Container is 100m, but request is 1m]", "describe limitrange"),
        ('error looking up service account ns/bot: serviceaccount "bot" not found',
         "create serviceaccount bot"),
        ("no PriorityClass with name high was found", "get priorityclass"),
        ('persistentvolumeclaim "data-db-0" is being deleted', "describe pvc data-db-0"),
        ('pod rejected: RuntimeClass "kata" not found', "get runtimeclass"),
        ("unable to validate against any security context constraint: [runAsUser]", "get scc"),
        ("unable to create new content in namespace ns because it is being terminated",
         "get namespace ns"),
        ('Pod "web-2-x" is invalid: spec.containers[0].image: Required value', "the field"),
        ('admission webhook "validate.kyverno.svc-fail" denied the request: require-labels',
         "Correct the pod"),
        ('admission webhook "validation.gatekeeper.sh" denied the request: [owner] no',
         "Correct the pod"),
        ("ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no", "Correct the pod"),
        ('failed calling webhook "x": context deadline exceeded', "Make the webhook answer"),
    ],
)  # fmt: skip
def test_why_the_pod_is_refused(refusal: str, advice: str) -> None:
    """Each refusal has a cure of its own."""
    message = f'pods "web-2-x" is forbidden: {refusal}'
    refused = condition("ReplicaFailure", at=-1, reason="FailedCreate", message=message)
    result = play([(0, [deployment(0, 0, 0), replica_set(conditions=[refused])])])
    assert outcome(result) == "quota_or_admission"
    assert advice in result["failure"]["hint"]


# --- Workloads -----------------------------------------------------------------------------------


def test_a_job_in_a_queue_is_not_paused() -> None:
    """Kueue lets it go when its turn comes."""
    labels = {"kueue.x-k8s.io/queue-name": "team-a"}
    first = job(spec={"suspend": True}, labels=labels)
    done = job([condition("Complete")], labels=labels)
    assert outcome(play([(0, [first]), (100, [done])], MIGRATE)) == "ready"
    result = play([(0, [first])], MIGRATE, timeout=30)
    assert outcome(result) == "timeout"
    assert "waits in the queue team-a" in result["msg"]


@pytest.mark.parametrize("spec", [{"suspend": True}, {"parallelism": 0}])
def test_a_job_that_does_not_run_is_paused(spec: Object) -> None:
    result = play([(0, [job(spec=spec, status={"active": 0})])], MIGRATE)
    assert outcome(result) == "paused"
    assert f'"{next(iter(spec))}"' in result["failure"]["hint"]


def test_what_keeps_a_ready_pod_from_being_available_is_said() -> None:
    up = pod(running(-5), ready=True)
    result = play([(0, [deployment(minReadySeconds=600), replica_set(), up])], timeout=30)
    assert "not yet for 600 s (minReadySeconds)" in result["msg"]


def test_a_partition_counts_from_the_first_ordinal() -> None:
    """The pod that is held back is no obstacle, whatever is wrong with it."""
    held_back = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}
    found = stateful_set(1, 1, replicas=2, ordinals={"start": 5}, updateStrategy=held_back)
    pods = [pod(running(-5), name="db-5", owner="s", revision="old")]
    pods.append(pod(running(-90), name="db-6", owner="s", revision="new", ready=True))
    result = play([(0, [found, *pods])], DB, timeout=30)
    assert "older revision" not in result["msg"]


def test_the_hint_of_a_deadline_is_that_of_its_cause() -> None:
    """There is no log of a pod that no node takes."""
    text = 'ReplicaSet "web-2" has timed out progressing.'
    gave_up = condition("Progressing", "False", 1, reason="ProgressDeadlineExceeded", message=text)
    late = deployment(conditions=[{**gave_up, "lastUpdateTime": stamp(1)}])
    result = play([(0, [late, replica_set(), unscheduled()])])
    assert outcome(result) == "progress_deadline"
    assert result["failure"]["hint"].startswith("Lower the pod's resource requests")


@pytest.mark.parametrize("total", [1, 2])
def test_an_old_pod_that_does_not_go_is_named(total: int) -> None:
    """Whether its ReplicaSet still counts it or not."""
    gone = pod(
        running(-900),
        name="web-1-a",
        owner="web-1",
        deletionTimestamp=stamp(-60),
        finalizers=["example.com/keep"],
    )
    new = [replica_set(1), replica_set(), pod(running(-20), ready=True)]
    waits = deployment(total - 1, total - 1, total)
    result = play([(0, [waits, *new, gone])], timeout=30)
    assert "pod web-1-a should have gone 90 s ago" in result["msg"]
    assert "example.com/keep" in result["msg"]


@pytest.mark.parametrize(("at", "ending"), [(-5, "progress_deadline"), (-6, "timeout")])
def test_a_deadline_of_just_before_the_wait_counts(at: float, ending: str) -> None:
    """Those who apply and then wait see it; an older one may have been put right since."""
    late = condition("Progressing", "False", at, reason="ProgressDeadlineExceeded", message="late")
    first = [deployment(conditions=[late]), replica_set(), pod(running(-900))]
    assert outcome(play([(0, first)], timeout=30)) == ending


@pytest.mark.parametrize("probe", ["liveness", "startup"])
def test_a_container_that_its_own_probe_ends(probe: str) -> None:
    first = pod(looping(2, ended(143, -60, -2)))
    text = f"Container main failed {probe} probe, will be restarted"
    result = web(first, event(first, "Killing", text, at=-4, path="spec.containers{main}"))
    assert "give the probe more time" in result["failure"]["hint"]


def db_pod(main: Object, **more: t.Any) -> Object:
    """Return the pod db-0 of the current revision."""
    return pod(main, name="db-0", owner="s", revision="new", **more)


@pytest.mark.parametrize("again", [True, False])
def test_a_server_that_ends_until_its_database_is_there(again: bool) -> None:
    """Its image is being pulled; the server's next try after that is what counts."""
    starting = [stateful_set(current="new", updated=1), db_pod(waiting("ContainerCreating"))]
    crashed = pod(looping(3, ended(1)))
    steps: list[t.Any] = [(0, [deployment(), replica_set(), crashed, *starting])]
    steps.append((40, [stateful_set(1, 1, current="new"), db_pod(running(38), ready=True)]))
    up = {"restartCount": 4, **running(65)}
    if again:
        steps.append((65, [pod(up), deployment()]))
        steps.append((70, [pod(up, ready=True), deployment(1)]))
    else:
        steps.append((67, [pod(looping(4, ended(1, 65, 67)))]))
    result = play(steps, [WEB, DB])
    assert outcome(result) == ("ready" if again else "crash_loop")
    assert result["elapsed"] == pytest.approx(70 if again else 67, abs=0.5)


def test_a_server_is_not_to_blame_while_a_node_for_its_database_comes() -> None:
    """The autoscaler is at work on it."""
    refused = condition("PodScheduled", "False", reason="Unschedulable", message=CPU)
    db = pod(name="db-0", owner="s", revision="new", conditions=[refused])
    said = event(db, "TriggeredScaleUp", "1->2", at=-3)
    first = [deployment(), replica_set(), pod(looping(3, ended(1))), stateful_set(current="new")]
    assert outcome(play([(0, [*first, db, said])], [WEB, DB], timeout=120)) == "timeout"


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("CreateContainerError", "container_start"),
        ("RunContainerError", "container_start"),
        ("PreCreateHookError", "container_start"),
        ("PreStartHookError", "container_start"),
        ("PostStartHookError", "container_start"),
        ("CreateContainerConfigError", "config"),
        ("ErrImagePull", "image_pull"),
        ("ImagePullBackOff", "image_pull"),
        ("ImageInspectError", "image_pull"),
        ("RegistryUnavailable", "image_pull"),
        ("SignatureValidationFailed", "image_pull"),
        ("InvalidImageName", "image_invalid"),
        ("ErrImageNeverPull", "image_invalid"),
    ],
)
@pytest.mark.parametrize("message", ["", "the runtime is busy"])
def test_why_a_container_has_not_started(reason: str, kind: str, message: str) -> None:
    """What the status leaves out is in an event, or else there is the reason at least."""
    first = pod(waiting(reason, message))
    result = web(first)
    assert outcome(result) == kind
    assert (message or reason) in result["msg"]
    said = event(first, "Failed", "Error: it said so", at=-1, path="spec.containers{main}")
    other = event(first, "Failed", "Error: another", at=0, path="spec.containers{other}")
    if kind in ("container_start", "config"):
        told = web(first, said, other)["msg"]
        assert (message or ": it said so") in told
        assert "another" not in told


def test_an_event_without_a_path_is_about_the_container_of_its_image() -> None:
    """Some runtimes' kubelets leave the path out."""
    images = {"main": "reg.example/app:1", "proxy": "reg.example/proxy:2"}
    spec = {"containers": [{"name": name, "image": image} for name, image in images.items()]}
    status = {"restartCount": 0, "ready": False}
    for name, image in images.items():
        other = next(one for one in images if one != name)
        statuses = [
            {
                "name": name,
                **status,
                **waiting("ImagePullBackOff", f'Back-off pulling image "{image}"'),
            },
            {"name": other, **status, **waiting("ContainerCreating")},
        ]
        first = pod(spec=spec, statuses=statuses)
        text = 'Failed to pull image "{}": {}'
        events = [event(first, "Failed", text.format(image, "manifest unknown"), at=-2)]
        events.append(event(first, "Failed", text.format(images[other], "x509: no"), at=-1))
        result = web(first, *events)
        assert (outcome(result), result["elapsed"]) == ("image_pull", 0.25)
        assert "manifest unknown" in result["msg"]


# --- Containers that nothing probes --------------------------------------------------------------


def unprobed(main: Object, ready: bool) -> list[Object]:
    """Return a Deployment that nothing probes, and its pod."""
    return [deployment(int(ready), probed=False), pod(main, probed=False, ready=ready)]


def test_one_that_lives_for_eight_seconds_is_not_ready_in_its_first() -> None:
    """The wait began before it did."""
    steps: list[t.Any] = [(0, [deployment(probed=False), replica_set()])]
    steps.append((1, unprobed(running(1), True)))
    steps.append((9, unprobed({"state": ended(1, 1, 9)}, False)))
    again = {"restartCount": 1, "lastState": ended(1, 1, 9)}
    steps.append((10, unprobed({**running(10), **again}, True)))
    steps.append((18, unprobed(looping(1, ended(1, 10, 18)), False)))
    assert outcome(play(steps)) == "crash_loop"


def test_one_has_to_outlast_the_longest_of_its_runs() -> None:
    """The last may have been a short one."""
    steps: list[t.Any] = [(0, [deployment(probed=False), replica_set()])]
    long, short = ended(1, -25, -1), ended(1, 1, 3)
    steps.append((0, unprobed({"state": long}, False)))
    steps.append((1, unprobed({"restartCount": 1, **running(1), "lastState": long}, True)))
    steps.append((3, unprobed(looping(1, short), False)))
    up = {"restartCount": 2, **running(13), "lastState": short}
    steps.append((13, unprobed(up, True)))
    result = play(steps, tolerances={"crash_loop": 60})
    assert (outcome(result), result["elapsed"]) == ("ready", 39)


# --- Custom resources ----------------------------------------------------------------------------


def custom(api_version: str, status: Object | None, spec: Object | None = None) -> t.Any:
    """Wait for one object that never changes; api_version ends in its kind."""
    version, kind = api_version.rsplit("/", 1)
    item: Object = {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": "x", "namespace": "ns", "uid": "u", "generation": 2},
        "spec": spec or {},
    }
    if status is not None:
        item["status"] = status
    target = Target(Kind(version, kind, "things"), "ns", "x")
    return play([(0, [item])], target, timeout=60)


ROUTE = "gateway.networking.k8s.io/v1/HTTPRoute"
ACCEPTED = [condition("Accepted", observedGeneration=2)]


@pytest.mark.parametrize(
    ("kind", "status", "spec"),
    [
        ("bitnami.com/v1alpha1/SealedSecret", {"conditions": [condition("Synced")]}, {}),
        ("elastic.co/v1/Elasticsearch", {"phase": "Ready", "health": "green"}, {}),
        ("networking.istio.io/v1/VirtualService", None, {}),
        ("secrets-store.csi.x-k8s.io/v1/SecretProviderClass", None, {}),
        ("operator.example/v1/Thing", {"conditions": [
            condition("Available"), condition("Degraded", "False"),
            condition("Progressing", "False")]}, {}),
        (ROUTE, {"parents": [
            {"parentRef": {"name": "gone"}, "conditions": [condition("Accepted", "False")]},
            {"parentRef": {"name": "a", "namespace": "ns"}, "conditions": ACCEPTED}]},
         {"parentRefs": [{"name": "a"}]}),
    ],
)  # fmt: skip
def test_a_custom_resource_that_is_ready(kind: str, status: Object, spec: Object) -> None:
    result = custom(kind, status, spec)
    assert (outcome(result), result["elapsed"]) == ("ready", 0), result["msg"]


SOURCES: Object = {"sources": [{"repoURL": "a", "targetRevision": "v1"}]}


@pytest.mark.parametrize(
    ("kind", "status", "spec", "says"),
    [
        ("aws.example/v1/Instance", {"conditions": [
            condition("Ready"), condition("Synced", "False", message="cannot update")]}, {},
         "cannot update"),
        ("operator.example/v1/Thing", {"conditions": [
            condition("Available"), condition("Degraded", message="pods crash")]}, {},
         "pods crash"),
        ("operator.example/v1/Thing", {"conditions": [
            condition("Available"), condition("Degraded", "False"),
            condition("Progressing", message="2 of 3")]}, {}, "2 of 3"),
        ("elastic.co/v1/Elasticsearch", {"phase": "Ready", "health": "red"}, {}, "red"),
        ("argoproj.io/v1alpha1/Application",
         {"health": {"status": "Healthy"}, "sync": {"status": "Synced", "comparedTo": SOURCES}},
         {"sources": [{"repoURL": "a", "targetRevision": "v2"}]}, "the status is of v1"),
        ("argoproj.io/v1alpha1/Application",
         {"operationState": {"phase": "Failed", "message": "Job migrate failed"}}, {},
         "Job migrate failed"),
        (ROUTE, {"parents": [
            {"parentRef": {"name": "a", "namespace": "one"}, "conditions": ACCEPTED}]},
         {"parentRefs": [{"name": "a", "namespace": "one"}, {"name": "a", "namespace": "two"}]},
         "a has not accepted it yet"),
    ],
)  # fmt: skip
def test_a_custom_resource_that_is_not(kind: str, status: Object, spec: Object, says: str) -> None:
    """In its controller's words."""
    result = custom(kind, status, spec)
    assert outcome(result) in ("timeout", "progress_deadline")
    assert says in result["msg"]


@pytest.mark.parametrize(
    ("kind", "status", "spec", "says"),
    [
        ("argoproj.io/v1alpha1/Rollout",
         {"observedGeneration": "2", "phase": "Paused", "message": "CanaryPauseStep"}, {},
         "CanaryPauseStep. Promote it, if it waits for that: kubectl argo rollouts promote x "),
        ("argoproj.io/v1alpha1/Application", {"health": {"status": "Suspended"}}, {}, "Suspended"),
        ("apps.openshift.io/v1/DeploymentConfig",
         {"observedGeneration": 2, "conditions": [condition("Available")]},
         {"paused": True, "replicas": 1}, "spec.paused is true"),
        ("helm.toolkit.fluxcd.io/v2/HelmRelease",
         {"observedGeneration": 1, "conditions": [condition("Ready")]}, {"suspend": True},
         "spec.suspend is true"),
    ],
)  # fmt: skip
def test_what_waits_for_somebody_says_so(
    kind: str, status: Object, spec: Object, says: str
) -> None:
    """It may be meant, so it is no failure before the time is up."""
    result = custom(kind, status, spec)
    assert (outcome(result), result["elapsed"]) == ("timeout", 60)
    assert says in result["msg"]


def test_a_kind_of_another_group_is_described_with_it() -> None:
    """Kubernetes has a Service too."""
    found = custom("serving.knative.dev/v1/Service", {"conditions": [condition("Ready", "False")]})
    assert found["failure"]["hint"].endswith("describe service.serving.knative.dev x")
