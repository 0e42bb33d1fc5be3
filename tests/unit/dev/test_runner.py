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


def test_what_is_left_out_is_there(runner: ModuleType) -> None:
    assert set(runner.REST) < runner.SCENARIOS
    assert set(runner.TAKES) < runner.SCENARIOS
    assert set(runner.ALONE) < runner.SCENARIOS


def test_what_is_left_out_has_its_turn(runner: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "UNPROVEN", ())
    firsts = set()
    for turn in range(len(runner.REST)):
        share = runner.share(turn)
        assert sorted(share) == sorted(runner.REST)
        # As many begin at once as there are clusters.
        firsts |= set(share[: len(runner.CLUSTERS)])
    assert firsts == set(runner.REST)


def test_what_is_not_proven_has_no_turn(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(runner.UNPROVEN) < runner.SCENARIOS
    monkeypatch.setattr(runner, "UNPROVEN", runner.REST[:2])
    for turn in range(len(runner.REST)):
        assert sorted(runner.share(turn)) == sorted(runner.REST[2:])
    monkeypatch.setattr(runner, "UNPROVEN", runner.REST)
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
    first = {name for names, _until in calls[:2] for name in names}
    assert first == runner.SCENARIOS - set(runner.REST) - set(runner.UNPROVEN)
    assert (len(calls) == 3) is shared
    if shared:
        assert set(calls[2][0]) == set(runner.REST) - set(runner.UNPROVEN)
        assert calls[2][1] == until


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
