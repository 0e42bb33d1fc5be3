# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The script of the component gc: ages, the lock, and its verdict. Without an MLflow."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

KUSTOMIZE = Path(__file__).parents[3] / "kustomize"
ENVIRONMENT = {
    "MLFLOW_TRACKING_URI": "http://mlflow:5000",
    "MLFLOW_BACKEND_STORE_URI": "postgresql://mlflow:canary@db/mlflow",
    "MLOPS_GC_OLDER_THAN": "1d",
}


def load(name: str, path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


gc = load("mlops_mlflow_gc", KUSTOMIZE / "components/gc/gc.py")
schema = load("mlops_mlflow_schema_for_gc", KUSTOMIZE / "base/schema.py")


class Called(list[list[str]]):
    """What MLflow's gc was called with, and what it does."""

    def main(self, args: list[str], **_: object) -> None:
        self.append(args)
        print("Run with ID abc has been permanently deleted.")
        print("Logged model with ID m-1 has been permanently deleted.")


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Called:
    found = Called()
    module = types.ModuleType("mlflow.cli")
    module.gc = found  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", types.ModuleType("mlflow"))
    monkeypatch.setitem(sys.modules, "mlflow.cli", module)
    return found


def helper(monkeypatch: pytest.MonkeyPatch, state: str = "at_head", free: bool = True) -> None:
    class Helper:
        secrets = frozenset({"canary"})

        def __init__(self, _environment: object) -> None:
            pass

        @contextlib.contextmanager
        def locks(self) -> Iterator[list[object] | None]:
            yield [] if free else None

        def inspect(self) -> dict[str, Any]:
            return {"tracking": schema.Verdict(state)}

    monkeypatch.setattr(schema, "Helper", Helper)


@pytest.mark.parametrize(
    ("age", "least", "expected"),
    [
        ("30d", "", 30 * 86400),
        ("1d12h", "", 36 * 3600),
        ("90m", "2h", 7200),
        ("3h", "2h", 10800),
        ("0s", "", 0),
    ],
)
def test_the_longer_age_counts(age: str, least: str, expected: int) -> None:
    assert gc.age_of({"MLOPS_GC_OLDER_THAN": age, "MLOPS_GC_AT_LEAST": least}) == expected


@pytest.mark.parametrize("age", ["", "30", "1.5d", "d", "12h1d", "-1d", "30d\n"])
def test_what_is_no_age_is_refused_and_not_taken_for_none(age: str) -> None:
    with pytest.raises(gc.UsageError):
        gc.age_of({"MLOPS_GC_OLDER_THAN": age})


def test_the_verdict_counts_what_was_removed(
    monkeypatch: pytest.MonkeyPatch, called: Called
) -> None:
    helper(monkeypatch)
    status, verdict = gc.run(schema, ENVIRONMENT)
    assert (status, verdict["ok"]) == (0, True)
    assert verdict["deleted"] == {"runs": 1, "logged_models": 1}
    ((first, address, *rest),) = called
    assert (first, address) == ("--backend-store-uri", ENVIRONMENT["MLFLOW_BACKEND_STORE_URI"])
    assert rest == ["--older-than", "86400s"]


def test_it_does_nothing_while_a_migration_holds_the_lock(
    monkeypatch: pytest.MonkeyPatch, called: Called
) -> None:
    helper(monkeypatch, free=False)
    status, verdict = gc.run(schema, ENVIRONMENT)
    assert (status, verdict["skipped"]) == (0, "a migration is under way")
    assert not called


@pytest.mark.parametrize("state", ["behind", "ahead", "unknown", "empty", "unreachable"])
def test_it_touches_no_schema_but_its_own(
    monkeypatch: pytest.MonkeyPatch, called: Called, state: str
) -> None:
    helper(monkeypatch, state)
    status, verdict = gc.run(schema, ENVIRONMENT)
    assert (status, verdict["ok"]) == (3, False)
    assert state in verdict["error"]
    assert not called


def test_it_does_not_keep_a_migration_waiting(
    monkeypatch: pytest.MonkeyPatch, called: Called
) -> None:
    def work(**_: object) -> None:
        print("Run with ID abc has been permanently deleted.")
        time.sleep(60)

    helper(monkeypatch)
    monkeypatch.setattr(called, "main", work)
    status, verdict = gc.run(schema, {**ENVIRONMENT, "MLOPS_GC_SECONDS": "1"})
    assert (status, verdict["unfinished"]) == (0, "not done in 1 s")
    assert verdict["deleted"] == {"runs": 1}


def test_its_own_time_limit_is_not_taken_for_an_error_of_one_run(
    monkeypatch: pytest.MonkeyPatch, called: Called
) -> None:
    """MLflow catches what goes wrong with a run's artifacts, to go on with the next run."""
    helper(monkeypatch)

    def main(args: list[str], **_: object) -> None:
        for _run in range(2):
            with contextlib.suppress(Exception):
                time.sleep(30)

    monkeypatch.setattr(called, "main", main)
    status, verdict = gc.run(schema, {**ENVIRONMENT, "MLOPS_GC_SECONDS": "1"})
    assert (status, verdict["ok"], verdict["unfinished"]) == (0, True, "not done in 1 s")


@pytest.mark.parametrize(("value", "all_of_them"), [("true", True), ("1", True), ("false", False)])
def test_with_workspaces_it_looks_into_each(
    monkeypatch: pytest.MonkeyPatch, called: Called, value: str, all_of_them: bool
) -> None:
    helper(monkeypatch)
    assert gc.run(schema, {**ENVIRONMENT, "MLFLOW_ENABLE_WORKSPACES": value})[0] == 0
    assert ("--all-workspaces" in called[0]) is all_of_them


def test_a_failure_tells_no_password(monkeypatch: pytest.MonkeyPatch, called: Called) -> None:
    def fail(args: list[str], **_: object) -> None:
        raise RuntimeError(f"cannot connect to {args[1]}")

    helper(monkeypatch)
    monkeypatch.setattr(called, "main", fail)
    status, verdict = gc.run(schema, ENVIRONMENT)
    assert (status, verdict["ok"]) == (1, False)
    assert "cannot connect" in verdict["error"]
    assert "canary" not in verdict["error"]


@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_URI", "MLOPS_GC_OLDER_THAN"])
def test_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, called: Called, name: str
) -> None:
    helper(monkeypatch)
    status, verdict = gc.run(schema, {k: v for k, v in ENVIRONMENT.items() if k != name})
    assert status == 2
    assert name in verdict["error"]
    assert not called
