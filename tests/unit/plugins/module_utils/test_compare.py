# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a release would change, and what it may delete."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Answer, ApiError
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.errors import Failure
from ansible_collections.mlops.mlflow.plugins.module_utils._release import compare
from ansible_collections.mlops.mlflow.plugins.modules import release_take_over as take_over
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.memory_cluster import MemoryCluster

OURS = ("mlops.mlflow", "Apply")
KUBECTLS = ("kubectl-client-side-apply", "Update")
NAMESPACE = "/api/v1/namespaces/here"
Object = dict[str, Any]


def config(name: str, **data: str) -> Object:
    metadata = {"name": name, "namespace": "here"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def job(name: str, condition: str = "") -> Object:
    metadata = {"name": name, "namespace": "here"}
    item: Object = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {}}
    if condition:
        item["status"] = {"conditions": [{"type": condition, "status": "True"}]}
    return item


@pytest.fixture
def cluster() -> MemoryCluster:
    found = MemoryCluster()
    found.put(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "here"}})
    return found


def run(cluster: MemoryCluster, **stages: list[Object]) -> dict[str, Any]:
    params = {
        "stages": stages,
        "namespace": "here",
        "secrets": [],
    }
    result = compare.compare(cluster, params)
    assert cluster.writes() == []
    return result


def test_nothing_there_everything_is_created() -> None:
    result = run(MemoryCluster(), config=[config("a")], server=[config("b")])
    assert not result["namespace_exists"]
    assert result["changes"] == {"config": ["create ConfigMap/a"], "server": ["create ConfigMap/b"]}


def test_the_same_is_settled(cluster: MemoryCluster) -> None:
    cluster.put(f"{NAMESPACE}/configmaps/a", config("a", x="1"), OURS)
    result = run(cluster, config=[config("a", x="1")])
    assert result["changes"] == {"config": []}
    assert result["settled"] == {"config": True}
    assert result["existing"] == ["ConfigMap/a"]


def test_a_difference_is_an_update(cluster: MemoryCluster) -> None:
    cluster.put(f"{NAMESPACE}/configmaps/a", config("a", x="1"), OURS)
    assert run(cluster, config=[config("a", x="2")])["changes"]["config"] == ["update ConfigMap/a"]


def test_what_another_made_becomes_ours(cluster: MemoryCluster) -> None:
    cluster.put(f"{NAMESPACE}/configmaps/a", config("a", x="1"), ("someone", "Update"))
    result = run(cluster, config=[config("a", x="1")])
    assert result["changes"]["config"] == ["update ConfigMap/a"]
    assert result["take_over"] == []


def test_what_kubectl_applied_is_taken_over(cluster: MemoryCluster) -> None:
    path = f"{NAMESPACE}/configmaps/a"
    cluster.put(path, config("a", x="1", old="1"), KUBECTLS)
    assert run(cluster, config=[config("a", x="1")])["take_over"] == ["ConfigMap/a"]
    assert take_over.take_over(cluster, config("a"), "here", write=False)
    assert cluster.writes() == []
    assert take_over.take_over(cluster, config("a"), "here", write=True)
    entries = cluster.objects[path]["metadata"]["managedFields"]
    assert [(entry["manager"], entry["operation"]) for entry in entries] == [OURS]
    # Ours now, so that applying without it removes it.
    assert entries[0]["fieldsV1"]["f:data"] == {"f:x": {}, "f:old": {}}
    assert not take_over.take_over(cluster, config("a"), "here", write=True)


@pytest.mark.parametrize("manager", [OURS, KUBECTLS])
def test_replicas_left_to_an_autoscaler_stay_as_they_are(
    cluster: MemoryCluster, manager: tuple[str, str]
) -> None:
    path = "/apis/apps/v1/namespaces/here/deployments/mlflow"
    there = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "mlflow", "namespace": "here"},
        "spec": {"replicas": 3, "paused": False},
    }
    wanted = {**there, "spec": {"paused": False}}
    entries = cluster.put(path, there, manager)["metadata"]["managedFields"]
    entries[0]["fieldsV1"] = {"f:spec": {"f:replicas": {}, "f:paused": {}}}
    # As the API server answers when the only owner of replicas no longer has them.
    then = {**wanted, "metadata": cluster.objects[path]["metadata"], "spec": {"replicas": 1}}
    cluster.answers[("PATCH", path)] = Answer(200, copy.deepcopy(then))
    result = run(cluster, server=[wanted])
    assert result["take_over"] == ["Deployment/mlflow"]
    del cluster.answers[("PATCH", path)]
    assert take_over.take_over(cluster, wanted, "here", write=True)
    (entry,) = cluster.objects[path]["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"]) == OURS
    assert entry["fieldsV1"] == {"f:spec": {"f:paused": {}}}
    assert not take_over.take_over(cluster, wanted, "here", write=True)
    # Set again, they are ours again.
    assert not take_over.take_over(cluster, there, "here", write=True)


