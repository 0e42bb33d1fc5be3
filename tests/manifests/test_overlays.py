"""Overlays of other people: what kustomize can do to the tree works, or is told in one line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.mlops.mlflow.plugins.action import release_check, release_render
from ansible_collections.mlops.mlflow.tests.manifests.test_components import (
    config,
    policies,
    selects,
)
from ansible_collections.mlops.mlflow.tests.manifests.test_exposure import rendered
from ansible_collections.mlops.mlflow.tests.manifests.test_manifests import answers_to
from ansible_collections.mlops.mlflow.tests.manifests.tree import (
    TREE,
    Object,
    containers,
    one,
    pods,
)

COMPONENTS = TREE / "components"
SIDECAR: Object = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "mlflow"},
    "spec": {
        "template": {
            "spec": {
                "initContainers": [{"name": "aside-first", "image": "registry.example.org/a:1"}],
                "containers": [{"name": "aside", "image": "registry.example.org/a:1"}],
            }
        }
    },
}


def overlay(folder: Path, **fields: Any) -> Path:
    """Write somebody's overlay on production, and return its folder."""
    place = folder.resolve() / "theirs"
    place.mkdir()
    document = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "mlflow-production",
        "resources": [os.path.relpath(TREE / "overlays/production", place)],
        **fields,
    }
    for name in ("resources", "components"):
        if name in document:
            document[name] = [
                os.path.relpath(item, place) if isinstance(item, Path) else item
                for item in document[name]
            ]
    (place / "kustomization.yml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return place


def release(folder: Path, place: Path, *components: str | Path, **settings: Any) -> Any:
    """Return what the collection makes of an overlay."""
    build = folder / "build"
    build.mkdir()
    return rendered(
        build,
        "",
        overlay=str(place),
        components=[str(COMPONENTS / item) for item in components],
        **settings,
    )


def refusal(folder: Path, place: Path, *components: str | Path) -> str:
    with pytest.raises(release_render.RenderError) as error:
        release(folder, place, *components)
    return str(error.value)


def problems(objects: tuple[Object, ...]) -> list[str]:
    stages = release_render.kustomization.by_stage(list(objects))
    arguments = {name: o.get("default") for name, o in release_check._OPTIONS.items()}
    return release_check.check(
        {**arguments, "stages": stages, "environment": "production"}
    ).problems


# --- Patches go by name ---------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["overlay", "component"])
def test_a_sidecar_in_front_takes_nothing_from_the_server(tmp_path: Path, where: str) -> None:
    """kustomize merges a new container in front of those that are there (kustomize#5904)."""
    names = ("backup", "gc", "external-postgres", "auth", "monitoring")
    if where == "overlay":
        place = overlay(tmp_path, patches=[{"patch": yaml.safe_dump(SIDECAR)}])
        objects = release(tmp_path, place, *names, config={"PGHOST": "db.example.org"})
    else:
        aside = tmp_path / "aside"
        aside.mkdir()
        (aside / "kustomization.yml").write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "kustomize.config.k8s.io/v1alpha1",
                    "kind": "Component",
                    "patches": [{"patch": yaml.safe_dump(SIDECAR)}],
                }
            ),
            encoding="utf-8",
        )
        place = overlay(tmp_path)
        objects = release(tmp_path, place, aside, *names, config={"PGHOST": "db.example.org"})
    pod = one(objects, "Deployment", "mlflow")["spec"]["template"]
    found = {each["name"]: each for each in containers(pod)}
    for name in ("aside", "aside-first"):
        assert set(found[name]) == {"name", "image"}
    wanted = {"/etc/mlops-mlflow/auth", "/etc/mlops-mlflow/database-ca"}
    for name in ("mlflow", "schema-wait"):
        assert wanted <= {mount["mountPath"] for mount in found[name]["volumeMounts"]}
    assert "--app-name" in found["mlflow"]["args"]
    assert problems(objects) == []


# --- Labels of an organisation --------------------------------------------------------------------


