"""Which stages are applied together, as roles/release/vars/main.yml says it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.any_core import holds, load

ROLE = Path(__file__).resolve().parents[4] / "roles/release"
STAGES = ("config", "database", "migration", "server", "smoke-test")


def said(name: str, *existing: str, **more: Any) -> Any:
    loader = DataLoader()
    variables = {
        **load(ROLE / "vars/main.yml"),
        "release_difference": {
            "existing": list(existing),
            "image": more.pop("image", ""),
            "settled": {"migration": more.pop("migrated", False)},
        },
        "preflight_release": {
            "image": "mlflow:2",
            "stages": {"database": more.pop("database", [{"kind": "StatefulSet"}])},
        },
        "mlflow_backup_before_upgrade": False,
        **more,
    }
    templar = Templar(loader=loader, variables=variables)
    return templar.template(variables[name])


def applied(stage: str, *existing: str, **more: Any) -> Any:
    return said("__release_stages", *existing, __release_stage=stage, **more)


@pytest.mark.parametrize("existing", ["Deployment/mlflow", "StatefulSet/postgres"])
def test_where_something_runs_one_stage_is_applied_at_a_time(existing: str) -> None:
    for stage in STAGES:
        assert applied(stage, "Namespace/mlflow", existing) == [stage]


def test_a_first_deployment_starts_all_at_once_but_the_smoke_test() -> None:
    # A volume may be there: teardown keeps the data.
    there = ("Namespace/mlflow", "PersistentVolumeClaim/mlflow-artifacts")
    assert applied("config", *there) == ["config"]
    assert applied("database", *there) == ["database", "migration", "server"]
    assert applied("migration", *there) == applied("server", *there) == []
    assert applied("smoke-test", *there) == ["smoke-test"]


def test_every_stage_is_applied_once_whatever_is_there() -> None:
    for existing in ((), ("Deployment/mlflow",)):
        assert tuple(name for stage in STAGES for name in applied(stage, *existing)) == STAGES


def waited_for(*existing: str) -> list[tuple[str, Any]]:
    """Return each wait of a deployment, and what it waits for beside MLflow."""
    loader = DataLoader()
    variables = {
        **load(ROLE / "vars/main.yml"),
        "ansible_check_mode": False,
        "mlflow_backup_before_upgrade": False,
        "preflight_release": {"stages": {name: [name] for name in STAGES}},
        "release_credentials": {"restart": ""},
        "release_difference": {
            "existing": list(existing),
            "settled": dict.fromkeys(STAGES, False),
        },
    }
    templar = Templar(loader=loader, variables=variables)
    found = []
    for stage in ("database", "migration", "server"):
        tasks = load(ROLE / f"tasks/{stage}.yml")
        for task in [*tasks, *(inner for outer in tasks for inner in outer.get("block", []))]:
            module = next((key for key in task if ".wait_for_" in key), "")
            conditions = task.get("when", [])
            wanted = conditions if isinstance(conditions, list) else [conditions]
            if module and all(holds(templar, one) for one in wanted):
                found.append((stage, templar.template(task[module]["definition"])))
    return found


def test_a_first_deployment_is_waited_for_once() -> None:
    assert waited_for() == [("server", ["database", "migration"])]
    assert waited_for("Deployment/mlflow", "StatefulSet/postgres") == [
        ("database", ["database"]),
        ("migration", ["migration"]),
        ("server", []),
    ]


@pytest.mark.parametrize(
    ("left", "prunes", "changed"), [([], True, False), (["x"], True, True), (["x"], False, False)]
)
def test_what_is_pruned_is_a_change(left: list[str], prunes: bool, changed: bool) -> None:
    loader = DataLoader()
    variables = {
        **load(ROLE / "vars/main.yml"),
        "mlflow_prune": prunes,
        "release_back_to": None,
        "release_credentials": {"changed": False},
        "release_difference": {"changes": {"config": []}, "prune": left},
    }
    templar = Templar(loader=loader, variables=variables)
    assert templar.template(variables["__release_changed"]) is changed


def test_each_wait_has_what_the_inventory_says_of_waiting() -> None:
    """Whatever stage a custom resource of the overlay belongs to."""
    for path in sorted((ROLE / "tasks").glob("*.yml")):
        tasks = load(path) or []
        for task in [*tasks, *(inner for outer in tasks for inner in outer.get("block", []))]:
            module = next((key for key in task if ".wait_for_" in key), "")
            if module and "definition" in task[module]:
                assert task[module]["conditions"] == "{{ mlflow_wait_conditions }}", path.name
                assert task[module]["tolerances"] == "{{ mlflow_tolerances }}", path.name


VOLUME = "PersistentVolumeClaim/data-postgres-0"


@pytest.mark.parametrize(
    ("existing", "more", "asks"),
    [
        # After a teardown, and a Postgres of one's own that somebody has filled.
        ((VOLUME,), {}, True),
        ((), {"database": []}, True),
        # The address of the database is another one.
        (("Deployment/mlflow",), {"database": [], "image": "mlflow:2"}, True),
        # Nothing can be on a volume that is not there.
        ((), {}, False),
        # The backup of an upgrade is taken before anything is written.
        (("Deployment/mlflow", VOLUME), {"image": "mlflow:1"}, False),
        (("Deployment/mlflow", VOLUME), {"image": "mlflow:2", "migrated": True}, False),
        ((VOLUME,), {"mlflow_backup_before_upgrade": False}, False),
        # Of the database that was just restored from one.
        ((VOLUME,), {"__release_takes_backup": False}, False),
    ],
)
def test_a_database_is_asked_where_no_deployment_tells_of_it(
    existing: tuple[str, ...], more: dict[str, Any], asks: bool
) -> None:
    more = {"mlflow_backup_before_upgrade": True, **more}
    assert said("__release_asks_database", *existing, **dict(more)) is asks
    # Then no migration may have begun before it has answered.
    if asks:
        assert applied("database", *existing, **dict(more)) == ["database"]


@pytest.mark.parametrize(
    ("more", "may"),
    [
        ({"image": "mlflow:1"}, True),
        # Another configuration of the same MLflow.
        ({"image": "mlflow:2"}, False),
        # No Deployment tells, and the database was asked.
        ({"release_schema": {"schema": {"tracking": {"state": "behind"}}}}, True),
        ({"release_schema": {"schema": {"tracking": {"state": "at_head"}}}}, False),
        # A rollback, and a database that was just restored.
        ({"image": "mlflow:1", "release_back_to": 1}, False),
        ({"image": "mlflow:1", "__release_takes_backup": False}, False),
    ],
)
def test_what_is_rehearsed(more: dict[str, Any], may: bool) -> None:
    assert said("__release_may_migrate", **{"release_back_to": None, **more}) is may


def test_what_may_be_recorded_has_no_secret_in_it() -> None:
    rendered = {"image": "i", "stages": {"config": []}, "backup": [], "secret_definitions": "[1]"}
    assert said("__release_content", preflight_release=rendered) == {
        "image": "i",
        "stages": {"config": []},
    }
