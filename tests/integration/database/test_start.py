"""How the bundled Postgres starts, killed at any moment: with the script of kustomize/base."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest
from ansible_collections.mlops.mlflow.tests.integration.schema_helper.conftest import (
    PASSWORD,
    USER,
    Server,
    free_port,
    kill_all,
    server_folder,
    tool,
    unprivileged,
    wait_until,
)

ROOT = Path(__file__).parents[3]
START = ROOT / "kustomize/base/postgres-start.sh"
# What it is mounted with.
BESIDE = ("pg_hba.conf", "postgres-owner.sql", "postgres-roles.sql")


class Pod:
    """What is started in the database's pod, on a volume."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.volume = folder / "volume"
        programs, run = folder / "bin", folder / "run"
        for made in (self.volume, programs, run):
            made.mkdir()
            shutil.chown(made, unprivileged() or os.getuid())
        # As in the image, the root of a volume is not empty.
        (self.volume / "lost+found").mkdir()
        self.password = folder / "password"
        self.password.write_text(PASSWORD, encoding="utf-8")
        for name in (START.name, *BESIDE):
            shutil.copy(START.parent / name, programs)
            (programs / name).chmod(0o755)
        self.programs = programs
        self.arguments: tuple[str, ...] = ()
        self.environment = {
            "PATH": f"{programs}:{Path(tool('initdb')).parent}:{os.environ['PATH']}",
            "LANG": "C.UTF-8",
            "POSTGRES_DB": "mlflow",
            "POSTGRES_USER": "postgres",
            "DATABASE_USER": USER,
            "POSTGRES_RUN": str(run),
            "POSTGRES_PASSWORD_FILE": str(self.password),
            "POSTGRES_INITDB_ARGS": "--data-checksums --no-sync",
            "PGDATA": str(self.volume / "pgdata"),
        }

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [
                *("bash", str(self.programs / START.name), "postgres"),
                *("-c", "listen_addresses=127.0.0.1", "-c", f"port={self.port}"),
                *("-c", "unix_socket_directories=", "-c", "fsync=off"),
                *self.arguments,
            ],
            env=self.environment,
            user=unprivileged(),
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def answers(self) -> bool:
        with contextlib.suppress(psycopg2.OperationalError):
            where = {"host": "127.0.0.1", "port": self.port, "dbname": "mlflow", "user": USER}
            psycopg2.connect(password=PASSWORD, **where).close()
            return True
        return False


@pytest.fixture
def pod() -> Iterator[Pod]:
    with server_folder() as folder:
        folder.chmod(0o755)
        yield Pod(folder)


def end(process: subprocess.Popen[str], number: signal.Signals) -> str:
    if number is signal.SIGKILL:
        kill_all(process.pid)
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
    return process.communicate(timeout=60)[1]


def test_a_first_start_that_is_killed_anywhere_is_done_again(pod: Pod) -> None:
    data = Path(pod.environment["PGDATA"])
    fresh = data.with_name(f"{data.name}.initialising")
    seen: set[str] = set()
    # Before initdb has written anything; in it; when its cluster looks whole; with all of it there.
    marks: dict[str, Callable[[], bool]] = {
        "begun": fresh.exists,
        "half": (fresh / "PG_VERSION").exists,
        "initialised": lambda: (
            "scram" in (fresh / "pg_hba.conf").read_text()
            if (fresh / "pg_hba.conf").exists()
            else False
        ),
        "database": (fresh / "postmaster.pid").exists,
    }
    for mark, reached in marks.items():
        process = pod.start()
        end_of_it = time.monotonic() + 60
        while not reached() and not data.exists() and process.poll() is None:
            assert time.monotonic() < end_of_it
        if not data.exists():
            seen.add(mark)
        end(process, signal.SIGKILL)
    assert {"begun", "half"} <= seen
    process = pod.start()
    try:
        wait_until(lambda: pod.answers() or process.poll() is not None, 60)
        assert pod.answers()
    finally:
        errors = end(process, signal.SIGTERM)
    assert PASSWORD not in errors
    assert not fresh.exists()
    # Also over loopback nobody gets in without the password: a port-forward comes from there.
    process = pod.start()
    try:
        wait_until(lambda: pod.answers() or process.poll() is not None, 60)
        with pytest.raises(psycopg2.OperationalError, match="no password supplied"):
            psycopg2.connect(host="127.0.0.1", port=pod.port, dbname="mlflow", user=USER)
    finally:
        end(process, signal.SIGTERM)


def test_what_the_arguments_say_otherwise_holds(pod: Pod) -> None:
    """An overlay brings a certificate of its own, say."""
    own = pod.programs / "own.conf"
    own.write_text("local all all trust\nhost all all 127.0.0.1/32 trust\n", encoding="utf-8")
    own.chmod(0o644)
    pod.arguments = ("-c", f"hba_file={own}", "-c", "ssl=off")
    process = pod.start()
    try:
        wait_until(lambda: pod.answers() or process.poll() is not None, 60)
        where = {"host": "127.0.0.1", "port": pod.port, "dbname": "mlflow", "user": USER}
        session = psycopg2.connect(**where)
        cursor = session.cursor()
        cursor.execute("SHOW ssl")
        assert cursor.fetchone() == ("off",)
        session.close()
    finally:
        end(process, signal.SIGTERM)


