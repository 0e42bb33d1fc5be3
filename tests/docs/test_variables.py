"""The page of variables has every variable of an inventory, once, and no other."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import yaml
from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory import connection
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


def test_the_order_in_which_a_cluster_is_chosen_is_what_the_words_say(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.touch()
    kubeconfig = tmp_path / ".kube/config"
    kubeconfig.parent.mkdir()
    kubeconfig.write_text('{"current-context": "here", "contexts": [{"name": "here"}]}')
    environment = {"HOME": str(tmp_path)}
    found = []
    # From the last that is looked at: each, once it is there, goes before those that were.
    for names in (
        {},
        {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},
        {"K8S_AUTH_KUBECONFIG": str(kubeconfig)},
        {"KUBECONFIG": str(kubeconfig)},
        {"K8S_AUTH_HOST": "https://k8s.example.org"},
    ):
        environment.update(names)
        found.append(connection.choose({}, environment, str(token)).source)
    words = [
        ".kube/config",
        "service account",
        "K8S_AUTH_KUBECONFIG",
        "KUBECONFIG",
        "K8S_AUTH_HOST",
    ]
    for word, source in zip(words, found, strict=True):
        assert word in source, found
    spec = yaml.safe_load((ROOT / "roles/mlflow/meta/argument_specs.yml").read_text())
    options = spec["argument_specs"]["main"]["options"]
    said = " ".join(options["mlflow_kubeconfig"]["description"])
    places = [re.search(rf"(?<!AUTH_){re.escape(word)}", said) for word in reversed(words)]
    starts = [place.start() for place in places if place]
    assert len(starts) == len(words) and starts == sorted(starts), said
