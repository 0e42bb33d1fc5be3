# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say which cluster is meant, from the inventory and the environment, before talking to it.

The order is documented with mlflow_kubeconfig. The result is what kubernetes.core's modules take
as options; what only the environment names (K8S_AUTH_*, a pod's service account) they read
themselves.
"""

from __future__ import annotations

import os
import shutil
import typing as t

import yaml
from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory.types import suggestion

_TOKEN_FILE = "/var/run/secrets/kubernetes.io/serviceaccount/token"  # noqa: S105 (a path)


class Connection(t.NamedTuple):
    """Which cluster, as options for kubernetes.core, and in words for a person."""

    options: dict[str, str]
    source: str
    problems: list[str]


def _none(problem: str) -> Connection:
    return Connection({}, "", [problem])


def _read_contexts(files: list[str]) -> tuple[dict[str, t.Any], list[str], list[str]]:
    """Return what merged kubeconfig files say, the names of all contexts, and what is wrong.

    What they say is the current context, and by context the program that its user signs in with.
    """
    current = ""
    names: list[str] = []
    problems = []
    users: dict[str, str] = {}
    programs: dict[str, dict[str, t.Any]] = {}
    for path in files:
        try:
            with open(path, encoding="utf-8") as handle:
                document = yaml.safe_load(handle)
        except (OSError, UnicodeDecodeError):
            problems.append(f"{path} cannot be read")
            continue
        except yaml.YAMLError:
            # The parser's message would quote the file, and the file holds credentials.
            problems.append(f"{path} is not YAML")
            continue
        if not isinstance(document, dict) or not isinstance(document.get("contexts"), list):
            problems.append(f"{path} is not a kubeconfig: it has no contexts")
            continue
        current = current or str(document.get("current-context") or "")
        for item in filter(_is_mapping, document["contexts"]):
            names.append(str(item.get("name")))
            context = item.get("context")
            if _is_mapping(context):
                users.setdefault(names[-1], str(context.get("user")))
        known = document.get("users")
        for item in filter(_is_mapping, known if isinstance(known, list) else []):
            program = (item.get("user") or {}).get("exec") if _is_mapping(item.get("user")) else {}
            if _is_mapping(program):
                folder = os.path.dirname(path)
                programs.setdefault(str(item.get("name")), {**program, "folder": folder})
    signs_in = {name: programs.get(user) or {} for name, user in users.items()}
    return {"current": current, "signs_in": signs_in}, names, problems


def _is_mapping(item: object) -> t.TypeGuard[dict[str, t.Any]]:
    return isinstance(item, dict)


def _not_installed(program: t.Mapping[str, t.Any], path: str | None) -> str:
    """Return which program a user signs in with and is not there, and how to get it; or nothing."""
    command = str(program.get("command") or "")
    # As kubectl does: what has a slash is seen from the kubeconfig.
    place = os.path.join(program["folder"], command) if os.sep in command else command
    if not command or shutil.which(place, path=path):
        return ""
    hint = " ".join(str(program.get("installHint") or "").split())[:300]
    return f"{command}, which is not installed here or not on PATH{': ' if hint else ''}{hint}"


def _from_files(variable: str, files: list[str], context: str, programs: str | None) -> Connection:
    joined = os.pathsep.join(files)
    present = [path for path in files if os.path.isfile(path)]
    if not present:
        return _none(f"{variable}: there is no kubeconfig at {joined}")
    state, names, problems = _read_contexts(present)
    if problems:
        return Connection({}, "", [f"{variable}: {problem}" for problem in problems])
    listed = ", ".join(sorted(set(names))) or "none"
    if context and context not in names:
        return _none(
            f"mlflow_context: {joined} has no context {context!r} (it has: {listed})"
            f"{suggestion(context, names)}"
        )
    chosen = context or state["current"]
    if not chosen:
        return _none(
            f"mlflow_context: is not set, and {joined} names no current context (it has: {listed})"
        )
    if chosen not in names:
        return _none(
            f"{variable}: the current context {chosen!r} is not in {joined} (it has: {listed})"
        )
    missing = _not_installed(state["signs_in"].get(chosen) or {}, programs)
    if missing:
        return _none(f"{variable}: the context {chosen!r} signs in with {missing}")
    options = {"kubeconfig": joined, "context": chosen}
    return Connection(options, f"context {chosen}, from {variable}", [])


def choose(
    settings: t.Mapping[str, t.Any],
    environ: t.Mapping[str, str],
    token_path: str = _TOKEN_FILE,
) -> Connection:
    """Choose the cluster to talk to, or say in one line why none can be chosen."""
    context = str(settings.get("mlflow_context") or "")
    kubeconfig = str(settings.get("mlflow_kubeconfig") or "")
    host = environ.get("K8S_AUTH_HOST", "")
    if kubeconfig and host:
        return _none(
            "mlflow_kubeconfig: is set, and so is K8S_AUTH_HOST in the environment; "
            "unset one of them, they may mean different clusters"
        )
    if kubeconfig:
        path = os.path.abspath(os.path.expanduser(kubeconfig))
        return _from_files("mlflow_kubeconfig", [path], context, environ.get("PATH"))
    if host:
        return Connection({}, f"K8S_AUTH_HOST ({host})", [])
    for variable in ("KUBECONFIG", "K8S_AUTH_KUBECONFIG"):
        files = [
            os.path.abspath(os.path.expanduser(path))
            for path in environ.get(variable, "").split(os.pathsep)
            if path
        ]
        if files:
            chosen_context = context
            if variable == "K8S_AUTH_KUBECONFIG":
                chosen_context = context or environ.get("K8S_AUTH_CONTEXT", "")
            return _from_files(variable, files, chosen_context, environ.get("PATH"))
    if environ.get("KUBERNETES_SERVICE_HOST") and os.path.isfile(token_path):
        return Connection({}, "the pod's own service account", [])
    default = os.path.join(environ.get("HOME", ""), ".kube", "config")
    if os.path.isfile(default):
        return _from_files("~/.kube/config", [default], context, environ.get("PATH"))
    return _none(
        "mlflow_kubeconfig: no cluster is named; set mlflow_kubeconfig, or KUBECONFIG, or "
        "K8S_AUTH_HOST with K8S_AUTH_API_KEY in the environment"
    )
