"""A Postgres that lives for the tests only, and the schema helper run against it."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[3] / "kustomize" / "base" / "schema.py"
USER = "mlflow"
# Characters that a URL, a shell and SQL each treat in a way of their own.
PASSWORD = "s3cr%t/p@ss'\"$x"
# A second Python, with an older MLflow and a driver, proves a real upgrade where there is one.
OLD_PYTHON = os.environ.get("MLOPS_TEST_OLD_MLFLOW_PYTHON")


def tool(name: str) -> str | None:
    """Return the path of a program; Debian keeps Postgres' own off PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    path = os.pathsep.join([os.environ.get("PATH", ""), *map(str, folders), "/usr/sbin"])
    return shutil.which(name, path=path)


def unprivileged() -> str | None:
    """Return a user that root can run servers as."""
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in known), None)


def free_port() -> int:
    """Return a port on loopback that is free at this moment."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@dataclasses.dataclass(frozen=True)
class Done:
    """How a run of the helper ended."""

    status: int
    verdict: dict[str, dict[str, Any]]
    stdout: str
    stderr: str

    @property
    def state(self) -> str:
        """Return the state of the tracking schema."""
        return str(self.verdict["tracking"]["state"])


class Postgres:
    """A server on a loopback port."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._count = itertools.count(1)

    def connect(
        self, database: str = "postgres", user: str = USER, password: str = PASSWORD
    ) -> Any:
        """Open a connection that commits each statement."""
        import psycopg2

        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, dbname=database, user=user, password=password
        )
        connection.autocommit = True
        return connection

    def run(self, database: str, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements; return the rows of the last one."""
        connection = self.connect(database)
        try:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()

    def create(self, template: str = "template1") -> str:
        """Create a database, as a copy of another if one is named; return its name."""
        name = f"test_{next(self._count)}"
        self.run("postgres", f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def environment(self, database: str, **more: str) -> dict[str, str]:
        """Return what the helper is started with."""
        return {
            "PATH": os.environ.get("PATH", ""),
            "HOME": tempfile.gettempdir(),
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "MLFLOW_BACKEND_STORE_URI": f"postgresql+psycopg2://127.0.0.1:{self.port}/{database}",
            "PGUSER": USER,
            "PGPASSWORD": PASSWORD,
            "MLOPS_SCHEMA_TIMEOUT": "60",
            **more,
        }

    def start(
        self, command: str, database: str, python: str = sys.executable, **more: str
    ) -> subprocess.Popen[str]:
        """Start the helper."""
        return subprocess.Popen(
            [python, str(SCRIPT), command],
            env=self.environment(database, **more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def helper(
        self, command: str, database: str, python: str = sys.executable, **more: str
    ) -> Done:
        """Run the helper to its end."""
        return ended(self.start(command, database, python, **more))


def ended(process: subprocess.Popen[str]) -> Done:
    """Wait for a helper; return how it ended."""
    stdout, stderr = process.communicate(timeout=180)
    assert PASSWORD not in stdout + stderr
    lines = stdout.splitlines()
    return Done(process.returncode, json.loads(lines[-1]) if lines else {}, stdout, stderr)


def wait_until(what: Callable[[], bool], seconds: float = 30) -> None:
    """Return when `what` is true."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Start a throwaway Postgres, and stop it afterwards."""
    initdb, pg_ctl = tool("initdb"), tool("pg_ctl")
    if initdb is None or pg_ctl is None:
        pytest.skip("Postgres' initdb and pg_ctl are not installed")
    for module in ("mlflow", "sqlalchemy", "psycopg2"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    user = None
    if os.geteuid() == 0:  # Postgres refuses to run as root
        user = unprivileged()
        if user is None:
            pytest.skip("there is no user to run Postgres as")
    # Not pytest's own folder: another user could not enter it.
    folder = Path(tempfile.mkdtemp(prefix="mlops-mlflow-postgres-"))
    try:
        secret = folder / "password"
        secret.write_text(PASSWORD, encoding="utf-8")
        folder.chmod(0o755)
        if user:
            shutil.chown(folder, user)
            shutil.chown(secret, user)
        data, port = folder / "data", free_port()

        def call(*arguments: str) -> None:
            subprocess.run(
                arguments, user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL, timeout=90
            )

        call(
            initdb,
            f"--pgdata={data}",
            f"--username={USER}",
            f"--pwfile={secret}",
            "--auth=scram-sha-256",
            "--no-sync",
        )
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c fsync=off"
        options += f" -c unix_socket_directories={folder}"
        log = folder / "log"
        call(pg_ctl, f"--pgdata={data}", f"--log={log}", f"--options={options}", "--wait", "start")
        try:
            yield Postgres(port)
        finally:
            call(pg_ctl, f"--pgdata={data}", "--mode=immediate", "--wait", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def at_head(postgres: Postgres) -> str:
    """Return a database at head, to be copied."""
    name = postgres.create()
    done = postgres.helper("wait", name)
    assert (done.status, done.state) == (0, "at_head"), done.stderr
    return name


@pytest.fixture(scope="session")
def behind(postgres: Postgres) -> str:
    """Return a database three migrations behind head, to be copied."""
    name = postgres.create()
    code = (
        "import os\n"
        "import alembic.command, sqlalchemy\n"
        "from mlflow.store.db import utils\n"
        "engine = sqlalchemy.create_engine(os.environ['MLFLOW_BACKEND_STORE_URI'])\n"
        "utils.InitialBase.metadata.create_all(engine)\n"
        "config = utils._get_alembic_config('')\n"
        "with engine.begin() as connection:\n"
        "    config.attributes['connection'] = connection\n"
        "    alembic.command.upgrade(config, utils._get_latest_schema_revision() + '-3')\n"
    )
    subprocess.run([sys.executable, "-c", code], env=postgres.environment(name), check=True)
    return name
