# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the schema helper's verdict means, and the sentence that is made of it."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._wait import schema

AT = " (revision a1, this image's is b2)"


@pytest.mark.parametrize(
    ("state", "reason", "says"),
    [
        ("denied", "database_denied", "it does not let MLflow in"),
        ("unreachable", "database_unreachable", "Postgres does not answer"),
        ("unknown", "schema_unknown", f"its revision is not known to this image{AT}"),
        ("ahead", "schema_ahead", f"it was migrated by a newer MLflow{AT}"),
        ("partial", "schema_partial", f"its tables and its revision do not fit together{AT}"),
        ("behind", "schema_behind", f"it has not been migrated to this image's revision{AT}"),
        ("empty", "schema_behind", f"it has no tables yet{AT}"),
    ],
)
@pytest.mark.parametrize("name", ["tracking", "auth"])
def test_each_state(name: str, state: str, reason: str, says: str) -> None:
    entry = {"state": state, "current": "a1", "head": "b2"}
    verdict = {"tracking": {"state": "at_head"}, name: entry}
    assert schema.explain(verdict) == (reason, f"the {name} database is {state}: {says}")
    told = {**entry, "detail": "so it is\nand more"}
    assert schema.explain({**verdict, name: told}) == (
        reason,
        f"the {name} database is {state}: {says}: so it is",
    )
    assert not schema.at_head(verdict)


def test_revisions_that_are_not_known() -> None:
    found = schema.explain({"tracking": {"state": "behind", "head": "b2"}})
    assert found
    assert found[1].endswith("(revision none, this image's is b2)")
    found = schema.explain({"tracking": {"state": "behind"}})
    assert found
    assert "(revision" not in found[1]


ORDER = ["denied", "unreachable", "unknown", "ahead", "partial", "behind", "empty"]


@pytest.mark.parametrize(
    ("one", "other"), [(a, b) for n, a in enumerate(ORDER) for b in ORDER[n + 1 :]]
)
def test_the_worst_of_two_explains(one: str, other: str) -> None:
    for first, second in ((one, other), (other, one)):
        found = schema.explain({"tracking": {"state": first}, "auth": {"state": second}})
        assert found
        assert found[1].startswith(
            f"the {'tracking' if first == one else 'auth'} database is {one}"
        )


@pytest.mark.parametrize(
    ("verdict", "says"),
    [
        ({"tracking": {"state": "at_head"}}, ""),
        ({"tracking": {"state": "behind"}}, ""),
        (
            {"tracking": {"state": "empty"}},
            "the tracking database is empty, and about to be initialised",
        ),
        (
            {"tracking": {"state": "at_head"}, "auth": {"state": "empty"}},
            "the auth database is empty, and about to be initialised",
        ),
        (
            {"tracking": {"state": "behind", "detail": "being migrated now"}},
            "the tracking database is being migrated now",
        ),
    ],
)
def test_what_is_under_way(verdict: dict[str, t.Any], says: str) -> None:
    assert schema.under_way(verdict) == says


VERDICT = {"tracking": {"state": "at_head"}, "auth": {"state": "behind"}}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (json.dumps(VERDICT), VERDICT),
        (f"noise\n{json.dumps(VERDICT)}\n", VERDICT),
        (f"{json.dumps({'tracking': {'state': 'empty'}})}\n{json.dumps(VERDICT)}", VERDICT),
        (f"{json.dumps(VERDICT)}\nnoise", VERDICT),
        ('{"tracking": {"state": 1}}', None),
        ('{"tracking": "state"}', None),
        ('["state"]', None),
        ('{"auth": {"state": "behind"}}', None),
        ('"state"', None),
    ],
)
def test_a_verdict_in_a_text(text: str, found: t.Any) -> None:
    """The last one counts."""
    assert schema.parse(text) == found


def containers(init: bool, running: bool, words: list[str], place: str) -> dict[str, t.Any]:
    statuses, names = (
        ("initContainerStatuses", "initContainers") if init else ("containerStatuses", "containers")
    )
    state: dict[str, t.Any] = {"running": {}} if running else {"waiting": {}}
    return {
        "spec": {names: [{"name": "other"}, {"name": "helper", place: words}]},
        "status": {statuses: [{"name": "other", "state": {"running": {}}},
                              {"name": "helper", "state": state}]},
    }  # fmt: skip


@pytest.mark.parametrize("init", [True, False])
@pytest.mark.parametrize("place", ["command", "args"])
def test_where_the_helper_runs(init: bool, place: str) -> None:
    words = ["python3", schema.HELPER, "wait"]
    found = containers(init, True, words, place)
    assert schema.helper_runs_in(found, init) == "helper"
    assert schema.helper_runs_in(found, not init) == ""
    assert schema.helper_runs_in(containers(init, False, words, place), init) == ""
    assert schema.helper_runs_in(containers(init, True, ["python3"], place), init) == ""
    assert schema.helper_runs_in({}, init) == ""
