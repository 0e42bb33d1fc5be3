"""What the commands make of the states that they find. A script stands in for the databases here;
tests/integration/schema_helper has real ones.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

States = dict[str, str]


class Scripted:
    """A helper whose looks at the databases, and whose lock, are as a test says."""

    def __init__(
        self, schema: ModuleType, monkeypatch: pytest.MonkeyPatch, *looks: States, free: bool = True
    ) -> None:
        self.schema = schema
        self.clock = 0.0
        self.looks = list(looks)
        self.seen = 0
        self.brought: list[set[str]] = []
        helper: Any = object.__new__(schema.Helper)
        self.helper = helper
        helper.timeout = 10.0
        helper.deadline = 10.0
        helper.secrets = set()
        helper._said, helper._said_at, helper._lost = "", -1000.0, 0
        helper.inspect = self.inspect
        helper.bring_to_head = lambda _locks, states: self.brought.append(states)

        @contextlib.contextmanager
        def locks() -> Iterator[list[Any] | None]:
            yield [] if free else None

        helper.locks = locks
        monkeypatch.setattr(time, "monotonic", lambda: self.clock)
        monkeypatch.setattr(time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.clock += seconds

    def inspect(self) -> dict[str, Any]:
        look = self.looks[min(self.seen, len(self.looks) - 1)]
        self.seen += 1
        return {
            name: self.schema.Verdict(state, "r1", "r2", detail="")
            for name, state in look.items()
        }  # fmt: skip


def states(verdicts: dict[str, Any]) -> States:
    return {name: verdict.state for name, verdict in verdicts.items()}


HEAD, BEHIND, EMPTY = {"tracking": "at_head"}, {"tracking": "behind"}, {"tracking": "empty"}


@pytest.mark.parametrize("state", ["at_head", "ahead", "unknown", "partial", "denied"])
def test_wait_ends_at_once_when_it_is_certain(
    state: str, schema: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Scripted(schema, monkeypatch, {"tracking": state})
    assert states(found.helper.wait()) == {"tracking": state}
    assert (found.seen, found.clock) == (1, 0)


def test_wait_waits_for_the_migration(
    schema: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Scripted(schema, monkeypatch, BEHIND, BEHIND, HEAD)
    assert states(found.helper.wait()) == HEAD
    assert found.clock == 2 * schema.POLL_SECONDS
    assert found.brought == []
    told = capsys.readouterr().err
    assert told.count("tracking behind at r1, head r2 · waiting for the migration") == 1
    assert "tracking at_head at r1\n" in told


@pytest.mark.parametrize("state", ["behind", "unreachable"])
def test_wait_ends_when_its_time_is_up(
    state: str, schema: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Scripted(schema, monkeypatch, {"tracking": state})
    assert states(found.helper.wait()) == {"tracking": state}
    assert found.clock == 10 - 10 % schema.POLL_SECONDS
    assert found.brought == []


def test_wait_initialises_what_is_empty(
    schema: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else: what is behind is the migration's."""
    found = Scripted(schema, monkeypatch, EMPTY, HEAD)
    assert states(found.helper.wait()) == HEAD
    assert found.brought == [{"empty"}]
    both = {"tracking": "empty", "auth": "at_head"}
    found = Scripted(schema, monkeypatch, both, {**both, "tracking": "at_head"})
    assert states(found.helper.wait()) == {"tracking": "at_head", "auth": "at_head"}
    assert found.brought == [{"empty"}]
    found = Scripted(schema, monkeypatch, {"tracking": "empty", "auth": "behind"})
    found.helper.wait()
    assert found.brought == []


