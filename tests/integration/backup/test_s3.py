"""The copies in a bucket, against a real S3 server: all of a backup is there, or none of it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
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
            "BACKUP_RELEASE": "team-a",
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

    def new_volume(self) -> None:
        """Have another, empty volume: that of another release or cluster, or after a disaster."""
        self.volume = self.volume.with_name(f"{self.volume.name}-next")
        self.volume.mkdir()
        self.environment["BACKUP_DIR"] = str(self.volume)

    def backup(
        self,
        name: str,
        tested: bool | None = None,
        marked: bool = False,
        release: str = "team-a",
        runs: int = 100,
    ) -> Path:
        """Put a backup on the volume, as backup.sh leaves one."""
        folder = self.volume / name
        folder.mkdir()
        dump = name.encode() * 50_000
        (folder / "tracking.dump").write_bytes(dump)
        digest = hashlib.sha256(dump).hexdigest()
        database = {
            "role": "tracking",
            "file": "tracking.dump",
            "sha256": digest,
            "rows": {"runs": runs},
        }
        manifest = {"name": name, "release": release, "databases": [database]}
        text = json.dumps(manifest)
        (folder / "manifest.json").write_text(text)
        said = hashlib.sha256(text.encode()).hexdigest()
        (folder / "manifest.sha256").write_text(f"{said}  manifest.json\n")
        if tested is not None:
            (folder / "tested.json").write_text(json.dumps({"ok": tested}))
        if marked:
            (folder / "keep").touch()
        return folder

    def place(self, release: str = "team-a") -> Path:
        """Return the folder of the bucket that this volume's backups go to."""
        origin = (self.volume / ".origin").read_text().strip()
        return self.bucket / "mlflow" / release / origin

    def there(self, name: str) -> set[str]:
        """Return the files of a backup in the bucket, of this volume's own."""
        folder = self.place() / name
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
    (store.place() / OLD / "manifest.json").unlink()
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
    for path in store.volume.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
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
    shutil.rmtree(store.volume / OLD)
    shutil.rmtree(store.volume / NEW)
    assert f"copied {OLD} to the volume" in store.good("download", BACKUP_NAME="latest")


def key_folder(store: Store, **keys: str) -> dict[str, str]:
    """Return the environment of a Job whose Secret has these keys."""
    folder = store.volume.with_name(f"keys-{secrets.token_hex(4)}")
    folder.mkdir()
    for name, text in keys.items():
        (folder / name.replace("_", "-")).write_text(text)
    return {"BACKUP_S3_KEYS": str(folder)}


def new_key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode() + "\n"


def test_with_a_key_nothing_leaves_that_others_can_read(store: Store) -> None:
    wanted = store.backup(NEW, tested=True, marked=True)
    # More than one part, and a last one that is full.
    (wanted / "tracking.dump").write_bytes(b"secret" * (1 << 20))
    digest = hashlib.sha256((wanted / "tracking.dump").read_bytes()).hexdigest()
    manifest = json.loads((wanted / "manifest.json").read_text())
    manifest["databases"][0]["sha256"] = digest
    text = json.dumps(manifest)
    (wanted / "manifest.json").write_text(text)
    said = hashlib.sha256(text.encode()).hexdigest()
    (wanted / "manifest.sha256").write_text(f"{said}  manifest.json\n")
    before = {path.name: path.read_bytes() for path in wanted.iterdir()}
    first = new_key()
    old = key_folder(store, encryption_key=first)
    # What was there in plain text is replaced.
    assert "1 copied" in store.good("upload", **ALL)
    assert "1 copied" in store.good("upload", **ALL, **old)
    assert "0 copied, 0 deleted, 1 in the bucket" in store.good("upload", **ALL, **old)
    for path in (store.place() / NEW).iterdir():
        assert b"secret" not in path.read_bytes()
        assert b"team-a" not in path.read_bytes()
    shutil.rmtree(wanted)
    # Without the key it does not come back, and it is asked for by its fingerprint.
    other = key_folder(store, encryption_key=new_key())
    for keys in ({}, other):
        done = store.run("download", BACKUP_NAME=NEW, **keys)
        assert done.returncode == 1
        assert re.search("is encrypted with the key '[0-9a-f]{16}', which is not in", done.stderr)
        assert not wanted.exists()
    # An older key reads on.
    both = key_folder(store, encryption_key=new_key(), encryption_key_2025=first)
    store.good("download", BACKUP_NAME=NEW, **both)
    assert {path.name: path.read_bytes() for path in wanted.iterdir()} == before
    store.good("download", BACKUP_NAME="latest", **both)


