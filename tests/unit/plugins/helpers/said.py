# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person reads at the end of a wait, kept for each test in ../fixtures/said.

A test says what it is about; all words, and the second in which they come, are held
here. Words that were changed on purpose are kept with:
    MLFLOW_TEST_KEEP=1 pytest tests/unit/plugins/module_utils
"""

from __future__ import annotations

import atexit
import collections
import os
import pathlib
import typing as t

import yaml

FOLDER = pathlib.Path(__file__).parents[1] / "fixtures" / "said"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
KEEP = bool(os.environ.get("MLFLOW_TEST_KEEP"))

_files: dict[str, dict[str, list[str]]] = {}
_calls: collections.Counter[str] = collections.Counter()


def compare(text: str) -> None:
    """Hold what the test that runs now got to read against what is kept of it, if its file is."""
    path, _colons, name = os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0].partition("::")
    module = pathlib.Path(path).stem.removeprefix("test_")
    kept = _read(module)
    if kept is None:
        return
    number = _calls[f"{module}::{name}"]
    _calls[f"{module}::{name}"] += 1
    told = kept.setdefault(name, [])
    if KEEP:
        told[number:] = [text]
        return
    assert number < len(told), f"not kept yet, see {__name__}:\n{text}"
    assert text == told[number]


def _read(module: str) -> dict[str, list[str]] | None:
    """Return what is kept of a module's tests; None if nothing is, as of what is made at random."""
    path = FOLDER / f"{module}.yml"
    if module not in _files and path.exists():
        text = path.read_text(encoding="utf-8")
        _files[module] = yaml.load(text, LOADER) or {}  # noqa: S506
        if KEEP:
            _files[module] = {}
            atexit.register(_write, module)
    return _files.get(module)


def _write(module: str) -> None:
    class Dumper(yaml.SafeDumper):
        # yamllint wants lists in from their key.
        def increase_indent(self, flow: bool = False, indentless: bool = False) -> t.Any:
            return super().increase_indent(flow, False)

    def text(dumper: t.Any, value: str) -> t.Any:
        style = "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    found = yaml.dump(_files[module], Dumper=Dumper, width=10_000, allow_unicode=True)
    (FOLDER / f"{module}.yml").write_text(f"---\n{found}", encoding="utf-8")
