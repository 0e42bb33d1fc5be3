# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Copy backups of MLflow's databases from their volume to an S3 bucket, and back.

    s3.py upload     copy what is not there yet, then delete there what is not to be kept
    s3.py download   copy $BACKUP_NAME, or the latest, to the volume, unless it is there

A backup is whole in the bucket when its manifest.json is: that is written last, and deleted first.

Exit status: 0 done; 1 it failed; 2 wrong use.

Environment, beside that of boto3 (AWS_…):
    BACKUP_S3_URL          s3://BUCKET or s3://BUCKET/FOLDER
    BACKUP_KEEP, BACKUP_KEEP_DAYS   a backup goes when it is neither among the newest so many nor
                           younger than so many days; one that is marked and the newest that is
                           known to be good never go
    BACKUP_NAME            which one to download, or latest
    BACKUP_DIR             where they are, /backups if not set
    BACKUP_S3_CA           a CA of your own, if there is such a file
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import hashlib
import importlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_NAME = re.compile(r"\d{8}T\d{6}Z")
_URL = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?")
_FILE = re.compile(r"[a-z]+\.(?:dump|json|sha256)|keep")
_CA = "/etc/mlops-mlflow/s3-ca/ca.crt"
MANIFEST = "manifest.json"
TESTED = "tested.json"
KEEP = "keep"

EXIT_OK, EXIT_FAILED, EXIT_USAGE = range(3)


class UsageError(Exception):
    """The environment is wrong."""


class BackupError(Exception):
    """What was asked for cannot be done; the message says why."""


def say(text: str) -> None:
    print(f"s3: {text}", flush=True)


def place(url: str) -> tuple[str, str]:
    """Return bucket and prefix of an s3:// address."""
    match = _URL.fullmatch(url)
    if match is None:
        raise UsageError("BACKUP_S3_URL must be s3://BUCKET or s3://BUCKET/FOLDER")
    folder = (match[2] or "").strip("/")
    return match[1], f"{folder}/" if folder else ""


def number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, str(default))
    if not text.isdecimal():
        raise UsageError(f"{name} must be a whole number, not {text!r}")
    return int(text)


def expired(
    names: list[str],
    marked: set[str],
    good: str,
    keep: int,
    days: int,
    now: datetime.datetime,
) -> list[str]:
    """Return the backups that need not be kept any longer; a pure function."""
    oldest = (now - datetime.timedelta(days=days)).strftime("%Y%m%dT%H%M%SZ")
    newest = sorted(names, reverse=True)
    return [name for name in newest[keep:] if name < oldest and name not in marked and name != good]


class Bucket:
    """The backups in a bucket, as names of files by name of backup."""

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix

    def files(self) -> dict[str, dict[str, int]]:
        """Return the size of each file of each backup, whole or not."""
        found: dict[str, dict[str, int]] = {}
        pages = self._client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix):
            for item in page.get("Contents") or []:
                name, _slash, file = item["Key"][len(self._prefix) :].partition("/")
                if _NAME.fullmatch(name) and _FILE.fullmatch(file):
                    found.setdefault(name, {})[file] = int(item["Size"])
        return found

    def _key(self, name: str, file: str) -> str:
        return f"{self._prefix}{name}/{file}"

    def put(self, name: str, path: Path) -> None:
        """Upload one file, in parts where it is large."""
        self._client.upload_file(str(path), self._bucket, self._key(name, path.name))

    def get(self, name: str, file: str, target: Path) -> None:
        self._client.download_file(self._bucket, self._key(name, file), str(target))

    def read(self, name: str, file: str) -> bytes:
        """Return a small file."""
        answer = self._client.get_object(Bucket=self._bucket, Key=self._key(name, file))
        data: bytes = answer["Body"].read()
        return data

    def delete(self, name: str, files: list[str]) -> None:
        """Delete a backup, first what makes it one."""
        for file in sorted(files, key=lambda one: one != MANIFEST):
            self._client.delete_object(Bucket=self._bucket, Key=self._key(name, file))


def on_volume(folder: Path) -> list[str]:
    """Return the backups that are whole on the volume, the newest first."""
    found = [
        path.name
        for path in folder.iterdir()
        if _NAME.fullmatch(path.name) and (path / MANIFEST).is_file()
    ]
    return sorted(found, reverse=True)


def copy_up(bucket: Bucket, folder: Path, name: str, there: Mapping[str, int]) -> bool:
    """Bring one backup in the bucket up to date; whether anything was copied."""
    files = [path for path in sorted((folder / name).iterdir()) if _FILE.fullmatch(path.name)]
    changed = False
    # The manifest last: until then, there is no such backup.
    for path in sorted(files, key=lambda one: one.name == MANIFEST):
        same = there.get(path.name) == path.stat().st_size
        if same and path.name == TESTED:
            same = bucket.read(name, TESTED) == path.read_bytes()
        if not same:
            bucket.put(name, path)
            changed = True
    return changed


def passed(text: bytes) -> bool:
    """Whether the result of a restore test is a good one."""
    try:
        return json.loads(text).get("ok") is True
    except (ValueError, AttributeError):
        return False


def is_good(bucket: Bucket, folder: Path, name: str, files: Mapping[str, int]) -> bool:
    """Whether a backup has passed its restore test, as the volume says, or else the bucket."""
    try:
        return passed((folder / name / TESTED).read_bytes())
    except OSError:
        return TESTED in files and passed(bucket.read(name, TESTED))


def has_failed(bucket: Bucket, folder: Path, name: str, files: Mapping[str, int]) -> bool:
    """Whether a backup was tested and did not pass."""
    tested = (folder / name / TESTED).exists() or TESTED in files
    return tested and not is_good(bucket, folder, name, files)


