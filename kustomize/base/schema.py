# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell, await or migrate the schema of MLflow's database. Runs in any image with MLflow.

    schema.py status     tell the state; changes nothing
    schema.py compare    tell it, and how the tables differ from what this MLflow would make;
                         changes nothing
    schema.py wait       return when the schema is what this MLflow needs; initialises an empty
                         database, and migrates nothing
    schema.py migrate    bring the schema to what this MLflow needs
    schema.py rehearse   do that with copies of the databases, named DATABASE_rehearsal, tell what
                         it took, and drop them
    schema.py revisions  tell which revisions this MLflow knows, from its files alone

The last line on standard output is the verdict, as JSON; `wait` and `migrate` also leave it as the
pod's termination message:

    {"tracking": {"state": "behind", "current": "…", "head": "…"}, "auth": {…}}

`compare` adds "differences" to each that is at head, a list of sentences; where it cannot tell,
"detail" says why.

`rehearse` adds "took" to each that it migrated: its "seconds", and under "locks" each "table" that
was locked against writing, the "mode" and for how many "seconds".

`revisions` needs no database and no environment, and prints instead

    {"mlflow": "3.17.2", "tracking": {"head": "…", "known": ["…"]}, "auth": {…}}

States: empty, behind, at_head, ahead, unknown (a revision this image does not have), partial
(tables without a version, or a version without its tables), unreachable, denied.

Exit status: 0 at head; 1 the migration failed; 2 wrong use; 3 not at head, or different (compare),
and another try would not change that (a full disk is among it); 4 an MLflow whose inner functions
are not those known here.

Environment (a name with _FILE appended names a file to read it from; nothing comes from argv):
    MLFLOW_BACKEND_STORE_URI      the tracking database; libpq's PGUSER and PGPASSWORD fill it in
    MLFLOW_AUTH_CONFIG_PATH       basic auth's INI file, if there is one
    MLOPS_SCHEMA_DIRECT_URI       an address past a transaction pooler, which cannot hold the lock
    MLOPS_SCHEMA_DIRECT_AUTH_URI  the same for basic auth's database
    MLOPS_SCHEMA_TIMEOUT          seconds that wait and migrate wait for the database, for another
                                  migration, for whoever blocks theirs, and (wait) for the schema;
                                  900 if not set. A migration that is at work is not cut short.
"""

from __future__ import annotations

import ast
import base64
import configparser
import contextlib
import dataclasses
import functools
import hashlib
import importlib
import importlib.util
import inspect
import json
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

COMMANDS = ("status", "compare", "wait", "migrate", "rehearse", "revisions")
# What waiting does not cure.
CERTAIN = frozenset({"ahead", "unknown", "partial", "denied"})

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_STATE, EXIT_SHAPE = range(5)

# One lock for tracking and basic auth: they are migrated one after the other.
LOCK_KEY = int.from_bytes(hashlib.sha256(b"mlops.mlflow/schema").digest()[:8], "big", signed=True)
APPLICATION_NAME = "mlops-mlflow-schema"
POLL_SECONDS = 1.0
REPEAT_SECONDS = 30.0
DETAIL_LENGTH = 600
# A migration's statement waits so long for a lock, with whoever wants the table queueing behind it;
# then all of them go on, and the migration tries again after a pause.
LOCK_SECONDS = 2.0
LOCK_PAUSE = 4.0
# A database that goes away this often in the middle of the work may do so because of it.
LOST_MOST = 3
# How often a migration is watched: who is in its way, and what it locks.
WATCH_SECONDS = 0.2
# Those that keep others from writing, and the last one from reading as well.
LOCK_MODES = ("ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock")
REHEARSAL = "_rehearsal"
# What importing MLflow takes, with room to spare.
COMPARE_BYTES = 400 * 2**20
# For the report of a failure, to be had from a database that is just restarting.
REPORT_SECONDS = 30.0
# The tables MLflow creates before its first migration. No later version dropped one.
INITIAL_TABLES = frozenset({"experiments", "runs", "tags", "metrics", "params"})


class UsageError(Exception):
    """The helper was called wrongly, or its environment is wrong."""


class ShapeError(Exception):
    """This MLflow is not built the way the helper knows."""


class BlockedError(RuntimeError):
    """Somebody else's session was in the way."""


class LostError(RuntimeError):
    """The database, or the session that held the lock, went away in the middle of the work."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The state of one schema."""

    state: str
    current: str | None = None
    head: str | None = None
    detail: str = ""
    # None: not compared.
    differences: tuple[str, ...] | None = None
    # What the migration took. None: there was none, or nobody asked.
    took: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return what goes into the JSON."""
        found: dict[str, Any] = {
            "state": self.state,
            "current": self.current,
            "head": self.head,
        }
        if self.detail:
            found["detail"] = self.detail[:DETAIL_LENGTH]
        if self.differences is not None:
            found["differences"] = list(self.differences)
        if self.took is not None:
            found["took"] = self.took
        return found


@dataclasses.dataclass(frozen=True)
class Scripts:
    """What the image knows about one schema."""

    head: str
    known: frozenset[str]
    tables: frozenset[str]
    # Every name in the migrations: also those of tables that they made once and left behind.
    mentioned: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class Facts:
    """What was found in the database about one schema."""

    revisions: tuple[str, ...]
    tables: frozenset[str]
    # None: not asked, because nothing depends on it.
    has_rows: bool | None = None
    # Tables or columns of this schema that the image does not know.
    newer: tuple[str, ...] = ()
    # Where tables of this schema are that search_path does not reach.
    elsewhere: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Schema:
    """One of MLflow's two schemas: where it is defined, and where its database is named."""

    name: str
    version_table: str
    core: frozenset[str]
    script_dir: str
    models: tuple[str, ...]

    def owns(self, table: str) -> bool:
        """Tell whether a table belongs to this schema; they may share a database."""
        return _is_auth_table(table) == (self.name == "auth")


def _is_auth_table(table: str) -> bool:
    return table in {"users", "roles", "user_role_assignments"} or table.endswith("_permissions")


TRACKING = Schema(
    name="tracking",
    version_table="alembic_version",
    core=INITIAL_TABLES,
    script_dir="store/db_migrations",
    models=(
        "store/tracking/dbmodels/models.py",
        "store/model_registry/dbmodels/models.py",
        "store/workspace/dbmodels/models.py",
    ),
)
AUTH = Schema(
    name="auth",
    version_table="alembic_version_auth",
    core=frozenset({"users"}),
    script_dir="server/auth/db/migrations",
    models=("server/auth/db/models.py",),
)


# --- The verdict -------------------------------------------------------------------------------


def decide(schema: Schema, scripts: Scripts, facts: Facts) -> Verdict:
    """Return the state of a schema that could be read. A pure function."""
    tables = frozenset(table for table in facts.tables if schema.owns(table))
    current = ", ".join(facts.revisions) or None

    def verdict(state: str, detail: str = "") -> Verdict:
        return Verdict(state, current, scripts.head, detail)

    if not facts.revisions and not tables and facts.elsewhere:
        return verdict(
            "partial",
            f"MLflow's tables are in {_names(facts.elsewhere)}, which search_path does not reach: "
            "set it as it was (ALTER DATABASE … SET search_path), or give MLflow an empty database",
        )
    if not facts.revisions:
        return verdict(*_decide_unversioned(schema, tables, facts.has_rows))
    if len(facts.revisions) > 1:
        return verdict("unknown", f"{schema.version_table} names several revisions")
    missing = schema.core - tables
    if missing:
        return verdict(
            "partial", f"{schema.version_table} names a revision, but {_names(missing)} is missing"
        )
    if facts.revisions[0] not in scripts.known:
        if facts.newer and scripts.tables <= tables:
            return verdict(
                "ahead",
                f"the database was migrated by a newer MLflow: it has {_names(facts.newer)}",
            )
        return verdict("unknown", "this image does not have the revision")
    if facts.revisions[0] != scripts.head:
        return verdict("behind")
    missing = scripts.tables - tables
    if missing:
        return verdict("partial", f"the revision is at head, but {_names(missing)} is missing")
    return verdict("at_head")


