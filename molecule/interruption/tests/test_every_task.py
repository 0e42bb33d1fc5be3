"""Whatever task a run is interrupted before, the next one succeeds and the one after has no work.

By itself on a cluster that is there and holds both images, each journey in a namespace of its own:
KIND_CLUSTER_NAME=mlflow pytest molecule/interruption -k upgrade

A first run is looked at before each of its tasks. Where the cluster is as it was before the task
before, an interruption leaves what that one left; everywhere else the run is done again from its
start, interrupted there by SIGKILL or SIGINT in turn, and finished by the next. Nothing helps: what
a dead run left, its lock too, is for the next run to deal with.

MLFLOW_TEST_SIGNALS: the two signals in the order to take them in, SIGKILL,SIGINT by default.
MLFLOW_TEST_BOUNDARIES: only before tasks of these numbers, as 12,40.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from ansible_collections.mlops.mlflow.molecule.conftest import Kubectl, Run
from ansible_collections.mlops.mlflow.molecule.upgrading import (
    NEW,
    NEW_HEAD,
    OLD_HEAD,
    Release,
)

KINDS = (
    "deployments,statefulsets,jobs,cronjobs,pods,services,configmaps,secrets,serviceaccounts,"
    "roles,rolebindings,persistentvolumeclaims,poddisruptionbudgets,networkpolicies,leases"
)
SIGNALS = os.environ.get("MLFLOW_TEST_SIGNALS", "SIGKILL,SIGINT").split(",")
ONLY = [int(number) for number in os.environ.get("MLFLOW_TEST_BOUNDARIES", "").split(",") if number]
# What a task's callback does to its ansible-playbook, and how that then ends.
# Ansible 2.19 can wait for itself forever after a Ctrl-C: a worker that is ended while it has the
# lock of the queue of results does not give it back. Then a person presses it again.
CTRL_C = """
    { sleep 20; if [[ $(cat /proc/$PPID/comm) == ansible* ]]; then kill -INT $PPID; fi; } &
    kill -INT $PPID
