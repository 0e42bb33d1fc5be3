# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run that slept past its lock and wakes, wherever that was, writes nothing any more.

Each module that writes is suspended at each of its requests in turn, until it is done without.
While it sleeps, another run takes the lock. One is suspended for real, with SIGSTOP, over HTTP.
"""

from __future__ import annotations

import copy
import datetime
import http.server
import importlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
import types
from typing import Any

import pytest
import yaml
from ansible_collections.mlops.mlflow.plugins.action.release_objects import ActionModule
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Answer, Api
from ansible_collections.mlops.mlflow.plugins.module_utils._release import lock as _lock
from ansible_collections.mlops.mlflow.plugins.modules import release_offline
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.any_core import patch_module_args
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.memory_cluster import (
    MemoryCluster,
    encode,
)

ROOT = pathlib.Path(__file__).parents[4]
NAMESPACE = "here"
CORE = f"/api/v1/namespaces/{NAMESPACE}"
APPS = f"/apis/apps/v1/namespaces/{NAMESPACE}"
JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
CRON_JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/cronjobs"
LISTS = (JOBS, CRON_JOBS, f"{CORE}/pods")
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/mlflow-release"
TTL = 120
HELD = {"name": "mlflow-release", "namespace": NAMESPACE, "holder": "ann 1", "ttl": TTL}
# Longer than a test of this file takes, so that its own seconds do not matter.
NOON = 1_800_000_000.0


def stamp(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def lease_of(holder: str, renewed: float, ttl: float = TTL) -> dict[str, Any]:
    return {
        "metadata": {"name": "mlflow-release", "namespace": NAMESPACE},
        "spec": {
            "holderIdentity": holder,
            "renewTime": stamp(renewed),
            "acquireTime": stamp(renewed),
            "leaseDurationSeconds": int(ttl),
        },
    }


class Sleeper(MemoryCluster):
    """Takes the process's time away at one of its requests, and gives its lock to another."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at
        self.slept = 0.0
        self.after: list[str] = []
        self.put(LEASE, lease_of(HELD["holder"], NOON))  # type: ignore[arg-type]

    def server_wall(self, now: float) -> float:
        return NOON + self.slept

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
        write = method != "GET" and "dryRun" not in (query or {})
        if write:
            self.before_write(path)
            # The lock's own are made for the version that was read.
            if path != LEASE:
                self.note(f"{method} {path}")
        answer = self._answer(method, path, body, query, content_type)
        self.wake()
        return answer

    def note(self, what: str) -> None:
        """Note a write; those after the lock was lost are what must not be."""
        if self.slept:
            self.after.append(what)

    def wake(self) -> None:
        """Sleep with the answer under way, if this is the place."""
        self.at -= 1
        if self.at == 0:
            self.slept = 10 * TTL
            self.put(LEASE, lease_of("bob 2", NOON + self.slept))

    def _answer(
        self, method: str, path: str, body: Any, query: dict[str, str] | None, content_type: str
    ) -> Answer:
        if method == "DELETE":
            self.calls.append((method, path, {}))
            return Answer(200 if self.objects.pop(path, None) else 404, {})
        if method in ("PUT", "POST"):
            self.calls.append((method, path, {}))
            where = path if method == "PUT" else f"{path}/{body['metadata']['name']}"
            there = self.objects.get(where, {}).get("metadata", {}).get("resourceVersion")
            if method == "PUT" and there != body["metadata"]["resourceVersion"]:
                return Answer(409, {})
            there = copy.deepcopy(self.put(where, body))
            return Answer(200 if method == "PUT" else 201, there)
        if method == "PATCH" and content_type.startswith("application/merge-patch"):
            self.calls.append((method, path, {}))
            return Answer(200, copy.deepcopy(self.put(path, merged(self.objects[path], body))))
        found = super().request(method, path, body, query, content_type)
        return Answer(200, {"items": []}) if found.status == 404 and path in LISTS else found

    def execute(self, *_arguments: Any) -> tuple[int, str, str]:
        """Run a command in a container: it counts as a write."""
        self.note("exec")
        self.calls.append(("POST", "exec", {}))
        self.wake()
        return 0, '{"webhooks": {"rows": 0}}\n', ""

    def open_session(self, *_arguments: Any) -> Any:
        """Start a command that takes what it is given: that counts as writes."""
        self.note("exec")
        self.wake()
        return Session(self)


class Session:
    """A command in a container that is given a file."""

    returncode = 0

    def __init__(self, cluster: Sleeper) -> None:
        self._cluster = cluster

    def write_stdin(self, _text: str) -> None:
        self._cluster.note("stdin")
        self._cluster.wake()

    def is_open(self) -> bool:
        return False

    def read_stdout(self, timeout: int) -> str:
        return ""

    read_stderr = read_stdout


