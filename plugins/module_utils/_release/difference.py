# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a release changes, in lines that a person reads. Pure functions."""

from __future__ import annotations

import json
import re
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.ownership import (
    LAST_APPLIED,
    Object,
    bare,
    identity,
)

# kustomize's hash of a generated object's content.
HASHED = re.compile(r"(?P<base>.+)-[2456789bcdfghkmt]{10}")
_LONGEST = 120
_UNSET = "(unset)"
_HIDDEN = "(not shown)"
# Where an object says what a person set: left out of the paths.
_PLAIN = ("data.", "spec.template.spec.", "spec.")

Change = tuple[str, str, str]


def base_of(name: str) -> str:
    """Return the name of a generated object without its hash; of any other, nothing."""
    found = HASHED.fullmatch(name)
    return found["base"] if found else ""


def predecessor(item: Object, others: t.Iterable[Object]) -> Object | None:
    """Return the newest object that the same generator made before this one."""
    base = base_of(item["metadata"]["name"])
    found = [
        other
        for other in others
        if base
        and base_of(other["metadata"]["name"]) == base
        and other["metadata"]["name"] != item["metadata"]["name"]
    ]
    times = {id(each): str(each["metadata"].get("creationTimestamp", "")) for each in found}
    return max(found, key=lambda each: times[id(each)], default=None)


def _shown(item: Object) -> Object:
    found = json.loads(json.dumps(bare(item)))
    annotations = found["metadata"].get("annotations") or {}
    annotations.pop(LAST_APPLIED, None)
    if not annotations:
        found["metadata"].pop("annotations", None)
    if base_of(found["metadata"]["name"]):
        found["metadata"].pop("name")
    return t.cast(Object, found)


def _text(value: t.Any) -> str:
    if value is None:
        return _UNSET
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 2]} …"


def _named(values: list[t.Any]) -> dict[str, t.Any] | None:
    """Return a list's entries by their names, if they all have one of their own."""
    names = [item.get("name") if isinstance(item, dict) else None for item in values]
    if None in names or len(set(names)) != len(names):
        return None
    return dict(zip(map(str, names), values, strict=True))


def _walk(before: t.Any, after: t.Any, path: str) -> t.Iterator[Change]:
    if before == after:
        return
    if isinstance(before, list) and isinstance(after, list):
        one, other = _named(before), _named(after)
        if one is not None and other is not None:
            before, after = one, other
        elif len(before) == len(after):
            before, after = dict(enumerate(before)), dict(enumerate(after))
    # An environment variable, and the like: its name is the path.
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            yield from _walk(before.get(key), after.get(key), f"{path}.{key}" if path else str(key))
        return
    for value in (before, after):
        if isinstance(value, dict) and set(value) == {"name", "value"}:
            yield path, _value_of(before), _value_of(after)
            return
    old, new = _text(before), _text(after)
    # The reference to a generated object follows its content, which is shown.
    if base_of(old) and base_of(old) == base_of(new):
        return
    yield path, old, new


def _value_of(entry: t.Any) -> str:
    return _text(entry.get("value")) if isinstance(entry, dict) else _text(entry)


def _short(path: str) -> str:
    for prefix in _PLAIN:
        if path.startswith(prefix):
            return path.removeprefix(prefix)
    return path


def changes(before: Object, after: Object) -> list[Change]:
    """Return path, old and new value of all that differs; of a Secret, no value."""
    found = [
        (_short(path), old, new) for path, old, new in _walk(_shown(before), _shown(after), "")
    ]
    if after["kind"] == "Secret":
        return [(path, _HIDDEN, _HIDDEN) for path, _old, _new in found]
    return found


def lines(there: Object | None, then: Object) -> list[str]:
    """Return what applying one object changes, one thing a line."""
    name = "/".join(identity(then))
    if then["kind"] == "Job":
        return [f"{name}: runs"]
    if there is None:
        return [f"{name}: is new"]
    found = changes(there, then)
    if there["metadata"]["name"] != then["metadata"]["name"]:
        name = f"{name}, before {there['metadata']['name']}"
    if not found:
        follows = (there.get("spec") or {}) != (then.get("spec") or {})
        return [f"{name}: {'restarts with its new configuration' if follows else 'changes owner'}"]
    if then["kind"] == "Secret":
        return [f"{name}: {', '.join(path for path, _old, _new in found)} (values are not shown)"]
    return [f"{name}: {path}: {old} → {new}" for path, old, new in found]


def summary(changed: t.Mapping[str, t.Sequence[str]], pruned: int) -> str:
    """Return how much changes, in one line."""
    verbs = [entry.partition(" ")[0] for entries in changed.values() for entry in entries]
    parts = [
        f"{count} {word}"
        for count, word in (
            (verbs.count("create"), "new"),
            (verbs.count("update"), "changed"),
            (pruned, "deleted"),
        )
        if count
    ]
    return f"In all: {', '.join(parts)}" if parts else "Nothing changes"
