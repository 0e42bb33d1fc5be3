# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of releases: what it keeps, what it never keeps, and where a rollback goes."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._release import record as _releases
from ansible_collections.mlops.mlflow.plugins.module_utils._release.record import Record
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render.kustomization import (
    with_last_applied,
)

NOW = "2026-11-25T14:00:00Z"
OLD_HEAD = {"tracking": "b7e2c1a4d9f3"}
NEW_HEAD = {"tracking": "dc11669786a5"}
Object = dict[str, Any]


def release(version: str, **config: str) -> Object:
    """Return what a render is, as far as the record looks at it."""
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "mlflow-config", "namespace": "here"},
        "data": {"VERSION": version, **config},
    }
    env = [{"name": "PGPASSWORD", "valueFrom": {"secretKeyRef": {"name": "creds", "key": "p"}}}]
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "mlflow", "annotations": {"a": "b"}},
        "spec": {"template": {"spec": {"containers": [{"name": "mlflow", "env": env}]}}},
    }
    return {
        "stages": {
            "config": [with_last_applied(config_map)],
            "server": [with_last_applied(deployment)],
        },
        "namespace": "here",
        "version": version,
        "image": f"mlflow:{version}",
        "postgres_image": "postgres:17",
        "secret_definitions": '[{"data": {"password": "a-secret-value"}}]',
    }


def verdict(revisions: dict[str, str]) -> Object:
    return {name: {"state": "at_head", "current": text} for name, text in revisions.items()}


def backup(name: str, revisions: dict[str, str]) -> Object:
    return {"name": name, "time": NOW, "revisions": revisions}


def begin(record: Record, item: Object, **more: Any) -> Record:
    return through_the_cluster(_releases.begun(record, _releases.kept(item), NOW, **more))


def finish(record: Record, item: Object, revisions: dict[str, str]) -> Record:
    return through_the_cluster(
        _releases.done(record, _releases.kept(item), NOW, verdict(revisions))
    )


def deploy(record: Record, item: Object, revisions: dict[str, str], **more: Any) -> Record:
    return finish(begin(record, item, **more), item, revisions)


def through_the_cluster(record: Record) -> Record:
    """Write and read a record, which must not change it."""
    found = _releases.read(json.loads(json.dumps(_releases.write(record, "here"))))
    assert found == record
    return found


@pytest.fixture
def upgraded() -> Record:
    """3.16.1, then 3.17.2 with another schema and a backup before it."""
    first = deploy(Record(), release("3.16.1"), OLD_HEAD)
    return deploy(first, release("3.17.2"), NEW_HEAD, backup=backup("b1", OLD_HEAD))


def test_a_release_is_recorded_once() -> None:
    once = deploy(Record(), release("3.16.1"), OLD_HEAD)
    assert [item["version"] for item in once.releases] == ["3.16.1"]
    assert once.releases[0]["schema"] == OLD_HEAD
    assert once.releases[0]["secrets"] == ["creds"]
    assert once.pending is None
    assert deploy(once, release("3.16.1"), OLD_HEAD) == once


def test_what_was_last_good(upgraded: Record) -> None:
    assert _releases.last(Record()) is None
    assert _releases.last(upgraded) == {
        "time": NOW,
        "proof": "rollout",
        "number": 2,
        "version": "3.17.2",
        "backup": "b1",
    }
    # One that was begun has not served yet.
    failed = begin(upgraded, release("3.17.2", COLOUR="red"))
    assert _releases.last(failed) == _releases.last(upgraded)
    smoke = {**release("3.17.2", COLOUR="red"), "smoke_test_job": "mlflow-smoke-test-1"}
    proven = _releases.last(deploy(upgraded, smoke, NEW_HEAD))
    assert proven
    assert (proven["number"], proven["proof"], proven["backup"]) == (3, "smoke test", None)


def test_no_secret_is_recorded() -> None:
    record = deploy(Record(), release("3.16.1"), OLD_HEAD)
    written = _releases.write(record, "here")
    packed = next(iter(written["binaryData"].values()))
    text = gzip.decompress(base64.b64decode(packed)).decode() + json.dumps(written["data"])
    assert "VERSION" in text
    assert "a-secret-value" not in text
    with_secret = release("3.16.1")
    with_secret["stages"]["config"].append({"kind": "Secret", "metadata": {"name": "x"}})
    with pytest.raises(_releases.RecordError, match="never recorded"):
        _releases.kept(with_secret)


def test_what_was_applied_comes_back_as_it_was_rendered(upgraded: Record) -> None:
    target = _releases.target(upgraded)
    content = _releases.unpack(upgraded.contents[target.release["number"]])
    original = release("3.16.1")
    del original["secret_definitions"]
    assert content == original


def test_a_rollback_goes_to_the_release_before_with_the_backup_between(upgraded: Record) -> None:
    target = _releases.target(upgraded)
    assert target.release["version"] == "3.16.1"
    assert target.left["version"] == "3.17.2"
    assert target.backup
    assert target.backup["name"] == "b1"


def test_a_failed_upgrade_is_left_for_the_last_that_served() -> None:
    first = deploy(Record(), release("3.16.1"), OLD_HEAD)
    failed = begin(first, release("3.17.2"), backup=backup("b1", OLD_HEAD))
    target = _releases.target(failed)
    assert target.release["version"] == "3.16.1"
    assert not target.finished
    assert _releases.name(target.left) == "an unfinished release (MLflow 3.17.2)"
    assert target.backup
    assert target.backup["name"] == "b1"


