#!/usr/bin/python
# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: release_credentials
short_description: See that the credentials of a release are in its Secret
version_added: 0.1.0
description:
  - Private to this collection. Its options and what it returns may change in any version.
  - Keeps every value that the Secret has, sets those that are given, and generates those that are
    neither, once. The cluster's Secret is the only place where they are.
  - Applies the Secrets that the overlay renders, if it renders any.
  - No value is ever part of a result, a difference, an error or a log; only names of keys are.
  - When values change under a database or a server that is there, the Secret is marked, and
    RV(restart) stays set until O(state=restarted) clears the mark. So a run that was interrupted
    before the restart is finished by the next.
author:
  - mlops.mlflow contributors (@mlops-mlflow)
options:
  state:
    description:
      - V(present) sees to the values.
      - V(restarted) notes that everything runs with the values the Secret has now.
    type: str
    choices: [present, restarted]
    default: present
  keys:
    description:
      - The keys that must be there, and how a missing one is generated. V(password) and V(key) are
        random text, V(fernet) is a Fernet key, V(username) is V(mlflow), V(admin) is V(admin).
    type: dict
    default:
      database-username: username
      database-password: password
      flask-secret-key: key
      webhook-encryption-key: fernet
      kek-passphrase: key
  values:
    description:
      - JSON text of a mapping from keys to values that are given. Empty values count as not given.
    type: str
  definitions:
    description:
      - JSON text of the Secrets that the overlay renders, as M(mlops.mlflow.release_render)
        returns them.
    type: str
attributes:
  diff_mode:
    description: There is no difference to show that would not be a secret.
    support: none
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - mlops.mlflow.release
  - mlops.mlflow.lease
  - mlops.mlflow.attributes
  - ansible.builtin.action_common_attributes
seealso:
  - module: mlops.mlflow.release_render
"""

EXAMPLES = r"""
# Private to this collection: its roles are the examples.
"""

RETURN = r"""
created:
  description: Names of the Secrets that were not there.
  returned: success
  type: list
  elements: str
generated:
  description: Names of the keys whose values were generated.
  returned: success
  type: list
  elements: str
updated:
  description: Names of the keys whose values were changed.
  returned: success
  type: list
  elements: str
restart:
  description:
    - A word that changes with the values, as long as something still runs with older ones; empty
      when nothing has to be restarted.
  returned: success
  type: str
"""

from ansible_collections.mlops.mlflow.plugins.module_utils._release.credentials import (
    DEFAULT_KEYS,
    run,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._release.work import module_of, working


def main() -> None:
    """Entry point."""
    module = module_of(
        {
            "state": {"type": "str", "choices": ["present", "restarted"], "default": "present"},
            "keys": {"type": "dict", "default": DEFAULT_KEYS, "no_log": False},
            # One opaque text each: were they mappings, every value such as "mlflow" would be
            # blanked out of every message.
            "values": {"type": "str", "no_log": True},
            "definitions": {"type": "str", "no_log": True},
        }
    )
    with working(module) as (cluster, _progress):
        module.exit_json(**run(cluster, module.params, module.check_mode))


if __name__ == "__main__":
    main()
