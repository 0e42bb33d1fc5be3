"""AWX as code: awx.awx's own modules take the definitions, against an AWX that only remembers."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from ansible_collections.mlops.mlflow.plugins.filter import survey
from ansible_collections.mlops.mlflow.tests.ship.awx_api import Awx, serving
from ansible_collections.mlops.mlflow.tests.ship.galaxy import BIN, ROOT

TOKEN = "a-token-that-nobody-may-see"
ENVIRONMENTS = ("staging", "production")
# For a person at a terminal, or for nobody in AWX: what a job writes goes with it.
NOT_THERE = {"awx", "pin", "render"}
SETTINGS = {
    "awx_image": "registry.example.org/mlflow-ee:0.1.0",
    "awx_credentials": {
        "staging": {"host": "https://staging.example.org:6443", "bearer_token": TOKEN},
        "production": {
            "host": "https://production.example.org:6443",
            "bearer_token": TOKEN,
            "ssl_ca_cert": "-----BEGIN CERTIFICATE-----",
        },
    },
}


def play(address: str, **settings: Any) -> tuple[int, str]:
    done = subprocess.run(
        [BIN / "ansible-playbook", "playbooks/awx.yml", f"--extra-vars={json.dumps(settings)}"],
        cwd=ROOT,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "CONTROLLER_HOST": address,
            "CONTROLLER_OAUTH_TOKEN": "anything",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def awx() -> Awx:
    return Awx()


@pytest.fixture(scope="module")
def address(awx: Awx) -> Iterator[str]:
    with serving(awx) as where:
        yield where


@pytest.fixture(scope="module")
def output(address: str) -> str:
    """What the first run said."""
    code, said = play(address, **SETTINGS)
    assert code == 0, said
    return said


def playbooks() -> dict[str, dict[str, Any]]:
    """Return the playbooks of the role's table, by name."""
    table = yaml.safe_load((ROOT / "roles/awx/vars/main.yml").read_text())["__awx_playbooks"]
    return {item["name"]: item for item in table}


def test_each_playbook_is_a_job_template_or_known_not_to_be() -> None:
    # The first and the last play of each are in files of their own.
    there = {path.stem for path in (ROOT / "playbooks").glob("[a-z]*.yml")}
    assert there == set(playbooks()) | NOT_THERE
    for item in playbooks().values():
        assert (ROOT / item["playbook"]).exists()


def test_awx_gets_a_template_for_each_playbook_and_environment(output: str, awx: Awx) -> None:
    wanted = {f"MLflow {where} {name}" for where in ENVIRONMENTS for name in playbooks()}
    templates = awx.named("job_templates")
    assert set(templates) == wanted
    for name, template in templates.items():
        _mlflow, where, what = name.split()
        assert template["playbook"] == playbooks()[what]["playbook"]
        # A template can meet the wrong cluster neither by its inventory nor by its credential.
        assert template["inventory"] == awx.named("inventories")[f"MLflow {where}"]["id"]
        credentials = awx.associations[f"{template['url']}credentials/"]
        assert credentials == [awx.named("credentials")[f"MLflow {where}"]["id"]]
        assert not template.get("ask_inventory_on_launch")
        assert not template.get("ask_credential_on_launch")
        assert not template.get("ask_variables_on_launch")
        environment = awx.named("execution_environments")["MLflow"]["id"]
        assert template["execution_environment"] == environment


def test_inventories_come_from_the_project(output: str, awx: Awx) -> None:
    sources = awx.named("inventory_sources")
    assert set(sources) == {f"MLflow {where}" for where in ENVIRONMENTS}
    for source in sources.values():
        assert source["source_project"] == awx.named("projects")["MLflow"]["id"]
        assert (ROOT / source["source_path"]).is_file()


