# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only asks writes nothing, and refuses bad input as site.yml does."""

from __future__ import annotations

import json
import re
import typing as t

import pytest
from ansible_collections.mlops.mlflow.tests.bad_input.fake_cluster import FakeCluster, Site

NAMESPACE: dict[str, t.Any] = {"metadata": {"name": "mlflow-development"}}


def report_of(site: Site, playbook: str, file: str, **variables: t.Any) -> dict[str, t.Any]:
    """Run a playbook that reports into a file; return what is in it."""
    path = site.folder / "report.json"
    outcome = site.run("development", {file: str(path), **variables}, playbook=playbook)
    assert outcome.status == 0, outcome.output
    assert "changed=0" in outcome.output
    found: dict[str, t.Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def test_a_plan_for_an_empty_cluster_lists_all_and_writes_nothing(
    site: Site, cluster: FakeCluster
) -> None:
    plan = report_of(site, "playbooks/plan.yml", "plan_file")
    assert cluster.writes() == []
    assert not plan["nothing_to_do"]
    added = {name.split("/")[0] for name in plan["add"]}
    assert added >= {"Namespace", "Secret", "StatefulSet", "Deployment", "Service", "ConfigMap"}
    assert (plan["change"], plan["remove"], plan["restart"]) == ([], [], [])
    assert plan["downtime"]["expected"] == "none"
    assert plan["schema"] | {"words": ""} == {
        "moves": True,
        "from": None,
        "to": "dc11669786a5",
        "words": "",
    }
    assert plan["connections"]["wanted"] <= plan["connections"]["available"]


def test_a_plan_refuses_what_a_deployment_refuses(site: Site, cluster: FakeCluster) -> None:
    cluster.is_admin = False
    cluster.denied = {"patch deployments"}
    said = {}
    for playbook in ("site.yml", "playbooks/plan.yml"):
        outcome = site.run("development", {}, playbook=playbook)
        assert outcome.status != 0
        # Where it happened, and at the end; between them the table.
        first, last = (
            line for line in outcome.output.splitlines() if re.match(r" +msg: (?!\|-)", line)
        )
        assert first == last
        said[playbook] = first
    assert cluster.writes() == []
    assert "patch deployments.apps" in said["site.yml"]
    assert said["site.yml"] == said["playbooks/plan.yml"]


@pytest.mark.parametrize("namespace", [None, NAMESPACE])
def test_the_status_of_nothing_is_no_failure(
    namespace: dict[str, t.Any] | None, site: Site, cluster: FakeCluster
) -> None:
    cluster.namespace = namespace
    status = report_of(site, "playbooks/status.yml", "status_file")
    # A comparison asks by dry runs, which are not kept.
    assert [path for method, path in cluster.writes() if method != "PATCH"] == []
    assert status["status"] == "empty"
    assert status["namespace_exists"] is bool(namespace)
    assert (status["mlflow"], status["pods"], status["lock"]) == (None, [], None)


def test_the_status_tells_an_inventory_that_cannot_be_rendered(
    site: Site, cluster: FakeCluster
) -> None:
    status = report_of(site, "playbooks/status.yml", "status_file", mlflow_ingress_class="somebody")
    assert cluster.writes() == []
    assert not status["drift"]["known"]
    assert status["drift"]["msg"].startswith("mlflow_ingress_class: there is nothing to set it on")


@pytest.mark.parametrize("playbook", ["playbooks/status.yml", "playbooks/teardown.yml"])
def test_bad_variables_are_refused(playbook: str, site: Site, cluster: FakeCluster) -> None:
    outcome = site.run("development", {"mlflow_timeout": "soon"}, playbook=playbook)
    assert outcome.status != 0
    assert "mlflow_timeout: must be a whole number" in outcome.output
    assert cluster.requests == []


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"teardown_delete": "mlflow-backups"}, "teardown_delete: must be a list"),
        ({"teardown_delete": ["mlflow-backups"]}, "delete[0]: must be PersistentVolumeClaim/NAME"),
        ({"teardown_confirm": ["x"]}, "teardown_confirm: must be a string"),
    ],
)
def test_what_to_tear_down_is_checked(
    variables: dict[str, t.Any], words: str, site: Site, cluster: FakeCluster
) -> None:
    outcome = site.run("development", variables, playbook="playbooks/teardown.yml")
    assert outcome.status != 0
    assert words in outcome.output
    assert cluster.writes() == []


def test_a_teardown_of_nothing_changes_nothing(site: Site, cluster: FakeCluster) -> None:
    outcome = site.run("development", {}, playbook="playbooks/teardown.yml")
    assert outcome.status == 0, outcome.output
    assert "changed=0" in outcome.output
    assert cluster.writes() == []
