"""What was backed up comes back whole, also into a namespace that was lost.

By itself on a cluster that is there, in a namespace of its own that site.yml has made with auth:
KIND_CLUSTER_NAME=mlflow MLFLOW_TEST_NAMESPACE=restore-test pytest molecule/restore
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[3]
NAMESPACE = os.environ.get("MLFLOW_TEST_NAMESPACE", "mlflow-development")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlops-mlflow"
RUNS = 10_000
OWN = [
    '--extra-vars={"mlflow_components": ["auth"]}',
    *(
        [
            f"--extra-vars=mlflow_namespace={NAMESPACE} mlflow_url=",
            '--extra-vars={"mlflow_service": {"type": "ClusterIP"}}',
        ]
        if "MLFLOW_TEST_NAMESPACE" in os.environ
        else []
    ),
]
# What MLflow would write, faster than through MLflow. Metrics hold what a text would lose.
FILL = f"""
INSERT INTO runs (run_uuid, name, source_type, user_id, status, start_time, end_time,
    lifecycle_stage, artifact_uri, experiment_id)
  SELECT md5(i::text), 'run ' || i, 'LOCAL', 'someone', 'FINISHED', 1700000000000 + i,
    1700000001000 + i, CASE i % 100 WHEN 0 THEN 'deleted' ELSE 'active' END,
    'mlflow-artifacts:/0/' || md5(i::text) || '/artifacts', 0
  FROM generate_series(1, {RUNS}) i ON CONFLICT DO NOTHING;
INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan)
  SELECT 'loss', (1 / (i + step + 0.7))::float8, 1700000000000 + step, md5(i::text), step, false
  FROM generate_series(1, {RUNS}) i, generate_series(0, 4) step ON CONFLICT DO NOTHING;
INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid)
  SELECT key, value, timestamp, step, is_nan, run_uuid FROM metrics WHERE step = 4
  ON CONFLICT DO NOTHING;
INSERT INTO params (key, value, run_uuid) SELECT 'lr', 'ä "quoted" \\ ' || i, md5(i::text)
  FROM generate_series(1, {RUNS}) i ON CONFLICT DO NOTHING;
INSERT INTO users (username, password_hash, is_admin)
  SELECT 'user' || i, 'scrypt:' || md5(i::text), i % 10 = 0 FROM generate_series(1, 50) i
  WHERE NOT EXISTS (SELECT FROM users WHERE username = 'user1');
INSERT INTO experiment_permissions (experiment_id, user_id, permission)
  SELECT '0', id, CASE id % 2 WHEN 0 THEN 'EDIT' ELSE 'READ' END FROM users
  WHERE NOT EXISTS (SELECT FROM experiment_permissions);
