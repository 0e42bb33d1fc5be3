"""A release with users, an S3 store, a database over verified TLS, and two replicas."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import requests
from ansible_collections.mlops.mlflow.molecule import conftest as shared
from ansible_collections.mlops.mlflow.molecule.production.tests.conftest import (
    NAMESPACE,
    SERVICES,
    Kubectl,
    User,
    forward,
)
from ansible_collections.mlops.mlflow.tests.docs.pages import programs

SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"


@pytest.fixture(scope="session")
def user() -> User:
    """Somebody to whom nobody granted anything."""
    return User("grace", secrets.token_urlsafe(16))


def in_server(kubectl: Kubectl, code: str) -> str:
    """Run Python where MLflow runs, with its environment; return what it prints."""
    where = (f"--namespace={NAMESPACE}", "deployment/mlflow", "--container=mlflow")
    return kubectl("exec", *where, "--", "python3", "-c", code).strip()


def query(kubectl: Kubectl, sql: str) -> str:
    """Ask the database itself."""
    psql = ("psql", "--username=mlflow", "--dbname=mlflow", "--tuples-only", "--no-align")
    where = (f"--namespace={SERVICES}", "postgres-0", "--container=postgres")
    return kubectl("exec", *where, "--", *psql, f"--command={sql}").strip()


# --- who gets in ----------------------------------------------------------------------------------


@pytest.mark.parametrize("who", [None, ("admin", "wrong-password"), ("nobody", "wrong-password")])
def test_nobody_gets_in_without_the_right_password(
    pods: list[str], program: Callable[..., Any], who: tuple[str, str] | None
) -> None:
    for url in pods:
        assert requests.get(url + SEARCH, auth=who, timeout=30).status_code == 401
        assert requests.get(url + "/", auth=who, timeout=30).status_code == 401
        # The probes of the kubelet carry no password.
        assert requests.get(url + "/health", auth=who, timeout=30).status_code == 200
    said = program(pods[0], User(*who) if who else None, "search")["refused"]
    assert "not authenticated" in said, said


def test_the_secrets_administrator_gets_in(pods: list[str], admin: User) -> None:
    for url in pods:
        assert requests.get(url + SEARCH, auth=admin, timeout=30).status_code == 200


def test_a_user_may_read_and_do_what_was_granted(
    url: str, program: Callable[..., Any], admin: User, user: User
) -> None:
    """basic_auth.ini's default_permission is READ; a grant of less takes that away too."""
    program(url, admin, "create_user", *user)
    made = program(url, admin, "log", "of-the-administrator")
    theirs = (made["experiment_id"], made["run_id"])

    said = program(url, user, "try_everything", *theirs)
    assert not said.pop("read") and not said.pop("artifact")
    for action, refusal in said.items():
        assert "Permission denied" in refusal, action

    program(url, admin, "grant", user.name, made["experiment_id"], "DENY")
    for action, refusal in program(url, user, "try_everything", *theirs).items():
        assert "Permission denied" in refusal, action

    program(url, admin, "grant", user.name, made["experiment_id"], "EDIT")
    said = program(url, user, "try_everything", *theirs)
    assert not said["write"]
    assert "Permission denied" in said["grant"]

    own = program(url, user, "log", "of-grace")
    assert program(url, user, "read", own["run_id"])["text"] == own["run_id"]


