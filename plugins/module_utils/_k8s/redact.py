# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take secrets out of text that came from logs, events and error messages.

First everything that the run knows to be a secret, in whatever spelling (_k8s.spellings); then
what has the form of one (_k8s.forms).
"""

from __future__ import annotations

import re
import typing as t
from urllib.parse import parse_qsl, unquote, unquote_plus, urlsplit

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s import spellings
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.forms import MASK, mask_forms

__all__ = ["MASK", "Redactor", "known_in", "redact", "secrets_within"]

_TELLING = re.compile(
    r"pass(?:word|wd|phrase)|pwd|secret|token|api_?key|access_?key|private_?key|encryption_?key"
    r"|credential|authorization",
    re.IGNORECASE,
)
# The folder that a shell is in has a telling name, too.
_ABOUT = re.compile(
    r"^(?:OLD)?PWD$|(?:_FILE|_PATH|_NAME|_DIR|_TYPE|_EXPIRATION|_ID)$", re.IGNORECASE
)
# What an option has when it says nothing.
_NOTHING = frozenset({"none", "null", "true", "false", "default", "localhost"})


def _userinfo(uri: str) -> set[str]:
    """Return the password in an address, as it stands there and as it is meant."""
    found = re.match(r"\s*[A-Za-z][\w+.-]*://(.*)@", uri, re.DOTALL)
    if not found or ":" not in found[1]:
        return set()
    password = found[1].partition(":")[2]
    passwords = {password}
    # A user of Azure has an @ in the name.
    if "@" in found[1].partition(":")[0]:
        passwords.add(found[1].rpartition(":")[2])
    return (
        passwords | {unquote(one) for one in passwords} | {unquote_plus(one) for one in passwords}
    )


def secrets_within(value: str) -> set[str]:
    """Return the passwords that a longer value holds: an address, a libpq connection string."""
    found = _userinfo(value)
    if "://" in value:
        try:
            query = urlsplit(value).query
        except ValueError:
            query = ""
        for name, item in parse_qsl(query):
            if _TELLING.search(name):
                found |= {item}
    for quoted, bare in re.findall(r"\bpassword\s*=\s*(?:'((?:[^'\\]|\\.)*)'|(\S+))", value):
        found |= {re.sub(r"\\(.)", r"\1", quoted or bare), quoted or bare}
    return {one for one in found if one}


def _parts(password: str) -> set[str]:
    """Return what a driver may take for host, port or database of an address with this password."""
    found: set[str] = set()
    # What is longer, a key for one, is in no address.
    for match in re.finditer(r"[@:/?#]", password) if len(password) <= 64 else ():
        rest = password[match.end() :]
        if len(rest) >= 6 and not (rest.isalpha() and rest.islower()):
            found.add(rest)
    return found


def known_in(environment: t.Mapping[str, str]) -> set[str]:
    """Return the secrets in an environment, by their names and by what addresses hold."""
    found: set[str] = set()
    for name, value in environment.items():
        if _TELLING.search(name) and not _ABOUT.search(name):
            found.add(value)
        found |= secrets_within(value)
    return found


class Redactor:
    """Takes secrets out of texts. What it is told to know is gone from then on."""

    def __init__(self, known: t.Iterable[t.Any] = ()) -> None:
        """Take everything that is known to be a secret; what is no text or empty is passed over.

        A secret under 4 characters is left alone: masking it would mangle texts, and show it by
        its position.
        """
        self._pieces: list[str] = []
        self.learn(*known)

    def learn(self, *values: t.Any) -> None:
        """Know more secrets. Of an address, the password in it is one too."""
        found = set(self._pieces)
        for value in values:
            text = "" if value is None or isinstance(value, bool) else str(value)
            if text.strip().lower() in _NOTHING:
                continue
            for secret in {text, *secrets_within(text)}:
                found |= set(spellings.pieces(secret))
                if "://" not in secret:
                    found |= _parts(secret)
        # The longest first: what is left of it would not be known.
        self._pieces = sorted(found, key=lambda piece: (-len(piece), piece))

    def __call__(self, text: str) -> str:
        """Return the text with what is known, and what looks like a secret, masked."""
        for piece in self._pieces:
            text = spellings.mask(text, piece, MASK)
        return mask_forms(text)

    def within(self, value: t.Any) -> t.Any:
        """Return a structure with every text in it redacted; its keys stay."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, dict):
            return {name: self.within(item) for name, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.within(item) for item in value]
        return value


def redact(text: str, secrets: t.Iterable[str | None] = ()) -> str:
    """Return the text with connection passwords, tokens, keys and the given secrets masked."""
    return Redactor(secrets)(text)
