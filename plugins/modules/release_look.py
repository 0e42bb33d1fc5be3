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
  - With both, whether the cluster can make the volumes, and whether quotas and limit ranges of the
    namespace have room for what would be created and restarted. What the account may not see is
    said.
  - With O(target), the same of the release that a rollback goes to.
  - With O(whole), what the record says, which credentials would change, and who holds the lock.
author:
  - mlops.mlflow contributors (@mlops-mlflow)
options:
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
        and no recorded release needs it.
      - If not given, no Secret is.
    type: list
    elements: str
  target:
    description:
      - Whether to look at the release that a rollback goes to, which the record has, instead of
        O(stages) and O(secrets). It is a failure, with the reason, if there is nowhere to go.
    type: bool
    default: false
  whole:
    description: Whether to look at record, credentials and lock, too. Takes O(stages).
    type: bool
    default: false
  other_postgres:
    description: Whether the bundled database may be of another major version than its volume.
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
attributes:
  diff_mode:
    description:
      - Returns RV(diff), and RV(differences) for a task to show. Ansible itself shows a difference
        only with a task that changes something.
    support: full
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - mlops.mlflow.release
  - mlops.mlflow.attributes
  - ansible.builtin.action_common_attributes
seealso:
  - module: mlops.mlflow.release_render
  - module: mlops.mlflow.release_take_over
"""

EXAMPLES = r"""
# Private to this collection: its roles are the examples.
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
  returned: when O(kinds) or O(stages) is given, or O(target)
  type: bool
changes:
  description: By stage, the objects that applying would change, as C(create KIND/NAME) or
    C(update KIND/NAME).
  returned: when O(stages) is given, or O(target)
  type: dict
  sample: {server: [update Deployment/mlflow]}
differences:
  description:
    - In diff mode, what would change, one thing a line, and how much that is in all. A Secret is
      named, and nothing of what it holds is shown.
  returned: when O(stages) is given, or O(target)
  type: list
  elements: str
diff:
  description: In diff mode, the same object by object, as Ansible shows differences.
  returned: when O(stages) is given, or O(target), in diff mode
  type: list
  elements: dict
settled:
  description: By stage, whether nothing would change and nothing is left to wait for.
  returned: when O(stages) is given, or O(target)
  type: dict
take_over:
  description: Objects whose fields belong to C(kubectl apply), as C(KIND/NAME).
  returned: when O(stages) is given, or O(target)
  type: list
  elements: str
failed_jobs:
  description: Jobs of this release that have failed, as definitions to delete.
  returned: when O(stages) is given, or O(target)
  type: list
  elements: dict
prune:
  description: Objects of an earlier release, as definitions to delete.
  returned: when O(stages) is given, or O(target)
  type: list
  elements: dict
left_by_backups:
  description:
    - What Jobs of a backup or a restore needed that is no part of the release, as definitions to
      delete. It tells of a run, not of the release, and so is no difference.
  returned: when O(stages) is given, or O(target)
  type: list
  elements: dict
existing:
  description: Objects of the release that are there, and claims of its database, as C(KIND/NAME).
  returned: when O(stages) is given, or O(target)
  type: list
  elements: str
restarts:
  description: Workloads whose pods applying would replace, as C(KIND/NAME).
  returned: when O(stages) is given, or O(target)
  type: list
  elements: str
image:
  description: The image that the Deployment of MLflow's server has now; empty if there is none.
  returned: when O(stages) is given, or O(target)
  type: str
  sample: ghcr.io/mlflow/mlflow:v3.16.1-full
grow:
  description: Claims of the database whose volumes are to be larger - C(name), C(from) and C(to).
  returned: when O(stages) is given, or O(target)
  type: list
  elements: dict
anew:
  description:
    - StatefulSets that have to be deleted without their pods and made anew, as definitions to
      delete, because their templates of claims cannot be changed.
  returned: when O(stages) is given, or O(target)
  type: list
  elements: dict
notes:
  description: What of the release is left as it is, and how it is.
  returned: when O(stages) is given, or O(target)
  type: list
  elements: str
not_ours:
  description: Kinds of the release that are there and that this account may not change.
  returned: when O(stages) is given, or O(target)
  type: list
  elements: str
  sample: [Namespace]
offline:
  description: Objects that M(mlops.mlflow.release_offline) took out of service, as C(KIND/NAME).
  returned: when O(stages) is given, or O(target)
  type: list
  elements: str
warnings_of_server:
  description: What the API server warned of in the dry runs, such as pods that it would refuse.
  returned: when O(stages) is given, or O(target)
  type: list
  elements: str
advice:
  description: What to know before the first write - a line each, which is a warning, too.
  returned: when O(kinds) and O(stages) are given
  type: list
  elements: str
rotating:
  description: Which secrets a rotation is about that was begun and not finished.
  returned: success
  type: list
  elements: str
  sample: [database-password]
record:
  description: What was released here, from the ConfigMap C(mlflow-releases).
  returned: when O(whole)
  type: dict
  contains:
    releases:
      description: The releases that served, the newest first.
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
      type: dict
target:
  description: Where a rollback goes.
  returned: when O(target)
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

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import AUTH_ARG_SPEC, Api
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.errors import (
    Failure,
    full_stop,
    is_to_be_typed,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.module import Module
from ansible_collections.mlops.mlflow.plugins.module_utils._release.look import look
from ansible_collections.mlops.mlflow.plugins.module_utils._release.rotation import unfinished
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
        target={"type": "bool", "default": False},
        whole={"type": "bool", "default": False},
        other_postgres={"type": "bool", "default": False},
        keys={"type": "dict", "default": {}, "no_log": False},
        # One opaque text each: were they mappings, every value such as "mlflow" would be blanked
        # out of every message.
        values={"type": "str", "no_log": True},
        definitions={"type": "str", "no_log": True},
    )
    module = Module(
        argument_spec=spec,
        supports_check_mode=True,
        required_if=[("whole", True, ["stages"])],
    )
    source = f" ({module.params['source']})" if module.params["source"] else ""
    try:
        result = look(Api.of(module), module.params, module._diff)
    except Failure as error:
        where = error if is_to_be_typed(error) else f"{error}{source}"
        module.fail_json(
            msg=full_stop(where, "Nothing was written."), missing=getattr(error, "missing", [])
        )
    else:
        for text in result.get("warnings_of_server") or []:
            module.warn(f"The API server says of {text}")
        for text in result.get("advice") or []:
            module.warn(text)
        if result.get("rotating"):
            module.warn(unfinished(result["rotating"]))
        module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
