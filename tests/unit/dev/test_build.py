# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A long build: done once for its inputs, never half, and seen to be alive."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.mlops.mlflow.dev.action_plugins import build


def run(cache: Path, script: str, check_mode: bool = False, **arguments: Any) -> dict[str, Any]:
    task = SimpleNamespace(
        args={
            "name": "thing",
            "cache_dir": str(cache),
            "command": ["bash", "-ec", script],
            **arguments,
        },
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


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "0 s"), (59.4, "59 s"), (60, "1 min 00 s"), (605, "10 min 05 s")]
)
def test_seconds_as_a_person_says_them(seconds: float, said: str) -> None:
    assert build.human(seconds) == said
