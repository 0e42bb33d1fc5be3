"""What is said about metrics, rules and the dashboard, held against real programs."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ansible_collections.mlops.mlflow.tests.integration.monitoring.conftest import (
    COMPONENTS,
    PASSWORD,
    ROOT,
    Stack,
    fetch,
    rules,
    tool,
    wait_until,
)

# Rules and panels that need no more than MLflow and the scrape.
OWN_RULES = "mlflow"
OWN_ROW = "MLflow"
MODULE = "github.com/prometheus-operator/prometheus-operator"


def counted(text: str, **labels: str) -> float:
    """Return the sum of the requests that were counted with these labels."""
    total = 0.0
    for line in text.splitlines():
        if line.startswith("mlflow_http_request_total{"):
            said = dict(re.findall(r'(\w+)="([^"]*)"', line))
            if labels.items() <= said.items():
                total += float(line.rsplit(" ", 1)[1])
    return total


def panels() -> list[dict[str, Any]]:
    """Return the panels of the dashboard, each with the title of its row."""
    board = json.loads((COMPONENTS / "dashboard/mlflow.json").read_text(encoding="utf-8"))
    found, row = [], ""
    for panel in board["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
        else:
            found.append({**panel, "row": row})
    return found


def test_what_two_workers_counted_is_added_up_and_asks_no_password(stack: Stack) -> None:
    before = fetch(f"{stack.metrics}/metrics")[1]
    assert [stack.search() for _each in range(30)] == [200] * 30
    assert [stack.search("wrong") for _each in range(5)] == [401] * 5
    status, after = fetch(f"{stack.metrics}/metrics")
    assert status == 200
    for labels, number in (({"status": "200"}, 30), ({"status": "401"}, 5)):
        assert counted(after, **labels) - counted(before, **labels) == number
    # Two processes did count.
    assert len(list((stack.folder / "metrics").glob("counter_*.db"))) == 2
    assert PASSWORD not in after
    # MLflow's own endpoint is no alternative: it wants a user of MLflow.
    assert fetch(f"{stack.mlflow}/metrics")[0] == 401


def test_prometheus_finds_data_for_each_rule_and_panel_of_mlflows_own(stack: Stack) -> None:
    # An MLflow whose database lost a table answers with a server error.
    database = sqlite3.connect(stack.folder / "mlflow.db", timeout=60)
    expressions = [
        # What is compared, without the limit.
        re.sub(r"\s(>|==)\s[\d.]+$", "", rule["expr"])
        for group in rules()["groups"]
        if group["name"] == OWN_RULES
        for rule in group["rules"]
    ]
    for panel in panels():
        if panel["row"] == OWN_ROW:
            expressions += [target["expr"] for target in panel["targets"]]
    assert len(expressions) > 10
    pending = {
        expression.replace("$namespace", "here").replace("$__rate_interval", "1m")
        for expression in expressions
    }

    def all_answered() -> bool:
        stack.search("wrong")
        assert stack.search() == 200
        with database:
            database.execute("ALTER TABLE experiments RENAME TO away")
        try:
            assert stack.search() >= 500
        finally:
            with database:
                database.execute("ALTER TABLE away RENAME TO experiments")
        pending.difference_update([each for each in pending if stack.query(each)])
        return not pending

    try:
        wait_until(all_answered)
    finally:
        database.close()
    assert not pending


def test_prometheus_has_loaded_every_rule_without_an_error(stack: Stack) -> None:
    _status, text = fetch(f"{stack.prometheus}/api/v1/rules")
    loaded = {
        rule["name"]: rule
        for group in json.loads(text)["data"]["groups"]
        for rule in group["rules"]
    }
    assert set(loaded) == {r["alert"] for group in rules()["groups"] for r in group["rules"]}
    assert {rule["lastError"] for rule in loaded.values() if "lastError" in rule} <= {""}


def test_rules_are_valid_and_fire_when_they_should(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules()), encoding="utf-8")
    shutil.copy(Path(__file__).with_name("rules_test.yml"), tmp_path / "rules_test.yml")
    for arguments in (["check", "rules", "rules.yml"], ["test", "rules", "rules_test.yml"]):
        done = subprocess.run(
            [tool("promtool"), *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_test() -> None:
    text = Path(__file__).with_name("rules_test.yml").read_text(encoding="utf-8")
    firing = {
        case["alertname"]
        for test in yaml.safe_load(text)["tests"]
        for case in test["alert_rule_test"]
        if case.get("exp_alerts")
    }
    assert firing == {rule["alert"] for group in rules()["groups"] for rule in group["rules"]}


def test_every_query_of_the_dashboard_is_one_to_prometheus(stack: Stack) -> None:
    for panel in panels():
        assert panel["title"]
        for target in panel["targets"]:
            expression = target["expr"].replace("$namespace", "here")
            stack.query(expression.replace("$__rate_interval", "1m"))


def strict(schema: Any) -> Any:
    """Return a schema that accepts no key that it does not name."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    # Go's way to write a pattern that ignores case is not Python's.
    found = {
        key: value.replace("^(?i)", "(?i)^")
        if key == "pattern" and isinstance(value, str)
        else strict(value)
        for key, value in schema.items()
    }
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema:
        found["additionalProperties"] = False
    return found


@pytest.fixture(scope="session")
def crds() -> dict[str, Any]:
    """Return the schemas of the operator's kinds, out of its Go module."""
    done = subprocess.run(
        [tool("go"), "mod", "download", "-json", MODULE],
        cwd=ROOT / "tests/tools/prometheus-operator",
        capture_output=True,
        text=True,
        check=True,
    )
    folder = Path(json.loads(done.stdout)["Dir"], "example/prometheus-operator-crd")
    found = {}
    for name in ("servicemonitors", "prometheusrules"):
        path = folder / f"monitoring.coreos.com_{name}.yaml"
        crd = yaml.safe_load(path.read_text(encoding="utf-8"))
        (version,) = [v for v in crd["spec"]["versions"] if v["name"] == "v1"]
        found[crd["spec"]["names"]["kind"]] = version["schema"]["openAPIV3Schema"]
    return found


@pytest.mark.parametrize("file", ["service-monitor.yml", "prometheus-rule.yml"])
def test_the_operators_objects_keep_to_their_schemas(crds: dict[str, Any], file: str) -> None:
    path = COMPONENTS / "service-monitor" / file
    item = yaml.safe_load(path.read_text(encoding="utf-8"))
    schema = strict(crds[item["kind"]])
    schema["properties"]["metadata"] = {"type": "object"}
    jsonschema.validate(item, schema)
