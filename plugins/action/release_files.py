# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of mlops.mlflow.release_files; the module of that name documents it."""

from __future__ import annotations

import os
import pathlib
import typing as t

from ansible_collections.mlops.mlflow.plugins.plugin_utils._release import gitops
from ansible_collections.mlops.mlflow.plugins.plugin_utils._release.local import (
    LocalAction,
    Result,
)

_OPTIONS: dict[str, dict[str, t.Any]] = {
    "release": {"type": "dict", "required": True},
    "to": {"type": "path", "required": True},
    "flux_source": {"type": "str", "default": "flux-system"},
}


def in_repository(folder: pathlib.Path) -> str:
    """Return where a folder is in its Git repository, or only its name if it is in none."""
    for parent in (folder, *folder.parents):
        if (parent / ".git").exists():
            return "" if parent == folder else folder.relative_to(parent).as_posix()
    return folder.name


def write(folder: pathlib.Path, files: dict[str, str], check_mode: bool) -> list[str]:
    """Write what differs, remove what is ours and no longer there; return the paths."""
    changed = []
    for name in sorted({*gitops.OURS, *files}):
        path = folder / name
        there = path.read_text(encoding="utf-8") if path.is_file() else None
        if there == files.get(name):
            continue
        changed.append(name)
        if check_mode:
            continue
        if name in files:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[name], encoding="utf-8")
        else:
            path.unlink()
    return changed


class ActionModule(LocalAction):
    """Write the release into a folder of the controller."""

    OPTIONS = _OPTIONS

    def answer(self, arguments: Result, task_vars: Result) -> Result:
        """Write."""
        folder = pathlib.Path(os.path.realpath(arguments["to"]))
        release = arguments["release"]
        files = gitops.files(release, in_repository(folder), arguments["flux_source"])
        try:
            changed = write(folder, files, self._task.check_mode)
        except OSError as error:
            where = error.filename or folder
            return {
                "failed": True,
                "msg": f"render_to: {where} cannot be written: {error.strerror}.",
            }
        return {"changed": bool(changed), "files": changed, "path": str(folder)}
