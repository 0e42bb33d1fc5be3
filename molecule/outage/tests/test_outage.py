"""What an upgrade runs on breaks in the middle of it: it succeeds, or the old version serves.

By itself on a cluster that is there and holds both images, in a namespace of its own:
KIND_CLUSTER_NAME=mlflow pytest molecule/outage

The tests are one story, in this order. They break the cluster's only node: nothing else of weight
should run in it.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Iterator

import pytest
from ansible_collections.mlops.mlflow.molecule.conftest import ENVIRONMENT, KUBECONFIG, Kubectl
from ansible_collections.mlops.mlflow.molecule.upgrading import (
    NEW,
    NEW_HEAD,
    OLD,
    OLD_HEAD,
    Release,
)

NAMESPACE = os.environ.get("MLFLOW_TEST_NAMESPACE", "mlflow-outage")
# The database's volume: a file system of its own, small enough to be filled in a moment.
VOLUME = f"{NAMESPACE}-data"
FOLDER = f"/mnt/{VOLUME}"
SIZE = "400m"
NODE = f"{os.environ['KIND_CLUSTER_NAME']}-control-plane"
# As the superuser, who may write a new segment of the log.
SQL = f"kubectl exec postgres-0 --namespace={NAMESPACE} -- psql -XAtq --username=postgres"
SQL += " --dbname=mlflow"
# A container's process, killed as by a lack of memory; the kubelet starts another one.
KILL = """
for id in $(ctr --namespace k8s.io containers list --quiet {which}); do
  ! ctr --namespace k8s.io tasks list | grep -q "^$id .*RUNNING" ||
    ctr --namespace k8s.io tasks kill --signal SIGKILL "$id"
done
"""


def in_node(line: str) -> str:
    """Return what has a line for sh run in the cluster's node."""
    return (
        f"source {shlex.quote(str(KUBECONFIG.parent / 'env'))}; "
        f'"${{KIND_EXPERIMENTAL_PROVIDER:-docker}}" exec {NODE} sh -euc {shlex.quote(line)}'
    )


def node(line: str) -> str:
    done = subprocess.run(
        ["bash", "-euc", in_node(line)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{line}: {done.stderr}"
    return done.stdout


def kill(namespace: str, container: str) -> str:
    """Return what kills a container, as a line for the node."""
    which = (
        f'labels."io.kubernetes.pod.namespace"=={namespace},'
        f'labels."io.kubernetes.container.name"=={container}'
    )
    return KILL.format(which=shlex.quote(which))


def restarts(kubectl: Kubectl, namespace: str, pod: str) -> int:
    """Return how often a pod's first container was started again."""
    found = kubectl(
        "get", "pod", pod, f"--namespace={namespace}",
        "--output=jsonpath={.status.containerStatuses[0].restartCount}",
    )  # fmt: skip
    return int(found)


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture(scope="module")
def volume(kubectl: Kubectl) -> Iterator[None]:
    """A volume for the database that can be filled without harm to the machine."""
    (storage_class,) = (
        item["metadata"]["name"]
        for item in json.loads(kubectl("get", "storageclass", "--output=json"))["items"]
        if "storageclass.kubernetes.io/is-default-class" in item["metadata"]["annotations"]
    )
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": VOLUME},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            # What the claim asks for. How much there really is, nobody looks at.
            "capacity": {"storage": "5Gi"},
            "claimRef": {"namespace": NAMESPACE, "name": "data-postgres-0"},
            "hostPath": {"path": FOLDER, "type": "Directory"},
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": storage_class,
        },
    }
    node(
        f"mkdir -p {FOLDER}; mountpoint -q {FOLDER} || "
        f"mount -t tmpfs -o size={SIZE},uid=999,gid=999,mode=0700 {VOLUME} {FOLDER}"
    )
    kubectl("apply", "--filename=-", stdin=json.dumps(volume))
    yield
    if "MLFLOW_TEST_KEEP" not in os.environ:
        # Gone when no claim and no pod uses it any more.
        kubectl("delete", "persistentvolume", VOLUME, "--timeout=180s")
        node(f"umount {FOLDER}; rmdir {FOLDER}")


