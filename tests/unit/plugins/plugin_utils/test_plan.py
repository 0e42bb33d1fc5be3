# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan says what is found, and no more than is known."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.mlops.mlflow.plugins.plugin_utils._release.plan import HEADS, Facts, plan

Object = dict[str, t.Any]
OLD, NEW = "3.16.1", "3.17.2"


def facts(**given: t.Any) -> Facts:
    """Return what a settled release gives, and what is given on top."""
    deployment: Object = {
        "kind": "Deployment",
        "metadata": {"name": "mlflow"},
        "spec": {"strategy": {"type": given.pop("rollout", "RollingUpdate")}},
    }
    running = given.pop("running", NEW)
    difference = {
        "changes": {"config": [], "migration": [], "server": []},
        "settled": {"migration": True},
        "existing": ["StatefulSet/postgres", "Deployment/mlflow"],
        "restarts": [],
        "take_over": [],
        "offline": [],
        "prune": [],
        **given.pop("difference", {}),
    }
    info: Object = {
        "mlflow": {"version": running, "image_version": running},
        "schema": {"tracking": {"state": "at_head", "current": HEADS.get(running)}},
        "lock": None,
    }
    return Facts(
        release={
            "namespace": "here",
            "version": given.pop("version", NEW),
            "image": "localhost/mlflow:x",
            "stages": {"server": [deployment]},
        },
        difference=difference,
        credentials=given.pop("credentials", {}),
        info=given.pop("info", info),
        connections={},
        strategy=given.pop("strategy", "online"),
        prune=given.pop("prune", True),
        backup=given.pop("backup", False),
        rehearsal=given.pop("rehearsal", {}),
    )


MIGRATES: Object = {
    "changes": {"migration": ["create Job/m"], "server": ["update Deployment/mlflow"]},
    "settled": {"migration": False},
    "restarts": ["Deployment/mlflow"],
}


def test_nothing_to_do() -> None:
    found = plan(facts())
    assert found["nothing_to_do"]
    assert found["report"][0] == "site.yml would change nothing in namespace here"
    assert found["downtime"]["expected"] == "none"
    assert found["schema"]["moves"] is False


def test_an_upgrade_names_the_schema_s_move() -> None:
    found = plan(facts(running=OLD, difference=MIGRATES))
    assert found["schema"]["moves"]
    assert found["schema"]["words"] == f"{HEADS[OLD]} → {HEADS[NEW]}"
    assert (found["versions"]["from"], found["versions"]["to"]) == (OLD, NEW)
    assert found["downtime"]["expected"] == "rolling"
    assert found["restart"] == ["Deployment/mlflow"]
    assert not found["nothing_to_do"]


@pytest.mark.parametrize(
    ("backup", "image", "taken"),
    [
        (True, "localhost/mlflow:old", True),
        (True, "localhost/mlflow:x", False),
        # No MLflow is there yet, and so no data.
        (True, "", False),
        (False, "localhost/mlflow:old", False),
    ],
)
def test_a_backup_before_another_mlflow_is_told(backup: bool, image: str, taken: bool) -> None:
    found = plan(facts(backup=backup, difference={"image": image}))
    assert found["backup"] is taken
    assert any(line.startswith("backup") for line in found["report"]) is taken


def test_an_offline_migration_has_a_downtime() -> None:
    found = plan(facts(running=OLD, strategy="offline", difference=MIGRATES))
    assert found["downtime"]["expected"] == "offline"
    # Without a migration it is a rollout as ever.
    restart = {**MIGRATES, "settled": {"migration": True}}
    assert plan(facts(strategy="offline", difference=restart))["downtime"]["expected"] == "rolling"


def test_a_migration_that_is_none() -> None:
    found = plan(facts(difference=MIGRATES))
    assert found["schema"]["moves"] is False
    assert HEADS[NEW] in found["schema"]["words"]


def test_a_schema_cannot_go_back() -> None:
    found = plan(facts(version=OLD, difference=MIGRATES))
    assert found["schema"]["moves"] is False
    assert "cannot go back" in found["schema"]["words"]


