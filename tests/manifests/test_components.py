"""Each component, on production as an inventory would add it."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest
from ansible_collections.mlops.mlflow.plugins.plugin_utils._checks import budget
from ansible_collections.mlops.mlflow.tests.manifests import test_manifests as promises
from ansible_collections.mlops.mlflow.tests.manifests.tree import (
    TREE,
    Object,
    all_containers,
    build,
    called,
    combine,
    containers,
    one,
    pods,
)

# What holds for the tree holds with components: run again here, with this module's renders.
test_every_object_is_labelled = promises.test_every_object_is_labelled
test_every_object_is_valid = promises.test_every_object_is_valid
test_images_are_named_by_tag = promises.test_images_are_named_by_tag
test_names_are_unique = promises.test_names_are_unique
test_no_account_has_a_token = promises.test_no_account_has_a_token
test_no_credential_is_written_out = promises.test_no_credential_is_written_out
test_pods_are_restricted = promises.test_pods_are_restricted
test_resources_are_set = promises.test_resources_are_set
test_selectors_never_change = promises.test_selectors_never_change
test_the_helper_runs_before_the_server = (
    promises.test_the_helper_runs_before_the_server_and_in_the_migration
)
test_what_is_referred_to_is_there = promises.test_what_is_referred_to_is_there

S3 = ("s3-artifacts", "s3-credentials", "s3-ca")
POLICIES = ("network-policy", "network-policy-external")
# What adds pods comes first, as when the collection renders.
COMBINATIONS = {
    "backup": ("smoke-test", "backup"),
    "backup-s3": ("smoke-test", "backup", "auth", "external-postgres", "backup-s3"),
    "auth": ("smoke-test", "auth"),
    "gc": ("smoke-test", "gc"),
    "s3": ("smoke-test", *S3),
    "shared": ("smoke-test", "backup", "shared-artifacts"),
    "external-postgres": ("smoke-test", "external-postgres"),
    "network-policy": ("smoke-test", "network-policy"),
    "external-secrets": ("smoke-test", "auth", "external-secrets"),
    "monitoring": ("smoke-test", "monitoring"),
    "monitoring-everything": (
        *("smoke-test", "monitoring", "auth", "network-policy"),
        *("service-monitor", "dashboard", "autoscaling"),
    ),
    "autoscaling": ("smoke-test", "autoscaling"),
    "size-small": ("smoke-test", "size-small"),
    "size-medium": ("smoke-test", "size-medium"),
    "size-large": ("smoke-test", "auth", "size-large"),
    "openshift": ("smoke-test", "backup", "gc", "backup-s3", "openshift"),
    "ingress": ("ingress",),
    "gateway": ("gateway",),
    "everything": ("smoke-test", "backup", "gc", *S3, "external-postgres", "auth", *POLICIES),
}


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        name: combine(tmp_path_factory.mktemp(name), "overlays/production", *components)
        for name, components in COMBINATIONS.items()
    }


@pytest.fixture(params=COMBINATIONS)
def render(request: pytest.FixtureRequest, folders: dict[str, Path]) -> tuple[Object, ...]:
    return build(folders[request.param])


def config(objects: tuple[Object, ...]) -> dict[str, str]:
    """Return the environment of MLflow."""
    (found,) = [o for o in objects if called(o) == "ConfigMap/mlflow-config"]
    data: dict[str, str] = found["data"]
    return data


def test_every_component_is_tested() -> None:
    tested = {name for names in COMBINATIONS.values() for name in names}
    shipped = {path.name for path in (TREE / "components").iterdir()}
    # Those are part of production.
    assert shipped == tested | {"migration", "high-availability"}


def test_s3_needs_no_volume(folders: dict[str, Path]) -> None:
    objects = build(folders["s3"])
    assert not [o for o in objects if o["kind"] == "PersistentVolumeClaim"]
    for name, pod in pods(objects):
        assert not [v for v in pod["spec"]["volumes"] if "persistentVolumeClaim" in v], name
    assert config(objects)["MLFLOW_ARTIFACTS_DESTINATION"].startswith("s3://")
    assert config(objects)["MLFLOW_SERVE_ARTIFACTS"] == "true"


def test_only_the_server_is_let_in_to_s3(folders: dict[str, Path]) -> None:
    objects = build(folders["s3"])
    having = {
        name
        for name, container in all_containers(objects)
        if "mlflow-s3-credentials" in str(container)
    }
    assert having == {"Deployment/mlflow/mlflow"}


@pytest.mark.parametrize("name", ["external-postgres", "everything"])
def test_an_external_database_takes_the_bundled_ones_place(
    folders: dict[str, Path], name: str
) -> None:
    objects = build(folders[name])
    assert not [o for o in objects if "postgres" in o["metadata"]["name"]]


def test_backups_have_a_volume_of_their_own_and_know_their_mlflow(
    folders: dict[str, Path],
) -> None:
    objects = build(folders["backup"])
    cron_job = one(objects, "CronJob", "mlflow-backup")["spec"]
    assert cron_job["concurrencyPolicy"] == "Forbid"
    pod = cron_job["jobTemplate"]["spec"]["template"]
    assert pod["metadata"]["labels"]["mlops.mlflow/database-client"] == "true"
    claims = [v.get("persistentVolumeClaim", {}).get("claimName") for v in pod["spec"]["volumes"]]
    assert [name for name in claims if name] == ["mlflow-backups"]
    (init,), (main,) = pod["spec"]["initContainers"], pod["spec"]["containers"]
    server = one(objects, "Deployment", "mlflow")["spec"]["template"]["spec"]["containers"][0]
    database = one(objects, "StatefulSet", "postgres")["spec"]["template"]["spec"]["containers"][0]
    assert (init["image"], main["image"]) == (server["image"], database["image"])
    # The drill is the same pod, with another command.
    drill = one(objects, "CronJob", "mlflow-backup-drill")["spec"]["jobTemplate"]["spec"][
        "template"
    ]
    (restores,) = drill["spec"]["containers"]
    assert restores.pop("args") == ["drill"]
    assert main.pop("args") == ["backup"]
    assert drill == pod


@pytest.mark.parametrize("name", ["external-postgres", "everything"])
def test_whoever_talks_to_an_external_database_verifies_it(
    folders: dict[str, Path], name: str
) -> None:
    objects = build(folders[name])
    settings = config(objects)
    assert settings["PGSSLMODE"] == "verify-full"
    found = set()
    for where, container in all_containers(objects):
        if container.get("envFrom"):
            mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
            assert str(Path(settings["PGSSLROOTCERT"]).parent) in mounts, where
            found.add(where)
    assert found == {
        "Deployment/mlflow/schema-wait",
        "Deployment/mlflow/mlflow",
        "Job/mlflow-migration/migrate",
        "Job/mlflow-smoke-test/smoke-test",
        *(
            [
                "CronJob/mlflow-backup/backup",
                "CronJob/mlflow-backup-drill/backup",
                "CronJob/mlflow-gc/gc",
            ]
            if name == "everything"
            else []
        ),
    }


def test_an_external_database_has_to_be_named(folders: dict[str, Path]) -> None:
    """No name that could be somebody's: the top-level domain is reserved for this."""
    assert config(build(folders["external-postgres"]))["PGHOST"] == "set-pghost.invalid"


