"""Runs the schema helper in forks of one process that has imported MLflow already.

The import takes most of the seconds that a run of the helper takes. Everything else is as in a
process of its own: the environment, the arguments, the output and the exit status.

Reads one request a line from standard input, as JSON, and answers in files of the folder that it
names: pid, stdout, stderr and, when the helper has ended, status.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

# Imported once, to have them in every child.
for name in ("mlflow.store.db.utils", "mlflow.store.tracking.sqlalchemy_store"):
    importlib.import_module(name)


def write(folder: str, name: str, value: int) -> None:
    """Leave a number in a file, which appears with its content."""
    part = Path(folder, f"{name}.part")
    part.write_text(str(value), encoding="utf-8")
    part.rename(Path(folder, name))


def be_the_helper(request: dict[str, Any]) -> int:
    """Run the helper in this process."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        descriptor = os.open(Path(request["folder"], name), os.O_WRONLY | os.O_CREAT, 0o644)
        os.dup2(descriptor, number)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = request["arguments"]
    status = 1
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    return status


def mind(request: dict[str, Any]) -> None:
    """Start the helper, wait for its end, and leave its exit status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if child == 0:
        os._exit(be_the_helper(request))
    write(request["folder"], "pid", child)
    _pid, status = os.waitpid(child, 0)
    write(request["folder"], "status", os.waitstatus_to_exitcode(status))


def main() -> None:
    """Serve requests until the input ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        request = json.loads(line)
        if os.fork() == 0:
            mind(request)
            os._exit(0)


if __name__ == "__main__":
    main()
