# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold an environment variable of MLflow's against what everybody who sees the release may read."""

from __future__ import annotations

import re

from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory.types import found

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What is set elsewhere, or in another way.
ELSEWHERE = {
    "MLFLOW_STATIC_PREFIX": "set mlflow_static_prefix instead, of which the probes know too",
    "MLFLOW_GUNICORN_OPTS": (
        "starts gunicorn, with which MLflow checks no host names; set MLFLOW_UVICORN_OPTS instead, "
        "whose options are uvicorn's"
    ),
}
_INSTEAD = "put it into a Secret, and refer to that in mlflow_pod.env (valueFrom.secretKeyRef)"

# What a name ends with whose value is a secret. AWS_ACCESS_KEY_ID is none, but belongs beside its
# secret. What only has to do with a secret ends otherwise: TOKENIZERS_PARALLELISM, …_TOKEN_FILE.
_SECRET_NAME = re.compile(
    r"(PASSWORDS?|PASSWD|_PWD|PASSPHRASE|SECRETS?|TOKENS?|CREDENTIALS?"
    r"|(API|ACCESS|ACCOUNT|AUTH|ENCRYPTION|MASTER|PRIVATE|SECRET|SHARED|SIGNING|STORAGE)_?KEYS?"
    r"|ACCESS_KEY_ID)(_(JSON|PEM|BASE64|B64|HEX|VALUE|V?\d+))?$",
    re.IGNORECASE,
)
# Files that a program reads, where the name alone could as well mean what is in them.
_NAME_OF_FILE = re.compile(r"CREDENTIALS?$|_KEY$", re.IGNORECASE)
_FILE = re.compile(r"/[\w.-]+(/[\w.-]+)*\.?[\w-]*|~/[\w./-]+")
# How many there are of them, or whether: MAX_TOKENS=512.
_NAME_OF_COUNT = re.compile(r"S$", re.IGNORECASE)
_COUNT = re.compile(r"[\d._]+", re.ASCII)
_SWITCH = ("true", "false", "")

# What a value looks like that is a secret, whatever its name; and what it is.
_SECRET_VALUES = (
    (re.compile(r"[a-z][a-z0-9+.-]*://[^\s/@:]*:[^\s/@]+@", re.IGNORECASE), "a password"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY|\"private_key\"\s*:"), "a private key"),
    (re.compile(r"\b(AccountKey|SharedAccessKey)\s*=", re.IGNORECASE), "an account's key"),
    (re.compile(r"\bSharedAccessSignature\s*=|[?&;]sig=", re.IGNORECASE), "a signature"),
    (re.compile(r"(^|[\s;?&])(password|pwd)\s*=\s*[^\s;]", re.IGNORECASE), "a password"),
    (re.compile(r"\bAuthorization\s*[:=]\s*\w|\bBearer\s+(?=\S*\d)[\w.~+/=-]{16,}"), "a token"),
    (re.compile(r"\bapi[-_]?key\s*[:=]\s*[^\s,;]{8,}", re.IGNORECASE), "an API key"),
    (re.compile(r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\."), "a token"),
    (re.compile(r"\b(sk|pk|rk)[-_](?=[-\w]*\d)[-\w]{20,}"), "an API key"),
    (re.compile(r"\bAIza[\w-]{35}"), "an API key"),
    (re.compile(r"\b(gh[opsur]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,})"), "a token"),
    (re.compile(r"\b(xox[abprs]-[\w-]{10,}|hf_\w{20,}|dapi[0-9a-f]{32}|hvs\.\w{20,})"), "a token"),
    (re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"), "an access key"),
)
# A name that says key, and a value that nobody would think of.
_SOME_KEY = re.compile(r"KEY$", re.IGNORECASE)
_RANDOM = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[\w+/=-]{16,}")


def secret_in(name: str, value: object) -> str:
    """Return what makes a variable secret, in words, or nothing; its value is not in them."""
    text = str(value)
    for form, words in _SECRET_VALUES:
        if form.search(text):
            return f"holds {words}"
    if text.lower() in _SWITCH:
        return ""
    if _NAME_OF_FILE.search(name) and _FILE.fullmatch(text):
        return ""
    if _NAME_OF_COUNT.search(name) and _COUNT.fullmatch(text):
        return ""
    if _SECRET_NAME.search(name):
        return "is a secret by its name"
    if _SOME_KEY.search(name) and _RANDOM.fullmatch(text):
        return "is a secret by its name and its value"
    return ""


def check_variable(name: str, value: object) -> str:
    """Return what is wrong with a variable whose value is written out, or nothing."""
    if not isinstance(value, (str, int, float)):
        return f"must be a string, a number or true or false, not {found(value)}"
    text = str(value)
    if secret := secret_in(name, value):
        return f"{secret}, which whoever may see the release could read; {_INSTEAD}"
    if any(ord(char) < 32 or ord(char) == 127 for char in text):
        return "holds a control character (a line end, perhaps)"
    if text[:1] in ("'", '"') or text[-1:] in ("'", '"'):
        return "starts or ends with a quotation mark, which kustomize takes away"
    return ""
