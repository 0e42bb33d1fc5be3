"""What the Kustomize tree renders: valid to Kubernetes, and what it promises. No cluster."""

from __future__ import annotations

import base64
import itertools
import re
from fnmatch import fnmatch
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from ansible_collections.mlops.mlflow.tests.manifests.tree import (
    TREE,
    Object,
    all_containers,
    build,
    called,
    combine,
    containers,
    image_of,
    one,
    pods,
)

ENVIRONMENTS = ("development", "staging", "production")
RENDERS = ("base", *(f"overlays/{name}" for name in ENVIRONMENTS), "smoke-test")
STRICT = ("overlays/staging", "overlays/production")
COMPONENTS = {"backup", "config", "database", "gc", "migration", "server", "smoke-test"}
# ConfigMaps that a person makes in the cluster, as their component says.
BROUGHT = {"mlflow-s3-ca"}
KEYS = {
    "database-username",
    "database-password",
    "flask-secret-key",
    "webhook-encryption-key",
    "kek-passphrase",
    "admin-username",
    "admin-password",
}


@pytest.fixture(scope="session")
def smoke_test_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a kustomization of base and the smoke test, which no overlay includes."""
    return combine(tmp_path_factory.mktemp("smoke-test"), "base", "smoke-test")


@pytest.fixture(params=RENDERS)
def render(request: pytest.FixtureRequest) -> tuple[Object, ...]:
    """Return the objects of base and of each overlay, and of base with the smoke test."""
    name: str = request.param
    folder = request.getfixturevalue("smoke_test_folder") if name == "smoke-test" else TREE / name
    return build(folder)


# --- Valid ----------------------------------------------------------------------------------------


CUSTOM_GROUPS = {
    "external-secrets.io",
    "gateway.networking.k8s.io",
    "monitoring.coreos.com",
    "route.openshift.io",
}


def test_every_object_is_valid(render: tuple[Object, ...]) -> None:
    version = kubernetes_validate.latest_version()
    for item in render:
        # A custom resource's schema is its CRD's: held against it on a cluster.
        if item["apiVersion"].split("/")[0] in CUSTOM_GROUPS:
            continue
        kubernetes_validate.validate(item, version, strict=True)


def test_names_are_unique(render: tuple[Object, ...]) -> None:
    names = [(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in render]
    assert len(names) == len(set(names))


def test_the_tree_has_its_fixed_file_names() -> None:
    base = {path.name for path in (TREE / "base").iterdir()}
    assert {
        "kustomization.yml",
        "mlflow-deployment.yml",
        "mlflow-service.yml",
        "postgres.yml",
        "secrets.yml",
        "schema.py",
    } <= base
    for name in ENVIRONMENTS:
        overlay = {path.name for path in (TREE / "overlays" / name).iterdir()}
        assert {"kustomization.yml", "mlflow-patch.yml"} <= overlay


def test_what_is_referred_to_is_there(render: tuple[Object, ...]) -> None:
    maps = {o["metadata"]["name"] for o in render if o["kind"] == "ConfigMap"}
    accounts = {o["metadata"]["name"] for o in render if o["kind"] == "ServiceAccount"}
    claims = {o["metadata"]["name"] for o in render if o["kind"] == "PersistentVolumeClaim"}
    for name, pod in pods(render):
        assert pod["spec"]["serviceAccountName"] in accounts, name
        for volume in pod["spec"].get("volumes", []):
            if "configMap" in volume:
                assert volume["configMap"]["name"] in maps | BROUGHT, name
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims, name
    for name, container in all_containers(render):
        for source in container.get("envFrom", []):
            assert source["configMapRef"]["name"] in maps, name


# --- Where it goes, and what it is called ---------------------------------------------------------


def test_base_names_no_namespace() -> None:
    for item in build(TREE / "base"):
        assert item["kind"] != "Namespace"
        assert "namespace" not in item["metadata"]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_an_overlay_has_a_namespace_of_its_own(environment: str) -> None:
    objects = build(TREE / "overlays" / environment)
    namespace = one(objects, "Namespace", f"mlflow-{environment}")
    for mode in ("enforce", "warn", "audit"):
        label = f"pod-security.kubernetes.io/{mode}"
        assert namespace["metadata"]["labels"][label] == "restricted"
    for item in objects:
        if item["kind"] != "Namespace":
            assert item["metadata"]["namespace"] == f"mlflow-{environment}"


def test_every_object_is_labelled(render: tuple[Object, ...]) -> None:
    for item in render:
        labels = item["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "mlflow", item["metadata"]["name"]
        assert labels["app.kubernetes.io/part-of"] == "mlflow", item["metadata"]["name"]
        assert labels["app.kubernetes.io/component"] in COMPONENTS, item["metadata"]["name"]
    for name, pod in pods(render):
        assert "app.kubernetes.io/component" in pod["metadata"]["labels"], name
        # The policy of default-deny chooses by it.
        assert pod["metadata"]["labels"]["app.kubernetes.io/part-of"] == "mlflow", name


def test_components_are_what_the_stages_expect() -> None:
    stages: dict[str, set[str]] = {}
    for item in build(TREE / "overlays/production"):
        component = item["metadata"]["labels"]["app.kubernetes.io/component"]
        stages.setdefault(component, set()).add(called(item))
    assert stages == {
        "config": {
            "Namespace/mlflow-production",
            "ServiceAccount/mlflow",
            "ServiceAccount/postgres",
            "ConfigMap/mlflow-config",
            "ConfigMap/mlflow-schema",
        },
        "database": {"Service/postgres", "StatefulSet/postgres", "ConfigMap/postgres-start"},
        "migration": {"Job/mlflow-migration"},
        "server": {
            "Deployment/mlflow",
            "Service/mlflow",
            "PersistentVolumeClaim/mlflow-artifacts",
            "PodDisruptionBudget/mlflow",
        },
    }


def test_selectors_never_change(render: tuple[Object, ...]) -> None:
    """They are immutable: a label more, and an upgrade would need everything deleted first."""
    for item in render:
        selector = item.get("spec", {}).get("selector")
        if item["kind"] in {"Deployment", "StatefulSet", "PodDisruptionBudget"}:
            selector = selector["matchLabels"]
        if item["kind"] in {"Deployment", "StatefulSet", "PodDisruptionBudget", "Service"}:
            assert selector == {
                "app.kubernetes.io/name": "mlflow",
                "app.kubernetes.io/component": item["metadata"]["labels"][
                    "app.kubernetes.io/component"
                ],
            }


# --- Secrets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STRICT)
def test_development_credentials_stay_out(name: str) -> None:
    objects = build(TREE / name)
    assert not [o for o in objects if o["kind"] == "Secret"]
    text = yaml.safe_dump_all(objects)
    base = one(build(TREE / "base"), "Secret", "mlflow-credentials")
    for key in KEYS - {"database-username", "admin-username"}:
        encoded = base["data"][key]
        assert encoded not in text
        assert base64.b64decode(encoded).decode() not in text
    assert "development-only" not in text


@pytest.mark.parametrize("name", ["base", "overlays/development"])
def test_development_credentials_are_marked(name: str) -> None:
    secret = one(build(TREE / name), "Secret", "mlflow-credentials")
    assert secret["metadata"]["labels"]["mlops.mlflow/development-only"] == "true"
    assert set(secret["data"]) == KEYS
    fernet = base64.b64decode(secret["data"]["webhook-encryption-key"])
    assert len(base64.urlsafe_b64decode(fernet)) == 32


def test_only_the_known_keys_are_asked_for(render: tuple[Object, ...]) -> None:
    for name, container in all_containers(render):
        for variable in container.get("env", []):
            source = variable.get("valueFrom", {}).get("secretKeyRef")
            if source:
                assert source["name"] == "mlflow-credentials", name
                assert source["key"] in KEYS, name


def test_no_credential_is_written_out(render: tuple[Object, ...]) -> None:
    """Not in a variable's value, a ConfigMap, an argument or a URI."""
    name_of_secret = re.compile(r"PASSWORD$|SECRET|PASSPHRASE|TOKEN|_KEY$")
    uri_with_password = re.compile(r"\w://[^/\s:@]*:[^/\s@]+@")
    for name, container in all_containers(render):
        for variable in container.get("env", []):
            if "value" in variable:
                assert not name_of_secret.search(variable["name"]), name
                assert not uri_with_password.search(variable["value"]), name
        for argument in itertools.chain(container.get("command", []), container.get("args", [])):
            assert not uri_with_password.search(argument), name
    for item in render:
        if item["kind"] == "ConfigMap" and item["metadata"]["name"].startswith("mlflow-config"):
            for key, value in item["data"].items():
                assert not name_of_secret.search(key), key
                assert not uri_with_password.search(value), key


