# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is missing is named, with what to type."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._release.secret_keys import (
    missing,
    not_synchronised,
)

REFERENCE = {"variable": "mlflow_secrets.a", "secret": "theirs", "key": "password"}


@pytest.mark.parametrize(
    ("secret", "words"),
    [
        (None, "there is no Secret theirs in namespace here for its key password; kubectl -n here"),
        ({"data": {"other": "eA=="}}, "has no key password (it has: other)"),
        ({}, "has no key password (it has: none)"),
        (
            {"data": {"password": ""}},
            "the key password of Secret theirs in namespace here is empty",
        ),
    ],
)
def test_what_is_missing_is_said(secret: dict[str, Any] | None, words: str) -> None:
    (said,) = missing([REFERENCE], {"theirs": secret}, "here")
    assert said.startswith("mlflow_secrets.a: ")
    assert words in said


def test_what_is_there_is_not_said() -> None:
    assert missing([REFERENCE], {"theirs": {"data": {"password": "eA=="}}}, "here") == []


def external(**status: Any) -> dict[str, Any]:
    return {"metadata": {"generation": 2}, "status": status}


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (None, "is not there"),
        (external(), "does External Secrets run in this cluster?"),
        (
            external(conditions=[{"type": "Ready", "status": "False", "message": "no\nstore"}]),
            "is not synchronised: no store",
        ),
        (
            external(
                conditions=[{"type": "Ready", "status": "True"}], syncedResourceVersion="1-abc"
            ),
            "is being synchronised",
        ),
        (
            external(
                conditions=[{"type": "Ready", "status": "True"}], syncedResourceVersion="2-abc"
            ),
            "",
        ),
    ],
)
def test_an_external_secret_says_how_it_is(item: dict[str, Any] | None, words: str) -> None:
    said = not_synchronised(item, "one")
    assert (words in said) if words else not said
