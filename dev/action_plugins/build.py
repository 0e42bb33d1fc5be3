# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a long build on the controller once for its inputs, and shows that it is alive."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

_PROGRESS_EVERY = 15.0
_LOG_TAIL_LINES = 25


def digest_of(command: list[str], environment: dict[str, str], inputs: list[str]) -> str:
    """Names a build by all that goes into it: the command, its environment, the input files.

    Where the inputs are does not count: every checkout finds the builds of the others.
    """
    whole = hashlib.sha256()
    for place, given in sorted(enumerate(inputs), key=lambda item: -len(item[1])):
        command = [part.replace(given, f"<input {place}>") for part in command]
    whole.update(repr((command, sorted(environment.items()))).encode())
    for given in inputs:
        root = Path(given)
        if not root.exists():
            raise AnsibleActionFail(f"inputs: {given} does not exist")
        files = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file())
        for file in files:
            whole.update(f"{file.relative_to(root)}\0{file.stat().st_mode & 0o111}\0".encode())
            whole.update(file.read_bytes())
    return whole.hexdigest()[:16]


def last_line(log: Path) -> str:
    """The newest line of a log, short enough for one line of a terminal."""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 4096))
        lines = stream.read().decode(errors="replace").split("\n")
    return next((line.strip()[:80] for line in reversed(lines) if line.strip()), "")


def human(seconds: float) -> str:
    """Seconds as a person says them: 8 s, 2 min 05 s."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Two runs that want the same build: the second one waits, and finds it done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


class ActionModule(ActionBase):
    """See dev/library/build.py for the options."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, args = self.validate_argument_spec(
            {
                "name": {"type": "str", "required": True},
                "cache_dir": {"type": "path", "required": True},
                "command": {"type": "list", "elements": "str", "required": True},
                "environment": {"type": "dict", "default": {}},
                "inputs": {"type": "list", "elements": "path", "default": []},
                "image": {"type": "str"},
                "image_exists": {"type": "list", "elements": "str"},
            },
            required_together=[("image", "image_exists")],
        )
        cache = Path(args["cache_dir"]).expanduser()
        environment = {key: str(value) for key, value in args["environment"].items()}
        digest = digest_of(args["command"], environment, args["inputs"])
        out = cache / args["name"] / digest
        image = f"{args['image']}-{digest}" if args["image"] else None
        result.update(changed=False, digest=digest, path=str(out), image=image, elapsed=0.0)

        with one_at_a_time(cache / "lock" / args["name"]):
            if self._is_there(out, image, args["image_exists"], environment):
                return result
            result["changed"] = True
            if self._task.check_mode:
                return result
            started = time.monotonic()
            self._build(args["name"], args["command"], environment, cache, out, image)
            result["elapsed"] = round(time.monotonic() - started, 1)
        return result

    @staticmethod
    def _is_there(
        out: Path, image: str | None, image_exists: list[str] | None, environment: dict[str, str]
    ) -> bool:
        if not out.is_dir():
            return False
        if image is None or image_exists is None:
            return True
        # An image lives in the container engine's store, which somebody may have emptied.
        return (
            subprocess.run(
                [*image_exists, image],
                env={**os.environ, **environment},
                capture_output=True,
                check=False,
            ).returncode
            == 0
        )

    def _build(
        self,
        name: str,
        command: list[str],
        environment: dict[str, str],
        cache: Path,
        out: Path,
        image: str | None,
    ) -> None:
        log = cache / "log" / f"{name}.log"
        for folder in (log.parent, out.parent):
            folder.mkdir(parents=True, exist_ok=True)
        # On the same file system as the result, so that the rename is atomic: a build that was
        # interrupted leaves only a folder under work/, which nothing takes for a result.
        shutil.rmtree(cache / "work" / name, ignore_errors=True)
        work = cache / "work" / name
        work.mkdir(parents=True)
        made = Path(tempfile.mkdtemp(prefix="out-", dir=work))
        started = time.monotonic()
        self._display.display(f"  {name}: building (log: {log})")
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [part.replace("{image}", image or "") for part in command],
                env={**os.environ, **environment, "OUT": str(made), "WORK": str(work)},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
            try:
                code = self._wait(process, name, log, started)
            except BaseException:
                process.terminate()
                process.wait()
                raise
        if code != 0:
            tail = log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
            raise AnsibleActionFail(
                f"{name}: {command[0]} ended with {code} after {human(time.monotonic() - started)}."
                f" The last lines of {log}:\n" + "\n".join(tail)
            )
        made.chmod(0o755)
        shutil.rmtree(out, ignore_errors=True)
        made.rename(out)
        shutil.rmtree(work, ignore_errors=True)
        self._display.display(f"  {name}: built in {human(time.monotonic() - started)}")

    def _wait(self, process: subprocess.Popen[bytes], name: str, log: Path, started: float) -> int:
        while True:
            try:
                return process.wait(timeout=_PROGRESS_EVERY)
            except subprocess.TimeoutExpired:
                spent = human(time.monotonic() - started)
                self._display.display(f"  {name}: {spent} · {last_line(log)}")
