# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts: pure functions of the objects known and a clock, for the current revision only.

Nothing here talks to a cluster or sleeps. A verdict says whether an object is ready, and lists
what stands in the way; how long that may last is the business of reasons. What there is to say
about each kind stands in verdict_workloads, verdict_pods and their like.
"""

from __future__ import annotations

import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import (
    CLAIM,
    DAEMON_SET,
    DEPLOYMENT,
    JOB,
    POD,
    STATEFUL_SET,
    Kind,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.state import Clock, Object, State
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict_custom import judge_custom
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict_jobs import (
    job_pods,
    judge_job,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict_pods import (
    activity,
    judge_pod,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict_terms import (
    PROGRESSING,
    READY,
    Rules,
    Target,
    Verdict,
    leaving,
    missing,
    one_line,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict_volumes import judge_claim
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict_workloads import (
    daemon_set_pods,
    deployment_pods,
    judge_daemon_set,
    judge_deployment,
    judge_stateful_set,
    newest_replica_set,
    stateful_set_pods,
)

# What the rest of the collection takes from here.
__all__ = [
    "PROGRESSING",
    "READY",
    "Rules",
    "Target",
    "Verdict",
    "activity",
    "current_pods",
    "judge",
    "newest_replica_set",
    "one_line",
]


def judge(target: Target, state: State, clock: Clock, rules: Rules) -> Verdict:
    """Say whether an object is ready, and what stands in the way."""
    if target.inert:
        return Verdict(READY, "nothing to wait for")
    item = state.get(target.kind, target.namespace, target.name)
    if item is None:
        return _done(target, state, clock) or Verdict(
            PROGRESSING, "does not exist", (missing(target, "does not exist"),)
        )
    if item["metadata"].get("deletionTimestamp"):
        return _done(target, state, clock) or Verdict(
            PROGRESSING, "is being deleted", (missing(target, "is being deleted"),)
        )
    function = _JUDGES.get(target.kind)
    if function:
        verdict = function(item, state, clock, rules)
    else:
        verdict = judge_custom(item, target.kind, rules)
    # What is wrong with a surplus pod does not matter to an object that is ready.
    return verdict._replace(problems=()) if verdict.status == READY else verdict


def current_pods(target: Target, state: State) -> list[Object]:
    """Return the pods of a workload's current revision that are not going away."""
    item = state.get(target.kind, target.namespace, target.name)
    if item is None:
        return []
    if target.kind == POD:
        return [item]
    finder = _PODS.get(target.kind)
    pods = finder(item, state) if finder else []
    # A Job's pods are of interest when they have ended, too.
    return pods if target.kind == JOB else [pod for pod in pods if not leaving(pod)]


def _done(target: Target, state: State, clock: Clock) -> Verdict | None:
    """Judge what is gone, or about to go, because it has done its work; None where it has not."""
    completed = state.completed(target.kind, target.namespace, target.name)
    if completed is None:
        return None
    left = completed.sure - clock.now
    if left > 0:
        words = "completed, and is being deleted: another one may take its place"
        return Verdict(PROGRESSING, words, recheck=left)
    return Verdict(READY, "completed, and was cleaned up")


_Judge = t.Callable[[Object, State, Clock, Rules], Verdict]
_JUDGES: dict[Kind, _Judge] = {
    DEPLOYMENT: judge_deployment,
    STATEFUL_SET: judge_stateful_set,
    DAEMON_SET: judge_daemon_set,
    JOB: judge_job,
    POD: judge_pod,
    CLAIM: judge_claim,
}
_PODS: dict[Kind, t.Callable[[Object, State], list[Object]]] = {
    DEPLOYMENT: deployment_pods,
    STATEFUL_SET: stateful_set_pods,
    DAEMON_SET: daemon_set_pods,
    JOB: job_pods,
}
