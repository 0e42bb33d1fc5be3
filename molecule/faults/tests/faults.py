"""The faults, one for each way in which a release fails to become ready."""

from __future__ import annotations

from typing import Any

from ansible_collections.mlops.mlflow.molecule.faults.tests.observer import (
    Signal,
    absent,
    both,
    container_ended,
    container_loops,
    container_waits,
    exists,
    has_condition,
    has_event,
    observed,
)
from ansible_collections.mlops.mlflow.molecule.faults.tests.running import Fault
from ansible_collections.mlops.mlflow.molecule.faults.tests.workloads import (
    REGISTRY_PORT,
    SHARED,
    claim,
    deployment,
    job,
    migration,
    protected_server,
    release,
    secret,
    secret_env,
    shell,
    stateful_set,
    unhealthy_server,
    with_claim,
    with_volume,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import DEFAULTS

SLEEP = "exec sleep 600"
CRASH = "echo starting; echo 'RuntimeError: the moon is not reachable' >&2; exit 3"
MOON = "RuntimeError: the moon is not reachable"
NEVER_READY: dict[str, Any] = {
    "readinessProbe": {"exec": {"command": ["false"]}, "periodSeconds": 1}
}
JOB_WAIT: dict[str, Any] = {"resources": [{"kind": "Job", "name": "app"}]}
JOB_KUBECTL = ("wait", "--for=condition=complete", "job/app")
MLFLOW: dict[str, Any] = {"kubectl": ("rollout", "status", "deployment/mlflow")}
OF_SERVER = {"module": "wait_for_mlflow", "asked": True, "container": "schema-wait", **MLFLOW}
WEBHOOK = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingWebhookConfiguration",
    "metadata": {"name": "faults-webhook", "labels": {"mlops.mlflow/test": "faults"}},
    "webhooks": [
        {
            "name": "faults.example.com",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "failurePolicy": "Fail",
            "timeoutSeconds": 2,
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "faults-webhook"}},
            "rules": [
                {
                    "apiGroups": [""],
                    "apiVersions": ["v1"],
                    "resources": ["pods"],
                    "operations": ["CREATE"],
                }
            ],
            "clientConfig": {"service": {"name": "nobody", "namespace": "faults-webhook"}},
        }
    ],
}
# A quota counts only once its controller has looked at it.
NO_PODS = {
    "apiVersion": "v1",
    "kind": "ResourceQuota",
    "metadata": {"name": "none"},
    "spec": {"hard": {"pods": "0"}},
}
QUOTA = ([NO_PODS], ("--for=jsonpath={.status.hard.pods}=0", "resourcequota/none"))


def pulls(container: str, tolerance: float) -> list[Signal]:
    return [Signal(container_waits(container, "ErrImagePull", "ImagePullBackOff"), tolerance)]


def loops(container: str = "main", restarts: int = 1) -> list[Signal]:
    return [Signal(container_loops(container, restarts), 0)]


CONFIG = [Signal(container_waits("main", "CreateContainerConfigError"), DEFAULTS["config"])]
ENDED = [Signal(container_ended("schema-wait"), 0)]
REFUSED = has_condition("ReplicaSet", "ReplicaFailure", "True")
UNSCHEDULED = has_condition("Pod", "PodScheduled", "False", "Unschedulable")


