# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a migration that runs waits for, as its log says.

The schema helper waits a quarter of an hour for its database, so that one that was away does not
cost an attempt. Meanwhile its Job is running, for all that Kubernetes can tell.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Api, ApiError
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import JOB
from ansible_collections.mlops.mlflow.plugins.module_utils._wait import schema
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.engine import CheckResult, Seen
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import Problem
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.state import Object

# As kustomize/base/schema.py prints a state: database, its head, and in brackets what is wrong.
_UNREACHABLE = re.compile(
    r"\b(tracking|auth) unreachable(?:, head \w+)?(?: \((?P<detail>.*?)\))?(?= · |$)"
)


def unreachable_in(line: str) -> schema.Verdict:
    """Return the databases that the helper cannot reach, by the last line that it wrote."""
    return {
        found[1]: {"state": "unreachable", "detail": found["detail"] or ""}
        for found in _UNREACHABLE.finditer(line)
    }


def what_it_waits_for(api: Api) -> t.Callable[[Seen], CheckResult | None]:
    """Return what the engine calls once in a while, for Jobs that are not done."""

    def learn(seen: Seen) -> CheckResult | None:
        for target, (_item, pods) in seen.items():
            for pod in pods if target.kind == JOB else []:
                container = schema.helper_runs_in(pod, init=False)
                problem = _problem(api, pod, container) if container else None
                if problem:
                    return CheckResult(False, problem.message, (problem,))
        return None

    return learn


def _problem(api: Api, pod: Object, container: str) -> Problem | None:
    metadata = pod["metadata"]
    namespace, name = str(metadata["namespace"]), str(metadata["name"])
    try:
        lines = api.logs(namespace, name, container, 1)
    except ApiError:
        # It is a help, not a condition: the account may not read logs, or the pod is going away.
        return None
    explained = schema.explain(unreachable_in(lines[-1])) if lines else None
    if explained is None:
        return None
    return Problem(
        explained[0],
        "Pod",
        namespace,
        name,
        explained[1],
        identity=str(metadata.get("uid")),
        container=container,
        pod=name,
    )
