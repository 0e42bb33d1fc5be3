"""What a restored database has, that no dump carries: it goes along, or is named as lost."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._backup import catalogue
from ansible_collections.mlops.mlflow.tests.integration.backup.test_script import (
    TABLES,
    Script,
    postgres,
    quoted,
    script,
)
from ansible_collections.mlops.mlflow.tests.integration.schema_helper.conftest import PASSWORD
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

__all__ = ["postgres", "script"]
TENANT = "tenant"


@pytest.fixture
def tenant(script: Script) -> Iterator[Script]:
    """The script as a role that owns its database, and is no superuser."""
    server = script.postgres
    for role in (f"{TENANT} CREATEDB", "reader", "monitor SUPERUSER"):
        name, _space, more = role.partition(" ")
        server.run("postgres", f"CREATE ROLE {name} LOGIN {more} PASSWORD {quoted(PASSWORD)}")
    server.run("postgres", f"ALTER DATABASE mlflow OWNER TO {TENANT}")
    for table in ("alembic_version", "runs"):
        server.run("mlflow", f"ALTER TABLE {table} OWNER TO {TENANT}")
    script.environment["PGUSER"] = TENANT
    yield script
    for name in script.databases():
        server.run("postgres", f'DROP DATABASE "{name}" WITH (FORCE)')
    for role in (TENANT, "reader", "monitor"):
        with contextlib.suppress(Exception):
            server.run("postgres", f"DROP OWNED BY {role}")
        server.run("postgres", f"DROP ROLE IF EXISTS {role}")


def restore(script: Script, name: str) -> tuple[str, ...]:
    """Test and restore a backup, which both have to succeed; return what they say is lost."""
    tested = catalogue.parse(script.good("test", BACKUP_NAME=name).splitlines())
    assert tested.backups[0].tested
    assert tested.backups[0].tested.ok
    prepared = catalogue.parse(script.good("prepare", BACKUP_NAME=name).splitlines())
    assert prepared.lost == tested.lost
    script.good("swap", BACKUP_NAME=name)
    return prepared.lost


def refused(script: Script, name: str) -> str:
    report = catalogue.parse(script.good("check", BACKUP_NAME=name).splitlines())
    return report.hindrance or ""


def test_an_extension_that_the_role_may_not_create_is_named(tenant: Script) -> None:
    server = tenant.postgres
    server.run("mlflow", "CREATE EXTENSION pg_stat_statements", "CREATE EXTENSION pg_trgm")
    server.run("mlflow", "CREATE INDEX names ON runs USING gin (name gin_trgm_ops)")
    name = tenant.take()
    assert restore(tenant, name) == ("extension pg_stat_statements",)
    assert server.run("mlflow", "SELECT count(*) FROM runs") == [(20000,)]
    # What the role may create is there, with what needs it.
    found = server.run("mlflow", "SELECT extname FROM pg_extension ORDER BY 1")
    assert found == [("pg_trgm",), ("plpgsql",)]
    assert server.run("mlflow", "SELECT 1 FROM pg_indexes WHERE indexname = 'names'") == [(1,)]


def test_an_extension_goes_along_where_the_role_may(script: Script) -> None:
    script.postgres.run("mlflow", "CREATE EXTENSION pg_stat_statements")
    assert restore(script, script.take()) == ()
    found = script.postgres.run("mlflow", "SELECT extname FROM pg_extension ORDER BY 1")
    assert found == [("pg_stat_statements",), ("plpgsql",)]


def test_a_role_that_could_not_swap_is_told_by_check_and_test(tenant: Script) -> None:
    server = tenant.postgres
    name = tenant.take()
    server.run("postgres", "ALTER DATABASE mlflow OWNER TO monitor")
    cure = f'ALTER DATABASE "mlflow" OWNER TO "{TENANT}"'
    assert cure in refused(tenant, name)
    output = tenant.good("test", BACKUP_NAME=name)
    assert f"{name} was not tested: role tenant does not own the database mlflow" in output
    done = tenant.run("prepare", BACKUP_NAME=name)
    assert done.returncode == 1
    assert cure in done.stderr
    assert tenant.databases() == {"mlflow"}
    # What it says to type is what helps. So does being a member of the owner.
    server.run("postgres", cure)
    assert refused(tenant, name) == ""
    server.run("postgres", "CREATE ROLE owners", f"GRANT owners TO {TENANT}")
    server.run("postgres", "ALTER DATABASE mlflow OWNER TO owners")
    try:
        assert refused(tenant, name) == ""
        assert restore(tenant, name) == ()
        owners = server.run("postgres", "SELECT datdba::regrole::text FROM pg_database"
                            " WHERE datname = 'mlflow'")  # fmt: skip
        assert owners == [("owners",)]
    finally:
        for database in tenant.databases():
            server.run("postgres", f'DROP DATABASE "{database}" WITH (FORCE)')
        server.run("postgres", "DROP ROLE owners")


def test_settings_grants_and_limits_go_along(tenant: Script) -> None:
    server = tenant.postgres
    server.run("mlflow", f'CREATE SCHEMA "My Schema" AUTHORIZATION {TENANT}')
    server.run("mlflow", 'ALTER TABLE runs SET SCHEMA "My Schema"')
    for statement in (
        'ALTER DATABASE mlflow SET search_path = "My Schema", public',
        "ALTER DATABASE mlflow SET work_mem = '7MB'",
        "ALTER DATABASE mlflow SET application_name = 'it''s, so'",
        f"ALTER ROLE {TENANT} IN DATABASE mlflow SET statement_timeout = '77s'",
        "ALTER DATABASE mlflow CONNECTION LIMIT 77",
        "REVOKE ALL ON DATABASE mlflow FROM PUBLIC",
        "GRANT CONNECT ON DATABASE mlflow TO reader WITH GRANT OPTION",
    ):
        server.run("postgres", statement)
    server.run(
        "mlflow",
        f"SET ROLE {TENANT}",
        'GRANT USAGE ON SCHEMA "My Schema" TO reader; GRANT SELECT ON runs TO reader',
        'ALTER DEFAULT PRIVILEGES IN SCHEMA "My Schema" GRANT SELECT ON TABLES TO reader',
    )
    known = (
        "SELECT datname, datconnlimit, datacl::text FROM pg_database WHERE datname = 'mlflow'",
        "SELECT setrole::regrole::text, setconfig FROM pg_db_role_setting s JOIN pg_database d"
        " ON d.oid = setdatabase WHERE datname = 'mlflow' ORDER BY 1",
        "SELECT relname, relacl::text FROM pg_class WHERE relname = 'runs'",
        "SELECT defaclacl::text FROM pg_default_acl",
        "SELECT nspacl::text FROM pg_namespace WHERE nspname = 'My Schema'",
    )
    before = [server.run("mlflow", query) for query in known]
    name = tenant.take()
    assert restore(tenant, name) == ()
    assert [server.run("mlflow", query) for query in known] == before
    # As MLflow does: by no other name than the table's.
    assert server.run("mlflow", "SELECT count(*) FROM runs") == [(20000,)]
    # No value of a setting is in a manifest, or printed.
    assert "so" not in (tenant.folder / name / "manifest.json").read_text().replace("reason", "")


def test_what_this_server_does_not_know_is_named_and_ends_nothing(tenant: Script) -> None:
    server = tenant.postgres
    server.run("mlflow", "GRANT SELECT ON runs TO reader")
    server.run("postgres", "ALTER DATABASE mlflow SET log_min_duration_statement = '1s'")
    name = tenant.take()
    server.run("mlflow", "DROP OWNED BY reader", "DROP ROLE reader")
    assert restore(tenant, name) == (
        "privileges of reader on tables",
        # Which only a superuser sets.
        "setting log_min_duration_statement",
    )


def test_the_locale_goes_along(tenant: Script) -> None:
    server = tenant.postgres
    server.run("postgres", "ALTER DATABASE mlflow RENAME TO other")
    server.run("postgres", "CREATE DATABASE mlflow TEMPLATE template0 LOCALE_PROVIDER icu"
               f" ICU_LOCALE 'de-DE' OWNER {TENANT}")  # fmt: skip
    locale = "SELECT to_jsonb(d) ->> 'datlocprovider', to_jsonb(d) ->> 'daticulocale' FROM" \
        " pg_database d WHERE datname = 'mlflow'"  # fmt: skip
    before = server.run("postgres", locale)
    name = tenant.take()
    assert restore(tenant, name) == ()
    assert server.run("postgres", locale) == before
    # A release set up anew may have another one: that is named.
    for statement in (
        "DROP DATABASE mlflow WITH (FORCE)",
        f"CREATE DATABASE mlflow OWNER {TENANT}",
    ):
        server.run("postgres", statement)
    (line,) = restore(tenant, name)
    assert line.startswith("locale of ICU")
    assert "de-DE" in line


def test_whom_the_swap_cannot_end_is_told_before_anything_is_stopped(tenant: Script) -> None:
    name = tenant.take()
    with contextlib.closing(tenant.postgres.connect("mlflow", "monitor")):
        done = tenant.run("prepare", BACKUP_NAME=name)
        assert done.returncode == 1
        assert "roles that this one cannot end: monitor ()" in done.stderr
    # What was restored meanwhile is used.
    assert "is there already" in tenant.good("prepare", BACKUP_NAME=name)
    tenant.good("swap", BACKUP_NAME=name)


DATABASES = st.fixed_dictionaries(
    {
        "owner": st.sampled_from([TENANT, "owners", "monitor"]),
        "createdb": st.booleans(),
        "schema": st.sampled_from(["public", "My Schema"]),
        "extensions": st.sets(st.sampled_from(["pg_stat_statements", "pg_trgm", "hstore"])),
        "reader": st.booleans(),
        "locale": st.sampled_from(["", "LOCALE_PROVIDER icu ICU_LOCALE 'de-DE'", "LOCALE 'C'"]),
        "limit": st.sampled_from([-1, 50]),
        "rows": st.sampled_from([0, 3, 5000]),
    }
)


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(made=DATABASES)
def test_what_the_check_accepts_the_swap_does(tenant: Script, made: dict[str, Any]) -> None:
    server = tenant.postgres
    for name in tenant.databases():
        server.run("postgres", f'DROP DATABASE "{name}" WITH (FORCE)')
    server.run(
        "postgres",
        "DROP ROLE IF EXISTS owners",
        f"CREATE ROLE owners ROLE {TENANT}",
        f"ALTER ROLE {TENANT} {'CREATEDB' if made['createdb'] else 'NOCREATEDB'}",
        f"CREATE DATABASE mlflow TEMPLATE template0 {made['locale']} OWNER {TENANT}",
        f"ALTER DATABASE mlflow CONNECTION LIMIT {made['limit']}",
        f'ALTER DATABASE mlflow SET search_path = "{made["schema"]}"',
    )
    server.run("mlflow", *(f"CREATE EXTENSION {name} SCHEMA public"
                           for name in made["extensions"]), "SELECT 1")  # fmt: skip
    server.run(
        "mlflow",
        f"SET ROLE {TENANT}",
        f'CREATE SCHEMA IF NOT EXISTS "{made["schema"]}"',
        TABLES.replace("20000", str(made["rows"])),
        *(["GRANT SELECT ON runs TO reader"] if made["reader"] else []),
    )
    server.run("postgres", f"ALTER DATABASE mlflow OWNER TO {made['owner']}")
    count = "SELECT count(*) FROM runs"
    name = tenant.take()
    server.run("mlflow", "DELETE FROM runs")
    before = tenant.databases()
    try:
        if refused(tenant, name):
            assert not made["createdb"] or made["owner"] == "monitor"
            for command in ("prepare", "swap"):
                assert tenant.run(command, BACKUP_NAME=name).returncode == 1
            assert tenant.databases() == before
            assert server.run("mlflow", count) == [(0,)]
            return
        lost = restore(tenant, name)
        assert set(lost) <= {f"extension {one}" for one in made["extensions"]}
        assert server.run("mlflow", count) == [(made["rows"],)]
    finally:
        for database in tenant.databases():
            server.run("postgres", f'DROP DATABASE "{database}" WITH (FORCE)')
        server.run("postgres", "DROP ROLE owners", f"ALTER ROLE {TENANT} CREATEDB")
        for path in tenant.folder.glob("2*"):
            shutil.rmtree(path)
