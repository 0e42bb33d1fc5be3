# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is missing is named, with what to type."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._release.secret_keys import (
    missing,
    not_synchronised,
    unusable_keys,
)

REFERENCE = {"variable": "mlflow_secrets.a", "secret": "theirs", "key": "password"}


@pytest.mark.parametrize(
    ("secret", "words"),
    [
        (None, "there is no Secret theirs in namespace here for its key password: kubectl -n here"),
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


LINE_BREAK = "ends with a line break"
ASCII = "must be ASCII"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("database-password", "s3cr3t-of-theirs\n", LINE_BREAK),
        ("database-username", "mlflow\r\n", LINE_BREAK),
        ("admin-password", "s3cr3t-of-theirs\n", LINE_BREAK),
        ("admin-password", "s3cr3t-of-the\u00efrs", ASCII),
        # Postgres and its clients take UTF-8, all of them.
        ("database-password", "s3cr3t-of-the\u00efrs", ""),
        # With these something may be encrypted by now: another value would lose it.
        ("kek-passphrase", "s3cr3t-of-theirs\n", ""),
        ("database-password", "s3cr3t \n of theirs", ""),
    ],
)
def test_a_value_that_cannot_be_a_password_is_told_by_its_field(
    key: str, value: str, words: str
) -> None:
    encoded = base64.b64encode(value.encode()).decode()
    reference = {"variable": f"mlflow_secrets.{key}", "secret": "theirs", "key": "password"}
    theirs = missing([reference], {"theirs": {"data": {"password": encoded}}}, "here")
    own = {"metadata": {"name": "mlflow-credentials"}, "data": {key: encoded, "other": "eA=="}}
    ours = unusable_keys(own, "here")
    for said, field in ((theirs, f"mlflow_secrets.{key}: the key password"), (ours, f"key {key}")):
        assert len(said) == bool(words)
        for line in said:
            assert words in line
            assert field in line
            assert "s3cr3t" not in line
            assert encoded not in line


def test_a_release_without_a_secret_has_nothing_unusable() -> None:
    assert unusable_keys({}, "here") == unusable_keys(None, "here") == []


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
