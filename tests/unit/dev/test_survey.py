"""What stands in the way of a cluster on this machine is found before anything is changed."""

from __future__ import annotations

import importlib.util
import socket
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[3] / "dev/roles/kind_cluster/files/survey.py"


@pytest.fixture(scope="module")
def survey() -> ModuleType:
    spec = importlib.util.spec_from_file_location("survey", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def good(**changes: Any) -> dict[str, Any]:
    return {
        "engine": "podman",
        "build": True,
        "cluster": "absent",
        "port": None,
        "packages": [],
        "go": (1, 26, 0),
        "go_needed": True,
        "release": "debian 12",
        "memory": 8 << 30,
        "room": 50 << 30,
        **changes,
    }


@pytest.fixture
def settings(tmp_path: Path, free_port: int) -> dict[str, Any]:
    lock = tmp_path / "requirements-3.17.2.txt"
    lock.touch()
    return {
        "name": "mlflow",
        "state": "present",
        "cache_dir": str(tmp_path),
        "http_port": free_port,
        "locks": [str(lock)],
    }


def test_a_good_machine_has_no_problem(
    survey: ModuleType, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey.os, "geteuid", lambda: 0)
    assert survey.problems_of(good(), settings) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"room": 1 << 30}, "GiB of disk are needed"),
        ({"memory": 1 << 30}, "GiB of free memory are needed"),
        ({"go": (1, 25, 9)}, "found: 1.25.9"),
        ({"go": ()}, "found: not on PATH"),
        ({"release": "ubuntu 24.04"}, "this is ubuntu 24.04"),
        ({"engine": "docker"}, "KIND_CLUSTER_PROVIDER=podman"),
        ({"cluster": "running", "port": 1}, "KIND_CLUSTER_HTTP_PORT=1"),
    ],
)
def test_each_problem_is_said_with_what_to_do(
    survey: ModuleType,
    settings: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    said: str,
) -> None:
    monkeypatch.setattr(survey.os, "geteuid", lambda: 0)
    monkeypatch.setattr(survey, "output_of", lambda *_: "")
    problems = survey.problems_of(good(**changes), settings)
    assert len(problems) == 1 and said in problems[0]


def test_all_problems_are_said_at_once(
    survey: ModuleType, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey.os, "geteuid", lambda: 1000)
    problems = survey.problems_of(good(room=0, memory=0, go=()), settings)
    assert len(problems) == 4 and "root is needed" in problems[1]


def test_a_busy_port_is_named(
    survey: ModuleType, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey.os, "geteuid", lambda: 0)
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", settings["http_port"]))
        busy.listen()
        (problem,) = survey.problems_of(good(), settings)
    assert f"port {settings['http_port']} on 127.0.0.1 is in use" in problem


def test_a_running_cluster_needs_no_room(survey: ModuleType, settings: dict[str, Any]) -> None:
    running = good(cluster="running", port=settings["http_port"], room=0, memory=0)
    problems = survey.problems_of(running, settings)
    assert not [problem for problem in problems if "GiB" in problem]


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("0.33.0\n", (0, 33, 0)),
        ("v5.8.1", (5, 8, 1)),
        ('{"clientVersion": {"gitVersion": "v1.32.4-dispatcher"}}', (1, 32, 4)),
        ("(devel)", ()),
    ],
)
def test_versions_are_read_from_what_programs_say(
    survey: ModuleType, text: str, version: tuple[int, ...]
) -> None:
    assert survey.version_in(text) == version


def test_the_tools_alone_need_neither_root_nor_a_free_port(
    survey: ModuleType, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey.os, "geteuid", lambda: 1000)
    settings["state"] = "tools"
    bare = good(release="", room=0, memory=0, packages=["podman"])
    assert survey.problems_of(bare, settings) == []
    assert survey.problems_of({**bare, "go": ()}, settings) == [
        "Go 1.26 or newer is needed to build from source, found: not on PATH"
    ]


@pytest.mark.parametrize(
    ("docker_runs", "answers", "there", "chosen"),
    [
        (False, True, "", ("podman", False)),
        (True, True, "", ("docker", False)),
        # Nothing has to be set for a machine that has Docker and reaches no registry.
        (True, False, "", ("podman", True)),
        (False, False, "", ("podman", True)),
        # A cluster stays in the engine that it is in.
        (True, True, "podman", ("podman", False)),
        (True, True, "docker", ("docker", False)),
    ],
)
def test_the_engine(
    survey: ModuleType,
    settings: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    docker_runs: bool,
    answers: bool,
    there: str,
    chosen: tuple[str, bool],
) -> None:
    settings.update(provider="auto", source="auto")
    monkeypatch.setattr(survey, "registry_answers", lambda: answers)
    monkeypatch.setattr(survey, "output_of", lambda _command: "" if docker_runs else None)
    monkeypatch.setattr(
        survey,
        "cluster",
        lambda engine, *_rest: {"state": "running" if engine == there else "absent", "port": None},
    )
    engine, node, build = survey.find_cluster(settings, Path(settings["cache_dir"]))
    assert (engine, build) == chosen
    assert (node["state"] == "running") is bool(there)


def test_a_version_without_a_lock_is_named(
    survey: ModuleType, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey.os, "geteuid", lambda: 0)
    settings["locks"].append(str(Path(settings["locks"][0]).with_name("requirements-3.9.txt")))
    (problem,) = survey.problems_of(good(), settings)
    assert problem.startswith("kind_cluster_mlflow_versions: ") and "3.9.txt" in problem
