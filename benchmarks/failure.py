# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A failure is certain: how much later is it told, and is it told right?"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import DEFAULTS

from benchmarks.harness import (
    NAMESPACE,
    BenchError,
    Ended,
    Object,
    Observer,
    apply,
    deployment,
    image,
    kubectl,
    namespaces,
    rollout,
)
from benchmarks.report import Row

# How long a peer may take to notice a failure that ours tells in seconds.
CAP = 60
OURS = "wait_for_rollout"
KUBECTL = "kubectl rollout status"
HELM = "helm install --wait"
CORE = "kubernetes.core wait"
# Each waits for an object of its own.
NAMES = {OURS: "ours", KUBECTL: "by-kubectl", HELM: "by-helm", CORE: "by-core"}


@dataclasses.dataclass(frozen=True)
class Fault:
    """A failure that is certain, and how the API shows it first."""

    reason: str
    container: Object
    shows: Callable[[Object], bool]
    path: str = "/api/v1/namespaces/{}/pods"
    pod: Object = dataclasses.field(default_factory=dict)
    # Of the Deployment itself.
    spec: Object = dataclasses.field(default_factory=dict)
    before: tuple[Object, ...] = ()

    @property
    def tolerance(self) -> float:
        return DEFAULTS[self.reason]


def _waiting(*reasons: str) -> Callable[[Object], bool]:
    def shows(pod: Object) -> bool:
        return any(
            status.get("state", {}).get("waiting", {}).get("reason") in reasons
            or (status.get("restartCount", 0) >= 2 and "CrashLoopBackOff" in reasons)
            for status in pod.get("status", {}).get("containerStatuses") or []
        )

    return shows


def _third_try(pod: Object) -> bool:
    """Say whether an init container has failed a third time: two tries are its due."""
    return any(
        status.get("restartCount", 0) >= 2 and "running" not in status.get("state", {})
        for status in pod.get("status", {}).get("initContainerStatuses") or []
    )


def _has_condition(kind: str, status: str, reason: str = "") -> Callable[[Object], bool]:
    def shows(item: Object) -> bool:
        return any(
            condition["type"] == kind
            and condition["status"] == status
            and reason in condition.get("reason", "")
            for condition in item.get("status", {}).get("conditions") or []
        )

    return shows


def _is(reason: str) -> Callable[[Object], bool]:
    return lambda event: event.get("reason") == reason


_EVENTS = "/api/v1/namespaces/{}/events"
_SECRET_KEY = {"name": "missing", "key": "password"}
_QUOTA = {
    "apiVersion": "v1",
    "kind": "ResourceQuota",
    "metadata": {"name": "no-pods"},
    "spec": {"hard": {"pods": "0"}},
}
_RUNTIME = {
    "apiVersion": "node.k8s.io/v1",
    "kind": "RuntimeClass",
    "metadata": {"name": "bench-nobody"},
    "handler": "nobody",
}
_LOOP = {"command": ["false"]}
_NEVER = {"readinessProbe": {"exec": {"command": ["false"]}, "periodSeconds": 1}}
_HUNGRY = {
    "command": ["python3", "-c", "b = bytearray(10**9)\nprint(len(b))"],
    "resources": {"limits": {"memory": "40Mi"}},
}
FAULTS = {
    "missing Secret": Fault(
        "config",
        {"env": [{"name": "A", "valueFrom": {"secretKeyRef": _SECRET_KEY}}]},
        _waiting("CreateContainerConfigError"),
    ),
    "crash loop": Fault("crash_loop", _LOOP, _waiting("CrashLoopBackOff")),
    # Each life is longer than what kubectl and helm look at.
    "unprobed loop of 8 s": Fault(
        "crash_loop",
        {"command": ["sh", "-c", "sleep 8; exit 3"], "readinessProbe": None},
        _waiting("CrashLoopBackOff"),
    ),
    "init container that loops": Fault(
        "crash_loop",
        {},
        _third_try,
        pod={"initContainers": [{"name": "first", "image": "{image}", **_LOOP}]},
    ),
    "memory limit": Fault("oom_killed", _HUNGRY, _waiting("CrashLoopBackOff")),
    "image that is not there": Fault(
        "image_pull",
        {"image": "localhost/no/such:image"},
        _waiting("ErrImagePull", "ImagePullBackOff"),
    ),
    "impossible image name": Fault(
        "image_invalid", {"image": "Not/A//Name::1"}, _waiting("InvalidImageName")
    ),
    "unschedulable": Fault(
        "unschedulable",
        {"resources": {"requests": {"cpu": "1000"}}},
        _has_condition("PodScheduled", "False", "Unschedulable"),
    ),
    "volume that is not there": Fault(
        "volume",
        {},
        _is("FailedMount"),
        _EVENTS,
        pod={"volumes": [{"name": "it", "secret": {"secretName": "missing"}}]},
    ),
    "sandbox that cannot be made": Fault(
        "sandbox",
        {},
        _is("FailedCreatePodSandBox"),
        _EVENTS,
        pod={"runtimeClassName": "bench-nobody"},
        before=(_RUNTIME,),
    ),
    "quota": Fault(
        "quota_or_admission",
        {},
        _has_condition("ReplicaFailure", "True"),
        "/apis/apps/v1/namespaces/{}/replicasets",
        before=(_QUOTA,),
    ),
    "deadline of the rollout": Fault(
        "progress_deadline",
        _NEVER,
        _has_condition("Progressing", "False", "ProgressDeadlineExceeded"),
        "/apis/apps/v1/namespaces/{}/deployments",
        spec={"progressDeadlineSeconds": 15},
    ),
}
QUICK = ("missing Secret", "crash loop", "quota")


