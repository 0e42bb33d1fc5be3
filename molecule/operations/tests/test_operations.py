"""Status, plan and teardown of a release: what they say is so, and what they keep is kept.

The tests build on each other, in this order. By itself on a cluster that is there:
KIND_CLUSTER_NAME=mlflow MLFLOW_TEST_NAMESPACE=operations-test pytest molecule/operations
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.molecule.conftest import Run, run_playbook
from ansible_collections.mlops.mlflow.plugins.plugin_utils._release.plan import HEADS

NAMESPACE = os.environ.get("MLFLOW_TEST_NAMESPACE", "mlflow-operations")
VERSION = "3.17.2"
SETTINGS = {
    "mlflow_namespace": NAMESPACE,
    "mlflow_replicas": 1,
    "mlflow_image": f"localhost/mlops-mlflow/mlflow:{VERSION}",
    "mlflow_postgres_image": "localhost/mlops-mlflow/postgres:17",
    "mlflow_tolerances": {"unschedulable": 600},
}
KINDS = (
    "deployments,statefulsets,jobs,cronjobs,pods,services,configmaps,secrets,serviceaccounts,"
    "persistentvolumeclaims,poddisruptionbudgets"
)
KEPT = {
    "PersistentVolumeClaim/data-postgres-0",
    "PersistentVolumeClaim/mlflow-artifacts",
    "PersistentVolumeClaim/mlflow-backups",
    "Secret/mlflow-credentials",
}

Kubectl = Callable[..., str]


def play(playbook: str, *options: str, **changes: Any) -> Run:
    settings = json.dumps({**SETTINGS, **changes})
    return run_playbook(playbook, f"--extra-vars={settings}", *options, inventory="staging")


def good(playbook: str, *options: str, **changes: Any) -> str:
    done = play(playbook, *options, **changes)
    assert done.code == 0, done.output
    return done.output


def told(playbook: str, variable: str, folder: Path, **changes: Any) -> dict[str, Any]:
    """Run what only asks; return what it wrote to a file."""
    file = folder / "told.json"
    output = good(playbook, **{variable: str(file)}, **changes)
    assert "changed=0" in output, output
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def plan(folder: Path, **changes: Any) -> dict[str, Any]:
    return told("playbooks/plan.yml", "plan_file", folder, **changes)


def status(folder: Path, **changes: Any) -> dict[str, Any]:
    return told("playbooks/status.yml", "status_file", folder, **changes)


def there(kubectl: Kubectl) -> dict[str, str]:
    """Return the release's objects and the version of each."""
    listed = json.loads(kubectl("get", KINDS, f"--namespace={NAMESPACE}", "--output=json"))
    return {
        f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
        for item in listed["items"]
        if (item["metadata"].get("labels") or {}).get("app.kubernetes.io/part-of") == "mlflow"
    }


def namespaces(kubectl: Kubectl) -> set[str]:
    return set(kubectl("get", "namespaces", "--output=name").split())


def psql(kubectl: Kubectl, statement: str) -> str:
    return kubectl(
        "exec", "postgres-0", f"--namespace={NAMESPACE}", "--",
        "psql", "-XAt", "--username=mlflow", "--dbname=mlflow", f"--command={statement}",
    ).strip()  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left(kubectl: Kubectl) -> Iterator[None]:
    yield
    if "MLFLOW_TEST_KEEP" not in os.environ:
        kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false")


def test_before_the_first_deployment(kubectl: Kubectl, tmp_path: Path) -> None:
    found = plan(tmp_path)
    assert {name.split("/")[0] for name in found["add"]} >= {"Namespace", "Deployment", "Secret"}
    assert status(tmp_path)["status"] == "empty"
    assert f"namespace/{NAMESPACE}" not in namespaces(kubectl)
    good("site.yml")
    # What was planned is there, and nothing else but what controllers made, and notes of the run.
    made = {
        name
        for name in there(kubectl)
        if not name.startswith(("Pod/", "PersistentVolumeClaim/data-", "ConfigMap/mlflow-releases"))
    }
    assert made == set(found["add"]) - {f"Namespace/{NAMESPACE}"}


def test_nothing_to_do(kubectl: Kubectl, tmp_path: Path) -> None:
    before = there(kubectl)
    found = plan(tmp_path)
    assert found["nothing_to_do"], found
    assert found["downtime"]["expected"] == "none"
    assert "changed=0" in good("site.yml")
    assert there(kubectl) == before


def test_another_image(kubectl: Kubectl, tmp_path: Path) -> None:
    before = there(kubectl)
    newer = plan(tmp_path, mlflow_image="localhost/mlops-mlflow/mlflow:99.1.0")
    assert newer["schema"]["moves"]
    assert newer["schema"]["from"] == HEADS[VERSION]
    assert newer["schema"]["words"].startswith(f"{HEADS[VERSION]} → the head of localhost/")
    assert newer["versions"]["from"] == VERSION
    assert newer["restart"] == ["Deployment/mlflow"]
    assert "Deployment/mlflow" in newer["change"]
    assert newer["downtime"]["expected"] == "rolling"
    # Whether 99.1.0 is MLflow's version only the image knows: its tag may be anything.
    assert any(name.startswith("Job/mlflow-migration-") for name in newer["add"])
    assert any(
        name.startswith(f"Job/mlflow-migration-{VERSION.replace('.', '-')}-")
        for name in newer["remove"]
    )
    offline = {"mlflow_migration_strategy": "offline"}
    older = plan(tmp_path, mlflow_image="localhost/mlops-mlflow/mlflow:3.16.1", **offline)
    assert older["downtime"]["expected"] == "offline"
    assert "cannot go back" in older["schema"]["words"]
    assert there(kubectl) == before


