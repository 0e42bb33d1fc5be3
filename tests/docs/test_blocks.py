"""Every block of code says what it is, so that one of the tests here holds it against the code."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.mlflow.tests.docs.pages import BLOCKS, Block

TESTED = {
    "console": "test_commands.py",
    "bash": "test_commands.py",
    "yaml": "test_yaml.py",
    "python": "test_python.py",
}
# What a program prints or a picture of files; what Postgres is told; Sphinx's own words.
NOT_CODE = {"text", "sql", "{toctree}"}


def test_there_are_blocks_of_every_kind() -> None:
    assert {*TESTED, *NOT_CODE} == {block.language for block in BLOCKS}


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_a_block_says_its_language(block: Block) -> None:
    assert block.language in {*TESTED, *NOT_CODE}