def test_whether_an_unknown_older_version_shares_the_revision_is_not_guessed() -> None:
    found = plan(facts(version="3.17.1", difference=MIGRATES))
    assert (found["schema"]["moves"], found["schema"]["to"]) == (False, None)
    assert found["schema"]["words"].endswith(
        f"which runs at {HEADS[NEW]}: the migration refuses it unless that is the head of "
        "localhost/mlflow:x, which only that image knows"
    )
    # Nor where the server does not say at what it runs.
    info = {"mlflow": {"version": "3.16.2"}}
    words = plan(facts(version=OLD, info=info, difference=MIGRATES))["schema"]["words"]
    assert words.endswith(
        f"a revision that is not known: the migration refuses it unless that is {HEADS[OLD]}"
    )


@pytest.mark.parametrize("version", ["", "99.0.0"])
def test_what_only_the_image_knows_is_not_guessed(version: str) -> None:
    found = plan(facts(version=version, difference=MIGRATES))
    assert found["schema"]["to"] is None
    assert found["schema"]["words"] == (
        f"{HEADS[NEW]} → the head of localhost/mlflow:x, which only that image knows"
    )


def test_a_server_that_does_not_say_its_revision() -> None:
    found = plan(facts(info={}, difference=MIGRATES))
    assert found["schema"]["words"] == f"a revision that is not known → {HEADS[NEW]}"


@pytest.mark.parametrize(
    ("restarts", "rollout", "expected"),
    [
        (["StatefulSet/postgres", "Deployment/mlflow"], "RollingUpdate", "database"),
        (["Deployment/mlflow"], "Recreate", "recreate"),
        (["Deployment/mlflow"], "RollingUpdate", "rolling"),
    ],
)
def test_downtimes(restarts: list[str], rollout: str, expected: str) -> None:
    found = plan(facts(rollout=rollout, difference={"restarts": restarts}))
    assert found["downtime"]["expected"] == expected


def test_new_credentials_restart_what_reads_them() -> None:
    found = plan(facts(credentials={"updated": ["database-password"], "restart": ""}))
    assert found["change"] == ["Secret/mlflow-credentials"]
    assert found["restart"] == ["StatefulSet/postgres", "Deployment/mlflow"]
    assert not found["nothing_to_do"]
    # A run was cut off between the two.
    assert not plan(facts(credentials={"restart": "1f"}))["nothing_to_do"]


def test_what_is_removed_and_what_is_not() -> None:
    prune = [{"kind": "ConfigMap", "metadata": {"name": "old"}}]
    assert plan(facts(difference={"prune": prune}))["remove"] == ["ConfigMap/old"]
    found = plan(facts(difference={"prune": prune}, prune=False))
    assert (found["remove"], found["nothing_to_do"]) == ([], True)


def test_a_job_that_failed_is_made_again() -> None:
    changes = {"migration": ["create Job/m"]}
    there = ["Deployment/mlflow", "Job/m"]
    found = plan(facts(difference={"changes": changes, "existing": there}))
    assert (found["add"], found["again"]) == ([], ["Job/m"])


def test_a_server_that_was_left_out_of_service() -> None:
    found = plan(facts(difference={"offline": ["Deployment/mlflow"]}))
    assert found["back_in_service"] == ["Deployment/mlflow"]
    assert not found["nothing_to_do"]


def test_a_rotation_that_was_cut_off_is_finished() -> None:
    found = plan(facts(difference={"rotating": ["database-password"]}))
    assert found["rotation"] == ["database-password"]
    assert not found["nothing_to_do"]
    assert any("the rotation of database-password" in line for line in found["report"])


def test_a_rehearsal_says_what_the_migration_takes() -> None:
    assert plan(facts(running=OLD, difference=MIGRATES))["rehearsal"] is None
    rehearsal = {
        "backup": "20261129T021700Z",
        "time": "2026-11-29T02:17:00Z",
        "took": "41 s, spans locked 29 s",
    }
    found = plan(facts(running=OLD, difference=MIGRATES, rehearsal=rehearsal))
    assert found["rehearsal"] == rehearsal
    (line,) = [line for line in found["report"] if line.startswith("migration ")]
    assert line.split(None, 1)[1] == (
        "41 s, spans locked 29 s, with the data of 2026-11-29T02:17:00Z (backup 20261129T021700Z)"
    )