def _decide_unversioned(
    schema: Schema, tables: frozenset[str], has_rows: bool | None
) -> tuple[str, str]:
    if not tables:
        return "empty", ""
    if schema.name == "auth":
        if schema.core <= tables:
            # MLflow stamps these itself, and goes on from there.
            return "behind", "basic auth's tables are from before MLflow 3.6"
        return "partial", f"{_names(tables)} without {schema.version_table}"
    if tables <= schema.core and has_rows is False:
        # MLflow commits its first tables, all empty, before the migrations that follow.
        return "empty", "an initialisation was cut off"
    if schema.core & tables:
        return "partial", f"MLflow's tables ({_names(tables)}) without {schema.version_table}"
    return "partial", f"the database holds tables that are not MLflow's: {_names(tables)}"


def _names(names: Iterable[str], most: int = 4) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + more


# What a schema is made of: for each part its kind, its table and what tells it from others, and a
# text. A column is told by its name, an index and a constraint by what they do: their names
# are anybody's.
Shape = dict[tuple[str, str, str], str]


def differences(expected: Shape, found: Shape) -> list[str]:
    """Return how a schema differs from the one expected, and what to type. A pure function.

    What is there beside it is no difference, unless it may refuse what MLflow writes.
    """
    lines = []
    for key in sorted(expected.keys() - found.keys()):
        kind, table, what = key
        name = what if kind == "column" else expected[key]
        command = ""
        if kind == "index":
            unique = "UNIQUE " if what.startswith("UNIQUE ") else ""
            using = what.removeprefix("UNIQUE ")
            command = f": CREATE {unique}INDEX CONCURRENTLY {name} ON {table} USING {using}"
        elif kind == "constraint":
            command = f": ALTER TABLE {table} ADD CONSTRAINT {name} {what}"
        lines.append(f"{kind} {name} of table {table} is missing{command}")
    lines += [
        f"column {key[2]} of table {key[1]} is {found[key]}, not {expected[key]}"
        for key in sorted(expected.keys() & found.keys())
        if key[0] == "column" and found[key] != expected[key]
    ]
    tables = {table for _kind, table, _what in expected}
    for key in sorted(found.keys() - expected.keys()):
        kind, table, what = key
        name = what if kind == "column" else found[key]
        line = f"{kind} {name} of table {table} is not one of MLflow's"
        if table not in tables:
            continue
        if kind == "column" and found[key].endswith(" NOT NULL"):
            lines.append(f"{line}, and must not be empty")
        elif kind == "constraint" or (kind == "index" and what.startswith("UNIQUE ")):
            lines.append(f"{line}: {what}")
    return lines


_DENIED_CODES = ("28", "42501", "3D000", "0LP01")
_UNREACHABLE_CODES = ("08", "53", "57", "58")
# A server that answers but cannot serve at the moment, or a pooler that cannot reach one.
_TRANSIENT = re.compile(
    r"starting up|shutting down|in recovery|not yet accepting|too many (clients|connections)"
    r"|remaining connection slots|terminating connection|no more connections allowed"
    r"|server_login_retry|query_wait_timeout|cannot connect to server|server conn crashed"
    r"|pgbouncer",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"FATAL|no password supplied|authentication failed|permission denied|SSL was required"
    r"|does not support SSL|certificate",
    re.IGNORECASE,
)


def classify(message: str, code: str | None = None) -> str:
    """Return `unreachable` or `denied` for what the driver said. A pure function."""
    if code:
        if code.startswith(_DENIED_CODES):
            return "denied"
        if code.startswith(_UNREACHABLE_CODES):
            return "unreachable"
    # psycopg2 gives no code for a connection that was refused: only libpq's text is left.
    if _TRANSIENT.search(message):
        return "unreachable"
    return "denied" if _DENIED.search(message) else "unreachable"


# --- No secret in what is printed. This file stands alone: it cannot import the collection --------

MASK = "***"
# Between two characters of a secret a line may be wrapped.
_WRAP = r"(?:[ \t│|]*[\\=]?\r?\n[ \t│|]*|\\+n)?"
_TELLING = (
    r"(?<![\w.-])[\w.-]*?(?:pass(?:word|wd|phrase)|pwd|secret|token|api_?key|access_?key|private_?key"
    r"|encryption_?key|credential|cookie|authorization)[\w.-]*"
)
_QUOTED = r"""(?:[bEuU]&?)?(?:'(?:[^'\\\n]|''|\\.|'(?![\s,;:)\]}&]|$))*'|"(?:[^"\\\n]|\\.)*")"""
# A scheme that names a database: an @ after a slash may still belong to a password.
_DATABASE = r"(?:postgres|mysql|mariadb|mssql|redis|mongodb|amqp)[\w+]*"
_FORMS = tuple(
    (re.compile(pattern, re.IGNORECASE | re.MULTILINE), replacement)
    for pattern, replacement in (
        (r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:.|\n)*?(?:-----END [A-Z ]*KEY-----|\Z)", MASK),
        (r"(?:^[ \t]*[A-Za-z0-9+/=]{4,}\s*\n)+-----END [A-Z ]*PRIVATE KEY-----", MASK),
        (r"(\[parameters: ).*(?=\])", r"\1" + MASK),
        (r"(Failing row contains \().*(?=\))", r"\1" + MASK),
        (r"\b((?:scrypt|pbkdf2)(?::[\w-]+){1,4}\$)[^\s'\",)]+", r"\1" + MASK),
        (r"(\bpassword\s+)(?:E|U&)?'(?:[^'\\]|''|\\.)*(?:'|$)", r"\1" + MASK),
        (r"(^LINE \d+: \.\.\.(?:P?A?S?S?W?O?R?D)?\s*E?').*", r"\1" + MASK),
        (rf"({_DATABASE}:(?:\\*/){{2}}[^\s:/]*:)\S*@", rf"\1{MASK}@"),
        (
            r"((?<![\w+.-])[a-z][\w+.-]*:(?:\\*/){2}[^\s:/?#]*:)(?!\d{1,5}(?:[/?#\s,;'\")]|$))\S*@",
            rf"\1{MASK}@",
        ),
        (
            r"((?<![^\s\"'(=<,])[a-z_][\w.+-]*:)(?!\\*/)(?:(?!://)\S)+@(?!sha\d+:)(?=\w)",
            rf"\1{MASK}@",
        ),
        # What drivers take for host, port or database of a password that is not quoted.
        (
            r"((?:host ?name|host|server at|resolve|database|port)\s*[=:]?\s*\\*[\"'])"
            r"[^\n\s]*@(?=[^@\n\s]*\\*[\"'])",
            rf"\1{MASK}@",
        ),
        (r"(base 10: \\*['\"])[^\n]*@", rf"\1{MASK}@"),
        (
            r"((?:cast to integer value as|invalid port number:|invalid integer value"
            r"|encoded token:|followed by '%' or '\(', found:|\\*\" after|in URI:)\s+\\*['\"])"
            r"(?!-?\d+\\*['\"])[^\n]*?(?=\\*['\"](?:[\s.,;)]|$))",
            r"\1" + MASK,
        ),
        (r"((?:set-)?cookie: |authorization: (?:\w+ )?)(?=\S*[=\d])[^\n\"']+", r"\1" + MASK),
        (rf"({_TELLING}\\*[\"']?\]?\s*[:=]\s*){_QUOTED}", r"\1" + MASK),
        (rf"({_TELLING}\\+[\"']\s*:\s*\\+[\"'])(?:(?!\\+[\"'](?:[,}}\s]|$)).)*", r"\1" + MASK),
        (rf"({_TELLING}\s*=\s*)(?!\*\*\*)[^\s'\"][^\s]*", r"\1" + MASK),
        (rf"(^\s*{_TELLING}:\s+)(?![|>]|not |is |authentication )\S.*", r"\1" + MASK),
    )
)


