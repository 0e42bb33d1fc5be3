"""What the schema helper concludes from what it found in a database."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

INITIAL = {"experiments", "runs", "tags", "metrics", "params"}
TABLES = INITIAL | {"registered_models", "webhooks"}
AUTH_TABLES = {"users", "roles", "role_permissions"}


def state(schema: ModuleType, name: str = "TRACKING", **facts: Any) -> tuple[str, str | None, str]:
    """Return state, current revision and detail for an image that knows r1, r2 and r3."""
    tables = TABLES if name == "TRACKING" else AUTH_TABLES
    scripts = schema.Scripts("r3", frozenset({"r1", "r2", "r3"}), frozenset(tables))
    verdict = schema.decide(
        getattr(schema, name),
        scripts,
        schema.Facts(
            tuple(facts.get("revisions", ())),
            frozenset(facts.get("tables", ())),
            facts.get("has_rows"),
            tuple(facts.get("newer", ())),
            tuple(facts.get("elsewhere", ())),
        ),
    )
    assert verdict.head == "r3"
    return verdict.state, verdict.current, verdict.detail


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, "empty"),
        ({"tables": AUTH_TABLES}, "empty"),  # basic auth may share the database
        ({"elsewhere": ["schema old"]}, "partial"),  # out of search_path's reach
        ({"tables": AUTH_TABLES, "elsewhere": ["schema old"]}, "partial"),
        ({"revisions": ["r3"], "tables": TABLES, "elsewhere": ["schema old"]}, "at_head"),
        ({"tables": INITIAL, "has_rows": False}, "empty"),  # an initialisation was cut off
        ({"tables": {"experiments"}, "has_rows": False}, "empty"),
        ({"tables": INITIAL, "has_rows": True}, "partial"),
        ({"tables": TABLES}, "partial"),
        ({"tables": {"customers"}}, "partial"),
        ({"revisions": ["r3"], "tables": TABLES}, "at_head"),
        ({"revisions": ["r3"], "tables": TABLES | AUTH_TABLES | {"customers"}}, "at_head"),
        ({"revisions": ["r3"], "tables": TABLES - {"webhooks"}}, "partial"),
        ({"revisions": ["r3"], "tables": TABLES - {"runs"}}, "partial"),
        ({"revisions": ["r3"]}, "partial"),
        ({"revisions": ["r2"]}, "partial"),
        ({"revisions": ["rX"]}, "partial"),  # another program's alembic_version
        ({"revisions": ["r1"], "tables": TABLES}, "behind"),
        ({"revisions": ["r2"], "tables": INITIAL}, "behind"),
        ({"revisions": ["rX"], "tables": TABLES}, "unknown"),
        ({"revisions": ["rX"], "tables": TABLES, "newer": ["job_locks"]}, "ahead"),
        ({"revisions": ["rX"], "tables": INITIAL, "newer": ["job_locks"]}, "unknown"),
        ({"revisions": ["r2", "r3"], "tables": TABLES}, "unknown"),
    ],
)
def test_tracking(schema: ModuleType, facts: dict[str, Any], expected: str) -> None:
    assert state(schema, **facts)[0] == expected


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, "empty"),
        ({"tables": TABLES}, "empty"),  # tracking's tables, in a shared database
        ({"tables": {"users", "experiment_permissions"}}, "behind"),  # before MLflow 3.6
        ({"tables": {"experiment_permissions"}}, "partial"),
        ({"revisions": ["r3"], "tables": AUTH_TABLES | TABLES}, "at_head"),
        ({"revisions": ["r3"], "tables": TABLES}, "partial"),
        ({"revisions": ["r1"], "tables": {"users"}}, "behind"),
        ({"revisions": ["rX"], "tables": AUTH_TABLES}, "unknown"),
        ({"revisions": ["rX"], "tables": AUTH_TABLES, "newer": ["users.mail"]}, "ahead"),
    ],
)
def test_auth(schema: ModuleType, facts: dict[str, Any], expected: str) -> None:
    assert state(schema, "AUTH", **facts)[0] == expected


def test_a_verdict_says_what_it_saw(schema: ModuleType) -> None:
    _state, current, detail = state(schema, revisions=["r3"], tables=TABLES - {"webhooks"})
    assert (current, detail) == ("r3", "the revision is at head, but webhooks is missing")
    assert state(schema, tables=set("abcdefg"))[2].endswith(": a, b, c, d and 3 more")


def test_what_waiting_does_not_cure_is_certain(schema: ModuleType) -> None:
    assert {"ahead", "unknown", "partial", "denied"} == schema.CERTAIN


@pytest.mark.parametrize(
    ("message", "code", "expected"),
    [
        ("connection to server failed: Connection refused", None, "unreachable"),
        ('could not translate host name "postgres" to address', None, "unreachable"),
        ("timeout expired", None, "unreachable"),
        ("server closed the connection unexpectedly", None, "unreachable"),
        ("FATAL:  the database system is starting up", None, "unreachable"),
        ("FATAL:  the database system is not yet accepting connections", None, "unreachable"),
        ("FATAL:  sorry, too many clients already", None, "unreachable"),
        ("FATAL:  remaining connection slots are reserved", None, "unreachable"),
        ("FATAL:  terminating connection due to administrator command", None, "unreachable"),
        ("FATAL:  no more connections allowed (max_client_conn)", None, "unreachable"),
        ('FATAL:  password authentication failed for user "m"', None, "denied"),
        ("fe_sendauth: no password supplied", None, "denied"),
        ('FATAL:  database "m" does not exist', None, "denied"),
        ('FATAL:  role "m" does not exist', None, "denied"),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.1"', None, "denied"),
        ("server does not support SSL, but SSL was required", None, "denied"),
        ("permission denied for table alembic_version", "42501", "denied"),
        ("irgendwas", "28P01", "denied"),
        ("irgendwas", "57P03", "unreachable"),
        ("irgendwas", "53300", "unreachable"),
    ],
)
def test_unreachable_or_denied(
    schema: ModuleType, message: str, code: str | None, expected: str
) -> None:
    assert schema.classify(message, code) == expected


@pytest.mark.parametrize(
    ("attribute", "code", "full"),
    [
        ("pgcode", "53100", True),
        ("sqlstate", "53100", True),
        ("pgcode", "53200", False),
        ("pgcode", None, False),
    ],
)
def test_a_full_disk_is_told_from_what_passes(
    schema: ModuleType, attribute: str, code: str | None, full: bool
) -> None:
    error = RuntimeError("could not extend file")
    assert not schema.is_full(error)
    error.orig = SimpleNamespace(**{attribute: code})  # type: ignore[attr-defined]
    assert schema.is_full(error) is full
