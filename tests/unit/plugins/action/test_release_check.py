# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must not be deployed is refused, with the setting that says otherwise."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.action.release_check import (
    _another_database,
    check,
)

Object = dict[str, Any]
INGRESS: Object = {
    "kind": "Ingress",
    "metadata": {"name": "mlflow"},
    "spec": {"rules": [{"host": "mlflow.example.org"}]},
}
ROUTE: Object = {
    "kind": "HTTPRoute",
    "metadata": {"name": "mlflow"},
    "spec": {"hostnames": ["mlflow.example.org"]},
}


def service(kind: str) -> Object:
    return {"kind": "Service", "metadata": {"name": "mlflow"}, "spec": {"type": kind}}


def problems(way_in: Object, *arguments: str, **changes: Any) -> list[str]:
    container = {"name": "mlflow", "command": ["mlflow", "server"], "args": list(arguments)}
    server: Object = {
        "kind": "Deployment",
        "metadata": {"name": "mlflow"},
        "spec": {"template": {"spec": {"containers": [container]}}},
    }
    stages: dict[str, list[Object]] = {"config": [], "database": [], "migration": []}
    stages |= {"server": [server, way_in], "smoke-test": []}
    found = check(
        {
            "stages": stages,
            "secrets": [],
            "environment": "production",
            "allow_development_credentials": False,
            "allow_anonymous": False,
            **changes,
        }
    )
    return found.problems


@pytest.mark.parametrize(
    ("way_in", "words"),
    [
        (INGRESS, "Ingress mlflow"),
        (ROUTE, "HTTPRoute mlflow"),
        (service("LoadBalancer"), "Service mlflow of type LoadBalancer"),
        (service("NodePort"), "Service mlflow of type NodePort"),
    ],
    ids=["ingress", "gateway", "load balancer", "node port"],
)
def test_a_way_in_without_a_password_is_refused(way_in: Object, words: str) -> None:
    (told,) = problems(way_in)
    assert told.startswith(f"mlflow_components: {words} lets in whoever reaches it")
    assert "mlflow_allow_anonymous: true" in told
    assert problems(way_in, environment="qa") == [told]
    assert problems(way_in, environment="development") == []
    assert problems(way_in, allow_anonymous=True) == []
    assert problems(way_in, "--app-name", "basic-auth") == []
    assert problems(way_in, "--app-name=oidc-auth") == []


@pytest.mark.parametrize("option", ["--gunicorn-opts", "--gunicorn-opts=--timeout 120"])
def test_a_server_that_checks_no_host_names_is_refused(option: str) -> None:
    (told,) = problems(service("ClusterIP"), option)
    assert told.startswith("mlflow_overlay: starts MLflow with --gunicorn-opts")
    assert "MLFLOW_UVICORN_OPTS" in told


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("mysql+pymysql://db/mlflow", "is mysql;"),
        ("mssql://db/mlflow", "is mssql;"),
        ("sqlite:////mlflow/mlflow.db", "is sqlite;"),
        ("/mlflow/runs", "is a folder;"),
        ("postgresql+psycopg2:///mlflow", ""),
        ("postgres://db/mlflow", ""),
    ],
)
def test_a_database_that_is_no_postgres_is_refused(uri: str, told: str) -> None:
    found = list(_another_database({"MLFLOW_BACKEND_STORE_URI": uri}))
    assert bool(found) is bool(told)
    if found:
        assert found[0].startswith(f"mlflow_config.MLFLOW_BACKEND_STORE_URI: {told}")


def test_inside_the_cluster_no_password_is_needed() -> None:
    assert problems(service("ClusterIP")) == []
