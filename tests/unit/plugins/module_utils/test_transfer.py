# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A backup's file is looked at before anything believes it, and arrives as it was sent."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import typing as t
from pathlib import Path

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._backup import transfer
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import ApiError

NAME = "20261124T190501Z"
DUMP = b"PGDMP" + bytes(range(256)) * 40


def manifest(**changes: t.Any) -> bytes:
    database = {
        "role": "tracking",
        "name": "mlflow",
        "file": "tracking.dump",
        "bytes": len(DUMP),
        "sha256": hashlib.sha256(DUMP).hexdigest(),
        "size": 9000,
        "revisions": {"tracking": "a"},
        "rows": {"runs": 1},
    }
    return json.dumps(
        {
            "format": 1,
            "name": NAME,
            "time": "t",
            "mlflow": "3.17.2",
            "release": "n",
            "artifact_store": "s",
            "reason": "",
            "postgres": "17.6",
            "databases": [database],
            **changes,
        }
    ).encode()


def archive(path: Path, members: dict[str, bytes]) -> str:
    with tarfile.open(path, "w") as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return str(path)


def members(text: bytes | None = None) -> dict[str, bytes]:
    text = manifest() if text is None else text
    digest = hashlib.sha256(text).hexdigest()
    return {
        f"{NAME}/manifest.json": text,
        f"{NAME}/manifest.sha256": f"{digest}  manifest.json\n".encode(),
        f"{NAME}/tracking.dump": DUMP,
    }


def test_a_whole_backup_is_accepted(tmp_path: Path) -> None:
    assert transfer.inspect(archive(tmp_path / "b.tar", members())).name == NAME


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({f"{NAME}/tracking.dump": DUMP[:-1]}, "is damaged: tracking.dump"),
        ({f"{NAME}/tracking.dump": b"x" + DUMP[1:]}, "is damaged: tracking.dump"),
        ({f"{NAME}/manifest.json": manifest(release="m")}, "its manifest is not the one"),
        ({f"{NAME}/more.sh": b"rm"}, "a file that a backup does not have"),
        ({"20261124T190502Z/manifest.json": b"{}"}, "more than one backup"),
        ({f"{NAME}/a/b.dump": b""}, "more than one backup"),
    ],
)
def test_what_is_in_it_has_to_fit(tmp_path: Path, changes: dict[str, bytes], words: str) -> None:
    path = archive(tmp_path / "b.tar", {**members(), **changes})
    with pytest.raises(transfer.ArchiveError, match=words):
        transfer.inspect(path)


@pytest.mark.parametrize("name", ["..", "latest", "20200101T000000Z"])
def test_its_folder_has_to_be_called_as_it_is(tmp_path: Path, name: str) -> None:
    path = archive(tmp_path / "b.tar", members(manifest(name=name)))
    with pytest.raises(transfer.ArchiveError, match="its folder is not called"):
        transfer.inspect(path)


def test_links_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "b.tar"
    with tarfile.open(path, "w") as file:
        info = tarfile.TarInfo(f"{NAME}/tracking.dump")
        info.type = tarfile.SYMTYPE
        info.linkname = "/etc/passwd"
        file.addfile(info)
    with pytest.raises(transfer.ArchiveError, match="does not have"):
        transfer.inspect(str(path))


@pytest.mark.parametrize("kept", [0, 1, 700, 6000])
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, kept: int) -> None:
    path = Path(archive(tmp_path / "b.tar", members()))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(transfer.ArchiveError):
        transfer.inspect(str(path))


class Pod:
    """A command in a pod, as the kubernetes client shows it."""

    def __init__(self, chunks: list[str], code: int = 0, errors: str = "") -> None:
        self._chunks = chunks
        self._errors = errors
        self.returncode: int | None = code
        self.received = ""

    def is_open(self) -> bool:
        return bool(self._chunks)

    def update(self, timeout: float) -> None:
        pass

    def read_stdout(self, timeout: float) -> str:
        return self._chunks.pop(0) if self._chunks else ""

    def read_stderr(self, timeout: float) -> str:
        errors, self._errors = self._errors, ""
        return errors

    def write_stdin(self, data: str) -> None:
        self.received += data


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_what_is_received_is_what_was_sent_however_it_is_cut(size: int) -> None:
    text = base64.b64encode(DUMP).decode()
    found = io.BytesIO()
    transfer.receive(Pod([text[i : i + size] for i in range(0, len(text), size)]), found.write)
    assert found.getvalue() == DUMP


def test_a_command_that_fails_says_why() -> None:
    with pytest.raises(ApiError, match="there is no backup"):
        transfer.receive(Pod(["abcd"], 1, "backup: there is no backup\n"), lambda _data: None)
    with pytest.raises(ApiError):
        transfer.receive(Pod(["abc"]), lambda _data: None)  # cut off


@pytest.mark.parametrize("size", [0, 1, 3, 786431, 786432, 786433, 2000000])
def test_the_other_end_knows_how_much_is_to_come(size: int) -> None:
    pod = Pod([])
    transfer.send(pod, io.BytesIO(b"x" * size).read, 1)
    assert len(pod.received) == transfer.encoded_size(size)
    lines = pod.received.splitlines()
    assert b"".join(map(base64.b64decode, lines)) == b"x" * size
