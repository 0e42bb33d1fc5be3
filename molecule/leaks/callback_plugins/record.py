"""Writes down every result as a callback sees it: what AWX, ARA or a log shipper would store."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: record
type: notification
short_description: Write every result into a file
description: For the tests' hunt for leaked secrets.
requirements:
  - E(MLFLOW_TEST_RECORD) names the file
"""


class CallbackModule(CallbackBase):
    """Records results."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "record"
    CALLBACK_NEEDS_ENABLED = True

    def v2_on_any(self, *arguments: Any, **_named: Any) -> None:
        """Write down whatever comes."""
        with open(os.environ["MLFLOW_TEST_RECORD"], "a", encoding="utf-8") as file:
            for argument in arguments:
                found = getattr(argument, "result", None) or getattr(argument, "_result", None)
                if found is not None:
                    file.write(json.dumps(found, default=repr) + "\n")
