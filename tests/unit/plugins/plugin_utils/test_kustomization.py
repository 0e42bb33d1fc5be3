# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings become a kustomization, objects become stages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.mlops.mlflow.plugins.plugin_utils._checks import budget
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render import kustomization
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render.kustomization import (
    Settings,
    SettingsError,
)

Object = dict[str, Any]


def thing(api_version: str, kind: str, name: str, component: str = "", **fields: Any) -> Object:
    metadata: Object = {"name": name, "namespace": "here"}
    if component:
        metadata["labels"] = {"app.kubernetes.io/component": component}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}


def workload(kind: str, name: str, image: str, **spec: Any) -> Object:
    pod = {"containers": [{"name": name, "image": image}]}
    component = "server" if name == "mlflow" else "database"
    return thing("apps/v1", kind, name, component, spec={**spec, "template": {"spec": pod}})


def release() -> list[Object]:
    return [
        workload("Deployment", "mlflow", "ghcr.io/mlflow/mlflow:v3.17.2-full", replicas=1),
        workload(
            "StatefulSet", "postgres", "docker.io/library/postgres:17",
            volumeClaimTemplates=[{"spec": {"resources": {"requests": {"storage": "5Gi"}}}}],
        ),
        thing(
            "v1", "Service", "mlflow", "server",
            spec={"ports": [{"name": "http", "port": 5000}]},
        ),
        thing("v1", "PersistentVolumeClaim", "mlflow-artifacts", "server", spec={}),
        thing(
            "v1", "ConfigMap", "mlflow-config-2456789bcd", "config",
            data={"MLFLOW_SERVER_ALLOWED_HOSTS": "mlflow,mlflow:*"},
        ),
        thing("v1", "Secret", "mlflow-credentials", "config", data={"key": "c2VjcmV0"}),
        thing("batch/v1", "Job", "mlflow-migration", "migration", spec={"backoffLimit": 1}),
        thing("batch/v1", "Job", "mlflow-smoke-test", "smoke-test", spec={"backoffLimit": 0}),
    ]  # fmt: skip


def patches(part: Object) -> dict[str, Any]:
    return {item["target"]["kind"]: json.loads(item["patch"]) for item in part["patches"]}


def test_nothing_set_nothing_edited() -> None:
    assert kustomization.edits(release(), Settings()) == {"namespace": "here"}


def test_two_namespaces_are_left_alone() -> None:
    objects = release()
    objects[0]["metadata"]["namespace"] = "there"
    assert kustomization.edits(objects, Settings()) == {}


def test_version_alone_changes_the_tag() -> None:
    part = kustomization.edits(release(), Settings(version="3.16.1"))
    assert part["images"] == [{"name": "ghcr.io/mlflow/mlflow", "newTag": "v3.16.1-full"}]


def test_version_alone_cannot_change_a_digest() -> None:
    objects = release()
    pod = objects[0]["spec"]["template"]["spec"]
    pod["containers"][0]["image"] = "a/b:v3.17.2@sha256:" + "0" * 64
    with pytest.raises(SettingsError, match="mlflow_version"):
        kustomization.edits(objects, Settings(version="3.16.1"))
    assert "images" not in kustomization.edits(objects, Settings(version="3.17.2"))


@pytest.mark.parametrize(
    ("image", "edited"),
    [
        ("team/mlflow:1.4.0", False),
        ("team/mlflow:2026.11.24", False),
        ("team/mlflow@sha256:" + "0" * 64, False),
        ("team/mlflow:3.16.1-2", True),
        ("team/mlflow:latest", True),
        ("localhost:5000/mlflow", True),
    ],
)
def test_version_alone_says_what_an_image_holds(image: str, edited: bool) -> None:
    """Where its tag is a number of somebody's own, which stays."""
    objects = release()
    objects[0]["spec"]["template"]["spec"]["containers"][0]["image"] = image
    edits = kustomization.edits(objects, Settings(version="3.17.2"))
    assert ("images" in edits) is edited