def test_wait_leaves_it_to_who_holds_the_lock(
    schema: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Scripted(schema, monkeypatch, EMPTY, HEAD, free=False)
    assert states(found.helper.wait()) == HEAD
    assert found.brought == []
    assert "tracking empty at r1, head r2 · another process holds the lock" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("look", [EMPTY, BEHIND, {"tracking": "behind", "auth": "empty"}])
def test_migrate_brings_to_head(
    look: States, schema: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Scripted(schema, monkeypatch, look, HEAD)
    assert states(found.helper.migrate()) == HEAD
    assert found.brought == [{"empty", "behind"}]


@pytest.mark.parametrize("state", ["at_head", "ahead", "unknown", "partial", "denied"])
def test_migrate_touches_nothing_where_it_must_not(
    state: str, schema: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Scripted(schema, monkeypatch, {"tracking": state, "auth": "at_head"})
    assert states(found.helper.migrate())["tracking"] == state
    assert (found.brought, found.clock) == ([], 0)


def test_migrate_waits_for_a_database_that_does_not_answer(
    schema: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = {"tracking": "unreachable"}
    found = Scripted(schema, monkeypatch, gone, gone, BEHIND, HEAD)
    assert states(found.helper.migrate()) == HEAD
    assert found.clock == 2 * schema.POLL_SECONDS
    found = Scripted(schema, monkeypatch, gone)
    assert states(found.helper.migrate()) == gone
    assert found.brought == []


def test_migrate_says_who_holds_the_lock(
    schema: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Scripted(schema, monkeypatch, BEHIND, free=False)
    verdicts = found.helper.migrate()
    assert verdicts["tracking"].detail == "another process holds the lock"


def test_a_database_that_goes_away_in_the_middle_is_tried_again(
    schema: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So often, and no more; any other error is told at once."""
    found = Scripted(schema, monkeypatch, BEHIND)

    def lose(_locks: Any, _states: Any) -> None:
        raise schema.LostError("it went\nand more")

    found.helper.bring_to_head = lose
    for _turn in range(schema.LOST_MOST):
        assert found.helper.attempt({"behind"}) == "the database went away: it went"
    with pytest.raises(schema.LostError):
        found.helper.attempt({"behind"})

    def block(_locks: Any, _states: Any) -> None:
        raise schema.BlockedError("gave up waiting")

    found.helper.bring_to_head = block
    assert found.helper.attempt({"behind"}) == "gave up waiting"

    def fail(_locks: Any, _states: Any) -> None:
        raise ValueError("no")

    found.helper.bring_to_head = fail
    found.helper._lost = 0
    with pytest.raises(ValueError, match="no"):
        found.helper.attempt({"behind"})


def test_what_is_said_again_is_said_every_half_minute(
    schema: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Scripted(schema, monkeypatch, BEHIND)
    found.helper.secrets = {"hunter22-of-tests"}
    for clock, text in (
        (1, "a"),
        (2, "a"),
        (3, "b"),
        (32, "b"),
        (33, "b"),
        (34, "hunter22-of-tests"),
    ):
        found.clock = clock
        found.helper.say(text)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["1.0", "s", "a"],
        ["3.0", "s", "b"],
        ["33.0", "s", "b"],
    ]
    assert len(lines) == 4
    assert "hunter22" not in lines[3]


def test_it_comes_back_within_half_a_minute(
    schema: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = {"tracking": "unreachable"}
    found = Scripted(schema, monkeypatch, gone, gone, HEAD)
    found.helper.deadline = 1000.0
    assert states(found.helper.inspect_when_back()) == HEAD
    found = Scripted(schema, monkeypatch, gone)
    found.helper.deadline = 1000.0
    assert states(found.helper.inspect_when_back()) == gone
    assert found.clock == schema.REPORT_SECONDS


class Row:
    """A connection that answers each statement with one row."""

    def __init__(self, row: Any) -> None:
        self.row = row

    def execute(self, *_statement: Any) -> Row:
        return self

    def first(self) -> Any:
        return self.row


@pytest.mark.parametrize(
    ("row", "holder"),
    [
        (None, None),
        ((7, None), "the database session 7"),
        ((7, "10.0.0.1"), "the database session 7 from 10.0.0.1"),
    ],
)
def test_half_a_schema_that_somebody_makes_is_behind(
    row: Any, holder: str | None, schema: ModuleType
) -> None:
    database: Any = object.__new__(schema.Database)
    database.sql = str
    assert database.lock_holder(Row(row)) == holder
    half = schema.Verdict("partial", "r1", "r2", "half")
    found = database._under_way(Row(row), half)
    if holder is None:
        assert found == half
    else:
        said = f"being initialised or migrated now by {holder}"
        assert found == schema.Verdict("behind", "r1", "r2", said)


@pytest.mark.parametrize(
    ("session", "says"),
    [
        ((0, None, None, None, None), "a prepared transaction (see pg_prepared_xacts)"),
        ((7, None, None, None, None), "session 7 (ended since)"),
        (
            (7, "psql", "me", "10.0.0.1", "idle in transaction"),
            "session 7 (application 'psql', user me, from 10.0.0.1, idle in transaction)",
        ),
        ((7, "", "me", None, "active"), "session 7 (user me, active)"),
    ],
)
def test_who_blocks(session: tuple[Any, ...], says: str, schema: ModuleType) -> None:
    assert schema.blocker(*session) == says


@pytest.mark.parametrize(
    ("text", "seconds"), [("", 900), ("0", 0), ("12.5", 12.5), ("999999999", 999999999)]
)
def test_how_long(text: str, seconds: float, schema: ModuleType) -> None:
    assert schema._timeout({"MLOPS_SCHEMA_TIMEOUT": text}) == seconds


@pytest.mark.parametrize("text", ["-1", "soon", "1e9", "nan", "inf"])
def test_no_time(text: str, schema: ModuleType) -> None:
    with pytest.raises(schema.UsageError, match="MLOPS_SCHEMA_TIMEOUT must be"):
        schema._timeout({"MLOPS_SCHEMA_TIMEOUT": text})


def test_a_disk_that_is_full(schema: ModuleType) -> None:
    class Full(Exception):
        def __init__(self, **codes: str) -> None:
            self.orig = type("Orig", (), codes)()

    assert schema.is_full(Full(pgcode="53100"))
    assert schema.is_full(Full(sqlstate="53100"))
    assert not schema.is_full(Full(pgcode="53000"))
    assert not schema.is_full(ValueError())
