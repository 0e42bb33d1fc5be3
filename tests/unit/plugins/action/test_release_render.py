# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The render, with the real kustomize and the real tree."""

from __future__ import annotations

import pathlib
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.action import release_render as render
from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory import overlays
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render import kustomization

OVERLAYS = overlays.KUSTOMIZE / "overlays"


def run(**arguments: Any) -> dict[str, Any]:
    task = SimpleNamespace(
        args={key: value for key, value in arguments.items() if value is not None},
        async_val=0,
        check_mode=False,
        diff=False,
        environment=None,
    )
    action = render.ActionModule(
        task=task,
        connection=SimpleNamespace(_shell=SimpleNamespace(tmpdir=None), _remote_is_local=True),
        play_context=SimpleNamespace(check_mode=False),
        loader=None,
        templar=None,
        shared_loader_obj=None,
    )
    result: dict[str, Any] = action.run(task_vars={})
    assert not result.get("changed")
    return result


@pytest.mark.parametrize("name", ["development", "staging", "production"])
def test_every_overlay(name: str) -> None:
    result = run(overlay=str(OVERLAYS / name))
    assert not result.get("failed"), result["msg"]
    assert result["namespace"] == f"mlflow-{name}"
    assert result["version"] == "3.17.2"
    assert result["migration_job"].startswith("mlflow-migration-3-17-2-")
    assert result["smoke_test_job"].startswith("mlflow-smoke-test-3-17-2-")
    assert result["stages"]["config"][0]["kind"] == "Namespace"
    assert [item["name"] for item in result["secrets"]] == (
        ["mlflow-credentials"] if name == "development" else []
    )
    for items in result["stages"].values():
        for item in items:
            assert item["kind"] != "Secret"
            namespace = item["metadata"].get("namespace", f"mlflow-{name}")
            assert namespace == f"mlflow-{name}"


def test_a_render_with_secrets_is_not_shown() -> None:
    result = run(overlay=str(OVERLAYS / "development"))
    assert result["_ansible_no_log"] is True
    result = run(overlay=str(OVERLAYS / "production"))
    assert "_ansible_no_log" not in result


def test_twice_the_same() -> None:
    assert run(overlay=str(OVERLAYS / "staging")) == run(overlay=str(OVERLAYS / "staging"))


def test_all_settings_at_once() -> None:
    digest = "sha256:" + "1" * 64
    result = run(
        overlay=str(OVERLAYS / "production"),
        namespace="elsewhere",
        image=f"registry.example/mlflow@{digest}",
        version="3.17.2",
        postgres_image="registry.example/postgres:17.2",
        replicas=3,
        resources={"requests": {"cpu": 1}, "limits": {"memory": "3Gi"}},
        config={"MLFLOW_WORKERS": 3, "MLFLOW_DISABLE_TELEMETRY": False},
        hosts=["mlflow.example.org"],
        service={"type": "NodePort", "nodePort": 30123},
        storage_class="fast",
        artifact_storage_size="70Gi",
        database_storage_size="80Gi",
    )
    assert not result.get("failed"), result["msg"]
    objects = [item for items in result["stages"].values() for item in items]
    server = kustomization.find(objects, "Deployment", "mlflow")
    database = kustomization.find(objects, "StatefulSet", "postgres")
    service = kustomization.find(objects, "Service", "mlflow")
    claim = kustomization.find(objects, "PersistentVolumeClaim", "mlflow-artifacts")
    assert server
    assert database
    assert service
    assert claim
    assert result["namespace"] == "elsewhere"
    assert objects[0]["metadata"]["name"] == "elsewhere"
    assert server["spec"]["replicas"] == 3
    container = kustomization.container(server, "mlflow")
    assert container["image"] == f"registry.example/mlflow@{digest}"
    assert container["resources"]["requests"]["cpu"] == "1"
    assert container["resources"]["limits"]["memory"] == "3Gi"
    for job in kustomization.jobs(objects, "migration"):
        pod = job["spec"]["template"]["spec"]
        assert pod["containers"][0]["image"] == f"registry.example/mlflow@{digest}"
    assert result["postgres_image"] == "registry.example/postgres:17.2"
    assert result["service"] == {"type": "NodePort", "port": 5000, "node_port": 30123}
    template = database["spec"]["volumeClaimTemplates"][0]["spec"]
    assert template["storageClassName"] == "fast"
    assert template["resources"]["requests"]["storage"] == "80Gi"
    assert claim["spec"]["storageClassName"] == "fast"
    assert claim["spec"]["resources"]["requests"]["storage"] == "70Gi"
    (config,) = [
        item
        for item in objects
        if item["kind"] == "ConfigMap" and item["metadata"]["name"].startswith("mlflow-config-")
    ]
    assert config["data"]["MLFLOW_WORKERS"] == "3"
    assert config["data"]["MLFLOW_DISABLE_TELEMETRY"] == "false"
    assert config["data"]["MLFLOW_SERVE_ARTIFACTS"] == "true"
    hosts = config["data"]["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert hosts[-2:] == ["mlflow.example.org", "mlflow.example.org:*"]


def test_the_inventory_has_the_last_word_on_what_a_component_sets() -> None:
    wanted = {"PGHOST": "postgres.example.org", "MLFLOW_ARTIFACTS_DESTINATION": "s3://ours/here"}
    components = overlays.KUSTOMIZE / "components"
    result = run(
        overlay=str(OVERLAYS / "production"),
        components=[str(components / name) for name in ("external-postgres", "s3-artifacts")],
        config=wanted,
    )
    assert not result.get("failed"), result["msg"]
    (config,) = [
        item["data"] for item in result["stages"]["config"] if "PGHOST" in (item.get("data") or {})
    ]
    assert wanted.items() <= config.items()
    assert config["PGSSLMODE"] == "verify-full"


def test_a_users_own_overlay(tmp_path: pathlib.Path) -> None:
    """It may lie anywhere, and gets the migration and the smoke test of the collection."""
    import os

    overlay = tmp_path / "mine"
    overlay.mkdir()
    base = os.path.relpath(overlays.KUSTOMIZE / "base", os.path.realpath(overlay))
    (overlay / "kustomization.yml").write_text(
        f"namespace: mine\nresources: [{base}]\n", encoding="utf-8"
    )
    result = run(overlay=str(overlay))
    assert not result.get("failed"), result["msg"]
    assert result["namespace"] == "mine"
    assert result["migration_job"]
    assert result["smoke_test_job"]
    assert run(overlay=str(overlay), smoke_test=False)["smoke_test_job"] == ""


def test_an_error_quotes_no_manifest(tmp_path: pathlib.Path) -> None:
    (tmp_path / "kustomization.yml").write_text("resources: [secret.yml]\n", encoding="utf-8")
    (tmp_path / "secret.yml").write_text("kind: Secret\ndata: s3cr3t: {\n", encoding="utf-8")
    result = run(overlay=str(tmp_path))
    assert result["failed"]
    assert "secret.yml" in result["msg"]
    assert "s3cr3t" not in result["msg"]


def test_no_builder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render.shutil, "which", lambda _name: None)
    result = run(overlay=str(OVERLAYS / "staging"))
    assert "neither kustomize nor kubectl" in result["msg"]
