# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Only a pod that its StatefulSet waits for in vain is deleted, and only of one of ours."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Answer, ApiError
from ansible_collections.mlops.mlflow.plugins.modules import release_unblock as unblock
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.memory_cluster import MemoryCluster
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.streams import (
    WALL,
    Object,
    condition,
    ended,
    looping,
    pod,
    running,
    stamp,
    stateful_set,
    waiting,
)

OURS = ("mlops.mlflow", "Apply")
SET = "/apis/apps/v1/namespaces/ns/statefulsets/postgres"
POD = "/api/v1/namespaces/ns/pods/postgres-0"
PARAMS = {"namespace": "ns"}
PULL = waiting("ImagePullBackOff", "Back-off")


class Cluster(MemoryCluster):
    """An API server that deletes as it is asked to, if what it has is as it was seen."""

    def __init__(self, item: Object, *pods: Object, manager: tuple[str, str] = OURS) -> None:
        super().__init__()
        self.put(SET, item, manager)
        for one in pods:
            self.put(f"/api/v1/namespaces/ns/pods/{one['metadata']['name']}", one)
        self.deleted: list[str] = []

    def server_wall(self, now: float) -> float:
        """Return second 0 of the objects."""
        return WALL

    def request(self, method: str, path: str, body: Any = None, *args: Any, **more: Any) -> Answer:
        if method != "DELETE":
            return super().request(method, path, body, *args, **more)
        if (method, path) in self.answers:
            return self.answers[(method, path)]
        there = self.objects[path]["metadata"]
        wanted = body["preconditions"]
        assert set(wanted) == {"uid", "resourceVersion"}
        if any(there[name] != value for name, value in wanted.items()):
            return Answer(409, {"message": "changed"})
        self.deleted.append(path)
        return Answer(200, {})


def db_pod(main: Object | None = None, **more: Any) -> Object:
    """Return postgres-0 of the old revision, a minute old, and never ready."""
    never = [condition("PodScheduled"), condition("Ready", "False", -60)]
    return pod(
        main, **{"name": "postgres-0", "owner": "s", "revision": "old", "conditions": never, **more}
    )


@pytest.mark.parametrize(
    ("first", "why"),
    [
        (db_pod(PULL), "ImagePullBackOff"),
        (db_pod(looping(4, ended(1))), "CrashLoopBackOff"),
        (db_pod({"state": ended(3)}), "exit code 3"),
        (db_pod(waiting("CreateContainerConfigError")), "CreateContainerConfigError"),
        (db_pod(running(-600)), "not ready"),
        (
            db_pod(conditions=[condition("PodScheduled", "False", reason="Unschedulable")]),
            "Unschedulable",
        ),
    ],
)
@pytest.mark.parametrize("current", ["old", "new"])
def test_a_pod_that_was_never_ready_goes(first: Object, why: str, current: str) -> None:
    """The template was corrected, or taken back to what it was."""
    cluster = Cluster(stateful_set(current=current), first)
    assert unblock.run(cluster, PARAMS, False) == [f"postgres-0 ({why})"]
    assert cluster.deleted == [POD]


def test_check_mode_says_it_and_deletes_nothing() -> None:
    cluster = Cluster(stateful_set(), db_pod(PULL))
    assert unblock.run(cluster, PARAMS, True) == ["postgres-0 (ImagePullBackOff)"]
    assert not cluster.deleted


@pytest.mark.parametrize(
    "first",
    [
        db_pod(PULL, revision="new"),
        db_pod(PULL, owner="another"),
        db_pod(PULL, deletionTimestamp=stamp(5)),
        db_pod(running(-500), conditions=[condition("Ready")]),
        db_pod(looping(4, ended(1)), conditions=[condition("Ready", "False", -10)]),
        db_pod(running(-20)),
        db_pod(waiting("ContainerCreating")),
        db_pod(),
    ],
    ids=["current", "foreign", "going", "ready", "was ready", "starting", "creating", "new"],
)
def test_every_other_pod_stays(first: Object) -> None:
    """It is right, is another's, serves, has served, or may be about to."""
    cluster = Cluster(stateful_set(), first)
    assert unblock.run(cluster, PARAMS, False) == []
    assert not cluster.deleted


@pytest.mark.parametrize("spec", [{"podManagementPolicy": "Parallel"}, {"updateStrategy": "x"}])
def test_a_set_that_replaces_all_at_once_needs_no_help(spec: Object) -> None:
    cluster = Cluster(stateful_set(**spec), db_pod(PULL))
    expected = [] if "podManagementPolicy" in spec else ["postgres-0 (ImagePullBackOff)"]
    assert unblock.run(cluster, PARAMS, False) == expected


def test_a_pod_that_is_held_back_on_purpose_stays() -> None:
    for strategy in (
        {"type": "OnDelete"},
        {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}},
    ):
        cluster = Cluster(stateful_set(updateStrategy=strategy), db_pod(PULL))
        assert unblock.run(cluster, PARAMS, False) == []


def test_a_set_of_another_s_is_left_alone() -> None:
    cluster = Cluster(stateful_set(), db_pod(PULL), manager=("helm", "Apply"))
    assert unblock.run(cluster, PARAMS, False) == []
    assert unblock.run(cluster, {**PARAMS, "name": "none"}, False) == []


def test_the_controller_is_given_time_to_see_the_template(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before it has, the current revision is the old one."""
    unseen = stateful_set()
    unseen["metadata"]["generation"] = 3
    cluster = Cluster(unseen, db_pod(PULL))
    monkeypatch.setattr(unblock, "LOOK_EVERY", 0.0)
    monkeypatch.setattr(unblock, "SEEN_WITHIN", 0.05)
    assert unblock.run(cluster, PARAMS, False) == []
    looks = []

    def sleep(_seconds: float) -> None:
        looks.append(1)
        cluster.put(SET, {**unseen, "status": {**unseen["status"], "observedGeneration": 3}}, OURS)

    monkeypatch.setattr(unblock.time, "sleep", sleep)
    assert unblock.run(cluster, PARAMS, False) == ["postgres-0 (ImagePullBackOff)"]
    assert looks == [1]


def test_a_pod_that_changed_meanwhile_stays() -> None:
    """It may have become ready."""
    cluster = Cluster(stateful_set(), db_pod(PULL))
    work = unblock.Unblocker(cluster, "ns")
    item = work.stateful_set()
    assert item is not None
    (seen,) = work.blocking(item, WALL)
    cluster.put(POD, seen)
    assert not work.delete(seen)


def test_a_missing_permission_is_told() -> None:
    cluster = Cluster(stateful_set(), db_pod(PULL))
    cluster.answers["DELETE", POD] = Answer(403, {"message": "cannot delete pods"})
    with pytest.raises(ApiError, match=r"postgres-0 .* cannot delete pods"):
        unblock.run(cluster, PARAMS, False)
