"""A release as plain files for Git: in order, without a Secret, and the same each time."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from ansible_collections.mlops.mlflow.plugins.action import release_files, release_render
from ansible_collections.mlops.mlflow.plugins.plugin_utils._release import gitops
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render import kustomization
from ansible_collections.mlops.mlflow.tests.manifests.test_overlays import release
from ansible_collections.mlops.mlflow.tests.manifests.tree import ROOT, TREE, Object, build

WAVE = "argocd.argoproj.io/sync-wave"


def described(folder: Path, *components: str, overlay: str = "production", **settings: Any) -> Any:
    folder.mkdir()
    objects = release(folder, TREE / "overlays" / overlay, *components, **settings)
    return release_render.describe(list(objects), "")


def written(release: Any, folder: Path) -> list[str]:
    files = gitops.files(release, release_files.in_repository(folder), "flux-system")
    return release_files.write(folder, files, check_mode=False)


def plain(items: Any) -> list[Object]:
    """Return objects in an order of their own, without what the files add and leave out."""
    found = []
    for item in json.loads(json.dumps(list(items))):
        marks = item["metadata"].pop("annotations", {})
        kept = {
            name: value
            for name, value in marks.items()
            if not name.startswith("argocd.") and name != kustomization.LAST_APPLIED
        }
        found.append({**item, "annotations": kept})
    return sorted(found, key=lambda item: (item["kind"], item["metadata"]["name"]))


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("gitops")
    (folder / ".git").mkdir()
    made = described(folder / "work", "backup", "gc", "auth", "network-policy")
    written(made, folder / "clusters/production")
    return made, folder / "clusters/production"


def test_kustomize_builds_what_would_be_deployed(everything: tuple[Any, Path]) -> None:
    release, folder = everything
    stages = release["stages"].values()
    built = build(folder)
    assert plain(built) == plain(item for items in stages for item in items)
    for item in built:
        kubernetes_validate.validate(item, kubernetes_validate.latest_version(), strict=True)
    for stage, items in release["stages"].items():
        if items:
            assert plain(build(folder / stage)) == plain(items)


@pytest.mark.parametrize("overlay", ["development", "production"])
def test_no_secret_is_written(tmp_path: Path, overlay: str) -> None:
    made = described(tmp_path / "work", "auth", overlay=overlay)
    written(made, tmp_path / "git")
    for path in (tmp_path / "git").rglob("*.yml"):
        for item in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            assert item["kind"] != "Secret", path
            assert kustomization.LAST_APPLIED not in str(item)
    text = "".join(p.read_text(encoding="utf-8") for p in (tmp_path / "git").rglob("*.yml"))
    for secret in json.loads(made["secret_definitions"]):
        for value in {**secret.get("stringData", {}), **secret.get("data", {})}.values():
            # A name such as mlflow is no secret.
            assert len(value) < 12 or value not in text


def test_a_second_run_writes_the_same(tmp_path: Path) -> None:
    made = described(tmp_path / "one", "backup")
    folder = tmp_path / "git"
    assert written(made, folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    again = described(tmp_path / "two", "backup")
    assert written(again, folder) == []
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_what_is_no_longer_there_goes_and_nothing_else_does(tmp_path: Path) -> None:
    folder = tmp_path / "git"
    written(described(tmp_path / "one"), folder)
    (folder / "README.md").write_text("ours", encoding="utf-8")
    changed = written(described(tmp_path / "two", smoke_test=False), folder)
    assert "smoke-test/objects.yml" in changed
    assert not (folder / "smoke-test/objects.yml").exists()
    assert (folder / "README.md").exists()
    assert build(folder)


def test_the_waves_are_the_stages(everything: tuple[Any, Path]) -> None:
    release, folder = everything
    assert [stage for stage in kustomization.STAGES if release["stages"][stage]] == [
        *("config", "database", "migration", "server", "smoke-test")
    ]
    for number, stage in enumerate(kustomization.STAGES):
        for item in build(folder / stage):
            marks = item["metadata"]["annotations"]
            if item["metadata"]["name"] == "mlflow-backups":
                # Its first pod comes at night: nothing waits for it, and health does not.
                assert marks[WAVE] == str(len(kustomization.STAGES))
                assert marks["argocd.argoproj.io/ignore-healthcheck"] == "true"
            else:
                assert marks[WAVE] == str(number)
    # What a class makes when its first pod comes has to be in that pod's wave.
    claims = [o for o in build(folder / "server") if o["kind"] == "PersistentVolumeClaim"]
    waves = {o["metadata"]["name"]: o["metadata"]["annotations"][WAVE] for o in claims}
    assert waves["mlflow-artifacts"] == "3"


def test_flux_has_one_kustomization_after_another(everything: tuple[Any, Path]) -> None:
    _release, folder = everything
    found = list(yaml.safe_load_all((folder / gitops.FLUX).read_text(encoding="utf-8")))
    before = None
    for item, stage in zip(found, kustomization.STAGES, strict=True):
        assert item["metadata"]["name"] == f"mlflow-production-{stage}"
        spec = item["spec"]
        assert spec["path"] == f"./clusters/production/{stage}"
        assert spec.get("dependsOn") == ([{"name": before}] if before else None)
        before = item["metadata"]["name"]
        there = {(o["kind"], o["metadata"]["name"]) for o in build(folder / stage)}
        checked = {(check["kind"], check["name"]) for check in spec.get("healthChecks", [])}
        assert checked == {one for one in there if one[0] in {"Deployment", "StatefulSet", "Job"}}


def test_jobs_are_called_after_what_they_run(tmp_path: Path) -> None:
    names = set()
    for version in ("3.16.1", "3.17.2"):
        made = described(tmp_path / version, version=version)
        names.add((made["migration_job"], made["smoke_test_job"]))
    assert len(names) == 2
    assert len({name for pair in names for name in pair}) == 4


def test_the_playbook_writes_it_and_a_second_time_nothing(tmp_path: Path) -> None:
    """What comes from an inventory is of classes of Ansible's own."""

    def run() -> str:
        command = ["ansible-playbook", f"--inventory={ROOT}/inventories/production"]
        command += [str(ROOT / "playbooks/render.yml"), f"--extra-vars=render_to={tmp_path}/git"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return " ".join(done.stdout.split())

    first = run()
    assert "flux.yml" in first and "Secret mlflow-credentials with" in first
    assert {"Deployment", "StatefulSet"} <= {item["kind"] for item in build(tmp_path / "git")}
    assert "nothing changed" in run()
