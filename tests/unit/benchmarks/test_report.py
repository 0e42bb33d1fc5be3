"""The figures of the benchmarks' table."""

from __future__ import annotations

import dataclasses

import pytest
from ansible_collections.mlops.mlflow.benchmarks.report import Row, page, percentile, spread, table


@pytest.mark.parametrize(
    ("values", "percent", "wanted"),
    [
        ([3.0], 95, 3.0),
        ([1.0, 2.0, 3.0, 4.0], 50, 2.0),
        ([4.0, 1.0, 3.0, 2.0], 95, 4.0),
        (list(range(1, 101)), 95, 95),
        (list(range(1, 101)), 50, 50),
    ],
)
def test_percentiles_are_values_that_were_measured(
    values: list[float], percent: float, wanted: float
) -> None:
    assert percentile(values, percent) == wanted


def test_nothing_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 50)


@pytest.mark.parametrize(
    ("values", "unit", "wanted"),
    [
        ((), "s", "—"),
        ((1.0,), "s", "1.00 s"),
        ((1.0, 2.0), "s", "1.00 s / 2.00 s"),
        ((None, None), "s", "never"),
        ((1.0, 2.0, None), "s", "2.00 s / never"),
        ((12.4,), "ms", "12 ms"),
        ((9.0,), "requests", "9"),
    ],
)
def test_spread(values: tuple[float | None, ...], unit: str, wanted: str) -> None:
    assert spread(values, unit) == wanted


def test_a_goal_that_is_missed_stands_out() -> None:
    good = Row("one", "kubectl", "≤ 1 s", (0.5,), (0.6,), True)
    bad = Row("two", "helm", "≤ 1 s", (2.0,), (None,), False, note="because")
    text = table([good, bad])
    assert "| one | kubectl | ≤ 1 s | 0.50 s | 0.60 s | 1 | yes |" in text
    assert "| two | helm | ≤ 1 s | 2.00 s | never | 1 | **no** |" in text
    assert "- two: because" in text
    assert "- one" not in text


def test_what_people_wrote_on_the_page_stays() -> None:
    row = Row("one", "kubectl", "≤ 1 s", (0.5,), (0.6,), True)
    first = page("", [row], {"cores": 2})
    assert "cores 2." in first
    written = first.replace("# Benchmarks\n", "# Benchmarks\n\nWhy.\n") + "\nAnd why not.\n"
    again = page(written, [dataclasses.replace(row, what="two")], {"cores": 4})
    assert "cores 4." in again and "cores 2" not in again
    assert "| two |" in again and "| one |" not in again
    assert again.startswith("# Benchmarks\n\nWhy.\n") and again.endswith("\nAnd why not.\n")


def test_a_page_without_a_place_for_the_figures_is_not_overwritten() -> None:
    with pytest.raises(ValueError, match="no place"):
        page("# My notes\n", [], {})
