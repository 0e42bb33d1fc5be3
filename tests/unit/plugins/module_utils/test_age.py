# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Evidence has an age: what was so before is no proof of what is so now."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import POD
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import (
    LAPSE,
    Problem,
    Tracker,
)
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.streams import (
    COMPLETE,
    DB,
    FAILED,
    MIGRATE,
    WEB,
    Down,
    Gone,
    Object,
    Up,
    condition,
    deployment,
    ended,
    event,
    job,
    looping,
    outcome,
    play,
    pod,
    replica_set,
    running,
    stamp,
    stateful_set,
    told,
    waiting,
)

BACK_OFF = "Back-off restarting failed container main in pod web-2-a"
BEHIND = '{"tracking": {"state": "behind", "current": "a", "head": "b"}}'
UNREACHABLE = '{"tracking": {"state": "unreachable", "head": "b"}}'
NOT_FOUND = "reg.example/app:1: not found"


def web(*items: Object) -> list[t.Any]:
    """Return the first lists of a rollout of web that is not available."""
    return [(0, [deployment(), replica_set(), *items])]


def then_ready(at: float, **more: t.Any) -> list[t.Any]:
    """Return the steps by which its pod starts, and is ready ten seconds later."""
    up = {**running(at), **more}
    return [(at, [pod(up)]), (at + 10, [pod(up, ready=True), deployment(1)])]


# --- Of before this try --------------------------------------------------------------------------


@pytest.mark.parametrize("restarts", [1, 2, 6])
def test_an_init_container_that_has_completed_is_past(restarts: int) -> None:
    """However often it failed before, and whatever the kubelet announced then."""
    done = {**looping(restarts, ended(1, -40, -38)), "state": ended(0, -3, -1), "ready": True}
    first = pod(running(-1), init=done)
    said = event(first, "BackOff", "Back-off restarting failed container init", at=-30)
    second = pod(running(-1), init=done, ready=True)
    assert outcome(play([*web(first, said), (20, [second, deployment(1)])])) == "ready"


def test_a_back_off_of_long_ago_says_nothing_of_an_ending_of_now() -> None:
    """Events last an hour: this one is of 43 minutes before, and 40 minutes of running between."""
    was = {"lastState": ended(1, -2500, -2490)}
    first = pod({"restartCount": 3, **running(-2400), **was}, ready=True)
    said = event(first, "BackOff", BACK_OFF, at=-2600, path="spec.containers{main}")
    down = pod({"restartCount": 3, "state": ended(1, -2400, 5), **was})
    again = {"restartCount": 4, **running(6.5), "lastState": ended(1, -2400, 5)}
    steps = [*web(first, said), (5, [down]), (6.5, [pod(again)])]
    result = play([*steps, (15, [pod(again, ready=True), deployment(1)])])
    assert outcome(result) == "ready"


def test_a_back_off_of_now_does() -> None:
    """The same stream, with the back-off after the ending: that can fail."""
    first = pod({"restartCount": 1, **running(-20)}, ready=True)
    down = pod({"restartCount": 1, "state": ended(1, -20, 5)})
    said = event(down, "BackOff", BACK_OFF, at=5, path="spec.containers{main}")
    result = play([(0, [deployment(), replica_set(), first]), (5, [down]), (5.2, [said])])
    assert outcome(result) == "crash_loop"
    assert result["elapsed"] < 7


@pytest.mark.parametrize("code", [1, 0, 137, 143])
def test_a_container_that_runs_again_may_stay(code: int) -> None:
    """It was restarted twice, perhaps because it was told to (a resize in place)."""
    main = {"restartCount": 2, **running(-2), "lastState": ended(code, -200, -3)}
    steps = [*web(pod(main)), (20, [pod(main, ready=True), deployment(1)])]
    assert outcome(play(steps)) == "ready"


def test_and_when_it_ends_once_more_it_has_not() -> None:
    """What was held back counts as soon as the try has ended."""
    main = {"restartCount": 2, **running(-2), "lastState": ended(1, -20, -3)}
    down = {"restartCount": 2, "state": ended(1, -2, 7), "lastState": ended(1, -20, -3)}
    result = play([*web(pod(main)), (7, [pod(down)])])
    assert (outcome(result), result["elapsed"]) == ("crash_loop", pytest.approx(7.25, abs=0.1))


