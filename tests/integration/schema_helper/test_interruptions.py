"""A migration from MLflow 3.16.1 to 3.17.2, of a database with data, that something goes wrong in.

What goes wrong does so at a statement of the migration, not at a time, so that each point is
reached whatever the machine does. Compared is all that the database holds.
"""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import pytest

from .conftest import PYTHON, Postgres, Running, free_port, wait_until
from .proxy import Point, Proxy

pytestmark = pytest.mark.integration

LOCKS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
SESSIONS = "SELECT datname FROM pg_stat_activity"
Contents = dict[str, tuple[str, ...]]
When = Literal["before", "during", "after"]
# How far the migration has come, in hundredths of its statements.
SPREAD: list[tuple[int, When]] = [
    (round(100 * number / 20), ("before", "during", "after")[number % 3]) for number in range(21)
]


class Upgrade(NamedTuple):
    """What an upgrade does that nothing disturbs."""

    untouched: Contents
    at_head: Contents
    statements: list[str]

    def point(self, hundredths: int, when: When) -> Point:
        """Return the point that is so far in."""
        return Point(round((len(self.statements) - 1) * hundredths / 100), when)

    def commit(self, when: When) -> Point:
        """Return the point at the commit that makes the migration visible."""
        stamped = max(
            n for n, text in enumerate(self.statements) if "UPDATE alembic_version " in text
        )
        number = next(
            n for n, text in enumerate(self.statements) if n > stamped and text == "COMMIT"
        )
        return Point(number, when)


@pytest.fixture(scope="module")
def upgrade(postgres: Postgres, behind: str) -> Upgrade:
    """Upgrade a copy of the database without a disturbance."""
    name = postgres.create(template=behind)
    untouched = postgres.contents(name)
    with Proxy(postgres.port) as proxy:
        done = through(proxy, postgres, name).ended()
        assert (done.status, done.state) == (0, "at_head"), done.stderr
        at_head = postgres.contents(name)
        # Enough of them that the points below are different ones, and something to lose.
        assert len(proxy.statements) > 60
        assert int(untouched["trace_info"][1]) >= 300
        assert untouched["trace_info"] != at_head["trace_info"]
        return Upgrade(untouched, at_head, proxy.statements)


def through(proxy: Proxy, postgres: Postgres, database: str, **more: str) -> Running:
    """Start a migration that the proxy sees."""
    uri = f"postgresql+psycopg2://127.0.0.1:{proxy.port}/{database}"
    return postgres.start("migrate", database, **{"MLFLOW_BACKEND_STORE_URI": uri, **more})


def check_state(postgres: Postgres, database: str, upgrade: Upgrade) -> str:
    """Check that the database is untouched or at head, and that the helper says which."""
    contents = postgres.contents(database)
    state = "at_head" if contents == upgrade.at_head else "behind"
    assert contents in (upgrade.untouched, upgrade.at_head)
    assert postgres.helper("status", database).state == state
    return state


def check_again(postgres: Postgres, database: str, upgrade: Upgrade) -> None:
    """Check that migrating again succeeds, and that nothing is lost."""
    done = postgres.helper("migrate", database)
    assert (done.status, done.state) == (0, "at_head"), done.stderr
    assert postgres.contents(database) == upgrade.at_head
    assert postgres.run(database, LOCKS) == [(0,)]


def kill_postgres(postgres: Postgres, behind: str, upgrade: Upgrade, point: Point) -> str:
    """Kill Postgres at a point, and see to everything that has to hold; return the state."""
    name = postgres.create(template=behind)

    def kill() -> None:
        proxy.away.set()
        postgres.server.kill()

    with Proxy(postgres.port, point, kill) as proxy:
        migrating = through(proxy, postgres, name)
        try:
            assert proxy.reached.wait(60)
        finally:
            if proxy.away.is_set():
                postgres.server.start()
            proxy.hang_up()
        state = check_state(postgres, name, upgrade)
        # The same helper goes on when the database is back.
        proxy.away.clear()
        done = migrating.ended()
        assert (done.status, done.state) == (0, "at_head"), done.stderr
    assert postgres.contents(name) == upgrade.at_head
    check_again(postgres, name, upgrade)
    return state


@pytest.mark.parametrize(("hundredths", "when"), SPREAD)
def test_postgres_is_killed(
    postgres: Postgres, behind: str, upgrade: Upgrade, hundredths: int, when: When
) -> None:
    kill_postgres(postgres, behind, upgrade, upgrade.point(hundredths, when))


