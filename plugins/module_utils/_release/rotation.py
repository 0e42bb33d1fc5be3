# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rotation of a release's secrets decides, and what it has others run.

Pure functions and texts. No value of a secret is ever part of a command: it goes to a program's
standard input, and a database is told a verifier only.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.errors import Failure

KEYS = (
    "database-password",
    "admin-password",
    "flask-secret-key",
    "webhook-encryption-key",
    "kek-passphrase",
)
# With these, MLflow has encrypted what is in the database.
ENCRYPTING = {"webhook-encryption-key": "webhooks", "kek-passphrase": "secrets"}
# Read by the server when it starts.
READ_AT_START = tuple(key for key in KEYS if key != "admin-password")
USERNAME = "database-username"
# Secrets with keys that something in a backup may be encrypted with, by their fingerprints.
KEPT = "mlflow-keys-"
_ROUNDS = 200_000
# The Secret that has old and new values while a rotation is under way, and which it says they are.
NAME = "mlflow-rotation"
ROTATING = "mlops.mlflow/rotating"
_OTHER_ROLE = "_b"
_ITERATIONS = 4096

Values = dict[str, bytes]


class RotationError(Failure):
    """Why a rotation is not begun or cannot go on; names no value."""


def fingerprint(key: str, value: bytes) -> str:
    """Return what tells two values of a key apart, as keys.py of the component backup does."""
    salt = f"mlops.mlflow/{key}".encode()
    return hashlib.pbkdf2_hmac("sha256", value, salt, _ROUNDS).hex()[:16]


def rotating(secret: t.Mapping[str, t.Any] | None) -> list[str]:
    """Return what a rotation that is under way is about, by its Secret or by the metadata of it."""
    metadata = (secret or {}).get("metadata") or {}
    named = str((metadata.get("annotations") or {}).get(ROTATING) or "").split(",")
    return [key for key in KEYS if key in named]


def new_value(key: str) -> bytes:
    """Make a new value for a key."""
    if key == "webhook-encryption-key":
        return base64.urlsafe_b64encode(secrets.token_bytes(32))
    return secrets.token_urlsafe(32).encode()


def other_role(name: str) -> str:
    """Return the database role that takes turns with this one."""
    if name.endswith(_OTHER_ROLE):
        return name[: -len(_OTHER_ROLE)]
    return name + _OTHER_ROLE


def scram_verifier(password: str, salt: bytes | None = None) -> str:
    """Return what Postgres stores of a password, from which it cannot be had back.

    Given instead of the password, it keeps that out of the server's logs and statistics.
    """
    if not password.isascii():
        # Postgres would normalise it first (SASLprep).
        raise RotationError("mlflow_database_password: must be ASCII to be rotated")
    salt = secrets.token_bytes(16) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ITERATIONS)
    client = hmac.digest(salted, b"Client Key", "sha256")
    stored = hashlib.sha256(client).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    encoded = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${_ITERATIONS}:{encoded[0]}${encoded[1]}:{encoded[2]}"


def _quoted(text: str) -> str:
    """Quote a text for psql's \\set, which knows both escapes."""
    escaped = text.replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n")
    return f"'{escaped}'"


_QUIETLY = """\
SET log_statement = none;
SET log_min_duration_statement = -1;
SET log_min_error_statement = panic;
"""


# The two roles are one to the database: whichever logs in acts as the owner of what is there.
_LET_IN = r"""
SELECT pg_get_userbyid(datdba) AS owner FROM pg_database WHERE datname = :'database' \gset
SELECT format('CREATE ROLE %I', :'role')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \gexec
SELECT format('GRANT %I TO %I', :'owner', :'role') WHERE :'owner' <> :'role' \gexec
SELECT format('ALTER ROLE %I SET role = %L', :'role', :'owner') WHERE :'owner' <> :'role' \gexec
ALTER ROLE :"role" WITH LOGIN PASSWORD :'verifier';
\q
"""
_SHUT_OUT = r"""
ALTER ROLE :"role" WITH PASSWORD NULL;
\q
"""


def _script(text: str, **variables: str) -> str:
    """Return what psql is given: variables, then statements that no log has."""
    lines = [f"\\set {name} {_quoted(value)}\n" for name, value in variables.items()]
    return "".join(lines) + _QUIETLY + text.lstrip()


def let_in(role: str, verifier: str, database: str) -> str:
    """Return what psql is given so that a role can log in and is the database's owner there."""
    return _script(_LET_IN, role=role, verifier=verifier, database=database)


def shut_out(role: str) -> str:
    """Return what psql is given so that a role's password opens nothing any more."""
    return _script(_SHUT_OUT, role=role)


