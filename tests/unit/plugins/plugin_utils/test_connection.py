# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which cluster is meant, in the documented order."""

from __future__ import annotations

import json
import pathlib

import pytest
from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory.connection import choose


def config(path: pathlib.Path, *names: str, current: str = "") -> str:
    document = {"contexts": [{"name": name} for name in names], "current-context": current}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")
    return str(path)


def test_the_variable_comes_first(tmp_path: pathlib.Path) -> None:
    mine = config(tmp_path / "mine", "a", current="a")
    other = config(tmp_path / "other", "b", current="b")
    chosen = choose({"mlflow_kubeconfig": mine}, {"KUBECONFIG": other})
    assert chosen.options == {"kubeconfig": mine, "context": "a"}


def test_kubeconfig_comes_before_the_home_folder(tmp_path: pathlib.Path) -> None:
    config(tmp_path / ".kube" / "config", "home", current="home")
    other = config(tmp_path / "other", "b", current="b")
    environ = {"HOME": str(tmp_path)}
    assert choose({}, {**environ, "KUBECONFIG": other}).options["context"] == "b"
    assert choose({}, environ).options["context"] == "home"


def test_several_files(tmp_path: pathlib.Path) -> None:
    first = config(tmp_path / "one", "a")
    second = config(tmp_path / "two", "b", current="b")
    environ = {"KUBECONFIG": f"{first}:{second}:/nowhere"}
    assert choose({}, environ).options["context"] == "b"
    assert choose({"mlflow_context": "a"}, environ).options["context"] == "a"


def test_awx(tmp_path: pathlib.Path) -> None:
    """AWX sets the host and a token; the modules read them themselves."""
    environ = {"K8S_AUTH_HOST": "https://a.example.org", "HOME": str(tmp_path)}
    chosen = choose({}, environ)
    assert chosen.options == {}
    assert chosen.problems == []
    assert "a.example.org" in chosen.source


def test_in_a_pod(tmp_path: pathlib.Path) -> None:
    token = tmp_path / "token"
    token.write_text("x", encoding="utf-8")
    environ = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "HOME": str(tmp_path)}
    chosen = choose({}, environ, str(token))
    assert (chosen.options, chosen.problems) == ({}, [])
    assert choose({}, environ, str(tmp_path / "no-token")).problems


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("users: [{token: s3cr3t", "is not YAML"),
        ("[s3cr3t]", "is not a kubeconfig"),
        ("", "is not a kubeconfig"),
        ('{"contexts": []}', "names no current context (it has: none)"),
        ('{"contexts": [{"name": "a"}], "current-context": "b"}', "'b' is not in"),
    ],
)
def test_broken_files_are_not_quoted(tmp_path: pathlib.Path, text: str, words: str) -> None:
    path = tmp_path / "config"
    path.write_text(text, encoding="utf-8")
    chosen = choose({}, {"KUBECONFIG": str(path)})
    assert len(chosen.problems) == 1
    assert words in chosen.problems[0]
    assert "s3cr3t" not in chosen.problems[0]


def test_nothing_at_all(tmp_path: pathlib.Path) -> None:
    assert "no cluster is named" in choose({}, {"HOME": str(tmp_path)}).problems[0]


def test_a_program_to_sign_in_with_that_is_not_there_is_named(tmp_path: pathlib.Path) -> None:
    """Otherwise the first request is a 401, and nobody knows why."""
    exec_: dict[str, object] = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "gke-gcloud-auth-plugin",
        "installHint": "Install it with\n gcloud components",
    }
    path = tmp_path / "config"

    def problems(**environ: str) -> list[str]:
        document = {
            "contexts": [
                {"name": "a", "context": {"user": "me", "cluster": "c"}},
                {"name": "b", "context": {"user": "other"}},
            ],
            "current-context": "a",
            "users": [{"name": "me", "user": {"exec": exec_}}, {"name": "other", "user": None}],
        }
        path.write_text(json.dumps(document), encoding="utf-8")
        return choose({}, {"KUBECONFIG": str(path), "PATH": str(tmp_path), **environ}).problems

    assert problems() == [
        "KUBECONFIG: the context 'a' signs in with gke-gcloud-auth-plugin, which is not installed "
        "here or not on PATH: Install it with gcloud components"
    ]
    plugin = tmp_path / "gke-gcloud-auth-plugin"
    plugin.write_text("#!/bin/sh\n", encoding="utf-8")
    plugin.chmod(0o755)
    assert problems() == []
    assert problems(PATH="/nowhere")
    # Seen from the kubeconfig's folder, as kubectl does.
    exec_["command"] = "./gke-gcloud-auth-plugin"
    assert problems(PATH="/nowhere") == []
    # Another context's is not needed.
    exec_["command"] = "not-there"
    environ = {"KUBECONFIG": str(path), "PATH": "/nowhere"}
    problems()
    assert choose({"mlflow_context": "b"}, environ).problems == []
