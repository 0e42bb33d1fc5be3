# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules that work under the release lock have in common."""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import AUTH_ARG_SPEC, Api
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.errors import Failure, full_stop
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.module import Module
from ansible_collections.mlops.mlflow.plugins.module_utils._release.lock import (
    LEASE_ARG_SPEC,
    Progress,
    renewing,
)


def module_of(options: dict[str, t.Any], **rules: t.Any) -> Module:
    """Return a module that has these options, and those of a cluster, a release and its lock."""
    namespace = {"type": "str", "required": True}
    spec = {**AUTH_ARG_SPEC, "namespace": namespace, "lease": LEASE_ARG_SPEC, **options}
    return Module(argument_spec=spec, supports_check_mode=True, **rules)


@contextlib.contextmanager
def working(
    module: Module, progress: Progress | None = None
) -> t.Iterator[tuple[Api, Progress | None]]:
    """Yield the client, which writes only while the lock is held, and what shows progress.

    The lock is renewed meanwhile. What goes wrong ends the module with its reason.
    """
    try:
        cluster = Api.of(module)
        held = None if module.check_mode else module.params["lease"]
        # A plain with statement around a yield is what pylint warns of in ansible-test sanity.
        with contextlib.ExitStack() as stack:
            yield cluster, stack.enter_context(renewing(cluster, held, progress))
    except Failure as error:
        module.fail_json(msg=full_stop(error))
