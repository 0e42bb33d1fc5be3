# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run begins with lock and note, and ends with note and lock: neither without the other."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Answer, ApiError
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.ownership import is_ours
from ansible_collections.mlops.mlflow.plugins.module_utils._release import lock, record, turn
from ansible_collections.mlops.mlflow.plugins.module_utils._release.lock import LeaseError, Lost
from ansible_collections.mlops.mlflow.plugins.module_utils._release.record import RecordError
from ansible_collections.mlops.mlflow.plugins.module_utils._release.records import Records
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.leases import (
    PATH,
    Leases,
    begun,
    ended,
)

RECORD = "/api/v1/namespaces/here/configmaps/mlflow-releases"
BACKUP = {
    "name": "20261125T140301Z",
    "time": "2026-11-25T14:03:01Z",
    "bytes": 7,
    "databases": [{"revisions": {"tracking": "b7e2"}}, {"revisions": {"auth": "1234"}}],
}
Object = dict[str, Any]


@pytest.fixture
def cluster() -> Leases:
    return Leases()


def release(version: str) -> Object:
    item = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"c-{version}"}}
    return {"stages": {"config": [item]}, "version": version, "image": f"mlflow:{version}"}


def begin(cluster: Leases, **given: Any) -> Object:
    # A process of its own each time.
    cluster.guard = None
    return turn.begin(cluster, begun(**given), False)


def end(cluster: Leases, holder: str, **given: Any) -> Object:
    cluster.guard = None
    return turn.end(cluster, ended(holder, **given), False)


def noted(cluster: Leases) -> record.Record:
    return Records(cluster, "here").read()


def whole(cluster: Leases, version: str, **given: Any) -> None:
    """Have a release begin and end."""
    held = begin(cluster, release=release(version), **given)
    end(cluster, held["holder"], release=release(version))


# --- The lock -------------------------------------------------------------------------------------


def test_the_run_is_named_and_no_two_alike(cluster: Leases) -> None:
    result = begin(cluster, run="AWX job 12")
    assert "(AWX job 12)" in result["holder"]
    assert result["lease"] == {
        "name": "mlflow-release",
        "namespace": "here",
        "holder": cluster.holder,
        "ttl": 60,
    }
    assert turn.new_holder("") != turn.new_holder("")
    # Within one run it is kept.
    assert begin(cluster, holder=result["holder"])["lease"] == result["lease"]
    assert end(cluster, result["holder"])["lease"] == {**result["lease"], "holder": ""}
    assert PATH not in cluster.objects
    assert RECORD not in cluster.objects


def test_a_lock_that_was_lost_is_not_taken_anew(cluster: Leases) -> None:
    held = begin(cluster)
    del cluster.objects[PATH]
    # Nor by one that has given it back, and so has no name.
    for holder in (held["holder"], ""):
        with pytest.raises(Lost):
            begin(cluster, holder=holder, release=release("3.16.1"))
    assert cluster.objects == {}


def test_check_mode_writes_nothing(cluster: Leases) -> None:
    new = {"release": release("3.16.1")}
    assert turn.begin(cluster, begun(**new), True)["holder"] == ""
    held = begin(cluster)["holder"]
    written = cluster.writes()
    assert turn.begin(cluster, begun(**new), True)["holder"] == held
    assert turn.end(cluster, ended(held, **new), True)["changed"]
    assert cluster.writes() == written


# --- Lock and note --------------------------------------------------------------------------------


def test_a_release_is_noted_before_and_after_and_then_not_again(cluster: Leases) -> None:
    held = begin(cluster, release=release("3.16.1"))
    found = noted(cluster)
    assert found.releases == ()
    assert found.pending
    assert found.pending["version"] == "3.16.1"
    end(cluster, held["holder"], release=release("3.16.1"))
    assert noted(cluster).pending is None
    assert PATH not in cluster.objects
    first = json.dumps(cluster.objects)
    whole(cluster, "3.16.1")
    assert json.dumps(cluster.objects) == first
    # A prune of the release's own objects does not see it.
    assert not is_ours(cluster.objects[RECORD])


def test_a_run_that_fails_gives_the_lock_back_and_leaves_its_note(cluster: Leases) -> None:
    end(cluster, begin(cluster, release=release("3.16.1"))["holder"])
    assert PATH not in cluster.objects
    assert noted(cluster).releases == ()
    assert noted(cluster).pending


def test_nothing_is_noted_without_the_lock(cluster: Leases) -> None:
    begin(cluster, run="another")
    before = json.dumps(cluster.objects)
    with pytest.raises(LeaseError, match="another"):
        begin(cluster, release=release("3.16.1"))
    with pytest.raises(Lost, match="another"):
        end(cluster, "ann", release=release("3.16.1"))
    # It only gives back what it has.
    assert not end(cluster, "ann")["changed"]
    assert json.dumps(cluster.objects) == before


