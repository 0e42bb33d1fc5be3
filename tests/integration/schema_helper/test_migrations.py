"""The schema helper against a real Postgres and a real MLflow: what it does to a database."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import (
    OLD_PYTHON,
    PASSWORD,
    PYTHON,
    Postgres,
    free_port,
    tool,
    unprivileged,
    wait_until,
)

pytestmark = pytest.mark.integration

LOCKS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"


def started(stderr: str) -> int:
    """Return how many times tracking was initialised or migrated, by a helper's progress."""
    return sum(
        "initialising tracking" in x or "migrating tracking" in x for x in stderr.split("\n")
    )


def test_wait_initialises_an_empty_database(postgres: Postgres) -> None:
    name = postgres.create()
    done = postgres.helper("wait", name)
    assert (done.status, done.state) == (0, "at_head"), done.stderr
    rows = postgres.run(name, "SELECT name, artifact_location FROM experiments")
    assert rows == [("Default", "mlflow-artifacts:/0")]
    assert postgres.run(name, LOCKS) == [(0,)]


def test_wait_goes_on_after_an_initialisation_that_was_cut_off(postgres: Postgres) -> None:
    name = postgres.create()
    code = (
        "import os, sqlalchemy\n"
        "from mlflow.store.tracking.dbmodels.initial_models import Base\n"
        "uri = os.environ['MLFLOW_BACKEND_STORE_URI']\n"
        "Base.metadata.create_all(sqlalchemy.create_engine(uri))\n"
    )
    subprocess.run([PYTHON, "-c", code], env=postgres.environment(name), check=True)
    assert postgres.helper("status", name).state == "empty"
    assert postgres.helper("wait", name).state == "at_head"


def test_wait_migrates_nothing(postgres: Postgres, behind: str) -> None:
    name = postgres.create(template=behind)
    done = postgres.helper("wait", name, MLOPS_SCHEMA_TIMEOUT="3")
    assert (done.status, done.state) == (3, "behind")
    assert postgres.helper("status", name).state == "behind"


def test_migrate_brings_existing_data_to_head(postgres: Postgres, behind: str) -> None:
    name = postgres.create(template=behind)
    postgres.run(
        name,
        "INSERT INTO experiments (experiment_id, name, lifecycle_stage, workspace)"
        " VALUES (7, 'kept-too', 'active', 'default')",
    )
    done = postgres.helper("migrate", name)
    assert (done.status, done.state) == (0, "at_head"), done.stderr
    assert postgres.run(name, "SELECT name FROM experiments WHERE experiment_id = 7") == [
        ("kept-too",)
    ]
    again = postgres.helper("migrate", name)
    assert (again.status, started(again.stderr)) == (0, 0)


def test_three_at_once_migrate_once(postgres: Postgres, behind: str) -> None:
    name = postgres.create(template=behind)
    waiting = postgres.start("wait", name)
    done = [p.ended() for p in [postgres.start("migrate", name) for _turn in range(3)]]
    assert [d.status for d in done] == [0, 0, 0], [d.stderr for d in done]
    assert sum(started(d.stderr) for d in done) == 1
    assert waiting.ended().state == "at_head"


def test_three_at_once_initialise_once(postgres: Postgres) -> None:
    name = postgres.create()
    commands = ("wait", "wait", "migrate")
    done = [p.ended() for p in [postgres.start(c, name) for c in commands]]
    assert [d.status for d in done] == [0, 0, 0], [d.stderr for d in done]
    assert sum(started(d.stderr) for d in done) == 1


def test_who_migrates_is_named(postgres: Postgres, behind: str) -> None:
    """Half a schema is no verdict while its maker is at work."""
    name = postgres.create(template=behind)
    connection = postgres.connect(name)
    try:
        cursor = connection.cursor()
        # Keeps the migration from touching any table, for as long as this test needs.
        connection.autocommit = False
        cursor.execute("LOCK TABLE alembic_version IN ACCESS SHARE MODE")
        cursor.execute("LOCK TABLE runs, experiments, trace_info IN SHARE MODE")
        migrating = postgres.start("migrate", name)
        wait_until(lambda: postgres.run(name, LOCKS) == [(1,)])
        # It would step back from those tables after two seconds, to try again.
        migrating.send_signal(signal.SIGSTOP)
        done = postgres.helper("status", name)
        assert done.state == "behind"
        assert "being initialised or migrated now by" in done.verdict["tracking"]["detail"]
        second = postgres.helper("migrate", name, MLOPS_SCHEMA_TIMEOUT="2")
        assert (second.status, started(second.stderr)) == (3, 0)
    finally:
        connection.close()
        migrating.send_signal(signal.SIGCONT)
    assert migrating.ended().status == 0


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGKILL])
def test_a_migration_that_was_killed_leaves_nothing_behind(
    postgres: Postgres, behind: str, kind: signal.Signals
) -> None:
    name = postgres.create(template=behind)
    migrating = postgres.start("migrate", name)
    wait_until(lambda: postgres.run(name, LOCKS) == [(1,)])
    migrating.send_signal(kind)
    migrating.status()
    wait_until(lambda: postgres.run(name, LOCKS) == [(0,)])
    assert postgres.helper("status", name).state in {"behind", "at_head"}
    assert postgres.helper("migrate", name).state == "at_head"


