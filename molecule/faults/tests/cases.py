"""What takes several steps, or more than one object; each case gives the results of its waits."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from ansible_collections.mlops.mlflow.molecule.faults.tests.running import Runner
from ansible_collections.mlops.mlflow.molecule.faults.tests.workloads import (
    REGISTRY_PORT,
    Object,
    deployment,
    job,
    shell,
    stateful_set,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.ownership import FIELD_MANAGER

SLEEP = "exec sleep 600"
LABELS = {"mlops.mlflow/test": "faults"}
FIXTURES = Path(__file__).parents[3] / "tests/unit/plugins/fixtures/custom.yml"
READER = "system:serviceaccount:faults-without-events:reader"


class Expected(NamedTuple):
    """How one wait of a case has to end: ready, or a reason; and what its message says."""

    ending: str
    says: tuple[str, ...] = ()


class Case(NamedTuple):
    """Steps in a namespace of its own, and how its waits have to end, in their order."""

    name: str
    play: Callable[[Runner, str], list[dict[str, Any]]]
    expected: tuple[Expected, ...]

    @property
    def place(self) -> str:
        return f"faults-{self.name}"


def wait(
    runner: Runner, place: str, kind: str = "Deployment", name: str = "app", **more: Any
) -> dict[str, Any]:
    resources = [{"kind": kind, "name": name}]
    return runner.run_module("wait_for_rollout", namespace=place, resources=resources, **more)


def once(*objects: Object, kind: str = "Deployment", **more: Any) -> Any:
    """Return the steps of a case that is applied and waited for."""

    def play(runner: Runner, place: str) -> list[dict[str, Any]]:
        runner.apply(place, list(objects))
        return [wait(runner, place, kind, **more)]

    return play


def eight_seconds(runner: Runner, place: str) -> list[dict[str, Any]]:
    """Begin to wait in the second life of a loop: all that can be seen of it is that it runs."""
    runner.apply(place, [deployment(shell("sleep 8; exit 3"))])
    space = f"--namespace={place}"
    # Which it calls a success, as nothing probes it.
    runner.kubectl("rollout", "status", space, "deployment/app", "--timeout=60s")
    again = "--for=jsonpath={.status.containerStatuses[0].restartCount}=1"
    runner.kubectl("wait", space, "pod", "--all", again, "--timeout=60s")
    return [wait(runner, place, timeout=120)]


# --- A typo in the image of a StatefulSet ---------------------------------------------------------


def typo(runner: Runner, place: str) -> list[dict[str, Any]]:
    """Apply an image that does not exist, then the right one, then clear the way as a release."""
    database: dict[str, Any] = {"kind": "StatefulSet", "name": "postgres", "timeout": 120}

    def apply(container: Object) -> None:
        item = stateful_set(container)
        item["metadata"]["name"] = database["name"]
        # As a release does, which clears the way of its own alone.
        runner.apply(place, [item], manager=FIELD_MANAGER)

    apply(shell(SLEEP) | {"image": f"localhost:{REGISTRY_PORT}/team/mlflow:1"})
    found = [wait(runner, place, **database)]
    apply(shell(SLEEP))
    found.append(wait(runner, place, **database))
    deleted = runner.run_module("release_unblock", namespace=place)
    assert deleted["changed"], deleted
    return [*found, wait(runner, place, **database)]


# --- Containers -----------------------------------------------------------------------------------

# Counts its own starts on a volume that outlives it.
THIRD = "n=$(cat /n/c 2>/dev/null || echo 0); echo $((n + 1)) > /n/c; test $n -ge 2"
COUNTED = [{"name": "n", "mountPath": "/n"}]
THIRD_TIME = deployment(
    shell(SLEEP),
    pod={
        "initContainers": [shell(THIRD, name="prepare", volumeMounts=COUNTED)],
        "volumes": [{"name": "n", "emptyDir": {}}],
    },
)


def job_with_sidecar() -> Object:
    """The main container is not started before the sidecar is up, which it never is."""
    item = job(shell("exit 0"), backoffLimit=6)
    probe = {"exec": {"command": ["true"]}, "initialDelaySeconds": 30}
    sidecar = shell("echo no configuration; exit 3", name="proxy", restartPolicy="Always")
    item["spec"]["template"]["spec"]["initContainers"] = [{**sidecar, "startupProbe": probe}]
    return item


def greedy() -> Object:
    """Writes more than its limit of ephemeral storage, and stays."""
    line = "head -c 50000000 /dev/zero > /tmp/x; exec sleep 600"
    return job(shell(line, resources={"limits": {"ephemeral-storage": "1Mi"}}))


# --- What stands before the containers ------------------------------------------------------------

NO_RUNTIME: Object = {
    "apiVersion": "node.k8s.io/v1",
    "kind": "RuntimeClass",
    "metadata": {"name": "faults-nobody", "labels": LABELS},
    "handler": "nobody",
}


def vap(place: str) -> list[Object]:
    """Return a policy that refuses every pod of a namespace, and its binding."""
    group = "admissionregistration.k8s.io/v1"
    metadata = {"name": place, "labels": LABELS}
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "resources": ["pods"],
        "operations": ["CREATE"],
    }
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": place}}}
    policy = {
        "apiVersion": group,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": metadata,
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": "false", "message": "no pod is good enough"}],
        },
    }
    binding = {
        "apiVersion": group,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": metadata,
        "spec": {"policyName": place, "validationActions": ["Deny"], "matchResources": here},
    }
    return [policy, binding]


def refused(runner: Runner, place: str) -> list[dict[str, Any]]:
    """Wait until the policy is in force, which takes the API server a moment, then apply."""
    runner.apply("", vap(place))
    probe = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "probe", "namespace": place},
        "spec": {"containers": [shell(SLEEP)]},
    }
    for _attempt in range(60):
        arguments = ("create", "--dry-run=server", "-f", "-")
        if "denied" in runner.kubectl(*arguments, stdin=json.dumps(probe), check=False):
            break
        time.sleep(0.5)
    runner.apply(place, [deployment(shell(SLEEP))])
    return [wait(runner, place, timeout=60)]


# --- Custom resources -----------------------------------------------------------------------------


def definition(kind: str, api_version: str) -> Object:
    """Return a definition for a kind by hand: whatever its status says is kept."""
    group, version = api_version.split("/")
    plural = kind.lower() + "s"
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{group}",
            "labels": LABELS,
            "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"},
        },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "x-kubernetes-preserve-unknown-fields": True,
                        }
                    },
                }
            ],
        },
    }


def custom_kinds() -> list[Object]:
    """Return what the unit tests have of each kind that the collection has a rule for."""
    found: list[Object] = yaml.safe_load(FIXTURES.read_text(encoding="utf-8"))
    return found


def custom(entry: Object) -> Callable[[Runner, str], list[dict[str, Any]]]:
    """Return the steps for one kind: made, changed once, ready, and failed."""
    group, kind = entry["api_version"].split("/")[0], entry["kind"]
    thing = f"{kind.lower()}s.{group}/app"

    def play(runner: Runner, place: str) -> list[dict[str, Any]]:
        made = definition(kind, entry["api_version"])
        runner.apply("", [made])
        name = made["metadata"]["name"]
        runner.kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=60s")
        item = {"apiVersion": entry["api_version"], "kind": kind, "metadata": {"name": "app"}}
        item["spec"] = {**copy.deepcopy(entry.get("spec", {})), "touched": 1}
        runner.apply(place, [item])
        # The statuses of the fixtures are of the second generation.
        item["spec"]["touched"] = 2
        runner.apply(place, [item])
        resources = [{"api_version": entry["api_version"], "kind": kind, "name": "app"}]
        found = []
        for state in ("ready", "failed"):
            patch = [{"op": "add", "path": "/status", "value": entry[state]}]
            where = (f"--namespace={place}", "--subresource=status", "--type=json")
            runner.kubectl("patch", thing, *where, f"--patch={json.dumps(patch)}")
            found.append(
                runner.run_module(
                    "wait_for_rollout",
                    namespace=place,
                    resources=resources,
                    timeout=60,
                    tolerances={"progress_deadline": 0},
                )
            )
        return found

    return play


# --- Permissions taken away -----------------------------------------------------------------------


def without_events(runner: Runner, place: str) -> list[dict[str, Any]]:
    """Wait as an account that may see all but events."""
    metadata = {"name": "reader"}
    sees = {"verbs": ["get", "list", "watch"]}
    core = {"apiGroups": [""], "resources": ["pods", "persistentvolumeclaims"], **sees}
    apps = {"apiGroups": ["apps"], "resources": ["deployments", "replicasets"], **sees}
    rbac = "rbac.authorization.k8s.io"
    role = {"kind": "Role", "metadata": metadata, "apiVersion": f"{rbac}/v1"}
    binding = {"kind": "RoleBinding", "metadata": metadata, "apiVersion": f"{rbac}/v1"}
    subject = {"kind": "ServiceAccount", "name": "reader", "namespace": place}
    runner.apply(
        place,
        [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
            {**role, "rules": [core, apps]},
            {
                **binding,
                "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "reader"},
                "subjects": [subject],
            },
            deployment(shell("echo the moon; exit 3")),
        ],
    )
    return [wait(runner, place, impersonate_user=READER)]


CASES = [
    Case("sandbox", once(NO_RUNTIME, deployment(shell(SLEEP), pod={
        "runtimeClassName": "faults-nobody"})), (Expected("sandbox", ("nobody",)),)),
    Case("evicted", once(greedy(), kind="Job", timeout=180),
         (Expected("job_failed", ("ephemeral",)),)),
    Case("init-third-time", once(THIRD_TIME, timeout=120), (Expected("ready"),)),
    Case("job-sidecar-loops", once(job_with_sidecar(), kind="Job", timeout=120),
         (Expected("crash_loop", ("proxy",)),)),
    Case("typo", typo, (
        Expected("image_pull", ("not found",)),
        Expected("blocked", ("is of an older revision", "delete pod postgres-0")),
        Expected("ready"))),
    Case("eight-seconds", eight_seconds, (Expected("crash_loop", ("exit code 3",)),)),
    Case("policy", refused, (Expected("quota_or_admission", ("good enough", "Correct the pod")),)),
    Case("scheduling-gate", once(deployment(shell(SLEEP), pod={
        "schedulingGates": [{"name": "example.com/queue"}]}), timeout=15),
        (Expected("timeout", ("scheduling gate", "example.com/queue")),)),
    Case("readiness-gate", once(deployment(shell(SLEEP), pod={
        "readinessGates": [{"conditionType": "example.com/in-service"}]}), timeout=25),
        (Expected("timeout", ("readiness gate", "example.com/in-service")),)),
    Case("without-events", without_events, (Expected("crash_loop", ("may not list events",)),)),
    *(
        Case(
            f"custom-{entry['kind'].lower()}-{entry['api_version'].split('.')[0]}",
            custom(entry),
            (
                Expected("ready"),
                Expected(entry.get("reason", "progress_deadline"), (entry["says"],)),
            ),
        )
        for entry in custom_kinds()
    ),
]  # fmt: skip
