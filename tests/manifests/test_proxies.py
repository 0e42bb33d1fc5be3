"""Proxies: what the release asks itself does not go through one, and a CA is everybody's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render import kustomization
from ansible_collections.mlops.mlflow.tests.manifests.test_components import config
from ansible_collections.mlops.mlflow.tests.manifests.test_overlays import problems, release
from ansible_collections.mlops.mlflow.tests.manifests.tree import TREE, containers, pods

PRODUCTION = TREE / "overlays/production"
PROXY = "http://proxy.example.org:3128"
OWN = ["mlflow", "localhost", "127.0.0.1", ".svc", ".cluster.local"]


@pytest.mark.parametrize(
    ("settings", "name", "names"),
    [
        ({"config": {"HTTP_PROXY": PROXY}}, "NO_PROXY", OWN),
        (
            {"config": {"HTTPS_PROXY": PROXY, "NO_PROXY": "10.0.0.0/8, .svc"}},
            "NO_PROXY",
            ["10.0.0.0/8", ".svc", "mlflow", "localhost", "127.0.0.1", ".cluster.local"],
        ),
        ({"config": {"http_proxy": PROXY, "no_proxy": "a.example.org"}}, "no_proxy",
         ["a.example.org", *OWN]),
        ({"pod": {"env": [{"name": "HTTP_PROXY", "value": PROXY}]}}, "NO_PROXY", OWN),
    ],
)  # fmt: skip
def test_the_release_s_own_names_do_not_go_through_it(
    tmp_path: Path, settings: dict[str, Any], name: str, names: list[str]
) -> None:
    objects = release(tmp_path, PRODUCTION, "gc", **settings)
    assert config(objects)[name].split(",") == names
    assert problems(objects) == []


def test_without_a_proxy_nothing_is_said(tmp_path: Path) -> None:
    objects = release(tmp_path, PRODUCTION, config={"MLFLOW_WORKERS": 1})
    assert not {"NO_PROXY", "no_proxy"} & set(config(objects))


def test_names_that_are_taken_away_are_told(tmp_path: Path) -> None:
    env = [{"name": "HTTP_PROXY", "value": PROXY}, {"name": "NO_PROXY", "value": "10.0.0.0/8"}]
    objects = release(tmp_path, PRODUCTION, pod={"env": env})
    (problem,) = problems(objects)
    assert problem.startswith("mlflow_pod.env: Job mlflow-smoke-test")
    assert "http://mlflow:5000" in problem and "mlflow_config" in problem


def test_a_ca_of_one_s_own_is_everywhere(tmp_path: Path) -> None:
    """As docs/how-do-i.md has it: one ConfigMap, and the names that programs know it by."""
    place = "/etc/company-ca/ca.crt"
    names = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "AWS_CA_BUNDLE")
    objects = release(
        tmp_path,
        PRODUCTION,
        *("backup", "backup-s3", "gc", "s3-artifacts"),
        config=dict.fromkeys(names, place),
        backup_s3={"url": "s3://bucket/folder"},
        pod={
            "volumes": [{"name": "company-ca", "configMap": {"name": "company-ca"}}],
            "volumeMounts": [
                {"name": "company-ca", "mountPath": "/etc/company-ca", "readOnly": True}
            ],
        },
    )
    assert problems(objects) == []
    found = dict(pods(objects))
    del found["StatefulSet/postgres"]
    for name, pod in found.items():
        for each in containers(pod):
            mounted = [mount["mountPath"] for mount in each["volumeMounts"]]
            assert "/etc/company-ca" in mounted, name
            values = kustomization.environment(list(objects), each)
            # A backup's own container asks Postgres only.
            if "mlflow-config" in str(each.get("envFrom")):
                assert {values[one] for one in names} == {place}, name
