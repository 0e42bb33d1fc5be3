# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rotation decides, and what it has MLflow's pod do to what is encrypted."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._release.rotation import (
    KEYS,
    USERNAME,
    Plan,
    RotationError,
    let_in,
    other_role,
    plan,
    scram_verifier,
)

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
