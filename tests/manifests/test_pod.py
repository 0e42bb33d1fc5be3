"""What an inventory adds to pods reaches the server, its Jobs and its CronJobs alike."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from ansible_collections.mlops.mlflow.plugins.action.release_render import RenderError
from ansible_collections.mlops.mlflow.plugins.action.release_variables import role_specs
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render.kustomization import (
    SettingsError,
)
from ansible_collections.mlops.mlflow.tests.manifests.test_overlays import problems, release
from ansible_collections.mlops.mlflow.tests.manifests.tree import (
    ROOT,
    TREE,
    Object,
    containers,
    one,
    pods,
)

PRODUCTION = TREE / "overlays/production"
# Its rule that keeps pods apart needs a volume that lets them.
COMPONENTS = (
    *("auth", "backup", "backup-s3", "gc", "monitoring", "network-policy"),
    "shared-artifacts",
)
POD: dict[str, Any] = {
    "labels": {"azure.workload.identity/use": "true"},
    "annotations": {"sidecar.istio.io/inject": "false", "prometheus.io/scrape": "no"},
    "serviceAccountAnnotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/mlflow"},
    "nodeSelector": {"example.org/pool": "data"},
    "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}
                ]
            }
        },
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {
                    "topologyKey": "kubernetes.io/hostname",
                    "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "mlflow"}},
                }
            ]
        },
    },
    "priorityClassName": "high",
    "imagePullSecrets": [{"name": "registry"}],
    "env": [
        {"name": "HTTPS_PROXY", "value": "http://proxy.example.org:3128"},
        {
            "name": "OPENAI_API_KEY",
            "valueFrom": {"secretKeyRef": {"name": "provider", "key": "api-key"}},
        },
    ],
    "envFrom": [{"configMapRef": {"name": "cloud"}}],
    "volumes": [{"name": "company-ca", "configMap": {"name": "company-ca"}}],
    "volumeMounts": [{"name": "company-ca", "mountPath": "/etc/company-ca", "readOnly": True}],
    "containers": [{"name": "log-shipper", "image": "registry.example.org/log-shipper:1.4"}],
    "initContainers": [
        {"name": "fetch", "image": "registry.example.org/fetch:1"},
        {
            "name": "database-proxy",
            "image": "registry.example.org/proxy:2",
            "restartPolicy": "Always",
            "securityContext": {"allowPrivilegeEscalation": False, "runAsUser": 65532},
        },
    ],
}
SECRETS = {"database-password": {"secret": "cluster-app", "key": "password"}}


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> tuple[Object, ...]:
    made: tuple[Object, ...] = release(
        tmp_path_factory.mktemp("pod"),
        PRODUCTION,
        *COMPONENTS,
        pod=POD,
        # What edits the same pods by their entries' numbers.
        secrets=SECRETS,
        static_prefix="/mlflow",
        gc_older_than="20d",
        backup_s3={"url": "s3://bucket/folder"},
    )
    return made


def test_all_of_it_is_valid(objects: tuple[Object, ...]) -> None:
    version = kubernetes_validate.latest_version()
    for item in objects:
        kubernetes_validate.validate(item, version, strict=True)
    assert problems(objects) == []


def test_every_pod_of_mlflow_has_it(objects: tuple[Object, ...]) -> None:
    found = dict(pods(objects))
    assert len(found) == 8
    del found["StatefulSet/postgres"]
    for name, pod in found.items():
        spec = pod["spec"]
        assert pod["metadata"]["labels"].items() >= POD["labels"].items(), name
        assert pod["metadata"]["annotations"].items() >= POD["annotations"].items(), name
        assert POD["volumes"][0] in spec["volumes"], name
        first = [each["name"] for each in spec["initContainers"]][:2]
        assert first == ["fetch", "database-proxy"], name
        ours = [each for each in containers(pod) if not each["image"].startswith("registry.")]
        assert ours
        for each in ours:
            assert [e for e in each["env"] if e in POD["env"]] == POD["env"], each["name"]
            assert POD["envFrom"][0] in each["envFrom"], each["name"]
            assert POD["volumeMounts"][0] in each["volumeMounts"], each["name"]
            names = [e["name"] for e in each["env"]]
            assert len(names) == len(set(names)), each["name"]


def test_the_database_runs_where_the_others_do_and_has_nothing_else(
    objects: tuple[Object, ...],
) -> None:
    for name, pod in pods(objects):
        spec = pod["spec"]
        assert spec["nodeSelector"] == POD["nodeSelector"], name
        assert spec["tolerations"] == POD["tolerations"], name
        assert spec["imagePullSecrets"] == POD["imagePullSecrets"], name
        assert spec["priorityClassName"] == "high", name
        assert "nodeAffinity" in spec["affinity"], name
        assert ("podAntiAffinity" in spec["affinity"]) == (name == "Deployment/mlflow"), name
    database = one(objects, "StatefulSet", "postgres")["spec"]["template"]
    assert "annotations" not in database["metadata"]
    assert POD["labels"].keys().isdisjoint(database["metadata"]["labels"])
    assert [each["name"] for each in containers(database)] == ["postgres"]


def test_a_container_beside_the_server_is_not_beside_a_job(objects: tuple[Object, ...]) -> None:
    """Which would never end."""
    for name, pod in pods(objects):
        beside = [each for each in pod["spec"]["containers"] if each["name"] == "log-shipper"]
        assert len(beside) == (name == "Deployment/mlflow"), name
    pod = one(objects, "Deployment", "mlflow")["spec"]["template"]["spec"]
    assert pod["containers"][0]["name"] == "mlflow"
    found = {each["name"]: each for each in [*pod["initContainers"], *pod["containers"]]}
    restricted = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert found["log-shipper"]["securityContext"] == restricted
    assert found["database-proxy"]["securityContext"]["runAsUser"] == 65532


def test_what_edits_the_same_pods_still_does(objects: tuple[Object, ...]) -> None:
    for name, pod in pods(objects):
        for each in containers(pod):
            for variable in each.get("env", []):
                if variable["name"] == "PGPASSWORD":
                    assert variable["valueFrom"]["secretKeyRef"] == {
                        "name": "cluster-app", "key": "password"
                    }, f"{name}/{each['name']}"  # fmt: skip
    found = {each["name"]: each for _name, pod in pods(objects) for each in containers(pod)}
    assert found["mlflow"]["readinessProbe"]["httpGet"]["path"] == "/mlflow/health"
    age = [e["value"] for e in found["gc"]["env"] if e["name"] == "MLOPS_GC_OLDER_THAN"]
    assert age == ["20d"]


def test_the_account_has_an_identity(objects: tuple[Object, ...]) -> None:
    account = one(objects, "ServiceAccount", "mlflow")
    assert account["metadata"]["annotations"] == POD["serviceAccountAnnotations"]
    assert "annotations" not in one(objects, "ServiceAccount", "postgres")["metadata"]


@pytest.mark.parametrize(
    ("pod", "said"),
    [
        (
            {"env": [{"name": "PGPASSWORD", "value": "x"}]},
            "mlflow_pod.env[0].name: Deployment mlflow has PGPASSWORD already; mlflow_secrets",
        ),
        (
            {"volumes": [{"name": "tmp", "emptyDir": {}}]},
            "mlflow_pod.volumes[0].name: Deployment mlflow has tmp already",
        ),
        (
            {"containers": [{"name": "mlflow", "image": "a"}]},
            "mlflow_pod.containers[0].name: Deployment mlflow has mlflow already",
        ),
        (
            {
                "volumes": [{"name": "a", "emptyDir": {}}],
                "volumeMounts": [{"name": "a", "mountPath": "/mlflow/artifacts"}],
            },
            "mlflow_pod.volumeMounts[0].mountPath: Deployment mlflow has /mlflow/artifacts already",
        ),
    ],
)
def test_what_a_pod_has_already_is_told(tmp_path: Path, pod: dict[str, Any], said: str) -> None:
    with pytest.raises((SettingsError, RenderError)) as error:
        release(tmp_path, PRODUCTION, pod=pod)
    assert str(error.value).startswith(said)


def test_a_load_balancer_knows_whom_it_serves(tmp_path: Path) -> None:
    service = {
        "type": "LoadBalancer",
        "annotations": {"service.beta.kubernetes.io/aws-load-balancer-scheme": "internal"},
        "loadBalancerSourceRanges": ["192.0.2.0/24"],
    }
    made = one(release(tmp_path, PRODUCTION, service=service), "Service", "mlflow")
    kubernetes_validate.validate(made, kubernetes_validate.latest_version(), strict=True)
    assert made["spec"]["loadBalancerSourceRanges"] == ["192.0.2.0/24"]
    assert made["metadata"]["annotations"] == service["annotations"]


# --- From a chart ---------------------------------------------------------------------------------


def test_every_variable_of_the_page_about_charts_is_one() -> None:
    """Its examples are rendered with those of all pages."""
    page = (ROOT / "docs/guides/from-a-chart.md").read_text(encoding="utf-8")
    known = role_specs(["mlflow"])
    named = set(re.findall(r"`(mlflow_\w+)(?:\.(\w+))?", page))
    assert len(named) > 20
    for name, key in named:
        assert name in known, name
        options = known[name].get("options")
        assert not key or not options or key in options, f"{name}.{key}"
