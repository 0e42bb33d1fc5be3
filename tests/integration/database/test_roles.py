"""The bundled Postgres as its start script makes it: fresh, or one of before, cut off anywhere.

Against the Postgres of this machine, with MLflow's driver.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow.status import (
    DATABASE_HEALTH,
    database_health,
)
from ansible_collections.mlops.mlflow.tests.integration.schema_helper.conftest import (
    free_port,
    kill_all,
    server_folder,
    tool,
    unprivileged,
    wait_until,
)

BASE = Path(__file__).parents[3] / "kustomize" / "base"
# Characters that a shell and SQL each treat in a way of their own.
PASSWORD = "s3cr%t/p@ss'\"$x\\"
OTHER = "an0ther-s3cret"
# As the pods of a release have it.
PODS = {"PGSSLMODE": "require", "PGCHANNELBINDING": "require"}


class Installation:
    """One volume, and the Postgres that is started on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.user = unprivileged()
        self.port = free_port()
        self.data = folder / "volume" / "pgdata"
        self.run = folder / "run"
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None
        shutil.copytree(BASE, folder / "base")
        (folder / "volume").mkdir()
        self.run.mkdir()
        folder.chmod(0o755)
        if self.user:
            shutil.chown(folder / "volume", self.user)
            shutil.chown(self.run, self.user)
        self.bin = str(Path(tool("initdb")).parent)

    def call(self, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a program as the pod's user, in a process group of its own."""
        with open(self.log, "ab") as log:
            return subprocess.Popen(
                command,
                user=self.user,
                cwd=self.folder,
                env={"PATH": f"{self.bin}:{os.environ['PATH']}", "LANG": "C.UTF-8", **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def begin(self, login: str = "mlflow", password: str = PASSWORD) -> subprocess.Popen[bytes]:
        """Run the start script, as the container does; each pod has a network of its own."""
        self.port = free_port()
        secret = self.folder / "password"
        secret.write_text(password, encoding="utf-8")
        secret.chmod(0o644)
        self.process = self.call(
            "bash",
            str(self.folder / "base/postgres-start.sh"),
            "postgres",
            *("-c", f"port={self.port}", "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"),
            *("-c", f"unix_socket_directories={self.run}"),
            PGDATA=str(self.data),
            POSTGRES_RUN=str(self.run),
            POSTGRES_PASSWORD_FILE=str(secret),
            POSTGRES_INITDB_ARGS="--data-checksums --no-sync",
            DATABASE_USER=login,
            TMPDIR=str(self.run),
        )
        return self.process

    def start(self, login: str = "mlflow", password: str = PASSWORD) -> None:
        """Start it, and wait until it serves."""
        process = self.begin(login, password)

        def serves() -> bool:
            assert process.poll() is None, self.said()
            with contextlib.suppress(psycopg2.OperationalError):
                self.socket("SELECT 1")
                return True
            return False

        wait_until(serves, 120)

    def stop(self) -> None:
        """Stop it in an orderly way."""
        assert self.process
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(60) == 0

    def kill(self) -> None:
        """End all of it at once."""
        assert self.process
        kill_all(self.process.pid)
        self.process.wait(30)
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def said(self) -> str:
        """Return what it has printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def socket(self, statement: str, user: str = "postgres", database: str = "mlflow") -> Any:
        """Run a statement as a process in the pod may."""
        return rows(statement, host=str(self.run), port=self.port, user=user, dbname=database)

    def network(
        self, statement: str, password: str = PASSWORD, user: str = "mlflow", **more: Any
    ) -> Any:
        """Run a statement as MLflow's pods do."""
        return rows(
            statement,
            **{
                "host": "127.0.0.1",
                "port": self.port,
                "user": user,
                "password": password,
                "dbname": "mlflow",
                "sslmode": "require",
                "channel_binding": "require",
                **more,
            },
        )


def rows(statement: str, **parameters: Any) -> Any:
    connection = psycopg2.connect(**parameters)
    try:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


@pytest.fixture
def installation() -> Iterator[Installation]:
    with server_folder() as folder:
        made = Installation(folder)
        try:
            yield made
            # Whatever happened, no password was printed.
            for secret in (PASSWORD, OTHER):
                assert secret not in made.said()
        finally:
            if made.process and made.process.poll() is None:
                made.kill()


ROLE = (
    "SELECT rolname, rolsuper, rolcreaterole, rolreplication FROM pg_roles WHERE rolname !~ '^pg_'"
)


def test_mlflow_owns_its_database_and_is_no_superuser(installation: Installation) -> None:
    installation.start()
    assert installation.network("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == [
        (True,)
    ]
    assert set(installation.network(ROLE)) == {
        ("mlflow", False, False, False),
        ("postgres", True, True, True),
    }
    for program in ("COPY (SELECT 1) TO PROGRAM 'cat'", "SELECT pg_read_file('/etc/passwd')"):
        with pytest.raises(psycopg2.Error, match=r"permission denied|must be superuser"):
            installation.network(program)
    # What a migration and a restore do.
    installation.network("CREATE TABLE public.a (b int)")
    for statement in (
        "CREATE DATABASE beside TEMPLATE template0",
        "ALTER DATABASE beside RENAME TO other",
        "DROP DATABASE other WITH (FORCE)",
    ):
        installation.network(statement, dbname="postgres")
    (room,) = installation.network("SELECT public.mlops_room()", dbname="postgres")[0]
    assert room > 0
    installation.stop()


def test_nobody_comes_without_a_password_or_without_tls(installation: Installation) -> None:
    installation.start()
    # As through kubectl port-forward.
    for parameters, words in (
        ({"password": "wrong"}, "password authentication failed"),
        ({"sslmode": "disable", "channel_binding": "prefer"}, "no pg_hba.conf entry|no encryption"),
        ({"user": "postgres"}, "rejects connection"),
        (
            {"user": "postgres", "dbname": "postgres", "password": ""},
            "rejects connection|no password",
        ),
    ):
        with pytest.raises(psycopg2.OperationalError, match=words):
            installation.network("SELECT 1", **parameters)
    installation.stop()


def test_the_database_says_what_silently_goes_wrong(installation: Installation) -> None:
    """Its locale here has no version, so that its collation is always right."""
    installation.start()
    installation.network("CREATE TABLE a AS SELECT 1 AS b FROM generate_series(1, 2)")
    with pytest.raises(psycopg2.errors.UniqueViolation):
        installation.network("CREATE UNIQUE INDEX CONCURRENTLY twice ON a (b)")
    ((said,),) = installation.socket(DATABASE_HEALTH)
    found = database_health(json.dumps(said))
    assert found.pop("version").startswith(("15", "16", "17", "18"))
    assert found == {"collation": [], "invalid_indexes": ["twice"], "checksum_failures": 0}
    installation.stop()


class Middle:
    """Stands between a client and the server with a certificate of its own, and passes all on."""

    def __init__(self, folder: Path, port: int) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.upstream = port
        self.passed = b""
        pair = [str(folder / name) for name in ("middle.crt", "middle.key")]
        command = (
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1"
        )
        subprocess.run(
            [*command.split(), "-subj", "/CN=postgres", "-out", pair[0], "-keyout", pair[1]],
            check=True,
            capture_output=True,
            timeout=20,
        )
        self.context.load_cert_chain(*pair)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        plain, _address = self.listener.accept()
        request = plain.recv(8)
        plain.sendall(b"S")
        client = self.context.wrap_socket(plain, server_side=True)
        server = socket.create_connection(("127.0.0.1", self.upstream))
        server.sendall(request)
        assert server.recv(1) == b"S"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        server = context.wrap_socket(server)
        threading.Thread(target=self._pass, args=(server, client), daemon=True).start()
        self._pass(client, server)

    def _pass(self, one: ssl.SSLSocket, other: ssl.SSLSocket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                self.passed += data
                other.sendall(data)


def test_who_stands_in_between_is_found_out(installation: Installation) -> None:
    """Without an authority: whoever does not know the password cannot pretend to be the server."""
    installation.start()
    middle = Middle(installation.folder, installation.port)
    with pytest.raises(psycopg2.OperationalError, match="channel binding"):
        installation.network("SELECT 1", port=middle.port)
    # It was in between, and what was said went through it.
    assert b"SCRAM-SHA-256-PLUS" in middle.passed
    assert installation.network("SELECT 1") == [(1,)]
    installation.stop()


def test_a_changed_secret_is_taken_at_the_next_start(installation: Installation) -> None:
    installation.start()
    installation.network("CREATE TABLE a AS SELECT 7 AS b")
    installation.stop()
    certificate = (installation.run / "server.crt").read_bytes()
    # As after a rotation: the other role of the two.
    installation.start("mlflow_b", OTHER)
    assert installation.network("SELECT current_user, b FROM a", OTHER, "mlflow_b") == [
        ("mlflow", 7)
    ]
    assert (installation.run / "server.crt").read_bytes() != certificate
    # Who had the old values may still come, until the rotation shuts them out.
    assert installation.network("SELECT b FROM a") == [(7,)]
    installation.stop()


BEFORE = """
CREATE SCHEMA theirs;
CREATE TABLE runs (id serial PRIMARY KEY, status text);
CREATE TABLE theirs.more (id int GENERATED ALWAYS AS IDENTITY, run int REFERENCES public.runs);
INSERT INTO runs (status) SELECT 'FINISHED' FROM generate_series(1, 100);
INSERT INTO theirs.more (run) SELECT id FROM runs;
CREATE INDEX by_status ON runs (status);
CREATE VIEW finished AS SELECT count(*) FROM runs WHERE status = 'FINISHED';
CREATE MATERIALIZED VIEW kept AS SELECT * FROM runs;
CREATE SEQUENCE alone;
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TYPE pair AS (a int, b int);
CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE PROCEDURE nothing() LANGUAGE sql AS '';
CREATE EXTENSION pg_trgm;
SELECT lo_from_bytea(0, 'large');
CREATE ROLE mlflow_b LOGIN PASSWORD 'the-turn-of-the-other';
GRANT mlflow TO mlflow_b;
ALTER ROLE mlflow_b SET role = mlflow;
CREATE ROLE reader LOGIN PASSWORD 'of-somebody-else';
GRANT SELECT ON runs TO reader;
"""
CONTENTS = """
SELECT (SELECT md5(string_agg(r::text, ',' ORDER BY id)) FROM runs r),
  (SELECT md5(string_agg(m::text, ',' ORDER BY id)) FROM theirs.more m),
  (SELECT count(*) FROM finished), (SELECT count(*) FROM kept), one(),
  (SELECT count(*) FROM pg_largeobject_metadata)
"""
LEFT = """
SELECT count(*) FROM (
  SELECT oid FROM pg_class WHERE relowner = 10 AND oid >= 16384
  UNION ALL SELECT oid FROM pg_proc WHERE proowner = 10 AND oid >= 16384
  UNION ALL SELECT oid FROM pg_type WHERE typowner = 10 AND oid >= 16384
  UNION ALL SELECT oid FROM pg_namespace WHERE nspowner = 10 AND oid >= 16384
  UNION ALL SELECT oid FROM pg_largeobject_metadata WHERE lomowner = 10
  UNION ALL SELECT oid FROM pg_database WHERE datdba = 10 AND oid >= 16384
) AS o WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = o.oid AND d.deptype IN ('e', 'i'))
"""


@pytest.fixture
def before(installation: Installation) -> Installation:
    """One as it was made before: MLflow's role is the superuser, and there is no TLS."""
    secret = installation.folder / "password"
    secret.write_text(PASSWORD, encoding="utf-8")
    secret.chmod(0o644)
    data = str(installation.data)
    made = installation.call(
        "initdb", f"--pgdata={data}", "--username=mlflow", f"--pwfile={secret}", "--no-sync",
        "--auth-local=trust", "--auth-host=scram-sha-256",
    )  # fmt: skip
    assert made.wait(90) == 0, installation.said()
    plain = installation.call(
        "postgres", "-D", data, "-c", f"port={installation.port}", "-c", "fsync=off",
        "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={installation.run}",
    )  # fmt: skip
    installation.process = plain

    def serves() -> bool:
        with contextlib.suppress(psycopg2.OperationalError):
            installation.socket("SELECT 1", "mlflow", "postgres")
            return True
        return False

    wait_until(serves, 60)
    installation.socket("CREATE DATABASE mlflow", "mlflow", "postgres")
    installation.socket(BEFORE, "mlflow")
    # What a restore has replaced.
    installation.socket("CREATE DATABASE mlflow_before_x TEMPLATE mlflow", "mlflow", "postgres")
    installation.stop()
    return installation


def check_converted(installation: Installation, contents: Any) -> None:
    """See that nothing is lost, and that MLflow's role is no superuser any more."""
    assert installation.network(CONTENTS) == contents
    assert set(installation.socket(ROLE)) == {
        ("postgres", True, True, True),
        ("mlflow", False, False, False),
        ("mlflow_b", False, False, False),
        ("reader", False, False, False),
    }
    for database in ("mlflow", "mlflow_before_x"):
        assert installation.socket(LEFT, database=database) == [(0,)]
        assert installation.network(CONTENTS, dbname=database) == contents
    # MLflow may do all that it did, and a migration.
    installation.network(
        "ALTER TABLE runs ADD COLUMN more int; ALTER TABLE runs DROP COLUMN more;"
        " ALTER TYPE mood ADD VALUE IF NOT EXISTS 'so so';"
        " REFRESH MATERIALIZED VIEW kept; ALTER SCHEMA theirs RENAME TO other;"
        " ALTER SCHEMA other RENAME TO theirs"
    )
    # And so may the role of the other turn, as the same owner; a reader's rights are as they were.
    turn = {"user": "mlflow_b", "password": "the-turn-of-the-other"}
    assert installation.network("SELECT current_user", **turn) == [("mlflow",)]
    reader = {"user": "reader", "password": "of-somebody-else"}
    assert installation.network("SELECT count(*) FROM runs", **reader) == [(100,)]
    with pytest.raises(psycopg2.Error, match=r"must be superuser|permission denied"):
        installation.network("COPY (SELECT 1) TO PROGRAM 'cat'", **turn)


def contents_before(installation: Installation) -> Any:
    """Return what is in it, asked as before."""
    plain = installation.call(
        "postgres", "-D", str(installation.data), "-c", f"port={installation.port}",
        "-c", "listen_addresses=", "-c", f"unix_socket_directories={installation.run}",
    )  # fmt: skip
    installation.process = plain
    found: list[Any] = []

    def answered() -> bool:
        with contextlib.suppress(psycopg2.OperationalError):
            found.append(installation.socket(CONTENTS, "mlflow"))
        return bool(found)

    wait_until(answered, 60)
    installation.stop()
    return found[0]


def test_an_installation_of_before_is_converted(before: Installation) -> None:
    contents = contents_before(before)
    before.start()
    check_converted(before, contents)
    before.stop()
    # And that is all: the next start has nothing to give.
    given = before.said().count("belong to role")
    assert given == 2
    before.start()
    check_converted(before, contents)
    assert before.said().count("belong to role") == given
    before.stop()


@pytest.mark.parametrize("seconds", [0.1, 0.4, 0.7, 1.0, 1.4])
def test_a_conversion_that_is_cut_off_is_finished(before: Installation, seconds: float) -> None:
    contents = contents_before(before)
    before.begin()
    time.sleep(seconds)
    before.kill()
    before.start()
    check_converted(before, contents)
    before.stop()


@pytest.mark.parametrize("seconds", [0.2, 1.0, 2.0])
def test_a_first_start_that_is_cut_off_is_finished(
    installation: Installation, seconds: float
) -> None:
    installation.begin()
    time.sleep(seconds)
    installation.kill()
    installation.start()
    assert installation.network("SELECT current_user") == [("mlflow",)]
    installation.stop()


def test_what_is_no_database_is_kept_beside_it(installation: Installation) -> None:
    """As the official image's entrypoint leaves it, killed in the middle of initdb."""
    installation.data.mkdir()
    (installation.data / "base").write_text("half of it")
    if installation.user:
        shutil.chown(installation.data, installation.user)
    installation.start()
    (left,) = installation.data.parent.glob("pgdata.incomplete-*")
    assert (left / "base").read_text() == "half of it"
    installation.stop()


def test_a_role_that_cannot_be_made_is_told_without_its_password(
    installation: Installation,
) -> None:
    process = installation.begin("postgres")
    assert process.wait(120) == 1
    assert "must not be postgres, which is the superuser" in installation.said()