@pytest.mark.parametrize(
    ("wanted", "edit"),
    [
        ("r.example/m", {"newName": "r.example/m", "newTag": "v3.17.2-full"}),
        ("r.example/m:1", {"newName": "r.example/m", "newTag": "1"}),
        (
            "m@sha256:" + "0" * 64,
            {"newName": "m", "digest": "sha256:" + "0" * 64},
        ),
    ],
)
def test_image(wanted: str, edit: Object) -> None:
    part = kustomization.edits(release(), Settings(image=wanted))
    assert part["images"] == [{"name": "ghcr.io/mlflow/mlflow", **edit}]


DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("own", "settings", "expected"),
    [
        ("mine/mlflow:3.17.2", Settings(), {"newName": "mine/mlflow", "newTag": "3.17.2"}),
        ("mine/mlflow", Settings(), {"newName": "mine/mlflow", "newTag": "latest"}),
        (f"mine/mlflow@{DIGEST}", Settings(), {"newName": "mine/mlflow", "digest": DIGEST}),
        (
            "mine/mlflow:3.17.2",
            Settings(version="3.16.1"),
            {"newName": "mine/mlflow", "newTag": "3.16.1"},
        ),
        ("mine/mlflow:3.17.2", Settings(image="m:3.16.1"), {"newName": "m", "newTag": "3.16.1"}),
        ("ghcr.io/mlflow/mlflow:v3.17.2-full", Settings(), None),
    ],
)
def test_what_is_added_to_an_overlay_gets_the_image_of_its_server(
    own: str, settings: Settings, expected: Object | None
) -> None:
    objects = release()
    for item in objects:
        if item["kind"] == "Deployment":
            item["spec"]["template"]["spec"]["containers"][0]["image"] = own
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "mlflow-smoke-test", "namespace": "here"},
        "spec": {
            "template": {
                "spec": {
                    "containers": [{"name": "x", "image": "ghcr.io/mlflow/mlflow:v3.17.2-full"}]
                }
            }
        },
    }
    found = {
        item["name"]: item
        for item in kustomization.edits([*objects, job], settings).get("images", [])
    }
    published = "ghcr.io/mlflow/mlflow"
    if expected is None:
        assert published not in found
    else:
        assert found[published] == {"name": published, **expected}
    # Where nothing has the published one, there is nothing to change.
    if own.startswith("mine"):
        plain = kustomization.edits(objects, settings).get("images", [])
        assert published not in [item["name"] for item in plain]


def test_the_published_images_are_those_of_base() -> None:
    base = Path(__file__).resolve().parents[4] / "kustomize/base"
    for name, file in (("mlflow", "mlflow-deployment.yml"), ("postgres", "postgres.yml")):
        documents = yaml.safe_load_all((base / file).read_text(encoding="utf-8"))
        images = {
            each["image"].rpartition(":")[0]
            for item in documents
            for each in kustomization.pod_of(item).get("containers", [])
        }
        assert images == {kustomization.PUBLISHED[name]}


def test_sizes_resources_and_replicas() -> None:
    part = kustomization.edits(
        release(),
        Settings(
            replicas=3,
            storage_class="fast",
            artifact_storage_size="50Gi",
            database_storage_size="20Gi",
        ),
    )
    found = patches(part)
    assert found["Deployment"]["spec"] == {"replicas": 3}
    assert {item["path"]: item["value"] for item in found["PersistentVolumeClaim"]} == {
        "/spec/resources/requests/storage": "50Gi",
        "/spec/storageClassName": "fast",
    }
    assert found["StatefulSet"][0]["path"].startswith("/spec/volumeClaimTemplates/0/spec/")


def test_an_autoscaler_owns_the_replicas() -> None:
    target = {"kind": "Deployment", "name": "mlflow"}
    scaler = thing(
        "autoscaling/v2", "HorizontalPodAutoscaler", "mlflow", "server",
        spec={"scaleTargetRef": target, "maxReplicas": 5},
    )  # fmt: skip
    part = kustomization.edits([*release(), scaler], Settings())
    assert patches(part)["Deployment"] == [{"op": "remove", "path": "/spec/replicas"}]
    with pytest.raises(SettingsError, match="mlflow_replicas"):
        kustomization.edits([*release(), scaler], Settings(replicas=3))