@pytest.mark.parametrize(
    "field",
    [
        {"commonLabels": {"example.org/team": "vision"}},
        {"labels": [{"pairs": {"example.org/team": "vision"}, "includeTemplates": True}]},
        {"labels": [{"pairs": {"example.org/team": "vision"}, "includeSelectors": True}]},
    ],
    ids=["common", "templates", "selectors"],
)
@pytest.mark.parametrize("policies_in", ["overlay", "inventory"])
def test_labels_of_an_organisation_reach_everything(
    tmp_path: Path, field: dict[str, Any], policies_in: str
) -> None:
    """Policies that select by them select what the collection adds, too."""
    inside = policies_in == "overlay"
    place = overlay(
        tmp_path, **field, **({"components": [COMPONENTS / "network-policy"]} if inside else {})
    )
    names = ("backup", "auth", *(() if inside else ("network-policy",)))
    objects = release(tmp_path, place, *names)
    for item in objects:
        assert item["metadata"]["labels"]["example.org/team"] == "vision", item["metadata"]["name"]
    labels = {name: pod["metadata"]["labels"] for name, pod in pods(objects)}
    assert len(labels) == 6
    for name, item in labels.items():
        assert item["example.org/team"] == "vision"
        assert selects(policies(objects)["mlflow-default-deny"]["podSelector"], item), name
    (rule,) = policies(objects)["mlflow-database"]["ingress"]
    (client,) = rule["from"]
    for name, item in labels.items():
        if not name.endswith("/postgres"):
            assert selects(client["podSelector"], item), name
    for kind in ("Deployment", "StatefulSet"):
        for item in objects:
            if item["kind"] == kind:
                wanted = item["spec"]["selector"]["matchLabels"].items()
                assert wanted <= item["spec"]["template"]["metadata"]["labels"].items()
    assert problems(objects) == []


@pytest.mark.parametrize("key", ["app.kubernetes.io/part-of", "app.kubernetes.io/name"])
@pytest.mark.parametrize("field", ["commonLabels", "labels"])
def test_a_label_that_the_release_goes_by_is_not_changed(
    tmp_path: Path, key: str, field: str
) -> None:
    pairs: dict[str, Any] = {key: "platform"}
    place = overlay(tmp_path, **{field: pairs if field == "commonLabels" else [{"pairs": pairs}]})
    said = refusal(tmp_path, place)
    assert said.startswith(f"mlflow_overlay: changes the label {key} of Deployment mlflow")
    assert "platform" in said


# --- What a release cannot follow -----------------------------------------------------------------


@pytest.mark.parametrize("field", [{"namePrefix": "team-"}, {"nameSuffix": "-blue"}])
def test_other_names_are_told(tmp_path: Path, field: dict[str, Any]) -> None:
    said = refusal(tmp_path, overlay(tmp_path, **field), "auth", "external-postgres")
    assert "namePrefix or nameSuffix" in said
    assert "mlflow_namespace" in said


def test_config_without_a_hash_is_told(tmp_path: Path) -> None:
    place = overlay(
        tmp_path,
        generatorOptions={"disableNameSuffixHash": True},
        configMapGenerator=[
            {"name": "mlflow-config", "behavior": "merge", "literals": ["MLFLOW_WORKERS=3"]}
        ],
    )
    said = refusal(tmp_path, place)
    assert "ConfigMap mlflow-config has no hash in its name (disableNameSuffixHash)" in said


ELSEWHERE: Object = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "elsewhere", "namespace": "monitoring"},
}


