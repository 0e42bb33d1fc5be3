"""The ways in: what an inventory makes of the components ingress and gateway, and their pages."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from ansible_collections.mlops.mlflow.plugins.action import release_render as action
from ansible_collections.mlops.mlflow.tests.manifests.tree import (
    ROOT,
    TREE,
    Object,
    build,
    called,
    kustomize,
    one,
)

HOST = "mlflow.example.org"
GATEWAY = {"name": "public", "namespace": "gateways", "section_name": "https"}


def rendered(folder: Path, component: str, **settings: Any) -> tuple[Object, ...]:
    """Return what the collection renders for an inventory with these settings."""
    defaults = {name: option.get("default") for name, option in action._OPTIONS.items()}
    arguments = {
        **defaults,
        "kustomize": {"binary": kustomize()[0]},
        "overlay": str(TREE / "overlays/production"),
        "components": [str(TREE / "components" / component)] if component else [],
        **settings,
    }
    return tuple(action.render(arguments, str(folder)))


def config(objects: tuple[Object, ...]) -> dict[str, str]:
    (found,) = [o for o in objects if called(o) == "ConfigMap/mlflow-config"]
    data: dict[str, str] = found["data"]
    return data


def with_nothing_unknown(schema: Any) -> Any:
    """Return an OpenAPI schema that takes no property it does not name."""
    if isinstance(schema, list):
        return [with_nothing_unknown(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: with_nothing_unknown(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        made.setdefault("additionalProperties", False)
    return made


@pytest.fixture(scope="session")
def route_schema() -> dict[str, Any]:
    """Return the schema of HTTPRoute from the Gateway API's own CRD, of the standard channel."""
    go = shutil.which("go") or pytest.fail("there is no go, which has the Gateway API's CRDs")
    module = "sigs.k8s.io/gateway-api"
    where = ROOT / "tests/tools/gateway-api"
    subprocess.run([go, "mod", "download", module], cwd=where, check=True)
    listed = [go, "list", "-m", "-f", "{{.Dir}}", module]
    folder = subprocess.run(listed, cwd=where, check=True, capture_output=True, text=True).stdout
    name = "gateway.networking.k8s.io_httproutes.yaml"
    text = Path(folder.strip(), "config/crd/standard", name).read_text(encoding="utf-8")
    (version,) = [v for v in yaml.safe_load(text)["spec"]["versions"] if v["name"] == "v1"]
    schema: dict[str, Any] = with_nothing_unknown(version["schema"]["openAPIV3Schema"])
    # In a CRD these two stand for what every object has.
    schema["properties"]["metadata"] = {"type": "object"}
    return schema


def test_the_schema_notices_a_mistake(route_schema: dict[str, Any]) -> None:
    (route,) = [o for o in build(TREE / "components/gateway") if o["kind"] == "HTTPRoute"]
    jsonschema.validate(route, route_schema)
    for broken in ({"hosts": [HOST]}, {"hostnames": ["192.0.2.1:80"]}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**route, "spec": {**route["spec"], **broken}}, route_schema)


def test_an_inventory_makes_an_ingress(tmp_path: Path) -> None:
    objects = rendered(
        tmp_path,
        "ingress",
        hosts=[HOST, "Tracking.example.org"],
        tls_secret="mlflow-tls",
        ingress_class="nginx",
        static_prefix="/mlflow",
        upload_limit="20Gi",
        proxy_timeout=600,
        ingress_annotations={"cert-manager.io/cluster-issuer": "letsencrypt"},
    )
    ingress = one(objects, "Ingress", "mlflow")
    kubernetes_validate.validate(ingress, kubernetes_validate.latest_version(), strict=True)
    spec = ingress["spec"]
    names = [HOST, "tracking.example.org"]
    assert spec["ingressClassName"] == "nginx"
    assert spec["tls"] == [{"hosts": names, "secretName": "mlflow-tls"}]
    assert [rule["host"] for rule in spec["rules"]] == names
    service = {"service": {"name": "mlflow", "port": {"name": "http"}}}
    for rule in spec["rules"]:
        (path,) = rule["http"]["paths"]
        assert path == {"path": "/mlflow", "pathType": "Prefix", "backend": service}
    annotations = ingress["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/proxy-body-size"] == "20g"
    assert annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"] == "600"
    assert annotations["nginx.org/proxy-read-timeout"] == "600s"
    assert annotations["cert-manager.io/cluster-issuer"] == "letsencrypt"
    # What was not set stays.
    assert annotations["nginx.ingress.kubernetes.io/proxy-request-buffering"] == "off"


