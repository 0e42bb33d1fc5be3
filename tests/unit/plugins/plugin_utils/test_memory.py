"""Whether the bundled Postgres has the memory for its connections."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.plugin_utils._checks import memory


def database(limit: str | None, *settings: str) -> list[dict[str, Any]]:
    limits = {"memory": limit} if limit else {}
    arguments = [word for setting in settings for word in ("-c", setting)]
    container = {"name": "postgres", "args": arguments, "resources": {"limits": limits}}
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": "postgres", "labels": {"app.kubernetes.io/component": "database"}},
            "spec": {"template": {"spec": {"containers": [container]}}},
        }
    ]


@pytest.mark.parametrize(
    ("limit", "settings"),
    [
        ("1Gi", ["max_connections=200", "shared_buffers=128MB"]),
        # Postgres' own defaults.
        ("512Mi", []),
        ("1Gi", ["max_connections=200", "shared_buffers=16384"]),
        # Nothing to hold it against.
        (None, ["max_connections=9000"]),
    ],
)
def test_what_fits_is_let_through(limit: str | None, settings: list[str]) -> None:
    assert memory.check(database(limit, *settings)) == ""
    assert memory.check([]) == ""


@pytest.mark.parametrize(
    ("limit", "settings", "words"),
    [
        ("1Gi", ["max_connections=400", "shared_buffers=128MB"], "Set it to 277 or less"),
        ("1Gi", ["max_connections=200", "shared_buffers=1GB"], "1024 shared_buffers"),
        ("128Mi", [], "100 connections need 492 MiB of memory"),
        ("1000M", ["max_connections=300"], "Postgres may have 1000M"),
    ],
)
def test_what_does_not_fit_is_told_with_what_would(
    limit: str, settings: list[str], words: str
) -> None:
    problem = memory.check(database(limit, *settings))
    assert problem.startswith("mlflow_database_max_connections: ")
    assert words in problem
