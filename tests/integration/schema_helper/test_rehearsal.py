"""A migration that is tried on a copy: what it took is told, and the live database is as it was."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.mlflow.plugins.modules import schema_job

from .conftest import OLD_PYTHON, Postgres

pytestmark = pytest.mark.integration


def copied(postgres: Postgres, database: str) -> str:
    """Return a live database, beside which there is a copy of it."""
    live = postgres.create(database)
    postgres.run("postgres", f"CREATE DATABASE {live}_rehearsal TEMPLATE {database}")
    return live


def databases(postgres: Postgres) -> set[str]:
    """Return their names."""
    return {name for (name,) in postgres.run("postgres", "SELECT datname FROM pg_database")}


def test_what_an_upgrade_takes(postgres: Postgres, behind: str) -> None:
    live = copied(postgres, behind)
    before = postgres.contents(live)
    done = postgres.helper("rehearse", live)
    assert (done.status, done.state) == (0, "at_head"), done.stderr
    took = done.verdict["tracking"]["took"]
    assert took["seconds"] > 0
    # From 3.16.1 to 3.17.2, spans get new columns and what is in them.
    locks = {lock["table"]: lock for lock in took["locks"] if lock["mode"] == "AccessExclusiveLock"}
    assert 0 < locks["spans"]["seconds"] <= took["seconds"] + 0.5
    assert not {name for name in locks if name.startswith(("pg_", "alembic_"))}
    assert "spans locked " in schema_job.took(done.verdict)
    # The live one was not touched, and the copy is gone.
    assert postgres.contents(live) == before
    assert postgres.helper("status", live).state == "behind"
    assert f"{live}_rehearsal" not in databases(postgres)


def test_nothing_to_migrate(postgres: Postgres, at_head: str) -> None:
    done = postgres.helper("rehearse", copied(postgres, at_head))
    assert (done.status, done.state) == (0, "at_head")
    assert schema_job.took(done.verdict) == "nothing to migrate"


def test_a_migration_that_fails_is_told_and_leaves_no_copy(postgres: Postgres, behind: str) -> None:
    live = copied(postgres, behind)
    # Somebody's own, in the way of a column that the migration adds.
    postgres.run(
        f"{live}_rehearsal",
        "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS"
        " $$BEGIN RAISE 'not today'; END$$",
        "CREATE EVENT TRIGGER refuse ON ddl_command_end WHEN TAG IN ('ALTER TABLE')"
        " EXECUTE FUNCTION refuse()",
    )
    done = postgres.helper("rehearse", live)
    assert (done.status, done.state) == (1, "behind")
    assert "not today" in done.verdict["tracking"]["detail"]
    assert f"{live}_rehearsal" not in databases(postgres)


def test_without_a_copy_nothing_is_migrated(postgres: Postgres, behind: str) -> None:
    live = postgres.create(behind)
    done = postgres.helper("rehearse", live)
    assert (done.status, done.state) == (3, "denied")
    assert f'database "{live}_rehearsal" does not exist' in done.verdict["tracking"]["detail"]
    assert postgres.helper("status", live).state == "behind"


def test_an_older_image_is_told_that_it_cannot(postgres: Postgres, at_head: str) -> None:
    done = postgres.helper("rehearse", copied(postgres, at_head), OLD_PYTHON)
    assert (done.status, done.state) == (3, "ahead")
