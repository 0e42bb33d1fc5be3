"""Each fault is known by its name, in time, and its message says what to fix."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.mlflow.molecule.faults.tests.cases import CASES
from ansible_collections.mlops.mlflow.molecule.faults.tests.faults import FAULTS
from ansible_collections.mlops.mlflow.molecule.faults.tests.observer import Observer
from ansible_collections.mlops.mlflow.molecule.faults.tests.running import Outcome
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import DEFAULTS

# Seconds past a fault's tolerance, a promise.
AT_MOST = 2.0


@pytest.fixture(params=[fault.name for fault in FAULTS])
def outcome(request: pytest.FixtureRequest, outcomes: dict[str, Outcome]) -> Outcome:
    assert request.param in outcomes, "it could not be made; see the end of the report"
    return outcomes[request.param]


def test_each_reason_has_a_fault() -> None:
    played = {expected.ending for case in CASES for expected in case.expected} - {"ready"}
    told = {fault.reason for fault in FAULTS} | played
    # Three nodes that evict one after the other are more than a test should do to a cluster.
    assert told | {"rejected"} == {*DEFAULTS, "timeout"}
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


def test_the_reason_is_right(outcome: Outcome) -> None:
    failure = outcome.result["failure"]
    assert failure is not None, outcome.result["msg"]
    assert failure["reason"] == outcome.fault.reason, outcome.result["msg"]
    assert failure["container"] == outcome.fault.container, outcome.result["msg"]


def test_it_is_known_in_time(outcome: Outcome, observer: Observer) -> None:
    assert observer.broken == []
    # Not earlier than its tolerance either, as far as two watches are in step.
    assert -1.0 <= outcome.late <= AT_MOST, (
        f"{outcome.late:+.2f} s past the tolerance: {outcome.result['timeline']} {outcome.story}"
    )


def test_the_message_says_what_to_fix(outcome: Outcome) -> None:
    """Who reads that one line, and nothing else, knows what to do."""
    fault, message = outcome.fault, outcome.result["msg"]
    failure = outcome.result["failure"]
    assert "\n" not in message
    for words in (f"({fault.reason})", *fault.says, *fault.hint):
        assert words in message, message
    assert failure["hint"]
    assert message.rstrip(".").endswith(failure["hint"].rstrip(".")), message


def test_the_log_that_explains_it_is_there(outcome: Outcome) -> None:
    lines = outcome.result["failure"]["logs"]
    assert outcome.fault.log in "\n".join(lines)
    # What a container wrote is part of the message, unless that says the same already.
    assert bool(lines) >= bool(outcome.fault.log)
