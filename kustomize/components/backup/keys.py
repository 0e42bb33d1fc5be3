# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Say which keys encrypt what is in the database, and make the administrator's password a hash.

    keys.py FOLDER   write keys.json, and admin.json where there is an administrator

Runs in MLflow's own image, beside the script that takes and restores backups. A fingerprint tells
two keys apart and is slow to make: it leaves the cluster, where passphrases could be tried.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

# By key of the Secret: the variable in which MLflow has it.
KEYS = {
    "webhook-encryption-key": "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY",
    "kek-passphrase": "MLFLOW_CRYPTO_KEK_PASSPHRASE",
}
ROUNDS = 200_000


def fingerprint(name: str, value: bytes) -> str:
    salt = f"mlops.mlflow/{name}".encode()
    return hashlib.pbkdf2_hmac("sha256", value, salt, ROUNDS).hex()[:16]


def main(folder: Path, environment: Mapping[str, str]) -> None:
    os.umask(0o077)
    # Also of the administrator's password: a restore leaves it alone where it is the same.
    wanted = {**KEYS, "admin-password": "MLFLOW_AUTH_ADMIN_PASSWORD"}
    found = {
        name: fingerprint(name, environment[variable].encode())
        for name, variable in wanted.items()
        if environment.get(variable)
    }
    (folder / "keys.json").write_text(json.dumps(found), encoding="utf-8")
    user = environment.get("MLFLOW_AUTH_ADMIN_USERNAME", "")
    password = environment.get("MLFLOW_AUTH_ADMIN_PASSWORD", "")
    if user and password:
        # As MLflow's basic auth stores it. In the image, and not where this is checked.
        security = importlib.import_module("werkzeug.security")
        said = {"username": user, "password_hash": security.generate_password_hash(password)}
        (folder / "admin.json").write_text(json.dumps(said), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), os.environ)
