"""scripts/test.py: which scenarios run, and whether they would be through in time."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("runner", ROOT / "scripts/test.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "TIMES", tmp_path / "cache/times.json")
    return module


def test_the_names_are_those_of_scenarios(runner: ModuleType) -> None:
    for names in (runner.ESSENTIAL, runner.UNPROVEN, runner.TAKES, runner.ALONE):
        assert set(names) < runner.SCENARIOS


def test_what_is_left_out_has_its_turn(runner: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "UNPROVEN", ())
    rest = runner.SCENARIOS - set(runner.ESSENTIAL)
    firsts = set()
    for turn in range(len(rest)):
        share = runner.share(turn)
        assert sorted(share) == sorted(rest)
        # As many begin at once as there are clusters.
        firsts |= set(share[: len(runner.CLUSTERS)])
    assert firsts == rest


def test_what_is_not_proven_has_no_turn(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest = sorted(runner.SCENARIOS - set(runner.ESSENTIAL))
    monkeypatch.setattr(runner, "UNPROVEN", rest[:2])
    for turn in range(len(rest)):
        assert sorted(runner.share(turn)) == rest[2:]
    monkeypatch.setattr(runner, "UNPROVEN", rest)
    assert runner.share(5) == []


def test_what_was_measured_here_counts(runner: ModuleType) -> None:
    assert runner.takes("restore") == runner.TAKES["restore"]
    runner.remember("restore", 123.4)
    runner.remember("lock", 5.0)
    assert (runner.takes("restore"), runner.takes("lock")) == (123, 5)


@pytest.fixture
def begun(runner: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The scenarios that were begun; each is through at once and is one test that passed."""
    names: list[str] = []

    class Ended:
        returncode = 0

        def poll(self) -> int:
            return 0

    def start(name: str, *_rest: Any) -> Any:
        names.append(name)
        return runner.Scenario(name, Ended(), Path(), 0.0)

    monkeypatch.setattr(runner, "start_scenario", start)
    monkeypatch.setattr(runner, "end_scenario", lambda *_rest: runner.Count(passed=1))
    monkeypatch.setattr(runner, "stop", lambda _process: None)
    monkeypatch.setattr(runner.time, "sleep", lambda _seconds: None)
    return names


