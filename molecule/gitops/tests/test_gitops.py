"""A release from Git: what render.yml writes comes up by kubectl alone, folder by folder."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.mlops.mlflow.molecule.conftest import Kubectl

NAMESPACE = "mlflow-gitops"
OLD, NEW = "3.16.1", "3.17.2"
HEADS = {OLD: "b7e2c1a4d9f3", NEW: "dc11669786a5"}
IMAGE = "localhost/mlops-mlflow/mlflow"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, kubectl: Kubectl) -> Iterator[Path]:
    """A folder in Git, and the Secret that is in none."""
    made = tmp_path_factory.mktemp("git") / "mlflow"
    kubectl("create", "namespace", NAMESPACE)
    values = {
        "database-username": "mlflow",
        **{
            key: secrets.token_hex(24)
            for key in ("database-password", "flask-secret-key", "kek-passphrase")
        },
        "webhook-encryption-key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    }
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "mlflow-credentials"},
        "stringData": values,
    }
    kubectl("create", f"--namespace={NAMESPACE}", "--filename=-", stdin=json.dumps(secret))
    yield made
    kubectl("delete", "namespace", NAMESPACE, "--timeout=180s")


def render(site: Callable[..., Any], folder: Path, version: str) -> int:
    """Write a version's files; return how many tasks changed something."""
    settings = {
        "render_to": str(folder),
        "mlflow_namespace": NAMESPACE,
        "mlflow_image": f"{IMAGE}:{version}",
        "mlflow_postgres_image": "localhost/mlops-mlflow/postgres:17",
        "mlflow_resources": {"requests": {"cpu": "50m"}},
    }
    run = site(
        f"--extra-vars={json.dumps(settings)}", inventory="staging", playbook="playbooks/render.yml"
    )
    assert run.code == 0, run.output
    assert "mlflow-credentials" in run.output
    changed: int = run.changed
    return changed


def apply(kubectl: Kubectl, folder: Path) -> str:
    """Apply each stage as Flux does: the next one when the one before is healthy."""
    said = ""
    for item in yaml.safe_load_all((folder / "flux.yml").read_text(encoding="utf-8")):
        stage = item["spec"]["path"].rpartition("/")[2]
        said += kubectl("apply", "--server-side", "--kustomize", str(folder / stage))
        for check in item["spec"].get("healthChecks", []):
            where = (f"--namespace={NAMESPACE}", "--timeout=280s")
            name = f"{check['kind'].lower()}/{check['name']}"
            if check["kind"] == "Job":
                kubectl("wait", name, "--for=condition=Complete", *where)
            else:
                kubectl("rollout", "status", name, *where)
    return said


def head(kubectl: Kubectl) -> str:
    return kubectl(
        "exec", "postgres-0", f"--namespace={NAMESPACE}", "--", "psql", "-XAt",
        "--username=postgres", "--dbname=mlflow",
        "--command=SELECT version_num FROM alembic_version",
    ).strip()  # fmt: skip


def objects(kubectl: Kubectl) -> dict[str, str]:
    """Return what is there, with the version of what was asked for of it."""
    kinds = "deployments,statefulsets,jobs,services,persistentvolumeclaims"
    found = json.loads(kubectl("get", kinds, f"--namespace={NAMESPACE}", "--output=json"))["items"]
    return {
        f"{o['kind']}/{o['metadata']['name']}": f"{o['metadata']['uid']} "
        f"{o['metadata'].get('generation')}"
        for o in found
    }


def test_it_comes_up_and_a_second_time_changes_nothing(
    site: Callable[..., Any], kubectl: Kubectl, folder: Path
) -> None:
    assert render(site, folder, OLD) == 1
    apply(kubectl, folder)
    assert head(kubectl) == HEADS[OLD]
    before = objects(kubectl)
    assert render(site, folder, OLD) == 0
    apply(kubectl, folder)
    assert objects(kubectl) == before


def test_an_upgrade_is_a_commit(site: Callable[..., Any], kubectl: Kubectl, folder: Path) -> None:
    before = objects(kubectl)
    assert render(site, folder, NEW) == 1
    apply(kubectl, folder)
    assert head(kubectl) == HEADS[NEW]
    # Nobody deleted a Job: there are others.
    jobs = {name for name in objects(kubectl) if name.startswith("Job/")}
    assert len(jobs - set(before)) == 2
