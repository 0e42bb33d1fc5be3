"""The page of variables has every variable of an inventory, once, and no other."""

from __future__ import annotations

import re
from collections import Counter

import yaml
from ansible_collections.mlops.mlflow.tests.docs.pages import ROOT


def test_the_page_has_every_variable_once() -> None:
    spec = yaml.safe_load((ROOT / "roles/mlflow/meta/argument_specs.yml").read_text())
    known = set(spec["argument_specs"]["main"]["options"])
    page = (ROOT / "docs/variables.md").read_text()
    # The first cell of a row is what the row is about.
    rows = [row.split("|")[1] for row in page.splitlines() if row.startswith("| `")]
    named = Counter(name for row in rows for name in re.findall(r"`(mlflow_\w+)`", row))
    assert set(named) == known
    assert [name for name, count in named.items() if count > 1] == []
