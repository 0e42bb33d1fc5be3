# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Host names, origins, sizes and addresses."""

from __future__ import annotations

from fnmatch import fnmatch

import pytest
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render import exposure
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render.exposure import Object

PLAIN: Object = {"spec": {"rules": [{"host": "a.example.org"}]}}
WITH_TLS: Object = {"spec": {**PLAIN["spec"], "tls": [{"secretName": "a"}]}}
ROUTE: Object = {"spec": {"hostnames": ["b.example.org"]}}


@pytest.mark.parametrize(
    ("limit", "written"),
    [("20Gi", "20g"), ("4Mi", "4m"), ("1536Ki", "1536k"), ("5M", "5000000"), ("1.5Gi", "1536m")],
)
def test_a_size_as_nginx_writes_it(limit: str, written: str) -> None:
    assert exposure.nginx_size(limit) == written


@pytest.mark.parametrize(
    ("ingress", "route", "secret", "url", "expected"),
    [
        (PLAIN, None, "", "", ["http"]),
        (PLAIN, None, "a-tls", "", ["https"]),
        (WITH_TLS, None, "", "", ["https"]),
        (None, ROUTE, "", "", ["https"]),
        (None, None, "", "", ["https", "http"]),
        (PLAIN, None, "", "https://a.example.org", ["https"]),
        (None, ROUTE, "", "http://a.example.org", ["http"]),
    ],
)
def test_schemes(
    ingress: Object | None, route: Object | None, secret: str, url: str, expected: list[str]
) -> None:
    assert exposure.schemes(ingress, route, secret, url) == expected


def test_the_address_is_of_a_name_that_can_be_asked_for() -> None:
    hosts = ["*.example.org", "set-mlflow-hosts.invalid", "a.example.org"]
    assert exposure.address(hosts, "/mlflow", ["https"]) == "https://a.example.org/mlflow"
    assert exposure.address(["*.example.org"], "", ["https"]) == ""


def test_origins_add_to_those_that_are_there() -> None:
    known = "https://b.example.org"
    found = exposure.allowed_origins(known, ["a.example.org"], ["https"])
    assert found.split(",") == [known, "https://a.example.org", "https://a.example.org:*"]


@pytest.mark.parametrize("url", ["http://127.0.0.1:15000", "http://localhost:5000", ""])
def test_this_machine_needs_no_origin(url: str) -> None:
    assert exposure.allowed_origins("", [], ["http"], url) == ""


def test_an_address_of_a_node_port_is_an_origin() -> None:
    """Without a name: MLflow takes the address as a host, but not its pages' changes."""
    url = "http://example.com:30500/mlflow"
    assert exposure.allowed_origins("", [], ["http"], url) == "http://example.com:30500"


def test_only_probes_of_health_get_the_prefix() -> None:
    probe = {"httpGet": {"path": "/health"}}
    other = {"httpGet": {"path": "/other"}}
    containers = [{"readinessProbe": other}, {"startupProbe": probe, "livenessProbe": {"exec": {}}}]
    deployment = {"spec": {"template": {"spec": {"containers": containers}}}}
    (edit,) = exposure.probe_operations(deployment, "/mlflow")
    assert edit == {
        "op": "add",
        "path": "/spec/template/spec/containers/1/startupProbe/httpGet/path",
        "value": "/mlflow/health",
    }


@pytest.mark.parametrize(
    ("hosts", "host", "allowed"),
    [
        (["fd00::5"], "[fd00::5]:5000", True),
        (["fd00::5"], "[fd00::5]", True),
        (["fd00::5"], "[fd00::6]:5000", False),
        (["10.1.2.3"], "10.1.2.3:5000", True),
    ],
)
def test_an_ipv6_address_is_allowed_as_requests_have_it(
    hosts: list[str], host: str, allowed: bool
) -> None:
    entries = exposure.allowed_hosts("", hosts).split(",")
    assert any(fnmatch(host, e) if "*" in e else host == e for e in entries) is allowed


@pytest.mark.parametrize(
    ("entry", "host", "allowed"),
    [
        ("fd00:*", "[fd00::5]:5000", True),
        ("2001:db8::*", "[2001:db8::7]:5000", True),
        ("fd00:*", "[fe80::5]:5000", False),
        ("mlflow.example.org:*", "[fd00::5]:5000", False),
        ("10.*", "10.1.2.3", True),
    ],
)
def test_a_part_of_an_ipv6_address_is_meant_as_one(entry: str, host: str, allowed: bool) -> None:
    entries = exposure.as_sent(entry)
    assert entry in entries
    assert any(fnmatch(host, e) for e in entries) is allowed
