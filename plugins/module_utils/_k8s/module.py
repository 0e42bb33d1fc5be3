# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible's module, which says nothing that is known to be a secret, or that looks like one."""

from __future__ import annotations

import os
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.redact import Redactor, known_in

# What a person reads of a result. The rest is data that other tasks take as it is.
_SAID = ("msg", "report", "notes", "exception")


def _texts(value: t.Any) -> t.Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _within(value: t.Any, *keys: str) -> t.Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _secrets_of(kubeconfig: t.Any) -> set[str]:
    """Return what is secret in a kubeconfig: what its users have, and not how they are called."""
    users = _within(kubeconfig, "users")
    found: set[str] = set()
    for entry in users if isinstance(users, list) else ():
        user = _within(entry, "user")
        variables = _within(user, "exec", "env")
        values = [_within(user, key) for key in _USERS]
        values += [_within(user, "auth-provider", "config")]
        values += [_within(one, "value") for one in variables or () if isinstance(one, dict)]
        found |= set(_texts(values))
    return found


_USERS = ("token", "password", "client-key-data", "client-certificate-data")


class Module(AnsibleModule):
    """Every module of the collection that talks to a cluster, or to what runs there."""

    def __init__(self, *arguments: t.Any, **options: t.Any) -> None:
        """Know what is secret among the options.

        To Ansible all of O(kubeconfig) is, a path too: words such as the cluster's name would be
        masked wherever they stand.
        """
        super().__init__(*arguments, **options)
        kubeconfig = self.params.get("kubeconfig")
        others = {
            str(self.params.get(name))
            for name, option in self.argument_spec.items()
            if option.get("no_log") and name != "kubeconfig"
        }
        self.no_log_values -= set(_texts(kubeconfig)) - others
        self.no_log_values |= _secrets_of(kubeconfig)

    def known(self) -> set[str]:
        """Return what this run knows to be secret: options that are, and the environment's."""
        values = getattr(self, "no_log_values", ())
        return {str(value) for value in values} | known_in(os.environ)

    def exit_json(self, **result: t.Any) -> t.NoReturn:
        """End with a result."""
        super().exit_json(**self._redacted(result))
        raise AssertionError("exit_json returned")

    def fail_json(self, msg: str, **result: t.Any) -> t.NoReturn:
        """End with a failure."""
        super().fail_json(**self._redacted({**result, "msg": msg}))
        raise AssertionError("fail_json returned")

    def warn(self, warning: str, **more: t.Any) -> None:
        """Warn of something, also where the module ends well."""
        super().warn(Redactor(self.known())(warning), **more)

    def _redacted(self, result: dict[str, t.Any]) -> dict[str, t.Any]:
        said = {name: result[name] for name in _SAID if result.get(name)}
        return {**result, **Redactor(self.known()).within(said)} if said else result