@pytest.fixture(scope="module")
def release(kubectl: Kubectl, volume: None) -> Iterator[Release]:
    """3.16.1, and a dump of its database."""
    with Release(kubectl, NAMESPACE) as found:
        found.begin()
        found.dump()
        yield found


def test_a_full_disk_fails_the_migration_and_the_old_version_serves(release: Release) -> None:
    fill = f"dd if=/dev/zero of={FOLDER}/filler bs=64k 2>/dev/null || true"
    # First a new segment of the log, which a disk that fills up slowly mostly leaves as well: where
    # that cannot be made, Postgres itself ends until there is room (docs/operations.md).
    line = f"{SQL} --command='SELECT pg_switch_wal()' --command=CHECKPOINT; {in_node(fill)}"
    run = release.play(NEW, {"Apply the stage migration": line})
    try:
        assert "at_task: Apply the stage migration: rc=0" in run.output, run.output
        assert node(f"df --output=avail {FOLDER}").split()[-1] == "0"
        assert run.code == 2, run.output
        said = words(run.output)
        assert "The migration failed. " in said, run.output
        assert "job_failed" in said, run.output
        assert "No space left on device" in said, run.output
        assert "The old version still serves." in said, run.output
        assert release.is_whole() == OLD
        assert release.head() == OLD_HEAD
        releases, pending = release.record()
        assert [item["version"] for item in releases] == [OLD]
        assert pending is not None
        assert pending["version"] == NEW
    finally:
        node(f"rm -f {FOLDER}/filler")
    # Still there once it can be written to again.
    release.sql("CREATE TABLE room AS SELECT generate_series(1, 10000); DROP TABLE room")
    assert release.is_whole() == OLD


def test_a_database_that_is_killed_in_the_migration_is_migrated_as_a_whole(
    release: Release, kubectl: Kubectl
) -> None:
    # The migration stops when it has made its changes, and is about to note its revision and to
    # commit; there it is when Postgres goes.
    blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = "
    blocked += "'alembic_version'::regclass"
    line = f"""{{
        {SQL} --command='BEGIN; LOCK TABLE alembic_version IN SHARE MODE; SELECT pg_sleep(90)' &
        until [[ $({SQL} --command="{blocked}") != 0 ]]; do sleep 0.2; done
        {in_node(kill(NAMESPACE, "postgres"))}
    }} &"""
    before = restarts(kubectl, NAMESPACE, "postgres-0")
    run = release.play(NEW, {"Apply the stage migration": line})
    assert restarts(kubectl, NAMESPACE, "postgres-0") == before + 1, run.output
    assert run.code == 0, run.output
    assert release.is_whole() == NEW
    assert release.head() == NEW_HEAD
    releases, pending = release.record()
    assert pending is None
    assert [item["version"] for item in releases] == [NEW, OLD]
    # The Job's one pod saw it, and went on.
    (job,) = (
        item["metadata"]["name"]
        for item in json.loads(kubectl("get", "jobs", f"--namespace={NAMESPACE}", "--output=json"))[
            "items"
        ]
        if item["metadata"]["labels"]["app.kubernetes.io/component"] == "migration"
    )
    log = kubectl("logs", f"job/{job}", f"--namespace={NAMESPACE}")
    assert "the database went away" in log, log


def test_a_node_and_an_api_server_that_are_restarted_are_waited_for(
    release: Release, kubectl: Kubectl
) -> None:
    release.back()
    api_server = f"kube-apiserver-{NODE}"
    before = restarts(kubectl, "kube-system", api_server)
    containerd = "systemctl show --property=MainPID containerd"
    processes = {node(containerd)}
    fault = in_node(f"{kill('kube-system', 'kube-apiserver')} systemctl restart containerd")
    # Under way: the migration, and then both versions of the server.
    moments = ("Wait for the migration", "Wait until MLflow serves")
    run = release.play(NEW, dict.fromkeys(moments, fault))
    for moment in moments:
        assert f"at_task: {moment}: rc=0" in run.output, run.output
    assert restarts(kubectl, "kube-system", api_server) == before + len(moments)
    assert node(containerd) not in processes
    assert run.code == 0, run.output
    assert release.is_whole() == NEW
    assert release.head() == NEW_HEAD
    releases, pending = release.record()
    assert pending is None
    assert releases[0]["version"] == NEW

    again = release.succeed(NEW)
    assert again.changed == 0, again.output