def _spelling(character: str) -> str:
    """Return a pattern for one character, as it is and in the encodings that messages have."""
    code = ord(character)
    data = character.encode("utf-8", "surrogatepass")
    units = character.encode("utf-16-be", "surrogatepass")
    forms = [
        r"\s*".join(rf"%+(?:25)*\s*(?i:{byte >> 4:x}\s*{byte & 15:x})" for byte in data),
        "".join(rf"\\+x(?i:{byte:02x})" for byte in data),
        "".join(rf"\\+u(?i:{units[at : at + 2].hex()})" for at in range(0, len(units), 2)),
        rf"&(?:amp;)*#(?:0*{code}|x0*(?i:{code:x}));",
        re.escape(character) if character.isalnum() else rf"\\*{re.escape(character)}",
    ]
    special = {
        "'": r"""''|'\"'\"'|'\\+''|&(?:amp;)*apos;""",
        '"': '""|&(?:amp;)*quot;',
        "<": "&(?:amp;)*lt;",
        ">": "&(?:amp;)*gt;",
        "&": "&(?:amp;)+",
        "%": "%%",
        " ": r"\+|\s+",
        "\\": r"\\+",
    }
    return f"(?:{'|'.join(filter(None, [special.get(character), *forms]))})"


def _in_base64(secret: str) -> Iterator[str]:
    """Yield patterns for what base64 has of a secret, wherever it begins in a longer text."""
    spelt = {secret, quote(secret, safe=""), secret.replace("%", "%%"), json.dumps(secret)[1:-1]}
    special = {"+": r"(?:[+-]|%(?:25)*2[bB])", "/": r"(?:\\*/|_|%(?:25)*2[fF])"}
    for data in sorted(text.encode("utf-8", "surrogatepass") for text in spelt):
        for offset in range(3):
            end = (offset + len(data)) % 3
            encoded = base64.b64encode(b"\0" * offset + data + b"\0" * (-end % 3)).decode()
            # What the neighbours have a part in is not looked for, but masked as well.
            core = encoded[(0, 2, 3)[offset] : len(encoded) - (0, 3, 2)[end]]
            if len(core) >= 8:
                inner = _WRAP.join(special.get(character, character) for character in core)
                yield (r"[\w+/-]?" if offset else "") + inner + (r"[\w+/-]?" if end else "")
    if len(secret) >= 6:
        yield f"(?i:{secret.encode('utf-8', 'surrogatepass').hex()})"


@functools.lru_cache(maxsize=64)
def _known(secret: str) -> re.Pattern[str]:
    plain = _WRAP.join(map(_spelling, secret)) if len(secret) <= 200 else re.escape(secret)
    # A short one is a part of too many words.
    if len(secret) < 8 and re.fullmatch(r"\w+", secret):
        plain = rf"(?<!\w){plain}(?!\w)"
    return re.compile("|".join([plain, *_in_base64(secret)]), re.DOTALL)


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return `text` without the secrets, however encoded, and without what looks like one."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = _known(secret).sub(MASK, text)
    for pattern, replacement in _FORMS:
        text = pattern.sub(replacement, text)
    return text


def passwords(environment: Mapping[str, str], uris: Iterable[str]) -> set[str]:
    """Return every password that a message might repeat."""
    found = {environment.get("PGPASSWORD", "")}
    for name, value in environment.items():
        if re.search(r"PASSWORD|PASSPHRASE|SECRET|TOKEN|_KEY$", name) and "_FILE" not in name:
            # What is shorter may be a switch.
            found |= {value} if len(value) >= 6 else set()
    for uri in [*uris, *(value for value in environment.values() if "://" in value)]:
        found |= _in_address(uri)
    return {secret for secret in found if len(secret) > 1}


def _in_address(uri: str) -> set[str]:
    """Return the passwords in an address, and what a driver may make of their rest."""
    found: set[str] = set()
    match = re.match(r"[^:]+://(.*)@", uri, re.DOTALL)
    if match and ":" in match[1]:
        user, _colon, password = match[1].partition(":")
        found |= {password} | ({match[1].rpartition(":")[2]} if "@" in user else set())
    found |= {unquote(password) for password in found}
    found |= {unquote(value) for value in re.findall(r"[?&]\w*password=([^&]*)", uri)}
    for password in list(found):
        rests = (password[cut.end() :] for cut in re.finditer(r"[@:/?#]", password))
        found |= {rest for rest in rests if len(rest) >= 6}
    return found


# --- The image: read without importing MLflow, which takes seconds --------------------------------


def package_dir() -> Path:
    """Return the folder of the installed MLflow."""
    spec = importlib.util.find_spec("mlflow")
    if spec is None or not spec.submodule_search_locations:
        raise ShapeError("there is no MLflow in this image")
    return Path(next(iter(spec.submodule_search_locations)))


def version(package: Path) -> str:
    """Return MLflow's version."""
    try:
        text = (package / "version.py").read_text(encoding="utf-8")
    except OSError:
        return "of an unknown version"
    match = re.search(r"^VERSION\s*=\s*[\"']([^\"']+)", text, re.MULTILINE)
    return match[1] if match else "of an unknown version"


def read_scripts(package: Path, schema: Schema) -> Scripts:
    """Read a schema's head, its revisions and its tables from MLflow's source files."""
    folder = package / schema.script_dir / "versions"
    down: dict[str, tuple[str, ...]] = {}
    mentioned: set[str] = set()
    for path in sorted(folder.glob("*.py")):
        source = path.read_text(encoding="utf-8")
        mentioned |= set(re.findall(r"[\"'](\w+)[\"']", source))
        found = _assignments(source)
        revision = found.get("revision")
        if isinstance(revision, str):
            parents = found.get("down_revision")
            if isinstance(parents, str):
                parents = (parents,)
            down[revision] = tuple(parents or ())
    heads = set(down) - {parent for parents in down.values() for parent in parents}
    if len(heads) != 1:
        raise ShapeError(
            f"MLflow {version(package)} has {len(heads)} heads, not one, in {schema.script_dir}"
        )
    tables: set[str] = set()
    for name in schema.models:
        with contextlib.suppress(FileNotFoundError):  # not every version has workspaces
            text = (package / name).read_text(encoding="utf-8")
            tables |= set(re.findall(r"^\s+__tablename__\s*=\s*[\"'](\w+)[\"']", text, re.M))
    if not schema.core <= tables:
        raise ShapeError(f"MLflow {version(package)} does not define {_names(schema.core)}")
    return Scripts(heads.pop(), frozenset(down), frozenset(tables), frozenset(mentioned))


def _assignments(source: str) -> dict[str, Any]:
    """Return the constants `revision` and `down_revision` of a migration script."""
    found: dict[str, Any] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        else:
            continue
        for target in targets:
            if isinstance(target, ast.Name) and target.id in {"revision", "down_revision"}:
                with contextlib.suppress(ValueError):
                    found[target.id] = ast.literal_eval(value)
    return found