@pytest.mark.parametrize("name", ["auth", "everything"])
def test_with_auth_every_helper_knows_of_its_database(folders: dict[str, Path], name: str) -> None:
    objects = build(folders[name])
    path = Path(config(objects)["MLFLOW_AUTH_CONFIG_PATH"])
    for where, container in all_containers(objects):
        if container.get("envFrom"):
            mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
            assert str(path.parent) in mounts, where
    (found,) = [o for o in objects if called(o) == "ConfigMap/mlflow-auth"]
    settings = configparser.ConfigParser()
    settings.read_string(found["data"][path.name])
    # The very address of the tracking database: libpq's variables say where that is.
    assert settings["mlflow"]["database_uri"] == config(objects)["MLFLOW_BACKEND_STORE_URI"]
    assert "admin_password" not in settings["mlflow"]


def test_with_auth_the_server_asks_and_the_smoke_test_knows_the_password(
    folders: dict[str, Path],
) -> None:
    found = dict(all_containers(build(folders["auth"])))
    server = found["Deployment/mlflow/mlflow"]
    assert server["args"][-2:] == ["--app-name", "basic-auth"]
    asking = {
        where: {
            variable["name"]
            for variable in container.get("env", [])
            if "admin-" in str(variable.get("valueFrom"))
        }
        for where, container in found.items()
    }
    assert {where: names for where, names in asking.items() if names} == {
        "Deployment/mlflow/mlflow": {"MLFLOW_AUTH_ADMIN_USERNAME", "MLFLOW_AUTH_ADMIN_PASSWORD"},
        "Job/mlflow-smoke-test/smoke-test": {
            "MLFLOW_TRACKING_USERNAME",
            "MLFLOW_TRACKING_PASSWORD",
        },
    }


