# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts on Jobs."""

from __future__ import annotations

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import POD
from ansible_collections.mlops.mlflow.plugins.module_utils._wait import schema
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import (
    UNTIL_TIMEOUT,
    Problem,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.shape import whole
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.state import (
    Clock,
    Object,
    State,
    condition,
    wall_seconds,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict_containers import (
    Culprit,
    ending,
    explain_ending,
    is_native_sidecar,
    is_sidecar,
    last_failed,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict_pods import (
    fallen_problems,
    lingering,
    pod_problems,
    progress,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict_terms import (
    OLD_ENDING,
    PROGRESSING,
    READY,
    Rules,
    Verdict,
    counted,
    identity,
    leaving,
    number,
    problem_of,
    until_retried,
    why_it_ended,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict_workloads import (
    creation_problems,
)

# A Job's first pause between two attempts, which doubles each time, and the longest (s).
_FIRST_PAUSE = 10.0
_LONGEST_PAUSE = 360.0


def job_pods(item: Object, state: State) -> list[Object]:
    """Return the pods of a Job, those that have ended included."""
    return state.owned(POD, item)


def judge_job(item: Object, state: State, clock: Clock, rules: Rules) -> Verdict:
    """Judge a Job."""
    if condition(item, "Complete", "True"):
        return Verdict(READY, "completed")
    pods = job_pods(item, state)
    verdict_problem = _job_schema_problem(item, pods, clock, rules)
    failed = condition(item, "Failed", "True") or condition(item, "FailureTarget", "True")
    if failed:
        problem = verdict_problem and verdict_problem._replace(
            tolerance=0.0, held=False, until=None
        )
        return Verdict(PROGRESSING, "failed", (problem or _job_failure(item, failed, pods),))
    stands_still = _stands_still(item)
    if stands_still:
        return Verdict(PROGRESSING, stands_still.message, (stands_still,))
    problems = _lost_indexes(item, pods)
    for pod in pods:
        if not leaving(pod):
            problems += pod_problems(pod, state, clock, rules, restarts_are_normal=True)
            problems += _held_open(item, pod)
    problems += fallen_problems(item, item, pods, state, rules)
    if verdict_problem:
        problems.append(verdict_problem)
    if not pods:
        problems += creation_problems(item, state, clock, rules)
    problems += lingering(pods, clock)
    attempts = number(item, "failed")
    counts = "running" if number(item, "active") else "not started"
    if attempts:
        counts += f", {counted(attempts, 'failed attempt')}"
    if not any(problem.reason == "job_failed" for problem in problems) and not verdict_problem:
        problems += _failed_attempt(item, pods, attempts)
    return Verdict(PROGRESSING, progress(counts, pods, state), tuple(problems))


# Who has this label is started by Kueue, when its turn comes.
_QUEUE = "kueue.x-k8s.io/queue-name"


def _stands_still(item: Object) -> Problem | None:
    """Report a Job that does not run at all, or None."""
    spec, name = item.get("spec") or {}, item["metadata"]["name"]
    queue = (item["metadata"].get("labels") or {}).get(_QUEUE)
    if spec.get("suspend") and queue:
        message = f"Job {name} waits in the queue {queue}"
        return problem_of(item, "blocked", message, tolerance=UNTIL_TIMEOUT)
    if spec.get("suspend"):
        return problem_of(item, "paused", f"Job {name} is suspended: it does not run")
    if spec.get("parallelism") == 0:
        message = f"Job {name} may run no pod (its parallelism is 0): it does not run"
        return problem_of(item, "paused", message)
    return None


def _job_failure(item: Object, failed: Object, pods: list[Object]) -> Problem:
    """Report a failed Job with the container that made it fail."""
    reason = str(failed.get("reason") or "Failed")
    message = f"Job {item['metadata']['name']} failed ({reason}: {failed.get('message') or ''})"
    return _with_culprit(item, message, pods)


def _with_culprit(item: Object, message: str, pods: list[Object]) -> Problem:
    culprit = last_failed(pods)
    if culprit is not None:
        return problem_of(
            item,
            "job_failed",
            f"{message}; {ending(*culprit)}{_said(culprit.ended)}",
            container=str(culprit.status["name"]),
            pod=str(culprit.pod["metadata"]["name"]),
            previous=_runs_again(culprit),
        )
    ended = [pod for pod in pods if why_it_ended(pod)]
    if ended:
        name = ended[-1]["metadata"]["name"]
        message += f"; pod {name} was ended ({why_it_ended(ended[-1])})"
    return problem_of(item, "job_failed", message)


def _runs_again(culprit: Culprit) -> bool:
    return (culprit.status.get("state") or {}).get("terminated") is None


def _said(ended: Object) -> str:
    explained = explain_ending(ended)
    return f"; {explained[1]}" if explained else ""


def _lost_indexes(item: Object, pods: list[Object]) -> list[Problem]:
    """Report an index that has failed for good: a Job that needs all of them fails in the end."""
    lost = (item.get("status") or {}).get("failedIndexes")
    if not lost:
        return []
    message = f"Job {item['metadata']['name']} has lost its index {lost} for good"
    # It may have been told that some are enough.
    may_do = bool((item.get("spec") or {}).get("successPolicy"))
    return [_with_culprit(item, message, pods)._replace(held=may_do)]


def _failed_attempt(item: Object, pods: list[Object], attempts: int) -> list[Problem]:
    """Say what the last attempt failed of, while there are more to come."""
    culprit = last_failed(pods)
    if not attempts and culprit is None:
        return []
    words = f"{counted(attempts, 'attempt')} of Job" if attempts else "an attempt of Job"
    message = f"{words} {item['metadata']['name']} failed, and it tries again"
    return [_with_culprit(item, message, pods)._replace(held=True)]


def _held_open(item: Object, pod: Object) -> list[Problem]:
    """Report a pod that cannot end, as a container beside the main one runs on.

    Whoever has several containers that work side by side waits for all of them: so only what is
    known to be a sidecar is called a fault before the time is up.
    """
    spec = pod.get("spec") or {}
    done, running = [], []
    for status in (pod.get("status") or {}).get("containerStatuses") or []:
        state = status.get("state") or {}
        name = str(status["name"])
        ended = state.get("terminated")
        if ended and (
            whole(ended.get("exitCode")) == 0 or spec.get("restartPolicy") != "OnFailure"
        ):
            done.append(name)
        elif state.get("running") is not None:
            running.append(name)
        else:
            return []
    done = [name for name in done if not is_sidecar(pod, name)]
    if not done or not running or any(is_native_sidecar(pod, name) for name in running):
        return []
    beside = all(is_sidecar(pod, name) for name in running)
    name = str(pod["metadata"]["name"])
    message = (
        f"{' and '.join(done)} of pod {name} has ended, {' and '.join(running)} still runs: Job "
        f"{item['metadata']['name']} ends only with it"
    )
    return [
        problem_of(
            pod,
            "blocked",
            message,
            container=running[0],
            pod=name,
            tolerance=None if beside else UNTIL_TIMEOUT,
        )
    ]


def _job_schema_problem(
    item: Object, pods: list[Object], clock: Clock, rules: Rules
) -> Problem | None:
    """Report what the schema helper said when its last attempt failed.

    A Job may start a new pod for each attempt, so the clock belongs to the Job. That a schema is
    behind is what a migration is for: if that fails, it is the Job that failed.
    """
    culprit = last_failed(pods)
    if culprit is None:
        return None
    pod, status, ended = culprit
    explained = explain_ending(ended)
    if explained is None:
        return None
    reason, message = explained[0], explained[1]
    if reason in schema.MIGRATABLE:
        return None
    running = (status.get("state") or {}).get("running") is not None
    others = [one for one in pods if not leaving(one) and identity(one) != identity(pod)]
    pause = _FIRST_PAUSE * 2.0 ** min(10, max(0, number(item, "failed") - 1))
    return problem_of(
        item,
        reason,
        f"{message}; {ending(pod, status, ended)}",
        container=str(status["name"]),
        pod=str(pod["metadata"]["name"]),
        previous=_runs_again(culprit),
        held=running or bool(others),
        until=until_retried(
            wall_seconds(ended.get("finishedAt")),
            min(_LONGEST_PAUSE, pause),
            OLD_ENDING,
            clock,
            rules,
        ),
    )
