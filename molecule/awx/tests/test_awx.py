"""site.yml in the execution environment, by ansible-runner, as AWX starts a job.

With a project, an inventory, extra vars and artifacts in a folder of its own, in a container that
is thrown away, and with nothing of the cluster but K8S_AUTH_HOST, K8S_AUTH_API_KEY and
K8S_AUTH_SSL_CA_CERT: those of a ServiceAccount that has docs/access/deployer.yml and nothing else.

By itself on a cluster that is there, after dev/ee.yml:
KIND_CLUSTER_NAME=mlflow MLFLOW_TEST_NAMESPACE=awx-test pytest molecule/awx
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_SPEC
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Api, ApiError
from ansible_collections.mlops.mlflow.plugins.module_utils._release import permissions as access
from ansible_collections.mlops.mlflow.tests.ship.galaxy import ROOT, tracked

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlops-mlflow"
KUBECONFIG = CACHE / "clusters" / os.environ["KIND_CLUSTER_NAME"] / "kubeconfig"
NAMESPACE = os.environ.get("MLFLOW_TEST_NAMESPACE", "mlflow-development")
DEPLOYER = ROOT / "docs/access/deployer.yml"
KEYS = ("K8S_AUTH_HOST", "K8S_AUTH_API_KEY", "K8S_AUTH_SSL_CA_CERT")
MISSING = f"these permissions are missing in namespace {NAMESPACE}: "


class Identity(NamedTuple):
    """All that a job knows of the cluster."""

    host: str
    token: str
    ca: str


class Job(NamedTuple):
    """What a job leaves."""

    code: int
    output: str
    artifacts: Path


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    done = subprocess.run(
        ["kubectl", *arguments],
        env={
            **os.environ,
            "KUBECONFIG": str(KUBECONFIG),
            "PATH": f"{CACHE / 'bin'}:{os.environ['PATH']}",
        },
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def roles() -> list[dict[str, Any]]:
    """Return the Roles that are documented."""
    items = yaml.safe_load(DEPLOYER.read_text())["items"]
    return [item for item in items if item["kind"] == "Role"]


@pytest.fixture(scope="module")
def identity() -> Iterator[Identity]:
    """The namespace, and a ServiceAccount in it, made as docs/guides/permissions.md says."""
    kubectl("create", "namespace", NAMESPACE)
    kubectl("label", "namespace", NAMESPACE, "app.kubernetes.io/part-of=mlflow")
    kubectl("apply", f"--namespace={NAMESPACE}", f"--filename={DEPLOYER}")
    token = kubectl(
        "create", "token", "mlflow-deployer", f"--namespace={NAMESPACE}", "--duration=1h"
    ).strip()
    view = json.loads(kubectl("config", "view", "--raw", "--minify", "--output=json"))
    cluster = view["clusters"][0]["cluster"]
    ca = base64.b64decode(cluster["certificate-authority-data"]).decode()
    yield Identity(cluster["server"], token, ca)
    if "MLFLOW_TEST_KEEP" not in os.environ:
        kubectl("delete", "namespace", NAMESPACE, "--timeout=180s")


@pytest.fixture(scope="module")
def image() -> str:
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]
    return f"localhost/mlops-mlflow/ee:{version}"


@pytest.fixture(scope="module")
def runner() -> list[str]:
    """ansible-runner, as dev/ee.yml installed it."""
    lock = (ROOT / "dev/execution-environment/builder.txt").read_text()
    found = list((CACHE / "ansible-builder").glob("*/bin/python"))
    assert found, "ansible-playbook dev/ee.yml comes first"
    newest = max(found, key=lambda path: path.lstat().st_mtime)
    said = subprocess.run(
        [newest, "-m", "ansible_runner", "--version"], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert f"ansible-runner=={said} " in lock
    return [str(newest), "-m", "ansible_runner"]


@pytest.fixture
def launch(tmp_path: Path, identity: Identity, image: str, runner: list[str]) -> Any:
    """Launches a job, with files laid out as AWX lays them."""
    project = tmp_path / "project"
    for name in tracked():
        # A project is what Git has; the collection itself is in the execution environment.
        if name.startswith(("inventories/", "playbooks/")) or name in {"site.yml", "ansible.cfg"}:
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, project / name, follow_symlinks=False)
    shutil.copytree(ROOT / "inventories/development", tmp_path / "inventory")
    (tmp_path / "env").mkdir(mode=0o700)
    (tmp_path / "env/ca.crt").write_text(identity.ca)
    values = (identity.host, identity.token, "/runner/env/ca.crt")
    paths = "/runner/requirements_collections:/usr/share/ansible/collections"
    (tmp_path / "env/envvars").write_text(
        json.dumps(
            {
                **dict(zip(KEYS, values, strict=True)),
                "K8S_AUTH_VERIFY_SSL": "True",
                "ANSIBLE_COLLECTIONS_PATH": paths,
                "ANSIBLE_NOCOLOR": "1",
                "HOME": "/runner",
            }
        )
    )

    def call(**variables: Any) -> Job:
        variables = {
            "mlflow_namespace": NAMESPACE, "mlflow_service": {"type": "ClusterIP"}, **variables
        }  # fmt: skip
        (tmp_path / "env/extravars").write_text(json.dumps(variables))
        done = subprocess.run(
            [
                *runner, "run", str(tmp_path), "--playbook=site.yml", "--ident=job",
                "--process-isolation", "--process-isolation-executable=podman",
                f"--container-image={image}", "--container-option=--network=host",
                "--container-option=--pull=never", "--container-option=--user=root",
            ],
            env={**os.environ, "CONTAINERS_CONF": str(CACHE / "containers.conf")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
            check=False,
        )  # fmt: skip
        return Job(done.returncode, done.stdout, tmp_path / "artifacts/job")

    return call


def allowed(identity: Identity, tmp_path: Path) -> list[str]:
    """Ask the cluster as preflight does; return what is missing."""
    (tmp_path / "ca.crt").write_text(identity.ca)
    connection: dict[str, Any] = dict.fromkeys(AUTH_ARG_SPEC)
    connection.update(host=identity.host, api_key=identity.token, ca_cert=str(tmp_path / "ca.crt"))
    rendered = kubectl("kustomize", str(ROOT / "kustomize/overlays/development"))
    kinds = [
        {"api_version": item["apiVersion"], "kind": item["kind"]}
        for item in yaml.safe_load_all(rendered)
    ] + [{"api_version": "policy/v1", "kind": "PodDisruptionBudget"}]
    try:
        access.check(
            Api.of(None, connection),
            {"namespace": NAMESPACE, "kinds": kinds, "prune": True},
        )
    except ApiError as error:
        if not str(error).startswith(MISSING):
            raise
        found: list[str] = error.missing
        return found
    return []


def grant(name: str, rules: list[dict[str, Any]]) -> None:
    """Make a Role grant these rules."""
    patch = json.dumps([{"op": "replace", "path": "/rules", "value": rules}])
    kubectl(
        "patch", "role", name, f"--namespace={NAMESPACE}", "--type=json", f"--patch={patch}"
    )  # fmt: skip


def single(rules: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Return rules as one permission each: group, resource, verb."""
    return [
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]