@pytest.mark.parametrize(
    ("when", "states"),
    [("before", {"behind"}), ("during", {"behind", "at_head"}), ("after", {"at_head"})],
)
def test_postgres_is_killed_at_the_commit(
    postgres: Postgres, behind: str, upgrade: Upgrade, when: When, states: set[str]
) -> None:
    """Also when the commit is done and its confirmation never arrives."""
    assert kill_postgres(postgres, behind, upgrade, upgrade.commit(when)) in states


@pytest.mark.parametrize(
    ("hundredths", "when"),
    [(0, "before"), (15, "after"), (40, "during"), (65, "during"), (90, "after"), (100, "after")],
)
def test_the_helper_is_killed(
    postgres: Postgres, behind: str, upgrade: Upgrade, hundredths: int, when: When
) -> None:
    """The lock is free afterwards, without anybody's help."""
    name = postgres.create(template=behind)
    point = upgrade.point(hundredths, when)
    with Proxy(postgres.port, point) as proxy:
        migrating = through(proxy, postgres, name)
        assert proxy.reached.wait(60)
        migrating.send_signal(signal.SIGKILL)
        assert migrating.status() == -signal.SIGKILL
        wait_until(lambda: postgres.run(name, LOCKS) == [(0,)])
    # A statement that was on its way may end after the lock; it cannot commit.
    wait_until(lambda: (name,) not in postgres.run("postgres", SESSIONS))
    check_state(postgres, name, upgrade)
    check_again(postgres, name, upgrade)


@pytest.mark.parametrize("hundredths", [10, 50, 95])
def test_postgres_is_restarted_in_the_middle(
    postgres: Postgres, behind: str, upgrade: Upgrade, hundredths: int
) -> None:
    """As for a new version of it: sessions are ended in an orderly way."""
    name = postgres.create(template=behind)

    def restart() -> None:
        postgres.server.stop("fast")
        postgres.server.start()

    with Proxy(postgres.port, upgrade.point(hundredths, "during"), restart) as proxy:
        done = through(proxy, postgres, name).ended()
        assert (done.status, done.state) == (0, "at_head"), done.stderr
        assert "the database went away" in done.stderr
    assert postgres.contents(name) == upgrade.at_head


def test_a_migration_that_takes_postgres_down_each_time_ends(
    postgres: Postgres, behind: str, upgrade: Upgrade
) -> None:
    """As one does that needs more memory than Postgres is given."""
    name = postgres.create(template=behind)
    point = upgrade.point(60, "during")
    deaths = []

    def restart() -> None:
        deaths.append(1)
        postgres.server.kill()
        postgres.server.start()
        proxy.statements.clear()

    with Proxy(postgres.port, point, restart) as proxy:
        done = through(proxy, postgres, name).ended()
    assert (done.status, done.state, len(deaths)) == (1, "behind", 4), done.stderr
    assert "migrate failed" in done.verdict["tracking"]["detail"]
    assert postgres.contents(name) == upgrade.untouched
    check_again(postgres, name, upgrade)


def test_a_database_that_is_not_there_yet_is_waited_for(
    postgres: Postgres, behind: str, upgrade: Upgrade
) -> None:
    name = postgres.create(template=behind)
    port = free_port()  # Nobody listens there: connections are refused.
    uri = f"postgresql+psycopg2://127.0.0.1:{port}/{name}"
    migrating = postgres.start("migrate", name, MLFLOW_BACKEND_STORE_URI=uri)
    wait_until(lambda: migrating.said("tracking unreachable"))
    with Proxy(postgres.port, listen=port):
        done = migrating.ended()
    assert (done.status, done.state) == (0, "at_head"), done.stderr
    assert postgres.contents(name) == upgrade.at_head


def test_three_at_once_upgrade_once(postgres: Postgres, behind: str, upgrade: Upgrade) -> None:
    """In three processes; the other two wait, and report what the first one did."""
    name = postgres.create(template=behind)
    started = [postgres.start("migrate", name, PYTHON if one == 0 else None) for one in range(3)]
    done = [one.ended() for one in started]
    assert [(d.status, d.state) for d in done] == [(0, "at_head")] * 3, [d.stderr for d in done]
    assert sum(len(re.findall("migrating tracking", d.stderr)) for d in done) == 1
    assert postgres.contents(name) == upgrade.at_head


@pytest.fixture
def blocked(postgres: Postgres, behind: str) -> Iterator[tuple[str, int]]:
    """Give a database with a session that was left idle in a transaction, and its number."""
    name = postgres.create(template=behind)
    connection = postgres.connect(name)
    try:
        connection.autocommit = False
        cursor = connection.cursor()
        cursor.execute("SET application_name = 'somebodys notebook'")
        cursor.execute("SELECT count(*) FROM trace_info")
        yield name, connection.info.backend_pid
    finally:
        connection.close()


