"""Each playbook works by its full name, from the archive, for an inventory of several releases.

The cluster is a fake, and has nothing in it: each release gets as far as it can without one.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from ansible_collections.mlops.mlflow.tests.bad_input import fake_cluster
from ansible_collections.mlops.mlflow.tests.bad_input.test_fleet import (
    LOCAL,
    PLAYBOOKS,
    ROLES,
    teams,
)
from ansible_collections.mlops.mlflow.tests.ship.galaxy import ROOT, Installed

# How each ends where nothing has been deployed, nor may be: this cluster gives no lock.
ENDS = {"plan": "planned", "render": "rendered", "status": "empty", "teardown": "removed"}
# It asks no cluster.
ALONE = {"render"}


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_a_playbook_of_the_archive_takes_a_fleet(
    playbook: str, installed: Installed, tmp_path: Path
) -> None:
    hosts = {"all": {"hosts": teams("team-a", "team-b"), "vars": LOCAL}}
    hosts["all"]["vars"] = {**LOCAL, "mlflow_environment": "staging"}
    with fake_cluster.serve(fake_cluster.FakeCluster()) as cluster:
        site = fake_cluster.Site(cluster, tmp_path)
        # Nothing of this checkout, where the test runs.
        site.environment["ANSIBLE_CONFIG"] = site.write("ansible.cfg", "")
        site.environment["ANSIBLE_COLLECTIONS_PATH"] = str(installed.collections)
        outcome = site.run(
            site.write("hosts.json", json.dumps(hosts)),
            {**ROLES, "render": {"render_to": str(tmp_path / "git")}}.get(playbook, {}),
            playbook=f"mlops.mlflow.{playbook}",
            timeout=1800,
        )
        asked = {found for line in cluster.heard for found in re.findall(r"team-[ab]\b", line)}
    for team in ("team-a", "team-b"):
        line = re.search(rf'^ +"{team} .*$', outcome.output, re.MULTILINE)
        assert line, outcome.output
        assert line[0].split()[1] == team
        assert ENDS.get(playbook, "failed") in line[0], outcome.output
    assert asked == (set() if playbook in ALONE else {"team-a", "team-b"})
    assert (outcome.status == 0) is (playbook in ENDS), outcome.output
    # The libraries are those of the checkout's environment; the collection is not.
    assert str(ROOT) not in outcome.output.replace(f"{ROOT}/.venv/", "")
    assert "Traceback" not in outcome.output