def policies(objects: tuple[Object, ...]) -> dict[str, Object]:
    return {o["metadata"]["name"]: o["spec"] for o in objects if o["kind"] == "NetworkPolicy"}


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a label selector of our policies chooses a pod."""
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for rule in selector.get("matchExpressions") or []:
        inside = labels.get(rule["key"]) in rule["values"]
        if inside != (rule["operator"] == "In"):
            return False
    return True


def ports_out(
    objects: tuple[Object, ...], labels: dict[str, str], target: dict[str, str]
) -> set[int]:
    """Return the ports that a pod may open on another pod of the namespace."""
    return {
        port["port"]
        for spec in policies(objects).values()
        if selects(spec["podSelector"], labels)
        for rule in spec.get("egress") or []
        if not rule.get("to")
        or any(
            "podSelector" in peer
            and "namespaceSelector" not in peer
            and selects(peer["podSelector"], target)
            for peer in rule["to"]
        )
        for port in rule["ports"]
    }


def test_policies_leave_open_what_is_needed_and_nothing_else(folders: dict[str, Path]) -> None:
    objects = build(folders["network-policy"])
    labels = {name: pod["metadata"]["labels"] for name, pod in pods(objects)}
    server, database = labels["Deployment/mlflow"], labels["StatefulSet/postgres"]
    migration, smoke_test = labels["Job/mlflow-migration"], labels["Job/mlflow-smoke-test"]
    deny = policies(objects)["mlflow-default-deny"]
    for name, item in labels.items():
        assert selects(deny["podSelector"], item), name
    assert deny == {"podSelector": deny["podSelector"], "policyTypes": ["Ingress", "Egress"]}
    assert ports_out(objects, server, database) == {5432}
    assert ports_out(objects, migration, database) == {5432}
    assert ports_out(objects, smoke_test, server) == {5000}
    assert ports_out(objects, database, server) == set()
    assert ports_out(objects, server, server) == set()


def test_who_has_the_databases_password_says_so_to_the_policies(folders: dict[str, Path]) -> None:
    """By a label of the pod's own: policies name no component, so that none is forgotten."""
    for objects in map(build, folders.values()):
        for name, pod in pods(objects):
            client = pod["metadata"]["labels"].get("mlops.mlflow/database-client") == "true"
            variables = {v["name"] for c in containers(pod) for v in c.get("env", [])}
            assert client == ("PGPASSWORD" in variables), name
            server_client = pod["metadata"]["labels"].get("mlops.mlflow/server-client") == "true"
            assert server_client == ("MLFLOW_TRACKING_URI" in variables), name


def test_policies_know_the_containers_ports(folders: dict[str, Path]) -> None:
    objects = build(folders["network-policy"])
    for kind, name in (("Deployment", "mlflow"), ("StatefulSet", "postgres")):
        pod = one(objects, kind, name)["spec"]["template"]
        (port,) = pod["spec"]["containers"][0]["ports"]
        # That of the component monitoring is open beforehand: nothing listens there without it.
        metrics = {9464} if kind == "Deployment" else set()
        open_ports = {
            allowed["port"]
            for spec in policies(objects).values()
            if selects(spec["podSelector"], pod["metadata"]["labels"])
            for rule in spec.get("ingress") or []
            for allowed in rule["ports"]
        }
        assert open_ports == {port["containerPort"]} | metrics


