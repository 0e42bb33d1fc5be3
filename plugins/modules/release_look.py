#!/usr/bin/python
# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at a release before anything is written."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: release_look
short_description: Look at a release before anything is written
version_added: 0.1.0
description:
  - Private to this collection. Its options and what it returns may change in any version.
  - Finds out in one process what a deployment has to know, and writes nothing. What is looked at
    follows from what is given.
  - With O(kinds), whether the cluster answers within seconds, accepts the credentials, and permits
    everything that a release needs. All that is missing is named in one message.
  - With O(references), whether the Secrets that others made are there.
  - With O(stages), what applying the release would change, object by object and by a server-side
    dry run. Defaults, admission and what others own are so taken into account. It fails on a change
    that Kubernetes does not allow, such as another selector, naming the object.
  - With O(whole), what the record says, which credentials would change, and who holds the lock.
author:
  - mlops.mlflow contributors (@mlops-mlflow)
options:
  namespace:
    description: The namespace of the release.
    type: str
    required: true
  kinds:
    description: The kinds of objects, as M(mlops.mlflow.release_render) returns them.
    type: list
    elements: dict
    suboptions:
      api_version:
        description: API version.
        type: str
        required: true
      kind:
        description: Kind.
        type: str
        required: true
  prune:
    description: Whether the release deletes what an earlier one applied.
    type: bool
    default: true
  source:
    description: Where the credentials come from, for the message.
    type: str
    default: ""
  references:
    description: The keys of Secrets that others made; see M(mlops.mlflow.release_secret_keys).
    type: list
    elements: dict
    default: []
    suboptions:
      variable:
        description: The variable that names it.
        type: str
        required: true
      secret:
        description: Name of the Secret.
        type: str
        required: true
      key:
        description: The key in it.
        type: str
        required: true
  stages:
    description: The objects by stage, as M(mlops.mlflow.release_render) returns them.
    type: dict
  secrets:
    description:
      - Names of the Secrets that the release renders. Of those that an earlier release applied, one
        is found to be pruned only if its name ends with kustomize's hash, it is not among these,
        and no release that M(mlops.mlflow.release_record) has recorded needs it.
      - If not given, no Secret is.
    type: list
    elements: str
  part_of:
    description: Value of the label C(app.kubernetes.io/part-of) on objects of the release.
    type: str
    default: mlflow
  field_manager:
    description: Name under which the release is applied.
    type: str
    default: mlops.mlflow
  whole:
    description: Whether to look at record, credentials and lock, too. Takes O(stages).
    type: bool
    default: false
  keys:
    description: As M(mlops.mlflow.release_credentials) takes them.
    type: dict
    default: {}
  values:
    description: As M(mlops.mlflow.release_credentials) takes them.
    type: str
  definitions:
    description: As M(mlops.mlflow.release_credentials) takes them.
    type: str
requirements:
  - kubernetes >= 24.2.0
attributes:
  check_mode:
    description: Reads only, so it does the same in check mode.
    support: full
  diff_mode:
    description:
      - Returns RV(diff), and RV(differences) for a task to show. Ansible itself shows a difference
        only with a task that changes something.
    support: full
  platform:
    description: Needs Python and a network; nothing of the operating system.
    platforms: posix
    support: full
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - ansible.builtin.action_common_attributes
seealso:
  - module: mlops.mlflow.release_render
  - module: mlops.mlflow.release_take_over
"""

EXAMPLES = r"""
- name: Compare the release with the cluster
  mlops.mlflow.release_look:
    stages: "{{ release.stages }}"
    namespace: "{{ release.namespace }}"
  register: difference

- name: Show what would change
  ansible.builtin.debug:
    var: difference.changes
"""

RETURN = r"""
server_version:
  description: The API server's version.
  returned: when O(kinds) is given
  type: str
  sample: v1.37.2
missing:
  description: The permissions that are missing, as C(VERB RESOURCE.GROUP), or the references.
  returned: failure
  type: list
  elements: str
namespace_exists:
  description: Whether the namespace is there.
  returned: when O(kinds) or O(stages) is given
  type: bool
changes:
  description: By stage, the objects that applying would change, as C(create KIND/NAME) or
    C(update KIND/NAME).
  returned: when O(stages) is given
  type: dict
  sample: {server: [update Deployment/mlflow]}
