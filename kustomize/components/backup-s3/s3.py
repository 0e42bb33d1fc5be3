# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Copy backups of MLflow's databases from their volume to an S3 bucket, and back.

    s3.py upload     copy what is not there yet, then delete there what is not to be kept
    s3.py download   copy $BACKUP_NAME, or the latest, to the volume, unless it is there

Many releases may share a bucket: a backup is at RELEASE/ORIGIN/NAME/ in it. ORIGIN is drawn for
each volume of backups, so that a release of the same namespace on another cluster, or after a
disaster, has a place of its own. Nothing is ever deleted or written over in another's place.

A backup is whole in the bucket when its manifest.json is: that is written last, and deleted first.

With a key, $BACKUP_S3_KEYS/encryption-key, everything is encrypted before it leaves. Other files of
that folder named encryption-key… are older keys, to read with.

Exit status: 0 done; 1 it failed; 2 wrong use.

Environment, beside that of boto3 (AWS_…):
    BACKUP_S3_URL          s3://BUCKET or s3://BUCKET/FOLDER
    BACKUP_RELEASE         whose backups they are: the release's namespace
    BACKUP_KEEP, BACKUP_KEEP_DAYS   a backup goes when it is neither among the newest so many nor
                           younger than so many days; one that is marked and the newest that is
                           known to be good never go
    BACKUP_NAME            which one to download: its name, whoever's it is, or latest, which is
                           this volume's own
    BACKUP_DIR             where they are, /backups if not set
    BACKUP_S3_CA           a CA of your own, if there is such a file
    BACKUP_S3_KEYS         the folder of the keys, if there is one
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import datetime
import fcntl
import hashlib
import importlib
import io
import json
import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

_NAME = re.compile(r"\d{8}T\d{6}Z")
_URL = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?")
_FILE = re.compile(r"[a-z]+\.(?:dump|json|sha256)|keep")
_RELEASE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_ORIGIN = re.compile(r"[0-9a-f]{12}")
# Rows that people put into MLflow, and by which factor the latest may hold less than one before.
_CONTENT = ("experiments", "runs", "registered_models", "trace_info", "logged_models")
_SHRUNK = 10
# For how long a backup that a restore has asked for is not deleted (seconds).
_RESTORING = 86400.0
_CA = "/etc/mlops-mlflow/s3-ca/ca.crt"
_KEYS = "/etc/mlops-mlflow/s3-keys"
_KEY = "encryption-key"
# An encrypted file: these words, the key's fingerprint, a salt; then parts, each with its tag.
_MAGIC = b"mlops.mlflow encrypted 1\n"
_MARK, _SALT, _TAG, _PART = 16, 16, 16, 1 << 20
_HEADER = len(_MAGIC) + _MARK + _SALT
MANIFEST = "manifest.json"
TESTED = "tested.json"
KEEP = "keep"
RESTORING = "restoring"
ORIGIN = ".origin"

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