"""  # noqa: S608

Kubectl = Callable[..., str]
Site = Callable[..., Any]


class Backup(NamedTuple):
    """A backup that was fetched, and what the database held when it was taken."""

    name: str
    file: Path
    contents: dict[str, str]


def sql(kubectl: Kubectl, statements: str, database: str = "mlflow") -> list[str]:
    """Run statements in the bundled Postgres; return the lines of their results."""
    psql = ["psql", "--username=mlflow", f"--dbname={database}", "--quiet", "--tuples-only"]
    command = [*psql, "--no-align", "--set=ON_ERROR_STOP=1"]
    place = ["exec", "--stdin", f"--namespace={NAMESPACE}", "postgres-0", "--"]
    return kubectl(*place, *command, stdin=statements).splitlines()


def contents(kubectl: Kubectl) -> dict[str, str]:
    """Return, for each table, its number of rows and their checksum."""
    names = sql(
        kubectl,
        "SELECT relname FROM pg_class WHERE relkind = 'r'"
        " AND relnamespace = 'public'::regnamespace ORDER BY 1;",
    )
    found = sql(
        kubectl,
        "".join(
            f"SELECT '{name} ' || count(*) || ' ' || "  # noqa: S608
            f"coalesce(md5(string_agg(t::text, ',' ORDER BY t::text)), '') FROM {name} t;"
            for name in names
        ),
    )
    return dict(line.split(" ", 1) for line in found)


def untouched(kubectl: Kubectl) -> tuple[dict[str, str], str]:
    """Return what a refused restore must not change: the data, and every object of the release."""
    kinds = "deployments,statefulsets,services,configmaps,secrets,serviceaccounts,jobs"
    listed = json.loads(kubectl("get", kinds, f"--namespace={NAMESPACE}", "--output=json"))
    objects = sorted(
        f"{item['kind']}/{item['metadata']['name']} {item['metadata']['resourceVersion']}"
        for item in listed["items"]
        if "mlops.mlflow/backup-command" not in (item["metadata"].get("labels") or {})
    )
    databases = sql(kubectl, "SELECT datname FROM pg_database ORDER BY 1;")
    return contents(kubectl), "\n".join([*objects, *databases])


@pytest.fixture(scope="module")
def backup(kubectl: Kubectl, site: Site, tmp_path_factory: pytest.TempPathFactory) -> Backup:
    sql(kubectl, FILL)
    before = contents(kubectl)
    assert before["runs"].startswith(f"{RUNS} ")
    folder = tmp_path_factory.mktemp("fetched")
    run = site(*OWN, f"--extra-vars=mlflow_backup_fetch={folder}", playbook="playbooks/backup.yml")
    assert run.code == 0, run.output
    assert "restored into a scratch database and compared" in " ".join(run.output.split())
    assert contents(kubectl) == before
    assert not [name for name in databases(kubectl) if name not in ("mlflow", "postgres")]
    (file,) = folder.iterdir()
    assert file.stat().st_mode & 0o077 == 0
    return Backup(file.stem, file, before)


def databases(kubectl: Kubectl) -> list[str]:
    return sql(kubectl, "SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1;")


def changed_copy(backup: Backup, folder: Path, name: str, **changes: Any) -> Path:
    """Return a backup that is whole and says something else of itself, under another name."""
    with tarfile.open(backup.file) as archive:
        archive.extractall(folder, filter="data")
    (folder / backup.name).rename(folder / name)
    path = folder / name / "manifest.json"
    manifest = json.loads(path.read_text())
    revisions = changes.pop("revisions", None)
    manifest.update(name=name, **changes)
    if revisions:
        manifest["databases"][0]["revisions"].update(revisions)
    path.write_text(json.dumps(manifest))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (path.parent / "manifest.sha256").write_text(f"{digest}  manifest.json\n")
    file = folder / f"{name}.tar"
    with tarfile.open(file, "w") as archive:
        archive.add(folder / name, name)
    return file


def cut_off(backup: Backup, folder: Path) -> Path:
    file = folder / "cut.tar"
    file.write_bytes(backup.file.read_bytes()[: backup.file.stat().st_size // 2])
    return file


def damage(backup: Backup, folder: Path) -> Path:
    data = bytearray(backup.file.read_bytes())
    with tarfile.open(backup.file) as archive:
        middle = archive.getmember(f"{backup.name}/tracking.dump")
    data[middle.offset_data + middle.size // 2] ^= 0xFF
    file = folder / "damaged.tar"
    file.write_bytes(data)
    return file


def test_what_must_not_be_restored_is_refused_with_nothing_touched(
    kubectl: Kubectl, site: Site, backup: Backup, tmp_path: Path
) -> None:
    foreign = changed_copy(backup, tmp_path / "f", "20200101T000001Z", release="somebody-elses")
    newer = {"mlflow": "99.0", "revisions": {"tracking": "ffffffffffff"}}
    newer_file = changed_copy(backup, tmp_path / "n", "20200101T000002Z", **newer)
    before = untouched(kubectl)
    for file, words in (
        (cut_off(backup, tmp_path), "was it cut off?"),
        (damage(backup, tmp_path), "is damaged: tracking.dump is not what its manifest says"),
        (foreign, "is foreign: it is of the release in somebody-elses"),
        (newer_file, "newer than the image: its tracking schema is at revision ffffffffffff"),
    ):
        restored = [f"--extra-vars=mlflow_backup_file={file}"]
        run = site(*OWN, *restored, playbook="playbooks/restore.yml")
        assert run.code != 0, run.output
        assert words in " ".join(run.output.split()), run.output
        assert untouched(kubectl) == before, words


def test_a_backup_that_was_damaged_on_its_volume_is_refused(
    kubectl: Kubectl, site: Site, backup: Backup
) -> None:
    before = untouched(kubectl)
    # The last one was sent whole: the disk loses a part of it.
    on_volume(kubectl, "truncate --size=-100 /backups/20200101T000001Z/tracking.dump")
    run = site(
        *OWN,
        "--extra-vars=mlflow_backup=20200101T000001Z mlflow_restore_foreign=true",
        playbook="playbooks/restore.yml",
    )
    assert run.code != 0, run.output
    assert "20200101T000001Z is truncated: tracking.dump has" in " ".join(run.output.split())
    assert untouched(kubectl) == before


def on_volume(kubectl: Kubectl, line: str) -> None:
    """Run a command in a pod that has the backups' volume."""
    found = kubectl(
        "get", "pod", "postgres-0", f"--namespace={NAMESPACE}", "--output=jsonpath={..image}"
    )
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "hand", "namespace": NAMESPACE},
        "spec": {
            "restartPolicy": "Never",
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 999,
                "fsGroup": 999,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "hand",
                    "image": found.split()[0],
                    "command": ["bash", "-c", line],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [{"name": "backups", "mountPath": "/backups"}],
                }
            ],
            "volumes": [
                {"name": "backups", "persistentVolumeClaim": {"claimName": "mlflow-backups"}}
            ],
        },
    }
    kubectl("create", "--filename=-", stdin=json.dumps(pod))
    wait = "--for=jsonpath={.status.phase}=Succeeded"
    kubectl("wait", "pod/hand", f"--namespace={NAMESPACE}", wait, "--timeout=120s")
    kubectl("delete", "pod", "hand", f"--namespace={NAMESPACE}")


