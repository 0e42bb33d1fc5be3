# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The volume of the bundled Postgres: read, handed over, settled; by the very scripts, in bash."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import ApiError
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.errors import Failure
from ansible_collections.mlops.mlflow.plugins.modules.release_database import Volume, work


class Pod:
    """The container of the database: its commands run here, on a folder."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "pgdata"
        self.checked = 0

    def before_write(self) -> None:
        self.checked += 1

    def execute(
        self, namespace: str, pod: str, container: str, command: list[str], seconds: float
    ) -> tuple[int, str, str]:
        assert (namespace, pod, container) == ("here", "postgres-0", "postgres")
        done = subprocess.run(
            command,
            env={"PATH": "/usr/bin:/bin", "PGDATA": str(self.data)},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    for end, version in (("", "17"), (".15", "15"), (".15-1790000000", "15"), (".dropping", "16")):
        folder = tmp_path / f"pgdata{end}"
        folder.mkdir()
        (folder / "PG_VERSION").write_text(f"{version}\n", encoding="utf-8")
    return Pod(tmp_path)


def asked(pod: Pod, state: str, version: object = 18, write: bool = True, **more: Any) -> Any:
    container = {"name": "postgres", "image": f"docker.io/library/postgres:{version}"}
    definition = {"spec": {"template": {"spec": {"containers": [container]}}}}
    params = {"state": state, "definition": definition, "kept": False, "backup": "", **more}
    return work(Volume(pod, "here"), params, write)  # type: ignore[arg-type]


def test_what_is_on_the_volume(pod: Pod) -> None:
    found = asked(pod, "read")
    assert (found["major"], found["wanted"], found["kept"], found["note"]) == (17, 18, [15], {})
    assert found["free"] > 0
    assert found["size"] > 0
    assert not found["changed"]


def test_a_note_is_written_once_and_taken_away(pod: Pod) -> None:
    note = {"from": 17, "to": 18, "kept": False, "backup": "20261130T000000Z"}
    assert asked(pod, "handed_over", backup=note["backup"])["changed"]
    assert asked(pod, "read")["note"] == note
    assert not asked(pod, "handed_over", backup=note["backup"])["changed"]
    assert pod.data.with_name("pgdata.hand-over").read_text() == "17 18 empty 20261130T000000Z\n"
    assert asked(pod, "settled")["changed"]
    assert asked(pod, "read")["note"] == {}
    assert not asked(pod, "settled")["changed"]
    # At each command, also at one that is to tell whether anything is to be written.
    assert pod.checked == 8


def test_check_mode_writes_nothing(pod: Pod) -> None:
    assert asked(pod, "handed_over", write=False)["changed"]
    assert asked(pod, "read")["note"] == {}


def test_only_a_database_that_is_kept_takes_over_as_it_is(pod: Pod) -> None:
    assert asked(pod, "handed_over", 15, kept=True)["note"] == {
        "from": 17, "to": 15, "kept": True, "backup": "",
    }  # fmt: skip
    with pytest.raises(Failure, match="no database of Postgres 14"):
        asked(pod, "handed_over", 14, kept=True)


def test_an_image_whose_tag_does_not_tell_is_named(pod: Pod) -> None:
    with pytest.raises(Failure, match=r"mlflow_postgres_image: the tag of .*:latest"):
        asked(pod, "read", "latest")


def test_a_volume_that_cannot_be_looked_at_says_why(
    pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pod.data / "PG_VERSION").unlink()
    with pytest.raises(Failure, match=r"volume of postgres-0 cannot be looked at: .*PG_VERSION"):
        asked(pod, "read")

    def refused(*_arguments: object) -> None:
        raise ApiError(403, "not allowed", "create", "pods/exec")

    monkeypatch.setattr(pod, "execute", refused)
    with pytest.raises(Failure, match=r"cannot be looked at: .*not allowed"):
        asked(pod, "read")
