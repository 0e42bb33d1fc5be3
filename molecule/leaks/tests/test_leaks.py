"""Known secrets, every playbook, runs that succeed and runs that fail at every stage: none leaks.

By itself on a cluster that is there:
KIND_CLUSTER_NAME=mlflow MLFLOW_TEST_NAMESPACE=leaks-test pytest molecule/leaks
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ansible_collections.mlops.mlflow.molecule.leaks.tests.hunt import (
    NAMESPACE,
    ROOT,
    Hunt,
    canary,
    kubectl,
    secret_variables,
)

EXISTING = "existing"
SITE = str(ROOT / "site.yml")


class Run(NamedTuple):
    """One run of a playbook."""

    changes: dict[str, Any]
    succeeds: bool = True


# Every playbook, and its runs; a new one has to be added here. None: it has nothing to do with a
# release's secrets, and why.
PLAYBOOKS: dict[str, list[Run] | None] = {
    "site.yml": [Run({}), Run({"mlflow_config": {"MLFLOW_HTTP_REQUEST_TIMEOUT": 101}})],
    "backup.yml": [Run({})],
    "restore.yml": [Run({"mlflow_backup": "latest"})],
    # From what restore.yml has released, without the configuration, to the one before.
    "rollback.yml": [Run({})],
    "diagnose.yml": [Run({})],
    "status.yml": [Run({})],
    "plan.yml": [Run({})],
    "rotate.yml": [Run({}), Run({"rotate_secrets": ["database-password"]})],
    "teardown.yml": [Run({"teardown_confirm": NAMESPACE})],
    # A port where nobody listens: it must not write to an inventory of the repository.
    "pin.yml": [Run({"mlflow_image": "127.0.0.1:9/mlflow:3.17.2"}, succeeds=False)],
    # Talks to AWX, and knows a token for a cluster, which tests/ship/test_awx.py looks for.
    "awx.yml": None,
}


@pytest.fixture(scope="module")
def hunt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hunt]:
    """A namespace with a Secret that others made, and canaries for all the rest."""
    canaries = {name: canary(name) for name in secret_variables()}
    canaries[EXISTING] = canary(EXISTING)
    folder = tmp_path_factory.mktemp("hunt")
    kubectl("create", "namespace", NAMESPACE)
    kubectl("label", "namespace", NAMESPACE, "app.kubernetes.io/part-of=mlflow")
    value = folder / "value"
    value.write_text(canaries[EXISTING])
    kubectl(
        "create", "secret", "generic", "theirs", f"--namespace={NAMESPACE}",
        f"--from-file=key={value}",
    )  # fmt: skip
    value.unlink()
    settings = {
        **{name: value for name, value in canaries.items() if name != EXISTING},
        "mlflow_namespace": NAMESPACE,
        "mlflow_components": ["auth"],
        "mlflow_replicas": 1,
        "mlflow_image": "localhost/mlops-mlflow/mlflow:3.17.2",
        "mlflow_postgres_image": "localhost/mlops-mlflow/postgres:17",
        "mlflow_secrets": {"kek-passphrase": {"secret": "theirs", "key": "key"}},
        # Each value has one source: this one's is the Secret that others made.
        "mlflow_kek_passphrase": "",
    }
    yield Hunt(folder, canaries, settings)
    if "MLFLOW_TEST_KEEP" not in os.environ:
        kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def overlay(folder: Path, **parts: Any) -> str:
    """Write an overlay of one's own on top of staging; return its path."""
    folder.mkdir()
    base = os.path.relpath(ROOT / "kustomize/overlays/staging", folder.resolve())
    document = {**parts, "resources": [base, *parts.get("resources", [])]}
    (folder / "kustomization.yml").write_text(json.dumps(document))
    return str(folder)


def container_says(kind: str, name: str, container: str, line: str) -> dict[str, Any]:
    """Patch a workload so that a container runs a shell line instead."""
    template = {"spec": {"containers": [{"name": container, "command": ["sh", "-c", line]}]}}
    head = {"apiVersion": "batch/v1" if kind == "Job" else "apps/v1", "kind": kind}
    patch = {**head, "metadata": {"name": name}, "spec": {"template": template}}
    return {"patches": [{"patch": json.dumps(patch)}]}


def test_every_playbook_is_hunted() -> None:
    assert set(PLAYBOOKS) == {path.name for path in (ROOT / "playbooks").glob("*.yml")}


def test_the_hunt_finds_what_leaks(hunt: Hunt) -> None:
    outcome = hunt.run(
        str(ROOT / "molecule/leaks/control.yml"),
        {"mlflow_kek_passphrase": hunt.canaries["mlflow_kek_passphrase"]},
    )
    assert outcome.code == 0, outcome.output
    hits = set(outcome.hits) | set(hunt.cluster())
    kubectl("delete", "configmap", "leak", f"--namespace={NAMESPACE}")
    missed = {
        hit
        for hit in (
            "output: mlflow_database_password",
            "output: mlflow_kek_passphrase",
            "file ansible.log: mlflow_database_password",
            "file results.jsonl: mlflow_database_password",
            "arguments of sh: mlflow_admin_password",
            "file left-behind: mlflow_flask_secret_key",
            "configmaps: mlflow_webhook_encryption_key",
        )
        if hit not in hits
    }
    assert not missed, (missed, hits)
    junit = [hit for hit in hits if hit.startswith("file junit/")]
    assert junit