@pytest.mark.parametrize("shown", ["ErrImagePull", "ImagePullBackOff"])
def test_a_pull_that_is_under_way_has_not_failed(shown: str) -> None:
    """The status keeps what the last one failed of."""
    first = pod(waiting(shown, "dial tcp: i/o timeout"))
    events = [event(first, "Failed", "Failed to pull image: i/o timeout", at=-20)]
    events.append(event(first, "Pulling", 'Pulling image "reg.example/app:1"', at=-2))
    assert outcome(play([*web(first, *events), *then_ready(90)])) == "ready"


# --- Of before the wait --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "last",
    [
        ended(1, -200, -190),
        ended(137, -200, -190, reason="OOMKilled"),
        ended(128, -200, -190, reason="StartError"),
        ended(1, -200, -190, message=UNREACHABLE),
    ],
    ids=["crash", "memory", "command", "database"],
)
@pytest.mark.parametrize("message", ["back-off 5m0s restarting failed container=main", ""])
def test_what_was_put_right_gets_its_next_try(last: Object, message: str) -> None:
    """The wait begins while the kubelet pauses: nothing has been tried since."""
    back_off = looping(9, last, message)
    assert outcome(play([*web(pod(back_off)), *then_ready(110, restartCount=10)])) == "ready"


def test_and_fails_with_it() -> None:
    """The next try ends the same way: then it is certain at once."""
    back_off = looping(9, ended(1, -200, -190), "back-off 5m0s")
    again = looping(10, ended(1, 110, 111), "back-off 5m0s")
    result = play([*web(pod(back_off)), (111, [pod(again)])])
    assert (outcome(result), result["elapsed"]) == ("crash_loop", pytest.approx(111.25, abs=0.1))


def test_a_try_that_never_comes_is_not_waited_for_to_the_end() -> None:
    """The kubelet said when: some time after that, the back-off is what there is."""
    result = play(web(pod(looping(2, ended(1, -100, -90), "back-off 1m20s"))))
    assert outcome(result) == "crash_loop"
    assert result["elapsed"] < 60


def test_a_pull_that_failed_long_before_gets_its_next_try() -> None:
    """The image was pushed since."""
    first = pod(waiting("ImagePullBackOff", f"Back-off pulling image: ErrImagePull: {NOT_FOUND}"))
    said = event(first, "Failed", f"Failed to pull image: {NOT_FOUND}", at=-200)
    assert outcome(play([*web(first, said), *then_ready(95)])) == "ready"


def test_a_pull_that_failed_just_before_counts() -> None:
    """Those who apply and then wait see the failure begin before the wait."""
    first = pod(waiting("ImagePullBackOff", 'Back-off pulling image "reg.example/app:1"'))
    said = event(
        first, "Failed", f"Failed to pull image: {NOT_FOUND}", at=-40, path="spec.containers{main}"
    )
    result = play(web(first, said))
    assert "not found" in result["failure"]["message"]
    assert "name or tag" in result["failure"]["hint"]
    assert result["elapsed"] < 2


@pytest.mark.parametrize("field", ["lastTransitionTime", "lastUpdateTime"])
def test_a_rollout_given_up_before_the_wait_may_yet_come_up(field: str) -> None:
    """The controller says so until a pod is ready."""
    late = condition("Progressing", "False", reason="ProgressDeadlineExceeded", message="late")
    late[field] = stamp(-1800)
    steps = [(0, [deployment(conditions=[late]), replica_set(), pod(running(-3))])]
    steps.append((20, [pod(running(-3), ready=True), deployment(1)]))
    assert outcome(play(steps)) == "ready"


def test_a_rollout_given_up_in_the_wait_has_failed() -> None:
    """At once: that is what the user set the deadline for."""
    late = condition("Progressing", "False", 30, reason="ProgressDeadlineExceeded", message="late")
    result = play([*web(pod(running(-3))), (30, [deployment(conditions=[late])])])
    assert (outcome(result), result["elapsed"]) == ("progress_deadline", pytest.approx(30.25))


