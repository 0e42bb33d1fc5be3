#!/usr/bin/python
# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: release_record
short_description: Keep a record of what was released, and say where a rollback goes
version_added: 0.1.0
description:
  - Private to this collection. Its options and what it returns may change in any version.
  - Keeps the last five releases of a namespace in the ConfigMap C(mlflow-releases), with images,
    the schema each one left, the backup that was taken before it, and, compressed, what it applied.
    Secrets are never among that.
  - A release is noted before its first write, and again when it serves. So it is known of one that
    was interrupted, or failed, that it was never finished.
  - Whoever writes with this holds the release lock.
author:
  - mlops.mlflow contributors (@mlops-mlflow)
options:
  namespace:
    description: The namespace of the release.
    type: str
    required: true
  state:
    description:
      - V(read) changes nothing.
      - V(begun) notes that a release is about to be applied, unless it is the newest already.
      - V(done) notes that it serves.
    type: str
    choices: [read, begun, done]
    default: read
  release:
    description:
      - What M(mlops.mlflow.release_render) returned, without C(secret_definitions). For
        O(state=begun) and O(state=done).
    type: dict
  backup:
    description: The backup taken before this release, as M(mlops.mlflow.backup_info) has it.
    type: dict
  back_to:
    description: The number of the release that this one goes back to, in a rollback.
    type: int
  schema:
    description: The state of the databases, as M(mlops.mlflow.wait_for_mlflow) returns it.
    type: dict
  target:
    description:
      - Also return where a rollback goes, and fail with the reason if there is nowhere to go.
    type: bool
    default: false
requirements:
  - kubernetes >= 24.2.0
attributes:
  check_mode:
    description: Can run in check mode, and writes nothing then.
    support: full
  diff_mode:
    description: Has nothing to compare.
    support: none
  platform:
    description: Needs Python and a network; nothing of the operating system.
    platforms: posix
    support: full
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - ansible.builtin.action_common_attributes
seealso:
  - module: mlops.mlflow.release_render
  - module: mlops.mlflow.release_lock
"""

EXAMPLES = r"""
- name: What was released here?
  mlops.mlflow.release_record:
    namespace: mlflow-production
  register: record

- name: Say it
  ansible.builtin.debug:
    msg: "{{ record.releases | map(attribute='version') }}"
"""

RETURN = r"""
releases:
  description: The releases that served, the newest first.
  returned: success
  type: list
  elements: dict
  sample:
    - number: 2
      version: 3.17.2
      image: ghcr.io/mlflow/mlflow:v3.17.2-full
      postgres_image: docker.io/library/postgres:17
      digest: 0f3c5e7a9b1d2c4e
      time: "2026-11-25T14:05:09Z"
      proof: smoke test
      schema: {tracking: dc11669786a5}
      backup: {name: 20261125T140301Z, time: "2026-11-25T14:03:01Z", revisions: {}}
      secrets: [mlflow-credentials]
pending:
  description: The release that was begun and never finished, or nothing.
  returned: success
  type: dict
needed_secrets:
  description: Secrets that one of the releases needs to be applied again.
  returned: success
  type: list
  elements: str
target:
  description: Where a rollback goes.
  returned: when O(target) is true
  type: dict
  contains:
    number:
      description: The number of that release.
      type: int
    name:
      description: How a person calls it.
      type: str
      sample: release 1 (MLflow 3.16.1)
    left:
      description: How a person calls the release that is left.
      type: str
      sample: release 2 (MLflow 3.17.2)
    schema:
      description: The revision that each database had when it was released.
      type: dict
      sample: {tracking: b7e2c1a4d9f3}
    backup:
      description: The backup taken before its schema was left, or nothing.
      type: dict
    release:
      description: What it applies, as M(mlops.mlflow.release_render) returned it, but for Secrets.
      type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import (
    AUTH_ARG_SPEC,
    Api,
    ApiError,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._release import record as _releases
from ansible_collections.mlops.mlflow.plugins.module_utils._release.records import Records, run


def main() -> None:
    """Entry point."""
    spec = dict(AUTH_ARG_SPEC)
    spec.update(
        namespace={"type": "str", "required": True},
        state={"type": "str", "choices": ["read", "begun", "done"], "default": "read"},
        release={"type": "dict"},
        backup={"type": "dict"},
        back_to={"type": "int"},
        schema={"type": "dict"},
        target={"type": "bool", "default": False},
    )
    module = AnsibleModule(
        argument_spec=spec,
        supports_check_mode=True,
        required_if=[("state", "begun", ["release"]), ("state", "done", ["release"])],
    )
    try:
        records = Records(Api.of(module), module.params["namespace"])
        result = run(records, module.params, module.check_mode)
    except (ApiError, _releases.RecordError) as error:
        module.fail_json(msg=f"{error}.")
    else:
        module.exit_json(**result)


if __name__ == "__main__":
    main()