# Those that are tolerated longest come first, so that the others run meanwhile.
SIMPLE = [
    Fault(
        "unschedulable-selector",
        "unschedulable",
        [deployment(shell(SLEEP), pod={"nodeSelector": {"disk": "unobtainium"}})],
        [Signal(UNSCHEDULED, 60)],
        says=("no node takes pod app-", "node affinity/selector"),
        hint=("kubectl get nodes --show-labels",),
    ),
    Fault(
        "unschedulable-cpu",
        "unschedulable",
        [deployment(shell(SLEEP, resources={"requests": {"cpu": "500"}}))],
        [Signal(UNSCHEDULED, 60)],
        says=("Insufficient cpu",),
        hint=("resource requests", "kubectl describe nodes"),
    ),
    Fault(
        "volume-no-class",
        "volume",
        [claim(""), with_claim()],
        [Signal(both(UNSCHEDULED, exists("PersistentVolumeClaim")), 60)],
        says=("claim data", "no storage class"),
        hint=("kubectl get storageclass",),
    ),
    Fault(
        "volume-unknown-class",
        "volume",
        [claim("unobtainium"), with_claim()],
        [
            Signal(
                both(UNSCHEDULED, has_event("PersistentVolumeClaim", "ProvisioningFailed")),
                60,
            )
        ],
        says=("claim data", "unobtainium"),
        hint=("kubectl get storageclass",),
    ),
    Fault(
        "volume-missing-secret",
        "volume",
        [with_volume({"secret": {"secretName": "gone"}})],
        [
            Signal(
                both(has_event("Pod", "FailedMount"), container_waits("main", "ContainerCreating")),
                60,
            )
        ],
        says=("pod app-", 'secret "gone" not found'),
        hint=("create secret generic gone",),
    ),
    Fault(
        "volume-missing-configmap",
        "volume",
        [with_volume({"configMap": {"name": "gone"}})],
        [
            Signal(
                both(has_event("Pod", "FailedMount"), container_waits("main", "ContainerCreating")),
                60,
            )
        ],
        says=("pod app-", 'configmap "gone" not found'),
        hint=("create configmap gone",),
    ),
    Fault(
        "image-no-registry",
        "image_pull",
        [deployment(shell(SLEEP) | {"image": "localhost:1/mlflow:1"})],
        pulls("main", 30),
        container="main",
        says=("localhost:1/mlflow:1 cannot be pulled", "connection refused"),
        hint=("cannot reach the registry",),
    ),
    Fault(
        "webhook",
        "quota_or_admission",
        [WEBHOOK, deployment(shell(SLEEP))],
        [Signal(REFUSED, 30)],
        says=("failed calling webhook", "faults.example.com"),
        hint=("validatingwebhookconfiguration",),
    ),
    Fault(
        "http-not-mlflow",
        "http_unready",
        [unhealthy_server()],
        [],
        asked=True,
        module="wait_for_mlflow",
        wait={"name": "app", "schema": "any"},
        tolerance=30,
        container="mlflow",
        says=("/health answers 404",),
        log="GET /health",
        hint=("logs app-",),
    ),
    Fault(
        "container-command",
        "container_start",
        [deployment(shell("") | {"command": ["no-such-program"]})],
        [
            # Nothing but a look at the command helps, however often it is tried.
            Signal(
                container_waits("main", "RunContainerError", "CreateContainerError"),
                DEFAULTS["container_start"],
            ),
            Signal(container_loops("main"), 0),
        ],
        container="main",
        says=("cannot start", "no-such-program"),
        hint=("command", "describe pod app-"),
    ),
    Fault(
        "quota",
        "quota_or_admission",
        [deployment(shell(SLEEP))],
        [Signal(REFUSED, 10)],
        before=QUOTA,
        says=("exceeded quota: none",),
        hint=("describe resourcequota",),
    ),
    Fault(
        "quota-stateful-set",
        "quota_or_admission",
        [stateful_set(shell(SLEEP))],
        [Signal(has_event("StatefulSet", "FailedCreate"), 10)],
        before=QUOTA,
        wait={"resources": [{"kind": "StatefulSet", "name": "app"}]},
        kubectl=("rollout", "status", "statefulset/app"),
        says=("exceeded quota: none",),
        hint=("describe resourcequota",),
    ),
    Fault(
        "pod-security",
        "quota_or_admission",
        [deployment(shell(SLEEP, securityContext={"privileged": True}))],
        [Signal(REFUSED, 10)],
        namespace_labels={"pod-security.kubernetes.io/enforce": "restricted"},
        says=("violates PodSecurity", "privileged"),
        hint=("securityContext", "--show-labels"),
    ),
    Fault(
        "not-found",
        "not_found",
        [],
        [Signal(absent("Deployment"), 10)],
        says=("Deployment app does not exist in namespace faults-not-found",),
        hint=("kubectl -n faults-not-found get deployment",),
    ),
    Fault(
        "progress-deadline",
        "progress_deadline",
        [deployment(shell(SLEEP, **NEVER_READY), progressDeadlineSeconds=8)],
        [
            Signal(
                has_condition("Deployment", "Progressing", "False", "ProgressDeadlineExceeded"), 0
            )
        ],
        says=("timed out progressing", "main started, not ready", "probe failed"),
        hint=("kubectl -n faults-progress-deadline",),
    ),
    Fault(
        "timeout",
        "timeout",
        [deployment(shell("echo still busy; exec sleep 600", **NEVER_READY))],
        [Signal(lambda snapshot: True, 8)],
        wait={"timeout": 8},
        container="main",
        says=("not ready within 8 s", "main started, not ready", "probe failed"),
        log="still busy",
        hint=("more time",),
    ),
    Fault(
        "config-secret",
        "config",
        [deployment(shell(SLEEP, **secret_env("gone", "password")))],
        CONFIG,
        container="main",
        says=('secret "gone" not found',),
        hint=("create secret generic gone",),
    ),
    Fault(
        "config-key",
        "config",
        [secret("there", user="me"), deployment(shell(SLEEP, **secret_env("there", "password")))],
        CONFIG,
        container="main",
        says=("couldn't find key password in Secret faults-config-key/there",),
        hint=("Add the key password to Secret there", "edit secret there"),
    ),
    Fault(
        "config-configmap",
        "config",
        [deployment(shell(SLEEP, envFrom=[{"configMapRef": {"name": "gone"}}]))],
        CONFIG,
        container="main",
        says=('configmap "gone" not found',),
        hint=("create configmap gone",),
    ),
    Fault(
        "crash-main",
        "crash_loop",
        [deployment(shell(CRASH))],
        loops(),
        container="main",
        says=("container main of pod app-", "exit code 3", MOON),
        log=MOON,
        hint=("logs app-", "-c main"),
    ),
    Fault(
        "crash-init",
        "crash_loop",
        [deployment(shell(SLEEP), pod={"initContainers": [shell(CRASH, name="prepare")]})],
        # What it waits for may come up at the same time: it gets a third try.
        loops("prepare", restarts=2),
        container="prepare",
        says=("init container prepare of pod app-", "exit code 3", MOON),
        log=MOON,
        hint=("logs app-", "-c prepare"),
    ),
    Fault(
        "crash-stateful-set",
        "crash_loop",
        [stateful_set(shell(CRASH))],
        loops(),
        wait={"resources": [{"kind": "StatefulSet", "name": "app"}]},
        kubectl=("rollout", "status", "statefulset/app"),
        container="main",
        says=("container main of pod app-0", MOON),
        log=MOON,
        hint=("logs app-0",),
    ),
    Fault(
        "oom",
        "oom_killed",
        [
            deployment(
                {
                    **shell(""),
                    "command": ["python3", "-c", "b = bytearray(10**9)\nprint(len(b))"],
                    "resources": {"limits": {"memory": "40Mi"}},
                }
            )
        ],
        loops(),
        container="main",
        says=("container main of pod app-", "limit of 40Mi"),
        hint=("memory limit",),
    ),
    Fault(
        "image-never",
        "image_invalid",
        [deployment(shell(SLEEP) | {"image": "localhost/not-there:1", "imagePullPolicy": "Never"})],
        [Signal(container_waits("main", "ErrImageNeverPull"), 0)],
        container="main",
        says=("localhost/not-there:1", "pull policy of Never"),
        hint=("load the image into the node",),
    ),
    Fault(
        "image-name",
        "image_invalid",
        [deployment(shell(SLEEP) | {"image": "Not/A//Name::1"})],
        [Signal(container_waits("main", "InvalidImageName"), 0)],
        container="main",
        says=("Not/A//Name::1", "invalid reference format"),
        hint=("Correct the image's name",),
    ),
    Fault(
        "image-not-found",
        "image_pull",
        [deployment(shell(SLEEP) | {"image": f"localhost:{REGISTRY_PORT}/team/mlflow:1"})],
        pulls("main", 0),
        container="main",
        says=("team/mlflow:1 cannot be pulled", "not found"),
        hint=("Correct the image's name or tag",),
    ),
    Fault(
        "image-unauthorized",
        "image_pull",
        [deployment(shell(SLEEP) | {"image": f"localhost:{REGISTRY_PORT}/private/mlflow:1"})],
        pulls("main", 0),
        container="main",
        says=("private/mlflow:1 cannot be pulled",),
        hint=("imagePullSecret",),
    ),
    Fault(
        "job-failed",
        "job_failed",
        [job(shell(CRASH))],
        [
            Signal(has_condition("Job", "Failed", "True"), 0),
            Signal(has_condition("Job", "FailureTarget", "True"), 0),
        ],
        wait=JOB_WAIT,
        kubectl=JOB_KUBECTL,
        container="main",
        says=("Job app failed", "exit code 3", MOON),
        log=MOON,
        hint=("logs app-",),
    ),
    Fault(
        "job-suspended",
        "paused",
        [job(shell(SLEEP), suspend=True)],
        [Signal(exists("Job"), 0)],
        wait=JOB_WAIT,
        kubectl=JOB_KUBECTL,
        says=("Job app is suspended",),
        hint=("patch job app", '"suspend":false'),
    ),
    Fault(
        "paused",
        "paused",
        [deployment(shell(SLEEP), paused=True)],
        [Signal(observed("Deployment"), 0)],
        says=("Deployment app is paused",),
        hint=("rollout resume deployment/app",),
    ),
]