def test_each_permission_is_needed_and_named(identity: Identity, tmp_path: Path) -> None:
    (role,) = (item for item in roles() if item["metadata"]["name"] == "mlflow-deployer")
    everything = single(role["rules"])
    try:
        for taken in everything:
            grant(
                "mlflow-deployer",
                [
                    {"apiGroups": [group], "resources": [resource], "verbs": [verb]}
                    for group, resource, verb in everything
                    if (group, resource, verb) != taken
                ],
            )
            group, resource, verb = taken
            said = f"{verb} {resource}{'.' + group if group else ''}"
            # The API server hears of a Role through a watch.
            deadline = time.monotonic() + 20
            while (found := allowed(identity, tmp_path)) != [said]:
                assert time.monotonic() < deadline, (said, found)
    finally:
        kubectl("apply", f"--namespace={NAMESPACE}", f"--filename={DEPLOYER}")


def test_a_job_without_a_permission_says_which(launch: Any, identity: Identity) -> None:
    (role,) = (item for item in roles() if item["metadata"]["name"] == "mlflow-deployer")
    rest = [item for item in role["rules"] if "pods/portforward" not in item["resources"]]
    grant("mlflow-deployer", rest)
    try:
        job = launch()
    finally:
        kubectl("apply", f"--namespace={NAMESPACE}", f"--filename={DEPLOYER}")
    assert job.code != 0
    for words in (MISSING, "get pods/portforward", "create pods/exec", "Nothing was written."):
        assert words in " ".join(job.output.split()), job.output
    assert kubectl("get", "deployments,leases", f"--namespace={NAMESPACE}", "--output=name") == ""


def test_a_job_deploys_and_leaves_artifacts(
    launch: Any, identity: Identity, tmp_path: Path
) -> None:
    deadline = time.monotonic() + 20
    while allowed(identity, tmp_path):
        assert time.monotonic() < deadline
    job = launch()
    assert job.code == 0, job.output
    assert (job.artifacts / "rc").read_text() == "0"
    assert (job.artifacts / "status").read_text() == "successful"
    events = [json.loads(path.read_text()) for path in (job.artifacts / "job_events").iterdir()]
    assert "playbook_on_stats" in {event["event"] for event in events}
    # Neither on the screen nor in what AWX keeps. What a job was started with, its environment
    # included, ansible-runner itself writes down in two files.
    assert identity.token not in job.output
    for path in job.artifacts.rglob("*"):
        if path.is_file() and path.name not in {"command", "env.list"}:
            assert identity.token not in path.read_text(errors="replace"), path


def test_the_next_job_has_nothing_to_do(launch: Any) -> None:
    job = launch()
    assert job.code == 0, job.output
    assert "changed=0" in job.output


def test_the_collection_was_the_execution_environment_s(launch: Any) -> None:
    job = launch(mlflow_replicas="many")
    assert job.code != 0
    assert "mlflow_replicas: must be a whole number" in " ".join(job.output.split())
    events = (path.read_text() for path in (job.artifacts / "job_events").iterdir())
    places = {
        json.loads(event)["event_data"].get("task_path", "").split(":")[0] for event in events
    }
    roles_used = {place for place in places if "/roles/" in place}
    assert roles_used
    assert all(place.startswith("/usr/share/ansible/collections/") for place in roles_used)
