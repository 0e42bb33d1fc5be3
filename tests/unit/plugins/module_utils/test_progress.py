# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is said during a long wait, and how often."""

from __future__ import annotations

import pathlib

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._release import progress as _progress


def test_says_what_is_new_and_repeats_what_is_not() -> None:
    """Nothing at first, then changes at most once a second, and a sign of life now and then."""
    said: list[str] = []
    progress = _progress.Progress(said.append)
    for second in range(40):
        progress("a" if second < 10 else "b", float(second))
        progress("c" if second == 20 else "b" if second >= 10 else "a", second + 0.5)
    assert said == ["a · 3 s", "b · 10 s", "c · 20 s", "b · 22 s", "b · 36 s"]


def test_writes_to_the_file_that_is_named(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment names the file; without it nothing is written, and a lost one is no error."""
    monkeypatch.delenv(_progress.VARIABLE, raising=False)
    assert _progress.progress_from_environment() is None
    monkeypatch.setenv(_progress.VARIABLE, str(tmp_path / "lines"))
    progress = _progress.progress_from_environment()
    assert progress is not None
    progress("waiting", 5.0)
    assert (tmp_path / "lines").read_text(encoding="utf-8") == "waiting · 5 s\n"
    monkeypatch.setenv(_progress.VARIABLE, str(tmp_path / "gone" / "lines"))
    lost = _progress.progress_from_environment()
    assert lost is not None
    lost("waiting", 5.0)
