# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables are held against their specs by pure functions."""

from __future__ import annotations

import base64
import os
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.action.release_variables import role_specs
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.quantities import quantity
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import DEFAULTS
from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory import (
    notations,
    secret_values,
    types,
)
from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory import values as variables
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SPECS = role_specs(["mlflow", "preflight", "release"])


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("500m", 0.5),
        ("1", 1.0),
        (2, 2.0),
        ("1.5Gi", 1.5 * 2**30),
        ("10k", 10000.0),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("1E", 1e18),
        ("", None),
        ("lots", None),
        ("1 Gi", None),
        ("1GB", None),
        ("-1", None),
        (True, None),
        (None, None),
    ],
)
def test_quantity(text: object, number: float | None) -> None:
    assert quantity(text) == (pytest.approx(number) if number is not None else None)


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("mlflow", ("mlflow", "", "")),
        ("ghcr.io/mlflow/mlflow:v3.17.2-full", ("ghcr.io/mlflow/mlflow", "v3.17.2-full", "")),
        ("localhost:5000/a/b:1", ("localhost:5000/a/b", "1", "")),
        ("localhost:5000/a/b", ("localhost:5000/a/b", "", "")),
        ("a/b@sha256:" + "0" * 64, ("a/b", "", "sha256:" + "0" * 64)),
        ("a/b:t@sha256:" + "f" * 64, ("a/b", "t", "sha256:" + "f" * 64)),
    ],
)
def test_image_parts(reference: str, parts: tuple[str, str, str]) -> None:
    found = notations.image_parts(reference)
    assert found is not None
    assert (found["name"], found["tag"], found["digest"]) == parts


@pytest.mark.parametrize("reference", ["", "UPPER/x", "a b", "a@sha256:abc", "a:", "a:t:u", "/a"])
def test_not_an_image(reference: str) -> None:
    assert notations.image_parts(reference) is None


@pytest.mark.parametrize(
    ("tag", "version", "then"),
    [
        ("v3.17.2-full", "3.17.2", "v3.16.1-full"),
        ("3.17.2", "3.17.2", "3.16.1"),
        ("v3.18.0rc1", "3.18.0rc1", "v3.16.1"),
        ("latest", "", "3.16.1"),
        ("1.4.0-mlflow3.17.2", "3.17.2", "1.4.0-mlflow3.16.1"),
    ],
)
def test_versions_in_tags(tag: str, version: str, then: str) -> None:
    assert notations.version_of_tag(tag) == version
    assert notations.with_version(tag, "3.16.1") == then


def test_strings_from_the_command_line_are_converted() -> None:
    """What -e name=value gives are strings."""
    good, problems = types.check_types(
        SPECS,
        {
            "mlflow_environment": "staging",
            "mlflow_replicas": "3",
            "mlflow_smoke_test": "no",
            "mlflow_timeout": 60,
        },
    )
    assert problems == []
    assert good["mlflow_replicas"] == 3
    assert good["mlflow_smoke_test"] is False
    assert good["mlflow_timeout"] == 60


def test_defaults_are_good() -> None:
    """Every default passes, given an environment."""
    import yaml

    root = os.path.join(os.path.dirname(__file__), *[os.pardir] * 4)
    with open(os.path.join(root, "roles/mlflow/defaults/main.yml"), encoding="utf-8") as handle:
        defaults = yaml.safe_load(handle)
    good, problems = types.check_types(SPECS, {**defaults, "mlflow_environment": "production"})
    assert problems == []
    assert variables.check_values(good) == []


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(sorted(SPECS)),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.text(max_size=5), inner, max_size=3)
            ),
            max_leaves=6,
        ),
        max_size=6,
    )
)
def test_no_value_makes_the_checks_themselves_fail(values: dict[str, Any]) -> None:
    """Whatever is given, the answer is a list of problems that starts with the variable."""
    good, problems = types.check_types(SPECS, values)
    problems += variables.check_values(good)
    for problem in problems:
        assert problem.split(":")[0].split("[")[0].split(".")[0] in SPECS


@given(st.text(min_size=1, max_size=40))
def test_a_secret_is_never_repeated(value: str) -> None:
    """No message about a secret holds its value."""
    secret = f"s3cr3t{value}"
    for name in [name for name, spec in SPECS.items() if spec.get("no_log")]:
        for given_value in (secret, [secret], {"key": secret}, {secret: 1}):
            good, problems = types.check_types({name: SPECS[name]}, {name: given_value})
            problems += variables.check_values(good)
            assert not any("s3cr3t" in problem for problem in problems)


def test_fernet_key() -> None:
    assert secret_values.is_fernet_key(base64.urlsafe_b64encode(bytes(range(200, 232))).decode())
    assert not secret_values.is_fernet_key(base64.urlsafe_b64encode(b"short").decode())
    assert not secret_values.is_fernet_key("ü" * 44)


def test_suggestions() -> None:
    known = ["mlflow_replicas", "mlflow_image", "production"]
    assert types.suggestion("mlflow_replica", known) == "; did you mean mlflow_replicas?"
    assert types.suggestion("prod", known) == "; did you mean production?"
    assert types.suggestion("zzz", known) == ""


def test_development_values_are_refused_where_it_matters() -> None:
    given_values = {"mlflow_environment": "staging", "mlflow_database_password": "development-only"}
    assert variables.check_values(given_values, {"development-only"})
    assert not variables.check_values(
        {**given_values, "mlflow_allow_development_credentials": True}, {"development-only"}
    )
    assert not variables.check_values(
        {**given_values, "mlflow_environment": "development"}, {"development-only"}
    )


def test_each_reason_of_a_failure_has_a_tolerance_that_can_be_set() -> None:
    every = dict.fromkeys(DEFAULTS, 90)
    assert variables.check_values({"mlflow_tolerances": every}) == []
    assert variables.check_values({"mlflow_tolerances": {"crash_lop": 1}}) == [
        "mlflow_tolerances.crash_lop: no such reason; did you mean crash_loop?"
    ]


def test_report_reads_well() -> None:
    assert types.report(["a: is wrong"]) == "a: is wrong. Nothing was written."
    assert types.report(["a: x", "b: y"]).startswith("2 problems, nothing was written:\n  - a")


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ([{"kind": "Widget", "condition": "Ready"}], []),
        ([{"kind": "Widget", "field": "status.a", "value": "b", "failed": ["c"]}], []),
        ([{"condition": "Ready"}], ["mlflow_wait_conditions[0].kind: is not set"]),
        (
            [{"kind": "Widget", "conditions": "Ready"}],
            ["mlflow_wait_conditions[0].conditions: no such key; did you mean condition?"],
        ),
        ([{"kind": ["Widget"]}], ["mlflow_wait_conditions[0].kind: must be a string, not a list"]),
        (["Widget"], ["mlflow_wait_conditions[0]: must be a mapping, not a string"]),
    ],
)
def test_each_entry_of_a_list_is_looked_at(rules: Any, says: list[str]) -> None:
    spec = SPECS["mlflow_wait_conditions"]
    assert types.check_value("mlflow_wait_conditions", spec, rules) == says


def test_an_impossible_rule_for_custom_resources_is_named() -> None:
    rules = [{"kind": "Widget", "condition": "Ready"}, {"kind": "Widget", "field": "status.a"}]
    assert variables.check_values({"mlflow_wait_conditions": rules}) == [
        "mlflow_wait_conditions[1].value: must be given: what status.a is when the object is ready"
    ]