def test_a_run_that_lost_its_lock_fails_also_where_nothing_is_new(cluster: Leases) -> None:
    whole(cluster, "3.16.1")
    with pytest.raises(Lost):
        end(cluster, "ann", release=release("3.16.1"))


@pytest.mark.parametrize("refused", [("GET", "read"), ("PATCH", "written")])
def test_what_cannot_be_noted_does_not_begin(cluster: Leases, refused: tuple[str, str]) -> None:
    cluster.answers[(refused[0], RECORD)] = Answer(403, {"message": "no"})
    with pytest.raises(RecordError, match=f"mlflow-releases cannot be {refused[1]}: no"):
        begin(cluster, release=release("3.16.1"))
    assert PATH not in cluster.objects


def test_a_lock_from_before_outlives_a_note_that_fails(cluster: Leases) -> None:
    """Whoever has it may have something to put right, and gives it back."""
    held = begin(cluster)["holder"]
    cluster.answers[("PATCH", RECORD)] = Answer(403, {"message": "no"})
    with pytest.raises(RecordError):
        begin(cluster, holder=held, release=release("3.16.1"))
    assert cluster.holder == held
    with pytest.raises(RecordError):
        end(cluster, held, release=release("3.16.1"))
    assert cluster.holder == held
    assert RECORD not in cluster.objects


def test_that_it_serves_is_noted_when_an_api_server_that_restarts_is_back(
    cluster: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "LOOK_EVERY", 0.01)
    held = begin(cluster, release=release("3.16.1"))["holder"]

    def gone() -> NoReturn:
        raise ApiError(0, "cannot reach the cluster")

    cluster.meanwhile = [gone]
    end(cluster, held, release=release("3.16.1"))
    assert [item["version"] for item in noted(cluster).releases] == ["3.16.1"]


def test_a_backup_may_be_taken_after_the_release_has_begun(cluster: Leases) -> None:
    held = begin(cluster, release=release("3.17.2"))["holder"]
    begin(cluster, holder=held, release=release("3.17.2"), backup=BACKUP)
    pending = noted(cluster).pending
    assert pending
    assert pending["backup"]["name"] == "20261125T140301Z"


def test_a_rollback_leaves_the_newer_releases_behind(cluster: Leases) -> None:
    for version in ("3.16.1", "3.17.2"):
        whole(cluster, version)
    whole(cluster, "3.16.1", back_to=1)
    assert [item["number"] for item in noted(cluster).releases] == [1]


# --- Where a rollback goes ------------------------------------------------------------------------


def target(cluster: Leases) -> Object:
    return Records(cluster, "here").target()


def test_the_target_comes_with_what_it_applies(cluster: Leases) -> None:
    whole(cluster, "3.16.1")
    whole(cluster, "3.17.2", backup=BACKUP)
    found = target(cluster)
    assert found["number"] == 1
    assert found["name"] == "release 1 (MLflow 3.16.1)"
    assert found["left"] == "release 2 (MLflow 3.17.2)"
    assert found["release"]["image"] == "mlflow:3.16.1"
    assert found["backup"]["revisions"] == {"tracking": "b7e2", "auth": "1234"}


def stateful_set(size: str) -> Object:
    claim = {"metadata": {"name": "data"}, "spec": {"size": size}}
    metadata = {"name": "postgres", "namespace": "here"}
    spec = {"volumeClaimTemplates": [claim]}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": spec}


def test_a_target_has_the_volumes_of_today(cluster: Leases) -> None:
    """A volume never becomes smaller again."""
    for version, size in (("3.16.1", "5Gi"), ("3.17.2", "9Gi")):
        given = release(version)
        given["stages"]["database"] = [stateful_set(size)]
        held = begin(cluster, release=given)
        end(cluster, held["holder"], release=given)

    def applied() -> list[Object]:
        return [item["spec"] for item in target(cluster)["release"]["stages"]["database"]]

    # Where the database is away, it is made as it was.
    assert applied() == [stateful_set("5Gi")["spec"]]
    cluster.put("/apis/apps/v1/namespaces/here/statefulsets/postgres", stateful_set("9Gi"))
    assert applied() == [stateful_set("9Gi")["spec"]]
    # What the server added does not make another release of it.
    same = stateful_set("5Gi")
    same["spec"]["volumeClaimTemplates"][0].update(status={"phase": "Pending"})
    cluster.put("/apis/apps/v1/namespaces/here/statefulsets/postgres", same)
    assert applied() == [stateful_set("5Gi")["spec"]]
