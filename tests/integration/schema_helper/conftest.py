"""A Postgres that lives for the tests only, and the schema helper run against it."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import itertools
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

ROOT = Path(__file__).parents[3]
# A changed one, when the tests themselves are tried: see tests/tools/mutants.py.
SCRIPT = Path(os.environ.get("MLFLOW_TEST_SCHEMA") or ROOT / "kustomize/base/schema.py")
USER = "mlflow"
# Characters that a URL, a shell and SQL each treat in a way of their own.
PASSWORD = "s3cr%t/p@ss'\"$x"
HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlops-mlflow"
# The versions that an upgrade is tested between, made by ../prepare.yml.
OLD_PYTHON, PYTHON = (
    str(CACHE / f"test-mlflow-{version}/current/bin/python") for version in ("3.16.1", "3.17.2")
)
# Traces in the database that is upgraded: MLflow's migration takes 250 at a time.
TRACES = 300


def unprepared(what: str) -> NoReturn:
    """Fail: nothing of this is skipped."""
    pytest.fail(
        f"{what} is missing; `python scripts/test.py --only integration` installs it, "
        "or ansible-playbook tests/integration/prepare.yml",
        pytrace=False,
    )


def tool(name: str) -> str:
    """Return the path of a program; Debian keeps Postgres' own off PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    path = os.pathsep.join([os.environ.get("PATH", ""), *map(str, folders), "/usr/sbin"])
    return shutil.which(name, path=path) or unprepared(name)


def unprivileged() -> str | None:
    """Return a user that root can run servers as, which refuse to run as root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((n for n in ("postgres", "nobody") if n in known), None) or unprepared("a user")


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


class Running:
    """A helper that was started, in a process of its own or a fork of one that imported MLflow."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes] | None) -> None:
        self.folder = folder
        self.process = process

    def send_signal(self, kind: signal.Signals) -> None:
        """Send a signal to it."""
        if self.process:
            self.process.send_signal(kind)
        else:
            wait_until((self.folder / "pid").exists)
            os.kill(int((self.folder / "pid").read_text()), kind)

    def said(self, text: str) -> bool:
        """Tell whether it has written this as progress."""
        path = self.folder / "stderr"
        return path.exists() and text in path.read_text()

    def status(self) -> int:
        """Wait for its end; return its exit status."""
        if self.process:
            return self.process.wait(timeout=180)
        wait_until((self.folder / "status").exists, 180)
        return int((self.folder / "status").read_text())

    def ended(self) -> Done:
        """Wait for its end; return how it ended."""
        status = self.status()
        stdout, stderr = ((self.folder / n).read_text() for n in ("stdout", "stderr"))
        shutil.rmtree(self.folder)
        assert PASSWORD not in stdout + stderr
        lines = stdout.splitlines()
        return Done(status, json.loads(lines[-1]) if lines else {}, stdout, stderr)


class Server:
    """The process of Postgres, and its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.port = free_port()
        self.user = unprivileged()

    def call(self, name: str, *arguments: str) -> None:
        """Run one of Postgres' programs."""
        subprocess.run(
            [tool(name), *arguments],
            user=self.user,
            cwd=self.folder,
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=90,
        )

    def initialise(self) -> None:
        """Make the folder."""
        secret = self.folder / "password"
        secret.write_text(PASSWORD, encoding="utf-8")
        self.folder.chmod(0o755)
        if self.user:
            shutil.chown(self.folder, self.user)
            shutil.chown(secret, self.user)
        self.call(
            "initdb",
            f"--pgdata={self.data}",
            f"--username={USER}",
            f"--pwfile={secret}",
            "--auth=scram-sha-256",
            "--no-sync",
        )

    def start(self) -> None:
        """Start it, after a crash with the recovery that this needs."""
        # Without fsync: what a killed process has written is not lost, only a machine's crash
        # would lose it.
        options = f"-c listen_addresses=127.0.0.1 -c port={self.port} -c fsync=off"
        options += " -c unix_socket_directories="
        self._control("start", f"--log={self.folder / 'log'}", f"--options={options}")

    def stop(self, mode: str) -> None:
        """Stop it: smart, fast or immediate."""
        self._control("stop", f"--mode={mode}")

    def _control(self, verb: str, *arguments: str) -> None:
        self.call("pg_ctl", f"--pgdata={self.data}", "--wait", *arguments, verb)

    def kill(self) -> None:
        """End all of its processes at once, with SIGKILL."""
        note = self.data / "postmaster.pid"
        kill_all(int(note.read_text().split()[0]))
        # Postgres does this itself, unless the machine's first process is slow to bury the dead:
        # they still have their numbers then.
        note.unlink()


def kill_all(first: int) -> None:
    """End a process and all that it started, with SIGKILL, and return when none of them is left.

    As when a container ends. The group of processes is not enough: each of Postgres' children
    leaves its parent's, and one that outlives it by a moment may still hold the port.
    """
    found: list[int] = []
    new = [first]
    while new:
        pid = new.pop()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)  # It starts no more of them.
        found.append(pid)
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            new += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(alive(pid) for pid in found))


def alive(pid: int) -> bool:
    """Tell whether a process is there and no zombie."""
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


