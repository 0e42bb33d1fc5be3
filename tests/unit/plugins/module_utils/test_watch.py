# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The watch loop against a real HTTP server that ends, resets, forgets, refuses and goes silent."""

from __future__ import annotations

import queue
import time
import typing as t

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Api
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import POD
from ansible_collections.mlops.mlflow.plugins.module_utils._wait import watch as _watch
from ansible_collections.mlops.mlflow.tests.unit.plugins.fake_api import END, RESET, SILENT, FakeApi

PODS = "/api/v1/namespaces/ns/pods"


def pod(name: str) -> dict[str, t.Any]:
    """Return a pod with something that must not be kept."""
    return {"metadata": {"name": name, "namespace": "ns", "uid": name, "managedFields": [1]}}


class Following:
    """A watch under test, and what it reported."""

    def __init__(self, server: FakeApi) -> None:
        self.server = server
        self.api = Api({"host": server.url, "api_key": "first"})
        self.reports: queue.SimpleQueue[t.Any] = queue.SimpleQueue()
        self.watch = _watch.Watch(self.api, POD, "ns", self.reports, 60)

    def next(self, seconds: float = 5.0) -> t.Any:
        return self.reports.get(timeout=seconds)

    def watching(self, times: int = 1) -> None:
        """Wait until the server has seen so many watches, and one is open."""
        end = time.monotonic() + 5
        while self.server.count("watch", PODS) < times or not self.server.streams.get(PODS):
            assert time.monotonic() < end, "no watch was opened"
            time.sleep(0.005)


@pytest.fixture
def server() -> t.Iterator[FakeApi]:
    """A server with one pod."""
    server = FakeApi()
    server.put(PODS, pod("a"))
    yield server
    server.close()


@pytest.fixture
def following(server: FakeApi, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Following]:
    """A watch that is up."""
    monkeypatch.setattr(_watch, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(_watch, "FIRST_ANSWER", 0.1)
    following = Following(server)
    yield following
    following.watch.stop()


def test_lists_then_follows(following: Following) -> None:
    """One list, one watch from its version on, and every event."""
    following.watch.start()
    listed = following.next()
    assert [item["metadata"]["name"] for item in listed.items] == ["a"]
    assert listed.items[0]["kind"] == "Pod"
    assert "managedFields" not in listed.items[0]["metadata"]
    following.watching()
    following.server.put(PODS, pod("b"), "ADDED")
    changed = following.next()
    assert (changed.type, changed.item["metadata"]["name"]) == ("ADDED", "b")
    query = following.server.requests[1][1]
    assert query["allowWatchBookmarks"] == "true"
    assert query["resourceVersion"] == "101"
    assert int(query["timeoutSeconds"]) >= 60
    assert following.api.requests == 2


@pytest.mark.parametrize("how", [END, RESET])
def test_resumes_from_the_last_version(following: Following, how: str) -> None:
    """After an end or a reset it goes on where it was, without another list."""
    following.watch.start()
    following.next()
    following.watching()
    following.server.put(PODS, pod("b"))
    following.next()
    following.server.disturb(PODS, how)
    following.watching(2)
    following.server.put(PODS, pod("c"))
    reports = [following.next()]
    while not isinstance(reports[-1], _watch.Changed):
        reports.append(following.next())
    assert reports[-1].item["metadata"]["name"] == "c"
    kinds = [type(report) for report in reports[:-1]]
    assert kinds == ([] if how == END else [_watch.Interrupted, _watch.Resumed])
    assert following.server.count("list", PODS) == 1
    assert following.server.requests[-1][1]["resourceVersion"] == "102"


def test_bookmarks_move_the_version(following: Following) -> None:
    """A bookmark is not an event, but the next watch starts from it."""
    following.watch.start()
    following.next()
    following.watching()
    bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "500"}}}
    following.server.send(PODS, bookmark)
    following.server.disturb(PODS, END)
    following.watching(2)
    assert following.server.requests[-1][1]["resourceVersion"] == "500"
    assert following.reports.empty()


