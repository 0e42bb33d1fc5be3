# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a namespace's quotas and limit ranges do not allow is told before anything is written."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Answer
from ansible_collections.mlops.mlflow.plugins.module_utils._release import quotas
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.memory_cluster import (
    MemoryCluster,
)

Object = dict[str, Any]
HERE = "/api/v1/namespaces/here"


def container(cpu: str = "100m", memory: str = "1Gi", **more: Any) -> Object:
    amounts = {"cpu": cpu, "memory": memory}
    return {"name": "one", "resources": {"requests": amounts, "limits": amounts}, **more}


def workload(kind: str, *containers: Object, **spec: Any) -> Object:
    pod = {"initContainers": spec.pop("first", []), "containers": list(containers)}
    version = "batch/v1" if kind == "Job" else "apps/v1"
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": kind.lower()},
        "spec": {"template": {"spec": {**pod, **spec.pop("pod", {})}}, **spec},
    }


SERVERS = workload(
    "Deployment",
    container(),
    replicas=2,
    strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
)
CLAIM: Object = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "mlflow-artifacts"},
    "spec": {"storageClassName": "gp3", "resources": {"requests": {"storage": "5Gi"}}},
}


def quota(hard: Object, used: Object | None = None, **spec: Any) -> Object:
    return {
        "metadata": {"name": "team"},
        "spec": {"hard": hard, **spec},
        "status": {"hard": hard, "used": used or {}},
    }


def limit_range(**rule: Any) -> Object:
    return {"metadata": {"name": "sizes"}, "spec": {"limits": [{"type": "Container", **rule}]}}


def check(cluster: MemoryCluster, *objects: Object, verb: str = "create") -> list[str]:
    changes = {"server": [f"{verb} {o['kind']}/{o['metadata']['name']}" for o in objects]}
    found = quotas.check(cluster, "here", {"server": list(objects)}, changes)
    assert found.unseen == []
    assert cluster.writes() == []
    return found.problems


def with_quota(hard: Object, used: Object | None = None, **spec: Any) -> MemoryCluster:
    cluster = MemoryCluster()
    cluster.put(f"{HERE}/resourcequotas/team", quota(hard, used, **spec))
    return cluster


@pytest.mark.parametrize(
    ("key", "enough", "short"),
    [
        ("requests.memory", "3Gi", "2.9Gi"),
        ("memory", "3Gi", "2Gi"),
        ("requests.cpu", "300m", "0.2"),
        ("limits.memory", "3221225472", "2"),
        ("pods", "3", "2"),
        ("count/deployments.apps", "1", "0"),
    ],
)
def test_two_replicas_and_one_in_a_rollout_have_to_fit(key: str, enough: str, short: str) -> None:
    assert check(with_quota({key: enough}), SERVERS) == []
    (problem,) = check(with_quota({key: short}), SERVERS)
    assert problem.startswith(f"ResourceQuota team: {key} has ")
    assert f"of {short} left" in problem and "mlflow_replicas" in problem


def test_what_others_use_is_not_left() -> None:
    assert check(with_quota({"requests.memory": "4Gi"}, {"requests.memory": "1Gi"}), SERVERS) == []
    (problem,) = check(
        with_quota({"requests.memory": "4Gi"}, {"requests.memory": "1536Mi"}), SERVERS
    )
    assert "has 2.5Gi of 4Gi left, and the release takes 3Gi more" in problem


def test_a_rollout_takes_one_pod_more_than_there_is() -> None:
    cluster = with_quota({"requests.memory": "3Gi"}, {"requests.memory": "2Gi"})
    cluster.put("/apis/apps/v1/namespaces/here/deployments/deployment", SERVERS)
    assert check(cluster, SERVERS, verb="update") == []
    larger = workload("Deployment", container(memory="2Gi"), replicas=2)
    (problem,) = check(cluster, larger, verb="update")
    # Each of two grows by one, and the third is a new one of two.
    assert "takes 4Gi more" in problem


def test_jobs_come_one_by_one_and_are_gone_in_a_rollout() -> None:
    migration = workload("Job", container(memory="2Gi"))
    smoke = {**workload("Job", container(memory="2Gi")), "metadata": {"name": "smoke"}}
    # Two servers, and a Job, or the third server.
    assert check(with_quota({"requests.memory": "4Gi"}), SERVERS, migration, smoke) == []
    assert check(with_quota({"requests.memory": "3Gi"}), SERVERS, migration, smoke) != []


