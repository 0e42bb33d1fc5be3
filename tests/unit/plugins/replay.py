# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replay recorded watch streams through a real HTTP server, without waiting for their time.

The events go through sockets, the client and the watch threads as ever. Only the engine's clock
is the recording's: it jumps from one event, or one moment at which the engine wants to look again,
to the next. So ten minutes take a tenth of a second, and a busy machine changes nothing.
"""

from __future__ import annotations

import copy
import datetime
import time
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Api
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import Kind
from ansible_collections.mlops.mlflow.plugins.module_utils._wait import watch as _watch
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.engine import Engine, Options
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict import Target
from ansible_collections.mlops.mlflow.tests.unit.plugins.fake_api import END, FakeApi

Object = dict[str, t.Any]
# Real seconds for an event to come through the sockets; only a bug takes that long.
DELIVERY = 20.0


class Recorded(t.NamedTuple):
    """What one watch said of one object, at a second of the recording (0: it was there before)."""

    at: float
    kind: Kind
    type: str
    item: Object


class VirtualClock:
    """The recording's clock: it stands still until it is told to go on."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        self.now = self.start
        self.wall = time.time()

    def __call__(self) -> float:
        return self.now

    def at(self) -> float:
        """Return the second of the recording."""
        return self.now - self.start


def stamp(at: float, wall: float) -> str:
    """Return a second of the recording as the API writes times."""
    moment = datetime.datetime.fromtimestamp(wall + at, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class ReplayEngine(Engine):
    """An engine whose waiting is the passing of the recording's time."""

    def __init__(
        self,
        server: FakeApi,
        recording: t.Sequence[Recorded],
        targets: t.Sequence[Target],
        options: Options,
    ) -> None:
        self.clock = VirtualClock()
        api = Api({"host": server.url, "api_key": "t"}, clock=self.clock)
        super().__init__(api, targets, options, clock=self.clock)
        self._server = server
        self._left = [one for one in recording if one.at > 0]
        self._paths: set[str] = set()
        self.looks = 0
        for one in recording:
            if one.at <= 0:
                self._put(one)

    def _put(self, one: Recorded) -> None:
        path = one.kind.path(one.item["metadata"]["namespace"])
        self._server.put(path, copy.deepcopy(one.item), one.type)

    def _begin_watching(self) -> None:
        super()._begin_watching()
        self._paths = {kind.path(namespace) for kind, namespace in self._streams()}
        end = time.monotonic() + DELIVERY
        while not all(self._server.streams.get(path) for path in self._paths):
            assert time.monotonic() < end, "a watch was not opened"
            time.sleep(0.001)

    def _take_reports(self, seconds: float) -> None:
        """Let the recording go on to its next event, or to when the engine looks again."""
        self.looks += 1
        streams = self._streams()
        if not all(self._state.is_synced(*stream) for stream in streams):
            self._take(self._reports.get(timeout=DELIVERY))
            return
        # The engine wakes once a second, also when nothing is reported.
        until = self.clock.now + min(max(0.0, seconds), 1.0)
        if not self._left or self.clock.start + self._left[0].at > until:
            self.clock.now = until
            return
        one = self._left.pop(0)
        self.clock.now = max(self.clock.now, self.clock.start + one.at)
        self._put(one)
        if one.kind.path(one.item["metadata"]["namespace"]) in self._paths:
            report = self._reports.get(timeout=DELIVERY)
            assert isinstance(report, _watch.Changed), report
            self._take(report)

    def run(self) -> dict[str, t.Any]:
        """Wait, then end the watches, so that no thread is left."""
        try:
            return super().run()
        finally:
            for path in self._paths:
                self._server.disturb(path, END)
            for watch in self._watches:
                watch.join(DELIVERY)
