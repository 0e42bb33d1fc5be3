"""After site.yml: MLflow works for its own client, on Postgres, restricted, and nothing leaks."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.tests.docs.pages import programs

NAMESPACE = "mlflow-development"
URL = f"http://127.0.0.1:{os.environ['KIND_CLUSTER_HTTP_PORT']}"

# In a process of its own, as a user's program: MLflow keeps its tracking URI for a whole process.
CLIENT = """
import pathlib, sys, tempfile
import mlflow

name, = sys.argv[1:]
mlflow.set_experiment(name)
with tempfile.TemporaryDirectory() as folder, mlflow.start_run() as run:
    mlflow.log_param("depth", 3)
    mlflow.log_metric("loss", 0.25)
    source = pathlib.Path(folder, "model.bin")
    source.write_bytes(bytes(range(256)) * 4096)
    mlflow.log_artifact(str(source))
back = mlflow.get_run(run.info.run_id)
assert back.data.params == {"depth": "3"}, back.data.params
assert back.data.metrics == {"loss": 0.25}, back.data.metrics
path = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="model.bin")
assert pathlib.Path(path).read_bytes() == bytes(range(256)) * 4096
print(run.info.run_id)
"""


def test_the_client_logs_a_run_that_is_in_postgres(
    pod: Callable[[str, str, str], Any],
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, "molecule"],
        env={**os.environ, "MLFLOW_TRACKING_URI": URL, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    run_id = done.stdout.split()[-1]
    assert run_id.isalnum()
    found = pod("postgres-0", "postgres", NAMESPACE).check_output(
        "psql --username=mlflow --dbname=mlflow --tuples-only --command=%s",
        f"select status from runs where run_uuid = '{run_id}'",  # noqa: S608 - asserted above
    )
    assert found.strip() == "FINISHED"


@pytest.mark.parametrize(
    ("block", "program"), programs("README.md"), ids=lambda part: str(part)[:40]
)
def test_what_readme_has_people_type_works(block: str, program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "MLFLOW_TRACKING_URI": URL, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, f"{block}: {done.stderr}"


def test_the_namespace_enforces_pod_security_restricted(kubectl: Callable[..., str]) -> None:
    level = kubectl(
        "get",
        "namespace",
        NAMESPACE,
        r"--output=jsonpath={.metadata.labels.pod-security\.kubernetes\.io/enforce}",
    )
    assert level == "restricted"


def test_pods_write_to_volumes_only_and_hold_no_token(
    objects: Callable[[str, str], list[dict[str, Any]]],
) -> None:
    pods = objects("pods", NAMESPACE)
    assert {pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in pods} >= {
        "server",
        "database",
    }
    for pod in pods:
        assert pod["spec"]["automountServiceAccountToken"] is False
        for container in pod["spec"]["containers"] + pod["spec"].get("initContainers", []):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_a_second_run_changes_nothing_and_says_so(site: Callable[..., Any]) -> None:
    run = site()
    assert run.code == 0, run.output
    assert run.changed == 0, run.output


def test_a_dry_run_of_a_deployed_release_shows_no_change(
    site: Callable[..., Any], objects: Callable[[str, str], list[dict[str, Any]]]
) -> None:
    run = site("--check", "--diff", "-vv")
    assert run.code == 0, run.output
    assert run.changed == 0, run.output
    assert_no_secret_in(run.output, objects)


def test_a_dry_run_on_an_empty_cluster_writes_nothing(
    site: Callable[..., Any], kubectl: Callable[..., str]
) -> None:
    run = site("--check", "--diff", "--extra-vars=mlflow_namespace=not-there-yet")
    assert run.code == 0, run.output
    assert run.changed > 0, run.output
    assert "not-there-yet" not in kubectl("get", "namespaces", "--output=name")


def test_a_change_is_shown_without_a_secret(
    site: Callable[..., Any], objects: Callable[[str, str], list[dict[str, Any]]]
) -> None:
    run = site("--check", "--diff", "-vvv", "--extra-vars=mlflow_replicas=2")
    assert run.code == 0, run.output
    assert run.changed > 0, run.output
    assert_no_secret_in(run.output, objects)


def assert_no_secret_in(output: str, objects: Callable[[str, str], list[dict[str, Any]]]) -> None:
    (secret,) = objects("secrets", NAMESPACE)
    for key, encoded in secret["data"].items():
        value = base64.b64decode(encoded).decode()
        if key in ("database-username", "admin-username"):
            continue
        assert len(value) >= 8, f"{key} is too short to be looked for"
        assert value not in output, f"the value of {key} is in the output"
        assert encoded not in output, f"the value of {key} is in the output, encoded"
