"""Makes all faults, several at a time, and prints how long each took to be known."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.molecule import conftest as shared
from ansible_collections.mlops.mlflow.molecule.faults.tests import workloads
from ansible_collections.mlops.mlflow.molecule.faults.tests.cases import CASES, Case
from ansible_collections.mlops.mlflow.molecule.faults.tests.faults import (
    FAULTS,
    MLFLOWS,
    POSTGRES_GONE,
    SIMPLE,
)
from ansible_collections.mlops.mlflow.molecule.faults.tests.observer import Observer
from ansible_collections.mlops.mlflow.molecule.faults.tests.running import (
    CAP,
    Fault,
    Outcome,
    Runner,
    table,
)

# How many faults are waited for at the same time. Most only wait, but with twelve, kubelet and runc
# of a small machine came too late with what was to be told: a container that could not be frozen,
# one that was killed for its memory without a word of it.
AT_ONCE = 6
# An MLflow that starts keeps a core busy for seconds: more of them at once would measure how busy
# the machine is, not how soon a failure is told.
MLFLOWS_AT_ONCE = 2
SLOW = 1.0
LABEL = "--selector=mlops.mlflow/test=faults"
# Kinds that are in no namespace, of which cases and faults make some.
CLUSTER_WIDE = (
    "validatingwebhookconfigurations,validatingadmissionpolicies,"
    "validatingadmissionpolicybindings,runtimeclasses,customresourcedefinitions"
)
REPORT = pytest.StashKey[list[str]]()
DIAGNOSES = pytest.StashKey[dict[str, dict[str, Any]]]()

# What makes each database what its fault says, from a copy of one at head.
DATABASES = {
    "ahead": "UPDATE alembic_version SET version_num = 'ffffffffffff';"
    " ALTER TABLE experiments ADD COLUMN from_the_future integer",
    "unknown": "UPDATE alembic_version SET version_num = 'ffffffffffff'",
    "partial": "DROP TABLE alembic_version",
    # The head of MLflow 3.16.1.
    "behind": "UPDATE alembic_version SET version_num = 'b7e2c1a4d9f3'",
}


@pytest.fixture(scope="session")
def runner() -> Iterator[Runner]:
    runner = Runner(shared.KUBECONFIG, shared.ENVIRONMENT)
    clean(runner)
    yield runner
    clean(runner)


def clean(runner: Runner) -> None:
    """Remove what this run, or one that was killed, has made."""
    runner.kubectl("delete", CLUSTER_WIDE, LABEL, "--timeout=120s")
    runner.kubectl("delete", "namespaces", LABEL, "--timeout=180s")


@pytest.fixture(scope="session")
def observer(runner: Runner) -> Iterator[Observer]:
    observer = Observer(str(runner.kubeconfig))
    yield observer
    observer.stop()


@pytest.fixture(scope="session")
def mlflow(runner: Runner) -> dict[str, object]:
    """A healthy MLflow with its Postgres, and databases in it that are none."""
    runner.make_namespace(workloads.SHARED, {})
    runner.apply(workloads.SHARED, workloads.base())
    space = f"--namespace={workloads.SHARED}"
    # Not by wait_for_mlflow: without a migration Job it takes the initialisation of an empty
    # database, while that is under way, for a schema that is behind.
    runner.kubectl("rollout", "status", space, "deployment/mlflow", "--timeout=240s")
    waited = runner.run_module("wait_for_mlflow", namespace=workloads.SHARED, timeout=60)
    assert waited["ready"], waited["msg"]
    lines = ["set -e"]
    for name, statement in DATABASES.items():
        lines.append(f"createdb -U mlflow {name}")
        lines.append(f"pg_dump -U mlflow mlflow | psql -q -U mlflow -d {name} >/dev/null")
        lines.append(f'psql -q -U mlflow -d {name} -c "{statement}"')
    script = "\n".join(lines)
    runner.kubectl("exec", space, "postgres-0", "--container=postgres", "--", "bash", "-c", script)
    return waited


@pytest.fixture(scope="session")
def foreign(runner: Runner) -> str:
    """A namespace with a broken MLflow that a chart deployed."""
    runner.make_namespace("faults-foreign", {})
    runner.apply("faults-foreign", workloads.foreign_server())
    return "faults-foreign"


@pytest.fixture(scope="session")
def outcomes(
    runner: Runner, observer: Observer, request: pytest.FixtureRequest
) -> dict[str, Outcome]:
    """What was said about each fault."""
    runner.make_namespace("faults-registry", {})
    runner.apply("faults-registry", [workloads.registry()])
    found: dict[str, Outcome] = {}
    failures: list[str] = []

    def run(fault: Fault) -> None:
        try:
            found[fault.name] = runner.run(fault, observer)
        except Exception as error:  # reported by the fault's own test
            failures.append(f"{fault.name}: {error!r}")

    runner.kubectl(
        "rollout", "status", "--namespace=faults-registry", "deployment/app", "--timeout=60s"
    )
    began = time.monotonic()
    with (
        concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool,
        concurrent.futures.ThreadPoolExecutor(MLFLOWS_AT_ONCE) as mlflows,
    ):
        running = [pool.submit(run, fault) for fault in SIMPLE]
        try:
            request.getfixturevalue("mlflow")
        except Exception as error:  # the others are worth knowing all the same
            failures.append(f"there is no MLflow: {error!r}")
        else:
            # It takes its time to give up: looked at when all else is known.
            request.getfixturevalue("foreign")
            running += [mlflows.submit(run, fault) for fault in MLFLOWS]
        concurrent.futures.wait(running)
    if not failures:
        # While each database is what its fault says.
        places = [*(fault.place for fault in MLFLOWS), request.getfixturevalue("foreign")]
        request.config.stash[DIAGNOSES] = {
            place: runner.run_module("diagnose", namespace=place) for place in places
        }
        took_away(runner)
        run(POSTGRES_GONE)
    # The last comparisons may still run.
    time.sleep(0 if all(one.kubectl for one in found.values()) else CAP)
    order = [found[fault.name] for fault in FAULTS if fault.name in found]
    lines = [*table(order), "", f"all faults in {time.monotonic() - began:.0f} s"]
    lines += ["", "what a user reads:"]
    lines += [f"  {one.fault.name}: {one.result['msg']}" for one in order]
    # Close to what is promised: a reader will want to know how it came to that.
    for one in order:
        if one.late > SLOW:
            lines += ["", f"{one.fault.name}, as it happened:", *one.story]
            lines += [
                f"{entry['at']:5.2f} s  {entry['event'][:90]}" for entry in one.result["timeline"]
            ]
    request.config.stash[REPORT] = [*lines, *failures]
    return found


@pytest.fixture(scope="session")
def played(
    runner: Runner, outcomes: dict[str, Outcome], request: pytest.FixtureRequest
) -> dict[str, list[dict[str, Any]]]:
    """What the waits of each case ended with; after the faults, whose time is measured."""
    assert outcomes
    found: dict[str, list[dict[str, Any]]] = {}
    failures: list[str] = []

    def play(case: Case) -> None:
        try:
            runner.make_namespace(case.place, {})
            found[case.name] = case.play(runner, case.place)
        except Exception as error:  # reported by the case's own test
            failures.append(f"{case.name}: {error!r}")

    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        concurrent.futures.wait([pool.submit(play, case) for case in CASES])
    lines = request.config.stash.get(REPORT, [])
    lines += ["", f"all cases in {time.monotonic() - began:.0f} s", *failures]
    request.config.stash[REPORT] = lines
    return found


@pytest.fixture(scope="session")
def diagnoses(
    outcomes: dict[str, Outcome], request: pytest.FixtureRequest
) -> dict[str, dict[str, Any]]:
    """What diagnose said about each broken MLflow, by namespace."""
    assert outcomes
    return request.config.stash[DIAGNOSES]


def took_away(runner: Runner) -> None:
    """Take Postgres from the healthy MLflow."""
    space = f"--namespace={workloads.SHARED}"
    runner.kubectl("scale", space, "statefulset/postgres", "--replicas=0")
    runner.kubectl("wait", space, "--for=delete", "pod/postgres-0", "--timeout=60s")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the table where a reader of the run finds it: at its end."""
    lines = config.stash.get(REPORT, [])
    if lines:
        terminalreporter.section("faults")
        for line in lines:
            terminalreporter.write_line(line)