def test_a_mount_that_failed_before_gets_its_next_try() -> None:
    """A kubelet waits up to two minutes between two attempts."""
    first = pod(waiting("ContainerCreating"))
    said = event(first, "FailedMount", 'secret "tls" not found', at=-90)
    assert outcome(play([*web(first, said), *then_ready(50)])) == "ready"


def test_a_refusal_of_before_gets_its_next_try() -> None:
    """The quota was raised; the controller comes back to it in its own time."""
    full = condition(
        "ReplicaFailure", "True", -240, reason="FailedCreate", message="exceeded quota"
    )
    refused = replica_set(conditions=[full])
    said = event(refused, "FailedCreate", "exceeded quota", at=-100)
    nothing = deployment(updated=0, total=0)
    steps = [(0, [nothing, refused, said]), (35, [replica_set(), deployment()])]
    assert outcome(play([*steps, *then_ready(40)])) == "ready"


# --- Of before this migration, this Job, this pod ------------------------------------------------


@pytest.mark.parametrize("how", ["time", "condition", "nothing"])
def test_a_schema_s_state_of_before_the_migration_is_past(how: str) -> None:
    """The init container said it, and is still in back-off when the migration has ended."""
    last = ended(4, -900, -10, message=BEHIND)
    first = pod(waiting("PodInitializing"), init=looping(1, last, "back-off 40s"))
    complete = {
        "time": job([COMPLETE], status={"completionTime": stamp(20)}),
        "condition": job([condition("Complete", "True", 20)]),
        "nothing": job([COMPLETE]),
    }[how]
    done = {"restartCount": 2, "ready": True, "state": ended(0, 30, 32), "lastState": last}
    up = [pod(running(33), init=done), pod(running(33), init=done, ready=True)]
    steps: list[t.Any] = [(0, [job(), deployment(), replica_set(), first]), (20, [complete])]
    steps += [(32, [up[0]]), (45, [up[1], deployment(1)])]
    for targets in ([MIGRATE, WEB], [WEB, MIGRATE]):
        assert outcome(play(steps, targets)) == "ready"


def test_and_one_of_after_it_is_not() -> None:
    """The migration did not do what it should."""
    last = ended(4, 25, 27, message=BEHIND)
    first = pod(waiting("PodInitializing"), init=running(-5))
    after = pod(waiting("PodInitializing"), init=looping(1, last))
    done = job([COMPLETE], status={"completionTime": stamp(20)})
    steps = [(0, [job(), deployment(), replica_set(), first]), (20, [done]), (27, [after])]
    assert outcome(play(steps, [MIGRATE, WEB])) == "schema_behind"


def test_a_job_that_is_replaced_is_judged_by_the_new_one() -> None:
    """It was complete and on its way out when the wait began; another of its name comes."""
    old = job([COMPLETE], deletionTimestamp=stamp(-1))
    steps: list[t.Any] = [(0, [old]), (2, [Gone(old)]), (4, [job(uid="j2")])]
    assert outcome(play([*steps, (20, [job([FAILED], uid="j2")])], MIGRATE)) == "job_failed"
    result = play([*steps, (20, [job([COMPLETE], uid="j2")])], MIGRATE)
    assert (outcome(result), result["elapsed"]) == ("ready", 20)


@pytest.mark.parametrize("held", [True, False])
def test_a_job_that_is_complete_and_goes_is_ready(held: bool) -> None:
    """Nothing takes its place."""
    old = job([COMPLETE], deletionTimestamp=stamp(-5), finalizers=["foregroundDeletion"])
    steps: list[t.Any] = [(0, [old]), *([] if held else [(2, [Gone(old)])])]
    result = play(steps, MIGRATE)
    assert outcome(result) == "ready"
    assert result["elapsed"] <= 10


def test_a_job_cleaned_up_and_made_anew_has_not_completed() -> None:
    """Neither has the new one, when it is gone in turn."""
    first, second = job([COMPLETE]), job(uid="j2")
    steps: list[t.Any] = [(0, [first, deployment(), replica_set()]), (2, [Gone(first)])]
    steps.append((3, [second]))
    result = play([*steps, (5, [Gone(second)])], [MIGRATE, WEB], timeout=60)
    assert outcome(result) == "not_found"


