# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take secrets out of text that came from logs, events and error messages."""

from __future__ import annotations

import functools
import re
import typing as t

MASK = "********"

_NAMES = (
    r"[\w.-]*(?:pass(?:word|wd|phrase)?|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key"
    r"|credential|authorization|cookie|session[_-]?key|encryption[_-]?key)[\w.-]*"
)

_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # scheme://user:password@host, and scheme://token@host. A password may hold an @ itself.
    (
        re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s/:@'\"]*):[^\s'\"]*@", re.IGNORECASE),
        r"\1:" + MASK + "@",
    ),
    (
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END|\Z)", re.DOTALL),
        MASK,
    ),
    (re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{6,}", re.IGNORECASE), r"\1 " + MASK),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?"), MASK),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), MASK),
    (re.compile(r"\b(?:gh[pousr]|glpat|xox[abp])[-_][\w-]{10,}"), MASK),
    # "password": "value", 'password': 'value'
    (
        re.compile(
            r"""(["'])(""" + _NAMES + r""")\1(\s*:\s*)(["'])(?:\\.|(?!\4).)*\4""",
            re.IGNORECASE,
        ),
        r"\1\2\1\3\4" + MASK + r"\4",
    ),
    # password=value, PGPASSWORD='value'
    (
        re.compile(
            r"(?<![\w'\"])(" + _NAMES + r")(\s*=\s*)"
            r"""("[^"]*"|'[^']*'|(?!\*{8})[^\s,;&)"']+)""",
            re.IGNORECASE,
        ),
        r"\1\2" + MASK,
    ),
    # password: value
    (
        re.compile(
            r"(?<![\w'\".-])([\w.-]*(?:pass(?:word|wd|phrase)?|pwd))(:\s+)"
            r"""("[^"]*"|'[^']*'|(?!\*{8})[^\s,;&)"']+)""",
            re.IGNORECASE,
        ),
        r"\1\2" + MASK,
    ),
    # api-key: value. The word is common in prose, so only what ends the line or looks random.
    (
        re.compile(
            r"(?<![\w'\".-])([\w.-]*(?:secret|token|key|credential|cookie|authorization))(:\s+)"
            r"""("[^"]*"$|'[^']*'$|(?!\*{8})[^\s,;&)"']+(?=[\s,;]*$)"""
            r"""|(?=[^\s]*\d)(?=[^\s]*[A-Za-z])[\w+/=-]{16,})""",
            re.IGNORECASE | re.MULTILINE,
        ),
        r"\1\2" + MASK,
    ),
    (re.compile(r"(--" + _NAMES + r")\s+(?!-)\S+", re.IGNORECASE), r"\1 " + MASK),
)

# Words that Kubernetes and Postgres write after a telling name, and that explain a failure.
_HARMLESS = re.compile(
    r"^(?:not\b|is\b|was\b|does\b|authentication|none|null|true|false|missing|invalid|required"
    r"|couldn't|\"?[\w-]+\"? not found)",
    re.IGNORECASE,
)


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
    if len(groups) == 3 and ":" in groups[1] and _HARMLESS.match(groups[2]):
        return match.group(0)
    return match.expand(replacement)
