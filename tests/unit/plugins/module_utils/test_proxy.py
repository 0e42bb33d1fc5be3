# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Kubernetes client that ignores NO_PROXY is refused, where that matters."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s import client

PROXY = {"HTTPS_PROXY": "http://127.0.0.1:1", "no_proxy": "127.0.0.1"}


class Failed(Exception):
    """The module ended with a failure."""


class Module:
    """As much of a module as is asked."""

    def fail_json(self, **result: t.Any) -> None:
        raise Failed(result["msg"])


@pytest.mark.parametrize(
    ("version", "environ", "refused"),
    [
        ("34.1.0", PROXY, True),
        ("34.1.0", {"http_proxy": "a", "NO_PROXY": "b"}, True),
        ("33.1.0", PROXY, False),
        ("35.0.0", PROXY, False),
        ("34.1.0", {"HTTPS_PROXY": "a"}, False),
        ("34.1.0", {"NO_PROXY": "a"}, False),
        ("34.1.0", {"HTTPS_PROXY": "", "NO_PROXY": "a"}, False),
        ("34.1.0", {}, False),
    ],
)
def test_the_client_that_forgets_no_proxy(
    version: str, environ: dict[str, str], refused: bool
) -> None:
    assert client.forgets_no_proxy(version, environ) is refused


def test_a_module_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(client.kubernetes, "__version__", "34.1.0")
    client.require_libraries(Module())
    for name, value in PROXY.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Failed, match=r"34\.1\.0 goes through the proxy.*Install another"):
        client.require_libraries(Module())
