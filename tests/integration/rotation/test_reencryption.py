# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rotation has MLflow's pod do to what is encrypted, in a process of its own."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._release.rotation import (
    REENCRYPT,
    count_input,
    new_value,
    reencrypt_input,
    reopen_input,
)
from cryptography.fernet import Fernet


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "mlflow.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE webhooks (webhook_id TEXT, secret TEXT)")
        connection.execute("CREATE TABLE secrets (secret_id TEXT, wrapped_dek BLOB)")
    return path


def in_the_pod(database: Path, given: str, **keys: str) -> dict[str, dict[str, int]]:
    """Run what runs in a server's container, on a database that knows no row locks."""
    done = subprocess.run(
        [sys.executable, "-c", REENCRYPT.replace(" FOR UPDATE", "")],
        input=given,
        env={**os.environ, **keys, "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{database}"},
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


def test_a_restored_backup_is_opened_with_its_keys_and_closed_with_the_pods(database: Path) -> None:
    pytest.importorskip("mlflow.utils.crypto")
    old, new = new_value("webhook-encryption-key"), new_value("webhook-encryption-key")
    with sqlite3.connect(database) as connection:
        secret = Fernet(old).encrypt(b"one").decode()
        connection.execute("INSERT INTO webhooks VALUES ('w', ?)", (secret,))
    said = in_the_pod(
        database,
        reopen_input({"webhook-encryption-key": old}),
        MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY=new.decode(),
    )
    assert said == {"webhooks": {"rows": 1, "changed": 1, "unreadable": 0}}
    with sqlite3.connect(database) as connection:
        ((value,),) = connection.execute("SELECT secret FROM webhooks").fetchall()
    assert Fernet(new).decrypt(value.encode()) == b"one"
