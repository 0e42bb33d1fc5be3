# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The release lock: one holder at a time, however many try, and whatever their clocks say."""

from __future__ import annotations

import copy
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Answer, ApiError
from ansible_collections.mlops.mlflow.plugins.module_utils._release import lock as _lease
from ansible_collections.mlops.mlflow.plugins.module_utils._release import turn
from ansible_collections.mlops.mlflow.plugins.module_utils._release.lock import (
    Lease,
    LeaseError,
    Lost,
    Renewal,
)
from ansible_collections.mlops.mlflow.plugins.plugin_utils._release import progress
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.leases import (
    NOON,
    PATH,
    Leases,
    begun,
    ended,
)


@pytest.fixture
def cluster() -> Leases:
    return Leases()


def lease(cluster: Leases, holder: str, ttl: float = 60) -> Lease:
    return Lease(cluster, "here", "mlflow-release", holder, ttl)


def test_the_first_takes_it_and_the_second_is_told_everything(cluster: Leases) -> None:
    lease(cluster, "ann@one 1").acquire(0)
    before = copy.deepcopy(cluster.objects)
    cluster.wall += 20
    with pytest.raises(LeaseError) as error:
        lease(cluster, "bob@two 2").acquire(0)
    text = str(error.value)
    for words in (
        "ann@one 1",
        "since 2027-01-15T08:00:00Z",
        "last renewed 2027-01-15T08:00:00Z",
        "ends by itself in 45 s",
        "mlflow_lock_wait=",
        "kubectl -n here delete lease mlflow-release",
    ):
        assert words in text
    assert cluster.objects == before


