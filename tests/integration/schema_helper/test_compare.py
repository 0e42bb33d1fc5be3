"""The live schema against what the image's own migrations make of an empty database."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from .conftest import OLD_PYTHON, Done, Postgres
from .test_migrations import auth_file

pytestmark = pytest.mark.integration


def found(done: Done, schema: str = "tracking") -> list[str]:
    """Return the differences."""
    differences = done.verdict[schema]["differences"]
    assert isinstance(differences, list), done.stderr
    return differences


def catalogue(postgres: Postgres, database: str) -> Any:
    """Return everything that could be left behind, with the numbers that Postgres gives."""
    return postgres.run(
        database,
        "SELECT (SELECT json_agg(c ORDER BY oid) FROM (SELECT oid, relname FROM pg_class) c),"
        " (SELECT json_agg(t ORDER BY oid) FROM (SELECT oid, typname FROM pg_type) t),"
        " (SELECT json_agg(nspname ORDER BY nspname) FROM pg_namespace"
        # Empty, and the server's own: each session that makes a temporary table uses one again.
        " WHERE nspname !~ '^pg_(toast_)?temp_'),"
        " (SELECT count(*) FROM pg_database)",
    )


def test_a_schema_at_head_is_as_its_own_mlflow_makes_it(postgres: Postgres, at_head: str) -> None:
    before = catalogue(postgres, at_head)
    done = postgres.helper("compare", at_head)
    assert (done.status, done.state, found(done)) == (0, "at_head", [])
    # It leaves nothing behind.
    assert catalogue(postgres, at_head) == before


def test_a_schema_that_was_upgraded_is_too(postgres: Postgres, behind: str) -> None:
    """Of 3.16.1 with its own MLflow, and after the upgrade with the new one."""
    database = postgres.create(behind)
    assert found(postgres.helper("compare", database, OLD_PYTHON)) == []
    # What is not at head differs by what the migration brings.
    done = postgres.helper("compare", database)
    assert (done.status, done.state) == (3, "behind")
    assert "differences" not in done.verdict["tracking"]
    assert postgres.helper("migrate", database).status == 0
    assert found(postgres.helper("compare", database)) == []


def test_basic_auth_in_the_same_database(postgres: Postgres, at_head: str, tmp_path: Path) -> None:
    database = postgres.create(at_head)
    ini = auth_file(tmp_path / "basic_auth.ini", postgres, database)
    more = {"MLFLOW_AUTH_CONFIG_PATH": ini}
    assert postgres.helper("migrate", database, None, **more).status == 0
    done = postgres.helper("compare", database, None, **more)
    assert (found(done), found(done, "auth")) == ([], [])
    postgres.run(database, "ALTER TABLE users DROP COLUMN is_admin")
    done = postgres.helper("compare", database, None, **more)
    assert (done.status, found(done)) == (3, [])
    assert found(done, "auth") == ["column is_admin of table users is missing"]


def test_what_is_missing_is_named_with_what_makes_it(postgres: Postgres, at_head: str) -> None:
    database = postgres.create(at_head)
    (name,) = postgres.run(
        database,
        "SELECT indexrelid::regclass::text FROM pg_index"
        " WHERE NOT indisunique AND indrelid = 'spans'::regclass ORDER BY 1 LIMIT 1",
    )[0]
    (key, of) = postgres.run(
        database,
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid = 'params'::regclass AND contype = 'f'",
    )[0]
    postgres.run(
        database,
        f"DROP INDEX {name}",
        f"ALTER TABLE params DROP CONSTRAINT {key}",
        "ALTER TABLE runs DROP COLUMN lifecycle_stage",
        "ALTER TABLE experiments ALTER COLUMN name DROP NOT NULL",
    )
    done = postgres.helper("compare", database)
    assert (done.status, done.state) == (3, "at_head")
    differences = found(done)
    index = next(line for line in differences if line.startswith("index"))
    assert index.startswith(f"index {name} of table spans is missing: CREATE INDEX CONCURRENTLY ")
    constraint = next(line for line in differences if line.startswith(f"constraint {key}"))
    assert constraint == (
        f"constraint {key} of table params is missing: ALTER TABLE params ADD CONSTRAINT {key} {of}"
    )
    assert "column lifecycle_stage of table runs is missing" in differences
    is_not = "is character varying(256), not character varying(256) NOT NULL"
    assert f"column name of table experiments {is_not}" in differences
    # What is to be typed mends it.
    for line in (index, constraint):
        postgres.run(database, line.partition(": ")[2])
    differences = found(postgres.helper("compare", database))
    assert not [line for line in differences if name in line or key in line]


def test_what_is_no_difference(postgres: Postgres, at_head: str) -> None:
    """Another name, an index and a column more: a database administrator's."""
    database = postgres.create(at_head)
    (name,) = postgres.run(
        database,
        "SELECT indexrelid::regclass::text FROM pg_index"
        " WHERE NOT indisunique AND indrelid = 'spans'::regclass ORDER BY 1 LIMIT 1",
    )[0]
    postgres.run(
        database,
        f"ALTER INDEX {name} RENAME TO somebody",
        "CREATE INDEX ON runs (name, user_id)",
        "ALTER TABLE runs ADD COLUMN note text",
        "CREATE TABLE notes (id int PRIMARY KEY)",
    )
    done = postgres.helper("compare", database)
    assert (done.status, found(done)) == (0, [])
    # What refuses what MLflow writes is one.
    postgres.run(
        database,
        "CREATE UNIQUE INDEX one_name ON runs (name)",
        "ALTER TABLE runs ADD CONSTRAINT named CHECK (name <> 'x')",
        "ALTER TABLE experiments ADD COLUMN owner text NOT NULL DEFAULT 'x'",
        "ALTER TABLE experiments ALTER COLUMN owner DROP DEFAULT",
    )
    assert found(postgres.helper("compare", database)) == [
        "column owner of table experiments is not one of MLflow's, and must not be empty",
        "constraint named of table runs is not one of MLflow's: CHECK (name::text <> 'x'::text)",
        "index one_name of table runs is not one of MLflow's: UNIQUE btree (name)",
    ]


