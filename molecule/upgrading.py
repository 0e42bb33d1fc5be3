"""A release that goes from MLflow 3.16.1 to 3.17.2, and what must hold whatever happens to it.

What is told of it is asked of the cluster each time: the data, the schema, the record, the server.
The scenarios interruption and outage share it.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any, Self

from ansible_collections.mlops.mlflow.molecule.conftest import ROOT, Kubectl, Run, run_playbook

OLD, NEW = "3.16.1", "3.17.2"
OLD_HEAD, NEW_HEAD = "b7e2c1a4d9f3", "dc11669786a5"
IMAGE = "localhost/mlops-mlflow/mlflow"
RUNS = 500
FILL = f"""
INSERT INTO runs (run_uuid, name, status, lifecycle_stage, experiment_id)
  SELECT md5(i::text), 'run ' || i, 'FINISHED', 'active', 0 FROM generate_series(1, {RUNS}) i
"""  # noqa: S608
CONTENTS = """
SELECT count(*), md5(string_agg(run_uuid || name, ',' ORDER BY run_uuid)) FROM runs
  WHERE name LIKE 'run %'
"""
DUMP = "/tmp/old.dump"  # noqa: S108 - in the database's pod
# As a client asks: the answer comes from the database.
ASK = """
import json, sys, urllib.request

def get(path):
    with urllib.request.urlopen("http://127.0.0.1:5000" + path, timeout=20) as answer:
        return answer.read().decode()

experiment = json.loads(get("/api/2.0/mlflow/experiments/get?experiment_id=0"))["experiment"]
assert experiment["experiment_id"] == "0", experiment
print(get("/version"))
"""


class Release:
    """One release in a namespace of its own."""

    def __init__(self, kubectl: Kubectl, namespace: str) -> None:
        self.kubectl = kubectl
        self.namespace = namespace
        self.expected = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if "MLFLOW_TEST_KEEP" not in os.environ:
            self.kubectl(
                "delete", "namespace", self.namespace, "--ignore-not-found", "--wait=false"
            )

    def play(
        self,
        version: str,
        at: dict[str, str] | None = None,
        playbook: str = "site.yml",
        environment: dict[str, str] | None = None,
        **changes: Any,
    ) -> Run:
        """Run a playbook; at has what is done before which task, see callback_plugins/at_task."""
        settings = {
            "mlflow_namespace": self.namespace,
            "mlflow_service": {"type": "ClusterIP"},
            "mlflow_url": "",
            "mlflow_image": f"{IMAGE}:{version}",
            # A run with MLflow's client takes as long as the rest; is_whole asks a server itself.
            "mlflow_smoke_test": False,
            "mlflow_tolerances": {"unschedulable": 600},
            **changes,
        }
        began = time.monotonic()
        run = run_playbook(
            playbook,
            f"--extra-vars={json.dumps(settings)}",
            timeout=600,
            ANSIBLE_CALLBACK_PLUGINS=str(ROOT / "tests/callback_plugins"),
            ANSIBLE_CALLBACKS_ENABLED="at_task",
            MLFLOW_TEST_AT=json.dumps(at or {}),
            **(environment or {}),
        )
        took = time.monotonic() - began
        print(f"{playbook} {version} {at or ''}: rc={run.code} in {took:.0f} s", flush=True)
        return run

    def succeed(self, version: str, **settings: Any) -> Run:
        run = self.play(version, **settings)
        assert run.code == 0, run.output
        return run

    def begin(self, version: str = OLD, **changes: Any) -> None:
        """Deploy a version, and put runs into it."""
        self.succeed(version, **changes)
        self.sql(FILL)
        self.expected = self.contents()
        assert self.expected.startswith(f"{RUNS}|")
        # Nothing of the old release has moved the schema ahead of it, its smoke test neither.
        assert self.head() == {OLD: OLD_HEAD, NEW: NEW_HEAD}[version]

    def contents(self) -> str:
        """Return how many runs of ours there are, and their checksum."""
        return self.sql(CONTENTS)

    def dump(self) -> None:
        """Keep the database as it is, in its pod."""
        self._in_database(f"pg_dump --username=mlflow --format=custom --file={DUMP} mlflow")

    def back(self, **changes: Any) -> None:
        """Bring back the database that was kept, and the old version's server."""
        self._in_database(
            "dropdb --username=mlflow --maintenance-db=postgres --force mlflow;"
            " createdb --username=mlflow --maintenance-db=postgres mlflow;"
            f" pg_restore --username=mlflow --dbname=mlflow --exit-on-error {DUMP}"
        )
        self.succeed(OLD, **changes)
        assert self.head() == OLD_HEAD
        assert self.is_whole() == OLD

    def _in_database(self, line: str) -> None:
        self.kubectl(
            "exec", "postgres-0", f"--namespace={self.namespace}", "--", "sh", "-euc", line
        )

    def sql(self, statement: str, database: str = "mlflow") -> str:
        return self.kubectl(
            "exec", "postgres-0", f"--namespace={self.namespace}", "--",
            "psql", "-XAtq", "--username=mlflow", f"--dbname={database}",
            f"--command={statement}",
        ).strip()  # fmt: skip

    def head(self) -> str:
        return self.sql("SELECT version_num FROM alembic_version")

    def found(self, kind: str, name: str) -> dict[str, Any]:
        item: dict[str, Any] = json.loads(
            self.kubectl("get", kind, name, f"--namespace={self.namespace}", "--output=json")
        )
        return item

    def record(self) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
        """Return the releases, the newest first, and the one that is noted as begun."""
        data = self.found("configmap", "mlflow-releases")["data"]
        return json.loads(data["releases.json"]), json.loads(data.get("pending.json", "null"))

    def version(self) -> str:
        """Return which version answers a client from the database."""
        return self.kubectl(
            "exec", "deployment/mlflow", f"--namespace={self.namespace}",
            "--container=mlflow", "--", "python3", "-c", ASK,
        ).strip()  # fmt: skip

    def is_whole(self) -> str:
        """Check what holds after everything: no data lost, and a server; return its version."""
        found = self.contents()
        assert found == self.expected, f"{found}, not {self.expected}"
        head = self.head()
        assert head in (OLD_HEAD, NEW_HEAD), head
        status = self.found("deployment", "mlflow")["status"]
        assert status.get("availableReplicas", 0) >= 1, status
        return self.version()
