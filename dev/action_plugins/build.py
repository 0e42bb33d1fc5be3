# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs long builds, each once for its inputs, side by side, and says how long they still take."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

_PROGRESS_EVERY = 15.0
_LOOK_EVERY = 0.1
_LOG_TAIL_LINES = 25
_RESULT = re.compile(r"\{(path|image):([^}]+)\}")
_OPTIONS: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "command": {"type": "list", "elements": "str", "required": True},
    "environment": {"type": "dict", "default": {}},
    "inputs": {"type": "list", "elements": "path", "default": []},
    "image": {"type": "str"},
    "image_exists": {"type": "list", "elements": "str"},
    "lane": {"type": "str"},
    "takes": {"type": "float", "default": 0.0},
    "steps": {"type": "list", "elements": "str", "default": []},
}


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
    return next((line.strip()[:60] for line in reversed(lines) if line.strip()), "")


def human(seconds: float) -> str:
    """Seconds as a person says them: 8 s, 2 min 05 s."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process with all that it started: a shell alone would leave its compiler behind."""
    if process.poll() is not None:
        return
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The program's name, in brackets, may hold anything.
            parent = int(entry.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.parent.name))
    family = [process.pid]
    for pid in family:
        family += children.get(pid, [])
    for pid in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    process.wait()