def test_a_pod_counts_for_what_runs_at_a_time() -> None:
    first = [
        container(memory="1Gi", restartPolicy="Always"),
        {**container(memory="3Gi"), "name": "two"},
    ]
    job = workload("Job", container(memory="2Gi"), first=first)
    assert check(with_quota({"requests.memory": "4Gi"}), job) == []
    assert check(with_quota({"requests.memory": "3.9Gi"}), job) != []


@pytest.mark.parametrize(
    ("hard", "fits"),
    [
        ({"requests.storage": "5Gi"}, True),
        ({"requests.storage": "4Gi"}, False),
        ({"persistentvolumeclaims": "0"}, False),
        ({"gp3.storageclass.storage.k8s.io/requests.storage": "1Gi"}, False),
        ({"efs.storageclass.storage.k8s.io/requests.storage": "1Gi"}, True),
    ],
)
def test_volumes_count_where_they_are_new(hard: Object, fits: bool) -> None:
    assert (check(with_quota(hard), CLAIM) == []) == fits
    assert check(with_quota(hard), CLAIM, verb="update") == []


def test_a_load_balancer_counts() -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "mlflow"},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 5000}]},
    }
    assert check(with_quota({"services.loadbalancers": "1"}), service) == []
    assert check(with_quota({"services.loadbalancers": "0"}), service) != []
    assert check(with_quota({"services.nodeports": "0"}), service) != []


@pytest.mark.parametrize(
    ("spec", "counts"),
    [
        ({"scopes": ["BestEffort"]}, False),
        ({"scopes": ["Terminating"]}, False),
        ({"scopes": ["NotTerminating"]}, True),
        ({"scopes": ["NotBestEffort"]}, True),
        (
            {
                "scopeSelector": {
                    "matchExpressions": [
                        {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}
                    ]
                }
            },
            False,
        ),
        (
            {
                "scopeSelector": {
                    "matchExpressions": [{"scopeName": "PriorityClass", "operator": "DoesNotExist"}]
                }
            },
            True,
        ),
    ],
)
def test_a_quota_of_other_pods_is_not_ours(spec: Object, counts: bool) -> None:
    assert bool(check(with_quota({"pods": "0"}, **spec), SERVERS)) == counts


def test_a_quota_wants_everybody_to_say_how_much() -> None:
    sidecar = {"name": "aside", "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}}}
    asked = workload("Deployment", container(), sidecar)
    cluster = with_quota({"limits.memory": "100Gi", "requests.cpu": "100"})
    (problem,) = check(cluster, asked)
    assert "container aside of Deployment deployment has no limits.memory" in problem
    # Unless the namespace says it for them.
    cluster.put(f"{HERE}/limitranges/sizes", limit_range(default={"memory": "1Gi"}))
    assert check(cluster, asked) == []


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"max": {"memory": "512Mi"}}, ("limits.memory 1Gi", "above the most", "512Mi")),
        ({"min": {"cpu": "1"}}, ("requests.cpu 0.1", "below the least")),
        ({"type": "Pod", "max": {"cpu": "50m"}}, ("limits.cpu 0.1", "above the most")),
    ],
)
def test_a_limit_range_is_held_against_each_container(rule: Object, words: tuple[str, ...]) -> None:
    cluster = MemoryCluster()
    cluster.put(f"{HERE}/limitranges/sizes", limit_range(**rule))
    (problem,) = check(cluster, SERVERS)
    for word in (*words, "Deployment deployment", "LimitRange sizes", "mlflow_resources"):
        assert word in problem


def test_a_limit_range_that_is_kept_says_nothing() -> None:
    cluster = MemoryCluster()
    rule = {"max": {"memory": "1Gi", "cpu": "1"}, "min": {"cpu": "100m"}}
    cluster.put(f"{HERE}/limitranges/sizes", limit_range(**rule))
    assert check(cluster, SERVERS, CLAIM) == []


def test_where_nothing_changes_nothing_is_asked() -> None:
    cluster = with_quota({"pods": "0"})
    assert quotas.check(cluster, "here", {"server": [SERVERS]}, {"server": []}) == ([], [])
    assert cluster.calls == []


def test_what_may_not_be_seen_is_named() -> None:
    cluster = MemoryCluster()
    for plural in ("limitranges", "resourcequotas"):
        cluster.answers[("GET", f"{HERE}/{plural}")] = Answer(403, {"message": "forbidden"})
    found = quotas.check(
        cluster, "here", {"server": [SERVERS]}, {"server": ["create Deployment/deployment"]}
    )
    assert found == ([], ["limitranges", "resourcequotas"])
