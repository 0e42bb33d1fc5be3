# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Redaction: the spellings of a secret that logs have, and the words that look like one."""

from __future__ import annotations

import time

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.redact import MASK, redact

SECRET = "S3cretValue9x"

LEAKS = [
    "postgresql://mlflow:S3cretValue9x@db/mlflow",
    "postgresql+psycopg2://mlflow:p%40S3cretValue9x@db:5432/mlflow?sslmode=require",
    "postgresql://:S3cretValue9x@db/x",
    "redis://S3cretValue9x@cache:6379/0",
    "https://S3cretValue9x@github.com/x.git",
    "https://oauth2:S3cretValue9x@host/x",
    "mssql+pyodbc://sa:S3cretValue9x@h/db?driver=x",
    "postgresql://u@h/db?password=S3cretValue9x",
    "postgresql://u@h/db?user=x&password=S3cretValue9x&sslmode=y",
    "postgresql%3A%2F%2Fu%3AS3cretValue9x%40h%2Fdb",
    "odbc_connect=Driver%3Dx%3BPWD%3DS3cretValue9x%3B",
    "Server=h;Pwd=S3cretValue9x;Uid=u",
    "Server=h;Password=S3cretValue9x;",
    "host=db user=u password='S3cretValue9x with spaces' dbname=x",
    "host=db password=S3cretValue9x",
    "host=db password = S3cretValue9x",
    "jdbc:postgresql://h/db?user=u&password=S3cretValue9x",
    "PGPASSWORD=S3cretValue9x",
    "export PGPASSWORD=S3cretValue9x",
    "PGPASSWORD: S3cretValue9x",
    '"PGPASSWORD": "S3cretValue9x"',
    "POSTGRES_PASSWORD=S3cretValue9x",
    "env: PGPASSWORD=S3cretValue9x psql",
    "Authorization: Bearer S3cretValue9x",
    "authorization=Bearer S3cretValue9x",
    '"Authorization": "Bearer S3cretValue9x"',
    "'authorization': 'Basic S3cretValue9x='",
    "Authorization: Basic bWxmbG93OlMzS3cretValue9x",
    "Authorization: Token S3cretValue9x",
    "Proxy-Authorization: Basic S3cretValue9x",
    'Authorization: Digest username="x", response="S3cretValue9x"',
    "x-api-key: S3cretValue9x",
    "X-Auth-Token: S3cretValue9x",
    "Cookie: session=S3cretValue9x; other=1",
    "Set-Cookie: session=S3cretValue9x; Path=/",
    "-H 'Authorization: Bearer S3cretValue9x'",
    "bearer S3cretValue9x",
    "AWS_SECRET_ACCESS_KEY=S3cretValue9x",
    "aws_secret_access_key = S3cretValue9x/abc+x",
    "AWS_SESSION_TOKEN=S3cretValue9x",
    '"SecretAccessKey": "S3cretValue9x"',
    "<SecretAccessKey>S3cretValue9x</SecretAccessKey>",
    "AWS_SECRET_ACCESS_KEY: S3cretValue9x",
    "AWSSecretKey=S3cretValue9x",
    "X-Amz-Signature=S3cretValue9x&x=1",
    "X-Amz-Security-Token=S3cretValue9x",
    '{"password":"S3cretValue9x"}',
    '{"password": "a\\"S3cretValue9x"}',
    "{'password': 'S3cretValue9x'}",
    "password: S3cretValue9x",
    "password: 'S3cretValue9x'",
    '  db-password: "S3cretValue9x"',
    "password: |\n  S3cretValue9x",
    "password: >-\n    S3cretValue9x\nnext: y",
    '{\\"password\\": \\"S3cretValue9x\\"}',
    '{\\"token\\":\\"S3cretValue9x\\"}',
    "password:S3cretValue9x",
    "- name: DB_PASSWORD\n  value: S3cretValue9x",
    '{"name": "DB_PASSWORD", "value": "S3cretValue9x"}',
    "{name: DB_PASSWORD, value: S3cretValue9x}",
    "MLFLOW_TRACKING_PASSWORD=S3cretValue9x",
    "MLFLOW_TRACKING_TOKEN=S3cretValue9x",
    "MLFLOW_FLASK_SERVER_SECRET_KEY=S3cretValue9x",
    "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY: S3cretValue9x=",
    "MLFLOW_CRYPTO_KEK_PASSPHRASE=S3cretValue9x",
    "MLFLOW_CRYPTO_KEK_PASSPHRASE: S3cretValue9x",
    "MLFLOW_AUTH_ADMIN_PASSWORD='S3cretValue9x'",
    "environ({'MLFLOW_FLASK_SERVER_SECRET_KEY': 'S3cretValue9x'})",
    "admin_password = S3cretValue9x",
    "secret_key=S3cretValue9x",
    "SECRET_KEY: S3cretValue9x",
    "MLFLOW_TRACKING_URI=http://u:S3cretValue9x@h",
    "MLFLOW_BACKEND_STORE_URI=postgresql://u:S3cretValue9x@h/db",
    "--password=S3cretValue9x",
    "--password S3cretValue9x",
    "curl -u user:S3cretValue9x http://x",
    "curl --user admin:S3cretValue9x http://x",
    "pwd=S3cretValue9x",
    "passwd=S3cretValue9x",
    "secret=S3cretValue9x",
    "client_secret=S3cretValue9x&grant",
    "api_key=S3cretValue9x",
    "apikey: S3cretValue9x",
    "access_token=S3cretValue9x",
    'refresh_token": "S3cretValue9x',
    "private_key: S3cretValue9x",
    "sk-ant-api03-S3cretValue9xS3cretValue9x",
    "hf_S3cretValue9xS3cretValue9xS3cretValue9x",
    "DefaultEndpointsProtocol=https;AccountName=x;AccountKey=S3cretValue9x==;EndpointSuffix=y",
    "?sig=S3cretValue9x%3D&se=2",
    "create_engine(u'postgresql://u:S3cretValue9x@h')",
    "URL(drivername='postgresql', username='u', password='S3cretValue9x')",
    "connection to postgresql://u:S3cretValue9x@h:5432/db?x=@ failed",
    "psycopg2.connect(host='h', password=\"S3cretValue9x\")",
    "ALTER ROLE mlflow PASSWORD 'S3cretValue9x'",
    "CREATE USER x WITH PASSWORD 'S3cretValue9x';",
    "IDENTIFIED BY 'S3cretValue9x'",
    "b'password=S3cretValue9x'",
    'password="S3cretValue9x"',
    "password=%27S3cretValue9x%27",
    "password%3DS3cretValue9x",
    "password%22%3A%20%22S3cretValue9x%22",
]