def test_a_blocked_migration_names_who_blocks_it_and_ends(
    postgres: Postgres, blocked: tuple[str, int], upgrade: Upgrade
) -> None:
    name, pid = blocked
    done = postgres.helper("migrate", name, MLOPS_SCHEMA_TIMEOUT="5")
    assert (done.status, done.state) == (3, "behind"), done.stderr
    who = f"session {pid} (application 'somebodys notebook', user mlflow"
    assert f"blocked by {who}" in done.stderr
    assert "pg_terminate_backend" in done.stderr
    assert "gave up waiting" in done.verdict["tracking"]["detail"]
    assert who in done.verdict["tracking"]["detail"]
    assert "idle in transaction" in done.verdict["tracking"]["detail"]
    assert postgres.contents(name) == upgrade.untouched


def test_nobody_queues_for_long_behind_a_blocked_migration(
    postgres: Postgres, blocked: tuple[str, int], upgrade: Upgrade
) -> None:
    """A long reader, as a nightly dump is, keeps the migration waiting, and nobody else with it."""
    name, pid = blocked
    migrating = postgres.start("migrate", name)
    wait_until(lambda: migrating.said(f"session {pid}"))
    # Much less than the migration waits, and more than a busy machine takes to answer.
    limit = "SET statement_timeout = '20s'"
    writes = "UPDATE trace_info SET request_id = request_id WHERE false"
    for _turn in range(4):
        postgres.run(name, limit, "SELECT count(*) FROM trace_info")
        postgres.run(name, limit, writes)
    assert not (migrating.folder / "status").exists()
    assert postgres.helper("status", name).state == "behind"
    postgres.run("postgres", f"SELECT pg_terminate_backend({pid})")
    done = migrating.ended()
    assert (done.status, done.state) == (0, "at_head"), done.stderr
    assert f"blocked by session {pid} (application 'somebodys notebook'" in done.stderr
    assert postgres.contents(name) == upgrade.at_head


def test_a_blocked_migration_goes_on_when_it_can(
    postgres: Postgres, blocked: tuple[str, int], upgrade: Upgrade
) -> None:
    name, pid = blocked
    migrating = postgres.start("migrate", name)
    wait_until(lambda: migrating.said(f"session {pid}"))
    postgres.run("postgres", f"SELECT pg_terminate_backend({pid})")
    done = migrating.ended()
    assert (done.status, done.state) == (0, "at_head"), done.stderr
    assert postgres.contents(name) == upgrade.at_head


# --- Basic auth, whose schema is the same in both versions: an earlier one, as MLflow made it -----

AUTH_BEHIND = (
    "import os, sys, sqlalchemy\n"
    "from mlflow.server.auth.db import utils\n"
    "utils.migrate(sqlalchemy.create_engine(os.environ['MLFLOW_BACKEND_STORE_URI']), sys.argv[1])\n"
)


@pytest.fixture(scope="module")
def auth_behind(postgres: Postgres) -> str:
    """Return a database with basic auth's schema of before roles, and a user with permissions."""
    name = postgres.create()
    postgres.python(name, "-c", AUTH_BEHIND, "a1b2c3d4e5f6")
    postgres.run(
        name,
        "INSERT INTO users (username, password_hash, is_admin) VALUES ('kept', 'x', false)",
        "INSERT INTO experiment_permissions (experiment_id, user_id, permission)"
        " SELECT n::text, id, 'READ' FROM users, generate_series(1, 50) n",
    )
    return name


def auth_config(path: Path, port: int, database: str) -> str:
    """Write basic auth's INI file, and return its path."""
    path.write_text(
        "[mlflow]\ndefault_permission = READ\nadmin_username = admin\n"
        f"database_uri = postgresql+psycopg2://127.0.0.1:{port}/{database}\n",
        encoding="utf-8",
    )
    return str(path)


@pytest.fixture(scope="module")
def auth_upgrade(
    postgres: Postgres, at_head: str, auth_behind: str, tmp_path_factory: pytest.TempPathFactory
) -> Upgrade:
    """Upgrade a copy of basic auth's database without a disturbance."""
    name = postgres.create(template=auth_behind)
    path = tmp_path_factory.mktemp("auth") / "auth.ini"
    with Proxy(postgres.port) as proxy:
        config = auth_config(path, proxy.port, name)
        done = postgres.helper("migrate", at_head, MLFLOW_AUTH_CONFIG_PATH=config)
        assert done.status == 0, done.stderr
        return Upgrade(postgres.contents(auth_behind), postgres.contents(name), proxy.statements)


