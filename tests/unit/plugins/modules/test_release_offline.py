# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Out of service and back: the replicas are the same afterwards, whoever was killed in between."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Answer, ApiError
from ansible_collections.mlops.mlflow.plugins.module_utils._release.lock import Lost
from ansible_collections.mlops.mlflow.plugins.modules.release_offline import Clock, Switch
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.memory_cluster import MemoryCluster

PATH = "/apis/apps/v1/namespaces/here/deployments/mlflow"
PODS = "/api/v1/namespaces/here/pods"
NOTE = "mlops.mlflow/replicas"


class Deployments(MemoryCluster):
    """The in-memory API, with merge patches of a Deployment that hold for one version only."""

    def __init__(self, replicas: int, note: str | None = None) -> None:
        super().__init__()
        self.conflicts = 0
        metadata: dict[str, Any] = {"name": "mlflow", "annotations": {"other": "kept"}}
        if note is not None:
            metadata["annotations"][NOTE] = note
        selector = {"matchLabels": {"app": "mlflow"}}
        self.put(
            PATH,
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": metadata,
                "spec": {"replicas": replicas, "selector": selector},
            },
        )

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: dict[str, str] | None = None,
        content_type: str = "application/json",
        read_timeout: float = 1.0,
        accept: str = "application/json",
    ) -> Answer:
        if method == "GET" and path == PODS:
            assert query == {"labelSelector": "app=mlflow"}
            return Answer(
                200, {"items": [self.objects[key] for key in self.objects if "pods" in key]}
            )
        if method != "PATCH":
            return super().request(method, path)
        self.calls.append((method, path, {}))
        there = self.objects[path]
        assert body["metadata"]["resourceVersion"] == there["metadata"]["resourceVersion"]
        if self.conflicts:
            self.conflicts -= 1
            self.put(path, there)
            return Answer(409, {})
        then = copy.deepcopy(there)
        then["spec"]["replicas"] = body["spec"]["replicas"]
        for key, value in body["metadata"]["annotations"].items():
            then["metadata"]["annotations"].pop(key, None)
            if value is not None:
                then["metadata"]["annotations"][key] = value
        return Answer(200, self.put(path, then))

    def state(self) -> tuple[int, str | None]:
        item = self.objects[PATH]
        assert item["metadata"]["annotations"]["other"] == "kept"
        return item["spec"]["replicas"], item["metadata"]["annotations"].get(NOTE)


def switch(cluster: MemoryCluster, write: bool = True, restore: str = "") -> Switch:
    return Switch(cluster, "here", "mlflow", write, restore)


def test_there_and_back() -> None:
    cluster = Deployments(3)
    assert switch(cluster).take_out(0)
    assert cluster.state() == (0, "3")
    assert switch(cluster).bring_back()
    assert cluster.state() == (3, None)
    assert not switch(cluster).bring_back()


def test_what_a_killed_run_noted_still_holds() -> None:
    cluster = Deployments(0, "3")
    assert not switch(cluster).take_out(0)
    assert cluster.state() == (0, "3")
    assert switch(cluster).bring_back()
    assert cluster.state() == (3, None)


def test_a_restore_is_noted_until_it_is_back() -> None:
    cluster = Deployments(3)

    def restoring() -> str | None:
        found: str | None = cluster.objects[PATH]["metadata"]["annotations"].get(
            "mlops.mlflow/restore"
        )
        return found

    # Out of service for a migration, it is not out for a restore, until one takes it over.
    switch(cluster).take_out(0)
    assert restoring() is None
    for name in ("20261124T190501Z", "20261125T190501Z"):
        assert switch(cluster, restore=name).take_out(0)
        assert not switch(cluster, restore=name).take_out(0)
        assert (cluster.state(), restoring()) == ((0, "3"), name)
    # A migration that comes after it is no restore.
    assert switch(cluster).take_out(0)
    assert (cluster.state(), restoring()) == ((0, "3"), None)
    switch(cluster, restore=name).take_out(0)
    assert switch(cluster).bring_back()
    assert (cluster.state(), restoring()) == ((3, None), None)


