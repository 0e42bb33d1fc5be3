"""The faults of the benchmark: each in a place of its own, and seen when it shows."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import DEFAULTS

# As `python -m benchmarks.bench` finds it.
sys.path.insert(0, str(Path(__file__).parents[3]))
from benchmarks import failure


def test_each_fault_has_a_place_and_a_tolerance_of_its_own() -> None:
    """And the namespaces have names that Kubernetes takes."""
    places = [failure.namespace_of(name) for name in failure.FAULTS]
    assert len(set(places)) == len(places)
    for place in places:
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", place), place
    for fault in failure.FAULTS.values():
        assert fault.tolerance == DEFAULTS[fault.reason]
    assert set(failure.QUICK) <= set(failure.FAULTS)


@pytest.mark.parametrize(
    ("name", "item"),
    [
        ("crash loop", {"restartCount": 2, "state": {}}),
        ("crash loop", {"state": {"waiting": {"reason": "CrashLoopBackOff"}}}),
        ("missing Secret", {"state": {"waiting": {"reason": "CreateContainerConfigError"}}}),
    ],
)
def test_a_fault_is_seen_when_it_shows(name: str, item: dict[str, object]) -> None:
    shows = failure.FAULTS[name].shows
    assert shows({"status": {"containerStatuses": [item]}})
    assert not shows({"status": {"containerStatuses": [{"state": {"running": {}}}]}})