def test_of_many_at_once_one_gets_it(cluster: Leases) -> None:
    outcomes: list[str] = []

    def try_it(holder: str) -> None:
        try:
            lease(cluster, holder).acquire(0)
            outcomes.append(holder)
        except LeaseError:
            outcomes.append("")

    threads = [threading.Thread(target=try_it, args=(f"run {number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 8
    assert [one for one in outcomes if one] == [cluster.holder]


def test_the_same_run_enters_again_and_stays_since_when_it_was(cluster: Leases) -> None:
    lease(cluster, "ann").acquire(0)
    acquired = cluster.objects[PATH]["spec"]["acquireTime"]
    cluster.wall += 30
    lease(cluster, "ann").acquire(0)
    spec = cluster.objects[PATH]["spec"]
    assert spec["acquireTime"] == acquired
    assert spec["renewTime"] > acquired
    assert spec["leaseTransitions"] == 0


@pytest.mark.parametrize(("later", "free"), [(0, False), (59, False), (64, False), (66, True)])
def test_a_lock_is_over_when_its_time_and_the_clocks_allowance_are(
    cluster: Leases, later: float, free: bool
) -> None:
    lease(cluster, "dead", 60).acquire(0)
    cluster.wall += later
    if free:
        lease(cluster, "next").acquire(0)
        assert cluster.holder == "next"
        assert cluster.objects[PATH]["spec"]["leaseTransitions"] == 1
    else:
        with pytest.raises(LeaseError, match="dead"):
            lease(cluster, "next").acquire(0)


def test_a_clock_that_went_ahead_is_found_out_by_watching(
    cluster: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its renewTime lies a year ahead: only that it never changes tells that nobody is there."""
    monkeypatch.setattr(_lease, "LOOK_EVERY", 0.02)
    cluster.wall += 31_536_000
    lease(cluster, "dead", 1).acquire(0)
    cluster.wall = NOON
    started = time.monotonic()
    lease(cluster, "next").acquire(30)
    assert cluster.holder == "next"
    assert time.monotonic() - started >= 1


def test_one_that_is_renewed_is_never_taken_by_watching(
    cluster: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of the API server seems to stand still, but the holder is alive."""
    monkeypatch.setattr(_lease, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(_lease, "SKEW", 0.5)
    living = lease(cluster, "living", 1)
    living.acquire(0)
    ended = threading.Event()

    def live() -> None:
        while not ended.wait(0.1):
            living.renew()

    thread = threading.Thread(target=live)
    thread.start()
    try:
        with pytest.raises(LeaseError, match=r"after waiting 2 s: (?s:living.*so it is at work)"):
            lease(cluster, "next").acquire(2)
    finally:
        ended.set()
        thread.join()
    assert cluster.holder == "living"


def test_a_lease_without_a_duration_is_not_taken_at_once(cluster: Leases) -> None:
    cluster.put(PATH, {"metadata": {}, "spec": {"holderIdentity": "somebody"}})
    with pytest.raises(LeaseError, match="somebody, since an unknown time"):
        lease(cluster, "next").acquire(0)


def test_who_waits_gets_it_when_it_is_given_back(
    cluster: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_lease, "LOOK_EVERY", 0.02)
    first = lease(cluster, "first")
    first.acquire(0)
    timer = threading.Timer(0.2, first.release)
    timer.start()
    said: list[str] = []
    lease(cluster, "second").acquire(30, lambda words, _elapsed: said.append(words))
    timer.join()
    assert cluster.holder == "second"
    assert said[0].startswith("release lock held by first, last sign of life 0 s ago, ")


def test_of_two_who_take_over_one_does(cluster: Leases) -> None:
    lease(cluster, "dead").acquire(0)
    cluster.wall += 1000
    cluster.meanwhile = [lambda: cluster.put(PATH, taken_by("quicker", cluster))]
    with pytest.raises(LeaseError, match="quicker"):
        lease(cluster, "slower").acquire(0)
    assert cluster.holder == "quicker"


def taken_by(holder: str, cluster: Leases) -> dict[str, Any]:
    item = copy.deepcopy(cluster.objects[PATH])
    item["spec"].update(holderIdentity=holder, renewTime="2027-01-15T08:16:40.000000Z")
    return item


def test_only_what_is_ours_is_given_back(cluster: Leases) -> None:
    lease(cluster, "ann").acquire(0)
    assert not lease(cluster, "bob").release()
    assert cluster.holder == "ann"
    assert lease(cluster, "ann").release()
    assert PATH not in cluster.objects
    assert not lease(cluster, "ann").release()


def test_what_was_taken_while_we_gave_it_back_stays(cluster: Leases) -> None:
    lease(cluster, "ann").acquire(0)
    cluster.meanwhile = [lambda: cluster.put(PATH, taken_by("bob", cluster))]
    assert not lease(cluster, "ann").release()
    assert cluster.holder == "bob"


def test_a_lock_that_was_lost_or_broken_is_not_renewed(cluster: Leases) -> None:
    ours = lease(cluster, "ann")
    ours.acquire(0)
    cluster.put(PATH, taken_by("bob", cluster))
    with pytest.raises(Lost, match="held by bob"):
        ours.renew()
    del cluster.objects[PATH]
    with pytest.raises(Lost, match="somebody deleted it"):
        ours.renew()
    assert PATH not in cluster.objects


def test_a_refusal_is_told_in_the_servers_words(cluster: Leases) -> None:
    cluster.answers[("GET", PATH)] = Answer(403, {"message": "leases is forbidden"})
    with pytest.raises(LeaseError, match="cannot be read: leases is forbidden"):
        lease(cluster, "ann").acquire(0)


# --- While something is waited for ----------------------------------------------------------------


def until(condition: Any) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_wait_renews(cluster: Leases) -> None:
    ours = lease(cluster, "ann", 3)
    ours.acquire(0)
    with Renewal(ours, 3) as renewal:
        first = cluster.objects[PATH]["metadata"]["resourceVersion"]
        until(lambda: cluster.objects[PATH]["metadata"]["resourceVersion"] != first)
        renewal("waiting", 1.0)


def test_a_wait_ends_when_the_lock_is_lost(cluster: Leases) -> None:
    ours = lease(cluster, "ann", 3)
    ours.acquire(0)
    told: list[str] = []

    def wait() -> None:
        with Renewal(ours, 3, lambda words, _elapsed: told.append(words)) as renewal:
            renewal("waiting", 1.0)
            cluster.put(PATH, taken_by("bob", cluster))
            end = time.monotonic() + 30
            while time.monotonic() < end:
                renewal("waiting", 1.0)
                time.sleep(0.05)

    with pytest.raises(Lost, match="held by bob"):
        wait()
    assert told[0] == "waiting"
    assert cluster.holder == "bob"


def test_a_wait_outlasts_an_api_server_that_is_away(cluster: Leases) -> None:
    ours = lease(cluster, "ann", 3)
    ours.acquire(0)
    with Renewal(ours, 3) as renewal:
        cluster.away = True
        time.sleep(2.5)
        renewal("waiting", 1.0)
        first = cluster.objects[PATH]["metadata"]["resourceVersion"]
        cluster.away = False
        until(lambda: cluster.objects[PATH]["metadata"]["resourceVersion"] != first)


def test_a_wait_begins_when_an_api_server_that_restarts_is_back(cluster: Leases) -> None:
    ours = lease(cluster, "ann")
    ours.acquire(0)
    before = cluster.objects[PATH]["metadata"]["resourceVersion"]
    cluster.away = True
    back = threading.Timer(1.5, setattr, (cluster, "away", False))
    back.start()
    with Renewal(ours, 60):
        assert not cluster.away
    assert cluster.objects[PATH]["metadata"]["resourceVersion"] != before


@pytest.mark.parametrize("status", [403, 429, 500, 503])
def test_the_lock_is_given_back_to_an_api_server_that_is_just_starting(
    cluster: Leases, status: int
) -> None:
    lease(cluster, "ann").acquire(0)
    cluster.refusals = [Answer(status, {"message": "not yet"})]
    turn.end(cluster, ended("ann"), False)
    assert not cluster.refusals
    assert PATH not in cluster.objects


def test_an_api_server_that_stays_away_or_refuses_is_a_failure(
    cluster: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease(cluster, "ann").acquire(0)
    monkeypatch.setattr(_lease, "OUTAGE", 0)
    cluster.away = True
    with pytest.raises(ApiError):
        turn.begin(cluster, begun(holder="ann"), False)
    cluster.away = False
    # What it says then does not change by itself.
    monkeypatch.setattr(_lease, "OUTAGE", 1000)
    monkeypatch.setattr(_lease, "FIRST_REFUSALS", 0)
    cluster.refusals = [Answer(403, {"message": "forbidden"})]
    with pytest.raises(LeaseError, match="forbidden"):
        turn.end(cluster, ended("ann"), False)


def test_a_wait_does_not_begin_without_the_lock(cluster: Leases) -> None:
    with pytest.raises(Lost), Renewal(lease(cluster, "ann"), 60):
        pytest.fail("it began")


@pytest.fixture
def ended_process() -> Iterator[int]:
    with subprocess.Popen(["sleep", "0"]) as process:
        process.wait()
        yield process.pid


def test_a_module_knows_that_its_run_was_killed(
    ended_process: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert progress.RUN_VARIABLE == _lease.RUN_VARIABLE
    monkeypatch.setenv(_lease.RUN_VARIABLE, str(os.getpid()))
    assert not _lease.abandoned()
    monkeypatch.setenv(_lease.RUN_VARIABLE, str(ended_process))
    assert _lease.abandoned()


# --- a holder that can be seen to be dead ---------------------------------------------------------


def test_the_lock_of_a_run_that_was_killed_here_is_taken_at_once(
    cluster: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_lease, "DEAD_AFTER", 0.1)
    monkeypatch.setattr(_lease, "LOOK_EVERY", 0.05)
    process = subprocess.Popen(["sleep", "60"])
    try:
        monkeypatch.setenv(_lease.RUN_VARIABLE, str(process.pid))
        lease(cluster, "ann@one 1").acquire(0)
        with pytest.raises(LeaseError):
            lease(cluster, "bob@one 2").acquire(0)
    finally:
        process.kill()
    # Nobody has waited for it yet, as a shell may not have: it does nothing any more either.
    monkeypatch.setenv(_lease.RUN_VARIABLE, str(os.getpid()))
    process.wait()
    lease(cluster, "bob@one 2").acquire(0)
    assert cluster.holder == "bob@one 2"
    assert _lease.read(cluster.objects[PATH]).run == _lease.this_run()


@pytest.mark.parametrize("part", range(3), ids=["host", "boot", "PID namespace"])
def test_elsewhere_nothing_is_known_of_a_process(part: int) -> None:
    parts = [*_lease._here(), "4194303", "1"]
    assert _lease.has_ended(" ".join(parts))
    parts[part] = "another"
    assert not _lease.has_ended(" ".join(parts))


def test_another_process_of_the_same_number_is_not_that_run() -> None:
    parts = [*_lease._here(), str(os.getpid())]
    assert _lease.has_ended(" ".join([*parts, "1"]))
    assert not _lease.has_ended(" ".join([*parts, _lease._started(os.getpid())]))


@pytest.mark.parametrize("text", ["", "a b", "host boot ns 1 2 3", "host boot ns x 1"])
def test_what_cannot_be_read_tells_nothing(text: str) -> None:
    assert not _lease.has_ended(text)


def test_who_waits_is_told_whose_lock_it_is_and_when_it_ends(cluster: Leases) -> None:
    said: list[str] = []
    lease(cluster, "ann@one 1").acquire(0)
    cluster.wall += 20
    with pytest.raises(LeaseError):
        lease(cluster, "bob@two 2").acquire(0.01, lambda words, _elapsed: said.append(words))
    assert said[0] == (
        "release lock held by ann@one 1, last sign of life 20 s ago, over in 45 s unless it is "
        "renewed"
    )