def test_the_backup_that_is_kept_has_the_schema_that_was_left() -> None:
    first = deploy(Record(), release("3.16.1"), OLD_HEAD)
    once = begin(first, release("3.17.2"), backup=backup("b1", OLD_HEAD))
    # The migration had not happened yet: the later one loses less.
    twice = begin(once, release("3.17.2"), backup=backup("b2", OLD_HEAD))
    assert twice.pending
    assert twice.pending["backup"]["name"] == "b2"
    # It had: this one does not lead back.
    late = begin(twice, release("3.17.3"), backup=backup("b3", NEW_HEAD))
    assert late.pending
    assert late.pending["backup"]["name"] == "b2"
    # And a run without a backup does not lose it.
    served = deploy(late, release("3.17.3"), NEW_HEAD)
    assert served.releases[0]["backup"]["name"] == "b2"


def test_after_a_rollback_the_next_goes_one_further(upgraded: Record) -> None:
    third = deploy(upgraded, release("3.17.2", COLOUR="red"), NEW_HEAD)
    assert [item["number"] for item in third.releases] == [3, 2, 1]
    back = deploy(third, release("3.17.2"), NEW_HEAD, back_to=2)
    assert [item["number"] for item in back.releases] == [2, 1]
    assert back.pending is None
    assert back.releases[0]["back_since"] == NOW
    target = _releases.target(back)
    assert target.release["number"] == 1
    assert target.backup
    assert target.backup["name"] == "b1"
    # What is released now has a number that nothing had before.
    forward = deploy(back, release("3.17.2", COLOUR="blue"), NEW_HEAD)
    assert [item["number"] for item in forward.releases] == [4, 2, 1]


def test_an_interrupted_rollback_keeps_its_goal(upgraded: Record) -> None:
    third = deploy(upgraded, release("3.17.2", COLOUR="red"), NEW_HEAD)
    interrupted = begin(third, release("3.17.2"), back_to=2)
    assert _releases.target(interrupted).release["number"] == 2
    again = begin(interrupted, release("3.17.2"), back_to=2)
    assert again == interrupted
    assert [item["number"] for item in finish(again, release("3.17.2"), NEW_HEAD).releases] == [
        2,
        1,
    ]


def test_a_rollback_from_a_failed_upgrade_keeps_its_backup_when_interrupted() -> None:
    first = deploy(Record(), release("3.16.1"), OLD_HEAD)
    failed = begin(first, release("3.17.2"), backup=backup("b1", OLD_HEAD))
    interrupted = begin(failed, release("3.16.1"), back_to=1)
    target = _releases.target(interrupted)
    assert target.release["number"] == 1
    assert target.backup
    assert target.backup["name"] == "b1"
    done = finish(interrupted, release("3.16.1"), OLD_HEAD)
    assert [item["number"] for item in done.releases] == [1]
    assert done.pending is None


def test_a_rollback_that_was_given_up_is_forgotten(upgraded: Record) -> None:
    interrupted = begin(upgraded, release("3.16.1"), back_to=1)
    forward = deploy(interrupted, release("3.17.2"), NEW_HEAD)
    assert forward == upgraded


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (Record(), "no release is recorded"),
        (begin(Record(), release("3.16.1")), "the first one was never finished"),
        (deploy(Record(), release("3.16.1"), OLD_HEAD), "release 1 .MLflow 3.16.1. is the only"),
    ],
    ids=["none", "unfinished", "one"],
)
def test_where_there_is_nowhere_to_go_it_says_why(record: Record, words: str) -> None:
    with pytest.raises(_releases.RecordError, match=words):
        _releases.target(record)


def test_only_the_last_few_are_kept_and_what_they_need() -> None:
    record = Record()
    for number in range(1, 9):
        record = deploy(record, release("3.16.1", N=str(number)), OLD_HEAD)
    assert [item["number"] for item in record.releases] == [8, 7, 6, 5, 4]
    assert sorted(record.contents) == [4, 5, 6, 7, 8]
    assert _releases.needed_secrets(record) == ["creds"]


def test_what_only_a_release_that_is_left_behind_needs_goes_with_it(upgraded: Record) -> None:
    newest = {**upgraded.releases[0], "secrets": ["creds", "creds-2"]}
    newer = upgraded._replace(releases=(newest, *upgraded.releases[1:]))
    assert _releases.needed_secrets(newer) == ["creds", "creds-2"]
    back = begin(newer, release("3.16.1"), back_to=1)
    assert _releases.needed_secrets(back) == ["creds"]
    # Whoever goes forward again needs it.
    forward = begin(back, release("3.17.2", COLOUR="red"))
    assert _releases.needed_secrets(forward) == ["creds", "creds-2"]


def test_it_never_outgrows_a_config_map(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_releases, "LIMIT", 3000)
    record = Record()
    for number in range(1, 6):
        record = deploy(record, release("3.16.1", N=str(number)), OLD_HEAD)
    assert 1 <= len(record.releases) < 5
    assert record.releases[0]["number"] == 5
    assert sorted(record.contents, reverse=True) == [item["number"] for item in record.releases]


@pytest.mark.parametrize(
    "data",
    [
        {"releases.json": "{"},
        {"releases.json": "{}"},
        {"releases.json": "[1]"},
        {"pending.json": "1"},
        {"next": "x"},
    ],
)
def test_what_another_wrote_is_refused(data: Object) -> None:
    with pytest.raises(_releases.RecordError, match="not what this collection wrote"):
        _releases.read({"data": data})


@pytest.mark.parametrize("text", ["", "####", base64.b64encode(b"x").decode(), _releases.pack({})])
def test_a_content_that_was_changed_is_refused(text: str) -> None:
    with pytest.raises(_releases.RecordError, match="cannot be read"):
        _releases.unpack(text)


def test_a_release_whose_content_is_gone_is_no_goal(upgraded: Record) -> None:
    with pytest.raises(_releases.RecordError, match="not recorded any more"):
        _releases.target(upgraded._replace(contents={}))
