# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take secrets out of text that came from logs, events and error messages."""

from __future__ import annotations

import functools
import re
import typing as t

MASK = "********"

# Names that announce a secret. One try for each word, so that a line of many thousand letters costs
# no more than its length.
_NAMES = (
    r"(?<![\w.-])(?>[\w.-]*?(?:pass(?:word|wd|phrase)?|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key"
    r"|account[_-]?key|secret[_-]?key|credential|authorization|cookie|session[_-]?key"
    r"|encryption[_-]?key|signature|(?<![a-z])sig)[\w.-]*+)"
)
_PASSWORDS = r"(?<![\w.-])[\w.-]*?(?:pass(?:word|wd|phrase)?|pwd)"
# A value in quotes, or up to where it ends without.
_VALUE = r"""("[^"]*"|'[^']*'|(?!\*{8})[^\s,;&)}"']+)"""

_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # scheme://user:password@host. A password may hold an @ itself; a port is none.
    (
        re.compile(
            r"((?<![a-z0-9+.-])[a-z][a-z0-9+.-]*+://[^\s/:@'\"]*):(?!\d{1,5}/)[^\s'\"]*@",
            re.IGNORECASE,
        ),
        r"\1:" + MASK + "@",
    ),
    # scheme://token@host: longer than a user's name, and not a word.
    (
        re.compile(
            r"((?<![a-z0-9+.-])[a-z][a-z0-9+.-]*+://)(?=[^\s/:@'\"]*\d)(?=[^\s/:@'\"]*[a-z])[^\s/:@'\"]{12,}@",
            re.IGNORECASE,
        ),
        r"\1" + MASK + "@",
    ),
    # The same two and name=value once more, as they stand inside the query of a URL.
    (
        re.compile(
            r"(%3A%2F%2F(?:(?!%3A)[^\s'\"&]){0,200}%3A)[^\s'\"&]{1,200}?(%40)", re.IGNORECASE
        ),
        r"\1" + MASK + r"\2",
    ),
    (
        re.compile(
            r"(" + _NAMES + r"(?:%22|%27)?(?:%3A|%3D)(?:%20|\+)*(?:%22|%27)?)"
            r"(?:(?!%22|%27|%26|%3B|%2C|%20|%7D)[^\s&'\"])+",
            re.IGNORECASE,
        ),
        r"\1" + MASK,
    ),
    (
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END|\Z)", re.DOTALL),
        MASK,
    ),
    # Headers of HTTP, in all schemes; those that have parts end with the line.
    (
        re.compile(
            r"(authorization\\*[\"']?\s*[:=]\s*\\*[\"']?(?:bearer|basic|token|apikey|negotiate)\s+)"
            r"[^\s\\'\",;]+",
            re.IGNORECASE,
        ),
        r"\1" + MASK,
    ),
    (
        re.compile(
            r"(authorization\\*[\"']?\s*[:=]\s*\\*[\"']?(?:digest|aws4-hmac-sha256)\s).*",
            re.IGNORECASE,
        ),
        r"\1" + MASK,
    ),
    (
        re.compile(
            r"\b(bearer|basic)\s+(?:(?=[\w.~+/=-]+(?-i:[A-Z0-9=]))[\w.~+/=-]{6,}"
            r"|[\w.~+/=-]{20,})",
            re.IGNORECASE,
        ),
        r"\1 " + MASK,
    ),
    # Tokens that are known by their shape.
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?"), MASK),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), MASK),
    (re.compile(r"\b(?:gh[pousr]|github_pat|glpat|xox[abp])[-_][\w-]{10,}"), MASK),
    (re.compile(r"\b(?:sk-[\w-]{20,}|hf_\w{20,}|dapi[0-9a-f]{32}\b|AIza[\w-]{30,})"), MASK),
    # "password": "value", 'password': 'value', and the same inside a text: \"password\": \"value\"
    (
        re.compile(
            r"(" + _NAMES + r""")(\\*["'])(\s*:\s*)(\\*["'])(?:(?!\4)(?:\\.|.))*+(\4|$)""",
            re.IGNORECASE | re.MULTILINE,
        ),
        r"\1\2\3\4" + MASK + r"\5",
    ),
    # <SecretAccessKey>value<
    (re.compile(r"(<" + _NAMES + r">)[^<]+", re.IGNORECASE), r"\1" + MASK),
    # name: DB_PASSWORD, and its value after it, as in a pod's environment
    (
        re.compile(
            r"(\bname\\*[\"']?\s*:\s*\\*[\"']?" + _NAMES + r"\\*[\"']?,?\s+\\*[\"']?value\\*[\"']?"
            r"\s*:\s*)(?:\\*\"[^\"]*\"|'[^']*'|[^\s,}\"']+)",
            re.IGNORECASE,
        ),
        r"\1" + MASK,
    ),
    # password: | and the lines that follow, further in
    (
        re.compile(
            r"^(?P<indent>[ \t-]*)(" + _NAMES + r"\s*:\s*[|>][+-]?\d?[ \t]*\n)"
            r"(?:(?P=indent)[ \t]+\S.*(?:\n|\Z))+",
            re.IGNORECASE | re.MULTILINE,
        ),
        r"\g<indent>\2\g<indent>  " + MASK + "\n",
    ),
    # password=value, PGPASSWORD='value'
    (re.compile(r"(" + _NAMES + r")(\s*=\s*)" + _VALUE, re.IGNORECASE), r"\1\2" + MASK),
    # password: value
    (
        re.compile(r"(?<!['\"])(" + _PASSWORDS + r")(:\s*(?![|>/\s]))" + _VALUE, re.IGNORECASE),
        r"\1\2" + MASK,
    ),
    # api-key: value. The word is common in prose, so only what ends the line or looks random.
    (
        re.compile(
            r"(?<![\w'\".-])([\w.-]*?(?:secret|token|credential|cookie|authorization)|[\w.-]+?key)"
            r"""(:\s+(?![|>]))("[^"]{4,}"$|'[^']{4,}'$|(?!\*{8})[^\s,;&)"']+(?=[\s,;]*$))""",
            re.IGNORECASE | re.MULTILINE,
        ),
        r"\1\2" + MASK,
    ),
    (
        re.compile(
            r"(?<![\w'\".-])([\w.-]*?(?:secret|token|key|credential|cookie|authorization))(:\s+)"
            r"((?=[^\s]*\d)(?=[^\s]*[A-Za-z])[\w+/=-]{16,})",
            re.IGNORECASE,
        ),
        r"\1\2" + MASK,
    ),
    # What is typed: --password value, -u user:value; ALTER ROLE x PASSWORD 'value'
    (re.compile(r"((?=--)" + _NAMES + r")\s+(?!-)\S+", re.IGNORECASE), r"\1 " + MASK),
    (
        re.compile(r"((?<=\s)(?:-u|--user)[ =]?['\"]?[^\s:'\"/]+:)(?!//)[^\s'\"]+"),
        r"\1" + MASK,
    ),
    (
        re.compile(r"\b(password|identified by)(\s+)'[^']*'", re.IGNORECASE),
        r"\1\2'" + MASK + "'",
    ),
)

# Words that Kubernetes and Postgres write after a telling name, and that explain a failure.
_HARMLESS = re.compile(
    r"^(?:not\b|is\b|was\b|does\b|authentication|none|null|true|false|missing|invalid|required"
    r"|couldn't|\"?[\w-]+\"? not found)",
    re.IGNORECASE,
)


# What says that there is no value.
_NO_VALUE = frozenset({"none", "null", "true", "false", "''", '""'})


def redact(text: str, secrets: t.Iterable[str | None] = ()) -> str:
    """Return the text with connection passwords, tokens, keys and the given secrets masked.

    Short given secrets (under 4 characters) are left alone: masking them would mangle the text
    and show them by their position.
    """
    for secret in secrets:
        if secret and len(secret) >= 4:
            text = text.replace(secret, MASK)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(functools.partial(_replace, replacement), text)
    return text


def _replace(replacement: str, match: re.Match[str]) -> str:
    """Mask a match, unless what follows the telling name is plain prose."""
    groups = match.groups()
    if len(groups) == 3 and groups[2].lower() in _NO_VALUE:
        return match.group(0)
    if len(groups) == 3 and ":" in groups[1] and _HARMLESS.match(groups[2]):
        return match.group(0)
    return match.expand(replacement)