def private(module: str, name: str, arguments: int) -> Callable[..., Any]:
    """Return one of MLflow's inner functions, if it is the one known here."""
    try:
        function: Callable[..., Any] = getattr(importlib.import_module(module), name)
        found = len(inspect.signature(function).parameters)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ShapeError(
            f"MLflow {version(package_dir())} has no usable {module}.{name}: {error}"
        ) from error
    if found != arguments:
        raise ShapeError(
            f"{module}.{name} of MLflow {version(package_dir())} takes {found} arguments, "
            f"not {arguments}"
        )
    return function


# --- The database ---------------------------------------------------------------------------------


def from_environment(name: str, environment: Mapping[str, str]) -> str | None:
    """Return a value from the environment, or from the file that NAME_FILE names."""
    path = environment.get(f"{name}_FILE")
    if path:
        try:
            return Path(path).read_text(encoding="utf-8").strip() or None
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{name}_FILE cannot be read: {path}") from error
    return environment.get(name) or None


def addresses(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the URI of each schema that is in use."""
    tracking = from_environment("MLFLOW_BACKEND_STORE_URI", environment)
    if tracking is None:
        raise UsageError("MLFLOW_BACKEND_STORE_URI is not set")
    found = {
        "tracking": from_environment("MLOPS_SCHEMA_DIRECT_URI", environment) or tracking,
    }
    path = environment.get("MLFLOW_AUTH_CONFIG_PATH")
    if path:
        parser = configparser.ConfigParser()
        try:
            with open(path, encoding="utf-8") as file:
                parser.read_file(file)
            auth = parser["mlflow"]["database_uri"]
        except (OSError, KeyError, UnicodeDecodeError, configparser.Error):
            # No cause: its text could repeat a line of the file, password and all.
            raise UsageError(
                f"{path} (MLFLOW_AUTH_CONFIG_PATH) cannot be read as an INI file with a "
                "database_uri in its section [mlflow]; a % in it must be doubled"
            ) from None
        found["auth"] = from_environment("MLOPS_SCHEMA_DIRECT_AUTH_URI", environment) or auth
    return {name: driver_named(name, uri) for name, uri in found.items()}


def driver_named(name: str, uri: str) -> str:
    """Return a Postgres URI that names its driver; SQLAlchemy's default differs by version."""
    scheme, separator, rest = uri.partition("://")
    dialect, _plus, driver = scheme.partition("+")
    if not separator or dialect not in {"postgresql", "postgres"}:
        raise UsageError(f"the {name} database is not a postgresql:// address")
    if not driver:
        driver = "psycopg2" if importlib.util.find_spec("psycopg2") else "psycopg"
    if importlib.util.find_spec(driver) is None:
        raise UsageError(f"this image has no Postgres driver {driver}")
    return f"postgresql+{driver}://{rest}"


class Database:
    """One schema's database, and how to reach it."""

    def __init__(self, schema: Schema, uri: str, scripts: Scripts, suffix: str = "") -> None:
        import sqlalchemy

        self.schema = schema
        self.scripts = scripts
        self.sql = sqlalchemy.text
        self.database_error = sqlalchemy.exc.DBAPIError
        try:
            self.live = sqlalchemy.make_url(uri)
            self.url = self.live
            if suffix:
                self.url = self.live.set(database=f"{self.live.database}{suffix}")
            self.engine = sqlalchemy.create_engine(self.url, poolclass=sqlalchemy.pool.NullPool)
        except (sqlalchemy.exc.ArgumentError, ValueError):
            raise UsageError(f"the {schema.name} database's address is not a valid URL") from None

    def connect(self) -> Any:
        """Open a connection on which every statement is its own transaction."""
        return self.engine.connect().execution_options(isolation_level="AUTOCOMMIT")

    def inspect(self) -> Verdict:
        """Return the state of the schema, whatever it is."""
        try:
            with self.connect() as connection:
                facts = self._facts(connection)
                verdict = decide(self.schema, self.scripts, facts)
                if verdict.state == "empty" and (refused := self._may_not_create(connection)):
                    return dataclasses.replace(verdict, state="denied", detail=refused)
                if verdict.state in {"empty", "partial", "behind"}:
                    verdict = self._under_way(connection, verdict)
                return verdict
        except self.database_error as error:
            code = getattr(error.orig, "pgcode", None) or getattr(error.orig, "sqlstate", None)
            message = str(error.orig)
            return Verdict(
                classify(message, code), None, self.scripts.head, " ".join(message.split())
            )

    def _facts(self, connection: Any) -> Facts:
        # Not the extensions' own tables: PostGIS, for one, brings some to an empty database.
        tables = frozenset(
            connection.scalars(
                self.sql(
                    "SELECT c.relname FROM pg_catalog.pg_class c"
                    " WHERE c.relkind IN ('r', 'p') AND pg_catalog.pg_table_is_visible(c.oid)"
                    " AND c.relnamespace NOT IN ('pg_catalog'::regnamespace,"
                    " 'information_schema'::regnamespace)"
                    " AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d"
                    " WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid"
                    " AND d.deptype = 'e')"
                )
            )
        )
        revisions: tuple[str, ...] = ()
        if self.schema.version_table in tables:
            rows = connection.scalars(
                self.sql(f"SELECT version_num FROM {self.schema.version_table}")  # noqa: S608
            )
            revisions = tuple(sorted(rows))
        tables = frozenset(name for name in tables if not name.startswith("alembic_"))
        mine = frozenset(filter(self.schema.owns, tables))
        has_rows: bool | None = None
        if not revisions and mine and mine <= self.schema.core:
            has_rows = any(
                connection.scalar(self.sql(f"SELECT EXISTS (SELECT FROM {name})"))  # noqa: S608
                for name in sorted(mine)
            )
        newer: tuple[str, ...] = ()
        if len(revisions) == 1 and revisions[0] not in self.scripts.known:
            newer = self._newer(connection, mine)
        elsewhere = () if mine or revisions else self._elsewhere(connection)
        return Facts(revisions, tables, has_rows, newer, elsewhere)

    def compare(self) -> list[str]:
        """Return how the live schema differs from what this MLflow makes of an empty database.

        MLflow's own migrations make that, as temporary tables: no other table is in reach of them,
        the role needs no right but TEMPORARY, and they go with the session, whatever ends it.
        Nothing is committed.
        """
        import sqlalchemy

        engine = sqlalchemy.create_engine(
            self.url, poolclass=sqlalchemy.pool.StaticPool, pool_reset_on_return=None
        )
        # All that MLflow does is one transaction, however many it believes to make.
        engine.dialect.do_commit = engine.dialect.do_rollback = lambda _connection: None
        sqlalchemy.event.listen(engine, "before_cursor_execute", name_temporary, retval=True)
        try:
            with self.connect() as connection:
                may, database, role = connection.execute(
                    self.sql(
                        "SELECT has_database_privilege(current_database(), 'TEMPORARY'),"
                        " quote_ident(current_database()), quote_ident(current_user)"
                    )
                ).one()
                if not may:
                    raise RuntimeError(
                        "permission denied to make temporary tables; as the owner of the database"
                        f" or a superuser: GRANT TEMPORARY ON DATABASE {database} TO {role}"
                    )
                # Reading a definition takes a lock for a moment. It gives up before anybody else
                # is ended for a deadlock, which Postgres looks for after a second.
                connection.execute(self.sql("SET lock_timeout = '500ms'"))
                found = self._shape(connection)
            with engine.connect() as connection, only_engine(engine):
                connection.execute(self.sql("SET LOCAL search_path = pg_temp"))
                with contextlib.redirect_stdout(sys.stderr):
                    migrate(self, engine, initialise=True)
                expected = self._shape(connection)
            if not self.schema.core <= {table for _kind, table, _what in expected}:
                raise RuntimeError("this MLflow made its tables elsewhere")
            return differences(expected, found)
        finally:
            engine.dispose()

    def _shape(self, connection: Any) -> Shape:
        """Return what the tables in reach are made of."""
        rows = connection.execute(
            self.sql(
                "WITH tables AS (SELECT oid, relname FROM pg_catalog.pg_class"
                " WHERE relkind IN ('r', 'p') AND pg_catalog.pg_table_is_visible(oid)"
                " AND relnamespace NOT IN ('pg_catalog'::regnamespace,"
                " 'information_schema'::regnamespace))"
                " SELECT 'column', t.relname::text, a.attname::text,"
                " pg_catalog.format_type(a.atttypid, a.atttypmod)"
                " || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END"
                # The sequence that a number is taken from bears its table's name, and its schema's.
                " || coalesce(CASE a.attgenerated WHEN '' THEN ' DEFAULT ' ELSE ' GENERATED ' END"
                " || regexp_replace(pg_catalog.pg_get_expr(d.adbin, d.adrelid),"
                " '^nextval\\(.*', 'nextval'), '')"
                " FROM tables t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid"
                " AND a.attnum > 0 AND NOT a.attisdropped"
                " LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = t.oid AND d.adnum = a.attnum"
                " UNION ALL SELECT 'index', t.relname,"
                " CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END"
                " || substring(pg_catalog.pg_get_indexdef(i.indexrelid, 0, true)"
                " FROM ' USING (.*)$'), c.relname"
                " FROM tables t JOIN pg_catalog.pg_index i ON i.indrelid = t.oid"
                " JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid WHERE i.indisvalid"
                " AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint o"
                " WHERE o.conindid = i.indexrelid AND o.contype IN ('p', 'u', 'x'))"
                # From Postgres 18 on a column that must not be empty has one, too.
                " UNION ALL SELECT 'constraint', t.relname,"
                " pg_catalog.pg_get_constraintdef(o.oid, true), o.conname FROM tables t"
                " JOIN pg_catalog.pg_constraint o ON o.conrelid = t.oid AND o.contype <> 'n'"
            )
        )
        return {
            (kind, table, what): text
            for kind, table, what, text in rows
            if self.schema.owns(table) and not table.startswith("alembic_")
        }

    def drop_copy(self) -> None:
        """Drop the copy that a rehearsal was made with."""
        import sqlalchemy

        engine = sqlalchemy.create_engine(self.live, poolclass=sqlalchemy.pool.NullPool)
        copy = f"{self.live.database}{REHEARSAL}"
        name = engine.dialect.identifier_preparer.quote_identifier(copy)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(self.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))

    def _may_not_create(self, connection: Any) -> str:
        """Return what keeps this role from making tables: since Postgres 15 not everybody may."""
        user, schema, may = connection.execute(
            self.sql(
                "SELECT quote_ident(current_user), quote_ident(current_schema()),"
                " has_schema_privilege(current_schema(), 'CREATE')"
            )
        ).one()
        if may:
            return ""
        where = schema or "public"
        return (
            f"permission denied: the role {user} may not create tables in schema {where}; as the"
            " owner of the database or a superuser:"
            f" GRANT USAGE, CREATE ON SCHEMA {where} TO {user}"
        )

    def _elsewhere(self, connection: Any) -> tuple[str, ...]:
        """Return where this schema's tables are out of sight, if they are this role's."""
        found = connection.scalars(
            self.sql(
                "SELECT DISTINCT quote_ident(n.nspname) FROM pg_catalog.pg_class c"
                " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
                " WHERE c.relname = :name AND c.relkind = 'r' AND n.nspname !~ '^pg_'"
                " AND pg_catalog.pg_has_role(c.relowner, 'USAGE')"
                " AND NOT pg_catalog.pg_table_is_visible(c.oid)"
            ),
            {"name": self.schema.version_table},
        )
        return tuple(f"schema {name}" for name in found)

    def _newer(self, connection: Any, mine: frozenset[str]) -> tuple[str, ...]:
        """Return the tables and columns that this image's MLflow does not know."""
        known = model_columns(self.schema)
        found = set(mine - set(known) - self.scripts.mentioned)
        rows = connection.execute(
            self.sql(
                "SELECT c.relname, a.attname FROM pg_catalog.pg_attribute a"
                " JOIN pg_catalog.pg_class c ON c.oid = a.attrelid"
                " WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p')"
                " AND pg_catalog.pg_table_is_visible(c.oid)"
            )
        )
        for table, column in rows:
            if table in mine and table in known and column not in known[table]:
                found.add(f"{table}.{column}")
        return tuple(sorted(found))

    def _under_way(self, connection: Any, verdict: Verdict) -> Verdict:
        """Tell half a schema from one that someone is making at this moment."""
        holder = self.lock_holder(connection)
        if holder is None:
            return verdict
        return dataclasses.replace(
            verdict, state="behind", detail=f"being initialised or migrated now by {holder}"
        )

    def lock_holder(self, connection: Any) -> str | None:
        """Return who holds the lock, if anyone other than this process."""
        row = connection.execute(
            self.sql(
                "SELECT l.pid, a.client_addr FROM pg_catalog.pg_locks l"
                " LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid"
                " WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1"
                " AND l.database = (SELECT oid FROM pg_catalog.pg_database"
                " WHERE datname = current_database())"
                " AND l.classid::bigint = :high AND l.objid::bigint = :low"
                " AND l.pid <> ALL (:mine)"
            ),
            {
                "high": (LOCK_KEY >> 32) & 0xFFFFFFFF,
                "low": LOCK_KEY & 0xFFFFFFFF,
                "mine": [*self._lock_pids, -1],
            },
        ).first()
        if row is None:
            return None
        return f"the database session {row[0]}" + (f" from {row[1]}" if row[1] else "")

    # The sessions that hold this process's own locks.
    _lock_pids: tuple[int, ...] = ()

    @contextlib.contextmanager
    def try_lock(self) -> Iterator[Lock | None]:
        """Hold the lock for the block, or give None if another session has it."""
        with self.connect() as connection:
            refuse_transaction_pooler(self, connection)
            # A session that waits for a long migration must not be ended for being idle, and a
            # vanished one (its node lost) must not keep the lock for hours.
            for setting in (
                "statement_timeout = 0",
                "idle_session_timeout = 0",
                "tcp_keepalives_idle = 30",
                "tcp_keepalives_interval = 10",
                "tcp_keepalives_count = 3",
            ):
                with contextlib.suppress(self.database_error):  # not in every version
                    connection.execute(self.sql(f"SET {setting}"))
            if not connection.scalar(
                self.sql("SELECT pg_try_advisory_lock(:key)"), {"key": LOCK_KEY}
            ):
                yield None
                return
            pid = connection.scalar(self.sql("SELECT pg_backend_pid()"))
            Database._lock_pids += (pid,)
            try:
                yield Lock(self, connection)
            finally:
                # Closing the session gives the lock back.
                Database._lock_pids = tuple(p for p in Database._lock_pids if p != pid)


