"""Which stages are applied together, as roles/release/vars/main.yml says it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

ROLE = Path(__file__).resolve().parents[4] / "roles/release"
STAGES = ("config", "database", "migration", "server", "smoke-test")


def applied(stage: str, *existing: str) -> Any:
    loader = DataLoader()
    variables = {
        **loader.load_from_file(str(ROLE / "vars/main.yml"), trusted_as_template=True),
        "__release_stage": stage,
        "release_difference": {"existing": list(existing)},
    }
    templar = Templar(loader=loader, variables=variables)
    return templar.template(variables["__release_stages"])


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