class Case:
    """One fault, in a namespace of its own."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.fault = FAULTS[name]
        self.namespace = namespace_of(name)
        self._folder = folder / self.namespace
        # Ours has the tolerance's time too.
        self._cap = int(self.fault.tolerance + CAP)
        self._started: dict[str, tuple[Ended, Observer]] = {}
        for item in self.fault.before:
            kubectl("apply", "-n", self.namespace, "-f", "-", stdin=json.dumps(item))

    def _item(self, who: str) -> Object:
        # An init container runs the image that the others do.
        pod = json.loads(json.dumps(self.fault.pod).replace("{image}", image()))
        item = deployment(NAMES[who], self.namespace, pod, **self.fault.container)
        return {**item, "spec": {**item["spec"], **self.fault.spec}}

    def start(self, who: str) -> None:
        """Make the object that one of them waits for, and let it wait."""
        # Its pods are called after it.
        observer = Observer(
            self.fault.path.format(self.namespace),
            lambda item: (
                f"{item['metadata']['name']}-".startswith(f"{NAMES[who]}-")
                and self.fault.shows(item)
            ),
        )
        process = {
            OURS: self._ours,
            KUBECTL: self._kubectl,
            HELM: self._helm,
            CORE: self._core,
        }[who]()
        self._started[who] = process, observer

    def _ours(self) -> Ended:
        apply(self._item(OURS))
        return rollout(NAMES[OURS], self.namespace, timeout=240)

    def _kubectl(self) -> Ended:
        apply(self._item(KUBECTL))
        what = ["rollout", "status", f"deployment/{NAMES[KUBECTL]}", "-n", self.namespace]
        return Ended(["kubectl", *what, f"--timeout={self._cap}s"])

    def _helm(self) -> Ended:
        (self._folder / "templates").mkdir(parents=True)
        (self._folder / "Chart.yaml").write_text("apiVersion: v2\nname: fault\nversion: 0.1.0\n")
        template = self._folder / "templates/deployment.yaml"
        template.write_text(json.dumps(self._item(HELM)))
        what = ["install", "fault", str(self._folder), "-n", self.namespace]
        return Ended(["helm", *what, "--wait", f"--timeout={self._cap}s"])

    def _core(self) -> Ended:
        arguments = {"definition": self._item(CORE), "wait": True, "wait_timeout": self._cap}
        what = ["-m", "kubernetes.core.k8s", "-a", json.dumps(arguments)]
        return Ended(["ansible", "localhost", *what])

    def past(self, who: str) -> float | None:
        """Return how long past the tolerance it was told (s); None for not within the cap."""
        process, observer = self._started[who]
        code = process.wait()
        # It has lasted for a while by now, or there is another reason.
        try:
            shown = observer.wait(5)
        except BenchError:
            raise BenchError(
                f"{self.name}: {who} ended with {code} before the fault was to be seen: "
                f"{process.words()[-500:]}"
            ) from None
        if code == 0 or process.seconds >= self._cap - 1:
            return None
        if NAMES[who] not in process.words():
            raise BenchError(
                f"{self.name}: {who} ended with {code}, and not because of its object: "
                f"{process.words()[-500:]}"
            )
        return process.at - shown - self.fault.tolerance

    def reason(self) -> str:
        """Return what ours says it was."""
        result = json.loads(self._started[OURS][0].output())
        return str((result.get("failure") or {}).get("reason"))


def namespace_of(name: str) -> str:
    return f"{NAMESPACE}-{'-'.join(name.lower().split())}"


def measure(quick: bool) -> list[Row]:
    """Break the same thing for each of them; ours in turn, while the others wait."""
    chosen = [name for name in FAULTS if name in QUICK or not quick]
    peers = (KUBECTL, HELM, CORE)
    past: list[float] = []
    told: dict[str, list[float | None]] = {}
    right: list[str] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        namespaces(*(namespace_of(name) for name in chosen)),
    ):
        cases = [Case(name, Path(folder)) for name in chosen]
        for case in cases:
            for peer in peers:
                case.start(peer)
        for case in cases:
            case.start(OURS)
            seconds = case.past(OURS)
            if seconds is None:
                raise BenchError(f"{case.name}: ours did not notice it")
            past.append(seconds)
            if case.reason() == case.fault.reason:
                right.append(case.name)
        for case in cases:
            for peer in peers:
                told.setdefault(peer, []).append(case.past(peer))
        kubectl("delete", "runtimeclass", "bench-nobody", "--ignore-not-found")
    rows = [
        Row(
            "failure is certain → module returns, past the tolerance",
            peer,
            "≤ 2 s",
            tuple(past),
            tuple(values),
            max(past) <= 2,
            "s",
            f'{", ".join(chosen)}; "never" means not within {CAP} s past the tolerance.',
        )
        for peer, values in told.items()
    ]
    rows.append(
        Row(
            "… with the right reason",
            "the contract",
            "100 %",
            (100 * len(right) / len(chosen),),
            (),
            len(right) == len(chosen),
            "%",
        )
    )
    return rows
