"""Where the servers may be: on the node of a volume that is on one at a time, else on any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render import placement
from ansible_collections.mlops.mlflow.tests.manifests.test_components import selects
from ansible_collections.mlops.mlflow.tests.manifests.test_overlays import (
    overlay,
    problems,
    release,
)
from ansible_collections.mlops.mlflow.tests.manifests.tree import (
    TREE,
    Object,
    build,
    combine,
    one,
    pods,
)

PRODUCTION = TREE / "overlays/production"
LABEL = placement.ON_ONE_NODE
MANY: Object = {
    "target": {"kind": "PersistentVolumeClaim", "name": "mlflow-artifacts"},
    "patch": "- {op: replace, path: /spec/accessModes, value: [ReadWriteMany]}",
}
AWAY: Object = {
    "topologyKey": "kubernetes.io/hostname",
    "labelSelector": {
        "matchExpressions": [
            {"key": "app.kubernetes.io/component", "operator": "In", "values": ["server"]}
        ]
    },
}
BESIDE_A_CACHE: Object = {
    "topologyKey": "kubernetes.io/hostname",
    "labelSelector": {"matchLabels": {"app": "cache"}},
}


def server(objects: tuple[Object, ...]) -> Object:
    template: Object = one(objects, "Deployment", "mlflow")["spec"]["template"]
    return template


def terms(template: Object, kind: str = "podAffinity") -> list[Object]:
    affinity = template["spec"].get("affinity") or {}
    found: list[Object] = (affinity.get(kind) or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution", []
    )
    return found


def assert_together(objects: tuple[Object, ...]) -> None:
    template = server(objects)
    labels = template["metadata"]["labels"]
    assert [t for t in terms(template) if selects(t["labelSelector"], labels)]
    # The first one of a new revision starts beside those of any release before.
    before = {k: v for k, v in labels.items() if k != LABEL}
    assert all(selects(t["labelSelector"], before) for t in terms(template))
    assert labels[LABEL] == "true"
    for item in objects:
        if item["kind"] == "PodDisruptionBudget":
            assert not budgeted(item, labels)


def assert_anywhere(objects: tuple[Object, ...]) -> None:
    template = server(objects)
    assert terms(template) == []
    assert LABEL not in template["metadata"]["labels"]
    if template["spec"].get("topologySpreadConstraints"):
        (budget,) = [item for item in objects if item["kind"] == "PodDisruptionBudget"]
        assert budgeted(budget, template["metadata"]["labels"])


def budgeted(budget: Object, labels: dict[str, str]) -> bool:
    """Whether a drain has to ask the budget for a pod with these labels."""
    selector = budget["spec"]["selector"]
    (rule,) = selector["matchExpressions"]
    assert rule == {"key": LABEL, "operator": "DoesNotExist"}
    return selector["matchLabels"].items() <= labels.items() and LABEL not in labels


@pytest.mark.parametrize(
    "name", ["base", "overlays/development", "overlays/staging", "overlays/production"]
)
def test_servers_are_where_their_volume_is(name: str) -> None:
    assert_together(build(TREE / name))


@pytest.mark.parametrize("component", ["s3-artifacts", "shared-artifacts"])
@pytest.mark.parametrize(
    ("name", "later"),
    [
        ("base", ()),
        ("base", ("high-availability",)),
        # It is a part of these.
        ("overlays/staging", ()),
        ("overlays/production", ()),
    ],
)
def test_servers_spread_where_they_may(
    tmp_path: Path, name: str, component: str, later: tuple[str, ...]
) -> None:
    assert_anywhere(build(combine(tmp_path, name, component, *later)))


def test_a_shared_volume_is_asked_for_as_such(tmp_path: Path) -> None:
    objects = build(combine(tmp_path, "overlays/production", "shared-artifacts"))
    claim = one(objects, "PersistentVolumeClaim", "mlflow-artifacts")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


@pytest.mark.parametrize(
    "components",
    [(), ("backup", "gc", "auth", "monitoring"), ("backup", "external-postgres", "backup-s3")],
)
def test_whoever_mounts_a_volume_of_one_node_follows_it(
    tmp_path: Path, components: tuple[str, ...]
) -> None:
    """A kind of pod: whatever has such a claim starts where the claim is, if somebody has it."""
    objects = build(combine(tmp_path, "overlays/production", "smoke-test", *components))
    single = {
        item["metadata"]["name"]
        for item in objects
        if item["kind"] == "PersistentVolumeClaim" and not placement.many_nodes(item)
    }
    mounting: dict[str, list[Object]] = {}
    for name, pod in pods(objects):
        for volume in pod["spec"].get("volumes") or []:
            claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
            if claim and claim in single:
                mounting.setdefault(claim, []).append(pod)
        assert name
    assert "mlflow-artifacts" in mounting
    for several in mounting.values():
        for pod in several:
            (term,) = terms(pod)
            for other in several:
                assert selects(term["labelSelector"], other["metadata"]["labels"])


# --- What the collection makes of an overlay of somebody's own ------------------------------------


def test_an_overlay_with_a_shared_volume_spreads(tmp_path: Path) -> None:
    assert_anywhere(release(tmp_path, overlay(tmp_path, patches=[MANY])))


@pytest.mark.parametrize("component", ["", "s3-artifacts", "shared-artifacts"])
def test_an_inventory_s_components_choose(tmp_path: Path, component: str) -> None:
    objects = release(tmp_path, PRODUCTION, *filter(None, [component]))
    (assert_anywhere if component else assert_together)(objects)
    assert problems(objects) == []


def test_an_overlay_without_a_volume_spreads(tmp_path: Path) -> None:
    """As for Google's store, or Azure's, which need no component."""
    patch = {
        "patch": "{apiVersion: apps/v1, kind: Deployment, metadata: {name: mlflow}, spec: "
        "{template: {spec: {containers: [{name: mlflow, volumeMounts: "
        "[{mountPath: /mlflow/artifacts, $patch: delete}]}], volumes: "
        "[{name: artifacts, $patch: delete}]}}}}"
    }
    assert_anywhere(release(tmp_path, overlay(tmp_path, patches=[patch])))


@pytest.mark.parametrize("component", ["", "shared-artifacts"])
def test_affinity_of_one_s_own_stands_beside_it(tmp_path: Path, component: str) -> None:
    pod: Any = {
        "affinity": {
            "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [BESIDE_A_CACHE]}
        }
    }
    template = server(release(tmp_path, PRODUCTION, *filter(None, [component]), pod=pod))
    assert BESIDE_A_CACHE in terms(template)
    assert len(terms(template)) == (1 if component else 2)


def test_an_overlay_that_dropped_it_gets_it_back(tmp_path: Path) -> None:
    patch = {
        "patch": "{apiVersion: apps/v1, kind: Deployment, metadata: {name: mlflow}, spec: "
        "{template: {spec: {affinity: null}}}}"
    }
    assert_together(release(tmp_path, overlay(tmp_path, patches=[patch])))


@pytest.mark.parametrize("component", ["", "s3-artifacts"])
def test_a_rule_that_keeps_servers_apart_needs_a_volume_that_lets_them(
    tmp_path: Path, component: str
) -> None:
    pod: Any = {
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [AWAY]}}
    }
    found = problems(release(tmp_path, PRODUCTION, *filter(None, [component]), pod=pod))
    if component:
        assert found == []
        return
    (problem,) = found
    assert problem.startswith("mlflow_pod.affinity")
    assert "mlflow-artifacts" in problem and "shared-artifacts" in problem


def test_a_strict_spread_needs_such_a_volume_too(tmp_path: Path) -> None:
    patch = {
        "target": {"kind": "Deployment", "name": "mlflow"},
        "patch": "- {op: replace, path: "
        "/spec/template/spec/topologySpreadConstraints/1/whenUnsatisfiable, value: DoNotSchedule}",
    }
    (problem,) = problems(release(tmp_path, overlay(tmp_path, patches=[patch])))
    assert "topologySpreadConstraints" in problem