differences:
  description:
    - In diff mode, what would change, one thing a line, and how much that is in all. A Secret is
      named, and nothing of what it holds is shown.
  returned: when O(stages) is given
  type: list
  elements: str
diff:
  description: In diff mode, the same object by object, as Ansible shows differences.
  returned: when O(stages) is given, in diff mode
  type: list
  elements: dict
settled:
  description: By stage, whether nothing would change and nothing is left to wait for.
  returned: when O(stages) is given
  type: dict
take_over:
  description: Objects whose fields belong to C(kubectl apply), as C(KIND/NAME).
  returned: when O(stages) is given
  type: list
  elements: str
failed_jobs:
  description: Jobs of this release that have failed, as definitions to delete.
  returned: when O(stages) is given
  type: list
  elements: dict
prune:
  description: Objects of an earlier release, as definitions to delete.
  returned: when O(stages) is given
  type: list
  elements: dict
left_by_backups:
  description:
    - What Jobs of a backup or a restore needed that is no part of the release, as definitions to
      delete. It tells of a run, not of the release, and so is no difference.
  returned: when O(stages) is given
  type: list
  elements: dict
existing:
  description: Objects of the release that are there, as C(KIND/NAME).
  returned: when O(stages) is given
  type: list
  elements: str
restarts:
  description: Workloads whose pods applying would replace, as C(KIND/NAME).
  returned: when O(stages) is given
  type: list
  elements: str
image:
  description: The image that the Deployment of MLflow's server has now; empty if there is none.
  returned: when O(stages) is given
  type: str
  sample: ghcr.io/mlflow/mlflow:v3.16.1-full
offline:
  description: Objects that M(mlops.mlflow.release_offline) took out of service, as C(KIND/NAME).
  returned: when O(stages) is given
  type: list
  elements: str
warnings_of_server:
  description: What the API server warned of in the dry runs, such as pods that it would refuse.
  returned: when O(stages) is given
  type: list
  elements: str
record:
  description: RV(mlops.mlflow.release_record#module:releases) and what else that module returns.
  returned: when O(whole)
  type: dict
credentials:
  description: What M(mlops.mlflow.release_credentials) would do; names only.
  returned: when O(whole)
  type: dict
holder:
  description: Who holds the release lock; empty if nobody does.
  returned: when O(whole)
  type: str
nothing_to_do:
  description:
    - Whether the cluster has this release, the record says that it serves, and nobody is at work
      on it. Whether MLflow answers is not among it.
  returned: when O(whole)
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import (
    AUTH_ARG_SPEC,
    Api,
    ApiError,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.ownership import FIELD_MANAGER
from ansible_collections.mlops.mlflow.plugins.module_utils._release.lock import LeaseError
from ansible_collections.mlops.mlflow.plugins.module_utils._release.look import look
from ansible_collections.mlops.mlflow.plugins.module_utils._release.record import RecordError
from ansible_collections.mlops.mlflow.plugins.module_utils._release.secret_keys import REFERENCES


def main() -> None:
    """Entry point."""
    spec = dict(AUTH_ARG_SPEC)
    spec.update(
        namespace={"type": "str", "required": True},
        kinds={
            "type": "list",
            "elements": "dict",
            "options": {
                "api_version": {"type": "str", "required": True},
                "kind": {"type": "str", "required": True},
            },
        },
        prune={"type": "bool", "default": True},
        source={"type": "str", "default": ""},
        references={**REFERENCES, "default": []},
        stages={"type": "dict"},
        secrets={"type": "list", "elements": "str", "no_log": False},
        part_of={"type": "str", "default": "mlflow"},
        field_manager={"type": "str", "default": FIELD_MANAGER},
        whole={"type": "bool", "default": False},
        keys={"type": "dict", "default": {}, "no_log": False},
        # One opaque text each: were they mappings, every value such as "mlflow" would be blanked
        # out of every message.
        values={"type": "str", "no_log": True},
        definitions={"type": "str", "no_log": True},
    )
    module = AnsibleModule(
        argument_spec=spec,
        supports_check_mode=True,
        required_if=[("whole", True, ["stages"])],
    )
    source = f" ({module.params['source']})" if module.params["source"] else ""
    try:
        result = look(Api.of(module), module.params, module._diff)
    except (ApiError, LeaseError, RecordError) as error:
        module.fail_json(
            msg=f"{error}{source}. Nothing was written.", missing=getattr(error, "missing", [])
        )
    else:
        module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