@pytest.mark.parametrize(("block", "code"), programs("docs/components/auth.md"))
def test_the_program_that_adds_a_user_works_as_printed(
    url: str, admin: User, block: str, code: str
) -> None:
    who = {"MLFLOW_TRACKING_USERNAME": admin.name, "MLFLOW_TRACKING_PASSWORD": admin.password}
    name = f"grace-{secrets.token_hex(4)}"
    done = subprocess.run(
        # Another name, because a user is added once.
        [sys.executable, "-c", code.replace('"grace"', f'"{name}"')],
        env={**os.environ, **who, "MLFLOW_TRACKING_URI": url, "MLFLOW_DISABLE_TELEMETRY": "true"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, f"{block}: {done.stderr}"
    answer = requests.get(f"{url}/api/2.0/mlflow/users/get?username={name}", auth=admin, timeout=30)
    assert answer.status_code == 200, answer.text


def test_a_session_of_one_replica_is_known_to_the_other(pods: list[str], admin: User) -> None:
    """The page to sign somebody up keeps its token in a cookie that Flask's secret key signs."""
    one, other = pods
    form = {"username": f"linus-{secrets.token_hex(4)}", "password": secrets.token_urlsafe(16)}
    with requests.Session() as session:
        session.auth = (admin.name, admin.password)
        page = session.get(one + "/signup", timeout=30)
        token = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
        assert page.status_code == 200 and token, page.text
        form["csrf_token"] = token[1]
        done = session.post(other + "/api/2.0/mlflow/users/create-ui", data=form, timeout=30)
        assert done.status_code == 200 and "Successfully signed up" in done.text, done.text

        session.cookies.clear()
        form["username"] = f"dennis-{secrets.token_hex(4)}"
        done = session.post(other + "/api/2.0/mlflow/users/create-ui", data=form, timeout=30)
        assert done.status_code == 400, done.text  # so it was the cookie


# --- artifacts ------------------------------------------------------------------------------------

OBJECTS = """
import boto3, json, os
found = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"]).list_objects_v2(
    Bucket="mlflow")
print(json.dumps([[o["Key"], o["Size"], o["ETag"]] for o in found["Contents"]]))
"""


def test_200_megabytes_go_through_to_s3_and_come_back(
    url: str,
    program: Callable[..., Any],
    kubectl: Kubectl,
    admin: User,
    objects: Callable[[str, str], list[dict[str, Any]]],
) -> None:
    done = program(url, admin, "large", "200")
    assert done["received"] == done["sent"]

    (entry,) = [o for o in json.loads(in_server(kubectl, OBJECTS)) if done["run_id"] in o[0]]
    key, size, tag = entry
    assert key.startswith("artifacts/") and size == 200 * 1024**2
    assert re.fullmatch(r'"[0-9a-f]+-\d+"', tag), f"it did not go up in parts: {tag}"
    for pod in objects("pods", NAMESPACE):
        for status in pod["status"]["containerStatuses"]:
            assert status["restartCount"] == 0, f"{status['name']}: {status}"


def test_the_store_has_to_prove_itself(kubectl: Kubectl) -> None:
    said = in_server(
        kubectl,
        OBJECTS.replace(
            "import boto3, json, os\n",
            "import boto3, json, os, sys\n"
            'del os.environ["AWS_CA_BUNDLE"]\n'
            "sys.excepthook = lambda kind, *rest: print(kind.__name__) or os._exit(0)\n",
        ),
    )
    assert said == "SSLError"


# --- the database ---------------------------------------------------------------------------------


def test_every_session_is_over_tls(kubectl: Kubectl) -> None:
    counted = query(
        kubectl,
        "select count(*), count(*) filter (where ssl) from pg_stat_activity join pg_stat_ssl"
        " using (pid) where usename = 'mlflow' and client_addr is not null",
    )
    sessions, encrypted = map(int, counted.split("|"))
    assert sessions == encrypted > 0


def test_the_database_has_to_prove_itself(kubectl: Kubectl) -> None:
    """The same server by a name that its certificate does not have; then without TLS."""
    connect = (
        "import os, psycopg2\n"
        "try: psycopg2.connect(dbname='mlflow', {})\n"
        "except psycopg2.OperationalError as error: print(error)\n"
    )
    said = in_server(kubectl, connect.format("host=os.environ['PGHOST'] + '.cluster.local'"))
    assert "does not match host name" in said
    assert "no encryption" in in_server(kubectl, connect.format("sslmode='disable'"))


def test_the_bundled_postgres_has_checksums_and_is_not_root(kubectl: Kubectl) -> None:
    """The database here is the bundled one, with a certificate: see services/."""
    assert query(kubectl, "show data_checksums") == "on"
    where = (f"--namespace={SERVICES}", "postgres-0", "--container=postgres")
    assert kubectl("exec", *where, "--", "id", "-u").strip() == "999"


# --- what the cluster enforces --------------------------------------------------------------------


def test_the_namespace_is_restricted_and_has_its_policies(
    kubectl: Kubectl, objects: Callable[[str, str], list[dict[str, Any]]]
) -> None:
    level = kubectl(
        "get",
        "namespace",
        NAMESPACE,
        r"--output=jsonpath={.metadata.labels.pod-security\.kubernetes\.io/enforce}",
    )
    assert level == "restricted"
    policies = {policy["metadata"]["name"] for policy in objects("networkpolicies", NAMESPACE)}
    assert {"mlflow-default-deny", "mlflow-dns", "mlflow-server", "mlflow-external"} <= policies
    assert not objects("statefulsets,persistentvolumeclaims", NAMESPACE)


def test_a_second_run_changes_nothing_and_says_so(deploy: Callable[..., Any]) -> None:
    run = deploy()
    assert run.code == 0, run.output
    assert run.changed == 0, run.output


# --- what survives --------------------------------------------------------------------------------


def test_runs_survive_the_loss_of_a_pod(
    program: Callable[..., Any],
    kubectl: Kubectl,
    admin: User,
    objects: Callable[[str, str], list[dict[str, Any]]],
) -> None:
    with forward("service/mlflow") as url:
        made = program(url, admin, "log", "before-the-loss")
    first, *_others = [
        pod["metadata"]["name"]
        for pod in objects("pods", NAMESPACE)
        if pod["metadata"]["labels"].get("app.kubernetes.io/component") == "server"
    ]
    kubectl("delete", "pod", first, f"--namespace={NAMESPACE}", "--timeout=120s")
    kubectl("rollout", "status", "deployment/mlflow", f"--namespace={NAMESPACE}", "--timeout=120s")
    with forward("service/mlflow") as url:
        assert program(url, admin, "read", made["run_id"]) == {
            "status": "FINISHED",
            "metrics": {"loss": 0.25},
            "text": made["run_id"],
        }


def test_runs_survive_a_restart_of_postgres_that_stops_cleanly(
    pods: list[str], program: Callable[..., Any], kubectl: Kubectl, admin: User
) -> None:
    made = program(pods[0], admin, "log", "before-the-restart")
    follow = ("logs", "--follow", "--tail=1", f"--namespace={SERVICES}", "postgres-0")
    log = subprocess.Popen(
        ["kubectl", *follow],
        env=shared.ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert log.stdout and log.stdout.readline()  # it follows
        kubectl("delete", "pod", "postgres-0", f"--namespace={SERVICES}", "--timeout=150s")
        said, _errors = log.communicate(timeout=60)
    finally:
        log.kill()
    assert "received fast shutdown request" in said, said
    assert said.splitlines()[-1].endswith("database system is shut down"), said

    where = (f"--namespace={SERVICES}", "--timeout=120s")
    kubectl("rollout", "status", "statefulset/postgres", *where)
    for url in pods:  # the same processes as before: they find the database again by themselves
        assert program(url, admin, "read", made["run_id"])["status"] == "FINISHED"


def test_a_changed_administrators_password_is_told_and_healed_by_the_secret(
    program: Callable[..., Any], kubectl: Kubectl, admin: User, deploy: Callable[..., Any]
) -> None:
    """The Secret's password makes the administrator, once; MLflow's own word counts after that."""
    new = secrets.token_urlsafe(16)
    with forward("service/mlflow") as url:
        program(url, admin, "change_password", admin.name, new)
    run = deploy("--extra-vars=mlflow_timeout=60")
    assert run.code != 0
    assert "unauthorized" in run.output, run.output
    assert "admin-password" in run.output, run.output

    patch = json.dumps({"stringData": {"admin-password": new}})
    where = f"--namespace={NAMESPACE}"
    kubectl("patch", "secret", "mlflow-credentials", where, "--patch-file=/dev/stdin", stdin=patch)
    run = deploy()
    assert run.code == 0, run.output
    assert run.changed == 0, run.output
