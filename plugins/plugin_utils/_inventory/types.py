# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold variables against the roles' argument specs: names, types and choices."""

from __future__ import annotations

import difflib
import re
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.errors import full_stop

PREFIX = "mlflow_"
_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")


def suggestion(name: str, known: t.Iterable[str]) -> str:
    """Return C(; did you mean X?) when one of the known names is close, else nothing."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    # And a second one that is about as close: what is nearest by its letters need not be meant.
    close += [
        other
        for other in difflib.get_close_matches(name, names, n=2, cutoff=0.8)[1:]
        if _likeness(name, close[0]) - _likeness(name, other) < 0.05
    ]
    close = (
        close
        or [candidate for candidate in names if len(name) >= 3 and candidate.startswith(name)][:1]
    )
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, other, one).ratio()


# Where what a variable said is said now.
MOVED = {
    "mlflow_service_type": "mlflow_service.type",
    "mlflow_node_port": "mlflow_service.nodePort",
}


def unknown_names(names: t.Iterable[str], known: t.Collection[str]) -> list[str]:
    """Name every variable under C(mlflow_) that no role documents."""
    return [
        f"{name}: is now {MOVED[name]}"
        if name in MOVED
        else f"{name}: no such variable{suggestion(name, known)}"
        for name in sorted(names)
        if name.startswith(PREFIX) and name not in known
    ]


_ARTICLE = {
    "str": "a string", "path": "a path", "int": "a whole number", "bool": "true or false",
    "list": "a list", "dict": "a mapping", "float": "a number", "raw": "a value",
}  # fmt: skip
_FOUND = {str: "a string", bool: "a boolean", int: "a number", float: "a number",
          list: "a list", tuple: "a list", dict: "a mapping"}  # fmt: skip


def found(value: object) -> str:
    """Return what a value is, in words."""
    for python_type, words in _FOUND.items():
        if isinstance(value, python_type) and not (
            python_type is int and value in (True, False) and isinstance(value, bool)
        ):
            return words
    return "nothing" if value is None else "something else"


def _has_type(value: object, wanted: str) -> bool:
    """Whether the value is of the type, or a string (from C(-e)) that spells one."""
    if wanted in ("str", "path"):
        return isinstance(value, str)
    if wanted == "int":
        if isinstance(value, str):
            return re.fullmatch(r"[-+]?\d+", value.strip()) is not None
        return isinstance(value, int) and not isinstance(value, bool)
    if wanted == "float":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if wanted == "bool":
        return isinstance(value, bool) or str(value).lower() in _TRUE + _FALSE
    if wanted == "list":
        return isinstance(value, (list, tuple))
    if wanted == "dict":
        return isinstance(value, dict)
    return True


def converted(value: t.Any, wanted: str) -> t.Any:
    """Turn a value that C(_has_type) accepted into that type."""
    if wanted == "int":
        return int(value)
    if wanted == "bool":
        return value if isinstance(value, bool) else str(value).lower() in _TRUE
    return value


def check_value(name: str, spec: dict[str, t.Any], value: t.Any) -> list[str]:
    """Hold one value against its option in an argument spec."""
    wanted = spec.get("type", "str")
    if value is None or (value == "" and wanted in ("path", "int", "list", "dict")):
        return [f"{name}: is required"] if spec.get("required") else []
    if not _has_type(value, wanted):
        hint = ""
        if wanted == "str" and isinstance(value, (int, float, bool)):
            hint = " (put it in quotes)"
        elif wanted == "list" and isinstance(value, str):
            hint = " (write it as [one, two])"
        return [f"{name}: must be {_ARTICLE[wanted]}, not {found(value)}{hint}"]
    problems = []
    choices = spec.get("choices") or []
    chosen = value if wanted == "list" else [value]
    for item in chosen if choices else []:
        if item in choices:
            continue
        listed = ", ".join(str(choice) for choice in choices if choice != "")
        said = "" if spec.get("no_log") else f", not {item!s}"
        close = suggestion(str(item), [str(choice) for choice in choices if choice])
        problems.append(f"{name}: must be one of {listed}{said}{close}")
    if wanted == "list" and spec.get("elements"):
        for index, item in enumerate(value):
            if item is None or item == "" or not _has_type(item, spec["elements"]):
                problems.append(
                    f"{name}[{index}]: must be {_ARTICLE[spec['elements']]}, not "
                    f"{'an empty one' if item == '' else found(item)}"
                )
            elif spec.get("options"):
                problems += check_value(f"{name}[{index}]", {**spec, "type": "dict"}, item)
    if wanted == "dict" and spec.get("options"):
        for key, item in value.items():
            if key not in spec["options"]:
                problems.append(f"{name}.{key}: no such key{suggestion(key, spec['options'])}")
            else:
                problems += check_value(f"{name}.{key}", spec["options"][key], item)
        for key, option in spec["options"].items():
            if option.get("required") and key not in value:
                problems.append(f"{name}.{key}: is not set")
    return problems


def check_types(
    specs: dict[str, dict[str, t.Any]], values: dict[str, t.Any]
) -> tuple[dict[str, t.Any], list[str]]:
    """Return the values that have the right type, converted, and a line for each that has not."""
    good: dict[str, t.Any] = {}
    problems: list[str] = []
    for name, spec in specs.items():
        if name not in values:
            if spec.get("required"):
                choices = ", ".join(str(choice) for choice in spec.get("choices", []))
                listed = f" (one of {choices})" if choices else ""
                # Only what describes a release is a matter of the inventory.
                advice = (
                    "choose an inventory, such as -i inventories/development"
                    if name.startswith(PREFIX)
                    else f"set it, with -e {name}=… for instance"
                )
                problems.append(f"{name}: is not set{listed}; {advice}")
            continue
        wrong = check_value(name, spec, values[name])
        problems += wrong
        if not wrong and values[name] is not None and values[name] != "":
            good[name] = converted(values[name], spec.get("type", "str"))
    return good, problems


def report(problems: t.Sequence[str]) -> str:
    """Put the problems into the one message a person reads."""
    if len(problems) == 1:
        return full_stop(problems[0], "Nothing was written.")
    lines = "\n".join(f"  - {problem}" for problem in problems)
    return f"{len(problems)} problems, nothing was written:\n{lines}"
