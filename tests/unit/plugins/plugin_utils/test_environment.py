# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An environment variable is secret by its name or by its value, and neither is guessed wrong."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory.environment import (
    check_variable,
    secret_in,
)

# What people set, from the documentation of MLflow, the clouds, and those who serve models.
SECRET = {
    "OPENAI_API_KEY": "anything",
    "ANTHROPIC_API_KEY": "anything",
    "AZURE_OPENAI_KEY": "0123456789abcdef0123456789abcdef",
    "AZURE_STORAGE_CONNECTION_STRING": (
        "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=bm90aGluZw==;"
        "EndpointSuffix=core.windows.net"
    ),
    "AZURE_STORAGE_ACCESS_KEY": "bm90aGluZw==",
    "AZURE_STORAGE_SAS_TOKEN": "sv=2024",
    "STORE": "https://a.blob.example.org/c?sv=2024-11-04&sig=bm90aGluZw%3D",
    "EVENT_HUB": "Endpoint=sb://a/;SharedAccessKeyName=k;SharedAccessKey=bm90aGluZw==",
    "AWS_ACCESS_KEY_ID": "anything",
    "AWS_SECRET_ACCESS_KEY": "/begins/with+a/slash",
    "AWS_SESSION_TOKEN": "anything",
    "MLFLOW_TRACKING_PASSWORD": "/not-a-file",
    "MLFLOW_TRACKING_TOKEN": "anything",
    "MLFLOW_CRYPTO_KEK_PASSPHRASE": "anything",
    "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": "anything",
    "MLFLOW_FLASK_SERVER_SECRET_KEY": 12345678,
    "PGPASSWORD": "anything",
    "DB_PWD": "anything",
    "GOOGLE_APPLICATION_CREDENTIALS": "{}",
    "GOOGLE_APPLICATION_CREDENTIALS_JSON": "{}",
    "SERVICE_ACCOUNT": '{"type": "service_account", "private_key": "…"}',
    "TLS": "-----BEGIN RSA PRIVATE KEY-----",
    "MLFLOW_BACKEND_STORE_URI": "postgresql://mlflow:hunter22@db/mlflow",
    "HTTPS_PROXY": "http://me:hunter22@proxy.example.org:3128",
    "DSN": "host=db user=mlflow password=hunter22",
    "LLM": "sk-proj-0123456789abcdefghij",
    "WHO": "ghp_0123456789abcdefghij0123456789abcdef",
    "ROLE": "AKIAIOSFODNN7EXAMPLE",
    "HEADERS": "Authorization: Bearer 0123456789abcdef",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "api-key=bm90aGluZw",
    "DATABASE_ADDRESS": "postgresql:///mlflow?password=hunter22",
    "OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Basic bm90aGluZzpub3RoaW5n",
}
PLAIN = {
    "TOKENIZERS_PARALLELISM": False,
    "GOOGLE_APPLICATION_CREDENTIALS": "/var/run/secrets/google/key.json",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/secrets/eks.amazonaws.com/serviceaccount/token",
    "AZURE_FEDERATED_TOKEN_FILE": "/var/run/secrets/azure/tokens/azure-identity-token",
    "AWS_SHARED_CREDENTIALS_FILE": "/etc/aws/credentials",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://credentials.example.org/v1",
    "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/mlflow",
    "AZURE_STORAGE_CONNECTION_STRING": "UseDevelopmentStorage=true",
    "MLFLOW_OPENAI_SECRET_SCOPE": "scope",
    "MLFLOW_GATEWAY_RESOLVE_API_KEY_FROM_FILE": True,
    "MLFLOW_AUTH_CONFIG_PATH": "/etc/mlops-mlflow/auth/basic_auth.ini",
    "MLFLOW_MYSQL_SSL_KEY": "/etc/ssl/mysql.key",
    "MAX_TOKENS": 4096,
    "PGPASSFILE": "/etc/pgpass",
    "PGSSLKEY": "/etc/mlops-mlflow/database-client/tls.key",
    "PGREQUIREAUTH": "scram-sha-256",
    "MLFLOW_WORKERS": 3,
    "MLFLOW_SERVER_ALLOWED_HOSTS": "mlflow.example.org,mlflow.example.org:*",
    "MLFLOW_BACKEND_STORE_URI": "postgresql+psycopg2:///mlflow",
    "MLFLOW_ARTIFACTS_DESTINATION": "wasbs://container@account.blob.core.windows.net/mlflow",
    "MLFLOW_UVICORN_OPTS": "--timeout-graceful-shutdown 30 --header Connection:close",
    "NO_PROXY": ".svc,.cluster.local,10.0.0.0/8",
    "CACHE_KEY": "experiments",
    "PROMPT": "task-description: say what sk-learn-and-other-libraries do. Basic ones",
}


@pytest.mark.parametrize(("name", "value"), SECRET.items())
def test_a_secret_is_refused_and_not_repeated(name: str, value: object) -> None:
    wrong = check_variable(name, value)
    assert "secret" in wrong.lower()
    assert str(value) not in wrong.replace(name, "") or value == "anything"


@pytest.mark.parametrize(("name", "value"), PLAIN.items())
def test_what_only_sounds_like_one_passes(name: str, value: object) -> None:
    assert check_variable(name, value) == ""


def test_a_secret_of_several_lines_is_called_a_secret() -> None:
    assert secret_in("X", "-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----")
    assert "a private key" in check_variable("X", "-----BEGIN PRIVATE KEY-----\nabc")