def test_hosts_are_added_with_and_without_port() -> None:
    part = kustomization.edits(release(), Settings(hosts=["a.example.org"]))
    assert part["configMapGenerator"] == [
        {
            "name": "mlflow-config",
            "behavior": "merge",
            "literals": [
                "MLFLOW_SERVER_ALLOWED_HOSTS=mlflow,mlflow:*,a.example.org,a.example.org:*",
                # Nothing tells whether there is TLS before the Service.
                "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS=https://a.example.org,https://a.example.org:*,"
                "http://a.example.org,http://a.example.org:*",
            ],
        }
    ]


def test_node_port_needs_a_type() -> None:
    with pytest.raises(SettingsError, match=r"mlflow_service\.nodePort"):
        kustomization.edits(release(), Settings(service={"nodePort": 30500}))
    part = kustomization.edits(release(), Settings(service={"nodePort": 30500, "type": "NodePort"}))
    assert [item["path"] for item in patches(part)["Service"]] == [
        "/spec/type",
        "/spec/ports/0/nodePort",
    ]


@pytest.mark.parametrize(
    ("settings", "variable"),
    [
        (Settings(image="a"), "mlflow_image"),
        (Settings(postgres_image="a"), "mlflow_postgres_image"),
        (Settings(replicas=2), "mlflow_replicas"),
        (Settings(resources={"limits": {"cpu": 1}}), "mlflow_resources"),
        (Settings(hosts=["a"]), "mlflow_hosts"),
        (Settings(static_prefix="/a"), "mlflow_static_prefix"),
        (Settings(tls_secret="a"), "mlflow_tls_secret"),
        (Settings(ingress_class="a"), "mlflow_ingress_class"),
        (Settings(ingress_annotations={"a": "b"}), "mlflow_ingress_annotations"),
        (Settings(upload_limit="1Gi"), "mlflow_upload_limit"),
        (Settings(gateway={"name": "a"}), "mlflow_gateway"),
        (Settings(proxy_timeout=1), "mlflow_proxy_timeout"),
        (Settings(service={"type": "NodePort"}), "mlflow_service"),
        (Settings(pod={"labels": {"a": "b"}}), "mlflow_pod"),
        (Settings(artifact_storage_size="1Gi"), "mlflow_artifact_storage_size"),
        (Settings(database_storage_size="1Gi"), "mlflow_database_storage_size"),
    ],
)
def test_a_setting_without_its_object_is_named(settings: Settings, variable: str) -> None:
    with pytest.raises(SettingsError, match=f"^{variable}: "):
        kustomization.edits([], settings)


def test_job_names_follow_what_they_run() -> None:
    names = kustomization.job_names(release(), "3.17.2")
    assert names["mlflow-migration"].startswith("mlflow-migration-3-17-2-")
    assert names == kustomization.job_names(release(), "3.17.2")
    changed = release()
    changed[0]["spec"]["replicas"] = 2
    then = kustomization.job_names(changed, "3.17.2")
    assert then["mlflow-migration"] == names["mlflow-migration"]
    assert then["mlflow-smoke-test"] != names["mlflow-smoke-test"]


def test_a_secret_does_not_show_in_a_jobs_name() -> None:
    changed = release()
    changed[5]["data"]["key"] = "b3RoZXI="
    assert kustomization.job_names(changed, "1") == kustomization.job_names(release(), "1")


def test_stages_hold_everything_but_secrets() -> None:
    stages = kustomization.by_stage(release())
    assert list(stages) == list(kustomization.STAGES)
    kinds = {stage: [item["kind"] for item in items] for stage, items in stages.items()}
    assert kinds == {
        "config": ["ConfigMap"],
        "database": ["StatefulSet"],
        "migration": ["Job"],
        "server": ["PersistentVolumeClaim", "Service", "Deployment"],
        "smoke-test": ["Job"],
    }
    assert "c2VjcmV0" not in json.dumps(stages)


def test_objects_without_a_label_go_where_they_are_needed() -> None:
    assert kustomization.stage_of(thing("v1", "ConfigMap", "a")) == "config"
    assert kustomization.stage_of(thing("networking.k8s.io/v1", "Ingress", "a")) == "server"


