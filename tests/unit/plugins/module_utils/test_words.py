# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Redaction, words and the schema verdict."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
import yaml
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.redact import redact
from ansible_collections.mlops.mlflow.plugins.module_utils._wait import hints, schema
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import DEFAULTS, Problem

HINTS = yaml.safe_load(
    (pathlib.Path(__file__).parents[1] / "fixtures" / "hints.yml").read_text(encoding="utf-8")
)


@pytest.mark.parametrize(
    "text",
    [
        "postgresql+psycopg2://mlflow:S3cretValue@postgres:5432/mlflow",
        "postgresql://u:with@S3cretValue@host/db",
        "https://S3cretValue:x@host/",
        "could not connect: host=db user=u password=S3cretValue dbname=x",
        "PGPASSWORD='S3cretValue' psql",
        "MLFLOW_TRACKING_PASSWORD: S3cretValue",
        '{"database-password": "S3cretValue"}',
        "{'token': 'S3cretValue'}",
        "aws_secret_access_key=S3cretValue",
        "Authorization: Bearer S3cretValue.S3cretValue",
        "authorization: Basic UzNjcmV0VmFsdWU6S3cretValue",
        "curl --password S3cretValue http://x",
        "kek-passphrase: S3cretValue",
        "token: eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJTM2NyZXRWYWx1ZSJ9.S3cretValue",
        "-----BEGIN RSA PRIVATE KEY-----\nS3cretValue\n-----END RSA PRIVATE KEY-----",
        "?api_key=S3cretValue&x=1",
    ],
)
def test_secrets_are_masked(text: str) -> None:
    """None of the usual shapes of a secret is left."""
    assert "S3cretValue" not in redact(text).replace("https://S3cretValue:", "")


@pytest.mark.parametrize(
    "text",
    [
        'container main of pod missing-secret-56c5b59895-tg4zs: secret "absent" not found',
        "couldn't find key nope in Secret w/have",
        'FATAL:  password authentication failed for user "mlflow"',
        "pod mount-secret-75bd: MountVolume.SetUp failed for volume",
        "Create the missing secret: kubectl -n w create secret generic absent",
        "http://mlflow:5000/health",
        "KeyError: 'x'",
        "password: authentication failed",
    ],
)
def test_explanations_are_kept(text: str) -> None:
    """What explains a failure is not a secret."""
    assert redact(text) == text


def test_given_secrets() -> None:
    """A given secret is masked; one that is too short is not."""
    assert redact("a hunter2 b", ["hunter2", "", None, "a"]) == "a ******** b"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], ""),
        (["", "  "], ""),
        (["one", "two"], "two"),
        (
            ["Traceback (most recent call last):", '  File "x"', "ValueError: boom", ""],
            "ValueError: boom",
        ),
        (["error: first", "all good"], "error: first"),
        (["FATAL: the database", "ERROR: more"], "FATAL: the database"),
        (
            ["failed: Connection refused", "(Background on this error at: x)"],
            "failed: Connection refused",
        ),
        (["unable to retrieve container logs for containerd://0a"], ""),
        # libpq tries again without encryption, which a server that insists on it refuses.
        (
            [
                'psycopg2.OperationalError: connection to server at "db", port 5432 failed: '
                'FATAL:  password authentication failed for user "mlflow"',
                'connection to server at "db", port 5432 failed: FATAL:  no pg_hba.conf entry for '
                'host "10.0.0.1", user "mlflow", database "mlflow", no encryption',
            ],
            'psycopg2.OperationalError: connection to server at "db", port 5432 failed: '
            'FATAL: password authentication failed for user "mlflow"',
        ),
        (
            [
                'connection to server at "db", port 5432 failed: FATAL:  no pg_hba.conf entry for '
                'host "10.0.0.1", user "mlflow", database "mlflow", no encryption',
            ],
            'connection to server at "db", port 5432 failed: FATAL: no pg_hba.conf entry for '
            'host "10.0.0.1", user "mlflow", database "mlflow", no encryption',
        ),
    ],
)
def test_telling_line(lines: list[str], expected: str) -> None:
    """The line that explains is found among the others."""
    assert hints.telling_line(lines) == expected


def test_long_lines_are_cut() -> None:
    """A line of a megabyte does not become the message."""
    assert len(hints.telling_line(["x" * 10**6])) == hints.LONGEST_QUOTE


@pytest.mark.parametrize("reason", [*DEFAULTS, "timeout"])
def test_every_reason_has_a_hint(reason: str) -> None:
    """Each failure says in one line what to do."""
    problem = Problem(reason, "Pod", "ns", "web-a", "wrong", "p", container="main", pod="web-a")
    hint = hints.hint(problem)
    assert hint
    assert "\n" not in hint


@pytest.mark.parametrize(
    ("reason", "message", "expected"),
    [
        ("config", "couldn't find key k in Secret ns/s", "Add the key k to Secret s"),
        ("config", 'secret "s" not found', "create secret generic s"),
        ("config", 'configmap "c" not found', "create configmap c"),
        ("image_pull", "not found", "Correct the image's name"),
        ("image_pull", "401 Unauthorized", "imagePullSecret"),
        ("image_pull", "no such host", "cannot reach the registry"),
        ("unschedulable", "Insufficient cpu", "requests"),
        ("unschedulable", "untolerated taint", "toleration"),
        ("volume", 'storageclass "x" not found', "kubectl get storageclass"),
        ("quota_or_admission", "exceeded quota", "describe resourcequota"),
        ("quota_or_admission", "violates PodSecurity", "securityContext"),
        ("http_unready", "Invalid Host header", "MLFLOW_SERVER_ALLOWED_HOSTS"),
    ],
)
def test_hints_fit_the_message(reason: str, message: str, expected: str) -> None:
    """The hint is about what the message says."""
    problem = Problem(reason, "Pod", "ns", "web-a", message, "p", container="main", pod="web-a")
    assert expected in hints.hint(problem)


@pytest.mark.parametrize(
    "case", HINTS, ids=lambda case: f"{case['reason']}: {case['message'][:40]}"
)
def test_each_hint_as_it_is_read(case: dict[str, t.Any]) -> None:
    """Each word of it: a person types what it says."""
    usual = {"kind": "Pod", "namespace": "ns", "name": "web-a", "container": "main", "pod": "web-a"}
    about = {**usual, **case.get("problem", {})}
    problem = Problem(reason=case["reason"], message=case["message"], identity="p", **about)
    assert hints.hint(problem) == case["hint"]


def test_schema_verdict() -> None:
    """The worst state of all databases explains; the last line of a log may be the verdict."""
    text = 'noise\n{"tracking": {"state": "at_head"}, "auth": {"state": "behind", "head": "b"}}'
    verdict = schema.parse(text)
    assert verdict is not None
    assert not schema.at_head(verdict)
    explained = schema.explain(verdict)
    assert explained is not None
    assert explained[0] == "schema_behind"
    assert "auth database" in explained[1]
    assert schema.explain({"tracking": {"state": "at_head"}}) is None


@pytest.mark.parametrize(
    "text", [None, "", "x", '{"state": 1}', '{"tracking": 1, "state": 2}', "[]"]
)
def test_no_schema_verdict(text: str | None) -> None:
    """Anything else is not one."""
    assert schema.parse(text) is None


@pytest.mark.parametrize("state", sorted(schema.REASONS))
def test_every_state_has_a_reason(state: str) -> None:
    """Each state but at_head is explained by a known reason."""
    explained = schema.explain({"tracking": {"state": state}})
    assert explained is not None
    assert explained[0] in DEFAULTS