# --- Pods -----------------------------------------------------------------------------------------


def test_pods_are_restricted(render: tuple[Object, ...]) -> None:
    """Pod Security's `restricted`, and a little more."""
    for name, pod in pods(render):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        # Where there is none, the namespace has one: OpenShift.
        assert spec["securityContext"].get("runAsUser", 1) > 0, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is False, name
        # A Service called mlflow would set MLFLOW_PORT, which MLflow reads.
        assert spec["enableServiceLinks"] is False, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        for volume in spec.get("volumes", []):
            allowed = {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}
            assert set(volume) - {"name"} <= allowed, name
    for name, container in all_containers(render):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False, name
        assert context["readOnlyRootFilesystem"] is True, name
        assert context["capabilities"] == {"drop": ["ALL"]}, name


def test_no_account_has_a_token(render: tuple[Object, ...]) -> None:
    for item in render:
        if item["kind"] == "ServiceAccount":
            assert item["automountServiceAccountToken"] is False


def test_resources_are_set(render: tuple[Object, ...]) -> None:
    for name, container in all_containers(render):
        for bound in ("requests", "limits"):
            assert {"cpu", "memory"} <= set(container["resources"][bound]), name


def test_servers_are_probed_and_stop_in_time(render: tuple[Object, ...]) -> None:
    for kind, name in (("Deployment", "mlflow"), ("StatefulSet", "postgres")):
        spec = one(render, kind, name)["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)
        # 12 s of preStop and 30 s of requests in flight.
        assert spec["terminationGracePeriodSeconds"] >= 60


def test_no_server_is_taken_away_before_a_new_one_is_ready(render: tuple[Object, ...]) -> None:
    strategy = one(render, "Deployment", "mlflow")["spec"]["strategy"]
    assert strategy == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
    }