def test_names_can_be_looked_up(folders: dict[str, Path]) -> None:
    objects = build(folders["network-policy"])
    dns = policies(objects)["mlflow-dns"]
    for name, pod in pods(objects):
        wanted = not name.endswith("/postgres")  # which asks nobody
        assert selects(dns["podSelector"], pod["metadata"]["labels"]) is wanted, name


# --- Metrics --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["monitoring", "monitoring-everything"])
def test_metrics_have_a_container_beside_the_server(folders: dict[str, Path], name: str) -> None:
    objects = build(folders[name])
    pod = one(objects, "Deployment", "mlflow")["spec"]["template"]
    server, metrics = pod["spec"]["containers"]
    assert (server["name"], metrics["name"]) == ("mlflow", "metrics")
    folder = next(v["value"] for v in server["env"] if v["name"] == "MLFLOW_EXPOSE_PROMETHEUS")
    for item in (server, metrics):
        assert folder in {mount["mountPath"] for mount in item["volumeMounts"]}
    assert folder in metrics["command"]
    # It needs no secret, and a pod does not stop serving because of it.
    assert not metrics.get("env")
    assert not metrics.get("envFrom")
    assert "readinessProbe" not in metrics
    (port,) = metrics["ports"]
    (served,) = one(objects, "Service", "mlflow-metrics")["spec"]["ports"]
    assert served["port"] == port["containerPort"] == int(metrics["command"][-1])
    annotations = pod["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(port["containerPort"])


def test_the_monitor_finds_the_metrics_service_and_no_other(folders: dict[str, Path]) -> None:
    objects = build(folders["monitoring-everything"])
    monitor = one(objects, "ServiceMonitor", "mlflow")["spec"]
    wanted = monitor["selector"]["matchLabels"].items()
    found = [
        o for o in objects if o["kind"] == "Service" and wanted <= o["metadata"]["labels"].items()
    ]
    assert [o["metadata"]["name"] for o in found] == ["mlflow-metrics"]
    assert [end["port"] for end in monitor["endpoints"]] == [found[0]["spec"]["ports"][0]["name"]]


# --- Scaling --------------------------------------------------------------------------------------


def test_an_autoscaler_alone_decides_how_many(folders: dict[str, Path]) -> None:
    objects = build(folders["autoscaling"])
    assert "replicas" not in one(objects, "Deployment", "mlflow")["spec"]
    scaler = one(objects, "HorizontalPodAutoscaler", "mlflow")["spec"]
    assert scaler["scaleTargetRef"]["name"] == "mlflow"
    assert scaler["minReplicas"] == 2


@pytest.mark.parametrize("name", COMBINATIONS)
def test_postgres_has_connections_for_every_combination(
    folders: dict[str, Path], name: str
) -> None:
    found = budget.calculate(list(build(folders[name])))
    assert found is not None
    assert found.problem == ""


def test_a_budget_leaves_room_for_users_passwords(folders: dict[str, Path]) -> None:
    """auth adds a store: an autoscaler's most has to fit with it, too."""
    found = budget.calculate(list(build(folders["monitoring-everything"])))
    assert found is not None
    assert (found.stores, found.replicas) == (3, 4)


def test_openshift_leaves_ids_to_the_namespace(folders: dict[str, Path]) -> None:
    """restricted-v2 refuses what is not in the namespace's own range."""
    found = dict(pods(build(folders["openshift"])))
    assert len(found) == 8
    for name, pod in found.items():
        fixed = {"runAsUser", "runAsGroup", "fsGroup"}
        assert not fixed & set(pod["spec"]["securityContext"]), name
        for each in containers(pod):
            assert not fixed & set(each["securityContext"]), name


def test_a_route_ends_tls_and_leads_to_the_service(folders: dict[str, Path]) -> None:
    objects = build(folders["openshift"])
    route = one(objects, "Route", "mlflow")["spec"]
    assert route["to"]["name"] == "mlflow"
    assert route["tls"] == {"termination": "edge", "insecureEdgeTerminationPolicy": "Redirect"}
    ports = one(objects, "Service", "mlflow")["spec"]["ports"]
    assert route["port"]["targetPort"] in {port["targetPort"] for port in ports}