def merged(there: Any, patch: Any) -> Any:
    """Return what a merge patch makes of an object."""
    if not isinstance(patch, dict):
        return patch
    found = dict(there) if isinstance(there, dict) else {}
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = merged(found.get(key), value)
    return found


# --- What each module finds, and is to do ---------------------------------------------------------


def pod(name: str, component: str, container: dict[str, Any]) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"app.kubernetes.io/component": component},
        },
        "spec": {"containers": [container]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}],
        },
    }


def secret(name: str, **values: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "uid": "u", "annotations": {}},
        "data": {key.replace("_", "-"): encode(value) for key, value in values.items()},
    }


def deployment(**annotations: str) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "mlflow", "namespace": NAMESPACE, "annotations": annotations},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {},
                "spec": {
                    "initContainers": [{"name": "schema-wait", "command": ["schema", "wait"]}]
                },
            },
        },
    }


CRON_JOB = {
    "metadata": {"name": "mlflow-backup", "namespace": NAMESPACE, "labels": {}},
    "spec": {
        "jobTemplate": {
            "metadata": {},
            "spec": {
                "template": {
                    "metadata": {},
                    "spec": {"containers": [{"name": "backup", "command": ["x"], "env": []}]},
                }
            },
        }
    },
}
UNFINISHED = {"metadata": {"name": "mlflow-backup-swap-1", "labels": {}}, "status": {}}
SERVER = {"name": "mlflow", "ports": [{"name": "http", "containerPort": 5000}]}
STATEFUL_SET = {
    "spec": {"template": {"spec": {"containers": [{"name": "postgres", "image": "postgres:18"}]}}}
}
POSTGRES = {"name": "postgres", "env": [{"name": "POSTGRES_USER", "value": "mlflow"}]}
OLD_AND_NEW = {"old_flask_secret_key": "o", "new_flask_secret_key": "n"}
FROM_KUBECTL = ("kubectl-client-side-apply", "Update")
CONFIG = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1"}}

CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "an unfinished Job is deleted, another started": (
        "backup_job",
        {"namespace": NAMESPACE, "cron_job": CRON_JOB, "command": "swap"},
        {f"{JOBS}/mlflow-backup-swap-1": UNFINISHED},
    ),
    "a file is sent to the volume": (
        "backup_file",
        {"namespace": NAMESPACE, "job": "hold", "direction": "send", "path": "", "timeout": 5},
        {f"{CORE}/pods/hold-1": pod("hold-1", "backup", {"name": "backup"})},
    ),
    "credentials are made": (
        "release_credentials",
        {"namespace": NAMESPACE, "keys": {"flask-secret-key": "password"}},
        {},
    ),
    "credentials have been put to use": (
        "release_credentials",
        {"namespace": NAMESPACE, "state": "restarted"},
        {
            f"{CORE}/secrets/mlflow-credentials": merged(
                secret("mlflow-credentials"),
                {"metadata": {"annotations": {"mlops.mlflow/restart": "word"}}},
            )
        },
    ),
    "the database is handed over to another version": (
        "release_database",
        {"namespace": NAMESPACE, "state": "handed_over", "definition": STATEFUL_SET},
        {},
    ),
    "the server goes out of service": (
        "release_offline",
        {"namespace": NAMESPACE},
        {
            f"{APPS}/deployments/mlflow": merged(deployment(), {"spec": {"replicas": 2}}),
            f"{CRON_JOBS}/mlflow-backup": {"metadata": {"name": "mlflow-backup"}, "spec": {}},
        },
    ),
    "the rescue of a restore brings the server back": (
        "release_offline",
        {"namespace": NAMESPACE, "state": "absent"},
        {f"{APPS}/deployments/mlflow": deployment(**{release_offline.OFFLINE_ANNOTATION: "2"})},
    ),
    "a release serves": ("release_end", {"release": {"image": "i", "stages": {}}}, {}),
    "a rotation begins": (
        "release_rotation",
        {"namespace": NAMESPACE, "state": "begun", "secrets": ["database-password"]},
        {
            f"{CORE}/secrets/mlflow-credentials": secret(
                "mlflow-credentials", database_password="p", database_username="mlflow"
            ),
            f"{CORE}/pods/postgres-0": pod("postgres-0", "database", POSTGRES),
        },
    ),
    "a rotation switches": (
        "release_rotation",
        {"namespace": NAMESPACE, "state": "switched"},
        {
            f"{CORE}/secrets/mlflow-rotation": secret("mlflow-rotation", **OLD_AND_NEW),
            f"{CORE}/secrets/mlflow-credentials": secret("mlflow-credentials"),
        },
    ),
    "a rotation ends": (
        "release_rotation",
        {"namespace": NAMESPACE, "state": "finished"},
        {
            f"{CORE}/secrets/mlflow-rotation": secret(
                "mlflow-rotation",
                old_webhook_encryption_key="o",
                new_webhook_encryption_key="n",
                old_database_username="mlflow",
                new_database_username="mlflow_b",
            ),
            f"{CORE}/pods/postgres-0": pod("postgres-0", "database", POSTGRES),
        },
    ),
    "objects of kubectl are taken over": (
        "release_take_over",
        {"namespace": NAMESPACE, "stages": {"config": [CONFIG]}},
        {f"{CORE}/configmaps/c": CONFIG},
    ),
    "a release is torn down": (
        "release_teardown",
        {"namespace": NAMESPACE},
        {},
    ),
    "a pod that blocks is deleted": ("release_unblock", {"namespace": NAMESPACE}, {}),
    "an earlier image is asked": (
        "schema_job",
        {"namespace": NAMESPACE, "image": "old"},
        {f"{APPS}/deployments/mlflow": deployment()},
    ),
}
# What these find takes more than this API has. They write by `request` alone, under `renewing`.
ELSEWHERE = {"release_teardown", "release_unblock"}


