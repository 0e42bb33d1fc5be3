# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module writes is on the terminal while it runs, here and over another connection.

The module of the test ends only when it is told that its line was seen.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.plugin_utils._release.progress import ProgressAction

ROOT = Path(__file__).parents[4]
ACTION = """
from ansible_collections.mlops.mlflow.plugins.plugin_utils._release.progress import ProgressAction

class ActionModule(ProgressAction):
    pass
"""
MODULE = """
import os, time
from ansible.module_utils.basic import AnsibleModule

module = AnsibleModule({"seen": {"type": "path"}})
path = os.environ["MLOPS_MLFLOW_PROGRESS"]
with open(path, "a") as lines:
    lines.write("näher\\n")
end = time.monotonic() + 60
while not os.path.exists(module.params["seen"]):
    if time.monotonic() > end:
        module.fail_json(msg="nobody saw it")
    time.sleep(0.1)
with open(path, "a") as lines:
    lines.write("am Ziel\\n")
module.exit_json(path=path)
"""
# Runs commands as the local one does; by its name alone it is another host's, as that of SSH is.
CONNECTION = '''
DOCUMENTATION = """
name: elsewhere
short_description: Another host
description: This host, as if it were another.
"""
from ansible.plugins.connection.local import Connection as Local

class Connection(Local):
    transport = "elsewhere"
'''


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    for folder, name, text in (
        ("action", "talks", ACTION),
        ("library", "talks", MODULE),
        ("connection", "elsewhere", CONNECTION),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.py").write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("connection", ["local", "elsewhere"])
def test_lines_are_shown_while_the_module_runs(plugins: Path, connection: str) -> None:
    seen = plugins / "seen"
    play = plugins / "play.yml"
    task = {"talks": {"seen": str(seen)}}
    play.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [task]}]))
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_ACTION_PLUGINS": str(plugins / "action"),
        "ANSIBLE_LIBRARY": str(plugins / "library"),
        "ANSIBLE_CONNECTION_PLUGINS": str(plugins / "connection"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        "ANSIBLE_NOCOLOR": "1",
        "PYTHONUTF8": "1",
    }
    with subprocess.Popen(
        [
            str(Path(sys.executable).parent / "ansible-playbook"),
            "--inventory=host,",
            f"--extra-vars=ansible_connection={connection}",
            f"--extra-vars=ansible_python_interpreter={sys.executable}",
            str(play),
        ],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as process:
        assert process.stderr is not None
        shown = []
        for line in process.stderr:
            shown.append(line.rstrip())
            if line.strip() == "näher":
                seen.touch()
        assert process.stdout is not None
        output = process.stdout.read()
    assert process.returncode == 0, (output, shown)
    assert [line for line in shown if line in ("  näher", "  am Ziel")] == ["  näher", "  am Ziel"]
    # The result stays readable for programs, and nothing is left behind.
    result = json.loads(output)["plays"][0]["tasks"][0]["hosts"]["host"]
    assert not Path(result["path"]).exists()


FAILED = {
    "failed": True,
    "msg": "one long line",
    "failure": {"reason": "image_pull", "kind": "Pod", "name": "x", "message": "no such image"},
    "timeline": [{"at": 1, "object": "Pod/x", "event": "pulling"}],
}


@pytest.mark.parametrize(
    ("collection", "verbosity", "failed_when", "kept"),
    [
        # In our own roles a person reads it, who can ask for more with -v.
        ("mlops.mlflow", 0, [], {"failed", "changed", "msg"}),
        ("mlops.mlflow", 1, [], {*FAILED, "changed"}),
        # Where a task goes on with it, and in the roles of others, it is whole.
        ("mlops.mlflow", 0, [False], set(FAILED)),
        ("their.own", 0, [], set(FAILED)),
        (None, 0, [], set(FAILED)),
    ],
)
def test_a_failure_is_printed_in_few_lines(
    collection: str | None,
    verbosity: int,
    failed_when: list[bool],
    kept: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    action: Any = ProgressAction.__new__(ProgressAction)
    action._task = SimpleNamespace(async_val=0, failed_when=failed_when)
    action._connection = SimpleNamespace(transport="local", become=None)
    action._display = SimpleNamespace(verbosity=verbosity)
    monkeypatch.setattr(ProgressAction, "_run_here", lambda *_arguments: dict(FAILED))
    variables = {"ansible_collection_name": collection} if collection else {}
    result = action.run(None, variables)
    assert set(result) == kept
    assert result["failed"] is True
    if "changed" in kept:
        assert result["msg"].splitlines()[:2] == ["image_pull: Pod/x:", "no such image"]