def test_nothing_to_take_over_is_no_failure(cluster: MemoryCluster) -> None:
    assert not take_over.take_over(cluster, config("a"), "here", write=True)


def test_a_writer_in_between_is_waited_out(cluster: MemoryCluster) -> None:
    path = f"{NAMESPACE}/configmaps/a"
    cluster.put(path, config("a"), KUBECTLS)
    cluster.answers[("PATCH", path)] = Answer(409, {})
    with pytest.raises(ApiError, match="others keep writing"):
        take_over.take_over(cluster, config("a"), "here", write=True)


def test_a_failed_job_runs_again(cluster: MemoryCluster) -> None:
    path = "/apis/batch/v1/namespaces/here/jobs/migrate"
    cluster.put(path, job("migrate", "Failed"), OURS)
    result = run(cluster, migration=[job("migrate")])
    assert [item["metadata"]["name"] for item in result["failed_jobs"]] == ["migrate"]
    assert result["changes"]["migration"] == ["create Job/migrate"]


@pytest.mark.parametrize(("condition", "settled"), [("Complete", True), ("", False)])
def test_a_job_is_settled_when_it_is_complete(
    cluster: MemoryCluster, condition: str, settled: bool
) -> None:
    path = "/apis/batch/v1/namespaces/here/jobs/migrate"
    cluster.put(path, job("migrate", condition), OURS)
    assert run(cluster, migration=[job("migrate")])["settled"]["migration"] is settled


def test_a_change_kubernetes_refuses_is_named(cluster: MemoryCluster) -> None:
    path = f"{NAMESPACE}/configmaps/a"
    cluster.put(path, config("a"), OURS)
    cluster.answers[("PATCH", path)] = Answer(422, {"message": "field is immutable"})
    with pytest.raises(ApiError, match="ConfigMap/a cannot be applied: field is immutable"):
        run(cluster, config=[config("a", x="1")])


def test_only_our_own_leftovers_are_pruned(cluster: MemoryCluster) -> None:
    claims = f"{NAMESPACE}/persistentvolumeclaims"
    cluster.put(f"{NAMESPACE}/configmaps/current", config("current"), OURS)
    cluster.put(f"{NAMESPACE}/configmaps/old", config("old"), OURS)
    cluster.put(f"{NAMESPACE}/configmaps/kubectls", config("kubectls"), KUBECTLS)
    going = config("going")
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    cluster.put(f"{NAMESPACE}/configmaps/going", going, OURS)
    cluster.put(f"{claims}/data", {**config("data"), "kind": "PersistentVolumeClaim"}, OURS)
    cluster.put(f"{NAMESPACE}/secrets/keys", {**config("keys"), "kind": "Secret"}, OURS)
    cluster.put("/apis/batch/v1/namespaces/here/jobs/migrate-2", job("migrate-2"), OURS)
    cluster.put("/apis/batch/v1/namespaces/here/jobs/migrate-1", job("migrate-1"), OURS)
    result = run(cluster, config=[config("current")], migration=[job("migrate-2")])
    assert sorted(item["metadata"]["name"] for item in result["prune"]) == ["migrate-1", "old"]


def test_what_a_backup_s_jobs_needed_is_no_difference(cluster: MemoryCluster) -> None:
    backups = ("mlops.mlflow.backups", "Apply")
    for name in ("mlflow-backup-1", "mlflow-backup-2"):
        cluster.put(f"{NAMESPACE}/configmaps/{name}", config(name), backups)
    claims = f"{NAMESPACE}/persistentvolumeclaims"
    claim = {**config("mlflow-backups"), "kind": "PersistentVolumeClaim"}
    cluster.put(f"{claims}/mlflow-backups", claim, backups)
    result = run(cluster, config=[])
    assert result["prune"] == []
    found = [item["metadata"]["name"] for item in result["left_by_backups"]]
    assert sorted(found) == ["mlflow-backup-1", "mlflow-backup-2"]
    # With the component it is the release's, and has to become so.
    result = run(cluster, config=[config("mlflow-backup-2")])
    assert result["changes"]["config"] == ["update ConfigMap/mlflow-backup-2"]
    assert [item["metadata"]["name"] for item in result["left_by_backups"]] == ["mlflow-backup-1"]