def backup(path: pathlib.Path) -> str:
    """Make a file that can be sent; what is in it is another test's."""
    with tarfile.open(path, "w"):
        pass
    return str(path)


def play(name: str, arguments: dict[str, Any], cluster: Sleeper, capsys: Any) -> dict[str, Any]:
    """Run a module; return its result."""
    module = importlib.import_module(f"ansible_collections.mlops.mlflow.plugins.modules.{name}")
    with patch_module_args({**arguments, "lease": HELD}), pytest.raises(SystemExit):
        module.main()
    found: dict[str, Any] = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    return found


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][0] not in ELSEWHERE])
def test_suspended_at_any_request_it_writes_nothing_when_it_wakes(
    case: str, monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: pathlib.Path
) -> None:
    name, arguments, objects = CASES[case]
    monkeypatch.setattr(_lock, "abandoned", lambda: False)
    if name == "backup_file":
        arguments = {**arguments, "path": backup(tmp_path / "x.tar")}
        found = types.SimpleNamespace(name="20261124T190501Z")
        module = "ansible_collections.mlops.mlflow.plugins.modules.backup_file.transfer.inspect"
        monkeypatch.setattr(module, lambda _path: found)
    clock = time.clock_gettime
    for at in range(1, 60):
        cluster = Sleeper(at)
        for path, item in objects.items():
            cluster.put(path, item, *([FROM_KUBECTL] if name == "release_take_over" else []))
        monkeypatch.setattr(Api, "of", lambda *_a, cluster=cluster: cluster)
        monkeypatch.setattr(
            _lock.time, "clock_gettime", lambda which, cluster=cluster: clock(which) + cluster.slept
        )
        result = play(name, arguments, cluster, capsys)
        assert cluster.after == [], f"suspended at request {at}"
        if not cluster.slept:
            break
        # Done already, or told why not.
        if result.get("failed"):
            assert "lost the release lock" in result["msg"], result
    else:
        pytest.fail("it never ends")
    assert not result.get("failed"), result
    assert [path for path in cluster.writes() if path != LEASE], "nothing was written: no test"


def test_each_module_that_writes_is_among_them() -> None:
    runtime = yaml.safe_load((ROOT / "meta/runtime.yml").read_text(encoding="utf-8"))
    locked = set(runtime["action_groups"]["locked"])
    waiting = {"wait_for_mlflow", "wait_for_rollout", "release_objects"}
    assert locked - waiting == {name for name, *_rest in CASES.values()}
    # These write the lock itself, ask the API server what would be, or only read the record.
    others = {"release_begin", "release_look", "mlflow_info"}
    writes = re.compile(r'"(POST|PUT|PATCH|DELETE)"|\.execute\(|open_session\(')
    imports = re.compile(r"plugins\.module_utils\.(_release|_backup)\.(\w+) import")
    for path in (ROOT / "plugins/modules").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        for package, name in imports.findall(text):
            if name not in ("lock", "permissions", "look", "compare"):
                file = ROOT / f"plugins/module_utils/{package}/{name}.py"
                text += file.read_text(encoding="utf-8")
        if writes.search(text):
            assert path.stem in locked | others, f"{path.stem} writes without the lock"