def test_the_status_of_a_good_release(kubectl: Kubectl, tmp_path: Path) -> None:
    before = there(kubectl)
    found = status(tmp_path)
    assert found["status"] == "ready", found["msg"]
    assert found["mlflow"]["version"] == VERSION
    assert found["postgres"]["version"].startswith("17.")
    tracking = {
        "state": "at_head",
        "current": HEADS[VERSION],
        "head": HEADS[VERSION],
        "differences": [],
    }
    assert found["schema"]["tracking"] == tracking
    assert {pod["component"] for pod in found["pods"]} == {"database", "server"}
    assert [secret["name"] for secret in found["secrets"]] == ["mlflow-credentials"]
    last = found["last_release"]
    assert (last["number"], last["version"], last["proof"]) == (1, VERSION, "smoke test")
    assert last["backup"] is None
    assert found["drift"] == {"known": True, "changes": [], "prune": [], "msg": ""}
    assert found["lock"] is None
    assert found["notes"] == []
    assert there(kubectl) == before


def test_a_backup_is_no_drift(kubectl: Kubectl, tmp_path: Path) -> None:
    good("playbooks/backup.yml", mlflow_backup_test=False)
    assert backups_config(kubectl)
    found = status(tmp_path)
    assert found["backup"]["count"] == 1
    assert found["drift"] == {"known": True, "changes": [], "prune": [], "msg": ""}
    # Nothing of it is a change of the release, whether it stays or goes.
    assert "changed=0" in good("site.yml")
    assert not backups_config(kubectl)


def backups_config(kubectl: Kubectl) -> list[str]:
    return [name for name in there(kubectl) if name.startswith("ConfigMap/mlflow-backup-")]


def test_the_status_of_a_broken_release(kubectl: Kubectl, tmp_path: Path) -> None:
    here = f"--namespace={NAMESPACE}"
    kubectl("set", "image", "deployment/mlflow", "mlflow=localhost/nothing:1", here)
    kubectl("scale", "statefulset/postgres", "--replicas=0", here)
    kubectl("wait", "pod/postgres-0", "--for=delete", "--timeout=150s", here)
    found = status(tmp_path)
    assert found["status"] in ("failed", "progressing"), found
    assert found["mlflow"]["image"] == "localhost/nothing:1"
    assert {"update Deployment/mlflow", "update StatefulSet/postgres"} <= set(
        found["drift"]["changes"]
    )
    # Also where the inventory has become one that cannot be rendered.
    unknown = status(tmp_path, mlflow_ingress_class="somebody")["drift"]
    assert not unknown["known"]
    assert "mlflow_ingress_class" in unknown["msg"]
    good("site.yml")


def test_a_teardown_is_confirmed(kubectl: Kubectl) -> None:
    before = there(kubectl)
    for changes, words in (
        ({}, f"teardown_confirm: must be {NAMESPACE}"),
        ({"teardown_confirm": "mlflow-production"}, "not mlflow-production"),
        (
            {"teardown_confirm": NAMESPACE, "teardown_delete": ["Secret/mlflow-credentials"]},
            "opens what is kept",
        ),
    ):
        done = play("playbooks/teardown.yml", **changes)
        assert done.code != 0, done.output
        assert words in " ".join(done.output.split()), done.output
    good("playbooks/teardown.yml", "--check", teardown_confirm=NAMESPACE)
    assert there(kubectl) == before


def test_the_data_and_their_password_stay(kubectl: Kubectl) -> None:
    psql(kubectl, "INSERT INTO experiment_tags VALUES ('kept', 'yes', 0)")
    here = f"--namespace={NAMESPACE}"
    secret = json.loads(kubectl("get", "secret", "mlflow-credentials", here, "--output=json"))
    label = "app.kubernetes.io/part-of=mlflow"
    kubectl("create", "configmap", "theirs", here)
    kubectl("label", "configmap", "theirs", label, here)

    output = good("playbooks/teardown.yml", teardown_confirm=NAMESPACE)
    # All of it is gone when it says so, but for what was to stay and what is not the release's.
    assert set(there(kubectl)) == KEPT | {"ConfigMap/theirs"}
    assert "Left alone, applied by others: ConfigMap/theirs" in " ".join(output.split())
    for value in secret["data"].values():
        assert base64.b64decode(value).decode() not in output.split()
    assert kubectl("get", "leases", here, "--output=name") == ""

    output = good("playbooks/teardown.yml", teardown_confirm=NAMESPACE)
    assert "changed=0" in output
    assert set(there(kubectl)) == KEPT | {"ConfigMap/theirs"}

    good("site.yml")
    again = json.loads(kubectl("get", "secret", "mlflow-credentials", here, "--output=json"))
    assert again["metadata"]["uid"] == secret["metadata"]["uid"]
    assert again["data"] == secret["data"]
    assert psql(kubectl, "SELECT value FROM experiment_tags WHERE key = 'kept'") == "yes"
    assert "changed=0" in good("site.yml")


def test_all_of_it_goes_when_it_is_named(kubectl: Kubectl) -> None:
    everything = [*sorted(KEPT), f"Namespace/{NAMESPACE}"]
    named = {"teardown_confirm": NAMESPACE, "teardown_delete": everything}
    before = there(kubectl)
    done = play("playbooks/teardown.yml", **named)
    assert done.code != 0, done.output
    assert "holds more than this release: ConfigMap/theirs" in " ".join(done.output.split())
    assert there(kubectl) == before
    kubectl("delete", "configmap", "theirs", f"--namespace={NAMESPACE}")
    good("playbooks/teardown.yml", **named)
    assert f"namespace/{NAMESPACE}" not in namespaces(kubectl)
    assert "changed=0" in good("playbooks/teardown.yml", **named)
