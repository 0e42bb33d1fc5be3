# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How pin edits a file of variables: in place, and never into something else than it says."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.mlflow.plugins.modules import release_pin as pin

DIGEST = "sha256:" + "a" * 64
VALUES = {"mlflow_image": f"registry.example.com/mlflow:3@{DIGEST}"}
LINE = f"mlflow_image: {VALUES['mlflow_image']}"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("---\n# Why.\na: 1\n", f"---\n# Why.\na: 1\n{LINE}\n"),
        ("mlflow_image: old:1\na: 1\n", f"{LINE}\na: 1\n"),
        ("# Which:\n# mlflow_image: x\n# b\n", f"# Which:\n{LINE}\n# b\n"),
        ("# mlflow_image: x\nmlflow_image: 'old:1'\n", f"# mlflow_image: x\n{LINE}\n"),
        ("mlflow_image_more: x\n", f"mlflow_image_more: x\n{LINE}\n"),
        ("", f"{LINE}\n"),
        (f"{LINE}\n", f"{LINE}\n"),
    ],
)
def test_only_its_own_line_is_changed(before: str, after: str) -> None:
    assert pin.edited(before, VALUES) == after
    pin.check(before, after, VALUES, "all.yml")


@pytest.mark.parametrize(
    "before",
    [
        "mlflow_image: >-\n  old:1\n",
        "mlflow_image: |\n  old:1\nb: 2\n",
        "a: !vault x\n",
        "a: |\n  mlflow_image: old\n  text\n# end\nb: {\n",
        "- a\n",
    ],
)
def test_what_cannot_be_edited_by_the_line_is_refused(before: str) -> None:
    with pytest.raises(pin.PinError, match="cannot be edited"):
        pin.check(before, pin.edited(before, VALUES), VALUES, "all.yml")


def test_a_variable_that_is_there_twice_is_refused() -> None:
    with pytest.raises(pin.PinError, match="more than once"):
        pin.edited("mlflow_image: a\nmlflow_image: b\n", VALUES)


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("registry.example.com:5000/mlflow:3", "registry.example.com:5000/mlflow:3"),
        (f"mlflow:3@{DIGEST}", "mlflow:3"),
    ],
)
def test_the_tag_is_asked_for(reference: str, name: str) -> None:
    assert pin.tagged("mlflow_image", reference) == name


@pytest.mark.parametrize("reference", ["registry.example.com:5000/mlflow", f"mlflow@{DIGEST}"])
def test_without_a_tag_there_is_nothing_to_ask_for(reference: str) -> None:
    with pytest.raises(pin.PinError, match="has no tag"):
        pin.tagged("mlflow_image", reference)