@contextlib.contextmanager
def only_engine(engine: Any) -> Iterator[None]:
    """Have every migration use this engine, also one that would make its own from an address."""
    import sqlalchemy

    own = sqlalchemy.engine_from_config
    sqlalchemy.engine_from_config = lambda *_arguments, **_more: engine
    try:
        yield
    finally:
        sqlalchemy.engine_from_config = own


_EXECUTES = re.compile(r"(\bEXECUTE\s+(?:FUNCTION|PROCEDURE)\s+)(?=\w+\s*\()", re.IGNORECASE)


def name_temporary(
    _connection: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any
) -> tuple[str, Any]:
    """Return a statement that finds its function, which Postgres does not look for in pg_temp."""
    return _EXECUTES.sub(r"\1pg_temp.", statement), parameters


class Lock:
    """The advisory lock, held by a database session of its own."""

    def __init__(self, database: Database, connection: Any) -> None:
        self._database = database
        self._connection = connection

    def check(self) -> None:
        """Raise LostError if the session, and with it the lock, is gone."""
        try:
            held = self._connection.scalar(
                self._database.sql(
                    "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory'"
                    " AND granted AND pid = pg_backend_pid()"
                    " AND classid::bigint = :high AND objid::bigint = :low)"
                ),
                {"high": (LOCK_KEY >> 32) & 0xFFFFFFFF, "low": LOCK_KEY & 0xFFFFFFFF},
            )
        except self._database.database_error:
            held = False
        if not held:
            raise LostError("the database session that held the lock was lost")


