# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one error of the Kubernetes API, in the words of the server where it has any."""

from __future__ import annotations

import json


class ApiError(Exception):
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
