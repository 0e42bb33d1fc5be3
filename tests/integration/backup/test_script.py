"""The backup script against a real Postgres: cut off at any point, it leaves all or nothing."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.mlops.mlflow.plugins.module_utils._backup import catalogue
from ansible_collections.mlops.mlflow.plugins.module_utils._release.rotation import fingerprint
from ansible_collections.mlops.mlflow.tests.integration.schema_helper.conftest import (
    PASSWORD,
    USER,
    Postgres,
    Server,
    server_folder,
    tool,
    unprivileged,
)

SCRIPT = Path(__file__).parents[3] / "kustomize/components/backup/backup.sh"
ROLES = SCRIPT.parents[2] / "base/postgres-roles.sql"
TABLES = """
CREATE TABLE alembic_version (version_num varchar PRIMARY KEY);
INSERT INTO alembic_version VALUES ('dc11');
CREATE TABLE runs (id serial PRIMARY KEY, name text);
INSERT INTO runs (name) SELECT md5(i::text) FROM generate_series(1, 20000) i;
"""

Result = subprocess.CompletedProcess[str]


class Script:
    """The script with a folder of its own."""

    def __init__(self, postgres: Postgres, folder: Path) -> None:
        self.postgres = postgres
        self.folder = folder / "backups"
        self.folder.mkdir()
        image = folder / "image.json"
        image.write_text('{"mlflow": "3.17.2"}')
        (folder / "keys.json").write_text("{}")
        self.environment = {
            "PATH": f"{Path(tool('pg_dump')).parent}:{os.environ['PATH']}",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(postgres.port),
            "PGUSER": USER,
            "PGPASSWORD": PASSWORD,
            "MLFLOW_BACKEND_STORE_URI": "postgresql+psycopg2:///mlflow",
            "MLFLOW_ARTIFACTS_DESTINATION": "/mlflow/artifacts",
            "BACKUP_RELEASE": "here",
            "BACKUP_DIR": str(self.folder),
            "BACKUP_IMAGE_FILE": str(image),
            "BACKUP_LOCK_WAIT": "60",
        }

    def start(self, command: str, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", str(SCRIPT), command],
            env={**self.environment, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, command: str, **more: str) -> Result:
        process = self.start(command, **more)
        output, errors = process.communicate(timeout=180)
        assert PASSWORD not in output + errors
        return subprocess.CompletedProcess([command], process.returncode, output, errors)

    def good(self, command: str, **more: str) -> str:
        done = self.run(command, **more)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def names(self) -> list[str]:
        """The backups that are listed, the newest first."""
        lines = self.good("list").splitlines()
        return [line.split()[1] for line in lines if line.startswith("@backup ")]

    def take(self, **more: str) -> str:
        (name,) = [
            line.split()[1]
            for line in self.good("backup", **more).splitlines()
            if line.startswith("@taken ")
        ]
        time.sleep(1.1)  # Names are moments, to the second.
        return name

    def databases(self) -> set[str]:
        rows = self.postgres.run("postgres", "SELECT datname FROM pg_database")
        return {name for (name,) in rows} - {"postgres", "template0", "template1"}


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    # Not pytest's folder, into which the user that Postgres runs as must not look.
    folder = Path(tempfile.mkdtemp(prefix="mlops-mlflow-postgres-"))
    server = Server(folder)
    server.initialise()
    server.start()
    try:
        yield Postgres(server)
    finally:
        server.stop("immediate")
        shutil.rmtree(folder)


@pytest.fixture
def script(postgres: Postgres, tmp_path: Path) -> Iterator[Script]:
    postgres.run("postgres", "CREATE DATABASE mlflow")
    postgres.run("mlflow", TABLES)
    made = Script(postgres, tmp_path)
    yield made
    for name in made.databases():
        postgres.run("postgres", f'DROP DATABASE "{name}" WITH (FORCE)')


def kill(process: subprocess.Popen[str], number: signal.Signals = signal.SIGKILL) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    process.communicate(timeout=60)


def until(what: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while not what() and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.005)


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def manifest(script: Script, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((script.folder / name / "manifest.json").read_text())
    return found


def test_a_backup_under_writes_is_one_moment(script: Script) -> None:
    ended = threading.Event()

    def write() -> None:
        connection = script.postgres.connect("mlflow")
        cursor = connection.cursor()
        while not ended.is_set():
            cursor.execute("INSERT INTO runs (name) SELECT 'more' FROM generate_series(1, 50)")
        connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        name = script.take(BACKUP_REASON='it\'s a "test"')
    finally:
        ended.set()
        writer.join()
    said = manifest(script, name)
    assert said["reason"] == 'it\'s a "test"'
    assert (said["mlflow"], said["release"]) == ("3.17.2", "here")
    (database,) = said["databases"]
    assert database["revisions"] == {"tracking": "dc11"}
    assert database["rows"]["runs"] >= 20000
    # The rows that were counted are those that were dumped.
    script.good("test", BACKUP_NAME=name)
    assert script.databases() == {"mlflow"}


def test_basic_auth_may_have_a_database_of_its_own(script: Script, tmp_path: Path) -> None:
    script.postgres.run("postgres", "CREATE DATABASE users")
    script.postgres.run("users", "CREATE TABLE users (id int)", "INSERT INTO users VALUES (1)")
    ini = tmp_path / "auth.ini"
    ini.write_text("[mlflow]\ndatabase_uri = postgresql+psycopg2:///users\n")
    two = {"MLFLOW_AUTH_CONFIG_PATH": str(ini)}
    name = script.take(**two)
    assert [d["role"] for d in manifest(script, name)["databases"]] == ["tracking", "auth"]
    script.postgres.run("users", "DELETE FROM users")
    script.postgres.run("mlflow", "DELETE FROM runs")
    for command in ("test", "prepare", "swap"):
        script.good(command, BACKUP_NAME=name, **two)
    assert script.postgres.run("users", "SELECT count(*) FROM users") == [(1,)]
    assert script.postgres.run("mlflow", "SELECT count(*) FROM runs") == [(20000,)]


def test_a_backup_that_is_killed_is_never_listed(script: Script) -> None:
    script.postgres.run("mlflow", "CREATE TABLE more AS SELECT md5(i::text) FROM"
                        " generate_series(1, 300000) i")  # fmt: skip
    process = script.start("backup")
    until(lambda: any(p.stat().st_size for p in script.folder.glob(".taking-*/*.dump")), process)
    kill(process)
    assert [p.name for p in script.folder.glob(".taking-*")]
    assert script.names() == []
    name = script.take()
    assert script.names() == [name]
    assert not list(script.folder.glob(".taking-*"))


@pytest.fixture
def small_volume(script: Script) -> Iterator[Script]:
    """A volume of 57 MiB."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=57m", "tmpfs", str(script.folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("a small volume needs root")
    yield script
    subprocess.run(["umount", str(script.folder)], check=True)


def test_a_volume_that_fills_up_keeps_what_it_has(small_volume: Script) -> None:
    script = small_volume
    name = script.take()
    # Nothing that can be compressed: the dump is as large as the database, twice what is expected.
    script.postgres.run(
        "mlflow",
        "CREATE TABLE noise (x bytea)",
        "ALTER TABLE noise ALTER x SET STORAGE EXTERNAL",
        "CREATE EXTENSION IF NOT EXISTS pgcrypto",
        "INSERT INTO noise SELECT gen_random_bytes(1024) FROM generate_series(1, 60000)",
    )
    done = script.run("backup")
    assert done.returncode != 0
    assert "database mlflow could not be dumped" in done.stderr
    assert not list(script.folder.glob(".taking-*"))
    assert script.names() == [name]
    script.good("test", BACKUP_NAME=name)


def test_too_little_room_is_said_before_anything_is_written(small_volume: Script) -> None:
    (small_volume.folder / "filler").write_bytes(b"x" * (40 << 20))
    done = small_volume.run("backup")
    assert done.returncode != 0
    assert "the volume of the backups has 17 MiB left" in done.stderr
    assert small_volume.names() == []


def test_retention_keeps_what_is_good_or_marked(script: Script) -> None:
    name = script.take()
    script.good("test", BACKUP_NAME=name)
    for old in ("20200101T000000Z", "20200102T000000Z", "20200103T000000Z"):
        folder = script.folder / old
        folder.mkdir()
        (folder / "manifest.json").write_text("{}")
    (script.folder / "20200101T000000Z" / "keep").touch()
    # The only one known to be good is an old one.
    (script.folder / name).rename(script.folder / "20200104T000000Z")
    newest = script.take(BACKUP_KEEP="1", BACKUP_KEEP_DAYS="30")
    assert script.names() == [newest, "20200104T000000Z", "20200101T000000Z"]
    # Young ones stay, whatever their number.
    second = script.take(BACKUP_KEEP="1", BACKUP_KEEP_DAYS="30")
    assert script.names()[:2] == [second, newest]


def test_a_scratch_database_is_dropped_whatever_happens(script: Script) -> None:
    name = script.take()
    with open(script.folder / name / "tracking.dump", "r+b") as file:
        file.truncate(file.seek(0, 2) - 2000)
    done = script.run("test", BACKUP_NAME=name)
    assert done.returncode != 0
    assert script.databases() == {"mlflow"}
    assert json.loads((script.folder / name / "tested.json").read_text())["ok"] is False
    # `latest` passes it over.
    assert script.run("check", BACKUP_NAME="latest").returncode != 0

    name = script.take()
    for number in (signal.SIGTERM, signal.SIGKILL):
        process = script.start("test", BACKUP_NAME=name)
        until(lambda: "mlflow_restore_test" in script.databases(), process)
        kill(process, number)
        if number is signal.SIGTERM:
            assert script.databases() == {"mlflow"}
    script.good("test", BACKUP_NAME=name)
    assert script.databases() == {"mlflow"}


def test_rows_that_are_missing_are_told(script: Script) -> None:
    name = script.take()
    path = script.folder / name / "manifest.json"
    path.write_text(path.read_text().replace('"runs" : 20000', '"runs" : 20001'))
    done = script.run("test", BACKUP_NAME=name)
    assert done.returncode != 0
    assert "runs: 20000 instead of 20001" in done.stderr


@pytest.fixture
def room(script: Script) -> Iterator[None]:
    """The server is the release's own: any role may ask how much room there is."""
    made = re.search(r"^CREATE OR REPLACE FUNCTION.*?^END \$\$;", ROLES.read_text(), re.M | re.S)
    assert made
    script.postgres.run("postgres", made[0])
    yield
    script.postgres.run("postgres", "DROP FUNCTION public.mlops_room()")


@pytest.mark.parametrize("command", ["test", "prepare"])
def test_too_little_room_for_the_database_is_said_before_it_is_made(
    command: str, script: Script, room: None
) -> None:
    name = script.take()
    path = script.folder / name / "manifest.json"
    said = manifest(script, name)
    said["databases"][0]["size"] = 10**17
    path.write_text(json.dumps(said))
    done = script.run(command, BACKUP_NAME=name)
    assert done.returncode == 1
    assert re.search(
        rf"the database's volume has \d+ MiB left and {name} takes 95367431704 MiB there",
        done.stderr,
    ), done.stderr
    assert script.databases() == {"mlflow"}
    # Which says nothing of the backup.
    assert not (path.parent / "tested.json").exists()


def test_a_role_that_may_not_look_at_the_volume_is_not_held_up(script: Script) -> None:
    script.postgres.run("postgres", "CREATE ROLE plain LOGIN CREATEDB PASSWORD 'plain'")
    name = script.take()
    try:
        script.postgres.run("postgres", "ALTER DATABASE mlflow OWNER TO plain")
        for table in ("alembic_version", "runs"):
            script.postgres.run("mlflow", f"ALTER TABLE {table} OWNER TO plain")
        script.good("prepare", BACKUP_NAME=name, PGUSER="plain", PGPASSWORD="plain")
        assert "mlflow_restoring" in script.databases()
    finally:
        for database in script.databases():
            script.postgres.run("postgres", f'ALTER DATABASE "{database}" OWNER TO {USER}')
            script.postgres.run(database, f"REASSIGN OWNED BY plain TO {USER}")
        script.postgres.run("postgres", "DROP ROLE plain")


def test_what_was_written_since_is_counted_and_nothing_is_changed(script: Script) -> None:
    name = script.take()
    script.postgres.run(
        "mlflow",
        "INSERT INTO runs (name) SELECT 'more' FROM generate_series(1, 7);"
        " UPDATE alembic_version SET version_num = 'ee22'; CREATE TABLE traces (id int);"
        " INSERT INTO traces VALUES (1)",
    )
    before = sorted(path.name for path in script.folder.rglob("*"))
    report = catalogue.parse(script.good("since", BACKUP_NAME=name).splitlines())
    assert report.chosen == name
    assert catalogue.since(report) == {"runs": 7, "traces": 1}
    assert sorted(path.name for path in script.folder.rglob("*")) == before
    assert script.databases() == {"mlflow"}


def test_a_role_that_may_not_create_databases_is_told_how(script: Script) -> None:
    name = script.take()
    script.postgres.run("postgres", f"CREATE ROLE plain LOGIN PASSWORD {quoted(PASSWORD)}")
    try:
        done = script.run("prepare", BACKUP_NAME=name, PGUSER="plain")
    finally:
        script.postgres.run("postgres", "DROP ROLE plain")
    assert done.returncode != 0
    assert 'ALTER ROLE "plain" CREATEDB' in done.stderr


def test_a_backup_that_cannot_be_tested_is_kept_and_is_no_failure(script: Script) -> None:
    plain = {"PGUSER": "plain"}
    script.postgres.run("postgres", f"CREATE ROLE plain LOGIN PASSWORD {quoted(PASSWORD)}")
    for table in ("alembic_version", "runs"):
        script.postgres.run("mlflow", f"GRANT SELECT ON {table} TO plain")
    script.postgres.run("mlflow", "GRANT SELECT ON SEQUENCE runs_id_seq TO plain")
    try:
        name = script.take(**plain)
        output = script.good("test", BACKUP_NAME=name, **plain)
        assert f"backup: {name} was not tested: role plain may not create databases" in output
        report = catalogue.parse(output.splitlines())
        (found,) = (catalogue.as_dict(backup, report) for backup in report.backups)
        assert found["tested"] is None
        assert 'have an administrator run: ALTER ROLE "plain" CREATEDB' in found["untested"]
        assert [path.name for path in script.folder.glob("*/tested.json")] == []
        # A database that does not answer is another matter.
        done = script.run("test", BACKUP_NAME=name, **{**plain, "PGPORT": "1"})
        assert done.returncode != 0
        assert "was not tested" not in done.stdout
        # A result that is there stays.
        script.good("test", BACKUP_NAME=name)
        report = catalogue.parse(script.good("test", BACKUP_NAME=name, **plain).splitlines())
        assert report.backups[0].tested
        assert report.backups[0].tested.ok
        assert "ALTER ROLE" in str(report.hindrance)
    finally:
        script.postgres.run("mlflow", "DROP OWNED BY plain")
        script.postgres.run("postgres", "DROP ROLE plain")
    assert catalogue.parse(script.good("backup").splitlines()).hindrance == ""


def test_a_restore_that_is_killed_anywhere_leaves_one_whole_database(script: Script) -> None:
    name = script.take()
    script.postgres.run("mlflow", "DELETE FROM runs")
    for step in range(12):
        process = script.start("prepare", BACKUP_NAME=name)
        time.sleep(0.06 * step)
        kill(process)
        assert script.postgres.run("mlflow", "SELECT count(*) FROM runs") == [(0,)]
    script.good("prepare", BACKUP_NAME=name)
    # Somebody who is connected, and comes back, does not keep it from being put in place.
    connection = script.postgres.connect("mlflow")
    rows = 0
    for step in range(12):
        process = script.start("swap", BACKUP_NAME=name)
        time.sleep(0.04 * step)
        kill(process)
        ((rows,),) = script.postgres.run("mlflow", "SELECT count(*) FROM runs")
        if rows:
            break
    if not rows:
        script.good("swap", BACKUP_NAME=name)
    assert script.postgres.run("mlflow", "SELECT count(*) FROM runs") == [(20000,)]
    (replaced,) = script.databases() - {"mlflow"}
    assert replaced.startswith("mlflow_before_")
    script.good("forget")
    assert script.databases() == {"mlflow"}
    with contextlib.suppress(Exception):
        connection.close()


def test_a_backup_that_was_restored_before_is_not_in_place_until_its_swap(script: Script) -> None:
    name = script.take()

    def in_place() -> bool:
        said = script.good("check", BACKUP_NAME=name)
        return catalogue.in_place(catalogue.parse(said.splitlines()))

    assert not in_place()
    for _time in range(2):
        script.good("prepare", BACKUP_NAME=name)
        assert not in_place()
        script.good("swap", BACKUP_NAME=name)
        assert in_place()
        # A retry of the Job's, whose confirmation was lost.
        script.good("swap", BACKUP_NAME=name)
        assert in_place()


@pytest.mark.parametrize(
    "uri", ["postgresql://u:secret@db/mlflow", "postgresql:///a/b", "sqlite:///x", "", "mlflow"]
)
def test_an_address_that_says_too_much_is_refused_and_not_repeated(
    script: Script, uri: str
) -> None:
    done = script.run("backup", MLFLOW_BACKEND_STORE_URI=uri)
    assert done.returncode != 0
    assert "MLFLOW_BACKEND_STORE_URI must name a database only" in done.stderr
    assert "secret" not in done.stdout + done.stderr


def test_one_of_very_many_is_found(script: Script) -> None:
    name = script.take()
    text = (script.folder / name / "manifest.json").read_text()
    for number in range(70):
        folder = script.folder / f"20990101T00{number // 60:02}{number % 60:02}Z"
        folder.mkdir()
        (folder / "manifest.json").write_text(text.replace(name, folder.name))
    output = script.good("check", BACKUP_NAME=name)
    report = catalogue.parse(output.splitlines())
    assert len(report.backups) == 61
    found = catalogue.chosen(report)
    assert found
    assert found.name == name
    assert not report.latest
    assert catalogue.parse(script.good("check", BACKUP_NAME="latest").splitlines()).latest


@pytest.mark.parametrize(
    ("command", "database"), [("test", "mlflow_restore_test"), ("prepare", "mlflow_restoring")]
)
def test_somebody_else_s_database_is_not_dropped(
    command: str, database: str, script: Script
) -> None:
    name = script.take()
    script.postgres.run("postgres", f"CREATE DATABASE {database}")
    script.postgres.run(database, "CREATE TABLE theirs (id int)")
    done = script.run(command, BACKUP_NAME=name)
    assert done.returncode == 1
    assert f"there is a database {database} with 1 tables that no restore has made" in done.stderr
    assert script.postgres.run(database, "SELECT count(*) FROM theirs") == [(0,)]
    # Which says nothing of the backup.
    assert not (script.folder / name / "tested.json").exists()
    # One of ours, cut off before it got its mark, is empty.
    script.postgres.run(database, "DROP TABLE theirs")
    script.good(command, BACKUP_NAME=name)


def test_retention_spares_what_is_being_restored(script: Script) -> None:
    name = script.take()
    old = "20200101T000000Z"
    (script.folder / name).rename(script.folder / old)
    path = script.folder / old / "manifest.json"
    path.write_text(path.read_text().replace(name, old))
    script.good("prepare", BACKUP_NAME=old)
    few = {"BACKUP_KEEP": "1", "BACKUP_KEEP_DAYS": "1"}
    script.take(**few)
    assert old in script.names()
    script.good("swap", BACKUP_NAME=old)
    script.take(**few)
    assert old not in script.names()


def programs(folder: Path, version: int, server: int) -> str:
    """Return a PATH with Postgres' programs that say that they are of another version."""
    real = Path(tool("pg_dump")).parent
    folder.mkdir(exist_ok=True)
    said = f"pg_dump (PostgreSQL) {version}.1"
    text = f'#!/bin/sh\n[ "$1" = --version ] && echo "{said}" && exit\nexec {real}/pg_dump "$@"\n'
    (folder / "pg_dump").write_text(text)
    (folder / "pg_dump").chmod(0o755)
    # What pg_restore 17 and 18 write first, and a server before 17 does not know.
    text = (
        f'#!/bin/sh\n{real}/pg_restore "$@" |'
        f" sed 's/^SET lock_timeout = 0;$/&\\nSET not_of_{server} = 0;/'\n"
    )
    (folder / "pg_restore").write_text(text)
    (folder / "pg_restore").chmod(0o755)
    return f"{folder}:{real}:{os.environ['PATH']}"


def test_newer_programs_restore_to_an_older_server(script: Script, tmp_path: Path) -> None:
    path = programs(tmp_path / "newer", 99, 15)
    script.postgres.run("mlflow", "UPDATE runs SET name = 'SET not_of_15 = 0;' WHERE id = 7")
    name = script.take(PATH=path)
    script.good("test", BACKUP_NAME=name, PATH=path)
    script.postgres.run("mlflow", "DELETE FROM runs")
    for command in ("prepare", "swap"):
        script.good(command, BACKUP_NAME=name, PATH=path)
    assert script.postgres.run("mlflow", "SELECT count(*) FROM runs") == [(20000,)]
    # What stands in a row is data, whatever it looks like.
    (found,) = script.postgres.run("mlflow", "SELECT name FROM runs WHERE id = 7")
    assert found == ("SET not_of_15 = 0;",)


@pytest.mark.parametrize("command", ["backup", "check", "test", "prepare"])
def test_older_programs_than_the_server_are_refused_at_once(
    command: str, script: Script, tmp_path: Path
) -> None:
    name = script.take()
    path = programs(tmp_path / "older", 9, 15)
    done = script.run(command, BACKUP_NAME=name, PATH=path)
    assert done.returncode == 1
    assert "the programs here are Postgres 9 and the server is Postgres" in done.stderr
    assert "mlflow_postgres_image" in done.stderr
    assert script.names() == [name]
    assert not (script.folder / name / "tested.json").exists()
    assert script.databases() == {"mlflow"}


def keepalive_timers(port: int) -> list[float]:
    """Return in how many seconds the kernel asks each connection to a port for a sign of life."""
    found = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _number, _local, remote, state, _queue, timer, *_rest = line.split()
        kind, _colon, when = timer.partition(":")
        if int(remote.partition(":")[2], 16) == port and state == "01":
            found.append(int(when, 16) / os.sysconf("SC_CLK_TCK") if kind == "02" else -1.0)
    return found


def test_a_quiet_connection_is_kept_open(script: Script) -> None:
    connection = script.postgres.connect("mlflow")
    # pg_dump waits for it, and says nothing meanwhile.
    cursor = connection.cursor()
    cursor.execute("BEGIN; LOCK TABLE runs IN ACCESS EXCLUSIVE MODE")
    process = script.start("backup")
    try:
        waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        until(lambda: script.postgres.run("postgres", waiting), process)

        # That of the session whose snapshot it is, and pg_dump's own. Either may just have spoken.
        def kept_open() -> bool:
            return len([s for s in keepalive_timers(script.postgres.port) if 0 < s < 31]) >= 2

        until(kept_open, process)
        assert process.poll() is None
    finally:
        cursor.execute("ROLLBACK")
        connection.close()
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_the_administrator_gets_in_after_a_restore(script: Script, tmp_path: Path) -> None:
    """With the password of today, whatever it was at the backup. Nobody else's changes."""
    users = "CREATE TABLE users (username text, password_hash text)"
    script.postgres.run(
        "mlflow", users, "INSERT INTO users VALUES ('admin', 'old'), ('ada', 'hers')"
    )
    (tmp_path / "keys.json").write_text('{"admin-password": "of then"}')
    name = script.take()
    (tmp_path / "keys.json").write_text('{"admin-password": "of today"}')
    hashed = "scrypt:32768:8:1$it's$\\0f"
    said = json.dumps({"username": "admin", "password_hash": hashed})
    (tmp_path / "admin.json").write_text(said)
    script.good("test", BACKUP_NAME=name)
    output = script.good("prepare", BACKUP_NAME=name)
    assert "scrypt" not in output
    script.good("swap", BACKUP_NAME=name)
    found = script.postgres.run("mlflow", "SELECT * FROM users ORDER BY 1")
    assert found == [("ada", "hers"), ("admin", hashed)]
    # It is left as it was where it was the same one: MLflow's own hash of it, made then.
    name = script.take()
    (tmp_path / "admin.json").write_text(said.replace("scrypt", "other"))
    for command in ("prepare", "swap"):
        script.good(command, BACKUP_NAME=name)
    assert script.postgres.run("mlflow", "SELECT * FROM users ORDER BY 1") == found


def test_a_manifest_tells_which_keys_it_needs(script: Script, tmp_path: Path) -> None:
    keys = SCRIPT.with_name("keys.py")

    def today(**given: str) -> None:
        command = [sys.executable, str(keys), str(tmp_path)]
        subprocess.run(command, env={"PATH": "", **given}, check=True)

    today(MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY="one", MLFLOW_CRYPTO_KEK_PASSPHRASE="two")
    name = script.take()
    made = {key: fingerprint(key, value) for key, value in (
        ("webhook-encryption-key", b"one"), ("kek-passphrase", b"two"))}  # fmt: skip
    assert manifest(script, name)["keys"] == made

    def other() -> dict[str, str]:
        return catalogue.other_keys(
            catalogue.parse(script.good("check", BACKUP_NAME=name).splitlines())
        )

    assert other() == {}
    today(MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY="one", MLFLOW_CRYPTO_KEK_PASSPHRASE="three")
    assert other() == {"kek-passphrase": made["kek-passphrase"]}


def test_a_copy_for_a_rehearsal_stays_when_all_of_it_is_there(script: Script) -> None:
    name = script.take()
    # What an earlier one left.
    script.good("rehearse", BACKUP_NAME=name)
    report = catalogue.parse(script.good("rehearse", BACKUP_NAME="latest").splitlines())
    assert report.chosen == name
    assert script.databases() == {"mlflow", "mlflow_rehearsal"}
    counted = "SELECT count(*) FROM runs"
    assert script.postgres.run("mlflow_rehearsal", counted) == [(20000,)]
    # Who is in it keeps it; when nobody is, the next test of a backup drops it.
    session = script.postgres.connect("mlflow_rehearsal")
    script.good("test", BACKUP_NAME=name)
    assert script.databases() == {"mlflow", "mlflow_rehearsal"}
    session.close()
    time.sleep(0.5)
    script.good("test", BACKUP_NAME=name)
    assert script.databases() == {"mlflow"}
    # One that is damaged leaves none.
    (script.folder / name / "tracking.dump").write_bytes(b"not a dump")
    assert script.run("rehearse", BACKUP_NAME=name).returncode == 1
    assert script.databases() == {"mlflow"}


def test_somebody_else_s_database_of_that_name_is_left_alone(script: Script) -> None:
    name = script.take()
    script.postgres.run("postgres", "CREATE DATABASE mlflow_rehearsal")
    script.postgres.run("mlflow_rehearsal", "CREATE TABLE theirs (id int)")
    done = script.run("rehearse", BACKUP_NAME=name)
    assert done.returncode == 1
    assert "there is a database mlflow_rehearsal with 1 tables" in done.stderr
    script.good("test", BACKUP_NAME=name)
    assert script.postgres.run("mlflow_rehearsal", "SELECT count(*) FROM theirs") == [(0,)]


# Limits that a role may have for everyday queries; the last one from Postgres 17 on.
LIMITS = ("statement_timeout", "idle_in_transaction_session_timeout", "transaction_timeout")


def test_a_role_s_limits_do_not_decide_over_a_backup(script: Script) -> None:
    known = "SELECT name FROM pg_settings WHERE name = ANY (%s)"
    connection = script.postgres.connect()
    cursor = connection.cursor()
    cursor.execute(known, [list(LIMITS)])
    limits = [name for (name,) in cursor.fetchall()]
    connection.close()
    assert "statement_timeout" in limits
    for limit in limits:
        script.postgres.run("postgres", f"ALTER DATABASE mlflow SET {limit} = '300ms'")
    locking = script.postgres.connect("mlflow")
    cursor = locking.cursor()
    cursor.execute(
        "; ".join(["BEGIN", *(f"SET LOCAL {limit} = 0" for limit in limits)])
        + "; LOCK TABLE runs IN ACCESS EXCLUSIVE MODE"
    )
    process = script.start("backup")
    try:
        waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        until(lambda: script.postgres.run("postgres", waiting), process)
        # pg_dump waits for the table, and the session whose snapshot it is sits in its transaction.
        time.sleep(1)
        assert process.poll() is None
    finally:
        cursor.execute("ROLLBACK")
        locking.close()
        _output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert script.names() != []


def test_a_backup_that_hangs_does_not_hold_up_the_next_ones(script: Script) -> None:
    """One that waits for a table gives up after a minute; else the deadline of its Job ends it."""
    job = yaml.safe_load((SCRIPT.parent / "cronjob/backup-cronjob.yml").read_text())["spec"]
    assert job["concurrencyPolicy"] == "Forbid"
    assert job["jobTemplate"]["spec"]["activeDeadlineSeconds"] > 0
    hung = script.start("backup")
    # As one whose server is gone without a word.
    until(lambda: list(script.folder.glob(".taking-*")), hung)
    os.killpg(hung.pid, signal.SIGSTOP)
    done = script.run("backup", BACKUP_LOCK_WAIT="1")
    assert done.returncode == 1
    assert "another backup is being taken or tested" in done.stderr
    # What Kubernetes does at the deadline, and after the time to end in peace.
    kill(hung)
    name = script.take()
    assert script.names() == [name]
    assert not list(script.folder.glob(".taking-*"))


@pytest.fixture
def as_postgres(script: Script) -> Iterator[Callable[..., Result]]:
    """Run the script on copies of the backups, as a user that Postgres runs as, and root is not."""
    with server_folder() as home:

        def run(command: str, **more: str) -> Result:
            shutil.copy(SCRIPT, home)
            shutil.copytree(script.folder, home / "backups", dirs_exist_ok=True)
            for path in (home, *home.rglob("*")):
                shutil.chown(path, unprivileged() or os.getuid())
            settings = {
                **script.environment,
                "PATH": f"{Path(tool('initdb')).parent}:{script.environment['PATH']}",
                "BACKUP_DIR": str(home / "backups"),
                "TMPDIR": str(home),
                **more,
            }
            done = subprocess.run(
                ["bash", str(home / SCRIPT.name), command],
                env=settings,
                user=unprivileged(),
                cwd="/",
                capture_output=True,
                text=True,
                timeout=180,
                check=False,
            )
            assert PASSWORD not in done.stdout + done.stderr
            # Nothing of it is left, and no process.
            assert {path.name for path in home.iterdir()} <= {SCRIPT.name, "backups"}
            assert subprocess.run(["pgrep", "-f", str(home)], check=False).returncode == 1
            return done

        yield run


def test_a_backup_is_tried_with_a_postgres_of_its_own(
    script: Script, as_postgres: Callable[..., Result]
) -> None:
    script.postgres.run("postgres", "CREATE ROLE reader")
    script.postgres.run("mlflow", "GRANT SELECT ON runs TO reader")
    name = script.take()
    done = as_postgres("elsewhere", BACKUP_NAME=name)
    assert done.returncode == 0, done.stderr
    assert f"{name} can be restored into Postgres" in done.stdout
    assert catalogue.parse(done.stdout.splitlines()).chosen == name
    # The release's server knows nothing of it, and it is gone.
    assert script.databases() == {"mlflow"}
    script.postgres.run("mlflow", "REVOKE SELECT ON runs FROM reader")
    script.postgres.run("postgres", "DROP ROLE reader")
    # What cannot be restored is told.
    (script.folder / name / "tracking.dump").write_bytes(b"not a dump")
    assert as_postgres("elsewhere", BACKUP_NAME=name).returncode == 1


def test_a_server_without_the_database_of_the_users_gets_one(
    script: Script, tmp_path: Path
) -> None:
    script.postgres.run("postgres", "CREATE DATABASE users")
    script.postgres.run("users", "CREATE TABLE users (id int)", "INSERT INTO users VALUES (1)")
    ini = tmp_path / "auth.ini"
    ini.write_text("[mlflow]\ndatabase_uri = postgresql+psycopg2:///users\n")
    two = {"MLFLOW_AUTH_CONFIG_PATH": str(ini)}
    name = script.take(**two)
    script.postgres.run("postgres", "DROP DATABASE users")
    script.good("prepare", BACKUP_NAME=name, **two)
    script.good("swap", BACKUP_NAME=name, **two)
    assert script.postgres.run("users", "SELECT count(*) FROM users") == [(1,)]


def test_the_drill_sees_what_is_damaged_in_the_live_database(script: Script) -> None:
    server = script.postgres
    # Sorted by rules that have a version; what C sorts by has none.
    server.run("postgres", "DROP DATABASE mlflow")
    server.run(
        "postgres",
        "CREATE DATABASE mlflow TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en'",
    )
    server.run("mlflow", TABLES, "CREATE INDEX names ON runs (name)")
    name = script.take()
    script.good("drill")
    server.run(
        "mlflow", "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'names'::regclass"
    )
    server.run("postgres", "UPDATE pg_database SET datcollversion = '0' WHERE datname = 'mlflow'")
    done = script.run("drill")
    assert done.returncode == 1
    assert "index names is not used" in done.stderr
    assert "REINDEX DATABASE mlflow" in done.stderr
    # It says nothing against the backup.
    tested = json.loads((script.folder / name / "tested.json").read_text())
    assert tested["ok"]