class Watch:
    """Notes, during a migration, which sessions of others block it, and what it locks itself."""

    # One row a session that blocks. A prepared transaction has no session, and its id is 0.
    QUERY = (
        "SELECT DISTINCT b.pid, a.application_name, a.usename, a.client_addr, a.state"
        " FROM unnest(:mine) m(pid), unnest(pg_catalog.pg_blocking_pids(m.pid)) b(pid)"
        " LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = b.pid"
        " WHERE b.pid <> ALL (:mine) ORDER BY b.pid"
    )

    LOCKS = (
        "SELECT c.relname, l.mode FROM pg_catalog.pg_locks l"
        " JOIN pg_catalog.pg_class c ON c.oid = l.relation"
        " WHERE l.pid = ANY (:mine) AND l.granted AND l.mode = ANY (:modes) AND c.oid >= 16384"
        " AND c.relkind IN ('r', 'p') AND l.database ="
        " (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())"
    )

    def __init__(self, database: Database) -> None:
        self.database = database
        # By table and mode, when it was seen first and last.
        self.held: dict[tuple[str, str], tuple[float, float]] = {}
        # The sessions of the migration, which it opens itself.
        self.sessions: list[int] = []
        # What was last in its way.
        self.blocked = "blocked by a session that has ended since"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stop.wait(WATCH_SECONDS):
            # A database that is gone is found out by the migration itself.
            with (
                contextlib.suppress(self.database.database_error),
                self.database.connect() as connection,
            ):
                while not self._stop.wait(WATCH_SECONDS):
                    self._look(connection)

    def _look(self, connection: Any) -> None:
        mine = [*self.sessions, -1]
        rows = connection.execute(self.database.sql(self.QUERY), {"mine": mine}).all()
        if rows:
            self.blocked = "blocked by " + ", ".join(blocker(*row) for row in rows)
        now = time.monotonic()
        locks = connection.execute(
            self.database.sql(self.LOCKS), {"mine": mine, "modes": list(LOCK_MODES)}
        )
        for table, mode in locks:
            first, _last = self.held.get((table, mode), (now, now))
            self.held[table, mode] = (first, now)

    def locks(self) -> list[dict[str, Any]]:
        """Return each table that was seen to be locked, the longest first."""
        found = [
            {"table": table, "mode": mode, "seconds": round(last - first + WATCH_SECONDS, 1)}
            for (table, mode), (first, last) in self.held.items()
        ]
        return sorted(found, key=lambda lock: (-lock["seconds"], lock["table"], lock["mode"]))


def blocker(
    pid: int, application: str | None, user: str | None, address: str | None, state: str | None
) -> str:
    """Name a session that blocks, in words that lead to it. A pure function."""
    if not pid:
        return "a prepared transaction (see pg_prepared_xacts)"
    parts = [f"application {application!r}" if application else "", f"user {user}" if user else ""]
    parts += [f"from {address}" if address else "", state or ""]
    return f"session {pid} ({', '.join(filter(None, parts)) or 'ended since'})"


def refuse_transaction_pooler(database: Database, first: Any) -> None:
    """Raise UsageError if two open connections share one server session.

    A transaction pooler (PgBouncer in that mode) hands a session to whoever has a transaction to
    run, and a session lock with it.
    """
    pid_query = database.sql("SELECT pg_backend_pid()")
    pid = first.scalar(pid_query)
    with database.engine.connect() as second, second.begin():
        shared = second.scalar(pid_query) == pid
        # While the second one's transaction holds on to its session, the first one has to have
        # kept its own.
        shared = shared or first.scalar(pid_query) != pid
    if shared:
        raise UsageError(
            f"the {database.schema.name} database is behind a transaction pooler, which cannot "
            "hold the migration's lock: name an address past it in MLOPS_SCHEMA_DIRECT_"
            + ("AUTH_URI" if database.schema.name == "auth" else "URI")
        )


def import_mlflow(schema: Schema) -> Any:
    """Import the MLflow that knows a schema; return its module with the tables."""
    module = "mlflow.server.auth.db.models" if schema.name == "auth" else "mlflow.store.db.utils"
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ShapeError(f"{module} of this MLflow cannot be used: {error}") from error


def model_columns(schema: Schema) -> dict[str, set[str]]:
    """Return the columns of every table of MLflow's models. Imports MLflow."""
    module = import_mlflow(schema)
    try:
        metadata = module.Base.metadata
        return {name: set(table.columns.keys()) for name, table in metadata.tables.items()}
    except AttributeError as error:
        raise ShapeError(f"{module.__name__} of this MLflow cannot be used: {error}") from error


# --- The commands ---------------------------------------------------------------------------------


