# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""MLflow is found, whoever deployed it, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import (
    CLAIM,
    DAEMON_SET,
    DEPLOYMENT,
    JOB,
    POD,
    REPLICA_SET,
    STATEFUL_SET,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow import discover
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.state import Clock, State
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.controllers import (
    FIXTURES,
    NAMESPACE,
    brought_up,
    fixture,
)

NAMES = sorted(path.stem for path in FIXTURES.glob("*.yml"))
KINDS = (DEPLOYMENT, REPLICA_SET, STATEFUL_SET, DAEMON_SET, JOB, POD, CLAIM)


def state_of(objects: list[dict[str, Any]]) -> State:
    state = State()
    for kind in KINDS:
        items = [item for item in objects if item["kind"] == kind.kind]
        state.replace(kind, NAMESPACE, items, Clock(0.0, 0.0))
    return state


def found_in(objects: list[dict[str, Any]]) -> dict[str, discover.Found]:
    found = discover.find(state_of(objects), NAMESPACE)
    return {str(one.target): one for one in found}


def container(words: str, image: str = "python:3.12") -> dict[str, Any]:
    spec = {"containers": [{"name": "main", "image": image, "args": words.split("|")}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "it"},
        "spec": {"replicas": 1, "template": {"spec": spec}},
    }


def test_there_are_fixtures() -> None:
    assert len(NAMES) >= 4


@pytest.mark.parametrize("name", NAMES)
def test_what_others_deploy(name: str) -> None:
    document = fixture(name)
    found = found_in(brought_up(document["objects"]))
    assert {key: one.role for key, one in found.items()} == document["expect"]
    for key, words in document["deployed_by"].items():
        assert found[key].deployed_by == words
    # What something depends on comes first.
    roles = [one.role for one in found.values()]
    assert roles == sorted(roles, key=discover.ORDER.index)


@pytest.mark.parametrize("name", NAMES)
def test_the_port_that_is_asked(name: str) -> None:
    document = fixture(name)
    state = state_of(brought_up(document["objects"]))
    for key, port in document.get("port", {}).items():
        (pod,) = (
            pod
            for pod in state.all(POD, NAMESPACE)
            if pod["metadata"]["name"] == key.split("/")[1] + "-0"
        )
        only = discover.server_pod(pod)["spec"]["containers"]
        assert [entry["containerPort"] for entry in only[0]["ports"]] == [port]
        assert len(only) == 1


@pytest.mark.parametrize(
    "words",
    [
        "mlflow|server",
        "mlflow|ui|--port|5000",
        "/opt/venv/bin/mlflow|server",
        "sh|-c|pip install mlflow && mlflow server --host 0.0.0.0",
        "python|-m|mlflow|server",
        "server|--host=0.0.0.0|--backend-store-uri=sqlite://",
        "uvicorn|mlflow.server.fastapi_app:app",
        "gunicorn|-b|0.0.0.0:5000|mlflow.server:app",
        "mlflow|--verbose|server",
    ],
)
def test_command_lines_that_serve(words: str) -> None:
    assert found_in(brought_up([container(words)]))["Deployment/it"].role == "server"


@pytest.mark.parametrize(
    "words",
    [
        "mlflow|models|serve|-m|x",
        "mlflow|run|.",
        "python|train.py|--tracking-uri|http://mlflow:5000",
        "mlflow|db|upgrade|x",
        "http-server|--port|80",
        "sh|-c|echo not-mlflow server",
    ],
)
def test_command_lines_that_do_not(words: str) -> None:
    assert found_in(brought_up([container(words)])) == {}


def test_an_image_that_is_left_to_itself_serves() -> None:
    item = container("", image="ghcr.io/mlflow/mlflow:v3.17.2")
    item["spec"]["template"]["spec"]["containers"][0].pop("args")
    assert found_in(brought_up([item]))["Deployment/it"].role == "server"


def test_what_may_not_be_seen_is_not_called_missing() -> None:
    document = fixture("community_chart")
    found = discover.find(state_of(brought_up(document["objects"])), NAMESPACE, sees_claims=False)
    assert "volume" not in {one.role for one in found}


def test_pods_are_enough() -> None:
    """Who may list pods only is told about these."""
    objects = brought_up(fixture("community_chart")["objects"])
    found = found_in([item for item in objects if item["kind"] == "Pod"])
    assert found["Pod/tracking-mlflow-0"].role == "server"


def test_our_own_tree() -> None:
    """By its labels, the schema helper and the field manager."""
    labels = {"app.kubernetes.io/part-of": "mlflow", "app.kubernetes.io/name": "mlflow"}
    server = container("mlflow|server")
    server["metadata"] |= {"labels": labels, "managedFields": [{"manager": "mlops.mlflow"}]}
    server["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] = [
        {"name": "schema", "mountPath": "/opt/mlops-mlflow"}
    ]
    found = found_in(brought_up([server]))["Deployment/it"]
    assert found.deployed_by == "mlops.mlflow"
    assert discover.has_helper(found.item, DEPLOYMENT)