def deployment(image: str, **spec: Any) -> Object:
    template = {"spec": {"containers": [{"name": "mlflow", "image": image}]}}
    metadata = {"name": "mlflow", "namespace": "here"}
    head: Object = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata}
    return {**head, "spec": {"template": template, **spec}}


def test_a_restart_is_told_from_a_change(cluster: MemoryCluster) -> None:
    path = "/apis/apps/v1/namespaces/here/deployments/mlflow"
    cluster.put(path, deployment("one"), OURS)
    more = run(cluster, server=[deployment("one", replicas=2)])
    assert (more["changes"]["server"], more["restarts"]) == (["update Deployment/mlflow"], [])
    assert run(cluster, server=[deployment("two")])["restarts"] == ["Deployment/mlflow"]


def secret(name: str) -> Object:
    return {**config(name), "kind": "Secret"}


@pytest.mark.parametrize("allowed", [True, False])
def test_of_secrets_only_what_kustomize_generated_and_nobody_needs_is_pruned(
    cluster: MemoryCluster, allowed: bool
) -> None:
    secrets = f"{NAMESPACE}/secrets"
    hashed = ("token-7mc2k9f4bt", "token-bh6gd8t2m5", "token-2f8kdm4t9c")
    for name in ("mlflow-credentials", *hashed, "token-by-hand"):
        item = secret(name)
        item["metadata"]["labels"] = {"app.kubernetes.io/part-of": "mlflow"}
        cluster.put(f"{secrets}/{name}", item, OURS)
    cluster.put(f"{secrets}/token-fm4d9h2c7k", secret("token-fm4d9h2c7k"), KUBECTLS)
    # One of the releases to which a rollback may go has this one.
    record = json.dumps([{"number": 1, "secrets": ["token-2f8kdm4t9c"]}])
    item = {**config("mlflow-releases"), "data": {"releases.json": record}}
    cluster.put(f"{NAMESPACE}/configmaps/mlflow-releases", item)
    review = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    cluster.answers[("POST", review)] = Answer(201, {"status": {"allowed": allowed}})
    params = {
        "stages": {"config": [config("a")]},
        "namespace": "here",
        "secrets": ["token-bh6gd8t2m5"],
    }
    found = [item["metadata"]["name"] for item in compare.compare(cluster, params)["prune"]]
    assert found == (["token-7mc2k9f4bt"] if allowed else [])
    assert compare.compare(cluster, {**params, "secrets": None})["prune"] == []
    # A review asks, it is no write.
    assert set(cluster.writes()) <= {review}


def test_the_server_s_image_is_told(cluster: MemoryCluster) -> None:
    pod = {"containers": [{"name": "metrics", "image": "m"}, {"name": "mlflow", "image": "one"}]}
    there = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "mlflow", "namespace": "here"},
        "spec": {"template": {"spec": pod}},
    }
    cluster.put("/apis/apps/v1/namespaces/here/deployments/mlflow", there, OURS)
    assert run(cluster, server=[there])["image"] == "one"
    assert run(MemoryCluster(), server=[there])["image"] == ""


def stateful_set(size: str, image: str = "postgres:17", **more: Any) -> Object:
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **more}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "postgres", "namespace": "here"},
        "spec": {
            "replicas": 1,
            "template": {"spec": {"containers": [{"name": "postgres", "image": image}]}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim}],
        },
    }


def with_database(cluster: MemoryCluster, size: str = "5Gi", image: str = "postgres:17") -> str:
    """Put a database into the cluster, with what the server adds; return its claim's path."""
    there = stateful_set(size, image, volumeMode="Filesystem")
    cluster.put("/apis/apps/v1/namespaces/here/statefulsets/postgres", there, OURS)
    path = f"{NAMESPACE}/persistentvolumeclaims/data-postgres-0"
    claim = {"metadata": {"name": "data-postgres-0"}, "spec": claim_spec(size)}
    cluster.put(path, claim)
    may = Answer(201, {"status": {"allowed": True}})
    cluster.answers["POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"] = may
    return path