def test_an_index_whose_making_failed(postgres: Postgres, at_head: str) -> None:
    database = postgres.create(at_head)
    postgres.run(
        database,
        "SET allow_system_table_mods = on",
        "UPDATE pg_index SET indisvalid = false WHERE indrelid = 'spans'::regclass"
        " AND NOT indisunique",
    )
    assert all(
        " of table spans is missing" in line for line in found(postgres.helper("compare", database))
    )


def test_it_keeps_nobody_waiting_and_waits_for_nobody_for_long(
    postgres: Postgres, at_head: str
) -> None:
    database = postgres.create(at_head)
    (tables,) = postgres.run(
        database,
        "SELECT string_agg(oid::regclass::text, ', ') FROM pg_class WHERE relkind = 'r'"
        " AND relnamespace = 'public'::regnamespace AND relname !~ '^alembic'",
    )[0]
    lock = f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE"
    # Somebody has every table, and keeps it.
    connection = postgres.connect(database)
    connection.autocommit = False
    connection.cursor().execute(lock)
    try:
        done = postgres.helper("compare", database)
    finally:
        connection.close()
    assert (done.status, done.state) == (0, "at_head")
    assert (
        "not compared: canceling statement due to lock timeout"
        in (done.verdict["tracking"]["detail"])
    )
    # Whoever wants every table meanwhile, with the strongest lock, gets it in a moment.
    stop = threading.Event()
    refused: list[str] = []

    def take() -> None:
        other = postgres.connect(database)
        other.autocommit = False
        cursor = other.cursor()
        while not stop.is_set():
            try:
                cursor.execute(f"SET LOCAL lock_timeout = '1s'; {lock}")
            except other.Error as error:
                refused.append(str(error))
            other.rollback()
            stop.wait(0.2)
        other.close()

    thread = threading.Thread(target=take)
    thread.start()
    try:
        assert found(postgres.helper("compare", database)) == []
    finally:
        stop.set()
        thread.join()
    assert refused == []


def test_a_role_that_may_not_make_temporary_tables(postgres: Postgres, at_head: str) -> None:
    """It is said that they were not compared, and why; the state is there all the same."""
    database = postgres.create(at_head)
    postgres.run("postgres", "CREATE ROLE careful LOGIN PASSWORD 'careful1'")
    postgres.run(
        database,
        f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO careful",
    )
    where = {"PGUSER": "careful", "PGPASSWORD": "careful1"}
    done = postgres.helper("compare", database, None, **where)
    assert (done.status, done.state) == (0, "at_head")
    assert "differences" not in done.verdict["tracking"]
    detail = done.verdict["tracking"]["detail"]
    assert "not compared: permission denied" in detail
    assert f"GRANT TEMPORARY ON DATABASE {database} TO careful" in detail
    # No other right than that one.
    postgres.run("postgres", f"GRANT TEMPORARY ON DATABASE {database} TO careful")
    assert found(postgres.helper("compare", database, None, **where)) == []


def test_too_little_memory(postgres: Postgres, at_head: str, tmp_path: Path) -> None:
    """It is run in a server's container, which must not be ended for it."""
    (tmp_path / "memory.max").write_text("1000000000\n")
    (tmp_path / "memory.current").write_text("900000000\n")
    (tmp_path / "memory.stat").write_text("anon 850000000\ninactive_file 20000000\n")
    done = postgres.helper("compare", at_head, None, MLOPS_SCHEMA_CGROUP=str(tmp_path))
    assert (done.status, done.state) == (0, "at_head")
    assert "not compared: the container has 114 MiB left" in done.verdict["tracking"]["detail"]