def test_a_volume_of_another_major_version_is_left_alone(pod: Pod) -> None:
    server = Server(pod.volume.parent)
    server.data = Path(pod.environment["PGDATA"])
    server.initialise()
    version = server.data / "PG_VERSION"
    own = version.read_text().strip()
    version.write_text("9\n")
    before = sorted(path.name for path in server.data.rglob("*"))
    process = pod.start()
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert errors.strip().endswith(
        f"the volume is of Postgres 9 and this image is Postgres {own}; set mlflow_postgres_image "
        "to an image of Postgres 9"
    )
    assert sorted(path.name for path in server.data.rglob("*")) == before


def started(pod: Pod, until: float = 60) -> str:
    """Start it, see that it answers, and end it; returns what it said."""
    process = pod.start()
    try:
        wait_until(lambda: pod.answers() or process.poll() is not None, until)
        assert pod.answers()
    finally:
        errors = end(process, signal.SIGTERM)
    return errors


class Versions:
    """The folders of databases beside each other, of which one can be opened here.

    Another version's is a stand-in: nothing here opens it, it is only moved.
    """

    def __init__(self, pod: Pod) -> None:
        self.data = Path(pod.environment["PGDATA"])
        server = Server(pod.volume.parent)
        server.data = self.data
        server.initialise()
        self.own = (self.data / "PG_VERSION").read_text().strip()
        self.uid = unprivileged() or os.getuid()
        self.note = self.data.with_name("pgdata.hand-over")

    def at(self, end: str) -> Path:
        return self.data.with_name(f"pgdata.{end}")

    def other(self, folder: Path, version: str) -> None:
        folder.mkdir()
        for name, text in (("PG_VERSION", version), ("precious", "data")):
            (folder / name).write_text(f"{text}\n", encoding="utf-8")
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, self.uid)

    def hand_over(self, note: str) -> None:
        self.note.write_text(f"{note}\n", encoding="utf-8")

    def whole(self, end: str) -> bool:
        return (self.at(end) / "precious").exists()


@pytest.fixture
def versions(pod: Pod) -> Versions:
    return Versions(pod)


@pytest.mark.parametrize("cut_off", [False, True], ids=["whole", "cut off in between"])
def test_the_next_version_begins_empty_and_the_old_one_is_kept(
    pod: Pod, versions: Versions, cut_off: bool
) -> None:
    shutil.rmtree(versions.data)
    versions.other(versions.at("9") if cut_off else versions.data, "9")
    versions.hand_over(f"9 {versions.own} empty 20261130T000000Z")
    errors = started(pod)
    assert versions.whole("9")
    assert ("is kept as" in errors) is not cut_off
    # And so at each later start, with the note or without it.
    started(pod)
    versions.note.unlink()
    started(pod)
    assert versions.whole("9")


@pytest.mark.parametrize("cut_off", ["", "in dropping", "after dropping"])
def test_while_the_note_is_there_the_old_version_has_its_database_again(
    pod: Pod, versions: Versions, cut_off: str
) -> None:
    versions.data.rename(versions.at(versions.own))
    if cut_off != "after dropping":
        versions.other(versions.at("dropping") if cut_off else versions.data, "99")
    versions.hand_over(f"{versions.own} 99 empty 20261130T000000Z")
    assert "in its place again" in started(pod)
    assert not versions.at(versions.own).exists()
    # Which calls it off: the other version does not begin empty when it comes by accident.
    assert not versions.note.exists()
    # What began empty was never written to.
    assert not versions.at("99").exists()
    assert not versions.at("dropping").exists()


def test_the_old_version_that_starts_once_more_calls_it_off(pod: Pod, versions: Versions) -> None:
    versions.hand_over(f"{versions.own} 99 empty 20261130T000000Z")
    started(pod)
    assert not versions.note.exists()


@pytest.mark.parametrize("cut_off", [False, True], ids=["whole", "cut off in between"])
def test_the_way_back_takes_what_was_kept_and_keeps_the_other(
    pod: Pod, versions: Versions, cut_off: bool
) -> None:
    versions.data.rename(versions.at(versions.own))
    versions.other(versions.at("99") if cut_off else versions.data, "99")
    versions.hand_over(f"99 {versions.own} kept")
    assert "in its place again" in started(pod)
    assert versions.whole("99")


def test_a_version_that_the_note_does_not_name_is_refused(pod: Pod, versions: Versions) -> None:
    shutil.rmtree(versions.data)
    versions.other(versions.data, "9")
    versions.hand_over("9 99 empty")
    process = pod.start()
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert "the volume is of Postgres 9" in errors
    assert (versions.data / "precious").exists()


def test_what_an_earlier_change_kept_is_not_lost_to_the_next(pod: Pod, versions: Versions) -> None:
    shutil.rmtree(versions.data)
    versions.other(versions.data, "9")
    versions.other(versions.at("9"), "9")
    versions.hand_over(f"9 {versions.own} empty")
    started(pod)
    assert versions.whole("9")
    assert len(list(versions.data.parent.glob("pgdata.9-*/precious"))) == 1