class Cipher:
    """Encrypts files with AES-256-GCM, part by part: none can be changed, left out or moved."""

    def __init__(self, keys: Mapping[str, bytes], current: str) -> None:
        # By fingerprint. Nothing is encrypted without a current one.
        self._keys = keys
        self.current = current

    def _sealing(self, header: bytes) -> Any:
        aead = importlib.import_module("cryptography.hazmat.primitives.ciphers.aead")
        key = self._keys.get(header[len(_MAGIC) :][:_MARK].decode("ascii", "replace"))
        if key is None:
            raise BackupError(
                f"it is encrypted with the key {header[len(_MAGIC) :][:_MARK].decode()!r}, which "
                f"is not in the Secret mlflow-backup-s3: put it there, as {_KEY} or as {_KEY}-OLD"
            )
        # A key for each file, so that parts may be counted from nought.
        return aead.AESGCM(hashlib.blake2b(header, key=key, digest_size=32).digest())

    @staticmethod
    def _nonce(number: int, last: bool) -> bytes:
        return number.to_bytes(11, "big") + bytes([last])

    def seal(self, source: IO[bytes], target: IO[bytes]) -> None:
        header = _MAGIC + self.current.encode() + secrets.token_bytes(_SALT)
        sealing = self._sealing(header)
        target.write(header)
        number, part = 0, source.read(_PART)
        while True:
            following = source.read(_PART)
            target.write(sealing.encrypt(self._nonce(number, not following), part, None))
            if not following:
                return
            number, part = number + 1, following

    def open(self, source: IO[bytes], target: IO[bytes]) -> None:
        """Decrypt what is encrypted; copy what is not, as it was before there was a key."""
        header = source.read(_HEADER)
        if not header.startswith(_MAGIC):
            target.write(header)
            shutil.copyfileobj(source, target)
            return
        sealing = self._sealing(header)
        invalid = importlib.import_module("cryptography.exceptions").InvalidTag
        number, part = 0, source.read(_PART + _TAG)
        while True:
            following = source.read(_PART + _TAG)
            try:
                target.write(sealing.decrypt(self._nonce(number, not following), part, None))
            except invalid:
                raise BackupError("what is in the bucket is not what was encrypted") from None
            if not following:
                return
            number, part = number + 1, following

    def size(self, plain: int) -> int:
        """Return how large a file is in the bucket."""
        parts = max(1, -(-plain // _PART))
        return _HEADER + plain + parts * _TAG if self.current else plain


def cipher_of(folder: Path) -> Cipher:
    """Read the keys: 32 bytes each, in base64."""
    keys: dict[str, bytes] = {}
    current = ""
    for path in sorted(folder.glob(f"{_KEY}*")) if folder.is_dir() else []:
        try:
            key = base64.b64decode(path.read_bytes().strip(), validate=True)
        except binascii.Error:
            key = b""
        if len(key) != 32:
            raise UsageError(
                f"{path.name} in the Secret mlflow-backup-s3 must be 32 bytes in base64, as "
                "openssl rand -base64 32 makes them"
            )
        mark = hashlib.sha256(b"mlops.mlflow backup key " + key).hexdigest()[:_MARK]
        keys[mark] = key
        current = mark if path.name == _KEY else current
    return Cipher(keys, current)


class Copy(NamedTuple):
    """A backup in the bucket; place is RELEASE/ORIGIN, or empty for one of before such were."""

    place: str
    name: str
    files: dict[str, int]

    @property
    def whole(self) -> bool:
        return MANIFEST in self.files

    @property
    def release(self) -> str:
        return self.place.partition("/")[0]


class Bucket:
    """The backups in a bucket."""

    def __init__(self, client: Any, bucket: str, prefix: str, cipher: Cipher) -> None:
        self._client = client
        self.cipher = cipher
        self._bucket = bucket
        self._prefix = prefix

    def copies(self, place: str | None = None) -> list[Copy]:
        """Return every backup, whole or not, of one place or of all, with its files' sizes."""
        found: dict[tuple[str, str], dict[str, int]] = {}
        prefix = self._prefix + (f"{place}/" if place else "")
        pages = self._client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self._bucket, Prefix=prefix):
            for item in page.get("Contents") or []:
                where, _slash, file = str(item["Key"])[len(self._prefix) :].rpartition("/")
                where, _slash, name = where.rpartition("/")
                if self._is_place(where) and _NAME.fullmatch(name) and _FILE.fullmatch(file):
                    found.setdefault((where, name), {})[file] = int(item["Size"])
        return [Copy(*key, files) for key, files in sorted(found.items())]

    @staticmethod
    def _is_place(text: str) -> bool:
        release, _slash, origin = text.partition("/")
        return not text or bool(_RELEASE.fullmatch(release) and _ORIGIN.fullmatch(origin))

    def _key(self, copy: Copy, file: str) -> str:
        place = f"{copy.place}/" if copy.place else ""
        return f"{self._prefix}{place}{copy.name}/{file}"

    def put(self, copy: Copy, path: Path) -> None:
        """Upload one file, in parts where it is large."""
        key = self._key(copy, path.name)
        if not self.cipher.current:
            self._client.upload_file(str(path), self._bucket, key)
            return
        # On the volume of the backups, the only one that has room for it.
        with path.open("rb") as plain, tempfile.TemporaryFile(dir=path.parents[1]) as sealed:
            self.cipher.seal(plain, sealed)
            sealed.seek(0)
            self._client.upload_fileobj(sealed, self._bucket, key)

    def get(self, copy: Copy, file: str, target: Path) -> None:
        with tempfile.TemporaryFile(dir=target.parent) as sealed, target.open("wb") as plain:
            self._client.download_fileobj(self._bucket, self._key(copy, file), sealed)
            sealed.seek(0)
            self.cipher.open(sealed, plain)

    def read(self, copy: Copy, file: str) -> bytes:
        """Return a small file."""
        answer = self._client.get_object(Bucket=self._bucket, Key=self._key(copy, file))
        plain = io.BytesIO()
        self.cipher.open(io.BytesIO(answer["Body"].read()), plain)
        return plain.getvalue()

    def delete(self, copy: Copy) -> None:
        """Delete a backup, first what makes it one."""
        for file in sorted(copy.files, key=lambda one: one != MANIFEST):
            self._client.delete_object(Bucket=self._bucket, Key=self._key(copy, file))


def release_of(environment: Mapping[str, str]) -> str:
    name = environment.get("BACKUP_RELEASE", "")
    if not _RELEASE.fullmatch(name):
        raise UsageError("BACKUP_RELEASE must be the release's namespace")
    return name


def origin_of(folder: Path) -> str:
    """Return what tells this volume from every other one; it is drawn once, and stays on it."""
    path = folder / ORIGIN
    with locked(folder):
        if not path.exists():
            new = folder / f"{ORIGIN}.new"
            new.write_text(f"{secrets.token_hex(6)}\n", encoding="utf-8")
            sync(new)
            new.rename(path)
            sync(folder)
    origin = path.read_text(encoding="utf-8").strip()
    if not _ORIGIN.fullmatch(origin):
        raise BackupError(f"{path} is not what was written there: twelve hexadecimal digits")
    return origin


def on_volume(folder: Path) -> list[str]:
    """Return the backups that are whole on the volume, the newest first."""
    found = [
        path.name
        for path in folder.iterdir()
        if _NAME.fullmatch(path.name) and (path / MANIFEST).is_file()
    ]
    return sorted(found, reverse=True)


def copy_up(bucket: Bucket, folder: Path, copy: Copy) -> bool:
    """Bring one backup in the bucket up to date; whether anything was copied."""
    here = folder / copy.name
    files = [path for path in sorted(here.iterdir()) if _FILE.fullmatch(path.name)]
    # The manifest has the dumps' checksums: with the same one, a file of the same size is the same.
    if copy.whole and bucket.read(copy, MANIFEST) != (here / MANIFEST).read_bytes():
        raise BackupError(
            f"there is another backup {copy.name} at {copy.place}; nothing was written over"
        )
    changed = False
    # The manifest last: until then, there is no such backup.
    for path in sorted(files, key=lambda one: one.name == MANIFEST):
        size = bucket.cipher.size(path.stat().st_size)
        same = copy.whole and copy.files.get(path.name) == size
        if same and path.name == TESTED:
            same = bucket.read(copy, TESTED) == path.read_bytes()
        if not same:
            bucket.put(copy, path)
            changed = True
    return changed


def passed(text: bytes) -> bool:
    """Whether the result of a restore test is a good one."""
    try:
        return json.loads(text).get("ok") is True
    except (ValueError, AttributeError):
        return False


def is_good(bucket: Bucket, folder: Path, copy: Copy) -> bool:
    """Whether a backup has passed its restore test, as the volume says, or else the bucket."""
    try:
        return passed((folder / copy.name / TESTED).read_bytes())
    except OSError:
        return TESTED in copy.files and passed(bucket.read(copy, TESTED))


def has_failed(bucket: Bucket, folder: Path, copy: Copy) -> bool:
    """Whether a backup was tested and did not pass."""
    tested = (folder / copy.name / TESTED).exists() or TESTED in copy.files
    return tested and not is_good(bucket, folder, copy)


def read_manifest(text: bytes) -> dict[str, Any]:
    """Return what a manifest says; nothing, if it is none."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def content(manifest: Mapping[str, Any]) -> int:
    """Return how many experiments, runs, models and traces a backup holds together."""
    for database in manifest.get("databases") or []:
        if database.get("role") == "tracking":
            rows = database.get("rows") or {}
            return sum(int(rows.get(table, 0)) for table in _CONTENT)
    return 0


def is_being_restored(folder: Path, name: str, now: datetime.datetime) -> bool:
    try:
        asked = (folder / name / RESTORING).stat().st_mtime
    except OSError:
        return False
    return now.timestamp() - asked < _RESTORING


def upload(bucket: Bucket, folder: Path, environment: Mapping[str, str]) -> None:
    """Copy every backup that is not in the bucket, the newest first; then see to the old ones."""
    keep = number(environment, "BACKUP_KEEP", 14)
    days = number(environment, "BACKUP_KEEP_DAYS", 14)
    release = release_of(environment)
    place = f"{release}/{origin_of(folder)}"
    there = {copy.name: copy for copy in bucket.copies(place)}
    here = on_volume(folder)
    whole = {name for name, copy in there.items() if copy.whole}
    known = sorted(whole | set(here), reverse=True)
    copies = {name: there.get(name, Copy(place, name, {})) for name in known}
    good = next((name for name in known if is_good(bucket, folder, copies[name])), "")
    now = datetime.datetime.now(datetime.UTC)
    marked = {
        name
        for name in known
        if KEEP in copies[name].files
        or (folder / name / KEEP).exists()
        or is_being_restored(folder, name, now)
    }
    gone = expired(known, marked, good, keep, days, now)
    copied, problems = 0, []
    for name in here:
        # The volume may still have what need not be kept. One that is being deleted there need not
        # be copied either.
        with contextlib.suppress(FileNotFoundError):
            if name not in gone:
                try:
                    if copy_up(bucket, folder, copies[name]):
                        say(f"copied {name}")
                        copied += 1
                except BackupError as error:
                    problems.append(str(error))
    deleted = 0
    for name in gone:
        if name in whole and belongs(bucket, there[name], release):
            bucket.delete(there[name])
            say(f"deleted {name}, which is no longer to be kept")
            deleted += 1
    say(f"{copied} copied, {deleted} deleted, {len(known) - len(gone)} in the bucket at {place}")
    if problems:
        raise BackupError("; ".join(problems))


def belongs(bucket: Bucket, copy: Copy, release: str) -> bool:
    """Whether a backup's own manifest says that it is this release's to delete."""
    said = read_manifest(bucket.read(copy, MANIFEST)).get("release")
    if said != release:
        say(f"kept {copy.name}: its manifest does not say that it is of {release}")
    return said == release


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


def fetch(bucket: Bucket, folder: Path, copy: Copy) -> None:
    """Copy one backup to the volume: whole, or not at all."""
    name = copy.name
    # The largest is there twice for a moment.
    needed = sum(copy.files.values()) + max(copy.files.values(), default=0)
    free = shutil.disk_usage(folder).free
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
            for file in copy.files:
                bucket.get(copy, file, partial / file)
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


def described(copies: Iterable[Copy]) -> str:
    """Return where the newest few of some backups are, for a person to choose."""
    newest = sorted(copies, key=lambda copy: copy.name, reverse=True)
    said = [f"{copy.name} at {copy.place or 'the top'}" for copy in newest[:3]]
    more = f" and {len(newest) - 3} more" if len(newest) > 3 else ""
    return ", ".join(said) + more


def find(bucket: Bucket, place: str, wanted: str) -> Copy:
    """Return the copy with a name: this volume's own, or else the only one of anybody's."""
    named = [copy for copy in bucket.copies() if copy.whole and copy.name == wanted]
    own = [copy for copy in named if copy.place == place]
    if own or len(named) == 1:
        return (own or named)[0]
    if not named:
        raise BackupError(f"there is no backup {wanted}, neither on the volume nor in the bucket")
    if len({bucket.read(copy, MANIFEST) for copy in named}) == 1:
        return named[0]
    raise BackupError(
        f"{wanted} is in the bucket more than once, and not as the same backup: "
        f"{described(named)}; copy the one that you want to the controller, and restore that "
        "file (mlflow_backup_file)"
    )


def latest(bucket: Bucket, folder: Path, place: str) -> tuple[str, Copy | None]:
    """Return this volume's newest backup, and its copy unless it is on the volume.

    Never another's, and never one that holds next to nothing while one before it, or one of the
    same release on another volume, held much: after a disaster, a person chooses.
    """
    whole = [copy for copy in bucket.copies() if copy.whole]
    own = {copy.name: copy for copy in whole if copy.place == place}
    here = on_volume(folder)
    names = sorted({*here, *own}, reverse=True)
    good = [n for n in names if not has_failed(bucket, folder, own.get(n, Copy(place, n, {})))]
    others = [copy for copy in whole if copy.place != place]
    if not good:
        if others:
            raise BackupError(
                "this volume has no backup, here or in the bucket; there are those of others: "
                f"{described(others)}. Name the one that you want"
            )
        raise BackupError("there is no backup, neither on the volume nor in the bucket")
    name = good[0]
    held: dict[str, int] = {}
    for one in good:
        local = folder / one / MANIFEST
        text = local.read_bytes() if one in here else bucket.read(own[one], MANIFEST)
        held[one] = content(read_manifest(text))
    now = held[name]
    release = place.partition("/")[0]
    for copy in others:
        if copy.release == release:
            count = content(read_manifest(bucket.read(copy, MANIFEST)))
            held[copy.name] = max(count, held.get(copy.name, 0))
    fuller = [one for one, count in held.items() if count > now * _SHRUNK + _SHRUNK]
    if fuller:
        raise BackupError(
            f"{name} is the latest and holds {now} experiments, runs, models and traces, while "
            f"{max(fuller)} holds {held[max(fuller)]}: name the backup that you want"
        )
    return name, None if name in here else own[name]


def download(bucket: Bucket, folder: Path, wanted: str, release: str) -> None:
    """Have a backup on the volume, from the bucket if it is not there."""
    if wanted in on_volume(folder):
        say(f"{wanted} is on the volume")
        return
    place = f"{release}/{origin_of(folder)}"
    if wanted == "latest":
        name, copy = latest(bucket, folder, place)
        if copy is None:
            say(f"the latest is on the volume: {name}")
            return
    else:
        copy = find(bucket, place, wanted)
    if copy.place != place:
        say(f"{copy.name} is from {copy.place or 'the top of the bucket'}")
    fetch(bucket, folder, copy)


def connect(environment: Mapping[str, str]) -> Bucket:
    """Return the bucket, with boto3 of the image."""
    # In the image, and not where this is checked.
    boto3 = importlib.import_module("boto3")
    config_class = importlib.import_module("botocore.config").Config
    bucket, prefix = place(environment.get("BACKUP_S3_URL", ""))
    cipher = cipher_of(Path(environment.get("BACKUP_S3_KEYS", _KEYS)))
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
    return Bucket(boto3.client("s3", config=config, **more), bucket, prefix, cipher)


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
            download(bucket, folder, wanted, release_of(environment))
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