def test_objects_of_another_namespace_are_told_and_not_moved(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/it.yml").write_text(yaml.safe_dump(ELSEWHERE), encoding="utf-8")
    (tmp_path / "elsewhere/kustomization.yml").write_text("resources: [it.yml]", encoding="utf-8")
    place = overlay(
        tmp_path,
        resources=[TREE / "overlays/production", (tmp_path / "elsewhere").resolve()],
    )
    document = yaml.safe_load((place / "kustomization.yml").read_text())
    del document["namespace"]
    (place / "kustomization.yml").write_text(yaml.safe_dump(document), encoding="utf-8")
    said = refusal(tmp_path, place)
    assert "objects outside mlflow-production: ConfigMap elsewhere in monitoring" in said


def test_objects_of_another_namespace_in_a_component_are_told_too(tmp_path: Path) -> None:
    folder = tmp_path / "theirs-too"
    folder.mkdir()
    (folder / "it.yml").write_text(yaml.safe_dump(ELSEWHERE), encoding="utf-8")
    (folder / "kustomization.yml").write_text(
        "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nresources: [it.yml]\n",
        encoding="utf-8",
    )
    said = refusal(tmp_path, TREE / "overlays/production", folder)
    assert "ConfigMap elsewhere in monitoring" in said


# --- The order of components ----------------------------------------------------------------------


def test_the_order_in_an_inventory_does_not_matter(tmp_path: Path) -> None:
    names = ["auth", "external-postgres", "gc", "backup", "network-policy"]
    made = []
    for count, order in enumerate((names, names[::-1])):
        folder = tmp_path / str(count)
        folder.mkdir()
        objects = release(
            folder, TREE / "overlays/production", *order, config={"PGHOST": "db.example.org"}
        )
        assert problems(objects) == []
        made.append(
            {
                f"{name}/{each['name']}": {m["mountPath"] for m in each["volumeMounts"]}
                for name, pod in pods(objects)
                for each in containers(pod)
            }
        )
    first, second = ({k.split("-3")[0]: v for k, v in found.items()} for found in made)
    assert first == second


def test_a_component_that_comes_too_early_in_an_overlay_is_told(tmp_path: Path) -> None:
    place = overlay(tmp_path, components=[COMPONENTS / "auth"])
    (said,) = problems(release(tmp_path, place))
    assert said.startswith("mlflow_config.MLFLOW_AUTH_CONFIG_PATH: Job mlflow-smoke-test-")
    assert "Name auth in mlflow_components instead, or last in the overlay" in said


def test_a_component_that_comes_last_in_an_overlay_works(tmp_path: Path) -> None:
    place = overlay(tmp_path, components=[COMPONENTS / "smoke-test", COMPONENTS / "auth"])
    assert problems(release(tmp_path, place)) == []


@pytest.mark.parametrize("name", ["mlflow-backup", "mlflow-backup-drill"])
def test_a_patch_by_name_changes_that_object_alone(tmp_path: Path, name: str) -> None:
    """kustomize goes by the names that an object once had, too."""
    variable = "backup_schedule" if name == "mlflow-backup" else "backup_drill_schedule"
    objects = release(tmp_path, TREE / "overlays/production", "backup", **{variable: "1 1 1 1 1"})
    schedules = {
        o["metadata"]["name"]: o["spec"]["schedule"] for o in objects if o["kind"] == "CronJob"
    }
    assert [n for n, schedule in schedules.items() if schedule == "1 1 1 1 1"] == [name]


@pytest.mark.parametrize(
    ("config_", "pod"),
    [
        ({"PGSSLMODE": "require"}, {}),
        ({"PGSSLROOTCERT": "system"}, {}),
        (
            {"PGSSLCERT": "/etc/mlops-mlflow/database-client/tls.crt"},
            {
                "volumes": [{"name": "client", "secret": {"secretName": "client"}}],
                "volumeMounts": [
                    {"name": "client", "mountPath": "/etc/mlops-mlflow/database-client"}
                ],
            },
        ),
    ],
    ids=["require", "system", "client"],
)
def test_other_certificates_need_no_ca_of_ones_own(
    tmp_path: Path, config_: dict[str, str], pod: dict[str, Any]
) -> None:
    objects = release(
        tmp_path, TREE / "overlays/production", "backup", "gc", "external-postgres",
        config={"PGHOST": "db.example.org", **config_}, pod=pod,
    )  # fmt: skip
    assert problems(objects) == []
    assert config_.items() <= config(objects).items()
    for name, item in pods(objects):
        (volume,) = [v for v in item["spec"]["volumes"] if v["name"] == "database-ca"]
        assert volume["secret"]["optional"] is True, name


def test_a_certificate_that_no_volume_brings_is_told(tmp_path: Path) -> None:
    objects = release(
        tmp_path, TREE / "overlays/production",
        config={"PGSSLCERT": "/etc/mlops-mlflow/database-client/tls.crt"},
    )  # fmt: skip
    assert all("mlflow_pod.volumes" in problem for problem in problems(objects))
    assert len(problems(objects)) == 4


# --- Names ----------------------------------------------------------------------------------------

OWN_NAMES = ("mlflow:5000", "mlflow.team-a:5000", "mlflow.team-a.svc:5000", "localhost:5000")


def test_names_in_mlflow_config_are_added(tmp_path: Path) -> None:
    objects = release(
        tmp_path,
        TREE / "overlays/production",
        hosts=["mlflow.example.org"],
        config={
            "MLFLOW_SERVER_ALLOWED_HOSTS": "mlflow.*.svc.corp.example:*, tracking.example.org",
            "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": "https://notebooks.example.org",
        },
    )
    for host in (
        *OWN_NAMES,
        "mlflow.team-a.svc.corp.example:5000",
        "tracking.example.org",
        "mlflow.example.org",
        "10.0.0.1:5000",
    ):
        assert answers_to(objects, host), host
    assert not answers_to(objects, "attacker.example")
    origins = config(objects)["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"].split(",")
    assert {"https://notebooks.example.org", "https://mlflow.example.org"} <= set(origins)


def test_what_an_overlay_allows_is_not_lost(tmp_path: Path) -> None:
    """Nor is what the release's own checks need, whatever an overlay allows."""
    place = overlay(
        tmp_path,
        configMapGenerator=[
            {
                "name": "mlflow-config",
                "behavior": "merge",
                "literals": [
                    "MLFLOW_SERVER_ALLOWED_HOSTS=tracking.example.org",
                    "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS=https://tracking.example.org",
                ],
            }
        ],
    )
    objects = release(
        tmp_path,
        place,
        config={"MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": "https://notebooks.example.org"},
    )
    for host in (*OWN_NAMES, "tracking.example.org"):
        assert answers_to(objects, host), host
    assert not answers_to(objects, "10.0.0.1:5000")
    assert config(objects)["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] == (
        "https://tracking.example.org,https://notebooks.example.org"
    )
