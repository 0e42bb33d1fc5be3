# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of progress from a module that waits, for whoever shows them (see plugin_utils)."""

from __future__ import annotations

import os
import typing as t

# The environment variable that names the file to write lines of progress to.
VARIABLE = "MLOPS_MLFLOW_PROGRESS"

# Seconds: before anything is said, between two different things, and between two equal ones.
FIRST = 3.0
CHANGE = 1.0
REPEAT = 15.0


class Progress:
    """Writes what is being waited for, when it is new or has not been said for a while."""

    def __init__(self, write: t.Callable[[str], None]) -> None:
        self._write = write
        self._said = ""
        self._said_at = -REPEAT

    def __call__(self, words: str, elapsed: float) -> None:
        """Take what is being waited for, after so many seconds."""
        pause = CHANGE if words != self._said else REPEAT
        if elapsed < FIRST or elapsed - self._said_at < pause:
            return
        self._said, self._said_at = words, elapsed
        self._write(f"{words} · {elapsed:.0f} s")


def progress_from_environment() -> Progress | None:
    """Return what writes to the file that the environment names, or None if it names none."""
    path = os.environ.get(VARIABLE)
    if not path:
        return None

    def write(line: str) -> None:
        # Whoever reads may be gone: the wait itself matters more.
        try:
            with open(path, "a", encoding="utf-8") as handle:
                handle.write(line + "\n")
        except OSError:
            return

    return Progress(write)