def test_a_restore_that_is_killed_is_finished_by_the_next_run(
    kubectl: Kubectl, site: Site, backup: Backup
) -> None:
    sql(kubectl, "DELETE FROM metrics; DELETE FROM experiment_permissions;")
    # As an earlier restore of the same backup leaves it.
    mark = f"mlops.mlflow: restored from {backup.name}"
    sql(kubectl, f"COMMENT ON DATABASE mlflow IS '{mark}';")

    def has_copy() -> bool:
        return "mlflow_restoring" in databases(kubectl)

    def is_out() -> bool:
        path = "--output=jsonpath={.spec.replicas}"
        return kubectl("get", "deploy", "mlflow", f"--namespace={NAMESPACE}", path) == "0"

    def is_swapped() -> bool:
        return any(name.startswith("mlflow_before_") for name in databases(kubectl))

    arguments = [*OWN, f"--extra-vars=mlflow_backup={backup.name}"]
    for moment in (has_copy, is_out, is_swapped):
        kill_when(moment, *arguments)
        # The lock of a run that certainly does nothing any more; else it would be waited for.
        kubectl("delete", "lease", "mlflow-release", f"--namespace={NAMESPACE}")
    run = site(*arguments, playbook="playbooks/restore.yml")
    assert run.code == 0, run.output
    assert contents(kubectl) == backup.contents
    assert "mlflow_restoring" not in databases(kubectl)


def kill_when(moment: Callable[[], bool], *arguments: str) -> None:
    """Start a restore, and kill it with all that it started at that moment."""
    kubeconfig = CACHE / "clusters" / os.environ["KIND_CLUSTER_NAME"] / "kubeconfig"
    process = subprocess.Popen(
        [
            "ansible-playbook",
            f"--inventory={ROOT}/inventories/development",
            f"--inventory={ROOT}/molecule/inventory",
            str(ROOT / "playbooks/restore.yml"),
            *arguments,
        ],
        cwd=ROOT,
        env={
            **os.environ,
            "KUBECONFIG": str(kubeconfig),
            "PATH": f"{CACHE / 'bin'}:{os.environ['PATH']}",
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        end = time.monotonic() + 600
        while not moment():
            assert process.poll() is None, f"it ended before {moment.__name__}"
            assert time.monotonic() < end, f"{moment.__name__} did not come"
            time.sleep(0.1)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_lost_namespace_comes_back_from_a_file(
    kubectl: Kubectl, site: Site, backup: Backup
) -> None:
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    kubectl("delete", "pods", "--all", f"--namespace={NAMESPACE}", "--grace-period=0", "--force")
    kubectl("wait", f"namespace/{NAMESPACE}", "--for=delete", "--timeout=240s")
    run = site(*OWN)
    assert run.code == 0, run.output
    assert not contents(kubectl)["runs"].startswith(f"{RUNS} ")
    started = time.monotonic()
    restored = [f"--extra-vars=mlflow_backup_file={backup.file}"]
    run = site(*OWN, *restored, playbook="playbooks/restore.yml")
    assert run.code == 0, run.output
    print(f"{RUNS} runs were restored in {time.monotonic() - started:.0f} s")
    assert contents(kubectl) == backup.contents
    # Nothing is left to do.
    again = site(*OWN)
    assert (again.code, again.changed) == (0, 0), again.output