@pytest.mark.parametrize("how", ["event", "status"])
def test_gone_lists_again(following: Following, how: str) -> None:
    """410 Gone, as an event of the stream or as the answer, leads to a new list."""
    following.watch.start()
    following.next()
    following.watching()
    if how == "event":
        following.server.send(PODS, {"type": "ERROR", "object": {"code": 410, "message": "old"}})
    else:
        following.server.next_answer("watch", PODS, 410)
        following.server.disturb(PODS, END)
    assert isinstance(following.next(), _watch.Listed)
    assert following.server.count("list", PODS) == 2


def test_silence_is_noticed(following: Following, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection whose other end says nothing any more is given up and replaced."""
    following.watch._silence = 0.2
    following.watch.start()
    following.next()
    following.watching()
    following.server.disturb(PODS, SILENT)
    assert isinstance(following.next(), _watch.Interrupted)
    assert isinstance(following.next(), _watch.Resumed)


def test_too_many_requests(following: Following) -> None:
    """429 is waited out for as long as the server says."""
    following.server.next_answer("list", PODS, 429, Retry_After="0.2")
    began = time.monotonic()
    following.watch.start()
    assert isinstance(following.next(), _watch.Listed)
    assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize("status", [500, 503])
def test_server_errors_are_survived(following: Following, status: int) -> None:
    """An API server that restarts answers with errors for a while."""
    for _turn in range(3):
        following.server.next_answer("list", PODS, status)
    following.watch.start()
    assert isinstance(following.next(), _watch.Listed)


def test_credentials_are_read_again_once(following: Following) -> None:
    """One 401 may be a token that was rotated; a second one is final."""
    following.server.next_answer("list", PODS, 401)
    following.watch.start()
    assert isinstance(following.next(), _watch.Listed)
    following.watching()
    following.server.always["watch", PODS] = (401, None)
    following.server.disturb(PODS, END)
    report = following.next()
    while not isinstance(report, _watch.GaveUp):
        report = following.next()
    assert report.error.status == 401


def test_forbidden_is_final(following: Following) -> None:
    """403 ends it at once, and says what was not allowed."""
    following.server.next_answer("list", PODS, 403)
    following.watch.start()
    report = following.next()
    assert isinstance(report, _watch.GaveUp)
    assert (report.error.status, report.error.verb, report.error.resource) == (403, "list", "pods")


def test_refused_after_a_restart(following: Following, monkeypatch: pytest.MonkeyPatch) -> None:
    """An API server that has just started may refuse for a moment what it allowed before."""
    monkeypatch.setattr(_watch, "FIRST_REFUSALS", 0.3)
    following.watch.start()
    following.next()
    following.watching()
    following.server.next_answer("watch", PODS, 403)
    following.server.disturb(PODS, END)
    assert isinstance(following.next(), _watch.Interrupted)
    assert isinstance(following.next(), _watch.Resumed)
    following.server.always["watch", PODS] = (403, None)
    following.server.disturb(PODS, END)
    reports = [following.next()]
    while not isinstance(reports[-1], _watch.GaveUp):
        reports.append(following.next())
    assert reports[-1].error.verb == "watch"


def test_nobody_there(server: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that never answered is given up soon."""
    monkeypatch.setattr(_watch, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(_watch, "FIRST_ANSWER", 0.05)
    following = Following(server)
    following.api.configuration.host = "http://127.0.0.1:9"
    following.watch.start()
    report = following.next()
    assert isinstance(report, _watch.GaveUp)
    assert "does not answer" in report.error.message
    assert "object at 0x" not in report.error.message


def test_credentials_are_sent(following: Following) -> None:
    """The token goes into the header."""
    following.watch.start()
    following.next()
    headers = {name.lower(): value for name, value in following.server.requests[0][2].items()}
    assert headers["authorization"] == "Bearer first"
