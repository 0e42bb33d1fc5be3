# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rotation decides, and what it has MLflow's pod do to what is encrypted."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._release.rotation import (
    KEPT,
    KEYS,
    USERNAME,
    Plan,
    RotationError,
    fingerprint,
    let_in,
    other_role,
    plan,
    scram_verifier,
)
from ansible_collections.mlops.mlflow.plugins.modules import release_rotation
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.memory_cluster import MemoryCluster

NOTHING = Plan({}, {})
THERE = {key: f"old {key}".encode() for key in KEYS} | {USERNAME: b"mlflow"}


def test_the_roles_take_turns() -> None:
    assert other_role("mlflow") == "mlflow_b"
    assert other_role("mlflow_b") == "mlflow"


def test_a_new_password_is_another_roles() -> None:
    found = plan(THERE, NOTHING, ["database-password"], {})
    assert found.old == {
        "database-password": THERE["database-password"],
        USERNAME: b"mlflow",
    }
    assert found.new[USERNAME] == b"mlflow_b"
    assert found.new["database-password"] != THERE["database-password"]
    assert found.keys == ["database-password"]


def test_what_has_begun_keeps_its_values() -> None:
    begun = plan(THERE, NOTHING, ["database-password"], {})
    # The release's Secret has the new values already, and another key is asked for as well.
    after = plan({**THERE, **begun.new}, begun, ["database-password", "admin-password"], {})
    assert after.keys == ["database-password", "admin-password"]
    assert {**after.new, **begun.new} == after.new
    assert {**after.old, **begun.old} == after.old
    assert Plan.decoded(after.encoded()) == after


def test_a_given_value_is_taken_if_it_is_new() -> None:
    given = {"flask-secret-key": b"given"}
    assert plan(THERE, NOTHING, ["flask-secret-key"], given).new == given
    with pytest.raises(RotationError, match="mlflow_flask_secret_key: is given, and is the value"):
        plan(THERE, NOTHING, ["flask-secret-key"], {"flask-secret-key": THERE["flask-secret-key"]})


def test_what_is_not_there_is_not_rotated() -> None:
    with pytest.raises(RotationError, match="admin-password is not in the release's Secret"):
        plan({}, NOTHING, ["admin-password"], {})


def test_the_database_is_told_no_password() -> None:
    # Of a Postgres, for the password "secret" and this salt.
    verifier = scram_verifier("secret", bytes(range(16)))
    assert verifier.startswith("SCRAM-SHA-256$4096:AAECAwQFBgcICQoLDA0ODw==$")
    script = let_in("o'role", verifier, "mlflow")
    assert "\\set role 'o''role'" in script
    assert script.endswith("\\q\n")
    with pytest.raises(RotationError, match="must be ASCII"):
        scram_verifier("pässword")


MARK = fingerprint("kek-passphrase", b"old")
SECRETS = "/api/v1/namespaces/here/secrets"


def work(cluster: MemoryCluster, **params: Any) -> release_rotation.Rotation:
    asked = {"fingerprints": {"kek-passphrase": MARK}, "force": False, **params}
    return release_rotation.Rotation(cluster, {"namespace": "here", **asked}, write=True)


def test_a_key_that_a_backup_may_need_is_kept_when_a_rotation_ends() -> None:
    cluster = MemoryCluster()
    work(cluster)._keep_for_backups({"kek-passphrase": b"old", "flask-secret-key": b"x"})
    (made,) = cluster.sent("/secrets")
    assert made["metadata"]["name"] == KEPT + MARK
    assert list(made["data"]) == ["kek-passphrase"]
    # And found by its fingerprint, not by its name alone.
    cluster.put(f"{SECRETS}/{KEPT}{MARK}", {"data": made["data"]})
    assert work(cluster).kept() == ({"kek-passphrase": b"old"}, [])
    cluster.put(
        f"{SECRETS}/{KEPT}{MARK}", {"data": {"kek-passphrase": base64.b64encode(b"x").decode()}}
    )
    with pytest.raises(RotationError, match="encrypted with another kek-passphrase"):
        work(cluster).kept()


def test_a_backup_without_its_keys_is_refused_and_told_how_to_give_them() -> None:
    with pytest.raises(RotationError) as caught:
        work(MemoryCluster()).kept()
    assert "set mlflow_restore_foreign" in str(caught.value)
    command = (
        f"kubectl -n here create secret generic mlflow-keys-{MARK} --from-file=kek-passphrase=FILE"
    )
    assert str(caught.value).endswith(command)
    assert work(MemoryCluster(), force=True).kept() == ({}, ["kek-passphrase"])