# Runs in a server's container, with its environment. Reads one line of JSON, says one line of JSON.
REENCRYPT = r"""
import json, os, sys
import sqlalchemy
from cryptography.fernet import Fernet, InvalidToken
from mlflow.exceptions import MlflowException
from mlflow.utils.crypto import KEKManager, unwrap_dek, wrap_dek

given = json.loads(sys.stdin.readline())
engine = sqlalchemy.create_engine(os.environ["MLFLOW_BACKEND_STORE_URI"])
found = {}


class Webhooks:
    variable = "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"
    failure = InvalidToken
    read = "SELECT webhook_id, secret FROM webhooks WHERE secret IS NOT NULL FOR UPDATE"
    write = "UPDATE webhooks SET secret = :value WHERE webhook_id = :id"

    def __init__(self, key):
        self.cipher = Fernet(key.encode())

    def opened(self, value):
        return self.cipher.decrypt(value.encode())

    def closed(self, value):
        return self.cipher.encrypt(value).decode()


class Secrets:
    variable = "MLFLOW_CRYPTO_KEK_PASSPHRASE"
    failure = MlflowException
    read = "SELECT secret_id, wrapped_dek FROM secrets FOR UPDATE"
    write = "UPDATE secrets SET wrapped_dek = :value WHERE secret_id = :id"

    def __init__(self, key):
        self.kek = KEKManager(passphrase=key).get_kek()

    def opened(self, value):
        return unwrap_dek(bytes(value), self.kek)

    def closed(self, value):
        return wrap_dek(value, self.kek)


tables = sqlalchemy.inspect(engine).get_table_names()
for table, keys in given["tables"].items():
    kind = {"webhooks": Webhooks, "secrets": Secrets}[table]
    with engine.begin() as connection:
        said = found[table] = {"rows": 0, "changed": 0, "unreadable": 0}
        if table not in tables:
            continue
        rows = connection.execute(sqlalchemy.text(kind.read)).all()
        said["rows"] = len(rows)
        if keys is None or not rows:
            continue
        old, new = kind(keys["old"]), kind(keys.get("new") or os.environ[kind.variable])
        for name, value in rows:
            try:
                new.opened(value)
                continue
            except kind.failure:
                pass
            try:
                plain = old.opened(value)
            except kind.failure:
                said["unreadable"] += 1
                continue
            parameters = {"id": name, "value": new.closed(plain)}
            connection.execute(sqlalchemy.text(kind.write), parameters)
            said["changed"] += 1
print(json.dumps(found))
"""


def count_input(keys: t.Iterable[str]) -> str:
    """Return what REENCRYPT is given to count what is encrypted with these keys."""
    tables = {ENCRYPTING[key]: None for key in keys if key in ENCRYPTING}
    return json.dumps({"tables": tables}) + "\n"


def reencrypt_input(old: Values, new: Values) -> str:
    """Return what REENCRYPT is given to encrypt with the new keys what is with the old."""
    tables = {
        ENCRYPTING[key]: {"old": old[key].decode(), "new": new[key].decode()}
        for key in new
        if key in ENCRYPTING
    }
    return json.dumps({"tables": tables}) + "\n"


def reopen_input(old: Values) -> str:
    """Return what REENCRYPT is given to encrypt what is with the old keys with the pod's own."""
    tables = {ENCRYPTING[key]: {"old": value.decode()} for key, value in old.items()}
    return json.dumps({"tables": tables}) + "\n"


def unfinished(keys: t.Sequence[str]) -> str:
    """Say that a rotation is under way, and what ends it."""
    return (
        f"The rotation of {', '.join(keys)} was begun and is not finished: old and new values are "
        f"in Secret {NAME}. site.yml or rotate.yml finishes it"
    )


class Plan(t.NamedTuple):
    """A rotation that has begun: what each value was and what it becomes."""

    old: Values
    new: Values

    def encoded(self) -> dict[str, str]:
        """Return it as the data of a Secret."""
        parts = {f"old-{key}": value for key, value in self.old.items()}
        parts |= {f"new-{key}": value for key, value in self.new.items()}
        return {key: base64.b64encode(value).decode() for key, value in parts.items()}

    @classmethod
    def decoded(cls, data: t.Mapping[str, str]) -> Plan:
        """Read it from the data of a Secret."""
        values = {key: base64.b64decode(value) for key, value in data.items()}
        return cls(
            {key[4:]: value for key, value in values.items() if key.startswith("old-")},
            {key[4:]: value for key, value in values.items() if key.startswith("new-")},
        )

    @property
    def keys(self) -> list[str]:
        """Which secrets it is about."""
        return [key for key in KEYS if key in self.new]


def plan(there: Values, begun: Plan, keys: t.Iterable[str], given: Values) -> Plan:
    """Add what is asked for to what has begun; what has begun keeps its values."""
    old, new = dict(begun.old), dict(begun.new)
    for key in keys:
        if key in new:
            continue
        variable = "mlflow_" + key.replace("-", "_")
        if not there.get(key):
            raise RotationError(f"{key} is not in the release's Secret; run site.yml first")
        value = given.get(key) or new_value(key)
        if value == there[key]:
            raise RotationError(
                f"{variable}: is given, and is the value in use; put the new one there, and run "
                "this again"
            )
        old[key], new[key] = there[key], value
        if key == "database-password":
            name = there[USERNAME].decode()
            old[USERNAME], new[USERNAME] = there[USERNAME], other_role(name).encode()
    return Plan(old, new)
