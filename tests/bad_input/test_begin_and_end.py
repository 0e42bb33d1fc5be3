# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""However a run ends, its lock is given back, and the record says what became of the release."""

from __future__ import annotations

import json
import typing as t

import pytest
import yaml
from ansible_collections.mlops.mlflow.tests.bad_input.fake_cluster import FakeCluster, Site, serve

LEASE = "/apis/coordination.k8s.io/v1/namespaces/here/leases/mlflow-release"
RECORD = "/api/v1/namespaces/here/configmaps/mlflow-releases"
RELEASE = {"version": "3.17.2", "image": "mlflow:3.17.2", "stages": {}, "secrets": []}
Task = dict[str, t.Any]


class Keeping(FakeCluster):
    """Keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[str, t.Any] = {}
        self.refuses = False

    def answer(self, method: str, path: str, body: dict[str, t.Any]) -> tuple[int, str]:
        self.requests.append((method, path))
        if path == RECORD and method == "PATCH" and self.refuses:
            return 403, json.dumps({"message": "no"})
        if method == "POST":
            path = f"{path}/{body['metadata']['name']}"
        if method in ("POST", "PUT", "PATCH"):
            body["metadata"] |= {"resourceVersion": str(len(self.requests)), "uid": "1"}
            self.objects[path] = body
        found = self.objects.get(path)
        if method == "DELETE":
            del self.objects[path]
        status = 404 if found is None else 201 if method == "POST" else 200
        return status, json.dumps(found or {"message": "not found"})

    def noted(self) -> tuple[list[str], bool]:
        """Return the versions that served, and whether one was begun."""
        data = self.objects.get(RECORD, {}).get("data", {})
        releases = json.loads(data.get("releases.json", "[]"))
        return [item["version"] for item in releases], "pending.json" in data


@pytest.fixture
def cluster() -> t.Iterator[FakeCluster]:
    with serve(Keeping()) as fake:
        yield fake


def step(name: str, role: str = "_common", **variables: t.Any) -> Task:
    return {
        "ansible.builtin.include_role": {
            "name": f"mlops.mlflow.{role}",
            "tasks_from": f"{name}.yml",
            "rolespec_validate": False,
        },
        "vars": {"__common_namespace": "here", **variables},
    }


BEGIN = step(
    "begin",
    "release",
    preflight_release={**RELEASE, "namespace": "here", "secret_definitions": '["s3cret"]'},
    release_backup={},
)
END = step("unlock", __common_release=RELEASE, __common_schema="")
FAIL: Task = {"ansible.builtin.fail": {"msg": "it broke"}}


def run(site: Site, *tasks: Task) -> str:
    """Run steps as a role does, and give the lock back whatever happens; return what was said."""
    play = {
        "hosts": "all",
        "gather_facts": False,
        "vars": {"mlflow_lock_ttl": 120, "mlflow_lock_wait": 0},
        "tasks": [{"block": list(tasks), "always": [step("unlock")]}],
    }
    playbook = site.write("steps.yml", yaml.safe_dump([play]))
    return site.run("development", {}, playbook=playbook).output


def test_a_run_that_succeeds(site: Site, cluster: Keeping) -> None:
    output = run(site, step("lock"), BEGIN, END)
    assert "failed=0" in output, output
    assert list(cluster.objects) == [RECORD]
    assert cluster.noted() == (["3.17.2"], False)
    assert "s3cret" not in json.dumps(cluster.objects)
    # It has the lock once, and the role within it keeps it.
    assert [method for method, path in cluster.writes() if path == LEASE] == ["PUT", "DELETE"]


def test_a_run_that_fails(site: Site, cluster: Keeping) -> None:
    output = run(site, BEGIN, FAIL, END)
    assert "it broke" in output, output
    assert LEASE not in cluster.objects
    assert cluster.noted() == ([], True)


@pytest.mark.parametrize(
    "steps", [[BEGIN], [step("lock"), BEGIN], [step("lock"), END]], ids=["first", "within", "end"]
)
def test_what_cannot_be_noted(site: Site, cluster: Keeping, steps: list[Task]) -> None:
    cluster.refuses = True
    output = run(site, *steps, FAIL)
    assert "ConfigMap mlflow-releases cannot be written: no" in output, output
    assert "it broke" not in output
    assert cluster.objects == {}
