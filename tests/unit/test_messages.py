"""A command in a message can be copied: it ends its line, and no full stop is copied with it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.errors import full_stop

ROOT = Path(__file__).resolve().parents[2]
# A program with something to do, or an option that is to be added to the run.
COMMAND = re.compile(
    r"(?<![\w./-])(?:(?:kubectl|ansible-playbook|ansible-galaxy|pip|podman|helm|make) (?:-|[a-z{]+)"
    r"|-e [\w'{]|playbooks/\w+\.yml)"
)
# "kubectl applied it": what a program did, not what to type.
SPOKEN = re.compile(r"kubectl (?:applied|alone|has)\b|make (?:it|what|room|them|the)\b")
# What ends a command within its line: it would be copied, too.
MORE = re.compile(r"[.;:,)](?:\s|$)|\s(?:and|or|waits|lists)\s")
# Keys of a task whose texts a person reads, and variables that hold such texts.
SAID = re.compile(r"(?:fail_|success_)?msg|prompt|__\w+")


class Message(NamedTuple):
    """A text, where it is, and whether Ansible prints it as a part of a list."""

    where: str
    text: str
    listed: bool = False

    def __str__(self) -> str:
        return self.where


def wrong_lines(text: str) -> list[str]:
    """Return the lines in which something follows a command."""
    return [
        line
        for line in text.splitlines()
        for found in COMMAND.finditer(line)
        if not SPOKEN.match(line, found.start()) and MORE.search(line, found.end())
    ]


def of_roles() -> Iterator[Message]:
    for path in sorted((ROOT / "roles").glob("*/*/*.yml")):
        if path.parent.name in ("tasks", "vars"):
            name = str(path.relative_to(ROOT))
            yield from texts(name, yaml.safe_load(path.read_text(encoding="utf-8")))


def texts(where: str, value: Any, said: bool = False, listed: bool = False) -> Iterator[Message]:
    if isinstance(value, dict):
        for key, item in value.items():
            is_said = said or bool(SAID.fullmatch(str(key)))
            yield from texts(f"{where}: {key}", item, is_said, listed)
    elif isinstance(value, list):
        for item in value:
            yield from texts(where, item, said, listed or said)
    elif isinstance(value, str) and said:
        yield Message(where, value, listed and where.endswith("msg"))


def of_plugins() -> Iterator[Message]:
    for path in sorted((ROOT / "plugins").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inner: set[int] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr):
                inner.add(id(node.value))
            if isinstance(node, ast.JoinedStr):
                inner.update(id(part) for part in ast.walk(node) if part is not node)
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "").isupper():
                # Documentation, which is read elsewhere.
                documents = {"DOCUMENTATION", "EXAMPLES", "RETURN"}
                if getattr(node.targets[0], "id", "") in documents:
                    inner.add(id(node.value))
        for node in ast.walk(tree):
            if id(node) in inner:
                continue
            where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield Message(where, node.value)
            elif isinstance(node, ast.JoinedStr):
                yield Message(where, "".join(
                    str(part.value) if isinstance(part, ast.Constant) else "{}"
                    for part in node.values
                ))  # fmt: skip


ALL = [found for found in (*of_roles(), *of_plugins()) if COMMAND.search(found.text)]


def test_there_are_messages_with_commands() -> None:
    assert len(ALL) > 40


@pytest.mark.parametrize("message", ALL, ids=str)
def test_nothing_follows_a_command_in_its_line(message: Message) -> None:
    assert wrong_lines(message.text) == []


@pytest.mark.parametrize(
    "message", [found for found in ALL if found.where.startswith("roles/")], ids=str
)
def test_yaml_does_not_break_a_command(message: Message) -> None:
    """It breaks what is long, unless the text has lines of its own; items of a list as well."""
    assert not message.listed
    if message.where.endswith("msg"):
        assert "\n" in message.text or "join('\\n')" in message.text


def test_a_command_at_the_end_of_an_error_gets_no_full_stop() -> None:
    assert full_stop("the lock is held") == "the lock is held."
    assert full_stop("it is held: kubectl delete lease x") == "it is held: kubectl delete lease x"
    assert full_stop("wait for it: -e mlflow_lock_wait=9") == "wait for it: -e mlflow_lock_wait=9"
    assert full_stop("it is held", "Nothing was written.") == "it is held. Nothing was written."
    assert full_stop("see\nkubectl get pods", "Nothing was written.") == (
        "see\nkubectl get pods\nNothing was written."
    )
    assert full_stop("kubectl get pods\nand then this") == "kubectl get pods\nand then this."


@pytest.mark.parametrize(
    "line",
    [
        "To do it: -e mlflow_rollback_restore=true. The database of today is kept.",
        "Break it: kubectl -n x delete lease y.",
        "name it (-e mlflow_backup=NAME), or a file",
        "see kubectl get pvc, and make it larger",
    ],
)
def test_what_would_be_copied_with_a_command_is_seen(line: str) -> None:
    assert wrong_lines(line) == [line]


def test_a_command_that_stands_alone_is_not_held_against_it() -> None:
    for line in (
        "See the pods: kubectl -n x get pods,services -o jsonpath='{.items[0].spec}'",
        "kubectl applied it, and so on.",
        "Delete it. Then: ansible-playbook playbooks/restore.yml -e mlflow_backup={{ x }}",
    ):
        assert wrong_lines(line) == []
