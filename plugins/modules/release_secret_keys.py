#!/usr/bin/python
# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: release_secret_keys
short_description: See that Secrets have the keys that a release refers to
version_added: 0.1.0
description:
  - Private to this collection. Its options and what it returns may change in any version.
  - Says which Secret or which key is missing, and what to type. Waits for them if asked to.
  - Reads the Secrets and returns nothing of what they hold. Writes nothing.
author:
  - mlops.mlflow contributors (@mlops-mlflow)
options:
  references:
    description: What has to be there.
    type: list
    elements: dict
    required: true
    suboptions:
      variable:
        description: The variable that says so, for the message.
        type: str
        required: true
      secret:
        description: Name of the Secret.
        type: str
        required: true
      key:
        description: Key in the Secret.
        type: str
        required: true
  external_secret:
    description:
      - Name of the ExternalSecret that brings them. Then they are there when it is synchronised
        as it is now, and what it says of itself is part of the failure.
    type: str
    default: ""
  timeout:
    description: For how many seconds to wait for them.
    type: int
    default: 0
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - mlops.mlflow.release
  - mlops.mlflow.attributes
  - ansible.builtin.action_common_attributes
seealso:
  - module: mlops.mlflow.release_credentials
"""

EXAMPLES = r"""
# Private to this collection: its roles are the examples.
"""

RETURN = r"""
missing:
  description: What is missing, a line each.
  returned: failure
  type: list
  elements: str
"""

import time

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import (
    AUTH_ARG_SPEC,
    Api,
    ApiError,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.errors import full_stop
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.module import Module
from ansible_collections.mlops.mlflow.plugins.module_utils._release.secret_keys import (
    REFERENCES,
    Keys,
)

# Seconds between two looks.
_PAUSE = 1.0


def main() -> None:
    """Entry point."""
    spec = dict(AUTH_ARG_SPEC)
    spec.update(
        namespace={"type": "str", "required": True},
        references={**REFERENCES, "required": True},
        external_secret={"type": "str", "default": "", "no_log": False},
        timeout={"type": "int", "default": 0},
    )
    module = Module(argument_spec=spec, supports_check_mode=True)
    written = "" if module.params["timeout"] else "Nothing was written."
    end = time.monotonic() + module.params["timeout"]
    try:
        keys = Keys(Api.of(module), module.params)
        found = keys.look()
        while found and time.monotonic() < end:
            time.sleep(_PAUSE)
            found = keys.look()
    except ApiError as error:
        module.fail_json(msg=full_stop(error, written), missing=[])
    else:
        if found:
            module.fail_json(msg=full_stop("\n".join(found), written), missing=found)
        module.exit_json(changed=False)


if __name__ == "__main__":
    main()
