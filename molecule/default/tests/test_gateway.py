"""The component gateway on a cluster that has the Gateway API, and on one that has not."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.tests.manifests.tree import ROOT, TREE, build

Kubectl = Callable[..., str]

NAMESPACE = "mlflow-gateway-test"
CRD = "httproutes.gateway.networking.k8s.io"
GATEWAY = {
    "mlflow_namespace": NAMESPACE,
    "mlflow_url": "",
    "mlflow_service": {"type": "ClusterIP"},
    "mlflow_components": ["gateway"],
    "mlflow_hosts": ["mlflow.example.org"],
    "mlflow_gateway": {"name": "public", "namespace": "gateways", "section_name": "https"},
    "mlflow_static_prefix": "/mlflow",
}
RELEASE = f"--extra-vars={json.dumps(GATEWAY)}"


@pytest.fixture
def gateway_api(kubectl: Kubectl) -> Iterator[None]:
    """Teach the cluster the standard channel's HTTPRoute, for as long as a test lasts."""
    go = shutil.which("go")
    assert go, "there is no go, which has the Gateway API's CRDs"
    module, where = "sigs.k8s.io/gateway-api", ROOT / "tests/tools/gateway-api"
    subprocess.run([go, "mod", "download", module], cwd=where, check=True)
    listed = [go, "list", "-m", "-f", "{{.Dir}}", module]
    folder = subprocess.run(listed, cwd=where, check=True, capture_output=True, text=True).stdout
    file = Path(folder.strip(), "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml")
    kubectl("apply", "--server-side", f"--filename={file}")
    try:
        kubectl("wait", "--for=condition=Established", f"crd/{CRD}", "--timeout=60s")
        yield
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s")
        kubectl("delete", "crd", CRD, "--ignore-not-found", "--timeout=120s")


def test_without_the_gateway_api_it_is_refused(site: Callable[..., Any]) -> None:
    run = site("--check", RELEASE)
    assert run.code != 0
    assert "has no HTTPRoute of gateway.networking.k8s.io/v1; is its CRD installed?" in run.output
    assert "Nothing was written" in run.output


@pytest.mark.usefixtures("gateway_api")
def test_the_cluster_takes_the_route(kubectl: Kubectl) -> None:
    """The CRD has rules beyond its schema (CEL): a server-side dry run holds them against it."""
    kubectl("create", "namespace", NAMESPACE)
    (route,) = build(TREE / "components/gateway")
    apply = ("apply", "--server-side", f"--namespace={NAMESPACE}", "--filename=-")
    kubectl(*apply, "--dry-run=server", stdin=json.dumps(route))
    kubectl(*apply, stdin=json.dumps(route))
    where = (f"--namespace={NAMESPACE}", "--output=json")
    found = json.loads(kubectl("get", "httproute", "mlflow", *where))["spec"]
    assert found["hostnames"] == route["spec"]["hostnames"]
    assert found["rules"][0]["timeouts"] == route["spec"]["rules"][0]["timeouts"]
    # It knows the schema: a route with a mistake is not taken.
    broken = {**route, "spec": {**route["spec"], "hostnames": ["192.0.2.1:80"]}}
    with pytest.raises(AssertionError, match=r"spec\.hostnames"):
        kubectl(*apply, "--dry-run=server", stdin=json.dumps(broken))


@pytest.mark.usefixtures("gateway_api")
def test_a_release_behind_a_prefix_becomes_ready(
    site: Callable[..., Any], kubectl: Kubectl
) -> None:
    """Nobody has to take the route: MLflow itself answers under the prefix, and is asked there."""
    run = site(RELEASE)
    assert run.code == 0, run.output
    where = (f"--namespace={NAMESPACE}", "--output=json")
    (rule,) = json.loads(kubectl("get", "httproute", "mlflow", *where))["spec"]["rules"]
    assert rule["matches"][0]["path"]["value"] == "/mlflow"
    run = site("--check", RELEASE)
    assert run.code == 0, run.output
    assert run.changed == 0, run.output
