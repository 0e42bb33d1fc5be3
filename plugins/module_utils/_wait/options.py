# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the waiting modules share: their options, and the way from options to a result."""

from __future__ import annotations

import gc
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import (
    AUTH_ARG_SPEC,
    Api,
    ApiError,
    CredentialsError,
    require_libraries,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.errors import Failure, full_stop
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import (
    Kind,
    is_built_in,
    known_kind,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.module import Module
from ansible_collections.mlops.mlflow.plugins.module_utils._release.lock import (
    LEASE_ARG_SPEC,
    renewing,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.custom_rules import (
    Rule,
    rule_of,
    wrong_rules,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.engine import Options, api_message
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import DEFAULTS
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict import Target

# What is told, now and then, what is being waited for and for how long it has been.
Show = t.Callable[[str, float], None]

CONDITIONS_ARG_SPEC: dict[str, t.Any] = {
    "type": "list",
    "elements": "dict",
    "default": [],
    "options": {
        "kind": {"type": "str", "required": True},
        "condition": {"type": "str"},
        "field": {"type": "str"},
        "value": {"type": "str"},
        "failed": {"type": "list", "elements": "str", "default": []},
    },
}
WAIT_ARG_SPEC: dict[str, dict[str, t.Any]] = {
    "conditions": CONDITIONS_ARG_SPEC,
    "timeout": {"type": "float", "default": 300},
    "tolerances": {"type": "dict", "default": {}},
    "settle": {"type": "float", "default": 10},
    "fail_fast": {"type": "bool", "default": True},
    "log_lines": {"type": "int", "default": 20},
    "lease": LEASE_ARG_SPEC,
}


def fail(module: Module, message: str, **more: t.Any) -> t.NoReturn:
    """End the module with a message and every key of the result, as the contract says."""
    module.fail_json(
        **more,
        ready=False,
        elapsed=0.0,
        requests=0,
        resources=[],
        timeline=[],
        failure=None,
        msg=message,
    )
    raise AssertionError("fail_json returned")


def wait_options(module: Module, **more: t.Any) -> Options:
    """Return the options of the wait, checked; end the module on an impossible one."""
    params = module.params
    tolerances: dict[str, float] = {}
    for name, value in params["tolerances"].items():
        if name not in DEFAULTS:
            fail(
                module, f"tolerances: {name} is not known; known are {', '.join(DEFAULTS)}.", **more
            )
        try:
            tolerances[name] = float(value)
        except (TypeError, ValueError):
            tolerances[name] = -1.0
        if not 0 <= tolerances[name] < float("inf"):
            fail(module, f"tolerances: {name} must be a number of seconds, 0 or more.", **more)
    for name in ("timeout", "settle", "log_lines"):
        if not 0 <= params[name] < 10**7:
            fail(module, f"{name} must be 0 or more.", **more)
    return Options(
        timeout=params["timeout"],
        settle=params["settle"],
        tolerances=tolerances,
        fail_fast=params["fail_fast"],
        log_lines=params["log_lines"],
        one_pass=module.check_mode,
        secrets=tuple(sorted(module.known())),
        custom=custom_rules(module, **more),
    )


def custom_rules(module: Module, **more: t.Any) -> dict[str, Rule]:
    """Return the user's rules by kind; end the module with one line on an impossible one."""
    entries = module.params["conditions"]
    for wrong in wrong_rules("conditions", entries):
        fail(module, f"{wrong}.", **more)
    return {entry["kind"]: rule_of(entry) for entry in entries}


def connect(module: Module, params: t.Mapping[str, t.Any], **more: t.Any) -> Api:
    """Return a client made of kubernetes.core's authentication options."""
    require_libraries(module)
    try:
        return Api({name: params.get(name) for name in AUTH_ARG_SPEC})
    except CredentialsError as error:
        fail(module, str(error), **more)


def find_targets(
    module: Module, api: Api, objects: list[dict[str, t.Any]], namespace: str
) -> list[Target]:
    """Turn the user's objects, references or whole definitions, into what to wait for."""
    targets = []
    for item in objects:
        flat = "metadata" not in item
        metadata = item if flat else item["metadata"]
        if not isinstance(metadata, dict) or not item.get("kind") or not metadata.get("name"):
            fail(module, "every object to wait for needs a kind and a name.")
        version = item.get("api_version") if flat else item.get("apiVersion")
        kind = _find_kind(module, api, str(item["kind"]), version, inert_allowed=not flat)
        space = (metadata.get("namespace") or namespace) if kind is None or kind.namespaced else ""
        shown = kind or Kind(version or "v1", str(item["kind"]), "")
        targets.append(Target(shown, space, str(metadata["name"]), inert=kind is None))
    return targets


def _find_kind(
    module: Module, api: Api, kind: str, version: str | None, inert_allowed: bool
) -> Kind | None:
    """Return the kind to watch, or None for one that has nothing to wait for."""
    known = known_kind(kind, version)
    if known:
        return known
    if not version or is_built_in(version):
        custom_definition = kind == "CustomResourceDefinition"
        if custom_definition:
            return Kind("apiextensions.k8s.io/v1", kind, "customresourcedefinitions", False)
        if inert_allowed:
            return None
        if not version:
            fail(
                module,
                f"resources: there is nothing to wait for in a {kind}; for a custom resource, "
                "give its api_version.",
            )
        fail(module, f"resources: there is nothing to wait for in a {kind} of {version}.")
    try:
        return api.find_kind(version, kind)
    except ApiError as error:
        if error.status == 404:
            fail(module, f"resources: there is no kind {kind}: {error.message}")
        fail(module, api_message(error))


def run(
    module: Module,
    params: t.Mapping[str, t.Any],
    wait: t.Callable[[Show | None], dict[str, t.Any]],
    progress: Show | None,
    **more: t.Any,
) -> dict[str, t.Any]:
    """Wait, and renew the release lock meanwhile if one was given.

    params are the options for the connection; wait takes what shows progress.
    """
    held = params["lease"]
    if held is None or module.check_mode:
        return wait(progress)
    try:
        with renewing(Api.of(module, params), held, progress) as renewal:
            return wait(renewal)
    except Failure as error:
        fail(module, full_stop(error), **more)


def finish(module: Module, result: dict[str, t.Any]) -> t.NoReturn:
    """End the module with a result: a failure unless all is ready, but never in check mode."""
    # As when the client was made: what came since is not worth a search either.
    gc.freeze()
    if result["ready"] or module.check_mode:
        module.exit_json(changed=False, **result)
    module.fail_json(**result)
    raise AssertionError("the module did not end")
