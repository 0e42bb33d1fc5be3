"""docs/failures.md has one entry for each reason of the engine, and each says what to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._wait import hints, reasons

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/failures.md").read_text(encoding="utf-8")
ENTRIES = {
    text.split("\n", 1)[0].strip(): text for text in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
}
# A tolerance has no meaning for it: it is what is left when the time is up.
REASONS = [*reasons.DEFAULTS, "timeout"]


def test_an_entry_for_each_reason_and_no_other() -> None:
    """In the order in which the modules document them."""
    assert list(ENTRIES) == REASONS
    assert set(REASONS) == set(hints._HINTS), "a reason without a hint, or the other way round"


@pytest.mark.parametrize("reason", REASONS)
def test_an_entry_says_what_to_do(reason: str) -> None:
    parts = re.findall(r"^\*\*(.+?)\.\*\*", ENTRIES[reason], re.MULTILINE)
    assert parts == ["Means", "Find out more", "Fix"]


@pytest.mark.parametrize("reason", [*reasons.DEFAULTS])
def test_an_entry_names_the_tolerance(reason: str) -> None:
    assert re.search(rf"\b{reasons.DEFAULTS[reason]:g} s\b", ENTRIES[reason])


@pytest.mark.parametrize("words", [pattern for pattern, _advice in hints.BLOCKS])
def test_each_state_that_blocks_has_a_fix(words: str) -> None:
    """By the words of the message, in one of the lines under Fix."""
    fixes = ENTRIES["blocked"].partition("**Fix.**")[2].split("\n- ")
    assert any(re.search(words, " ".join(fix.split())) for fix in fixes), words


def test_links_within_the_page_lead_somewhere() -> None:
    for anchor in re.findall(r"\]\(#([\w-]+)\)", PAGE):
        assert anchor in ENTRIES
    for path, anchor in re.findall(r"\]\((?!#|https?:)([^)#]+)#?([^)]*)\)", PAGE):
        found = ROOT / "docs" / path
        assert found.exists(), path
        headings = re.findall(r"^#+ (.+)$", found.read_text(encoding="utf-8"), re.MULTILINE)
        assert not anchor or anchor in {slug(heading) for heading in headings}, anchor


def slug(heading: str) -> str:
    """Return what a link within the site calls a heading."""
    return re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-"))
