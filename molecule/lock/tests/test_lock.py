"""One run at a time works on a release; whatever becomes of it, the next finds all in order.

By itself on a cluster that is there, in a namespace of its own:
KIND_CLUSTER_NAME=mlflow MLFLOW_TEST_NAMESPACE=lock-test pytest molecule/lock
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
NAMESPACE = os.environ.get("MLFLOW_TEST_NAMESPACE", "mlflow-development")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlops-mlflow"
LEASE = "mlflow-release"
NOTE = "mlops.mlflow/replicas"
TTL = 30
STAYING = "a-server-that-stays"
# What the clocks of several API servers may differ by; see plugins/module_utils/_release/lock.py.
ALLOWANCE = 5

Kubectl = Callable[..., str]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts site.yml without waiting for it."""
    started: list[subprocess.Popen[str]] = []
    kubeconfig = CACHE / "clusters" / os.environ["KIND_CLUSTER_NAME"] / "kubeconfig"
    # In a namespace of its own, the overlay's node port is another release's.
    variables = {"mlflow_namespace": NAMESPACE, "mlflow_service": {"type": "ClusterIP"}}
    own = [f"--extra-vars={json.dumps(variables)}"]

    def call(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [
                "ansible-playbook",
                f"--inventory={ROOT}/inventories/development",
                f"--inventory={ROOT}/molecule/inventory",
                str(ROOT / "site.yml"),
                *(own if "MLFLOW_TEST_NAMESPACE" in os.environ else []),
                *arguments,
            ],
            cwd=ROOT,
            env={
                **os.environ,
                "KUBECONFIG": str(kubeconfig),
                "PATH": f"{CACHE / 'bin'}:{os.environ['PATH']}",
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_NOCOLOR": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield call
    for process in started:
        # Also a worker of Ansible's that outlived the ansible-playbook that was killed.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def refusing(kubectl: Kubectl) -> Iterator[Callable[[str, str], None]]:
    """Makes the API server refuse Deployments of the release that do not meet an expression."""
    name = f"{NAMESPACE}-refusing"
    group = "admissionregistration.k8s.io/v1"

    def call(expression: str, message: str) -> None:
        rule = {
            "apiGroups": ["apps"],
            "apiVersions": ["v1"],
            "operations": ["CREATE", "UPDATE"],
            "resources": ["deployments"],
        }
        policy = {
            "apiVersion": group,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [rule]},
                "validations": [{"expression": expression, "message": message}],
            },
        }
        chosen = {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}}
        binding = {
            "apiVersion": group,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {
                "policyName": name,
                "validationActions": ["Deny"],
                "matchResources": {"namespaceSelector": chosen},
            },
        }
        both = {"apiVersion": "v1", "kind": "List", "items": [policy, binding]}
        kubectl("apply", "--filename=-", stdin=json.dumps(both))

    yield call
    for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
        kubectl("delete", kind, name, "--ignore-not-found")


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for a run; return its code, and its output as one line."""
    output, _none = process.communicate(timeout=300)
    return process.returncode, " ".join(output.split())


def changed(output: str) -> int:
    found = re.search(r"changed=(\d+)", output)
    assert found, output
    return int(found[1])


def found(kubectl: Kubectl, kind: str, name: str) -> dict[str, Any] | None:
    text = kubectl(
        "get", kind, name, f"--namespace={NAMESPACE}", "--ignore-not-found", "--output=json"
    )
    return json.loads(text) if text else None


def holder(kubectl: Kubectl) -> str:
    lease = found(kubectl, "lease", LEASE)
    return str(lease["spec"]["holderIdentity"]) if lease else ""


def service(kubectl: Kubectl) -> tuple[int, str | None]:
    """Replicas of the server, and what is noted on it."""
    item = found(kubectl, "deployment", "mlflow")
    assert item
    return item["spec"]["replicas"], item["metadata"]["annotations"].get(NOTE)


def until(what: str, condition: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, f"it ended before {what}: {ended(process)}"
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.2)


def delete_migration(kubectl: Kubectl) -> None:
    """Make a migration due: the Job of this render is not there."""
    label = "--selector=app.kubernetes.io/component=migration"
    kubectl("delete", "job", label, f"--namespace={NAMESPACE}", "--timeout=60s")


def test_one_of_two_runs_works_and_the_other_fails_or_waits(kubectl: Kubectl, start: Start) -> None:
    change = '--extra-vars={"mlflow_config": {"MLFLOW_HTTP_REQUEST_TIMEOUT": "101"}}'
    dead = holder(kubectl)
    first = start(change)
    until("the lock is held", lambda: holder(kubectl) not in ("", dead), first)
    name = holder(kubectl)
    waiting = start(change, "--extra-vars=mlflow_lock_wait=240")
    hasty = start("--extra-vars=mlflow_lock_wait=0")

    code, output = ended(hasty)
    assert code != 0
    assert f"another run holds the release lock of namespace {NAMESPACE}: {name}" in output
    assert f"kubectl -n {NAMESPACE} delete lease {LEASE}" in output
    assert changed(output) == 0

    code, output = ended(first)
    assert code == 0, output
    assert changed(output) > 0
    code, output = ended(waiting)
    assert code == 0, output
    assert f"release lock held by {name}" in output
    # It compared only when it had the lock: the same change was there by then.
    assert changed(output) == 0
    assert holder(kubectl) == ""


def test_a_killed_runs_lock_ends_and_the_next_brings_the_server_back(
    kubectl: Kubectl, start: Start
) -> None:
    replicas, _note = service(kubectl)
    delete_migration(kubectl)
    offline = "--extra-vars=mlflow_migration_strategy=offline"
    dead = start(offline, f"--extra-vars=mlflow_lock_ttl={TTL}")
    until("the server is out of service", lambda: service(kubectl)[0] == 0, dead)
    dead.send_signal(signal.SIGKILL)
    dead.wait()
    killed = time.monotonic()
    assert service(kubectl) == (0, str(replicas))
    name = holder(kubectl)
    assert name

    following = start("--extra-vars=mlflow_lock_wait=120")
    until("the lock is taken over", lambda: holder(kubectl) not in ("", name), following)
    taken = time.monotonic() - killed
    print(f"a lock of {TTL} s was taken over {taken:.1f} s after its holder was killed")
    code, output = ended(following)
    assert code == 0, output
    # A look at the Lease takes some time on a busy machine.
    assert taken < TTL + ALLOWANCE + 10
    assert service(kubectl) == (replicas, None)
    assert holder(kubectl) == ""


def test_an_offline_migration_brings_the_server_back(kubectl: Kubectl, start: Start) -> None:
    replicas, _note = service(kubectl)
    delete_migration(kubectl)
    run = start("--extra-vars=mlflow_migration_strategy=offline")
    until("the server is out of service", lambda: service(kubectl)[0] == 0, run)
    code, output = ended(run)
    assert code == 0, output
    assert service(kubectl) == (replicas, None)


def test_an_offline_migration_that_fails_brings_the_old_version_back(
    kubectl: Kubectl, start: Start, tmp_path: Path
) -> None:
    replicas, _note = service(kubectl)
    before = found(kubectl, "deployment", "mlflow")
    assert before
    # An overlay of one's own, whose migration refuses as one of a schema it does not know does.
    base = os.path.relpath(ROOT / "kustomize/overlays/development", tmp_path.resolve())
    command = {"op": "replace", "path": "/spec/template/spec/containers/0/command"}
    patch = json.dumps([{**command, "value": ["sh", "-c", "echo no way on; exit 3"]}])
    (tmp_path / "kustomization.yml").write_text(
        json.dumps(
            {
                "resources": [base],
                "patches": [
                    {"target": {"kind": "Job", "name": "mlflow-migration"}, "patch": patch}
                ],
            }
        )
    )
    run = start(
        f"--extra-vars=mlflow_overlay={tmp_path}",
        "--extra-vars=mlflow_migration_strategy=offline",
    )
    until("the server is out of service", lambda: service(kubectl)[0] == 0, run)
    code, output = ended(run)
    assert code != 0
    assert "The migration failed. The old version still serves." in output, output
    assert service(kubectl) == (replicas, None)
    after = found(kubectl, "deployment", "mlflow")
    assert after
    assert after["spec"]["template"] == before["spec"]["template"]
    assert after["status"]["availableReplicas"] == replicas
    assert holder(kubectl) == ""


def test_the_old_version_comes_back_when_the_new_one_is_refused(
    kubectl: Kubectl, start: Start, refusing: Callable[[str, str], None]
) -> None:
    replicas, _note = service(kubectl)
    before = found(kubectl, "deployment", "mlflow")
    assert before
    delete_migration(kubectl)
    run = start(
        '--extra-vars={"mlflow_config": {"MLFLOW_HTTP_REQUEST_TIMEOUT": "102"}}',
        "--extra-vars=mlflow_migration_strategy=offline",
    )
    until("the server is out of service", lambda: service(kubectl)[0] == 0, run)
    # From here on, after everything was checked and while the migration runs, what starts a server
    # with another configuration is refused. What serves now has its own, and may come back.
    now = before["spec"]["template"]["spec"]["containers"][0]["envFrom"][0]["configMapRef"]["name"]
    refusing(
        "!has(object.spec.template.spec.containers[0].envFrom) ||"
        " object.spec.template.spec.containers[0].envFrom[0].configMapRef.name"
        f" == '{now}'",
        "not on a Friday",
    )
    code, output = ended(run)
    assert code != 0
    assert "not on a Friday" in output, output
    assert "The old version still serves." in output, output
    assert service(kubectl) == (replicas, None)
    after = found(kubectl, "deployment", "mlflow")
    assert after
    assert after["spec"]["template"] == before["spec"]["template"]
    assert holder(kubectl) == ""


def test_a_pod_that_stays_stops_the_migration_and_the_server_comes_back(
    kubectl: Kubectl, start: Start
) -> None:
    replicas, _note = service(kubectl)
    delete_migration(kubectl)
    before = found(kubectl, "deployment", "mlflow")
    assert before
    # As a server on a node that does not answer: it runs on, for all one knows.
    pod = before["spec"]["template"]["spec"]
    container = {
        "name": "main",
        "image": pod["containers"][0]["image"],
        "command": ["sleep", "600"],
        "securityContext": pod["containers"][0]["securityContext"],
        "readinessProbe": {"exec": {"command": ["false"]}},
    }
    staying = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": STAYING, "labels": before["spec"]["selector"]["matchLabels"]},
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": pod["securityContext"],
            "containers": [container],
        },
    }
    where = f"--namespace={NAMESPACE}"
    kubectl("apply", where, "--filename=-", stdin=json.dumps(staying))
    try:
        run = start("--extra-vars=mlflow_migration_strategy=offline")
        code, output = ended(run)
    finally:
        kubectl("delete", "pod", STAYING, where, "--grace-period=1", "--ignore-not-found")
    assert code != 0
    # It is named, and nothing was migrated beside a server that may still write.
    assert f"these pods are still there: {STAYING}" in output, output
    assert "The old version still serves." in output, output
    job = "--selector=app.kubernetes.io/component=migration"
    assert not kubectl("get", "jobs", job, where, "--output=name").strip()
    assert service(kubectl) == (replicas, None)
    assert holder(kubectl) == ""
