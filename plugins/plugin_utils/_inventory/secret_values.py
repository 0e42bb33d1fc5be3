# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the values of Secrets come from, and what a value must be."""

from __future__ import annotations

import base64
import binascii
import re
import typing as t

from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory.notations import OBJECT_NAME
from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory.types import check_value

# Which variable gives the value of a key of the release's Secret.
GIVEN = {
    "database-password": "mlflow_database_password",
    "flask-secret-key": "mlflow_flask_secret_key",
    "webhook-encryption-key": "mlflow_webhook_encryption_key",
    "kek-passphrase": "mlflow_kek_passphrase",
    "admin-password": "mlflow_admin_password",
}
_SECRET_KEY = re.compile(r"[-._A-Za-z0-9]{1,253}")
_OWN_SECRETS = ("mlflow-credentials", "mlflow-external")
# What an entry of mlflow_secrets may say. The argument spec describes it once, in words: as options
# of each key, ansible-doc prints it seven times.
SOURCE = {name: {"type": "str"} for name in ("secret", "key", "external", "property")}


def _check_source(where: str, source: dict[str, str]) -> t.Iterator[str]:
    """Hold one entry of mlflow_secrets against what it can mean."""
    secret, external = source.get("secret"), source.get("external")
    if secret and external:
        yield f"{where}: names a Secret and an external one; a value has one source"
    elif not secret and not external:
        yield (
            f"{where}: names no source; set secret (a Secret in the namespace) or external (an "
            "entry of mlflow_secret_store), or leave it out to have it generated"
        )
    if source.get("key") and not secret:
        yield f"{where}.key: is the key of a Secret, and none is named"
    if source.get("property") and not external:
        yield f"{where}.property: is a property of an external entry, and none is named"
    if secret in _OWN_SECRETS:
        yield f"{where}.secret: {secret} is the release's own; leave it out"
    # Not quoted: somebody may have put the value where its name belongs.
    elif secret and not OBJECT_NAME.fullmatch(secret):
        yield f"{where}.secret: is not the name of a Secret (it names one, it holds no value)"
    if source.get("key") and not _SECRET_KEY.fullmatch(source["key"]):
        yield f"{where}.key: is not a key of a Secret (letters, digits, '-', '_' and '.')"


def check_sources(settings: dict[str, t.Any]) -> t.Iterator[str]:
    """Hold the sources that mlflow_secrets names against each other and the values given."""
    sources = settings.get("mlflow_secrets") or {}
    store = settings.get("mlflow_secret_store") or {}
    for key, source in sources.items():
        where = f"mlflow_secrets.{key}"
        problems = check_value(where, {"type": "dict", "options": SOURCE}, source)
        yield from problems or _check_source(where, source)
        given = GIVEN.get(key, "")
        if settings.get(given):
            yield f"{given}: is set, and {where} says that its value is elsewhere; leave one out"
    external = [key for key, source in sources.items() if source.get("external")]
    if external and not store.get("name"):
        yield f"mlflow_secret_store.name: is not set, and mlflow_secrets.{external[0]} is external"
    if store and not external:
        yield "mlflow_secret_store: is set, and nothing of mlflow_secrets is external"
    if store.get("name") and not OBJECT_NAME.fullmatch(store["name"]):
        yield "mlflow_secret_store.name: is not the name of a SecretStore or ClusterSecretStore"


def is_fernet_key(text: str) -> bool:
    """Whether the text is 32 bytes in URL-safe base64."""
    try:
        return len(base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)) == 32
    except (ValueError, UnicodeEncodeError, binascii.Error):
        return False


def check_secrets(
    settings: dict[str, t.Any], development_values: t.Collection[str]
) -> t.Iterator[str]:
    """Hold the values of Secrets against what takes them; none is ever repeated."""
    shortest = {
        "mlflow_database_password": 8,
        "mlflow_flask_secret_key": 16,
        "mlflow_kek_passphrase": 12,
        "mlflow_webhook_encryption_key": 0,
        "mlflow_admin_password": 12,
    }
    refused = (
        settings.get("mlflow_environment") in ("staging", "production")
        and not settings.get("mlflow_allow_development_credentials")
    )  # fmt: skip
    for name, length in shortest.items():
        value = settings.get(name)
        if not value:
            continue
        if any(ord(char) < 32 or ord(char) == 127 for char in value):
            yield f"{name}: holds a control character (a line end from a file, perhaps)"
        elif len(value) < length:
            yield f"{name}: is shorter than {length} characters"
        elif name == "mlflow_admin_password" and not value.isascii():
            yield f"{name}: must be ASCII: MLflow's client sends other characters in two ways"
        elif name == "mlflow_webhook_encryption_key" and not is_fernet_key(value):
            yield f"{name}: is not a Fernet key (32 bytes in URL-safe base64, 44 characters)"
        if refused and value in development_values:
            yield (
                f"{name}: is the development value, which anyone can read in the repository; "
                f"refused in {settings['mlflow_environment']}"
            )