@pytest.mark.parametrize("how", ["cut", "changed", "swapped"])
def test_what_was_encrypted_cannot_be_changed(how: str, store: Store) -> None:
    wanted = store.backup(NEW)
    (wanted / "tracking.dump").write_bytes(secrets.token_bytes(3 << 20))
    keys = key_folder(store, encryption_key=new_key())
    store.good("upload", **ALL, **keys)
    shutil.rmtree(wanted)
    path = store.place() / NEW / "tracking.dump"
    data = path.read_bytes()
    part, begin = (1 << 20) + 16, 25 + 32
    first, second, rest = data[begin:][:part], data[begin + part :][:part], data[begin + 2 * part :]
    path.write_bytes({
        "cut": data[: begin + 2 * part],
        "changed": data[:-1] + bytes([data[-1] ^ 1]),
        "swapped": data[:begin] + second + first + rest,
    }[how])  # fmt: skip
    done = store.run("download", BACKUP_NAME=NEW, **keys)
    assert done.returncode == 1
    assert "what is in the bucket is not what was encrypted" in done.stderr
    assert not wanted.exists()


@pytest.mark.parametrize("text", ["short", "", "bm90IDMyIGJ5dGVz"])
def test_a_key_that_is_none_is_refused(text: str, store: Store) -> None:
    done = store.run("upload", **key_folder(store, encryption_key=text))
    assert done.returncode == 2
    assert "encryption-key in the Secret mlflow-backup-s3 must be 32 bytes in base64" in done.stderr
    assert not text or text not in done.stderr


@pytest.mark.parametrize("file", sorted(FILES))
def test_a_damaged_one_does_not_become_a_backup(file: str, store: Store) -> None:
    store.backup(OLD)
    store.good("upload", **ALL)
    shutil.rmtree(store.volume / OLD)
    damaged = store.place() / OLD / file
    data = damaged.read_bytes()
    damaged.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    done = store.run("download", BACKUP_NAME=OLD)
    assert done.returncode == 1
    assert f"{OLD} in the bucket is damaged" in done.stderr
    assert {path.name for path in store.volume.iterdir()} == {".lock", ".origin"}


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


def test_two_releases_in_one_bucket_leave_each_other_alone(store: Store) -> None:
    names = [f"202001{day:02}T000000Z" for day in range(1, 5)]
    for name in names:
        store.backup(name, tested=True)
    store.good("upload", **ALL)
    first = store.place()
    store.new_volume()
    other = {"BACKUP_RELEASE": "team-b", "BACKUP_KEEP": "1", "BACKUP_KEEP_DAYS": "1"}
    # Of the same name and size, and not the same.
    (store.backup(names[0], release="team-b", runs=200) / "tracking.dump").write_bytes(
        b"b" * 800_000
    )
    assert "1 copied, 0 deleted, 1 in the bucket" in store.good("upload", **other)
    assert sorted(path.name for path in first.iterdir()) == names
    assert (store.place("team-b") / names[0] / "tracking.dump").read_bytes()[:1] == b"b"


def test_the_same_release_on_another_cluster_has_a_place_of_its_own(store: Store) -> None:
    store.backup(OLD)
    store.good("upload", **ALL)
    first = store.place()
    store.new_volume()
    store.backup(NEW)
    store.good("upload", BACKUP_KEEP="1", BACKUP_KEEP_DAYS="1")
    assert first != store.place()
    assert (first / OLD / "manifest.json").exists()


