"""In a pod: many threads write to MLflow through its Service and read it back, without a pause.

Usage: python3 client.py THREADS SECONDS REQUESTS
Ends when the file /tmp/stop is there, or after so many seconds or requests. Half of the threads
keep their connection, as MLflow's client does; the others make a new one for each request, as many
clients do that start and end. Nothing is tried again: what fails counts.
"""

from __future__ import annotations

import itertools
import json
import pathlib
import sys
import threading
import time
from typing import Any

import urllib3

ADDRESS = "http://mlflow:5000/api/2.0/mlflow"
STOP = pathlib.Path("/tmp/stop")  # noqa: S108 - in a container of its own


class Client(threading.Thread):
    """One client, and what MLflow acknowledged to it."""

    def __init__(self, number: int, end: float, most: int) -> None:
        super().__init__(daemon=True)
        self.number = number
        self.end = end
        self.most = most
        self.asked = 0
        # Run by run, how many metric values were acknowledged; None: not even the run was.
        self.runs: dict[str, int] = {}
        self.successes: list[float] = []
        self.failed: list[str] = []
        self.slowest = 0.0
        # A server that closes a connection which is idle has it opened again, as in any client.
        # One that is on its way to a pod that is just gone hears nothing: known in seconds.
        self.pool = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(connect=5, read=30))
        self.headers = {"Content-Type": "application/json"}
        if number % 2:
            self.headers["Connection"] = "close"

    def call(self, method: str, path: str, **fields: Any) -> dict[str, Any] | None:
        """Make one request; return the answer, or None when it failed."""
        self.asked += 1
        began = time.time()
        try:
            if method == "GET":
                answer = self.pool.request(
                    method, f"{ADDRESS}/{path}", fields=fields, headers=self.headers
                )
            else:
                answer = self.pool.request(
                    method, f"{ADDRESS}/{path}", body=json.dumps(fields), headers=self.headers
                )
            what = f"{answer.status} {answer.data[:200]!r}"
            if answer.status == 200:
                now = time.time()
                self.slowest = max(self.slowest, now - began)
                self.successes.append(now)
                found: dict[str, Any] = json.loads(answer.data)
                return found
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            what = repr(error)
        kind = "new" if self.number % 2 else "kept"
        self.failed.append(f"{began:.3f}+{time.time() - began:.3f} {kind} {method} {path}: {what}")
        time.sleep(0.2)
        return None

    def run(self) -> None:
        """Write a run and read it, again and again."""
        while time.time() < self.end and self.asked < self.most and not STOP.exists():
            made = self.call(
                "POST", "runs/create", experiment_id="0", start_time=int(time.time() * 1000)
            )
            if made is None:
                continue
            run = made["run"]["info"]["run_id"]
            self.runs[run] = 0
            for step in range(3):
                metric = {"key": "loss", "value": step / 3, "timestamp": 1, "step": step}
                if self.call("POST", "runs/log-metric", run_id=run, **metric) is not None:
                    self.runs[run] += 1
            read = self.call("GET", "runs/get", run_id=run)
            if read is not None:
                metrics = read["run"]["data"].get("metrics", [])
                if bool(metrics) != bool(self.runs[run]):
                    self.failed.append(f"{time.time():.3f} run {run} was read without its metrics")
            self.call("POST", "runs/search", experiment_ids=["0"], max_results=5)


def gap(successes: list[float]) -> float:
    """Return the longest time in which nobody got an answer, in seconds."""
    order = sorted(successes)
    return max((b - a for a, b in itertools.pairwise(order)), default=0.0)


def main() -> None:
    """Let them run, and say how it went, in one line."""
    threads, seconds, requests = (int(text) for text in sys.argv[1:4])
    end = time.time() + seconds
    clients = [Client(number, end, requests // threads) for number in range(threads)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    said = {
        "asked": sum(client.asked for client in clients),
        "failed": [line for client in clients for line in client.failed],
        "runs": {run: count for client in clients for run, count in client.runs.items()},
        "gap": gap([moment for client in clients for moment in client.successes]),
        "slowest": max(client.slowest for client in clients),
    }
    sys.stdout.write("@said " + json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