KEPT = [
    'container main of pod x: secret "absent" not found',
    "couldn't find key nope in Secret w/have",
    'FATAL:  password authentication failed for user "mlflow"',
    "fe_sendauth: no password supplied",
    "http://mlflow:5000/health",
    "http://127.0.0.1:5000/x@y",
    "KeyError: 'x'",
    "password: authentication failed",
    'secrets is forbidden: User "system:serviceaccount:a:b" cannot list resource "secrets"',
    "token expired",
    "invalid bearer token",
    'Error: secret "mlflow-credentials" not found',
    "couldn't find key database-password in Secret a/mlflow-credentials",
    'psycopg2.OperationalError: connection to server at "postgres", port 5432 failed: FATAL: password authentication failed',  # noqa: E501
    "SCRAM authentication requires libpq",
    "basic auth is not configured",
    "Basic authentication required",
    "bearer tokens are refused",
    'MountVolume.SetUp failed for volume "token" : secret "x" not found',
    'Failed to pull image "localhost/kind/mlflow:3.17.2": token exchange failed: unauthorized',
    "secret: not found",
    "env MLFLOW_CRYPTO_KEK_PASSPHRASE is not set",
    "KeyError: 'MLFLOW_FLASK_SERVER_SECRET_KEY'",
    "MLFLOW_FLASK_SERVER_SECRET_KEY is required",
    'no pg_hba.conf entry for host "10.0.0.1", user "mlflow", database "mlflow", no encryption',
    "ImportError: cannot import name 'SecretStr'",
    "password cannot be empty",
    "Invalid API key: not found",
    "jsonpath={.metadata.finalizers}",
    "key: not found",
    "volume kube-api-access: token request failed",
    "image ghcr.io/mlflow/mlflow@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa cannot be pulled",
    'failed calling webhook "x": Post "https://svc.example.com:443/validate?timeout=10s": dial tcp',
    "name: DB_PASSWORD\nvalueFrom: secretKeyRef",
    "kubectl -n w create secret generic absent",
    "the password of user mlflow is wrong",
    "http://h:8080/a b user@example.com",
    "expected token: '('",
    'unexpected token: "}" at line 3',
    'syntax error at or near "password"',
    "password=None",
    "token: null",
    "secretName: mlflow-credentials",
    "secretKeyRef: {name: mlflow-credentials, key: database-password}",
    "key: database-password",
    "imagePullSecrets: regcred",
]


@pytest.mark.parametrize("text", LEAKS)
def test_no_spelling_leaks(text: str) -> None:
    """Also in the middle of a line, whose words stay."""
    shown = redact(f"failed\n{text}")
    assert SECRET not in shown
    assert MASK in shown
    assert shown.startswith("failed\n")


@pytest.mark.parametrize(
    "text",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20260101",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.abcdefghijk",
        "dapi" + "0123456789abcdef" * 2,
        "ghp_" + "a1B2" * 9,
        "hf_" + "a1B2" * 9,
        "sk-ant-api03-" + "a1B2" * 9,
    ],
)
def test_tokens_are_known_by_their_shape(text: str) -> None:
    """Wherever they stand."""
    assert text not in redact(f"using {text} now")


@pytest.mark.parametrize("text", KEPT)
def test_what_explains_a_failure_is_kept(text: str) -> None:
    """Prose, names of objects and keys, addresses."""
    assert redact(text) == text


def test_what_stands_around_a_secret_is_kept() -> None:
    """Host, database and user explain a failure; the next setting is none of the secret's."""
    shown = redact(
        f"postgresql://mlflow:{SECRET}@db:5432/mlflow failed, host=db password={SECRET} port=1"
    )
    assert (
        shown == f"postgresql://mlflow:{MASK}@db:5432/mlflow failed, host=db password={MASK} port=1"
    )
    shown = redact(f"a: 1\npassword: |\n  {SECRET}\n  {SECRET}\nnext: kept\n")
    assert shown == f"a: 1\npassword: |\n  {MASK}\nnext: kept\n"


@pytest.mark.parametrize(
    "unit", ["x", "a.b-", "pass", "a+", "%3A%2F%2F", "password: |\n  x\n", "\\a", "://a:"]
)
def test_long_lines_take_no_time(unit: str) -> None:
    """A log may hold anything: the time grows with its length, not with its square."""

    def seconds(length: int) -> float:
        text = 'password": "' + unit * (length // len(unit))
        began = time.process_time()
        redact(text)
        return time.process_time() - began

    # A square would be 64 times as long; what a machine does beside this is not counted.
    assert seconds(16000) < 40 * max(seconds(2000), 0.002)
