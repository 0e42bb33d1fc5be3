"""The documented permissions are those that are asked for; each one that is missing is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.access import Permission
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Answer, Api, ApiError
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import (
    COMPANIONS,
    DEPLOYMENT,
    JOB,
    KINDS,
    OPTIONAL_KINDS,
    STATEFUL_SET,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._release import permissions as access

ROOT = Path(__file__).parents[4]
NAMESPACE = "mlflow-production"
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
# Group, resource, verb.
Grant = tuple[str, str, str]
# What another playbook than site.yml does, and what a deployment does without where it may not; see
# docs/access/deployer.yml for which.
ELSEWHERE = {
    ("", "secrets", "delete"),
    ("route.openshift.io", "routes/custom-host", "create"),
    *(("", "namespaces", verb) for verb in ("get", "patch")),
    *(("", plural, "list") for plural in ("limitranges", "resourcequotas")),
}


def documents(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a YAML file."""
    return [item for item in yaml.safe_load_all(path.read_text()) if isinstance(item, dict)]


def role(name: str) -> set[Grant]:
    """Return what a Role of the documentation grants."""
    (found,) = (
        item
        for item in documents(ROOT / "docs/access/deployer.yml")[0]["items"]
        if item["kind"] == "Role" and item["metadata"]["name"] == name
    )
    return {
        (group, resource, verb)
        for rule in found["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def objects(folder: Path) -> set[tuple[str, str]]:
    """Return the kinds of objects in a folder of the Kustomize tree, and in what it takes in."""
    found = set()
    for path in folder.rglob("*.yml"):
        for item in documents(path):
            if "configMapGenerator" in item:
                found.add(("v1", "ConfigMap"))
            for other in item.get("components", []):
                found |= objects(path.parent / other)
            if {"apiVersion", "kind"} <= set(item) and "kustomize" not in item["apiVersion"]:
                found.add((item["apiVersion"], item["kind"]))
    return found


def kinds(*folders: str) -> list[dict[str, str]]:
    """Return the kinds of objects in folders of the Kustomize tree, as a render gives them."""
    found = {("v1", "Secret")}.union(*(objects(ROOT / "kustomize" / folder) for folder in folders))
    return [{"api_version": version, "kind": kind} for version, kind in sorted(found)]


BASE = kinds("base", "overlays", "components/smoke-test")
EVERYTHING = kinds("base", "overlays", "components")


class Reviewed(Api):
    """A cluster with one namespace, that answers access reviews from what a Role there grants."""

    def __init__(self, grants: set[Grant], exists: bool = True) -> None:
        self._kinds = {
            (kind.api_version, kind.kind): kind for kind in (*KINDS.values(), *OPTIONAL_KINDS)
        }
        self._grants = grants
        self._exists = exists
        self.everywhere: set[Grant] = set()
        self.hides_namespaces = False
        self.version = "v1.37.2"

    @property
    def host(self) -> str:
        return "https://reviewed"

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: dict[str, str] | None = None,
        content_type: str = "application/json",
        read_timeout: float = 15.0,
        accept: str = "application/json",
    ) -> Answer:
        if path == "/version":
            return Answer(200, {"gitVersion": self.version})
        if path == f"/api/v1/namespaces/{NAMESPACE}":
            if self.hides_namespaces:
                return Answer(403, {"message": "forbidden"})
            return Answer(200, {"metadata": {}}) if self._exists else Answer(404, {})
        assert (method, path) == ("POST", REVIEWS)
        asked = body["spec"]["resourceAttributes"]
        resource = asked["resource"] + (
            f"/{asked['subresource']}" if "subresource" in asked else ""
        )
        grant = (asked["group"], resource, asked["verb"])
        # As RBAC has it: a Role grants what is asked for in its namespace, and nothing beyond.
        here = asked.get("namespace") == NAMESPACE and grant in self._grants
        return Answer(201, {"status": {"allowed": here or grant in self.everywhere}})


def check(cluster: Api, of: list[dict[str, str]]) -> dict[str, Any]:
    return access.check(cluster, {"namespace": NAMESPACE, "kinds": of, "prune": True})


def said(grant: Grant) -> str:
    group, resource, verb = grant
    return f"{verb} {resource}{'.' + group if group else ''}"


def test_the_documented_role_is_what_a_release_takes() -> None:
    asked = access.needed(Reviewed(set()), BASE, NAMESPACE, True)
    assert role("mlflow-deployer") == {(item.group, item.resource, item.verb) for item in asked}
    assert {item.namespace for item in asked} == {NAMESPACE}


def test_the_other_role_is_what_components_take_besides() -> None:
    asked = access.needed(Reviewed(set()), EVERYTHING, NAMESPACE, True)
    everything = {(item.group, item.resource, item.verb) for item in asked}
    besides = (everything - role("mlflow-deployer")) | ELSEWHERE
    assert role("mlflow-deployer-components") == besides


def test_the_documented_roles_suffice() -> None:
    assert check(Reviewed(role("mlflow-deployer")), BASE)["namespace_exists"] is True
    both = role("mlflow-deployer") | role("mlflow-deployer-components")
    assert check(Reviewed(both), EVERYTHING)["namespace_exists"]


@pytest.mark.parametrize("grant", sorted(role("mlflow-deployer")), ids=said)
def test_each_permission_that_is_missing_is_named(grant: Grant) -> None:
    with pytest.raises(ApiError) as caught:
        check(Reviewed(role("mlflow-deployer") - {grant}), BASE)
    assert str(caught.value) == (
        f"these permissions are missing in namespace {NAMESPACE}: {said(grant)}"
    )
    assert caught.value.missing == [said(grant)]


def test_all_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(ApiError) as caught:
        check(Reviewed(set()), BASE)
    assert set(caught.value.missing) == {said(grant) for grant in role("mlflow-deployer")}


def test_a_namespace_that_is_not_there_takes_permissions_in_the_cluster() -> None:
    cluster = Reviewed(role("mlflow-deployer"), exists=False)
    with pytest.raises(ApiError) as caught:
        check(cluster, BASE)
    assert "missing in the cluster, and the namespace mlflow-production does not exist" in str(
        caught.value
    )
    assert caught.value.missing == ["create namespaces"]
    cluster.everywhere = {("", "namespaces", "create")}
    assert check(cluster, BASE)["namespace_exists"] is False


def test_a_namespace_that_may_not_be_looked_at_is_there() -> None:
    """As in a cluster that is shared: the account has a Role in a namespace, and no more."""
    cluster = Reviewed(role("mlflow-deployer"))
    cluster.hides_namespaces = True
    assert check(cluster, BASE)["namespace_exists"] is True


def test_a_namespace_that_nobody_brings_is_said_to_be_missing() -> None:
    without = [item for item in BASE if item["kind"] != "Namespace"]
    with pytest.raises(ApiError, match="does not exist, and the overlay does not bring it"):
        check(Reviewed(role("mlflow-deployer"), exists=False), without)


def test_what_a_wait_watches_is_asked_for() -> None:
    asked = set(access.needed(Reviewed(set()), BASE, NAMESPACE, True))
    waited_for = (DEPLOYMENT, STATEFUL_SET, JOB)
    for kind in {*waited_for, *(other for each in waited_for for other in COMPANIONS[each])}:
        for verb in ("list", "watch"):
            assert Permission(verb, kind.group, kind.plural, NAMESPACE) in asked, kind


@pytest.mark.parametrize(
    ("version", "fits"),
    [
        ("v1.26.15", False),
        ("v1.9.0", False),
        ("v1.27.0", True),
        ("v1.33.1-gke.1584000", True),
        ("v1.30.4+k3s1", True),
        ("v2.0.0", True),
        ("", True),
    ],
)
def test_a_cluster_that_is_too_old_is_refused(version: str, fits: bool) -> None:
    cluster = Reviewed(role("mlflow-deployer"))
    cluster.version = version
    if fits:
        check(cluster, BASE)
        return
    with pytest.raises(ApiError, match=rf"{version}, and a release needs 1\.27 or newer"):
        check(cluster, BASE)


def test_the_pages_say_how_old_a_cluster_may_be() -> None:
    page = (ROOT / "docs/guides/your-own-cluster.md").read_text(encoding="utf-8")
    assert f"Kubernetes {'.'.join(map(str, access.OLDEST))} or newer" in page