def test_a_credential_is_what_awx_makes_k8s_auth_of(output: str, awx: Awx) -> None:
    (kind,) = awx.items["credential_types"]
    for where, item in (
        (where, awx.named("credentials")[f"MLflow {where}"]) for where in ENVIRONMENTS
    ):
        assert item["credential_type"] == kind
        assert item["inputs"]["host"] == SETTINGS["awx_credentials"][where]["host"]  # type: ignore[index]
        assert item["inputs"]["verify_ssl"] is True
    assert awx.secrets == [TOKEN, TOKEN]
    assert TOKEN not in output


@pytest.mark.parametrize("name", sorted(playbooks()))
def test_a_survey_asks_what_the_roles_say(name: str, output: str, awx: Awx) -> None:
    specs = survey.specs()
    for where in ENVIRONMENTS:
        template = awx.named("job_templates")[f"MLflow {where} {name}"]
        spec = awx.surveys.get(f"{template['url']}survey_spec/", {"spec": []})["spec"]
        assert [item["variable"] for item in spec] == playbooks()[name]["questions"]
        assert template["survey_enabled"] is bool(spec)
        for item in spec:
            role = specs[item["variable"]]
            assert item["question_description"] == survey.description(role)
            assert not re.search(r"[A-Z]\(", item["question_description"])
            # Or it would go before what the inventory says.
            assert "default" not in item
            assert item["required"] == (item["variable"] in playbooks()[name].get("required", []))
            if role["type"] == "bool":
                assert item["choices"] == ["true", "false"]
            elif "choices" in role:
                several = role["type"] == "list"
                assert item["type"] == ("multiselect" if several else "multiplechoice")
                assert item["choices"] == [choice for choice in role["choices"] if choice]
            else:
                assert (
                    item["type"] == {"str": "text", "path": "text", "int": "integer"}[role["type"]]
                )


def test_production_comes_after_staging_and_an_approval(output: str, awx: Awx) -> None:
    nodes = {node["identifier"]: node for node in awx.items["workflow_job_template_nodes"].values()}
    assert set(nodes) == {"deploy-staging", "approve-production", "deploy-production"}

    def after(name: str) -> list[int]:
        return awx.associations.get(f"{nodes[name]['url']}success_nodes/", [])

    assert after("deploy-staging") == [nodes["approve-production"]["id"]]
    assert after("approve-production") == [nodes["deploy-production"]["id"]]
    assert after("deploy-production") == []
    templates = awx.named("job_templates")
    for where in ENVIRONMENTS:
        deployed = nodes[f"deploy-{where}"]["unified_job_template"]
        assert deployed == templates[f"MLflow {where} site"]["id"]
    approvals = awx.items["workflow_approval_templates"]
    assert nodes["approve-production"]["unified_job_template"] in approvals


def test_a_second_run_changes_nothing(output: str, address: str, awx: Awx) -> None:
    before = json.dumps([awx.items, awx.surveys, awx.associations])
    code, said = play(address, **SETTINGS)
    assert code == 0, said
    assert json.dumps([awx.items, awx.surveys, awx.associations]) == before
    changed = re.findall(r"TASK \[(?:.* : )?(.*)\] \**\n(?:(?!TASK)[\s\S])*?changed: ", said)
    # AWX does not show a secret, and awx.awx cannot tell an approval from a changed one: both are
    # written again, as they were.
    assert {task.split(" of ")[0] for task in changed} <= {
        "Create the credential",
        "Create the workflow from one environment to the next, or correct what differs",
    }, said


def test_all_that_is_wrong_is_said_before_anything_is_made() -> None:
    awx = Awx()
    wrong = {
        "awx_image": None,
        "awx_environments": ["prod"],
        "awx_credentials": {"prod": {}, "staging": {"bearer_token": TOKEN}},
    }
    with serving(awx) as address:
        code, said = play(address, **wrong)
    assert code != 0
    for message in (
        "awx_image: is required",
        "awx_environments: must be one of development, staging, production, not prod",
        "awx_credentials.prod: no such key",
        "awx_credentials.staging.host: is not set",
    ):
        assert message in said
    assert awx.writes == []
    assert TOKEN not in said
