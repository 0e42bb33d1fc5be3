"""The copies in a bucket, against a real S3 server: all of a backup is there, or none of it."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.mlops.mlflow.tests.integration.schema_helper.conftest import (
    CACHE,
    free_port,
    unprepared,
)

SCRIPT = Path(__file__).parents[3] / "kustomize/components/backup-s3/s3.py"
PYTHON = CACHE / "test-mlflow-3.17.2/current/bin/python"
SERVER = CACHE / "bin/versitygw"
OLD, MIDDLE, NEW = "20200101T000000Z", "20200102T000000Z", "20200103T000000Z"


class Store:
    """An S3 server with one bucket, which is a folder, and a volume beside it."""

    def __init__(self, folder: Path) -> None:
        for program in (PYTHON, SERVER):
            if not program.exists():
                unprepared(str(program))
        self.bucket = folder / "data/backups"
        self.bucket.mkdir(parents=True)
        self.metadata = folder / "metadata"
        self.metadata.mkdir()
        self.volume = folder / "volume"
        self.volume.mkdir()
        self.port = free_port()
        self.secret = secrets.token_hex(16)
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "BACKUP_DIR": str(self.volume),
            "BACKUP_S3_URL": "s3://backups/mlflow",
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{self.port}",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "backup",
            "AWS_SECRET_ACCESS_KEY": self.secret,
        }
        self.process = subprocess.Popen(
            [str(SERVER), "posix", str(folder / "data")],
            env={
                "PATH": os.environ["PATH"],
                "VGW_PORT": f"127.0.0.1:{self.port}",
                "VGW_META_SIDECAR": str(self.metadata),
                "ROOT_ACCESS_KEY": "backup",
                "ROOT_SECRET_KEY": self.secret,
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert time.monotonic() < end
                assert self.process.poll() is None
                time.sleep(0.1)

    def run(self, command: str, **more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(PYTHON), str(SCRIPT), command],
            env={**self.environment, **more},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert self.secret not in done.stdout + done.stderr
        return done

    def good(self, command: str, **more: str) -> str:
        done = self.run(command, **more)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def backup(self, name: str, tested: bool | None = None, marked: bool = False) -> Path:
        """Put a backup on the volume, as backup.sh leaves one."""
        folder = self.volume / name
        folder.mkdir()
        dump = name.encode() * 50_000
        (folder / "tracking.dump").write_bytes(dump)
        digest = hashlib.sha256(dump).hexdigest()
        manifest = {"name": name, "databases": [{"file": "tracking.dump", "sha256": digest}]}
        text = json.dumps(manifest)
        (folder / "manifest.json").write_text(text)
        said = hashlib.sha256(text.encode()).hexdigest()
        (folder / "manifest.sha256").write_text(f"{said}  manifest.json\n")
        if tested is not None:
            (folder / "tested.json").write_text(json.dumps({"ok": tested}))
        if marked:
            (folder / "keep").touch()
        return folder

    def there(self, name: str) -> set[str]:
        """Return the files of a backup in the bucket."""
        folder = self.bucket / "mlflow" / name
        return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path)
    yield made
    made.process.terminate()
    made.process.wait(timeout=20)


FILES = {"tracking.dump", "manifest.json", "manifest.sha256"}
ALL = {"BACKUP_KEEP": "14"}


def test_what_is_whole_is_copied_once(store: Store) -> None:
    store.backup(OLD)
    store.backup(NEW, tested=True, marked=True)
    (store.volume / f".taking-{MIDDLE}").mkdir()
    (store.volume / MIDDLE).mkdir()
    (store.volume / MIDDLE / "tracking.dump").write_bytes(b"half")
    assert "2 copied, 0 deleted, 2 in the bucket" in store.good("upload", **ALL)
    assert store.there(OLD) == FILES
    assert store.there(NEW) == FILES | {"tested.json", "keep"}
    assert store.there(MIDDLE) == set()
    assert "0 copied, 0 deleted, 2 in the bucket" in store.good("upload", **ALL)
    # The result of a test comes later than the backup, and may change.
    (store.volume / OLD / "tested.json").write_text('{"ok": true }')
    assert "1 copied" in store.good("upload", **ALL)
    (store.volume / OLD / "tested.json").write_text('{"ok": false}')
    assert "1 copied" in store.good("upload", **ALL)


def test_one_that_was_cut_off_is_none_and_is_finished(store: Store) -> None:
    store.backup(OLD)
    store.good("upload", **ALL)
    (store.bucket / "mlflow" / OLD / "manifest.json").unlink()
    shutil.rmtree(store.volume / OLD)
    done = store.run("download", BACKUP_NAME=OLD)
    assert done.returncode == 1
    assert f"there is no backup {OLD}" in done.stderr
    store.backup(OLD)
    assert "1 copied" in store.good("upload", **ALL)
    assert store.there(OLD) == FILES


def test_it_comes_back_as_it_was(store: Store) -> None:
    store.backup(OLD)
    wanted = store.backup(NEW, tested=True)
    before = {path.name: path.read_bytes() for path in wanted.iterdir()}
    store.good("upload", **ALL)
    shutil.rmtree(store.volume)
    store.volume.mkdir()
    assert f"copied {NEW} to the volume" in store.good("download", BACKUP_NAME="latest")
    assert {path.name: path.read_bytes() for path in wanted.iterdir()} == before
    assert "is on the volume" in store.good("download", BACKUP_NAME="latest")
    store.good("download", BACKUP_NAME=OLD)
    assert {path.name for path in (store.volume / OLD).iterdir()} == FILES
    assert not list(store.volume.glob(".taking-*"))


def test_the_latest_is_one_that_has_not_failed_its_test(store: Store) -> None:
    store.backup(OLD)
    store.backup(NEW, tested=False)
    store.good("upload", **ALL)
    shutil.rmtree(store.volume)
    store.volume.mkdir()
    assert f"copied {OLD} to the volume" in store.good("download", BACKUP_NAME="latest")


@pytest.mark.parametrize("file", sorted(FILES))
def test_a_damaged_one_does_not_become_a_backup(file: str, store: Store) -> None:
    store.backup(OLD)
    store.good("upload", **ALL)
    shutil.rmtree(store.volume / OLD)
    damaged = store.bucket / "mlflow" / OLD / file
    data = damaged.read_bytes()
    damaged.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    done = store.run("download", BACKUP_NAME=OLD)
    assert done.returncode == 1
    assert f"{OLD} in the bucket is damaged" in done.stderr
    assert [path.name for path in store.volume.iterdir()] == [".lock"]


def test_what_need_not_be_kept_goes(store: Store) -> None:
    names = [f"202001{day:02}T000000Z" for day in range(1, 7)]
    first, marked, good, failed, *newest = names
    store.backup(first, tested=True)
    store.backup(marked, marked=True)
    store.backup(good, tested=True)
    for name in (failed, newest[0]):
        store.backup(name, tested=False)
    store.backup(newest[1])
    # Young ones stay, whatever their number.
    assert "6 in the bucket" in store.good("upload", BACKUP_KEEP="2", BACKUP_KEEP_DAYS="99999")
    output = store.good("upload", BACKUP_KEEP="2", BACKUP_KEEP_DAYS="14")
    assert "0 copied, 2 deleted, 4 in the bucket" in output
    assert not store.there(first)
    assert not store.there(failed)
    for name in (marked, good, *newest):
        assert store.there(name)
    # The volume still has the two: they do not come and go.
    assert "0 copied, 0 deleted, 4 in the" in store.good(
        "upload", BACKUP_KEEP="2", BACKUP_KEEP_DAYS="14"
    )


def test_who_is_not_let_in_is_told(store: Store) -> None:
    store.backup(OLD)
    done = store.run("upload", AWS_SECRET_ACCESS_KEY="wrong")
    assert done.returncode == 1
    assert done.stderr.startswith("s3: ClientError: ")
    done = store.run("upload", BACKUP_S3_URL="s3://nothing")
    assert done.returncode == 1
    assert "NoSuchBucket" in done.stderr


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"BACKUP_S3_URL": "backups"}, "BACKUP_S3_URL must be s3://BUCKET"),
        ({"BACKUP_NAME": "../x"}, "BACKUP_NAME must be latest or a backup's name"),
    ],
)
def test_wrong_use(more: dict[str, str], words: str, store: Store) -> None:
    done = store.run("download", **{"BACKUP_NAME": "latest", **more})
    assert done.returncode == 2
    assert words in done.stderr
