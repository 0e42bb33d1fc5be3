"""Base and each overlay come up by kubectl alone; Ansible and kubectl can take turns."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
Kubectl = Callable[..., str]


@pytest.fixture
def namespace(request: pytest.FixtureRequest, kubectl: Kubectl) -> Iterator[str]:
    """A namespace by name, gone afterwards."""
    name: str = request.param
    yield name
    kubectl("delete", "namespace", name, "--ignore-not-found", "--timeout=180s")


def available(kubectl: Kubectl, namespace: str) -> None:
    for workload in ("statefulset/postgres", "deployment/mlflow"):
        kubectl("rollout", "status", workload, f"--namespace={namespace}", "--timeout=240s")
    # Through the Service, from inside: it serves, and from the database.
    answer = kubectl(
        "exec",
        f"--namespace={namespace}",
        "deployment/mlflow",
        "--container=mlflow",
        "--",
        "python3",
        "-c",
        "import urllib.request as r; print(r.urlopen(r.Request("
        "'http://mlflow:5000/api/2.0/mlflow/experiments/search', b'{\"max_results\": 1}',"
        " {'Content-Type': 'application/json'}), timeout=20).read().decode())",
    )
    assert '"experiment_id"' in answer


@pytest.mark.parametrize("namespace", ["plain-base"], indirect=True)
def test_base_needs_nothing_else(kubectl: Kubectl, namespace: str) -> None:
    kubectl("create", "namespace", namespace)
    kubectl("apply", f"--namespace={namespace}", "--kustomize", str(ROOT / "kustomize/base"))
    available(kubectl, namespace)


def documented_secret_command(namespace: str) -> str:
    """The command that kustomize/README.md tells a person to type, for a namespace."""
    text = (ROOT / "kustomize/README.md").read_text()
    found = re.search(
        r"^kubectl -n \S+ (create secret generic mlflow-credentials (?:.*\\\n)*.*)$",
        text,
        re.MULTILINE,
    )
    assert found, "kustomize/README.md shows no `kubectl create secret`"
    return f"kubectl --namespace={namespace} {found[1]}"


@pytest.mark.parametrize("namespace", ["mlflow-staging", "mlflow-production"], indirect=True)
def test_an_overlay_needs_one_secret(kubectl: Kubectl, namespace: str, shell: Any) -> None:
    overlay = ROOT / "kustomize/overlays" / namespace.removeprefix("mlflow-")
    kubectl("apply", "--kustomize", str(overlay))
    shell(documented_secret_command(namespace))
    available(kubectl, namespace)


@pytest.mark.parametrize("namespace", ["mlflow-development"], indirect=True)
def test_kubectl_and_ansible_take_turns(
    kubectl: Kubectl, namespace: str, site: Callable[..., Any]
) -> None:
    overlay = str(ROOT / "kustomize/overlays/development")
    kubectl("apply", "--kustomize", overlay)
    available(kubectl, namespace)

    over = site()
    assert over.code == 0, over.output
    again = site()
    assert again.code == 0, again.output
    assert again.changed == 0, again.output

    kubectl("apply", "--kustomize", overlay)
    available(kubectl, namespace)
    back = site()
    assert back.code == 0, back.output
