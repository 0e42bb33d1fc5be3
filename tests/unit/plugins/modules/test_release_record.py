# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of releases in the cluster: written when something is new, and never in check mode."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Answer, ApiError
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.ownership import is_ours
from ansible_collections.mlops.mlflow.plugins.module_utils._release import records as releases
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.memory_cluster import (
    MemoryCluster,
)

PATH = "/api/v1/namespaces/here/configmaps/mlflow-releases"
Object = dict[str, Any]


@pytest.fixture
def cluster() -> MemoryCluster:
    found = MemoryCluster()
    found._server_time = (1_800_000_000.0, 0.0)
    return found


def run(cluster: MemoryCluster, state: str, check_mode: bool = False, **more: Any) -> Object:
    params: Object = {
        "state": state,
        "release": None,
        "backup": None,
        "back_to": None,
        "schema": None,
        "target": False,
        **more,
    }
    return releases.run(releases.Records(cluster, "here"), params, check_mode)


def release(version: str) -> Object:
    item = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"c-{version}"}}
    return {"stages": {"config": [item]}, "version": version, "image": f"mlflow:{version}"}


def test_a_release_is_noted_before_and_after_and_then_not_again(cluster: MemoryCluster) -> None:
    begun = run(cluster, "begun", release=release("3.16.1"))
    assert begun["changed"]
    assert begun["releases"] == []
    assert begun["pending"]["version"] == "3.16.1"
    done = run(cluster, "done", release=release("3.16.1"))
    assert done["changed"]
    assert done["pending"] is None
    assert len(cluster.writes()) == 2
    assert not run(cluster, "begun", release=release("3.16.1"))["changed"]
    assert not run(cluster, "done", release=release("3.16.1"))["changed"]
    assert len(cluster.writes()) == 2
    # A prune of the release's own objects does not see it.
    assert not is_ours(cluster.objects[PATH])


def test_check_mode_writes_nothing(cluster: MemoryCluster) -> None:
    assert run(cluster, "begun", check_mode=True, release=release("3.16.1"))["changed"]
    assert cluster.writes() == []


def test_the_target_comes_with_what_it_applies(cluster: MemoryCluster) -> None:
    backup = {
        "name": "20261125T140301Z",
        "time": "2026-11-25T14:03:01Z",
        "bytes": 7,
        "databases": [{"revisions": {"tracking": "b7e2"}}, {"revisions": {"auth": "1234"}}],
    }
    for version in ("3.16.1", "3.17.2"):
        given = backup if version == "3.17.2" else None
        run(cluster, "begun", release=release(version), backup=given)
        run(cluster, "done", release=release(version))
    target = run(cluster, "read", target=True)["target"]
    assert target["number"] == 1
    assert target["name"] == "release 1 (MLflow 3.16.1)"
    assert target["left"] == "release 2 (MLflow 3.17.2)"
    assert target["release"]["image"] == "mlflow:3.16.1"
    assert target["backup"]["revisions"] == {"tracking": "b7e2", "auth": "1234"}


def test_what_cannot_be_read_or_written_is_said(cluster: MemoryCluster) -> None:
    cluster.answers[("PATCH", PATH)] = Answer(403, {"message": "no"})
    with pytest.raises(ApiError, match="mlflow-releases cannot be written: no"):
        run(cluster, "begun", release=release("3.16.1"))
    cluster.answers[("GET", PATH)] = Answer(403, {"message": "no"})
    with pytest.raises(ApiError, match="mlflow-releases cannot be read: no"):
        run(cluster, "read")
