# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image is asked in the surroundings of the server, by a Job that the Service does not find."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import ApiError
from ansible_collections.mlops.mlflow.plugins.modules import schema_job

BASE = Path(__file__).resolve().parents[4] / "kustomize/base"


@pytest.fixture
def deployment() -> dict[str, Any]:
    text = (BASE / "mlflow-deployment.yml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    found["metadata"]["namespace"] = "here"
    return found


def test_the_job_has_what_the_wait_for_the_schema_has(deployment: dict[str, Any]) -> None:
    job = schema_job.job(deployment, "mlflow:3.16.1", "asks")
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    waits = deployment["spec"]["template"]["spec"]["initContainers"][0]
    assert container["image"] == "mlflow:3.16.1"
    assert container["command"][-3:] == ["python3", "/opt/mlops-mlflow/schema.py", "status"]
    for part in ("env", "envFrom", "securityContext", "volumeMounts"):
        assert container[part] == waits[part]
    # The volume of the artifacts can be one that a single node may mount.
    assert {volume["name"] for volume in pod["volumes"]} == {"schema", "tmp"}
    assert "initContainers" not in pod
    assert pod["restartPolicy"] == "Never"
    assert pod["securityContext"] == deployment["spec"]["template"]["spec"]["securityContext"]


def test_what_comes_before_the_wait_comes_before_the_job(deployment: dict[str, Any]) -> None:
    """A way to the database, for instance. It may stand beside a server, unlike another server."""
    pod = deployment["spec"]["template"]["spec"]
    proxy = {
        "name": "database-proxy",
        "restartPolicy": "Always",
        "volumeMounts": [{"name": "sockets", "mountPath": "/sockets"}],
    }
    pod["initContainers"].insert(0, proxy)
    pod["initContainers"].append({"name": "later"})
    pod["volumes"].append({"name": "sockets", "emptyDir": {}})
    nodes: dict[str, Any] = {"requiredDuringSchedulingIgnoredDuringExecution": {}}
    pod["affinity"] = {"nodeAffinity": nodes, "podAntiAffinity": {}, "podAffinity": {}}
    made = schema_job.job(deployment, "mlflow:3.16.1", "asks")["spec"]["template"]["spec"]
    assert made["initContainers"] == [proxy]
    assert "sockets" in {volume["name"] for volume in made["volumes"]}
    assert made["affinity"] == {"nodeAffinity": nodes}


def test_no_service_and_no_deployment_takes_its_pod_for_a_server(
    deployment: dict[str, Any],
) -> None:
    job = schema_job.job(deployment, "mlflow:3.16.1", "asks")
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert labels["mlops.mlflow/database-client"] == "true"
    service = yaml.safe_load((BASE / "mlflow-service.yml").read_text(encoding="utf-8"))
    for selector in (service["spec"]["selector"], deployment["spec"]["selector"]["matchLabels"]):
        assert not selector.items() <= labels.items()


@pytest.mark.parametrize(("status", "succeeds"), [(0, True), (3, True), (1, False), (4, False)])
def test_a_schema_that_is_not_at_head_is_an_answer(
    deployment: dict[str, Any], status: int, succeeds: bool
) -> None:
    command = schema_job.job(deployment, "x", "y")["spec"]["template"]["spec"]["containers"][0][
        "command"
    ]
    ended = subprocess.run([*command[:4], "sh", "-c", f"exit {status}"], check=False)
    assert (ended.returncode == 0) is succeeds


@pytest.mark.parametrize(("status", "succeeds"), [(0, True), (1, True), (3, True), (2, False)])
def test_a_rehearsed_migration_that_fails_is_an_answer(
    deployment: dict[str, Any], status: int, succeeds: bool
) -> None:
    job = schema_job.job(deployment, "x", "y", "rehearse")
    command = job["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command[-1] == "rehearse"
    ended = subprocess.run([*command[:4], "sh", "-c", f"exit {status}"], check=False)
    assert (ended.returncode == 0) is succeeds


def lock(table: str, seconds: float, mode: str = "AccessExclusiveLock") -> dict[str, Any]:
    return {"table": table, "mode": mode, "seconds": seconds}


@pytest.mark.parametrize(
    ("took", "words"),
    [
        ([None], "nothing to migrate"),
        ([{"seconds": 41.2, "locks": [lock("spans", 29.4)]}], "41 s, spans locked 29 s"),
        # Both databases, one after the other.
        (
            [{"seconds": 200.0, "locks": [lock("runs", 130.0, "ShareLock")]}, {"seconds": 1.0}],
            "3 min, runs not written for 2 min",
        ),
        # Who cannot read cannot write either.
        (
            [{"seconds": 4.0, "locks": [lock("a", 3.0), lock("a", 2.0, "ShareLock")]}, None],
            "4 s, a locked 3 s",
        ),
    ],
)
def test_what_a_migration_took_in_words(took: list[Any], words: str) -> None:
    names = ("tracking", "auth")
    schema = {
        name: {"state": "at_head", **({"took": one} if one else {})}
        for name, one in zip(names, took, strict=False)
    }
    assert schema_job.took(schema) == words


def test_a_deployment_of_another_make_is_refused(deployment: dict[str, Any]) -> None:
    del deployment["spec"]["template"]["spec"]["initContainers"]
    with pytest.raises(ApiError, match="Deployment mlflow has no container schema-wait"):
        schema_job.job(deployment, "x", "y")


def test_the_verdict_is_found_among_other_lines() -> None:
    verdict = {"tracking": {"state": "unknown", "current": "dc11", "head": "b7e2"}}
    lines = ["a warning", "{}", json.dumps(verdict), "[1]", "true", ""]
    assert schema_job.answer(lines) == verdict
    with pytest.raises(ApiError, match="did not say"):
        schema_job.answer(["{}", "x"])