class Build:
    """One build: what was asked for, and how far it has come."""

    def __init__(self, options: dict[str, Any], cache: Path, others: dict[str, Build]) -> None:
        self.name: str = options["name"]
        self.cache = cache
        self.lane: str = options["lane"] or self.name
        self.takes: float = options["takes"]
        self.environment = {key: str(value) for key, value in options["environment"].items()}
        self._steps_command: list[str] = options["steps"]
        self._image_exists: list[str] | None = options["image_exists"]
        self.needs: list[Build] = []

        def result(found: re.Match[str]) -> str:
            kind, name = found.groups()
            if name not in others:
                raise AnsibleActionFail(f"{self.name}: needs {name}, which is not built before it")
            self.needs.append(others[name])
            return str(others[name].out) if kind == "path" else others[name].image or ""

        self.command = [_RESULT.sub(result, part) for part in options["command"]]
        self.digest = digest_of(self.command, self.environment, options["inputs"])
        self.out = cache / self.name / self.digest
        self.image = f"{options['image']}-{self.digest}" if options["image"] else None
        self.log = cache / "log" / f"{self.name}.log"
        self.changed = False
        self.done = False
        self.elapsed = 0.0
        self._work = cache / "work" / self.name
        self._made = Path()
        self._lock: IO[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._counter: subprocess.Popen[bytes] | None = None
        self._started = 0.0

    def result(self) -> dict[str, Any]:
        return {
            "digest": self.digest,
            "path": str(self.out),
            "image": self.image,
            "changed": self.changed,
            "elapsed": self.elapsed,
        }

    def is_there(self) -> bool:
        if not self.out.is_dir():
            return False
        if self.image is None or self._image_exists is None:
            return True
        # An image lives in the container engine's store, which somebody may have emptied.
        return (
            subprocess.run(
                [*self._image_exists, self.image],
                env={**os.environ, **self.environment},
                capture_output=True,
                check=False,
            ).returncode
            == 0
        )

    @property
    def running(self) -> bool:
        return self._process is not None

    def lock(self) -> bool:
        """Two runs that want the same build: the second one waits, and finds it done."""
        path = self.cache / "lock" / self.name
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("w")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.close()
            return False
        self._lock = handle
        return True

    def start(self) -> None:
        for folder in (self.log.parent, self.out.parent):
            folder.mkdir(parents=True, exist_ok=True)
        # On the same file system as the result, so that the rename is atomic: a build that was
        # interrupted leaves only a folder under work/, which nothing takes for a result.
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir(parents=True)
        self._made = Path(tempfile.mkdtemp(prefix="out-", dir=self._work))
        self._started = time.monotonic()
        with self.log.open("wb") as stream:
            self._process = subprocess.Popen(
                [part.replace("{image}", self.image or "") for part in self.command],
                env={
                    **os.environ,
                    **self.environment,
                    "OUT": str(self._made),
                    "WORK": str(self._work),
                },
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        if self._steps_command:
            with Path(self._work, "steps").open("wb") as stream:
                self._counter = subprocess.Popen(
                    self._steps_command,
                    env={**os.environ, **self.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.DEVNULL,
                )

    def ended(self) -> bool:
        """Whether it is through; the result is in its place then. Raises when it failed."""
        if self._process is None or self._process.poll() is None:
            return False
        spent = time.monotonic() - self._started
        if self._process.returncode != 0:
            tail = self.log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
            raise AnsibleActionFail(
                f"{self.name}: {self.command[0]} ended with {self._process.returncode} after"
                f" {human(spent)}. The last lines of {self.log}:\n" + "\n".join(tail)
            )
        if self._counter is not None:
            stop(self._counter)
        self._made.chmod(0o755)
        shutil.rmtree(self.out, ignore_errors=True)
        self._made.rename(self.out)
        shutil.rmtree(self._work, ignore_errors=True)
        self.elapsed = round(spent, 1)
        self._process, self.done = None, True
        return True

    def close(self) -> None:
        """Leave nothing running, and let others have it."""
        for process in (self._process, self._counter):
            if process is not None:
                stop(process)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def steps(self) -> tuple[int, int]:
        """The steps that are done, and how many there are; 0 of 0 while that is not known."""
        if self._counter is None or self._counter.poll() != 0:
            return 0, 0
        wanted = len(Path(self._work, "steps").read_text().split())
        lines = self.log.read_text(errors="replace").splitlines()
        # Go says with the same voice what it downloads.
        return min(sum(not line.startswith("go: ") for line in lines), wanted), wanted

    def share(self) -> float:
        """How much of it is done, from 0 to 1: by its steps, or by the time that it should take."""
        if self.done or not self.running:
            return float(self.done)
        done, wanted = self.steps()
        if wanted:
            return 0.95 * done / wanted
        spent = time.monotonic() - self._started
        return min(0.95, spent / self.takes) if self.takes else 0.0

    def progress(self) -> str:
        """One line of a terminal for a build that runs."""
        done, wanted = self.steps()
        what = f"{done} of {wanted} packages" if wanted else last_line(self.log)
        return f"{self.name}: {human(time.monotonic() - self._started)} · {what}"


def remaining(builds: list[Build], spent: float) -> float:
    """Seconds until the slowest lane is through, at this machine's pace so far."""
    left = 0.0
    for lane in {build.lane for build in builds}:
        mine = [build for build in builds if build.lane == lane]
        to_do = sum(build.takes * (1 - build.share()) for build in mine)
        done = sum(build.takes * build.share() for build in mine if build.changed)
        # Before that shows, a machine is taken to be as fast as the one it was measured on.
        left = max(left, to_do * (spent / done if done > _PROGRESS_EVERY else 1.0))
    return left


class Yard:
    """Runs builds: those of a lane one after another, the lanes side by side."""

    def __init__(self, builds: list[Build], say: Callable[[str], None]) -> None:
        self.builds = builds
        self.say = say
        self.waiting: set[str] = set()

    def run(self) -> None:
        started = told = time.monotonic()
        try:
            while not all(build.done for build in self.builds):
                for build in self.next_ones():
                    self.take(build)
                for build in self.builds:
                    if build.ended():
                        build.close()
                        self.say(f"  {build.name}: built in {human(build.elapsed)}")
                if time.monotonic() - told >= _PROGRESS_EVERY:
                    told = time.monotonic()
                    self.tell(told - started)
                time.sleep(_LOOK_EVERY if any(build.running for build in self.builds) else 0)
        finally:
            for build in self.builds:
                build.close()

    def next_ones(self) -> list[Build]:
        """The next build of each lane where none runs, unless it needs one that is not done."""
        first: dict[str, Build] = {}
        for build in self.builds:
            if not build.done:
                first.setdefault(build.lane, build)
        return [
            build
            for build in first.values()
            if not build.running and all(needed.done for needed in build.needs)
        ]

    def take(self, build: Build) -> None:
        if not build.lock():
            if build.name not in self.waiting:
                self.waiting.add(build.name)
                self.say(f"  {build.name}: another run is building it, and is waited for")
            time.sleep(_LOOK_EVERY)
            return
        if build.is_there():
            build.done = True
            build.close()
            return
        build.changed = True
        self.say(f"  {build.name}: building (log: {build.log})")
        build.start()

    def tell(self, spent: float) -> None:
        for build in self.builds:
            if build.running:
                self.say(f"  {build.progress()}")
        left = remaining(self.builds, spent)
        if left > 0:
            self.say(f"  about {human(max(60, round(left / 30) * 30))} left")


class ActionModule(ActionBase):
    """See dev/library/build.py for the options."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        several = "builds" in self._task.args
        listed = {"type": "list", "elements": "dict", "options": _OPTIONS, "required": True}
        _validation, args = self.validate_argument_spec(
            {
                "cache_dir": {"type": "path", "required": True},
                **({"builds": listed} if several else _OPTIONS),
            },
            required_together=[] if several else [("image", "image_exists")],
        )
        cache = Path(args["cache_dir"]).expanduser()
        builds: dict[str, Build] = {}
        for options in args["builds"] if several else [args]:
            builds[options["name"]] = Build(options, cache, builds)
        if self._task.check_mode:
            for build in builds.values():
                build.changed = not build.is_there()
        else:
            Yard(list(builds.values()), self._display.display).run()
        result["changed"] = any(build.changed for build in builds.values())
        if several:
            result["builds"] = {name: build.result() for name, build in builds.items()}
        else:
            result.update(next(iter(builds.values())).result())
        return result