def test_none_begins_that_would_not_be_through_in_time(
    runner: ModuleType, begun: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    runner.remember("rotate", 60)
    runner.remember("leaks", 600)
    count = runner.each_scenario(["leaks", "rotate"], ["one"], time.time() + 120)
    assert begun == ["rotate"] and count.passed == 1
    assert "scenario leaks: not begun, it takes about 10 min, and 2 are left" in (
        capsys.readouterr().out
    )


def test_without_a_time_all_run(runner: ModuleType, begun: list[str]) -> None:
    assert runner.each_scenario(["leaks", "rotate"], ["one", "two"]).passed == 2
    assert sorted(begun) == ["leaks", "rotate"]


def test_nothing_runs_beside_one_that_has_to_be_alone(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "ALONE", ("faults",))

    def running(*names: str) -> list[Any]:
        return [runner.Scenario(name, None, Path(), 0.0) for name in names]

    assert runner.next_one(["faults", "lock"], running()) == "faults"
    assert runner.next_one(["faults", "lock"], running("restore")) == "lock"
    assert runner.next_one(["faults"], running("restore")) is None
    assert runner.next_one(["lock"], running("faults")) is None


@pytest.mark.parametrize(
    ("failed", "until", "shared"), [(0, None, False), (0, 2e9, True), (1, 2e9, False)]
)
def test_the_share_comes_after_what_make_test_runs(
    runner: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    failed: int,
    until: float | None,
    shared: bool,
) -> None:
    calls: list[tuple[list[str], float | None]] = []

    def each(names: list[str], _clusters: list[str], until: float | None = None) -> Any:
        calls.append((names, until))
        return runner.Count(passed=1, failed=failed)

    monkeypatch.setattr(runner, "each_scenario", each)
    monkeypatch.setattr(runner, "remove_clusters", lambda: None)
    monkeypatch.setattr(runner, "leftovers", list)
    runner.molecule(until=until)
    assert set(calls[0][0]) == set(runner.ESSENTIAL) - set(runner.UNPROVEN)
    assert (len(calls) == 2) is shared
    if shared:
        assert set(calls[1][0]) == runner.SCENARIOS - set(runner.ESSENTIAL) - set(runner.UNPROVEN)
        assert calls[1][1] == until


def test_an_interruption_is_a_failure_in_the_last_line(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped() -> Any:
        raise SystemExit(143)

    monkeypatch.setattr(runner, "STAGES", {"lint": lambda: runner.Count(passed=5), "unit": stopped})
    monkeypatch.setattr(runner, "be_stopped_by", lambda *_signals: None)
    monkeypatch.setattr(runner.sys, "argv", ["test.py", "--only", "lint", "unit"])
    with pytest.raises(SystemExit):
        runner.main()
    assert capsys.readouterr().out.splitlines()[-1] == "5 passed, 1 failed"


def test_the_end_names_what_failed(
    runner: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    def unit() -> Any:
        report = tmp_path / "report.xml"
        report.write_text(
            '<testsuites><testsuite tests="2" failures="1"><testcase classname="tests.a" name="b">'
            '<failure message="assert 1 == 2"/></testcase>'
            '<testcase classname="tests.a" name="c"/></testsuite></testsuites>'
        )
        return runner.counted(report, succeeded=False)

    stages = {"sanity": lambda: runner.Count(failed=1), "unit": unit}
    monkeypatch.setattr(runner, "STAGES", stages)
    monkeypatch.setattr(runner, "be_stopped_by", lambda *_signals: None)
    monkeypatch.setattr(runner.sys, "argv", ["test.py", "--only", "sanity", "unit"])
    assert runner.main() == 1
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "failed: sanity",
        "failed: tests.a::b: 'assert 1 == 2'",
        "1 passed, 2 failed",
    ]


@pytest.mark.parametrize(
    ("arguments", "core"),
    [([], None), (["--all"], "each"), (["--until=9"], "2.21"), (["--only", "versions"], "each")],
)
def test_other_versions_are_tried_before_a_release_and_in_turns(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch, arguments: list[str], core: str | None
) -> None:
    tried = []

    def pytest_stage(*_arguments: str) -> Any:
        tried.append(runner.os.environ.get("MLFLOW_TEST_VERSIONS", "each"))
        return runner.Count(passed=1)

    stages = {"unit": lambda: runner.Count(passed=1), "versions": runner.versions}
    monkeypatch.setattr(runner, "STAGES", stages)
    monkeypatch.setattr(runner, "pytest", pytest_stage)
    monkeypatch.setattr(runner, "commits", lambda: 6)
    monkeypatch.setattr(runner, "PROVEN_CORES", ("2.18", "2.20", "2.21", "2.17"))
    monkeypatch.setattr(runner, "be_stopped_by", lambda *_signals: None)
    monkeypatch.setattr(runner.sys, "argv", ["test.py", *arguments])
    monkeypatch.setenv("MLFLOW_TEST_VERSIONS", "")
    monkeypatch.delenv("MLFLOW_TEST_VERSIONS")
    assert runner.main() == 0
    assert tried == ([core] if core else [])


def test_continuous_integration_tries_no_version_that_is_not_proven(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runner, "PROVEN_CORES", ())
    assert runner.versions(3) == runner.Count()
    assert "no other ansible-core is proven yet" in capsys.readouterr().out


def test_what_is_proven_has_a_lock(runner: ModuleType) -> None:
    locks = {path.stem.partition("-")[2] for path in ROOT.glob("tests/versions/*-2.*.txt")}
    assert set(runner.PROVEN_CORES) <= locks


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            "echo 'Running …'; echo 'ERROR: plugins/a.py:3:1: a name'; echo 'FATAL: 1 test'",
            "a.py:3:1",
        ),
        ("echo 'F401 unused'; echo ' --> b.py:2:8'; echo; echo 'Found 1 problem.'", "b.py:2:8"),
        ("seq 9; echo 'the last words'", "the last words"),
    ],
)
def test_the_end_says_what_a_linter_complains_of(
    runner: ModuleType, tmp_path: Path, script: str, said: str
) -> None:
    good = ["bash", "-c", "exit 0"]
    count = runner.each(good, ["bash", "-c", f"{script}; exit 1"], cwd=tmp_path)
    assert (count.passed, count.failed) == (1, 1)
    assert said in count.names[0]
    assert "Running" not in count.names[0]