class Postgres:
    """A server on a loopback port, and the helper run against it."""

    def __init__(self, server: Server, forking: subprocess.Popen[bytes] | None = None) -> None:
        self.server = server
        self.port = server.port
        self.forking = forking
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
            # Not asked for, so that the proxy finds the statements at once.
            "PGSSLMODE": "disable",
            "PGGSSENCMODE": "disable",
            "MLFLOW_BACKEND_STORE_URI": f"postgresql+psycopg2://127.0.0.1:{self.port}/{database}",
            "PGUSER": USER,
            "PGPASSWORD": PASSWORD,
            "MLOPS_SCHEMA_TIMEOUT": "60",
            **more,
        }

    def start(self, command: str, database: str, python: str | None = None, **more: str) -> Running:
        """Start the helper, in a process of its own if a Python is named."""
        folder = Path(tempfile.mkdtemp(prefix="mlops-mlflow-helper-"))
        arguments = [str(SCRIPT), command]
        environment = self.environment(database, **more)
        if python or not self.forking:
            with open(folder / "stdout", "wb") as out, open(folder / "stderr", "wb") as err:
                process = subprocess.Popen(
                    [python or PYTHON, *arguments], env=environment, stdout=out, stderr=err
                )
            return Running(folder, process)
        request = {"folder": str(folder), "arguments": arguments, "environment": environment}
        assert self.forking.stdin
        self.forking.stdin.write(json.dumps(request).encode() + b"\n")
        self.forking.stdin.flush()
        return Running(folder, None)

    def helper(self, command: str, database: str, python: str | None = None, **more: str) -> Done:
        """Run the helper to its end."""
        return self.start(command, database, python, **more).ended()

    def python(self, database: str, *arguments: str, python: str = PYTHON) -> None:
        """Run Python with MLflow, and the database in its environment."""
        subprocess.run([python, *arguments], env=self.environment(database), check=True)

    def contents(self, database: str) -> dict[str, tuple[str, ...]]:
        """Return, for each table, its columns, how many rows it has and their checksum."""
        found = {}
        connection = self.connect(database)  # One for all tables: logging in takes its time.
        try:
            cursor = connection.cursor()
            cursor.execute(
                "SELECT relname FROM pg_class WHERE relkind = 'r'"
                " AND relnamespace = 'public'::regnamespace"
            )
            for (name,) in cursor.fetchall():
                columns = (
                    "SELECT string_agg(column_name || ' ' || data_type, ',' ORDER BY column_name)"  # noqa: S608
                    f" FROM information_schema.columns WHERE table_name = '{name}'"
                )
                rows = "SELECT count(*), md5(string_agg(t::text, ',' ORDER BY t::text))"
                cursor.execute(f"SELECT * FROM ({columns}) c, ({rows} FROM {name} t) r")  # noqa: S608
                found[name] = tuple(map(str, cursor.fetchone()))
        finally:
            connection.close()
        return found


def wait_until(what: Callable[[], bool], seconds: float = 30) -> None:
    """Return when `what` is true."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def multiply(postgres: Postgres, database: str) -> None:
    """Make many traces of the few that MLflow wrote: writing them with MLflow takes minutes."""
    keys = {"request_id", "trace_id", "span_id", "parent_span_id", "assessment_id"}
    (made,) = postgres.run(database, "SELECT count(*) FROM trace_info")[0]
    for table in ("trace_info", "trace_tags", "trace_request_metadata", "spans", "assessments"):
        columns = [
            name
            for (name,) in postgres.run(
                database,
                "SELECT column_name FROM information_schema.columns"  # noqa: S608
                " WHERE is_generated = 'NEVER'"
                f" AND table_name = '{table}'",
            )
        ]
        values = [f"{name} || '-' || copy" if name in keys else name for name in columns]
        postgres.run(
            database,
            f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(values)}"  # noqa: S608
            f" FROM {table}, generate_series(1, {TRACES // made - 1}) copy",
        )


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an archive of a server's folder with the database `old`: MLflow 3.16.1's, with data.

    It is made once, for all of the processes that the tests run in.
    """
    for python in (OLD_PYTHON, PYTHON):
        if not Path(python).exists():
            unprepared(python)
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    archive = shared / "prepared.tar"
    with open(shared / "prepared.lock", "w") as lock, contextlib.ExitStack() as stack:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.exists():
            server = Server(stack.enter_context(server_folder()))
            server.initialise()
            server.start()
            try:
                postgres = Postgres(server)
                postgres.run("postgres", "CREATE DATABASE old")
                postgres.python("old", str(HERE / "seed.py"), python=OLD_PYTHON)
                multiply(postgres, "old")
            finally:
                server.stop("fast")
            part = archive.with_suffix(".part")
            subprocess.run(["tar", "-C", str(server.folder), "-cf", str(part), "."], check=True)
            part.rename(archive)
    return archive


@contextlib.contextmanager
def server_folder() -> Iterator[Path]:
    """Give a folder for a server; not in pytest's own, which another user could not enter."""
    folder = Path(tempfile.mkdtemp(prefix="mlops-mlflow-postgres-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(prepared: Path) -> Iterator[Postgres]:
    """Start a throwaway Postgres, and stop it afterwards."""
    with (
        server_folder() as folder,
        subprocess.Popen([PYTHON, str(HERE / "forking.py")], stdin=subprocess.PIPE) as forking,
    ):
        subprocess.run(["tar", "-C", str(folder), "-xpf", str(prepared)], check=True)
        server = Server(folder)
        server.start()
        try:
            yield Postgres(server, forking)
        finally:
            server.stop("immediate")


@pytest.fixture(scope="session")
def at_head(postgres: Postgres) -> str:
    """Return a database at head, to be copied."""
    name = postgres.create()
    done = postgres.helper("wait", name)
    assert (done.status, done.state) == (0, "at_head"), done.stderr
    return name


@pytest.fixture(scope="session")
def behind(postgres: Postgres) -> str:
    """Return a database of MLflow 3.16.1, with data, to be copied."""
    return "old"
