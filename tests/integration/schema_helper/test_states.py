"""The schema helper against a real Postgres and a real MLflow: what it says of a database."""

from __future__ import annotations

import subprocess

import pytest

from .conftest import OLD_PYTHON, PASSWORD, PYTHON, SCRIPT, Postgres, free_port

pytestmark = pytest.mark.integration

COLUMN = "ALTER TABLE runs ADD COLUMN of_a_newer_mlflow integer"


def revision_is(name: str) -> str:
    """Return the statement that sets the revision."""
    return f"UPDATE alembic_version SET version_num = '{name}'"  # noqa: S608


def test_the_helper_and_mlflow_agree(postgres: Postgres, at_head: str) -> None:
    """What the helper reads from files is what MLflow itself says, tables included."""
    code = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('schema', {str(SCRIPT)!r})\n"
        "schema = importlib.util.module_from_spec(spec)\n"
        "sys.modules['schema'] = schema\n"
        "spec.loader.exec_module(schema)\n"
        "from pathlib import Path\n"
        "from alembic.script import ScriptDirectory\n"
        "from mlflow.store.db import utils\n"
        "package = schema.package_dir()\n"
        "tracking = schema.read_scripts(package, schema.TRACKING)\n"
        "assert tracking.head == utils._get_latest_schema_revision()\n"
        "assert tracking.tables == set(utils.Base.metadata.tables), tracking.tables\n"
        "assert schema.INITIAL_TABLES == set(utils.InitialBase.metadata.tables)\n"
        "auth = schema.read_scripts(package, schema.AUTH)\n"
        "for one, found in ((schema.TRACKING, tracking), (schema.AUTH, auth)):\n"
        "    alembic = ScriptDirectory(str(package / one.script_dir))\n"
        "    assert alembic.get_heads() == [found.head]\n"
        "    assert {s.revision for s in alembic.walk_revisions()} == found.known\n"
    )
    subprocess.run([PYTHON, "-c", code], env=postgres.environment(at_head), check=True)


