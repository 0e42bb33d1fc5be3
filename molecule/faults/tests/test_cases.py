"""What takes several steps ends as it must: by its reason, with the words that say what to do."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow.molecule.faults.tests.cases import CASES, Case


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


def test_each_wait_ends_as_it_must(case: Case, played: dict[str, list[dict[str, Any]]]) -> None:
    assert case.name in played, "it could not be played; see the end of the report"
    results = played[case.name]
    assert len(results) == len(case.expected)
    for result, expected in zip(results, case.expected, strict=True):
        failure = result["failure"]
        ending = "ready" if result["ready"] else (failure or {}).get("reason")
        assert ending == expected.ending, result["msg"]
        for words in expected.says:
            assert words in result["msg"], result["msg"]
