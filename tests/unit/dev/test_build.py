# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A long build: done once for its inputs, never half, and seen to be alive."""

from __future__ import annotations

import fcntl
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.mlops.mlflow.dev.action_plugins import build


def run(cache: Path, script: str, check_mode: bool = False, **arguments: Any) -> dict[str, Any]:
    one = {"name": "thing", "command": ["bash", "-ec", script], **arguments}
    return run_action({"cache_dir": str(cache), **one}, check_mode)


def run_all(cache: Path, *builds: dict[str, Any]) -> dict[str, Any]:
    return run_action({"cache_dir": str(cache), "builds": list(builds)})


def step(name: str, script: str, **options: Any) -> dict[str, Any]:
    return {"name": name, "command": ["bash", "-ec", script], **options}


def run_action(arguments: dict[str, Any], check_mode: bool = False) -> dict[str, Any]:
    task = SimpleNamespace(
        args=arguments,
        async_val=0,
        check_mode=check_mode,
        diff=False,
        environment=None,
    )
    action = build.ActionModule(
        task=task,
        connection=SimpleNamespace(_shell=SimpleNamespace(tmpdir=None), _remote_is_local=True),
        play_context=SimpleNamespace(check_mode=check_mode),
        loader=None,
        templar=None,
        shared_loader_obj=None,
    )
    result: dict[str, Any] = action.run(task_vars={})
    return result