# --- Runs that fail before anything is there ------------------------------------------------------


def _wrong_types(hunt: Hunt, folder: Path) -> dict[str, Any]:
    return {name: [hunt.canaries[name]] for name in secret_variables()}


def _wrong_values(hunt: Hunt, folder: Path) -> dict[str, Any]:
    return {name: f"{hunt.canaries[name]}\n" for name in secret_variables()}


def _bad_template(hunt: Hunt, folder: Path) -> dict[str, Any]:
    return {name: f"{{{{ '{hunt.canaries[name]}' | nothing }}}}" for name in secret_variables()}


def _value_as_a_source(hunt: Hunt, folder: Path) -> dict[str, Any]:
    values = hunt.canaries["mlflow_database_password"], hunt.canaries["mlflow_kek_passphrase"]
    return {
        "mlflow_secrets": {
            "database-password": {"secret": values[0].upper()},
            "kek-passphrase": values[1],
        }
    }


def _broken_overlay(hunt: Hunt, folder: Path) -> dict[str, Any]:
    path = overlay(folder / "overlay", resources=["secret.yml"])
    text = f"kind: Secret\nstringData:\n  a: {hunt.canaries['mlflow_database_password']}: : {{\n"
    (folder / "overlay/secret.yml").write_text(text)
    return {"mlflow_overlay": path}


def _malformed_definition(hunt: Hunt, folder: Path) -> dict[str, Any]:
    path = overlay(folder / "overlay", resources=["secret.yml"])
    value = hunt.canaries["mlflow_database_password"]
    document = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "odd"},
        "data": {"not base64": value, "twice": {"nested": value}},
    }
    (folder / "overlay/secret.yml").write_text(json.dumps(document))
    return {"mlflow_overlay": path}


def _refused_by_the_api_server(hunt: Hunt, folder: Path) -> dict[str, Any]:
    path = overlay(folder / "overlay", resources=["secret.yml"])
    value = base64.b64encode(hunt.canaries["mlflow_database_password"].encode()).decode()
    document = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": "odd"},
        "data": {".dockerconfigjson": value},
    }
    (folder / "overlay/secret.yml").write_text(json.dumps(document))
    return {"mlflow_overlay": path}


def _immutable(hunt: Hunt, folder: Path) -> dict[str, Any]:
    return {"mlflow_secrets": {"kek-passphrase": {"secret": "theirs", "key": "no-such-key"}}}


EARLY = {
    "wrong types": _wrong_types,
    "wrong values": _wrong_values,
    "templates that cannot be evaluated": _bad_template,
    "a value where its place belongs": _value_as_a_source,
    "a key that is not there": _immutable,
    "an overlay that cannot be built": _broken_overlay,
    "a Secret that is malformed": _malformed_definition,
    "a Secret that the API server refuses": _refused_by_the_api_server,
}


@pytest.mark.parametrize("case", EARLY)
def test_a_run_that_fails_early_says_no_secret(case: str, hunt: Hunt, tmp_path: Path) -> None:
    outcome = hunt.run(SITE, EARLY[case](hunt, tmp_path))
    assert outcome.code != 0, outcome.output
    assert not outcome.hits, (outcome.hits, outcome.output)


# --- Runs that succeed, every playbook ------------------------------------------------------------

RUNS = [
    (name, index) for name, runs in PLAYBOOKS.items() for index in range(len(runs or []))
]  # fmt: skip


@pytest.mark.parametrize(("name", "index"), RUNS)
def test_a_playbook_says_no_secret(name: str, index: int, hunt: Hunt) -> None:
    runs = PLAYBOOKS[name]
    assert runs is not None
    changes = dict(runs[index].changes)
    for key in changes.get("rotate_secrets", []):
        # A new value, that is looked for like all others.
        variable = f"mlflow_{key.replace('-', '_')}"
        changes[variable] = canary(variable)
        hunt.look_for(f"new {variable}", changes[variable])
        hunt.settings[variable] = changes[variable]
    outcome = hunt.run(str(ROOT / "playbooks" / name), changes)
    assert (outcome.code == 0) == runs[index].succeeds, outcome.output
    assert not outcome.hits, (outcome.hits, outcome.output)
    assert not hunt.cluster()


# --- Runs that fail on the way --------------------------------------------------------------------

# Each says its whole environment before it fails, as a program with a debug switch does. What a
# container writes is its own; what is quoted of it is the collection's.
SAY_AND_FAIL = "env; echo connecting to postgresql://$PGUSER:$PGPASSWORD@postgres/mlflow; exit 3"
LATE = {
    "the migration": ("Job", "mlflow-migration", "migrate"),
    "the server": ("Deployment", "mlflow", "mlflow"),
    "the database": ("StatefulSet", "postgres", "postgres"),
}


@pytest.mark.parametrize("case", LATE)
def test_a_run_that_fails_on_the_way_says_no_secret(case: str, hunt: Hunt, tmp_path: Path) -> None:
    path = overlay(tmp_path / "overlay", **container_says(*LATE[case], SAY_AND_FAIL))
    outcome = hunt.run(SITE, {"mlflow_overlay": path, "mlflow_timeout": 120})
    assert outcome.code != 0, outcome.output
    assert not outcome.hits, (outcome.hits, outcome.output)
    assert not [hit for hit in hunt.cluster() if not hit.startswith("log of ")]


def test_the_checkout_has_no_secret(hunt: Hunt) -> None:
    assert not hunt.checkout()