def test_an_event_about_an_earlier_pod_of_that_name_says_nothing() -> None:
    """A StatefulSet gives its pods the same name again; some events bear no uid."""
    new = pod(waiting("ContainerCreating"), name="db-0", owner="s", revision="new")
    new["metadata"]["creationTimestamp"] = stamp(-2)
    said = event(new, "FailedMount", "volume is lost", at=-300)
    said["involvedObject"].pop("uid")
    up = pod(running(80), name="db-0", owner="s", revision="new", ready=True)
    steps = [(0, [stateful_set(updated=1), new, said]), (85, [up, stateful_set(1, 1)])]
    assert outcome(play(steps, DB)) == "ready"


# --- The same problem ----------------------------------------------------------------------------


def problem(pod_name: str, **more: t.Any) -> Problem:
    """Return a trouble with an image, of one pod of a family."""
    return Problem(
        "image_pull", "Pod", "ns", pod_name, "no", pod_name, "main", family="web-2", **more
    )


def test_a_problem_that_vanishes_for_a_moment_is_the_same() -> None:
    """Its clock runs on."""
    tracker = Tracker()
    assert tracker.observe([problem("a")], 0)[0] == []
    assert tracker.observe([], 20)[0] == []
    assert tracker.observe([problem("a")], 20 + LAPSE)[0] == []
    assert tracker.observe([problem("a")], 31)[0] == []
    tracker = Tracker()
    for second in range(30):
        found = [] if second % 2 else [problem("a")]
        assert tracker.observe(found, second)[0] == []
    assert tracker.observe([problem("a")], 30)[0] != []


def test_a_problem_that_moves_to_the_next_pod_is_the_same() -> None:
    """The pod that had it is gone, and another one of the same owner has it."""
    tracker = Tracker()
    tracker.observe([problem("a")], 0)
    tracker.observe([problem("a")], 10)
    tracker.observe([problem("a")], 20)
    tracker.observe([], 28, alive={"b"})
    tracker.observe([problem("b")], 29, alive={"b"})
    assert tracker.observe([problem("b")], 30.5, alive={"b"})[0] == [problem("b")]


def test_a_problem_that_one_pod_got_over_is_not_the_next_one_s() -> None:
    """One pod after the other has it for a while, as they start one after the other."""
    tracker = Tracker()
    tracker.observe([problem("a")], 0, alive={"a"})
    tracker.observe([problem("b")], 29, alive={"a", "b"})
    assert tracker.observe([problem("b")], 31, alive={"a", "b"})[0] == []
    tracker.observe([], 32, alive={"a", "b"}, well={"b"})
    tracker.observe([problem("b")], 33, alive={"a", "b"})
    assert tracker.observe([problem("b")], 60, alive={"a", "b"})[0] == []


def test_time_stands_still_while_somebody_is_at_work() -> None:
    """And begins anew after that; what is merely held back has run on."""
    tracker = Tracker()
    tracker.observe([problem("a", stopped=True)], 0)
    tracker.observe([problem("a", stopped=True)], 100)
    assert tracker.observe([problem("a")], 129)[0] == []
    assert tracker.observe([problem("a")], 131)[0] != []
    tracker.observe([problem("b", held=True)], 200)
    assert tracker.observe([problem("b", held=True)], 300)[0] == []
    assert tracker.observe([problem("b")], 300)[0] == [], "it has only now become certain"
    assert tracker.observe([problem("b")], 301)[0] != []


# --- Of before a stream broke --------------------------------------------------------------------


def test_nothing_is_ready_by_what_was_seen_before_an_outage() -> None:
    """The pods' stream broke; what the Deployment says may be of before."""
    steps: list[t.Any] = [
        (0, [deployment(), replica_set(), pod(running(-3))]),
        (5, [Down(POD)]),
        (6, [deployment(1)]),
        (30, [Up(POD)]),
    ]
    result = play(steps)
    assert outcome(result) == "ready"
    assert result["elapsed"] >= 30


def test_an_outage_to_the_end_is_told() -> None:
    """Nobody knows better."""
    result = play([*web(), (5, [Down(POD)]), (6, [deployment(1)])], timeout=40)
    assert not result["ready"]
    assert "does not answer at present" in told(result)
