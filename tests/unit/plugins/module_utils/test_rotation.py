# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rotation decides, and what it has MLflow's pod do to what is encrypted."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._rotation import (
    KEYS,
    REENCRYPT,
    USERNAME,
    Plan,
    RotationError,
    count_input,
    let_in,
    new_value,
    other_role,
    plan,
    reencrypt_input,
    scram_verifier,
)
from cryptography.fernet import Fernet

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


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "mlflow.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE webhooks (webhook_id TEXT, secret TEXT)")
        connection.execute("CREATE TABLE secrets (secret_id TEXT, wrapped_dek BLOB)")
    return path


def in_the_pod(database: Path, given: str) -> dict[str, dict[str, int]]:
    """Run what runs in a server's container, on a database that knows no row locks."""
    done = subprocess.run(
        [sys.executable, "-c", REENCRYPT.replace(" FOR UPDATE", "")],
        input=given,
        env={**os.environ, "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{database}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, int]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_what_was_encrypted_is_encrypted_anew_once(database: Path) -> None:
    crypto = pytest.importorskip("mlflow.utils.crypto")
    old = {key: new_value(key) for key in ("webhook-encryption-key", "kek-passphrase")}
    new = {key: new_value(key) for key in old}
    ciphers = [Fernet(keys["webhook-encryption-key"]) for keys in (old, new)]
    keks = [
        crypto.KEKManager(passphrase=keys["kek-passphrase"].decode()).get_kek()
        for keys in (old, new)
    ]
    dek = os.urandom(32)
    with sqlite3.connect(database) as connection:
        connection.executemany(
            "INSERT INTO webhooks VALUES (?, ?)",
            [
                ("old", ciphers[0].encrypt(b"one").decode()),
                ("new", ciphers[1].encrypt(b"two").decode()),
                ("lost", Fernet(Fernet.generate_key()).encrypt(b"three").decode()),
                ("none", None),
            ],
        )
        connection.execute(
            "INSERT INTO secrets VALUES (?, ?)", ("old", crypto.wrap_dek(dek, keks[0]))
        )
    counted = in_the_pod(database, count_input(old))
    assert [counted[table]["rows"] for table in ("webhooks", "secrets")] == [3, 1]
    given = reencrypt_input(old, new)
    assert in_the_pod(database, given) == {
        "webhooks": {"rows": 3, "changed": 1, "unreadable": 1},
        "secrets": {"rows": 1, "changed": 1, "unreadable": 0},
    }
    again = in_the_pod(database, given)
    assert [again[table]["changed"] for table in ("webhooks", "secrets")] == [0, 0]
    with sqlite3.connect(database) as connection:
        webhooks = dict(connection.execute("SELECT * FROM webhooks WHERE secret IS NOT NULL"))
        (wrapped,) = connection.execute("SELECT wrapped_dek FROM secrets").fetchone()
    assert ciphers[1].decrypt(webhooks["old"]) == b"one"
    assert ciphers[1].decrypt(webhooks["new"]) == b"two"
    assert crypto.unwrap_dek(wrapped, keks[1]) == dek
