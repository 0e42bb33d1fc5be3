# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts on Jobs."""

from __future__ import annotations

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import POD
from ansible_collections.mlops.mlflow.plugins.module_utils._wait import schema
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import Problem
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.state import (
    Clock,
    Object,
    State,
    condition,
    container_statuses,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict_containers import (
    ending,
    explain_ending,
    last_failed,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict_pods import (
    pod_problems,
    progress,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict_terms import (
    PROGRESSING,
    READY,
    Rules,
    Verdict,
    leaving,
    number,
    problem_of,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict_workloads import (
    creation_problems,
)


def job_pods(item: Object, state: State) -> list[Object]:
    return state.owned(POD, item)


def judge_job(item: Object, state: State, clock: Clock, rules: Rules) -> Verdict:
    if condition(item, "Complete", "True"):
        return Verdict(READY, "completed")
    pods = job_pods(item, state)
    verdict_problem = _job_schema_problem(item, pods, rules)
    failed = condition(item, "Failed", "True") or condition(item, "FailureTarget", "True")
    if failed:
        problem = verdict_problem and verdict_problem._replace(tolerance=0.0, held=False)
        return Verdict(PROGRESSING, "failed", (problem or _job_failure(item, failed, pods),))
    if (item.get("spec") or {}).get("suspend"):
        message = f"Job {item['metadata']['name']} is suspended: it does not run"
        return Verdict(PROGRESSING, "is suspended", (problem_of(item, "paused", message),))
    problems = []
    for pod in pods:
        if not leaving(pod):
            problems += pod_problems(pod, state, clock, rules, restarts_are_normal=True)
    if verdict_problem:
        problems.append(verdict_problem)
    if not pods:
        problems += creation_problems(item, state)
    attempts = number(item, "failed")
    counts = "running" if number(item, "active") else "not started"
    if attempts:
        counts += f", {attempts} failed attempt{'s' if attempts > 1 else ''}"
    return Verdict(PROGRESSING, progress(counts, pods, state), tuple(problems))


def _job_failure(item: Object, failed: Object, pods: list[Object]) -> Problem:
    """Report a failed Job with the container that made it fail."""
    reason = str(failed.get("reason") or "Failed")
    message = f"Job {item['metadata']['name']} failed ({reason}: {failed.get('message') or ''})"
    culprit = last_failed(pods)
    if culprit is None:
        return problem_of(item, "job_failed", message)
    pod, status, ended = culprit.pod, culprit.status, culprit.ended
    return problem_of(
        item,
        "job_failed",
        f"{message}; {ending(pod, status, ended)}{_said(ended)}",
        container=str(status["name"]),
        pod=str(pod["metadata"]["name"]),
        previous=(status.get("state") or {}).get("terminated") is None,
    )


def _said(ended: Object) -> str:
    explained = explain_ending(ended)
    return f"; {explained[1]}" if explained else ""


def _job_schema_problem(item: Object, pods: list[Object], rules: Rules) -> Problem | None:
    """Report what the schema helper said when its last attempt failed.

    A Job may start a new pod for each attempt, so the clock belongs to the Job. That a schema is
    behind is what a migration is for: if that fails, it is the Job that failed.
    """
    culprit = last_failed(pods)
    if culprit is None:
        return None
    pod, status, ended = culprit.pod, culprit.status, culprit.ended
    explained = explain_ending(ended)
    if explained is None:
        return None
    reason, message = explained[0], explained[1]
    if reason in schema.MIGRATABLE:
        return None
    retrying = any(
        (entry.get("state") or {}).get("running") is not None
        for other in pods
        for entry in container_statuses(other)
    )
    return problem_of(
        item,
        reason,
        f"{message}; {ending(pod, status, ended)}",
        container=str(status["name"]),
        pod=str(pod["metadata"]["name"]),
        previous=(status.get("state") or {}).get("terminated") is None,
        held=retrying,
    )