def test_images_are_named_by_tag(render: tuple[Object, ...]) -> None:
    images = {container["image"] for _name, container in all_containers(render)}
    # Server, init container and Jobs all use the same MLflow.
    assert len([image for image in images if "postgres" not in image]) == 1
    for image in images:
        assert re.fullmatch(r"[^@]+:[\w.-]+", image)
        assert not image.endswith(":latest")


def test_only_development_uses_images_made_here() -> None:
    for name in ("base", *STRICT):
        objects = build(TREE / name)
        assert image_of(objects, "mlflow") == "ghcr.io/mlflow/mlflow:v3.17.2-full"
        assert image_of(objects, "postgres") == "docker.io/library/postgres:17"
    for _name, container in all_containers(build(TREE / "overlays/development")):
        assert container["image"].startswith("localhost/mlops-mlflow/")


def test_the_helper_runs_before_the_server_and_in_the_migration(
    render: tuple[Object, ...],
) -> None:
    (init,) = one(render, "Deployment", "mlflow")["spec"]["template"]["spec"]["initContainers"]
    assert init["command"] == ["python3", "/opt/mlops-mlflow/schema.py", "wait"]
    for item in render:
        if item["metadata"]["name"] == "mlflow-migration":
            (migrate,) = item["spec"]["template"]["spec"]["containers"]
            assert migrate["command"] == ["python3", "/opt/mlops-mlflow/schema.py", "migrate"]
            assert "ttlSecondsAfterFinished" not in item["spec"]


