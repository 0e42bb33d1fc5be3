"""What a rollback and a rotation end with: what is different now, and what people must do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.any_core import load

ROLES = Path(__file__).resolve().parents[3] / "roles"
BACK = {
    "target": {
        "name": "release 3 of 2026-11-29",
        "left": "release 4 of 2026-11-30",
        "release": {"image": "mlflow:3.16.1"},
    },
    "image": "mlflow:3.17.2",
    "changes": {"config": [], "server": ["Deployment/mlflow: replicas: 3 → 2"]},
    "prune": [{"kind": "ConfigMap", "metadata": {"name": "mlflow-config-abc"}}],
}


def said(role: str, tasks: str, **facts: Any) -> Any:
    """Return what the last task of a role's file prints, with facts as the role has made them."""
    task = load(ROLES / role / "tasks" / tasks)[-1]
    variables = {
        **load(ROLES / role / "vars/main.yml"),
        **task.get("vars", {}),
        "mlflow_prune": True,
        **facts,
    }
    templar = Templar(loader=DataLoader(), variables=variables)
    return templar.template(task["ansible.builtin.debug"]["msg"])


def test_a_rollback_says_what_is_different() -> None:
    lines = said("rollback", "summary.yml", rollback_difference=BACK, rollback_since={})
    assert lines.splitlines() == [
        "Back at release 3 of 2026-11-29, with mlflow:3.16.1",
        "Changed: image: mlflow:3.17.2 → mlflow:3.16.1, Deployment/mlflow: replicas: 3 → 2,"
        " delete ConfigMap/mlflow-config-abc",
        "The inventory is as it was: set it back too, or the next site.yml goes forward again",
    ]


def test_a_rollback_of_the_database_says_what_is_no_longer_live() -> None:
    since = {"name": "20261129-0300", "time": "03:00", "words": "2 runs"}
    lines = said("rollback", "summary.yml", rollback_difference=BACK, rollback_since=since)
    assert (
        "Restored from the backup 20261129-0300, taken 03:00; since then there were: 2 runs"
        in lines.splitlines()
    )
    assert "mlflow_restore_drop_replaced=true" in lines.splitlines()[-1]


def test_a_rotation_says_what_people_must_do() -> None:
    """Every secret that can get a new value has its line."""
    spec = yaml.safe_load((ROLES / "rotate/meta/argument_specs.yml").read_text(encoding="utf-8"))
    every = spec["argument_specs"]["main"]["options"]["rotate_secrets"]["choices"]
    lines = said(
        "rotate",
        "summary.yml",
        preflight_release={"namespace": "team-a"},
        rotate_begun={"rotating": every},
    )
    assert lines[0] == "New values in namespace team-a. They are in Secret mlflow-credentials"
    assert [line.partition(":")[0] for line in lines[1:]] == every
    assert "flask-secret-key: people log in again" in lines