def test_a_failed_migration_says_why_and_changes_nothing(postgres: Postgres, behind: str) -> None:
    name = postgres.create(template=behind)
    (revision,) = postgres.run(name, "SELECT version_num FROM alembic_version")
    # In the way of a table that a migration makes.
    postgres.run(name, "CREATE TABLE sql_trace_metric_daily_rollups (id integer)")
    done = postgres.helper("migrate", name)
    assert (done.status, done.state) == (1, "behind")
    assert "sql_trace_metric_daily_rollups" in done.verdict["tracking"]["detail"]
    assert postgres.run(name, "SELECT version_num FROM alembic_version") == [revision]
    postgres.run(name, "DROP TABLE sql_trace_metric_daily_rollups")
    assert postgres.helper("migrate", name).state == "at_head"


def test_a_roles_time_limits_do_not_stop_a_migration(postgres: Postgres, behind: str) -> None:
    name = postgres.create(template=behind)
    postgres.run(name, f"ALTER ROLE mlflow IN DATABASE {name} SET statement_timeout = '20ms'")
    done = postgres.helper("migrate", name)
    assert (done.status, done.state) == (0, "at_head"), done.stderr


@contextlib.contextmanager
def pgbouncer(postgres: Postgres, mode: str) -> Iterator[int]:
    """Run PgBouncer in front of Postgres; give its port."""
    program = tool("pgbouncer")
    user = unprivileged()
    folder, port = Path(tempfile.mkdtemp(prefix="mlops-mlflow-pgbouncer-")), free_port()
    quoted = PASSWORD.replace('"', '""')
    (folder / "users").write_text(f'"mlflow" "{quoted}"\n', encoding="utf-8")
    (folder / "ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={postgres.port}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = plain\nauth_file = {folder}/users\npool_mode = {mode}\n",
        encoding="utf-8",
    )
    folder.chmod(0o755)
    process = subprocess.Popen(
        [program, "--quiet", str(folder / "ini")], user=user, stderr=subprocess.DEVNULL
    )

    def answers() -> bool:
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(answers)
        yield port
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def test_a_transaction_pooler_is_refused(postgres: Postgres, behind: str) -> None:
    name = postgres.create(template=behind)
    with pgbouncer(postgres, "transaction") as port:
        pooled = f"postgresql+psycopg2://127.0.0.1:{port}/{name}"
        assert postgres.helper("status", "", MLFLOW_BACKEND_STORE_URI=pooled).state == "behind"
        done = postgres.helper("migrate", "", MLFLOW_BACKEND_STORE_URI=pooled)
        assert done.status == 2
        assert "transaction pooler" in done.verdict["tracking"]["detail"]
        assert "MLOPS_SCHEMA_DIRECT_URI" in done.verdict["tracking"]["detail"]
        assert postgres.helper("status", name).state == "behind"
        direct = pooled.replace(f":{port}/", f":{postgres.port}/")
        done = postgres.helper(
            "migrate", "", MLFLOW_BACKEND_STORE_URI=pooled, MLOPS_SCHEMA_DIRECT_URI=direct
        )
        assert (done.status, done.state) == (0, "at_head"), done.stderr


def test_a_session_pooler_will_do(postgres: Postgres, behind: str) -> None:
    name = postgres.create(template=behind)
    with pgbouncer(postgres, "session") as port:
        pooled = f"postgresql+psycopg2://127.0.0.1:{port}/{name}"
        done = postgres.helper("migrate", "", MLFLOW_BACKEND_STORE_URI=pooled)
        assert (done.status, done.state) == (0, "at_head"), done.stderr


def auth_file(path: Path, postgres: Postgres, database: str) -> str:
    """Write basic auth's INI file, and return its path."""
    path.write_text(
        "[mlflow]\ndefault_permission = READ\nadmin_username = admin\n"
        f"database_uri = postgresql+psycopg2://127.0.0.1:{postgres.port}/{database}\n",
        encoding="utf-8",
    )
    return str(path)


def test_basic_auths_state_is_told_beside_trackings(
    postgres: Postgres, at_head: str, tmp_path: Path
) -> None:
    config = auth_file(tmp_path / "auth.ini", postgres, at_head)
    done = postgres.helper("status", at_head, MLFLOW_AUTH_CONFIG_PATH=config)
    assert done.status == 3
    assert {n: v["state"] for n, v in done.verdict.items()} == {
        "tracking": "at_head",
        "auth": "empty",
    }


@pytest.mark.parametrize("shared", [True, False])
def test_tracking_comes_before_basic_auth(postgres: Postgres, tmp_path: Path, shared: bool) -> None:
    name = postgres.create()
    config = auth_file(tmp_path / "auth.ini", postgres, name if shared else postgres.create())
    done = postgres.helper("wait", name, MLFLOW_AUTH_CONFIG_PATH=config)
    assert done.status == 0, done.stderr
    assert {v["state"] for v in done.verdict.values()} == {"at_head"}
    assert done.stderr.index("initialising tracking") < done.stderr.index("initialising auth")
    assert postgres.helper("status", name, MLFLOW_AUTH_CONFIG_PATH=config).status == 0


def test_a_real_upgrade(postgres: Postgres) -> None:
    name = postgres.create()
    assert postgres.helper("migrate", name, OLD_PYTHON).state == "at_head"
    assert postgres.helper("status", name).state == "behind"
    assert postgres.helper("migrate", name).state == "at_head"