def test_what_roles_apply_with_kubernetes_core_looks_at_the_lock_first() -> None:
    for path in sorted((ROOT / "roles").glob("*/tasks/*.yml")):
        if path.parts[-3:] == ("release", "tasks", "namespace.yml"):
            # The lock is an object in it.
            continue
        assert "  kubernetes.core.k8s:\n" not in path.read_text(encoding="utf-8"), path


class Recorder(ActionModule):
    """The action, which notes what it would run."""

    def __init__(self, answer: dict[str, Any], check_mode: bool = False) -> None:
        self.ran: list[tuple[str, dict[str, Any]]] = []
        self._answer = answer
        args = {"definition": [], "apply": True, "kubeconfig": "k", "lease": HELD}
        self._task = types.SimpleNamespace(args=args, check_mode=check_mode, async_val=0)

    def _execute_module(self, module_name: str, module_args: Any, **_rest: Any) -> dict[str, Any]:
        self.ran.append((module_name, module_args))
        return self._answer


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible.plugins.action.ActionBase.run", lambda *_a, **_k: {})


def test_objects_are_written_within_the_task_that_saw_the_lock() -> None:
    action = Recorder({"changed": True})
    assert action.run() == {"changed": True}
    assert action.ran == [
        ("mlops.mlflow.release_begin", {"kubeconfig": "k", **HELD}),
        ("kubernetes.core.k8s", {"definition": [], "apply": True, "kubeconfig": "k"}),
    ]


def test_objects_are_not_written_without_it() -> None:
    action = Recorder({"failed": True, "msg": "this run has lost the release lock"})
    assert action.run()["failed"]
    assert [name for name, _arguments in action.ran] == ["mlops.mlflow.release_begin"]


def test_check_mode_has_no_lock_to_look_at() -> None:
    action = Recorder({"changed": True}, check_mode=True)
    action.run()
    assert [name for name, _arguments in action.ran] == ["kubernetes.core.k8s"]


# --- For real -------------------------------------------------------------------------------------

STARTER = """
import json, sys
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.any_core import patch_module_args
from ansible_collections.mlops.mlflow.plugins.modules import release_offline
with patch_module_args(json.loads(sys.argv[1])):
    release_offline.main()
"""


class Server(Sleeper):
    """Answers over HTTP, and stops the process at the look before its write."""

    def __init__(self) -> None:
        super().__init__(0)
        self.process = 0
        self.verbs: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            """Answers one request."""

            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                path = self.path.partition("?")[0]
                kind = self.headers.get("Content-Type") or ""
                outer.verbs.append(f"{self.command} {path}")
                found = outer._answer(self.command, path, body, {}, kind)
                if outer.verbs.count(f"GET {LEASE}") == 2 and not outer.slept:
                    found = outer.suspend()
                data = json.dumps(found.body).encode()
                self.send_response(found.status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_PUT = do_PATCH = answer

            def log_message(self, *_arguments: Any) -> None:
                """Stay silent."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def suspend(self) -> Answer:
        """Stop the process for longer than its lock lasts; what it then reads was true before."""
        own = Answer(200, lease_of("ann 1", time.time() - 4, 5))
        os.kill(self.process, signal.SIGSTOP)
        time.sleep(2.5)
        self.slept = 1
        self.put(LEASE, lease_of("bob 2", time.time()))
        os.kill(self.process, signal.SIGCONT)
        return own

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_a_process_that_was_stopped_past_its_lock_writes_nothing(tmp_path: pathlib.Path) -> None:
    server = Server()
    server.put(LEASE, lease_of("ann 1", time.time(), 5))
    path = f"{APPS}/deployments/mlflow"
    server.put(path, deployment(**{release_offline.OFFLINE_ANNOTATION: "2"}))
    config = tmp_path / "config"
    config.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": server.url}}],
                "users": [{"name": "u", "user": {}}],
            }
        )
    )
    arguments = {
        "kubeconfig": str(config),
        "namespace": NAMESPACE,
        "state": "absent",
        "lease": {**HELD, "ttl": 5},
    }
    environment = {k: v for k, v in os.environ.items() if not k.startswith("K8S_AUTH_")}
    try:
        with subprocess.Popen(
            [sys.executable, "-c", STARTER, json.dumps(arguments)],
            env={**environment, "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            server.process = process.pid
            output, errors = process.communicate(timeout=300)
    finally:
        server.close()
    assert server.slept, (output, errors)
    assert "lost the release lock" in output, (output, errors)
    assert f"PATCH {path}" not in server.verbs
    assert server.objects[path]["spec"]["replicas"] == 0