def test_kubectl_can_go_on_from_there() -> None:
    item = thing("v1", "ConfigMap", "a", data={"b": "c"})
    then = kustomization.with_last_applied(item)
    assert json.loads(then["metadata"]["annotations"][kustomization.LAST_APPLIED]) == item
    assert "annotations" not in item["metadata"]


def test_budget_counts_what_mlflow_may_open() -> None:
    objects = release()
    server = objects[0]["spec"]["template"]["spec"]["containers"][0]
    server["args"] = ["mlflow", "server", "--workers", "2"]
    server["envFrom"] = [{"configMapRef": {"name": "mlflow-config-2456789bcd"}}]
    objects[4]["data"]["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    found = budget.calculate(objects)
    assert found is not None
    assert found.wanted == (1 + 1) * 2 * 2 * 15 + 10
    assert found.available == 97
    objects[1]["spec"]["template"]["spec"]["containers"][0]["args"] = ["-c", "max_connections=300"]
    raised = budget.calculate(objects)
    assert raised is not None
    assert raised.available == 297


def test_of_a_database_elsewhere_the_budget_is_what_it_is_told() -> None:
    unknown = budget.calculate(release()[:1])
    assert unknown is not None
    assert (unknown.available, unknown.problem) == (None, "")
    told = budget.calculate(release()[:1], max_connections=100)
    assert told is not None
    assert told.available == 97
    assert "mlflow_database_max_connections" in told.problem
    assert budget.calculate([]) is None


def scaled(**spec: Any) -> Object:
    target = {"kind": "Deployment", "name": "mlflow"}
    return thing(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        "mlflow",
        spec={"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 4, **spec},
    )


def test_the_budget_counts_as_many_as_the_autoscaler_may_start() -> None:
    found = budget.calculate([*release(), scaled(maxReplicas=7)])
    assert found is not None
    assert (found.replicas, found.variable) == (7, "mlflow_autoscaling.max")


def test_the_budget_says_what_would_fit() -> None:
    found = budget.Budget(
        replicas=4, surge=1, workers=2, stores=3, pool=5, overflow=5, available=197, variable="v"
    )
    assert found.wanted == 310
    assert found.fitting == 2
    assert found._replace(replicas=2).problem == ""
    assert found._replace(replicas=3).problem
    assert "v: " in found.problem
    assert "to 2 or less" in found.problem
    assert "mlflow_database_max_connections: 313" in found.problem
    none = found._replace(workers=20)
    assert none.fitting == 0
    assert "Lower MLFLOW_WORKERS" in none.problem


def test_an_autoscaler_gets_its_numbers() -> None:
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 150}}
    metric = {"type": "ContainerResource", "containerResource": {**cpu, "container": "mlflow"}}
    objects = [*release(), scaled(metrics=[metric])]
    part = kustomization.edits(objects, Settings(autoscaling={"max": 9, "cpu": 60}))
    values = {item["path"]: item["value"] for item in patches(part)["HorizontalPodAutoscaler"]}
    assert values == {
        "/spec/minReplicas": 2,
        "/spec/maxReplicas": 9,
        "/spec/metrics/0/containerResource/target": {
            "type": "Utilization",
            "averageUtilization": 60,
        },
    }
    with pytest.raises(SettingsError, match="min, 2, is more than max, 1"):
        kustomization.edits(objects, Settings(autoscaling={"max": 1}))
    with pytest.raises(SettingsError, match=r"mlflow_autoscaling\.cpu"):
        kustomization.edits([*release(), scaled()], Settings(autoscaling={"cpu": 60}))


@pytest.mark.parametrize("before", [["postgres", "-c", "max_connections=200"], ["postgres"]])
def test_the_bundled_postgres_is_started_with_as_many_connections(before: list[str]) -> None:
    objects = release()
    objects[1]["spec"]["template"]["spec"]["containers"][0]["args"] = before
    part = kustomization.edits(objects, Settings(database_max_connections=300))
    (operation,) = patches(part)["StatefulSet"]
    assert operation["path"] == "/spec/template/spec/containers/0/args"
    assert operation["value"] == ["postgres", "-c", "max_connections=300"]


# --- Where secrets are ----------------------------------------------------------------------------


def reading(**pod: Any) -> list[Object]:
    found = workload("Deployment", "mlflow", "mlflow:v3.17.2")
    found["spec"]["template"]["spec"].update(pod)
    return [found]


