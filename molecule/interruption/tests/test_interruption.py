"""An upgrade that is killed between its tasks, again and again, is finished by the next run.

By itself on a cluster that is there and holds both images, in a namespace of its own:
KIND_CLUSTER_NAME=mlflow MLFLOW_TEST_NAMESPACE=interruption-test pytest molecule/interruption

It is killed where each stage has just left the most behind. MLFLOW_TEST_BOUNDARIES=all: before
each task that writes or waits; a number N: before every Nth task, which takes long.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator

import pytest
from ansible_collections.mlops.mlflow.molecule.conftest import Kubectl
from ansible_collections.mlops.mlflow.molecule.interruption.tests.upgrading import (
    NEW,
    NEW_HEAD,
    OLD_HEAD,
    Release,
)

NAMESPACE = os.environ.get("MLFLOW_TEST_NAMESPACE", "mlflow-interruption")
# The task before which a run is killed, in the order in which one upgrade comes by them, and
# whether that is one of the few. Each run after a kill goes on from what the one before it left,
# and is killed further on.
BOUNDARIES = {
    # A backup's scratch database and its Job.
    "Test it": True,
    "Note that this release is about to be applied": False,
    "Apply the stage migration": False,
    # The migration, which goes on by itself.
    "Wait for the migration": True,
    "Apply the stage server": False,
    # Both versions, on the new schema; the next run's backup comes too late.
    "Wait until MLflow serves": True,
    "Apply the stage smoke-test": False,
    "Note that this release serves": False,
    # All but what is pruned.
    "Delete what this release no longer has": True,
}
CHOSEN = os.environ.get("MLFLOW_TEST_BOUNDARIES", "few")
SETTINGS = {"mlflow_backup_before_upgrade": True, "mlflow_smoke_test": CHOSEN != "few"}


def boundaries() -> Iterator[str]:
    if CHOSEN.isdigit():
        yield from map(str, itertools.count(1, int(CHOSEN)))
    yield from (name for name, often in BOUNDARIES.items() if often or CHOSEN == "all")


@pytest.fixture(scope="module")
def release(kubectl: Kubectl) -> Iterator[Release]:
    with Release(kubectl, NAMESPACE) as found:
        found.begin(**SETTINGS)
        yield found


def test_whatever_is_killed_the_next_run_goes_on(release: Release, kubectl: Kubectl) -> None:
    for boundary in boundaries():
        killed = release.play(NEW, {boundary: ""}, **SETTINGS)
        if CHOSEN.isdigit() and killed.code == 0:
            # There are not that many tasks.
            break
        assert killed.code == -signal.SIGKILL, f"{boundary}: {killed.output}"
        # The old version or the new one serves, on whichever schema.
        release.is_whole()
        # Nothing of the dead run works any more: what would take the lock's time to live by itself.
        kubectl(
            "delete", "lease", "mlflow-release", f"--namespace={NAMESPACE}", "--ignore-not-found"
        )
    release.succeed(NEW, **SETTINGS)
    assert release.head() == NEW_HEAD
    assert release.is_whole() == NEW

    (newest, oldest), pending = release.record()
    assert pending is None
    assert (newest["number"], oldest["number"]) == (2, 1)
    # Taken again by runs that came too late for it, which does not count.
    assert newest["backup"]["revisions"]["tracking"] == OLD_HEAD

    again = release.succeed(NEW, **SETTINGS)
    assert again.changed == 0, again.output