def test_a_build_is_done_once_for_its_inputs(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("one")
    script = f"cat {source} > $OUT/result"
    first = run(tmp_path / "cache", script, inputs=[str(source)])
    again = run(tmp_path / "cache", script, inputs=[str(source)])
    assert (first["changed"], again["changed"]) == (True, False)
    assert Path(again["path"], "result").read_text() == "one"

    source.write_text("two")
    changed = run(tmp_path / "cache", script, inputs=[str(source)])
    assert changed["changed"] and changed["digest"] != first["digest"]
    assert Path(changed["path"], "result").read_text() == "two"


def test_the_mode_of_an_input_counts(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("one")
    before = build.digest_of(["true"], {}, [str(source)])
    source.chmod(0o755)
    assert build.digest_of(["true"], {}, [str(source)]) != before


def test_another_checkout_finds_the_same_build(tmp_path: Path) -> None:
    digests = set()
    for checkout in ("one", "two"):
        source = tmp_path / checkout / "source"
        source.parent.mkdir()
        source.write_text("the same")
        digests.add(build.digest_of(["bash", f"{source}/go"], {}, [str(source)]))
    assert len(digests) == 1


def test_a_missing_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(AnsibleActionFail, match=r"inputs: .*absent does not exist"):
        run(tmp_path / "cache", "true", inputs=[str(tmp_path / "absent")])


def test_a_failed_build_leaves_no_result_and_says_why(tmp_path: Path) -> None:
    with pytest.raises(AnsibleActionFail, match=r"ended with 3(.|\n)*no room left"):
        run(tmp_path / "cache", "echo half > $OUT/result; echo no room left >&2; exit 3")
    assert run(tmp_path / "cache", "true")["changed"]
    assert len(list((tmp_path / "cache" / "thing").iterdir())) == 1


def test_check_mode_builds_nothing(tmp_path: Path) -> None:
    result = run(tmp_path / "cache", "touch $OUT/result", check_mode=True)
    assert result["changed"] and not Path(result["path"]).exists()


def test_an_image_that_is_gone_is_made_again(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()

    def make() -> dict[str, Any]:
        return run(
            tmp_path / "cache",
            "",
            command=["touch", "{image}"],
            image=f"{store}/name",
            image_exists=["test", "-e"],
        )

    first = make()
    assert Path(first["image"]).exists() and not make()["changed"]
    Path(first["image"]).unlink()
    assert make()["changed"] and Path(first["image"]).exists()


def test_progress_is_shown_while_it_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "_PROGRESS_EVERY", 0.1)
    run(tmp_path / "cache", "echo compiling the kubelet; sleep 0.4")
    lines = capsys.readouterr().out.splitlines()
    assert any("compiling the kubelet" in line for line in lines[1:-1])
    assert lines[-1].startswith("  thing: built in")


def test_an_interrupted_build_is_never_taken_for_a_result(tmp_path: Path) -> None:
    """A process that is killed in the middle of a build leaves the next one everything to do."""
    code = (
        "import sys; sys.path[:0] = sys.argv[1:3]\n"
        "import pathlib\n"
        "from test_build import run\n"
        "run(pathlib.Path(sys.argv[3]), 'echo half > $OUT/result; touch $WORK/started; sleep 30')\n"
    )
    here = Path(__file__).parent
    root = Path(build.__file__).parents[5]
    process = subprocess.Popen([sys.executable, "-c", code, str(here), str(root), str(tmp_path)])
    started = tmp_path / "work" / "thing" / "started"
    for _attempt in range(1200):
        if started.exists():
            break
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    assert started.exists()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list((tmp_path / "thing").glob("*"))


def test_lanes_run_side_by_side_and_a_lane_in_its_order(tmp_path: Path) -> None:
    # Each of two lanes waits for what only the other one does: one after another never ends.
    here, there = tmp_path / "here", tmp_path / "there"
    wait = "for _ in $(seq 600); do [ -e {} ] && exit; sleep 0.05; done; exit 1"
    run_all(
        tmp_path / "cache",
        step("first", f"touch {here}; {wait.format(there)}", lane="one"),
        step("second", f"[ -d {tmp_path}/cache/first ]", lane="one"),
        step("third", f"touch {there}; {wait.format(here)}", lane="two"),
    )


def test_a_build_waits_for_what_it_needs(tmp_path: Path) -> None:
    def make() -> dict[str, Any]:
        builds: dict[str, Any] = run_all(
            tmp_path,
            step("part", "sleep 0.3; echo part >$OUT/file", lane="one"),
            step("whole", "cat {path:part}/file >$OUT/file", lane="two"),
        )["builds"]
        return builds

    made = make()
    assert Path(made["whole"]["path"], "file").read_text() == "part\n"
    assert not any(build["changed"] for build in make().values())
    # As a build by itself would be called: both ways share their results.
    alone = run(tmp_path, "sleep 0.3; echo part >$OUT/file", name="part")
    assert not alone["changed"] and alone["path"] == made["part"]["path"]


def test_a_need_that_comes_later_is_named(tmp_path: Path) -> None:
    with pytest.raises(AnsibleActionFail, match="whole: needs part"):
        run_all(tmp_path, step("whole", "ls {path:part}"), step("part", "true"))


def test_a_failure_ends_the_others_with_all_that_they_started(tmp_path: Path) -> None:
    started = tmp_path / "started"
    # A child of the build's shell, as a compiler is.
    slow = f"bash -c 'echo $$ >{started}.new; mv {started}.new {started}; exec sleep 300'; true"
    with pytest.raises(AnsibleActionFail, match=r"quick: (.|\n)*no room left"):
        run_all(
            tmp_path / "cache",
            step("slow", slow),
            step("quick", f"until [ -e {started} ]; do sleep 0.05; done; echo no room left; false"),
        )
    child = Path("/proc", started.read_text().strip())
    for _attempt in range(100):
        if not child.exists():
            break
        time.sleep(0.05)
    assert not child.exists()


def test_a_second_run_waits_for_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = tmp_path / "lock" / "thing"
    lock.parent.mkdir()
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        threading.Timer(0.5, lambda: fcntl.flock(held, fcntl.LOCK_UN)).start()
        assert run(tmp_path, "true")["changed"]
    assert "another run is building it" in capsys.readouterr().out


def test_the_steps_that_are_done_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "_PROGRESS_EVERY", 0.2)
    script = "echo go: downloading it; echo one; echo two; sleep 1"
    run(tmp_path, script, steps=["printf", "%s\n", "one", "two", "three", "four"], takes=600)
    said = capsys.readouterr().out
    assert "2 of 4 packages" in said and re.search(r"about \d+ min \d\d s left", said)


class Progress(NamedTuple):
    """As much of a build as an estimate looks at."""

    lane: str
    takes: float
    done: float
    changed: bool = True

    def share(self) -> float:
        return self.done


@pytest.mark.parametrize(
    ("builds", "spent", "left"),
    [
        # As fast as where it was measured.
        ([Progress("go", 600, 0.5)], 300, 300),
        # Half as fast.
        ([Progress("go", 600, 0.5)], 600, 600),
        # The slowest lane counts.
        ([Progress("go", 600, 0.5), Progress("debian", 100, 0.5)], 300, 300),
        # What was there already says nothing about the pace.
        ([Progress("go", 600, 1, changed=False), Progress("go", 100, 0.5)], 100, 100),
        # Too early to know the pace.
        ([Progress("go", 600, 0)], 15, 600),
    ],
)
def test_the_time_that_is_left(builds: list[Any], spent: float, left: float) -> None:
    assert build.remaining(builds, spent) == left


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "0 s"), (59.4, "59 s"), (60, "1 min 00 s"), (605, "10 min 05 s")]
)
def test_seconds_as_a_person_says_them(seconds: float, said: str) -> None:
    assert build.human(seconds) == said