def test_the_connections_of_a_rollout_fit_into_postgres(render: tuple[Object, ...]) -> None:
    deployment = one(render, "Deployment", "mlflow")
    config_name = deployment["spec"]["template"]["spec"]["containers"][0]["envFrom"][0]
    config = one(render, "ConfigMap", config_name["configMapRef"]["name"])["data"]
    postgres = one(render, "StatefulSet", "postgres")["spec"]["template"]["spec"]["containers"][0]
    (limit,) = [a for a in postgres["args"] if a.startswith("max_connections=")]
    pool = int(config["MLFLOW_SQLALCHEMYSTORE_POOL_SIZE"]) + int(
        config["MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW"]
    )
    pods_at_once = deployment["spec"]["replicas"] + 1
    stores = 2
    needed = pods_at_once * int(config["MLFLOW_WORKERS"]) * stores * pool + 10
    assert needed <= int(limit.partition("=")[2]) - 3


def test_postgres_fits_into_its_memory(render: tuple[Object, ...]) -> None:
    """Shared buffers as Postgres' own guide has them, and room beside them for the connections."""
    (postgres,) = one(render, "StatefulSet", "postgres")["spec"]["template"]["spec"]["containers"]
    settings = dict(a.split("=", 1) for a in postgres["args"] if "=" in a)

    def mebibytes(amount: str) -> int:
        number, unit = re.fullmatch(r"(\d+)(M|G)(?:B|i)", amount).groups()  # type: ignore[union-attr]
        return int(number) * (1024 if unit == "G" else 1)

    limit = mebibytes(postgres["resources"]["limits"]["memory"])
    buffers = mebibytes(settings["shared_buffers"])
    assert limit / 8 <= buffers <= limit / 4
    assert buffers < mebibytes(settings["effective_cache_size"]) <= limit / 2
    assert mebibytes(postgres["resources"]["requests"]["memory"]) > buffers


# --- The environments -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", STRICT)
def test_production_survives_the_loss_of_a_pod(name: str) -> None:
    objects = build(TREE / name)
    deployment = one(objects, "Deployment", "mlflow")
    assert deployment["spec"]["replicas"] >= 2
    spread = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert {s["topologyKey"] for s in spread} >= {"kubernetes.io/hostname"}
    # On a single node all of them start all the same.
    assert {s["whenUnsatisfiable"] for s in spread} == {"ScheduleAnyway"}
    budget = one(objects, "PodDisruptionBudget", "mlflow")
    # Of pods that may be on any node: see test_placement.
    assert (
        budget["spec"]["selector"]["matchLabels"] == deployment["spec"]["selector"]["matchLabels"]
    )
    assert budget["spec"]["maxUnavailable"] < deployment["spec"]["replicas"]


def cpu(quantity: str) -> float:
    """Return a CPU quantity in cores."""
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


@pytest.mark.parametrize("name", [f"overlays/{name}" for name in ENVIRONMENTS])
def test_an_overlay_fits_a_small_cluster(name: str) -> None:
    """At most one CPU is asked for, in the middle of a rollout."""
    total = 0.0
    for item in build(TREE / name):
        if "template" not in item.get("spec", {}):
            continue
        pod = item["spec"]["template"]
        most = max(
            sum(cpu(c["resources"]["requests"]["cpu"]) for c in pod["spec"]["containers"]),
            *(cpu(c["resources"]["requests"]["cpu"]) for c in containers(pod)),
        )
        surge = 1 if item["kind"] == "Deployment" else 0
        total += most * (item["spec"].get("replicas", 1) + surge)
    assert total <= 1.0