def test_only_what_its_own_manifest_says_is_ours_is_deleted(store: Store) -> None:
    store.backup(OLD, release="team-b")
    store.backup(NEW)
    store.good("upload", **ALL)
    shutil.rmtree(store.volume / OLD)
    output = store.good("upload", BACKUP_KEEP="1", BACKUP_KEEP_DAYS="1")
    assert f"kept {OLD}: its manifest does not say that it is of team-a" in output
    assert store.there(OLD)


def test_another_backup_of_the_same_name_is_not_written_over(store: Store) -> None:
    store.backup(OLD, runs=100)
    store.good("upload", **ALL)
    before = (store.place() / OLD / "manifest.json").read_bytes()
    shutil.rmtree(store.volume / OLD)
    store.backup(OLD, runs=200)
    store.backup(NEW)
    done = store.run("upload", **ALL)
    assert done.returncode == 1
    assert f"there is another backup {OLD}" in done.stderr
    assert (store.place() / OLD / "manifest.json").read_bytes() == before
    # That does not keep the others from being copied.
    assert store.there(NEW) == FILES


def test_the_latest_is_never_somebody_else_s(store: Store) -> None:
    store.backup(NEW)
    store.good("upload", **ALL)
    store.new_volume()
    done = store.run("download", BACKUP_NAME="latest")
    assert done.returncode == 1
    assert f"there are those of others: {NEW} at team-a/" in done.stderr
    assert "Name the one that you want" in done.stderr
    # Named, it may be.
    assert f"copied {NEW} to the volume" in store.good("download", BACKUP_NAME=NEW)


def test_the_latest_is_not_the_empty_database_after_a_disaster(store: Store) -> None:
    store.backup(OLD, runs=9000)
    store.good("upload", **ALL)
    store.new_volume()
    store.backup(NEW, runs=1)
    store.good("upload", **ALL)
    shutil.rmtree(store.volume / NEW)
    done = store.run("download", BACKUP_NAME="latest")
    assert done.returncode == 1
    assert f"{NEW} is the latest and holds 1 experiments" in done.stderr
    assert f"{OLD} holds 9000: name the backup that you want" in done.stderr
    store.good("download", BACKUP_NAME=OLD)


def test_a_name_that_two_have_is_not_guessed(store: Store) -> None:
    store.backup(OLD, runs=1)
    store.good("upload", **ALL)
    store.new_volume()
    store.backup(OLD, release="team-b", runs=2)
    store.good("upload", BACKUP_RELEASE="team-b", **ALL)
    store.new_volume()
    done = store.run("download", BACKUP_NAME=OLD, BACKUP_RELEASE="team-c")
    assert done.returncode == 1
    assert f"{OLD} is in the bucket more than once" in done.stderr
    assert not (store.volume / OLD).exists()


def test_one_of_before_there_were_places_is_found_by_its_name(store: Store) -> None:
    store.backup(OLD)
    store.good("upload", **ALL)
    (store.place() / OLD).rename(store.bucket / "mlflow" / OLD)
    shutil.rmtree(store.volume / OLD)
    store.good("download", BACKUP_NAME=OLD)
    assert {path.name for path in (store.volume / OLD).iterdir()} == FILES
    # And nothing deletes it.
    store.backup(NEW)
    store.good("upload", BACKUP_KEEP="1", BACKUP_KEEP_DAYS="1")
    assert (store.bucket / "mlflow" / OLD / "manifest.json").exists()


def test_one_that_is_being_restored_is_kept(store: Store) -> None:
    store.backup(OLD)
    store.backup(NEW)
    (store.volume / OLD / "restoring").touch()
    keep = {"BACKUP_KEEP": "1", "BACKUP_KEEP_DAYS": "1"}
    assert "2 copied, 0 deleted" in store.good("upload", **keep)
    assert store.there(OLD) == FILES
    os.utime(store.volume / OLD / "restoring", (0, 0))
    assert "0 copied, 1 deleted" in store.good("upload", **keep)