def claim_spec(size: str) -> Object:
    return {"resources": {"requests": {"storage": size}}}


def test_a_volume_that_grows_is_an_update_that_the_server_takes(cluster: MemoryCluster) -> None:
    path = with_database(cluster)
    cluster.answers["PATCH", path] = Answer(200, {"spec": claim_spec("10Gi")})
    result = run(cluster, database=[stateful_set("10Gi")])
    assert result["grow"] == [{"name": "data-postgres-0", "from": "5Gi", "to": "10Gi"}]
    assert [item["kind"] for item in result["anew"]] == ["StatefulSet"]
    assert result["changes"]["database"] == ["update StatefulSet/postgres"]
    # No pod is replaced for it.
    assert result["restarts"] == []
    # What was asked of the server leaves alone what it would refuse.
    templates = [
        item["spec"]["volumeClaimTemplates"] for item in cluster.sent("statefulsets/postgres")
    ]
    assert templates == [
        stateful_set("5Gi", volumeMode="Filesystem")["spec"]["volumeClaimTemplates"]
    ]


def test_the_same_size_is_no_difference_however_it_is_written(cluster: MemoryCluster) -> None:
    path = with_database(cluster)
    cluster.answers["PATCH", path] = Answer(200, {"spec": claim_spec("5Gi")})
    for size in ("5Gi", "5120Mi"):
        result = run(cluster, database=[stateful_set(size)])
        assert (result["grow"], result["anew"]) == ([], [])


def test_a_volume_that_cannot_have_the_size_is_one_sentence(cluster: MemoryCluster) -> None:
    path = with_database(cluster)
    message = "only dynamically provisioned pvc can be resized"
    cluster.answers["PATCH", path] = Answer(403, {"message": message})
    with pytest.raises(ApiError) as caught:
        run(cluster, database=[stateful_set("10Gi")])
    assert str(caught.value).startswith(
        "mlflow_database_storage_size: the volume data-postgres-0 has 5Gi, and the cluster does "
        f"not make it 10Gi: {message}"
    )
    assert "Forbidden" not in str(caught.value)


def test_another_class_takes_effect_when_a_volume_is_made(cluster: MemoryCluster) -> None:
    path = with_database(cluster)
    cluster.answers["PATCH", path] = Answer(200, {"spec": claim_spec("5Gi")})
    result = run(cluster, database=[stateful_set("5Gi", storageClassName="fast")])
    assert (result["grow"], len(result["anew"])) == ([], 1)


def test_a_volume_that_cannot_be_read_may_be_there(cluster: MemoryCluster) -> None:
    cluster.answers["GET", with_database(cluster)] = Answer(403, {"message": "no"})
    with pytest.raises(Failure, match="PersistentVolumeClaim/data-postgres-0 cannot be read: no"):
        run(cluster, database=[stateful_set("5Gi")])


@pytest.mark.parametrize("status", [403, 500])
def test_a_record_that_cannot_be_read_is_not_an_empty_one(
    cluster: MemoryCluster, status: int
) -> None:
    """It says which Secrets a rollback needs, and which Postgres the volume is of."""
    with_database(cluster)
    path = f"{NAMESPACE}/configmaps/mlflow-releases"
    cluster.answers["GET", path] = Answer(status, {"message": "no"})
    with pytest.raises(Failure, match="ConfigMap mlflow-releases cannot be read: no"):
        run(cluster, database=[stateful_set("5Gi")])


def served_by(cluster: MemoryCluster, image: str) -> None:
    releases = [{"number": 1, "postgres_image": image, "secrets": []}]
    cluster.put(
        f"{NAMESPACE}/configmaps/mlflow-releases",
        {"metadata": {"name": "mlflow-releases"}, "data": {"releases.json": json.dumps(releases)}},
    )


