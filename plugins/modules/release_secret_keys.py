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
  namespace:
    description: The namespace of the release.
    type: str
    required: true
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
requirements:
  - kubernetes >= 24.2.0
attributes:
  check_mode:
    description: Reads only, so it does the same in check mode.
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
  - module: mlops.mlflow.release_credentials
"""

EXAMPLES = r"""
- name: See that the database's Secret is there
  mlops.mlflow.release_secret_keys:
    namespace: mlflow-production
    references:
      - {variable: mlflow_secrets.database-password, secret: cluster-app, key: password}
"""

RETURN = r"""
missing:
  description: What is missing, a line each.
  returned: failure
  type: list
  elements: str
"""

import time
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import (
    AUTH_ARG_SPEC,
    Api,
    ApiError,
)

_EXTERNAL_SECRETS = "external-secrets.io/v1"
# Seconds between two looks.
_PAUSE = 1.0

Object = dict[str, t.Any]


def missing(
    references: list[dict[str, str]], secrets: dict[str, Object | None], namespace: str
) -> list[str]:
    """Return a line for each reference that leads nowhere."""
    found = []
    for reference in references:
        where = f"{reference['variable']}: "
        secret, key = reference["secret"], reference["key"]
        item = secrets[secret]
        if item is None:
            found.append(
                f"{where}there is no Secret {secret} in namespace {namespace} for its key {key}; "
                f"kubectl -n {namespace} create secret generic {secret} --from-file={key}=FILE"
            )
        elif key not in (item.get("data") or {}):
            keys = ", ".join(sorted(item.get("data") or {})) or "none"
            found.append(
                f"{where}Secret {secret} in namespace {namespace} has no key {key} (it has: "
                f"{keys}); kubectl -n {namespace} edit secret {secret}, or name another key"
            )
        elif not item["data"][key]:
            found.append(
                f"{where}the key {key} of Secret {secret} in namespace {namespace} is empty; "
                f"kubectl -n {namespace} edit secret {secret}"
            )
    return found


def not_synchronised(item: Object | None, name: str) -> str:
    """Return what an ExternalSecret says of itself if it is not synchronised, else nothing."""
    if item is None:
        return f"ExternalSecret {name} is not there"
    conditions = (item.get("status") or {}).get("conditions") or []
    ready = [found for found in conditions if found.get("type") == "Ready"]
    if not ready:
        return f"ExternalSecret {name} has no status; does External Secrets run in this cluster?"
    # Synchronised is what it was when it was last looked at: its resourceVersion says which.
    seen = str((item.get("status") or {}).get("syncedResourceVersion") or "").partition("-")[0]
    now = str(item["metadata"].get("generation") or "")
    if ready[0].get("status") == "True":
        return "" if not seen or seen == now else f"ExternalSecret {name} is being synchronised"
    text = " ".join(str(ready[0].get("message") or ready[0].get("reason") or "").split())
    return f"ExternalSecret {name} is not synchronised: {text}"


class Keys:
    """The Secrets that a release refers to."""

    def __init__(self, cluster: Api, params: dict[str, t.Any]) -> None:
        self._cluster = cluster
        self._namespace = params["namespace"]
        self._references = params["references"]
        self._external = params["external_secret"]

    def _read(self, path: str, what: str) -> Object | None:
        answer = self._cluster.request("GET", path)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise ApiError(0, f"{what} cannot be read (HTTP {answer.status})")
        return answer.body

    def look(self) -> list[str]:
        """Return a line for everything that is missing now."""
        if self._external:
            item: Object = {
                "apiVersion": _EXTERNAL_SECRETS,
                "kind": "ExternalSecret",
                "metadata": {"name": self._external},
            }
            path = self._cluster.path_of(item, self._namespace)
            said = not_synchronised(
                self._read(path, f"ExternalSecret {self._external}"), self._external
            )
            if said:
                return [
                    f"{', '.join(reference['variable'] for reference in self._references)}: {said} "
                    f"(kubectl -n {self._namespace} describe externalsecret {self._external})"
                ]
        names = {reference["secret"] for reference in self._references}
        prefix = f"/api/v1/namespaces/{self._namespace}/secrets"
        secrets = {name: self._read(f"{prefix}/{name}", f"Secret {name}") for name in names}
        return missing(self._references, secrets, self._namespace)


def main() -> None:
    """Entry point."""
    spec = dict(AUTH_ARG_SPEC)
    spec.update(
        namespace={"type": "str", "required": True},
        references={
            "type": "list",
            "elements": "dict",
            "required": True,
            "no_log": False,
            "options": {
                "variable": {"type": "str", "required": True},
                "secret": {"type": "str", "required": True, "no_log": False},
                "key": {"type": "str", "required": True, "no_log": False},
            },
        },
        external_secret={"type": "str", "default": "", "no_log": False},
        timeout={"type": "int", "default": 0},
    )
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    written = "" if module.params["timeout"] else " Nothing was written."
    end = time.monotonic() + module.params["timeout"]
    try:
        keys = Keys(Api.of(module), module.params)
        found = keys.look()
        while found and time.monotonic() < end:
            time.sleep(_PAUSE)
            found = keys.look()
    except ApiError as error:
        module.fail_json(msg=f"{error}.{written}", missing=[])
    else:
        if found:
            module.fail_json(msg=f"{'; '.join(found)}.{written}", missing=found)
        module.exit_json(changed=False)


if __name__ == "__main__":
    main()