def test_the_ports_of_ingress_and_route_are_the_services(tmp_path: Path) -> None:
    service = one(build(TREE / "base"), "Service", "mlflow")
    (port,) = service["spec"]["ports"]
    (ingress,) = build(TREE / "components/ingress")
    (path,) = ingress["spec"]["rules"][0]["http"]["paths"]
    assert path["backend"]["service"]["port"] == {"name": port["name"]}
    (route,) = build(TREE / "components/gateway")
    assert route["spec"]["rules"][0]["backendRefs"] == [{"name": "mlflow", "port": port["port"]}]


def test_an_inventory_makes_a_route(tmp_path: Path, route_schema: dict[str, Any]) -> None:
    objects = rendered(
        tmp_path,
        "gateway",
        hosts=[HOST],
        gateway=GATEWAY,
        static_prefix="/mlflow",
        proxy_timeout=86400,
    )
    route = one(objects, "HTTPRoute", "mlflow")
    jsonschema.validate(route, route_schema)
    spec = route["spec"]
    parent = {"name": "public", "namespace": "gateways", "sectionName": "https"}
    assert spec["parentRefs"] == [parent]
    assert spec["hostnames"] == [HOST]
    (rule,) = spec["rules"]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/mlflow"}}]
    assert rule["timeouts"] == {"request": "86400s"}


@pytest.mark.parametrize(
    ("component", "settings", "scheme"),
    [
        ("ingress", {}, "http"),
        ("ingress", {"tls_secret": "mlflow-tls"}, "https"),
        ("ingress", {"url": f"https://{HOST}"}, "https"),
        ("gateway", {"gateway": GATEWAY}, "https"),
    ],
)
def test_address_and_origin_have_the_same_scheme(
    tmp_path: Path, component: str, settings: dict[str, Any], scheme: str
) -> None:
    objects = rendered(tmp_path, component, hosts=[HOST], **settings)
    arguments = {"hosts": [HOST], **settings}
    found = action.kustomization.address(list(objects), action.settings_from(arguments))
    assert found == f"{scheme}://{HOST}"
    origins = config(objects)["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"].split(",")
    assert origins == [f"{scheme}://{HOST}", f"{scheme}://{HOST}:*"]
    assert HOST in config(objects)["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")


def test_everything_that_asks_mlflow_knows_the_prefix(tmp_path: Path) -> None:
    objects = rendered(tmp_path, "", static_prefix="/mlflow")
    assert config(objects)["MLFLOW_STATIC_PREFIX"] == "/mlflow"
    (server,) = one(objects, "Deployment", "mlflow")["spec"]["template"]["spec"]["containers"]
    probes = [server[name] for name in ("startupProbe", "readinessProbe", "livenessProbe")]
    assert [probe["httpGet"]["path"] for probe in probes] == ["/mlflow/health"] * 3
    # The smoke test reads it from the same ConfigMap as the server.
    (job,) = [o for o in objects if o["metadata"]["name"].startswith("mlflow-smoke-test-3")]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert [source["configMapRef"]["name"] for source in container["envFrom"]] == [
        server["envFrom"][0]["configMapRef"]["name"]
    ]
    code = "import runpy, sys, os; runpy.run_path(sys.argv[1]);"
    code += "print(os.environ['MLFLOW_TRACKING_URI'])"
    script = TREE / "components/smoke-test/smoke_test.py"
    done = subprocess.run(
        ["python3", "-c", code, str(script)],
        env={"MLFLOW_TRACKING_URI": "http://mlflow:5000", "MLFLOW_STATIC_PREFIX": "/mlflow"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "http://mlflow:5000/mlflow"


@pytest.mark.parametrize("component", ["ingress", "gateway"])
def test_the_page_of_a_component_tells_what_works(
    component: str, tmp_path: Path, route_schema: dict[str, Any]
) -> None:
    text = (ROOT / "docs/components" / f"{component}.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(# kustomization\.yml.*?)```", text, re.DOTALL)
    # Where the page has a checkout beside the overlay.
    place = tmp_path / "mine/overlay"
    place.mkdir(parents=True)
    (tmp_path / "mlops-mlflow").mkdir()
    shutil.copytree(TREE, tmp_path / "mlops-mlflow/kustomize")
    (place / "kustomization.yml").write_text(example, encoding="utf-8")
    objects = build(place)
    for item in objects:
        if item["kind"] == "HTTPRoute":
            jsonschema.validate(item, route_schema)
        else:
            kubernetes_validate.validate(item, kubernetes_validate.latest_version(), strict=True)
    assert ".invalid" not in json.dumps(objects)
    assert HOST in config(objects)["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