@pytest.mark.parametrize(
    ("hundredths", "when"), [(5, "before"), (35, "during"), (65, "after"), (100, "after")]
)
def test_postgres_is_killed_while_basic_auth_is_migrated(
    postgres: Postgres,
    at_head: str,
    auth_behind: str,
    auth_upgrade: Upgrade,
    tmp_path: Path,
    hundredths: int,
    when: When,
) -> None:
    name = postgres.create(template=auth_behind)

    def kill() -> None:
        proxy.away.set()
        postgres.server.kill()

    with Proxy(postgres.port, auth_upgrade.point(hundredths, when), kill) as proxy:
        config = auth_config(tmp_path / "auth.ini", proxy.port, name)
        migrating = postgres.start("migrate", at_head, MLFLOW_AUTH_CONFIG_PATH=config)
        try:
            assert proxy.reached.wait(60)
        finally:
            if proxy.away.is_set():
                postgres.server.start()
            proxy.hang_up()
        contents = postgres.contents(name)
        assert contents in (auth_upgrade.untouched, auth_upgrade.at_head)
        proxy.away.clear()
        done = migrating.ended()
        assert {n: v["state"] for n, v in done.verdict.items()} == {
            "tracking": "at_head",
            "auth": "at_head",
        }, done.stderr
        again = postgres.helper("migrate", at_head, MLFLOW_AUTH_CONFIG_PATH=config)
        assert again.status == 0, again.stderr
    assert postgres.contents(name) == auth_upgrade.at_head


@pytest.mark.parametrize(
    ("state", "statements"),
    [
        ("unknown", ["UPDATE alembic_version_auth SET version_num = 'deadbeef0000'"]),
        (
            "ahead",
            [
                "UPDATE alembic_version_auth SET version_num = 'deadbeef0000'",
                "ALTER TABLE users ADD COLUMN of_a_newer_mlflow integer",
            ],
        ),
        ("partial", ["DROP TABLE users CASCADE"]),
        ("partial", ["DROP TABLE users CASCADE", "DROP TABLE alembic_version_auth"]),
        ("denied", []),
    ],
)
def test_basic_auths_states(
    postgres: Postgres,
    at_head: str,
    auth_behind: str,
    auth_upgrade: Upgrade,
    tmp_path: Path,
    state: str,
    statements: list[str],
) -> None:
    """Certain at once, and nothing is written, tracking's schema included."""
    name = postgres.create(template=auth_behind)
    config = auth_config(tmp_path / "auth.ini", postgres.port, name)
    more = {"MLFLOW_AUTH_CONFIG_PATH": config}
    assert postgres.helper("status", at_head, **more).verdict["auth"]["state"] == "behind"
    assert postgres.helper("migrate", at_head, **more).status == 0
    if state == "denied":
        config = auth_config(tmp_path / "auth.ini", postgres.port, "no_such_database")
    postgres.run(name, *statements)
    before = postgres.contents(name)
    for command in ("wait", "migrate"):
        done = postgres.helper(command, at_head, **more)
        assert (done.status, done.verdict["auth"]["state"]) == (3, state), done.stderr
        assert done.verdict["tracking"]["state"] == "at_head"
    assert postgres.contents(name) == before


def test_basic_auths_database_is_unreachable(
    postgres: Postgres, at_head: str, tmp_path: Path
) -> None:
    config = auth_config(tmp_path / "auth.ini", free_port(), "any")
    done = postgres.helper(
        "migrate", at_head, MLFLOW_AUTH_CONFIG_PATH=config, MLOPS_SCHEMA_TIMEOUT="2"
    )
    assert (done.status, done.verdict["auth"]["state"]) == (3, "unreachable")


def test_basic_auth_from_before_it_had_versions(
    postgres: Postgres, at_head: str, tmp_path: Path
) -> None:
    name = postgres.create()
    postgres.python(name, "-c", AUTH_BEHIND, "8606fa83a998")
    postgres.run(name, "DROP TABLE alembic_version_auth")
    config = auth_config(tmp_path / "auth.ini", postgres.port, name)
    assert (
        postgres.helper("status", at_head, MLFLOW_AUTH_CONFIG_PATH=config).verdict["auth"]["state"]
        == "behind"
    )
    done = postgres.helper("migrate", at_head, MLFLOW_AUTH_CONFIG_PATH=config)
    assert done.status == 0, done.stderr


def test_status_of_a_real_process_is_the_same(postgres: Postgres, behind: str) -> None:
    """The forks that the tests run the helper in stand for processes of their own."""
    arguments = [PYTHON, str(Path(__file__).parents[3] / "kustomize/base/schema.py"), "status"]
    done = subprocess.run(
        arguments, env=postgres.environment(behind), capture_output=True, text=True, check=False
    )
    fork = postgres.helper("status", behind)
    assert (done.returncode, done.stdout) == (fork.status, fork.stdout)
