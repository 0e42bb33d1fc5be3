# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Remove for good what was deleted in MLflow a while ago: runs, logged models and experiments.

MLflow's API and its page only mark as deleted; rows and artifacts stay until `mlflow gc`. That
wants the database's address in its arguments, where everyone on the node can read it, so its
function is called here instead. Artifacts go through the server, as those of clients do: only the
server needs to be let in to where they are.

The last line on standard output, and the pod's termination message, is the verdict as JSON.

Exit status: 0 done, or left to the next time because a migration is under way; 1 it failed; 2 wrong
use; 3 the schema is not what this MLflow needs.

Environment, beside that of schema.py, which lies next to MLflow's settings:
    MLFLOW_TRACKING_URI   the server, which removes the artifacts
    MLOPS_GC_OLDER_THAN   how long ago it must have been deleted, such as 30d or 1d12h
    MLOPS_GC_AT_LEAST     a second age, for somebody else to set (a backup that still refers to the
                          artifacts, say): the longer one counts
    MLOPS_GC_JOBS         true: also the records of finished jobs of that age
    MLOPS_GC_SECONDS      how long it may keep a migration waiting, 300 if not set; what is not
                          done by then is left to the next time
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

TERMINATION_LOG = Path("/dev/termination-log")
_TRUE = {"true", "1", "yes", "on"}
_AGE = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_DELETED = re.compile(
    r"^(Run|Experiment|Logged model|Job) with ID \S+ has been permanently deleted"
)

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_STATE = range(4)


class UsageError(Exception):
    """The environment is wrong."""


def seconds(name: str, age: str) -> int:
    """Return an age such as 1d12h in seconds. MLflow takes an empty one for no age at all."""
    match = _AGE.fullmatch(age)
    if not age or match is None:
        raise UsageError(f"{name} must be an age such as 30d or 1d12h, not {age!r}")
    days, hours, minutes, rest = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest


def age_of(environment: Mapping[str, str]) -> int:
    """Return how many seconds ago something must have been deleted."""
    age = seconds("MLOPS_GC_OLDER_THAN", environment.get("MLOPS_GC_OLDER_THAN", ""))
    least = environment.get("MLOPS_GC_AT_LEAST")
    return max(age, seconds("MLOPS_GC_AT_LEAST", least)) if least else age


class OutOfTime(BaseException):
    """A migration that may be waiting is not kept waiting any longer.

    No Exception: MLflow catches those, to go on with the next run.
    """


@contextlib.contextmanager
def at_most(limit: int) -> Iterator[None]:
    """Raise OutOfTime in the block after so many seconds."""

    def stop(*_: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(limit)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class Report:
    """Stands in for standard output: passes on what MLflow says, and counts what it deleted."""

    def __init__(self, target: TextIO) -> None:
        self._target = target
        self._line = ""
        self.deleted: Counter[str] = Counter()

    def write(self, text: str) -> int:
        """Pass text on, and look at each whole line."""
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            match = _DELETED.match(line)
            if match:
                self.deleted[match[1].lower().replace(" ", "_") + "s"] += 1
        return self._target.write(text)

    def flush(self) -> None:
        """Flush what is behind."""
        self._target.flush()


def collect(schema: Any, environment: Mapping[str, str], report: Report, age: int) -> None:
    """Call MLflow's gc in this process."""
    address = schema.from_environment("MLFLOW_BACKEND_STORE_URI", environment)
    from mlflow.cli import gc

    arguments = ["--backend-store-uri", address, "--older-than", f"{age}s"]
    if environment.get("MLOPS_GC_JOBS", "").lower() in _TRUE:
        arguments.append("--jobs")
    # By itself it looks into the default one only.
    if environment.get("MLFLOW_ENABLE_WORKSPACES", "").lower() in _TRUE:
        arguments.append("--all-workspaces")
    with contextlib.redirect_stdout(report):
        gc.main(args=arguments, prog_name="mlflow gc", standalone_mode=False)


def run(schema: Any, environment: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
    """Do it under the lock that migrations take; return the exit status and the verdict."""
    started = time.monotonic()
    report = Report(sys.stderr)
    secrets: set[str] = set()
    verdict: dict[str, Any] = {"ok": False}
    try:
        age = age_of(environment)
        verdict["older_than_seconds"] = age
        if not environment.get("MLFLOW_TRACKING_URI"):
            raise UsageError("MLFLOW_TRACKING_URI must name the server")
        limit = environment.get("MLOPS_GC_SECONDS", "300")
        if not limit.isdecimal() or limit == "0":
            raise UsageError(f"MLOPS_GC_SECONDS must be a number of seconds, not {limit!r}")
        helper = schema.Helper(environment)
        secrets = helper.secrets
        # It takes seconds, for which nobody needs to wait.
        importlib.import_module("mlflow.cli")
        with helper.locks() as locks:
            if locks is None:
                verdict |= {"ok": True, "skipped": "a migration is under way"}
                return EXIT_OK, verdict
            # Under the lock, so that it stays so.
            states = {name: found.state for name, found in helper.inspect().items()}
            if set(states.values()) != {"at_head"}:
                verdict["error"] = f"the schema is not at head: {states}"
                return EXIT_STATE, verdict
            with at_most(int(limit)):
                collect(schema, environment, report, age)
        verdict["ok"] = True
        return EXIT_OK, verdict
    except OutOfTime:
        verdict |= {"ok": True, "unfinished": f"not done in {limit} s"}
        return EXIT_OK, verdict
    except (UsageError, schema.UsageError) as error:
        verdict["error"] = schema.redact(str(error), secrets)
        return EXIT_USAGE, verdict
    except Exception as error:  # whatever it is, it is the verdict
        text = schema.redact(f"{type(error).__name__}: {error}", secrets)
        verdict["error"] = " ".join(text.split())[:2000]
        return EXIT_FAILED, verdict
    finally:
        # What was deleted is deleted, also when it then failed.
        verdict["deleted"] = dict(report.deleted)
        verdict["seconds"] = round(time.monotonic() - started, 1)


def main() -> int:
    """Print the verdict; return the exit status."""
    # The first process of a container gets no SIGTERM unless it asks for it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    os.environ.setdefault("PGCONNECT_TIMEOUT", "5")
    os.environ.setdefault("PGAPPNAME", "mlops-mlflow-gc")
    # A server that does not answer should be told here, not retried for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    status, verdict = run(importlib.import_module("schema"), os.environ)
    line = json.dumps(verdict)
    if os.access(TERMINATION_LOG, os.W_OK):
        TERMINATION_LOG.write_text(line, encoding="utf-8")
    print(line, flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