@pytest.mark.parametrize("there", ["postgres:17", "postgres:18", None])
def test_another_major_version_of_postgres_is_refused(
    cluster: MemoryCluster, there: str | None
) -> None:
    # Whatever crash-loops there now, or was torn down: what served last is what is on the volume.
    claim = with_database(cluster, image=there or "")
    if not there:
        del cluster.objects["/apis/apps/v1/namespaces/here/statefulsets/postgres"]
    served_by(cluster, "docker.io/library/postgres:17.5-bookworm")
    with pytest.raises(
        ApiError, match="mlflow_postgres_image: the database's volume is of Postgres 17"
    ):
        run(cluster, database=[stateful_set("5Gi", "registry:5000/postgres:18")])
    for image in ("postgres:17.6", "postgres@sha256:" + "0" * 64, "postgres:latest"):
        run(cluster, database=[stateful_set("5Gi", image)])
    # A new volume takes any.
    del cluster.objects[claim]
    run(cluster, database=[stateful_set("5Gi", "postgres:18")])


SPACE: Object = {
    "apiVersion": "v1",
    "kind": "Namespace",
    "metadata": {
        "name": "here",
        "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
    },
}
FORBIDDEN = Answer(403, {"message": "forbidden"})


@pytest.mark.parametrize("verbs", [["PATCH"], ["GET", "PATCH"]], ids=["seen", "not even seen"])
@pytest.mark.parametrize("adopted", [(), (KUBECTLS,)], ids=["theirs", "applied by hand"])
def test_a_namespace_of_somebody_else_stays_as_it_is(
    cluster: MemoryCluster, verbs: list[str], adopted: tuple[tuple[str, str], ...]
) -> None:
    cluster.put(NAMESPACE, {**SPACE, "metadata": {"name": "here"}}, *adopted)
    cluster.put(f"{NAMESPACE}/configmaps/a", config("a", x="1"), OURS)
    for verb in verbs:
        cluster.answers[verb, NAMESPACE] = FORBIDDEN
    result = run(cluster, config=[SPACE, config("a", x="1")])
    assert result["namespace_exists"]
    assert result["not_ours"] == ["Namespace"]
    assert result["changes"] == {"config": []} and result["settled"] == {"config": True}
    assert result["take_over"] == []
    # What it has, only those can say who may look.
    assert bool(result["notes"]) == (verbs == ["PATCH"])


def test_a_namespace_of_somebody_else_enforces_what_it_enforces(cluster: MemoryCluster) -> None:
    """Pods that only the overlay's own labels would refuse are let in."""
    cluster.answers["PATCH", NAMESPACE] = FORBIDDEN
    path = f"{NAMESPACE}/configmaps/a"
    said = 'would violate PodSecurity "restricted:latest": privileged'
    cluster.answers["PATCH", path] = Answer(201, config("a"), (said,))
    assert run(cluster, config=[SPACE, config("a")])["not_ours"] == ["Namespace"]
    del cluster.answers["PATCH", NAMESPACE]
    with pytest.raises(ApiError, match="would refuse its pods"):
        run(cluster, config=[SPACE, config("a")])


# Every IPv4 address.
ANY = "0.0.0.0"  # noqa: S104


def listening(*args: str) -> Object:
    container = {"name": "mlflow", "args": list(args)}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "mlflow", "namespace": "here"},
        "spec": {"template": {"spec": {"containers": [container]}}},
    }


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize(
    ("families", "host", "args", "reached"),
    [
        (["IPv4"], ANY, (), True),
        (["IPv4", "IPv6"], ANY, (), True),
        (["IPv6"], ANY, (), False),
        (["IPv6", "IPv4"], ANY, (), False),
        (["IPv6"], "::", (), True),
        (["IPv6"], "::", ("--host", ANY), False),
        (["IPv6"], ANY, ("--host", "::"), True),
    ],
)  # fmt: skip
def test_mlflow_listens_where_its_service_leads(
    cluster: MemoryCluster,
    there: bool,
    families: list[str],
    host: str,
    args: tuple[str, ...],
    reached: bool,
) -> None:
    service: Object = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "mlflow", "namespace": "here"},
        # As the API server answers.
        "spec": {"ipFamilies": families},
    }
    if there:
        cluster.put(f"{NAMESPACE}/services/mlflow", service, OURS)
    stages = {
        "config": [config("mlflow-config", MLFLOW_HOST=host)],
        "server": [service, listening(*args)],
    }
    if reached:
        run(cluster, **stages)
        return
    with pytest.raises(ApiError, match=r"mlflow_config\.MLFLOW_HOST: MLflow listens on 0\.0\.0\.0"):
        run(cluster, **stages)
