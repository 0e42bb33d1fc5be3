# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What many releases in one run are told apart by, and how a person is told of them."""

from __future__ import annotations

import itertools
import typing as t

import pytest
from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory import identity
from ansible_collections.mlops.mlflow.plugins.plugin_utils._release import fleet

PLACE = ["/overlays/production", "team-a"]
CLUSTER = {"kubeconfig": "/k", "context": "eu"}
SETTINGS: dict[str, t.Any] = {
    "mlflow_namespace": "team-a",
    "mlflow_replicas": 2,
    "mlflow_timeout": 600,
    "mlflow_admin_password": "a",
}
SPECS: dict[str, dict[str, t.Any]] = {
    **{name: {} for name in SETTINGS},
    "mlflow_admin_password": {"no_log": True},
}


def named(
    settings: dict[str, t.Any] | None = None,
    cluster: dict[str, str] | None = None,
    place: list[str] | None = None,
) -> str:
    return identity.identity(
        {**SETTINGS, **(settings or {})}, SPECS, cluster or CLUSTER, "context eu", place or PLACE
    )


def test_another_namespace_cluster_overlay_or_setting_is_another_release() -> None:
    different = [
        named(),
        named({"mlflow_replicas": 3}),
        named(cluster={"kubeconfig": "/k", "context": "us"}),
        named(cluster={"kubeconfig": "/other", "context": "eu"}),
        named(place=["/overlays/staging", "team-a"]),
        named(place=["/overlays/production", "team-b"]),
        # A variable that is new to this list is taken for one that the build reads.
        named({"mlflow_of_next_year": 1}),
    ]
    for one, other in itertools.combinations(different, 2):
        assert one != other


def test_how_a_run_goes_is_no_other_release_and_no_secret_is_in_its_name() -> None:
    for name in ("mlflow_timeout", "mlflow_backup", "mlflow_migration_strategy"):
        assert named({name: "other"}) == named()
    assert named({"mlflow_admin_password": "b"}) == named()
    assert named({"preflight_backup": True}) == named()


@pytest.mark.parametrize(
    ("run", "skip", "option"),
    [
        (["all"], [], ""),
        (["all"], ["slow"], ""),
        (["all"], ["molecule-notest", "notest"], ""),
        (["migration"], [], "--tags migration"),
        (["all", "never"], [], ""),
        (["tagged"], [], "--tags tagged"),
        (["all"], ["always"], "--skip-tags always"),
        (["all"], ["untagged", "slow"], "--skip-tags untagged"),
    ],
)
def test_tags_that_leave_steps_out_are_refused(
    run: list[str], skip: list[str], option: str
) -> None:
    said = identity.left_out(run, skip)
    assert said.startswith(option)
    assert bool(said) == bool(option)


@pytest.mark.parametrize(
    ("limit", "unknown"),
    [
        ("", []),
        ("a", []),
        ("a,team,b", []),
        ("a:&team:!b", []),
        ("a,x", ["x"]),
        ("a:!x", ["x"]),
        # Patterns are Ansible's to understand.
        ("a*,~b.,team[0]", []),
    ],
)
def test_a_plain_name_of_a_limit_has_to_be_known(limit: str, unknown: list[str]) -> None:
    assert fleet.unknown_in(limit, {"a", "b", "team"}) == unknown


def test_what_is_alike() -> None:
    assert fleet.alike({"a": ("x", 1), "b": ("y", 1), "c": ("x", 1)}) == [(["a", "c"], ("x", 1))]
    assert fleet.alike({"a": 1, "b": 2}) == []