def upload(bucket: Bucket, folder: Path, environment: Mapping[str, str]) -> None:
    """Copy every backup that is not in the bucket, the newest first; then see to the old ones."""
    keep = number(environment, "BACKUP_KEEP", 14)
    days = number(environment, "BACKUP_KEEP_DAYS", 14)
    there = bucket.files()
    here = on_volume(folder)
    whole = {name for name in there if MANIFEST in there[name]}
    known = sorted(whole | set(here), reverse=True)
    good = next((one for one in known if is_good(bucket, folder, one, there.get(one, {}))), "")
    marked = {
        name for name in known if KEEP in there.get(name, {}) or (folder / name / KEEP).exists()
    }
    now = datetime.datetime.now(datetime.UTC)
    gone = expired(known, marked, good, keep, days, now)
    copied = 0
    for name in here:
        # The volume may still have what need not be kept. One that is being deleted there need not
        # be copied either.
        with contextlib.suppress(FileNotFoundError):
            if name not in gone and copy_up(bucket, folder, name, there.get(name, {})):
                say(f"copied {name}")
                copied += 1
    deleted = [name for name in gone if name in there]
    for name in deleted:
        bucket.delete(name, list(there[name]))
        say(f"deleted {name}, which is no longer to be kept")
    say(f"{copied} copied, {len(deleted)} deleted, {len(known) - len(gone)} in the bucket")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of backup.sh, which removes what it finds half done under it."""
    with (folder / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def check(folder: Path) -> None:
    """Raise BackupError unless the files are those that the manifest names."""
    manifest = (folder / MANIFEST).read_bytes()
    said = (folder / "manifest.sha256").read_text(encoding="utf-8").split()
    if not said or said[0] != hashlib.sha256(manifest).hexdigest():
        raise BackupError("its manifest is not the one that was written")
    for database in json.loads(manifest)["databases"]:
        digest = hashlib.sha256()
        with (folder / Path(database["file"]).name).open("rb") as handle:
            while part := handle.read(1 << 20):
                digest.update(part)
        if digest.hexdigest() != database["sha256"]:
            raise BackupError(f"{database['file']} is not what its manifest says")


def sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fetch(bucket: Bucket, folder: Path, name: str, files: Mapping[str, int]) -> None:
    """Copy one backup to the volume: whole, or not at all."""
    needed, free = sum(files.values()), shutil.disk_usage(folder).free
    if free < needed + (16 << 20):
        raise BackupError(
            f"the volume of the backups has {free >> 20} MiB left, and {name} takes "
            f"{needed >> 20} MiB"
        )
    partial = folder / f".taking-{name}"
    with locked(folder):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        try:
            for file in files:
                bucket.get(name, file, partial / file)
                sync(partial / file)
            try:
                check(partial)
            except (KeyError, TypeError, ValueError, OSError) as error:
                raise BackupError(f"{name} in the bucket is damaged: {error}") from None
            except BackupError as error:
                raise BackupError(f"{name} in the bucket is damaged: {error}") from None
            sync(partial)
            partial.rename(folder / name)
            sync(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    say(f"copied {name} to the volume, {needed} bytes")


def download(bucket: Bucket, folder: Path, wanted: str) -> None:
    """Have a backup on the volume, from the bucket if it is not there."""
    here = on_volume(folder)
    if wanted in here:
        say(f"{wanted} is on the volume")
        return
    there = {name: files for name, files in bucket.files().items() if MANIFEST in files}
    if wanted == "latest":
        for name in sorted({*here, *there}, reverse=True):
            if not has_failed(bucket, folder, name, there.get(name, {})):
                wanted = name
                break
        else:
            raise BackupError("there is no backup, neither on the volume nor in the bucket")
        if wanted in here:
            say(f"the latest is on the volume: {wanted}")
            return
    if wanted not in there:
        raise BackupError(f"there is no backup {wanted}, neither on the volume nor in the bucket")
    fetch(bucket, folder, wanted, there[wanted])


def connect(environment: Mapping[str, str]) -> Bucket:
    """Return the bucket, with boto3 of the image."""
    # In the image, and not where this is checked.
    boto3 = importlib.import_module("boto3")
    config_class = importlib.import_module("botocore.config").Config
    bucket, prefix = place(environment.get("BACKUP_S3_URL", ""))
    ca = environment.get("BACKUP_S3_CA", _CA)
    config = config_class(
        connect_timeout=10,
        read_timeout=60,
        retries={"mode": "standard", "total_max_attempts": 8},
        # Stores that are not AWS do not know the newer checksums.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    more = {"verify": ca} if Path(ca).is_file() else {}
    return Bucket(boto3.client("s3", config=config, **more), bucket, prefix)


def main(arguments: list[str], environment: Mapping[str, str]) -> int:
    """Do it, and say what came of it."""
    folder = Path(environment.get("BACKUP_DIR", "/backups"))
    command = arguments[0] if len(arguments) == 1 else ""
    wanted = environment.get("BACKUP_NAME", "")
    try:
        if command not in ("upload", "download"):
            raise UsageError("usage: s3.py upload|download")
        if command == "download" and wanted != "latest" and not _NAME.fullmatch(wanted):
            raise UsageError("BACKUP_NAME must be latest or a backup's name")
        bucket = connect(environment)
        if command == "upload":
            upload(bucket, folder, environment)
        else:
            download(bucket, folder, wanted)
    except UsageError as error:
        print(f"s3: {error}", file=sys.stderr, flush=True)
        return EXIT_USAGE
    except Exception as error:  # whatever it is, one line says it
        text = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        print(f"s3: {text.removeprefix('BackupError: ')}", file=sys.stderr, flush=True)
        return EXIT_FAILED
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