class Helper:
    """The commands, over the schemas that are in use."""

    def __init__(self, environment: Mapping[str, str], suffix: str = "") -> None:
        self.environment = environment
        self.timeout = _timeout(environment)
        self.deadline = time.monotonic() + self.timeout
        self._said = ""
        self._said_at = 0.0
        self._lost = 0
        self.took: dict[str, dict[str, Any]] = {}
        uris = addresses(environment)
        self.secrets = passwords(environment, uris.values())
        package = package_dir()
        self.databases = [
            Database(schema, uris[schema.name], read_scripts(package, schema), suffix)
            for schema in (TRACKING, AUTH)  # in this order: basic auth's first would break it
            if schema.name in uris
        ]

    def inspect(self) -> dict[str, Verdict]:
        """Return the state of every schema."""
        found = {}
        for database in self.databases:
            verdict = database.inspect()
            found[database.schema.name] = dataclasses.replace(
                verdict, detail=redact(verdict.detail, self.secrets)
            )
        return found

    def compare(self) -> dict[str, Verdict]:
        """Return the state of every schema, and how it differs from what this MLflow would make."""
        found = self.inspect()
        for database in self.databases:
            verdict = found[database.schema.name]
            if verdict.state != "at_head":
                continue
            try:
                refuse_without_memory(self.environment)
                lines = tuple(redact(line, self.secrets) for line in database.compare())
                verdict = dataclasses.replace(verdict, differences=lines)
            except ShapeError:
                raise
            except Exception as error:
                detail = f"not compared: {first_line(getattr(error, 'orig', None) or error)}"
                verdict = dataclasses.replace(verdict, detail=redact(detail, self.secrets))
            found[database.schema.name] = verdict
        return found

    def say(self, text: str) -> None:
        """Print progress: what is new at once, what is not every half minute."""
        now = time.monotonic()
        if text != self._said or now - self._said_at >= REPEAT_SECONDS:
            elapsed = self.timeout - (self.deadline - now)
            print(f"{elapsed:6.1f} s  {redact(text, self.secrets)}", file=sys.stderr, flush=True)
            self._said, self._said_at = text, now

    def say_verdicts(self, verdicts: Mapping[str, Verdict], more: str = "") -> None:
        """Print the states as progress."""
        parts = []
        for name, verdict in verdicts.items():
            at = f" at {verdict.current}" if verdict.current else ""
            to = f", head {verdict.head}" if verdict.state not in {"at_head", "denied"} else ""
            detail = f" ({verdict.detail})" if verdict.detail else ""
            parts.append(f"{name} {verdict.state}{at}{to}{detail}")
        self.say(" · ".join(parts) + (f" · {more}" if more else ""))

    def out_of_time(self) -> bool:
        """Sleep until the next look; tell if there is none."""
        if time.monotonic() + POLL_SECONDS > self.deadline:
            return True
        time.sleep(POLL_SECONDS)
        return False

    def wait(self) -> dict[str, Verdict]:
        """Return when all is at head, certain to fail, or the time is up."""
        while True:
            verdicts = self.inspect()
            states = {verdict.state for verdict in verdicts.values()}
            more = ""
            if states == {"at_head"} or states & CERTAIN:
                self.say_verdicts(verdicts)
                return verdicts
            if states <= {"empty", "at_head"}:
                more = self.attempt({"empty"})
                if not more:
                    continue
            elif "behind" in states:
                more = "waiting for the migration"
            self.say_verdicts(verdicts, more)
            if self.out_of_time():
                return verdicts

    def migrate(self) -> dict[str, Verdict]:
        """Bring all to head, under the lock; return the states after it."""
        while True:
            verdicts = self.inspect()
            states = {verdict.state for verdict in verdicts.values()}
            more = ""
            if states != {"at_head"} and not states & (CERTAIN | {"unreachable"}):
                more = self.attempt({"empty", "behind"})
                if not more:
                    return self.inspect()
            self.say_verdicts(verdicts, more)
            if states == {"at_head"} or states & CERTAIN or self.out_of_time():
                return {
                    name: v if v.detail else dataclasses.replace(v, detail=more)
                    for name, v in verdicts.items()
                }

    def rehearse(self) -> dict[str, Verdict]:
        """Bring the copies to head; return the states after it, with what it took."""
        for database in self.databases:
            import_mlflow(database.schema)  # which is none of the migration's seconds
        return {
            name: dataclasses.replace(verdict, took=self.took.get(name))
            for name, verdict in self.migrate().items()
        }

    def drop_copies(self) -> None:
        """Drop what a rehearsal was made with; what stays is dropped by the next one."""
        for database in self.databases:
            try:
                database.drop_copy()
            except database.database_error as error:
                self.say(f"{database.url.database} is still there: {first_line(error)}")

    def attempt(self, from_states: set[str]) -> str:
        """Bring all to head under the lock; return why it could not be done now, or nothing.

        A database that restarts in the middle is no failure: MLflow's migrations are one
        transaction, which is there as a whole or not at all.
        """
        try:
            with self.locks() as locks:
                if locks is None:
                    return "another process holds the lock"
                self.bring_to_head(locks, from_states)
                return ""
        except BlockedError as error:
            self.say(f"{error}; to end a session: SELECT pg_terminate_backend(its number)")
            if time.monotonic() + LOCK_PAUSE + POLL_SECONDS > self.deadline:
                return f"gave up waiting, {error}"
            time.sleep(LOCK_PAUSE)
            return str(error)
        except Exception as error:
            if self._lost >= LOST_MOST or not was_lost(error):
                raise
            self._lost += 1
            return f"the database went away: {first_line(error)}"

    def inspect_when_back(self) -> dict[str, Verdict]:
        """Return the states, from a database that may be just restarting."""
        until = min(self.deadline, time.monotonic() + REPORT_SECONDS)
        while True:
            verdicts = self.inspect()
            if all(verdict.state != "unreachable" for verdict in verdicts.values()):
                return verdicts
            if time.monotonic() >= until:
                return verdicts
            time.sleep(POLL_SECONDS)

    @contextlib.contextmanager
    def locks(self) -> Iterator[list[Lock] | None]:
        """Hold the lock of every database for the block, or give None."""
        with contextlib.ExitStack() as stack:
            locks: list[Lock] = []
            places = set()
            for database in self.databases:
                place = (database.url.host, database.url.port, database.url.database)
                if place not in places:
                    places.add(place)
                    lock = stack.enter_context(database.try_lock())
                    if lock is None:
                        yield None
                        return
                    locks.append(lock)
            yield locks

    def bring_to_head(self, locks: list[Lock], from_states: set[str]) -> None:
        """Initialise or migrate what is in one of the given states, tracking first."""
        for database in self.databases:
            # Looked at again: it may have changed before the lock was ours.
            verdict = database.inspect()
            if verdict.state == "at_head":
                continue
            if verdict.state not in from_states:
                return
            for lock in locks:
                lock.check()
            verb = "initialising" if verdict.state == "empty" else "migrating"
            self.say(f"{verb} {database.schema.name} to {verdict.head}")
            # What MLflow prints is no verdict.
            with contextlib.redirect_stdout(sys.stderr):
                self.run_migration(database, verdict.state == "empty")
            after = database.inspect()
            if after.state == "unreachable":
                raise LostError(after.detail)
            if after.state != "at_head":
                raise RuntimeError(
                    f"{database.schema.name} is {after.state} afterwards: {after.detail}"
                )
            seconds = self.took[database.schema.name]["seconds"]
            self.say(f"{database.schema.name} done in {seconds:.1f} s")
            if verdict.state == "empty" and database.schema.name == "tracking":
                self.create_default_experiment(database)

    def run_migration(self, database: Database, initialise: bool) -> None:
        """Run MLflow's migration; raise BlockedError if it met a lock that somebody keeps."""
        started = time.monotonic()
        with Watch(database) as watch:
            try:
                with unhurried_sessions(watch.sessions):
                    migrate(database, database.engine, initialise)
            except database.database_error as error:
                if met_lock(error):
                    raise BlockedError(watch.blocked) from error
                raise
        seconds = round(time.monotonic() - started, 1)
        self.took[database.schema.name] = {"seconds": seconds, "locks": watch.locks()}

    def create_default_experiment(self, database: Database) -> None:
        """Create the experiment that every server wants; several at once would trip over it."""
        flag = self.environment.get("MLFLOW_SERVE_ARTIFACTS", "true").lower()
        root = self.environment.get("MLFLOW_DEFAULT_ARTIFACT_ROOT")
        if not root and flag not in {"true", "1", "yes", "on", "t", "y"}:
            return
        try:
            store = importlib.import_module("mlflow.store.tracking.sqlalchemy_store")
            with contextlib.redirect_stdout(sys.stderr):
                store.SqlAlchemyStore(
                    database.url.render_as_string(hide_password=False),
                    root or "mlflow-artifacts:/",
                )
        except Exception as error:  # the first server does it instead
            self.say(f"the default experiment is left to the server: {type(error).__name__}")