def test_development_is_small_and_reachable() -> None:
    objects = build(TREE / "overlays/development")
    assert one(objects, "Deployment", "mlflow")["spec"]["replicas"] == 1
    service = one(objects, "Service", "mlflow")
    assert service["spec"]["type"] == "NodePort"
    assert service["spec"]["ports"][0]["nodePort"] == 30500


@pytest.mark.parametrize("name", ["base", *STRICT])
def test_elsewhere_the_service_stays_inside(name: str) -> None:
    for item in build(TREE / name):
        if item["kind"] == "Service":
            assert item["spec"]["type"] == "ClusterIP"


def test_staging_is_production_in_small() -> None:
    """The same objects, made the same way; only sizes differ."""
    staging, production = (build(TREE / name) for name in STRICT)

    def shape(objects: tuple[Object, ...]) -> set[str]:
        return {called(o).replace("mlflow-staging", "mlflow-production") for o in objects}

    assert shape(staging) == shape(production)

    def size(objects: tuple[Object, ...]) -> float:
        (container,) = one(objects, "Deployment", "mlflow")["spec"]["template"]["spec"][
            "containers"
        ]
        return cpu(container["resources"]["requests"]["cpu"])

    assert size(staging) < size(production)


# --- Allowed hosts --------------------------------------------------------------------------------


def answers_to(objects: tuple[Object, ...], host: str) -> bool:
    """As MLflow does it: a pattern where there is a *, else the very same. In namespace team-a."""
    (config,) = [
        o["data"]
        for o in objects
        if o["kind"] == "ConfigMap" and "MLFLOW_SERVER_ALLOWED_HOSTS" in o["data"]
    ]
    template = one(objects, "Deployment", "mlflow")["spec"]["template"]
    (server,) = [c for c in containers(template) if c["name"] == "mlflow"]
    # As a kubelet puts it together.
    known = {
        "ALLOWED_HOSTS": config["MLFLOW_SERVER_ALLOWED_HOSTS"],
        "POD_NAMESPACE": "team-a",
    }
    (text,) = [e["value"] for e in server["env"] if e["name"] == "MLFLOW_SERVER_ALLOWED_HOSTS"]
    for name, value in known.items():
        text = text.replace(f"$({name})", value)
    entries = [entry.strip() for entry in text.split(",")]
    return any(fnmatch(host, e) if "*" in e else host == e for e in entries)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("mlflow", True),
        ("mlflow:5000", True),
        ("mlflow.team-a:5000", True),
        ("mlflow.team-a", True),
        ("mlflow.any-namespace.svc:5000", True),
        ("mlflow.any-namespace.svc.cluster.local:5000", True),
        ("localhost", True),
        ("localhost:30500", True),
        ("127.0.0.1:5000", True),
        ("[::1]:5000", True),
        ("10.244.0.7:5000", True),
        ("10.1.2.255", True),
        ("172.16.0.1", True),
        ("172.20.1.2:30500", True),
        ("172.31.255.254:80", True),
        ("192.168.1.2", True),
        ("192.168.1.20:5000", True),
        ("[fd00::5]:5000", True),
        ("[fd00::5]", True),
        ("[2001:db8::5]:5000", False),
        # The names of others, which resolve to whatever they like.
        ("10.attacker.example", False),
        ("10.attacker.example:5000", False),
        ("10.0.0.1.attacker.example", False),
        ("192.168.attacker.example", False),
        ("172.16.attacker.example:80", False),
        ("172.20.1.attacker.example", False),
        ("mlflow.attacker.example", False),
        ("mlflow.team-b", False),
        ("mlflow.team-a.attacker.example", False),
        ("mlflow.team-a.svc.attacker.example", False),
        ("fd00.attacker.example:80", False),
        ("11.0.0.1", False),
        ("172.15.0.1", False),
        ("mlflow.example.com", False),
        ("evil.example.com:5000", False),
        ("172.32.0.1", False),
    ],
)
def test_hosts(host: str, allowed: bool) -> None:
    assert answers_to(build(TREE / "base"), host) is allowed