def test_one_brought_back_only_in_part_is_finished() -> None:
    """The run was killed after the new version was applied, before the note was taken off."""
    cluster = Deployments(2, "3")
    assert switch(cluster).bring_back()
    assert cluster.state() == (2, None)


def test_one_that_its_owner_has_at_zero_stays_there() -> None:
    cluster = Deployments(0)
    assert not switch(cluster).take_out(0)
    assert not switch(cluster).bring_back()
    assert cluster.state() == (0, None)


def test_replicas_that_change_meanwhile_are_noted_as_they_are() -> None:
    cluster = Deployments(3)
    cluster.conflicts = 2
    assert switch(cluster).take_out(0)
    assert cluster.state() == (0, "3")


def test_pods_that_stay_are_named() -> None:
    cluster = Deployments(1)
    cluster.put(f"{PODS}/done", {"metadata": {"name": "done"}, "status": {"phase": "Succeeded"}})
    switch(cluster).take_out(0)
    cluster.put(f"{PODS}/slow", {"metadata": {"name": "slow"}, "status": {"phase": "Running"}})
    with pytest.raises(ApiError, match=r"still there: slow$"):
        switch(cluster).take_out(0)


def test_a_lock_that_is_lost_meanwhile_ends_the_wait() -> None:
    """Whoever has it now may be about to bring the server back."""
    cluster = Deployments(1)
    cluster.put(f"{PODS}/slow", {"metadata": {"name": "slow"}, "status": {"phase": "Running"}})

    def lost(words: str, elapsed: float) -> None:
        raise Lost(words)

    with pytest.raises(Lost, match=r"Deployment mlflow: pods still there: slow$"):
        switch(cluster).take_out(60, lost)


def test_without_a_deployment_there_is_nothing_to_do() -> None:
    cluster = Deployments(1)
    del cluster.objects[PATH]
    assert not switch(cluster).take_out(0)
    assert not switch(cluster).bring_back()


def test_check_mode_writes_nothing() -> None:
    cluster = Deployments(3)
    assert switch(cluster, write=False).take_out(0)
    assert cluster.state() == (3, None)
    assert cluster.writes() == []


CRON_JOBS = "/apis/batch/v1/namespaces/here/cronjobs"
SUSPENDED = "mlops.mlflow/suspended"


class CronJobs(MemoryCluster):
    """The in-memory API, with merge patches of CronJobs."""

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: dict[str, str] | None = None,
        content_type: str = "application/json",
        read_timeout: float = 1.0,
        accept: str = "application/json",
    ) -> Answer:
        if method == "GET":
            return Answer(200, {"items": copy.deepcopy(list(self.objects.values()))})
        self.calls.append((method, path, {}))
        then = copy.deepcopy(self.objects[path])
        then["spec"].update(body["spec"])
        for key, value in body["metadata"]["annotations"].items():
            then["metadata"]["annotations"].pop(key, None)
            if value is not None:
                then["metadata"]["annotations"][key] = value
        return Answer(200, self.put(path, then))

    def state(self) -> dict[str, bool]:
        return {
            item["metadata"]["name"]: item["spec"].get("suspend", False)
            for item in self.objects.values()
        }


@pytest.fixture
def cron_jobs() -> CronJobs:
    cluster = CronJobs()
    for name, spec in (("backup", {}), ("gc", {"suspend": False}), ("owned", {"suspend": True})):
        metadata = {"name": name, "annotations": {}}
        cluster.put(f"{CRON_JOBS}/{name}", {"metadata": metadata, "spec": spec})
    return cluster


def test_what_runs_by_the_clock_is_suspended_and_goes_on(cron_jobs: CronJobs) -> None:
    clock = Clock(cron_jobs, "here", True)
    assert clock.suspend()
    assert cron_jobs.state() == {"backup": True, "gc": True, "owned": True}
    # A run that was killed, and the next.
    assert not clock.suspend()
    assert clock.resume()
    # Whoever suspended one before has it as it was.
    assert cron_jobs.state() == {"backup": False, "gc": False, "owned": True}
    assert not clock.resume()


def test_in_check_mode_cron_jobs_run_on(cron_jobs: CronJobs) -> None:
    assert Clock(cron_jobs, "here", False).suspend()
    assert cron_jobs.writes() == []