def migrate(database: Database, engine: Any, initialise: bool) -> None:
    """Run MLflow's own migration of a schema."""
    if database.schema.name == "auth":
        private("mlflow.server.auth.db.utils", "migrate", 2)(engine, "head")
        return
    module = "mlflow.store.db.utils"
    name = "_initialize_tables" if initialise else "_upgrade_db"
    function = private(module, name, 1)
    head = private(module, "_get_latest_schema_revision", 0)()
    if head != database.scripts.head:
        raise ShapeError(f"MLflow names {head} as its head, its files {database.scripts.head}")
    function(engine)


def refuse_without_memory(environment: Mapping[str, str]) -> None:
    """Raise RuntimeError if importing MLflow could end the container that this runs in."""
    folder = Path(environment.get("MLOPS_SCHEMA_CGROUP", "/sys/fs/cgroup"))
    try:
        most, used, more = (
            (folder / name).read_text(encoding="utf-8")
            for name in ("memory.max", "memory.current", "memory.stat")
        )
        # Of what is used, files that were read are given back when there is need.
        files = dict(line.split() for line in more.splitlines())["inactive_file"]
        left = int(most) - int(used) + int(files)
    except (OSError, ValueError, KeyError):  # no limit, or an older kernel
        return
    if left < COMPARE_BYTES:
        raise RuntimeError(
            f"the container has {left >> 20} MiB left and {COMPARE_BYTES >> 20} MiB may be needed"
        )


@contextlib.contextmanager
def unhurried_sessions(sessions: list[int]) -> Iterator[None]:
    """Prepare every new session for a migration, and note its number in `sessions`.

    Lifts the time limits that a role may have for everyday queries, waits for no lock for long, and
    has the server notice, where it can, that the migration's process is gone.
    """
    from sqlalchemy import event, pool

    migrating = threading.get_ident()

    def lift(connection: Any, _record: Any) -> None:
        if threading.get_ident() != migrating:
            return
        for name, value in (
            ("statement_timeout", "0"),
            ("transaction_timeout", "0"),  # from Postgres 17 on
            ("lock_timeout", f"'{LOCK_SECONDS:g}s'"),
            ("idle_in_transaction_session_timeout", "0"),
            ("client_connection_check_interval", "'5s'"),  # from Postgres 14 on
        ):
            cursor = connection.cursor()
            try:
                cursor.execute(f"SET {name} = {value}")
                connection.commit()
            except connection.Error:
                connection.rollback()
            finally:
                cursor.close()
        sessions.append(connection.info.backend_pid)

    event.listen(pool.Pool, "connect", lift)
    try:
        yield
    finally:
        event.remove(pool.Pool, "connect", lift)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text."""
    return str(error).strip().partition("\n")[0]


def was_lost(error: BaseException) -> bool:
    """Tell whether the database went away, from what was raised in the middle of the work."""
    import sqlalchemy

    if isinstance(error, LostError):
        return True
    if not isinstance(error, sqlalchemy.exc.DBAPIError):
        return False
    code = getattr(error.orig, "pgcode", None) or getattr(error.orig, "sqlstate", None)
    if code:
        return str(code).startswith(("08", "57P"))
    # No code: it did not come from the server.
    return error.connection_invalidated or (
        isinstance(error, sqlalchemy.exc.OperationalError)
        and classify(str(error.orig)) == "unreachable"
    )


def is_full(error: BaseException) -> bool:
    """Tell whether the database's disk is full, which trying again does not change."""
    return "53100" in _codes(error)


def was_denied(error: BaseException) -> bool:
    """Tell whether the role lacks a right, such as to change a table that is another role's."""
    return "42501" in _codes(error)


def met_lock(error: BaseException) -> bool:
    """Tell whether a statement waited for a lock for longer than it may."""
    return "55P03" in _codes(error)


def _codes(error: BaseException) -> set[str | None]:
    """Return what Postgres calls an error, whichever driver brought it."""
    found = getattr(error, "orig", None)
    return {getattr(found, "pgcode", None), getattr(found, "sqlstate", None)}


def _timeout(environment: Mapping[str, str]) -> float:
    text = environment.get("MLOPS_SCHEMA_TIMEOUT") or "900"
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e9:
        raise UsageError(f"MLOPS_SCHEMA_TIMEOUT must be a number of seconds, not {text!r}")
    return seconds


def report(command: str, verdicts: Mapping[str, Verdict]) -> None:
    """Print the verdict, and leave it where Kubernetes picks it up."""
    line = json.dumps({name: verdict.as_dict() for name, verdict in verdicts.items()})
    # Those that only tell are run inside a server's container: the message there is the server's.
    if command not in {"status", "compare"}:
        path = os.environ.get("MLOPS_SCHEMA_TERMINATION_LOG", "/dev/termination-log")
        if os.access(path, os.W_OK):
            with contextlib.suppress(OSError):
                Path(path).write_text(line, encoding="utf-8")
    print(line, flush=True)


def revisions(package: Path) -> dict[str, Any]:
    """Return what this MLflow is, and which revisions of each schema it knows."""
    found: dict[str, Any] = {"mlflow": version(package)}
    for schema in (TRACKING, AUTH):
        scripts = read_scripts(package, schema)
        found[schema.name] = {"head": scripts.head, "known": sorted(scripts.known)}
    return found


def run_revisions() -> int:
    """Print what this MLflow knows; return the exit status."""
    try:
        print(json.dumps(revisions(package_dir())), flush=True)
    except (ShapeError, OSError) as error:
        print(f"schema.py: {error}", file=sys.stderr)
        return EXIT_SHAPE
    return EXIT_OK


def run(command: str) -> int:
    """Run one command; return the exit status."""
    helper: Helper | None = None
    try:
        helper = Helper(os.environ, REHEARSAL if command == "rehearse" else "")
        verdicts = helper.inspect() if command == "status" else getattr(helper, command)()
        report(command, verdicts)
        good = all(v.state == "at_head" and not v.differences for v in verdicts.values())
        return EXIT_OK if good else EXIT_STATE
    except (UsageError, ShapeError) as error:
        detail = redact(str(error), helper.secrets if helper else ())
        print(f"schema.py: {detail}", file=sys.stderr)
        report(command, {"tracking": Verdict("unknown", detail=detail)})
        return EXIT_USAGE if isinstance(error, UsageError) else EXIT_SHAPE
    except Exception as error:
        secrets = helper.secrets if helper else ()
        print(redact(traceback.format_exc(), secrets), file=sys.stderr)
        detail = redact(f"{command} failed: {type(error).__name__}: {first_line(error)}", secrets)
        verdicts = helper.inspect_when_back() if helper else {"tracking": Verdict("unknown")}
        denied: dict[str, Any] = {"state": "denied"} if was_denied(error) else {}
        report(
            command,
            {
                name: v if v.state == "at_head" else dataclasses.replace(v, detail=detail, **denied)
                for name, v in verdicts.items()
            },
        )
        return EXIT_STATE if is_full(error) or denied else EXIT_FAILED
    finally:
        if helper and command == "rehearse":
            helper.drop_copies()


def main(arguments: list[str]) -> int:
    """Check the arguments, prepare the process, run the command."""
    if len(arguments) != 1 or arguments[0] not in COMMANDS:
        print(f"usage: schema.py {{{','.join(COMMANDS)}}}", file=sys.stderr)
        return EXIT_USAGE
    # The first process of a container gets no SIGTERM unless it asks for it. Leaving by an
    # exception rolls an open transaction back.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    os.environ.setdefault("PGCONNECT_TIMEOUT", "5")
    os.environ.setdefault("PGAPPNAME", APPLICATION_NAME)
    return run_revisions() if arguments[0] == "revisions" else run(arguments[0])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