def variable(name: str, key: str) -> Object:
    reference = {"name": "mlflow-credentials", "key": key}
    return {"name": name, "valueFrom": {"secretKeyRef": reference}}


def test_a_variable_is_read_from_the_secret_that_is_there() -> None:
    objects = reading(
        containers=[
            {"name": "mlflow", "image": "m:v1.2.3", "env": [variable("PGUSER", "database-username"),
                                                            variable("A", "flask-secret-key")]}
        ]
    )  # fmt: skip
    wanted = {"database-username": {"secret": "cluster-app", "key": "username"}}
    part = kustomization.edits(objects, Settings(secrets=wanted))
    path = "/spec/template/spec/containers/0/env/0/valueFrom/secretKeyRef"
    assert patches(part)["Deployment"] == [
        {"op": "replace", "path": f"{path}/name", "value": "cluster-app"},
        {"op": "replace", "path": f"{path}/key", "value": "username"},
    ]


def test_a_volume_is_put_together_from_where_each_item_is() -> None:
    items = [{"key": "database-password", "path": "a"}, {"key": "kek-passphrase", "path": "b"}]
    secret = {"secretName": "mlflow-credentials", "defaultMode": 288, "items": items}
    objects = reading(volumes=[{"name": "v", "secret": secret}])
    wanted = {"database-password": {"secret": "cluster-app", "key": "password"}}
    part = kustomization.edits(objects, Settings(secrets=wanted))
    remove, add = patches(part)["Deployment"]
    assert remove == {"op": "remove", "path": "/spec/template/spec/volumes/0/secret"}
    assert add["path"] == "/spec/template/spec/volumes/0/projected"
    assert add["value"] == {
        "defaultMode": 288,
        "sources": [
            {"secret": {"name": "cluster-app", "items": [{"key": "password", "path": "a"}]}},
            {
                "secret": {
                    "name": "mlflow-credentials",
                    "items": [{"key": "kek-passphrase", "path": "b"}],
                }
            },
        ],
    }


def test_what_nobody_asks_for_is_refused() -> None:
    wanted = {"admin-password": {"secret": "a"}}
    with pytest.raises(SettingsError, match=r"mlflow_secrets\.admin-password: no pod"):
        kustomization.edits(release(), Settings(secrets=wanted))


def test_what_is_external_comes_into_a_secret_of_its_own() -> None:
    objects = reading(
        containers=[
            {"name": "mlflow", "image": "m:v1", "env": [variable("K", "kek-passphrase")]},
        ]
    )
    spec = {"dataFrom": [{}], "target": {"name": "mlflow-credentials", "creationPolicy": "Orphan"}}
    objects.append(
        thing("external-secrets.io/v1", "ExternalSecret", "mlflow-credentials", spec=spec)
    )
    settings = Settings(
        secrets={"kek-passphrase": {"external": "mlflow/prod", "property": "kek"}},
        secret_store={"name": "vault"},
    )
    found = patches(kustomization.edits(objects, settings))
    assert found["Deployment"][0]["value"] == "mlflow-external"
    operations = {item["path"]: item.get("value") for item in found["ExternalSecret"]}
    assert operations == {
        "/spec/secretStoreRef": {"kind": "SecretStore", "name": "vault"},
        "/spec/target": {"name": "mlflow-external", "creationPolicy": "Orphan"},
        "/spec/data": [
            {"secretKey": "kek-passphrase", "remoteRef": {"key": "mlflow/prod", "property": "kek"}}
        ],
        "/spec/dataFrom": None,
    }


def test_the_administrator_is_where_the_server_is_told() -> None:
    env = [
        variable("MLFLOW_AUTH_ADMIN_USERNAME", "admin-username"),
        variable("MLFLOW_AUTH_ADMIN_PASSWORD", "admin-password"),
    ]
    objects = reading(containers=[{"name": "mlflow", "image": "m:v1", "env": env}])
    assert kustomization.administrator(objects) == {
        "username": {"secret": "mlflow-credentials", "key": "admin-username"},
        "password": {"secret": "mlflow-credentials", "key": "admin-password"},
    }
    assert kustomization.administrator(release()) == {}