def test_status_is_fast_and_does_not_import_mlflow(postgres: Postgres, at_head: str) -> None:
    """It is run in a busy server's container."""
    done = subprocess.run(
        [PYTHON, "-X", "importtime", str(SCRIPT), "status"],
        env=postgres.environment(at_head),
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "sqlalchemy" in imported
    assert not {name for name in imported if name.partition(".")[0] in {"mlflow", "alembic"}}


def test_empty(postgres: Postgres) -> None:
    done = postgres.helper("status", postgres.create())
    assert (done.status, done.state) == (3, "empty")
    assert done.verdict["tracking"]["current"] is None


def test_tables_out_of_reach_are_not_initialised_anew(postgres: Postgres, at_head: str) -> None:
    """As after a restore that lost the database's search_path."""
    database = postgres.create(at_head)
    tables = [name for (name,) in postgres.run(
        database, "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace ="
        " 'public'::regnamespace")]  # fmt: skip
    moves = [f"ALTER TABLE {name} SET SCHEMA tracking" for name in tables]
    postgres.run(database, "CREATE SCHEMA tracking", *moves)
    for command in ("status", "wait", "migrate"):
        done = postgres.helper(command, database)
        assert (done.status, done.state) == (3, "partial")
        assert "are in schema tracking" in done.verdict["tracking"]["detail"]
    assert postgres.run(database, "SELECT 1 FROM pg_tables WHERE schemaname = 'public'") == []
    # As it was.
    postgres.run("postgres", f"ALTER DATABASE {database} SET search_path = tracking")
    assert postgres.helper("status", database).state == "at_head"
    # Somebody else's, in a database that is shared, is not ours to speak of.
    postgres.run("postgres", f"ALTER DATABASE {database} RESET search_path")
    postgres.run("postgres", "CREATE ROLE neighbour LOGIN PASSWORD 'neighbour'")
    postgres.run(database, "GRANT CREATE ON SCHEMA public TO neighbour")
    where = {"PGUSER": "neighbour", "PGPASSWORD": "neighbour"}
    assert postgres.helper("status", database, None, **where).state == "empty"


def test_at_head(postgres: Postgres, at_head: str) -> None:
    done = postgres.helper("status", at_head)
    assert done.status == 0
    found = done.verdict["tracking"]
    assert found == {"state": "at_head", "current": found["head"], "head": found["head"]}


def test_behind(postgres: Postgres, behind: str) -> None:
    done = postgres.helper("status", behind)
    assert (done.status, done.state) == (3, "behind")
    assert done.verdict["tracking"]["current"] != done.verdict["tracking"]["head"]


@pytest.mark.parametrize("command", ["wait", "migrate"])
@pytest.mark.parametrize(
    ("state", "statements"),
    [
        ("unknown", [revision_is("deadbeef0000")]),
        ("ahead", [revision_is("deadbeef0000"), COLUMN]),
        ("ahead", [revision_is("deadbeef0000"), "CREATE TABLE of_a_newer_mlflow (id integer)"]),
        ("partial", ["DROP TABLE alembic_version"]),
        ("partial", ["DELETE FROM alembic_version"]),
        ("partial", ["DROP TABLE params"]),
        ("partial", ["DROP TABLE job_locks"]),
    ],
)
def test_certain_at_once(
    postgres: Postgres, at_head: str, command: str, state: str, statements: list[str]
) -> None:
    """No time-out is waited out, and nothing is written."""
    name = postgres.create(template=at_head)
    postgres.run(name, *statements)
    before = postgres.run(name, "SELECT count(*) FROM pg_class")
    done = postgres.helper(command, name, MLOPS_SCHEMA_TIMEOUT="600")
    assert (done.status, done.state) == (3, state), done.stderr
    assert postgres.run(name, "SELECT count(*) FROM pg_class") == before


def test_a_version_without_tables(postgres: Postgres) -> None:
    name = postgres.create()
    postgres.run(
        name,
        "CREATE TABLE alembic_version (version_num varchar(32))",
        "INSERT INTO alembic_version VALUES ('0123456789ab')",
    )
    assert postgres.helper("wait", name).state == "partial"


def test_somebody_elses_database_is_left_alone(postgres: Postgres) -> None:
    name = postgres.create()
    postgres.run(name, "CREATE TABLE customers (id integer)")
    done = postgres.helper("wait", name)
    assert (done.status, done.state) == (3, "partial")
    assert "customers" in done.verdict["tracking"]["detail"]
    assert postgres.run(name, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [
        (1,)
    ]


def test_denied_at_once(postgres: Postgres, at_head: str) -> None:
    for more in (
        {"PGPASSWORD": "wrong"},
        {"PGUSER": "nobody_at_all"},
        {"PGPASSWORD": ""},
    ):
        done = postgres.helper("wait", at_head, **more, MLOPS_SCHEMA_TIMEOUT="600")
        assert (done.status, done.state) == (3, "denied"), more
    done = postgres.helper("migrate", "no_such_database", MLOPS_SCHEMA_TIMEOUT="600")
    assert (done.status, done.state) == (3, "denied")


def test_a_role_without_rights_is_denied(postgres: Postgres, at_head: str) -> None:
    postgres.run("postgres", "CREATE ROLE stranger LOGIN PASSWORD 'x'")
    done = postgres.helper("wait", at_head, PGUSER="stranger", PGPASSWORD="x")
    assert (done.status, done.state) == (3, "denied")
    assert "alembic_version" in done.verdict["tracking"]["detail"]


@pytest.mark.parametrize("command", ["status", "wait", "migrate"])
def test_a_role_that_may_make_no_tables_is_told_at_once(postgres: Postgres, command: str) -> None:
    """From Postgres 15 on nobody may in the schema public, but the database's owner."""
    name = postgres.create()
    role = f"newcomer_{command}"
    postgres.run(
        name, f"CREATE ROLE {role} LOGIN PASSWORD 'x'", "REVOKE CREATE ON SCHEMA public FROM PUBLIC"
    )
    done = postgres.helper(command, name, PGUSER=role, PGPASSWORD="x", MLOPS_SCHEMA_TIMEOUT="600")
    assert (done.status, done.state) == (3, "denied"), done.stderr
    detail = done.verdict["tracking"]["detail"]
    assert "permission denied" in detail
    grant = f"GRANT USAGE, CREATE ON SCHEMA public TO {role}"
    assert detail.endswith(grant)
    # What it says helps.
    postgres.run(name, grant)
    done = postgres.helper("wait", name, PGUSER=role, PGPASSWORD="x")
    assert (done.status, done.state) == (0, "at_head"), done.stderr


def test_tables_of_another_role_are_told_at_once(postgres: Postgres, behind: str) -> None:
    """It may read and write all, but only their owner may change them."""
    name = postgres.create(behind)
    postgres.run(
        name,
        "CREATE ROLE guest LOGIN PASSWORD 'x'",
        "GRANT ALL ON SCHEMA public TO guest",
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO guest",
    )
    done = postgres.helper(
        "migrate", name, PGUSER="guest", PGPASSWORD="x", MLOPS_SCHEMA_TIMEOUT="600"
    )
    assert (done.status, done.state) == (3, "denied"), done.stderr
    assert "must be owner of" in done.verdict["tracking"]["detail"]


def test_a_name_may_hold_what_addresses_use(postgres: Postgres) -> None:
    """Azure's user@server, for one: it comes by a variable of its own, in no address."""
    name = postgres.create()
    user, password = "me@corp:1/x", "p@ss/w:rd?%"
    postgres.run(
        name,
        f"CREATE ROLE \"{user}\" LOGIN PASSWORD '{password}'",
        f'ALTER DATABASE {name} OWNER TO "{user}"',
        f'GRANT ALL ON SCHEMA public TO "{user}"',
    )
    done = postgres.helper("wait", name, PGUSER=user, PGPASSWORD=password)
    assert (done.status, done.state) == (0, "at_head"), done.stderr


def test_unreachable_is_waited_for_and_then_told(postgres: Postgres) -> None:
    done = postgres.helper(
        "wait",
        "any",
        MLFLOW_BACKEND_STORE_URI=f"postgresql+psycopg2://127.0.0.1:{free_port()}/any",
        MLOPS_SCHEMA_TIMEOUT="2",
    )
    assert (done.status, done.state) == (3, "unreachable")
    assert len(done.stderr.splitlines()) == 1  # the same state is said once


def test_a_password_in_the_address_is_not_repeated(postgres: Postgres, at_head: str) -> None:
    from urllib.parse import quote

    for password in (PASSWORD, "wrong%one"):
        uri = f"postgresql://mlflow:{quote(password, safe='')}@127.0.0.1:{postgres.port}/{at_head}"
        done = postgres.helper("wait", "", MLFLOW_BACKEND_STORE_URI=uri, PGPASSWORD="")
        assert done.state == ("at_head" if password == PASSWORD else "denied")
        assert password not in done.stdout + done.stderr
        assert quote(password, safe="") not in done.stdout + done.stderr


def test_an_older_mlflow_finds_the_database_ahead(postgres: Postgres, at_head: str) -> None:
    for command in ("status", "wait", "migrate"):
        done = postgres.helper(command, at_head, OLD_PYTHON)
        assert (done.status, done.state) == (3, "ahead")