# These need the shared Postgres, and a database of its own for each.
MLFLOWS = [
    Fault(
        "postgres-unknown",
        "database_unreachable",
        lambda: release("mlflow", host="nowhere"),
        [],
        tolerance=30,
        says=("the tracking database is unreachable", "nowhere"),
        hint=("get pods,endpoint",),
        **OF_SERVER,
    ),
    Fault(
        "unauthorized",
        "unauthorized",
        protected_server,
        [],
        asked=True,
        module="wait_for_mlflow",
        wait={
            "name": "app",
            "schema": "any",
            "username": "admin",
            "password": "not-the-password",
        },
        container="tracking",
        says=("MLflow refuses the credentials given",),
        hint=("user and password of somebody whom MLflow knows", "edit secret mlflow-credentials"),
    ),
    Fault(
        "wrong-password",
        "database_denied",
        lambda: release("mlflow", password="not-the-password"),
        ENDED,
        says=("password authentication failed",),
        log="password authentication failed",
        hint=("secret mlflow-credentials",),
        **OF_SERVER,
    ),
    Fault(
        "schema-ahead",
        "schema_ahead",
        lambda: release("ahead"),
        ENDED,
        says=("migrated by a newer MLflow", "ffffffffffff"),
        log="ahead",
        hint=("Deploy the MLflow version that migrated the database",),
        **OF_SERVER,
    ),
    Fault(
        "schema-unknown",
        "schema_unknown",
        lambda: release("unknown"),
        ENDED,
        says=("revision", "ffffffffffff"),
        log="unknown",
        hint=("Deploy the MLflow image that knows this revision",),
        **OF_SERVER,
    ),
    Fault(
        "schema-partial",
        "schema_partial",
        lambda: release("partial"),
        ENDED,
        says=("without alembic_version",),
        log="partial",
        hint=("Restore the database from a backup",),
        **OF_SERVER,
    ),
    Fault(
        "schema-behind",
        "schema_behind",
        lambda: release("behind"),
        [],
        says=("has not been migrated", "b7e2c1a4d9f3"),
        log="waiting for the migration",
        hint=("Run the migration",),
        **OF_SERVER,
    ),
    Fault(
        "migration-unreachable",
        "database_unreachable",
        lambda: migration("mlflow", host="nowhere"),
        [],
        wait={"resources": [{"kind": "Job", "name": "mlflow-migration"}]},
        asked=True,
        tolerance=30,
        kubectl=("wait", "--for=condition=complete", "job/mlflow-migration"),
        container="migrate",
        says=("the tracking database is unreachable", "nowhere"),
        log="tracking unreachable",
        hint=("get pods,endpoint",),
    ),
    Fault(
        "migration-failed",
        "job_failed",
        lambda: migration("partial"),
        [
            Signal(has_condition("Job", "Failed", "True"), 0),
            Signal(has_condition("Job", "FailureTarget", "True"), 0),
        ],
        module="wait_for_mlflow",
        wait={"migration_job": "mlflow-migration"},
        kubectl=("wait", "--for=condition=complete", "job/mlflow-migration"),
        container="migrate",
        says=("Job mlflow-migration failed", "without alembic_version"),
        log="partial",
        hint=("logs mlflow-migration-",),
    ),
]

# The last, because it takes the database from all others.
POSTGRES_GONE = Fault(
    "postgres-gone",
    "database_unreachable",
    [],
    [],
    asked=True,
    namespace=SHARED,
    tolerance=30,
    module="wait_for_mlflow",
    # The helper would find it, too: here it is to be found by MLflow's answer.
    wait={"schema": "any"},
    kubectl=("rollout", "status", "deployment/mlflow"),
    container="mlflow",
    says=("a search for experiments is answered with", "onnection"),
    hint=("Check that Postgres runs",),
)
FAULTS = [*SIMPLE, *MLFLOWS, POSTGRES_GONE]