"""
INTERRUPTIONS = {
    "SIGKILL": ("", {-signal.SIGKILL}),
    "SIGINT": (CTRL_C, {99, -signal.SIGINT}),
}
# The shortest lock that is allowed: the next run waits for the one of the dead run.
SETTINGS: Mapping[str, Any] = {"mlflow_lock_ttl": 30}


class Boundary(NamedTuple):
    """The place before a task."""

    number: int
    task: str


class Journey:
    """What an operator does, from where it starts; a first deployment."""

    settings = SETTINGS
    playbook = "site.yml"

    def __init__(self, release: Release) -> None:
        self.release = release

    def begin(self) -> None:
        """Come to where it starts, for the first time."""
        self.release.expected = "0|"

    def back(self) -> None:
        """Come to where it starts, once more."""
        here = f"--namespace={self.release.namespace}"
        call = self.release.kubectl
        call("delete", "namespace", self.release.namespace, "--wait=false")
        call("delete", "pods", "--all", here, "--grace-period=0", "--force")
        call("wait", f"namespace/{self.release.namespace}", "--for=delete", "--timeout=240s")

    def play(self, at: dict[str, str] | None = None, **environment: str) -> Run:
        return self.release.play(NEW, at, self.playbook, environment, **self.settings)

    def check_interrupted(self) -> None:
        """Check what holds however far it has come: no data are lost."""

    def check_done(self) -> None:
        """Check what holds when it is finished."""
        assert self.release.head() == NEW_HEAD
        assert self.release.is_whole() == NEW
        releases, pending = self.release.record()
        assert pending is None
        assert releases[0]["version"] == NEW


class Upgrade(Journey):
    """From 3.16.1 to 3.17.2, with a backup before it."""

    settings: Mapping[str, Any] = MappingProxyType(
        {**SETTINGS, "mlflow_backup_before_upgrade": True}
    )

    def begin(self) -> None:
        self.release.begin(**SETTINGS)
        self.release.dump()

    def back(self) -> None:
        self.release.back(**SETTINGS)

    def check_interrupted(self) -> None:
        # The old version or the new one serves, on whichever schema.
        self.release.is_whole()

    def check_done(self) -> None:
        super().check_done()
        newest = self.release.record()[0][0]
        assert newest["backup"]["revisions"]["tracking"] == OLD_HEAD


class Restore(Journey):
    """Of a backup, over a database that has lost its runs."""

    settings: Mapping[str, Any] = MappingProxyType({**SETTINGS, "mlflow_backup": "latest"})
    playbook = "playbooks/restore.yml"
    lost = "0|"

    def begin(self) -> None:
        self.release.begin(NEW, **SETTINGS)
        self.release.succeed(NEW, playbook="playbooks/backup.yml", **SETTINGS)
        self._lose()

    def back(self) -> None:
        self._lose()
        replaced = "SELECT datname FROM pg_database WHERE datname LIKE 'mlflow\\_before\\_%'"
        for name in self.release.sql(replaced).split():
            self.release.sql(f'DROP DATABASE "{name}"')

    def _lose(self) -> None:
        self.release.sql("DELETE FROM runs")
        assert self.release.contents() == self.lost

    def check_interrupted(self) -> None:
        # A Job of the dead run may be at the swap, which ends connections.
        end = time.monotonic() + 60
        while True:
            try:
                found = self.release.contents()
                break
            except AssertionError:
                if time.monotonic() > end:
                    raise
                time.sleep(1)
        # What was live, or the backup: whole, either of them.
        assert found in (self.lost, self.release.expected)


def look(namespace: str, folder: Path) -> str:
    """Return a line for bash that notes how the cluster is before the task TASK."""
    database = f"kubectl exec postgres-0 --namespace={namespace} -- psql -XAtq --username=mlflow"
    return f"""
        kubectl get {KINDS} --namespace={namespace} --output=json > {folder}/$TASK.json
        {{
            kubectl get namespace {namespace} --ignore-not-found --output=name
            {database} --command='SELECT datname FROM pg_database ORDER BY 1' || true
            {database} --command='SELECT version_num FROM alembic_version' || true
        }} > {folder}/$TASK.txt
    """  # noqa: S608


def state(folder: Path, number: int) -> frozenset[str]:
    """Return what there was before a task, without what changes by itself."""
    found = {folder.joinpath(f"{number}.txt").read_text()}
    for item in json.loads(folder.joinpath(f"{number}.json").read_text())["items"]:
        metadata, status = item["metadata"], item.get("status", {})
        telling: dict[str, Any] = {
            "name": f"{item['kind']}/{metadata['name']}",
            "uid": metadata["uid"],
            "deleted": metadata.get("deletionTimestamp"),
            "labels": metadata.get("labels"),
            "generation": metadata.get("generation"),
            "data": item.get("data"),
            "holder": item.get("spec", {}).get("holderIdentity"),
            "phase": status.get("phase"),
            "available": status.get("availableReplicas"),
            "ended": [
                condition["type"]
                for condition in status.get("conditions", [])
                if item["kind"] == "Job"
            ],
        }
        found.add(json.dumps(telling, sort_keys=True))
    return frozenset(found)


def boundaries(journey: Journey, folder: Path) -> list[Boundary]:
    """Make the journey once; return before which tasks it had done more than before the last."""
    tasks = folder / "tasks"
    each = look(journey.release.namespace, folder)
    run = journey.play(MLFLOW_TEST_EACH=each, MLFLOW_TEST_TASKS=str(tasks))
    assert run.code == 0, run.output
    journey.check_done()
    names = tasks.read_text().splitlines()
    found = []
    before: frozenset[str] | None = None
    for number, name in enumerate(names, start=1):
        now = state(folder, number)
        if now != before:
            found.append(Boundary(number, name))
        before = now
    print(f"{type(journey).__name__}: {len(names)} tasks, {len(found)} boundaries", flush=True)
    for place in found:
        print(f"  {place.number} {place.task}", flush=True)
    return found


def interrupt(journey: Journey, place: Boundary, how: str, folder: Path) -> None:
    """Interrupt the journey at a place, and have the next run finish it."""
    line, codes = INTERRUPTIONS[how]
    tasks = folder / f"tasks-{place.number}"
    run = journey.play({str(place.number): line}, MLFLOW_TEST_TASKS=str(tasks))
    assert run.code in codes, run.output
    # The same place as in the run that was looked at.
    assert tasks.read_text().splitlines()[-1] == place.task, tasks.read_text()
    journey.check_interrupted()
    run = journey.play()
    assert run.code == 0, run.output
    journey.check_done()
    again = journey.release.succeed(NEW, **SETTINGS)
    assert again.changed == 0, again.output


@pytest.mark.parametrize(
    ("name", "kind"), [("first", Journey), ("upgrade", Upgrade), ("restore", Restore)]
)
def test_interrupted_before_any_task_it_is_finished_by_the_next_run(
    kubectl: Kubectl, tmp_path: Path, name: str, kind: Callable[[Release], Journey]
) -> None:
    problems = []
    with Release(kubectl, f"mlflow-interrupted-{name}") as release:
        journey = kind(release)
        journey.begin()
        places = boundaries(journey, tmp_path)
        for place, how in zip(places, itertools.cycle(SIGNALS), strict=False):
            if ONLY and place.number not in ONLY:
                continue
            print(f"{how} before {place.number} {place.task}", flush=True)
            journey.back()
            try:
                interrupt(journey, place, how, tmp_path)
            except AssertionError as error:
                print(f"FAILED: {error}", flush=True)
                problems.append(f"{how} before {place.number} {place.task}: {error}")
    assert not problems, "\n\n".join(problems)