@pytest.mark.parametrize(
    ("waves", "percentage", "stops"),
    [
        ([], 99, False),
        ([(["a"], [])], 99, False),
        # As Ansible does without a percentage: after a wave in which all failed.
        ([(["a"], ["a"])], 99, True),
        ([(["a", "b"], ["a"])], 99, False),
        ([(["a"], []), (["b", "c", "d"], ["b", "c"])], 50, True),
        ([(["a", "b"], ["a"])], 50, False),
        ([(["a", "b"], ["a"])], 0, True),
        ([(["a"], ["a"])], 100, False),
    ],
)
def test_when_no_further_release_is_begun(
    waves: list[tuple[list[str], list[str]]], percentage: float, stops: bool
) -> None:
    assert bool(fleet.stopped_by((fleet.Wave(*w) for w in waves), percentage)) == stops


def test_the_reason_in_the_table_is_one_line_of_bounded_length() -> None:
    assert fleet.shorten("first\n line " + "word " * 100).endswith("word...")
    assert fleet.shorten("first\n  second") == "first second"
    assert fleet.message_of({"msg": "", "failure": {}}) == "a task failed without a message"


def test_a_hidden_result_stays_hidden() -> None:
    for hidden in ({"_ansible_no_log": True}, {"censored": "hidden"}):
        assert "secret" not in fleet.message_of({"msg": "secret", **hidden})


VERDICT = {
    "reason": "crash_loop",
    "kind": "Deployment",
    "name": "mlflow",
    "container": "mlflow",
    "message": "it ends with exit code 1",
    "hint": "See its log:\nkubectl -n here logs deployment/mlflow",
    "events": ["Back-off"],
    "logs": ["starting", "no such table: experiments", ""],
}


def test_a_verdict_is_told_in_few_lines() -> None:
    assert fleet.message_of({"msg": "long", "failure": VERDICT}).splitlines() == [
        "crash_loop: Deployment/mlflow, container mlflow:",
        "it ends with exit code 1",
        "log: no such table: experiments",
        "See its log:",
        "kubectl -n here logs deployment/mlflow",
        "With -v, the run prints the whole report where the task failed.",
    ]


@pytest.mark.parametrize("count", [1, 4, 30])
def test_a_long_hint_or_message_is_cut(count: int) -> None:
    hint = "\n".join(f"line {number}" for number in range(count))
    said = fleet.message_of({"failure": {**VERDICT, "hint": hint}})
    assert len(said.splitlines()) <= fleet.MOST_LINES
    assert f"line {count - 1}" in said
    problems = "\n".join(f"  - {number}" for number in range(count))
    said = fleet.message_of({"msg": f"{count} problems:\n{problems}"})
    assert len(said.splitlines()) == min(fleet.MOST_LINES, count + 1)
    assert count < 8 or said.endswith("and 26 more lines, above, where the task failed")


def outcome(name: str, **more: t.Any) -> fleet.Outcome:
    found = {
        "run": "1", "name": name, "namespace": f"team-{name}", "version": "3.17.2",
        "outcome": "changed", "seconds": 12, "reason": "", "message": "",
    }  # fmt: skip
    return t.cast("fleet.Outcome", {**found, **more})


def failed(name: str, message: str) -> fleet.Outcome:
    return outcome(name, outcome="failed", message=message, reason=fleet.shorten(message))


def test_what_a_person_sees_last_has_at_most_eight_lines() -> None:
    lines = fleet.ending([failed("a", fleet.message_of({"failure": VERDICT}))])
    assert len(lines) == 8
    assert lines[2] == "crash_loop: Deployment/mlflow, container mlflow:"
    assert lines[6] == "kubectl -n here logs deployment/mlflow"


def test_of_many_releases_each_reason_has_its_name() -> None:
    lines = fleet.ending([outcome("a"), failed("b", "one line"), failed("c", "one\ntwo")])
    assert lines[4:] == ["", "c:", "one", "two"]


def test_the_table_has_a_line_for_each() -> None:
    outcomes = [
        outcome("a"),
        outcome(
            "long-name", namespace="", version="", outcome="failed", seconds=None, reason="quota"
        ),
    ]
    assert fleet.table(outcomes) == [
        "name       namespace  version  outcome  seconds  reason",
        "a          team-a     3.17.2   changed  12",
        "long-name  -          -        failed   -        quota",
    ]
