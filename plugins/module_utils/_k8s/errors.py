# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one error of the Kubernetes API, in the words of the server where it has any."""

from __future__ import annotations

import json
import re

# A text ends with something to type: a command, or an option for the run.
_COMMAND = re.compile(
    r"(?:^|[\s:])(?:kubectl|ansible-playbook|make|pip) [^\n]*$|-e \S+$|playbooks/\w+\.yml$"
)


class Failure(Exception):
    """Why a module cannot do what it was asked, in words for whoever runs the playbook."""


class ApiError(Failure):
    """The API server answered with an error, or could not be reached (status 0)."""

    def __init__(
        self,
        status: int,
        message: str,
        verb: str = "",
        resource: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.verb = verb
        self.resource = resource
        self.retry_after = retry_after
        # What exactly is missing, where that is the error.
        self.missing: list[str] = []


class CredentialsError(ApiError):
    """The connection options do not make a usable client."""

    def __init__(self, message: str) -> None:
        super().__init__(0, message)


def status_message(body: str) -> str:
    """Return the message of a Status object, or the start of any other text."""
    try:
        value = json.loads(body)
    except ValueError:
        return body.strip()[:300]
    return str(value.get("message") or "") if isinstance(value, dict) else ""


def first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def is_to_be_typed(text: object) -> bool:
    """Whether a text ends with something to type: what follows in its line would be copied, too."""
    return bool(_COMMAND.search(str(text)))


def full_stop(text: object, after: str = "") -> str:
    """Return a text with what is said after it, and a full stop unless it would be copied."""
    if is_to_be_typed(text):
        return f"{text}\n{after}".rstrip()
    return f"{text}{'' if str(text).endswith('?') else '.'} {after}".rstrip()
