# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A backup as one file: what may be in it, and its way to and from a container.

The file is a tar archive of the backup's folder. Through the API server it travels as base64, which
no encoding on the way can change.
"""

from __future__ import annotations

import base64
import hashlib
import re
import tarfile
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._backup import catalogue
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import ApiError

_MEMBER = re.compile(r"manifest\.json|manifest\.sha256|tested\.json|keep|[a-z]+\.dump")
_SMALL = 1 << 20
_CHUNK = 1 << 20


class ArchiveError(Exception):
    """Why a file is no backup; holds nothing of what is in it."""


class Session(t.Protocol):
    """What a command in a container offers; the kubernetes client's WSClient does."""

    def is_open(self) -> bool: ...
    def update(self, timeout: float) -> None: ...
    def read_stdout(self, timeout: float) -> str: ...
    def read_stderr(self, timeout: float) -> str: ...
    def write_stdin(self, data: str) -> None: ...
    @property
    def returncode(self) -> int | None: ...


def inspect(path: str) -> catalogue.Manifest:
    """Return the manifest of a backup's file, every member of which is as it says."""
    contents: dict[str, tuple[int, str]] = {}
    texts: dict[str, str] = {}
    folder = ""
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                parts = member.name.strip("/").split("/")
                folder = folder or parts[0]
                if parts[0] != folder or len(parts) > 2:
                    raise ArchiveError("it holds more than one backup")
                if len(parts) == 1 and member.isdir():
                    continue
                if len(parts) != 2 or not member.isfile() or not _MEMBER.fullmatch(parts[1]):
                    raise ArchiveError("it holds a file that a backup does not have")
                stream = archive.extractfile(member)
                if stream is None:
                    continue
                digest = hashlib.sha256()
                if member.size <= _SMALL and parts[1].startswith("manifest."):
                    data = stream.read()
                    digest.update(data)
                    texts[parts[1]] = data.decode("utf-8", "replace")
                else:
                    while data := stream.read(_CHUNK):
                        digest.update(data)
                contents[parts[1]] = (member.size, digest.hexdigest())
    except (OSError, tarfile.TarError, EOFError):
        raise ArchiveError("it cannot be read as a tar archive; was it cut off?") from None
    return _judge(folder, contents, texts)


def _judge(
    folder: str, contents: dict[str, tuple[int, str]], texts: dict[str, str]
) -> catalogue.Manifest:
    if "manifest.json" not in contents or "manifest.sha256" not in texts:
        raise ArchiveError("it has no manifest")
    if texts["manifest.sha256"].split()[:1] != [contents["manifest.json"][1]]:
        raise ArchiveError("it is damaged: its manifest is not the one that was written")
    try:
        manifest = catalogue.read_manifest(texts.get("manifest.json", ""))
    except catalogue.ManifestError as error:
        raise ArchiveError(str(error)) from None
    if manifest.name != folder or not catalogue.is_name(folder):
        raise ArchiveError("its folder is not called as its manifest says")
    for dump in manifest.databases:
        if contents.get(dump.file) != (dump.bytes, dump.sha256):
            raise ArchiveError(f"it is damaged: {dump.file} is not what its manifest says")
    return manifest


def receive(session: Session, write: t.Callable[[bytes], t.Any]) -> None:
    """Write what a command prints as base64; raise ApiError when it fails."""
    rest = ""
    errors = ""
    while True:
        going_on = session.is_open()
        if going_on:
            session.update(timeout=1)
        rest += session.read_stdout(timeout=0)
        errors += session.read_stderr(timeout=0)
        rest = rest.replace("\n", "")
        whole = len(rest) // 4 * 4
        if whole:
            write(base64.b64decode(rest[:whole]))
            rest = rest[whole:]
        if not going_on:
            break
    if session.returncode != 0 or rest:
        raise ApiError(0, _why(errors, session.returncode))


def send(session: Session, read: t.Callable[[int], bytes], seconds: float) -> str:
    """Write a file to a command's standard input as base64 lines; return what it printed."""
    output = errors = ""
    while data := read(_CHUNK // 4 * 3):
        session.write_stdin(base64.b64encode(data).decode() + "\n")
    # There is no end of a file on this way: the command knows how much it is to read.
    waited = 0.0
    while session.is_open() and waited < seconds:
        session.update(timeout=1)
        waited += 1
        output += session.read_stdout(timeout=0)
        errors += session.read_stderr(timeout=0)
    output += session.read_stdout(timeout=0)
    errors += session.read_stderr(timeout=0)
    if session.returncode != 0:
        raise ApiError(0, _why(errors, session.returncode))
    return output


def _why(errors: str, code: int | None) -> str:
    lines = errors.strip().splitlines()
    return lines[-1] if lines else f"the command in the pod ended with {code}"


def encoded_size(size: int) -> int:
    """Return how many characters C(send) writes for a file of so many bytes."""
    step = _CHUNK // 4 * 3
    full, rest = divmod(size, step)
    characters = full * (step // 3 * 4 + 1)
    return characters + ((rest + 2) // 3 * 4 + 1 if rest else 0)
