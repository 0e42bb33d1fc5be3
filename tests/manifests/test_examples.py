"""Inventories to copy, one for each kind of cluster: they pass preflight, and fit the cluster."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest
import yaml
from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory import overlays
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render import placement
from ansible_collections.mlops.mlflow.tests.manifests.test_components import config
from ansible_collections.mlops.mlflow.tests.manifests.test_manifests import CUSTOM_GROUPS
from ansible_collections.mlops.mlflow.tests.manifests.test_overlays import problems, release
from ansible_collections.mlops.mlflow.tests.manifests.tree import ROOT, TREE, Object, one, pods

FOLDER = ROOT / "inventories/example"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yml"))
# What an inventory sets that is no setting of a render.
ELSEWHERE = {"environment", "context", "kubeconfig", "components"}
# Whose artifacts are on no volume, so that servers may be on any node.
SPREAD = {"eks", "gke", "aks", "openshift"}


def loaded(name: str) -> dict[str, Any]:
    document = yaml.safe_load((FOLDER / f"{name}.yml").read_text(encoding="utf-8"))
    settings: dict[str, Any] = document["all"]["vars"]
    return settings


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Object, ...]]:
    found = {}
    for name in NAMES:
        given = {key.removeprefix("mlflow_"): value for key, value in loaded(name).items()}
        settings = {key: value for key, value in given.items() if key not in ELSEWHERE}
        found[name] = release(
            tmp_path_factory.mktemp(name),
            TREE / "overlays" / given["environment"],
            *given.get("components", []),
            **settings,
        )
    return found


def test_there_is_one_for_each_kind_of_cluster() -> None:
    assert set(NAMES) == {"aks", "eks", "gke", "k3s", "kind", "openshift"}
    page = (ROOT / "docs/guides/your-own-cluster.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert f"`{name}.yml`" in page, name


@pytest.mark.parametrize("name", NAMES)
def test_it_is_short(name: str) -> None:
    assert len(yaml.safe_dump(loaded(name)).splitlines()) <= 25


@pytest.mark.parametrize("name", NAMES)
def test_its_components_go_together(name: str) -> None:
    chosen = loaded(name).get("mlflow_components", [])
    assert overlays.contradictions(chosen) == []
    for component in chosen:
        assert component in overlays.shipped("components")


@pytest.mark.parametrize("name", NAMES)
def test_it_can_be_deployed(name: str, rendered: dict[str, tuple[Object, ...]]) -> None:
    assert problems(rendered[name]) == []
    for item in rendered[name]:
        if item["apiVersion"].split("/")[0] not in CUSTOM_GROUPS:
            kubernetes_validate.validate(item, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("name", NAMES)
def test_servers_are_where_artifacts_let_them(
    name: str, rendered: dict[str, tuple[Object, ...]]
) -> None:
    deployment = one(rendered[name], "Deployment", "mlflow")
    assert placement.together(deployment) == (name not in SPREAD)
    store = config(rendered[name])["MLFLOW_ARTIFACTS_DESTINATION"]
    assert ("://" in store) == (name in SPREAD)


def test_openshift_gives_users_and_groups(rendered: dict[str, tuple[Object, ...]]) -> None:
    fixed = {"runAsUser", "runAsGroup", "fsGroup"}
    for name, pod in pods(rendered["openshift"]):
        assert not fixed & set(pod["spec"]["securityContext"]), name
    route = one(rendered["openshift"], "Route", "mlflow")
    assert route["spec"]["host"] == loaded("openshift")["mlflow_hosts"][0]


def test_clouds_give_pods_an_identity(rendered: dict[str, tuple[Object, ...]]) -> None:
    for name in ("eks", "gke", "aks"):
        account = one(rendered[name], "ServiceAccount", "mlflow")
        assert account["metadata"]["annotations"], name
