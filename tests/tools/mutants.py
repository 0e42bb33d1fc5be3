#!/usr/bin/env python
"""Change what judges at random, and see whether its tests notice.

    make mutants                      # 200 changes
    make mutants MUTANTS="--number 20 --seed 5 --only hints"

Each change is made in memory, in a process of its own, which then runs the tests of that module.
A change that no test notices is printed. One that changes nothing that anybody could see is listed,
with why, in mutants.yml beside this file. What the schema helper reads of a database is judged by
tests with a real one: `python scripts/test.py --only integration` installs what they need.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import importlib.machinery
import os
import random
import signal
import sys
import tempfile
import time
import typing as t
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
EQUAL = Path(__file__).with_suffix(".yml")
WAIT = "plugins/module_utils/_wait"
UNIT = "tests/unit/plugins/module_utils"
STREAMS = [
    f"{UNIT}/test_{name}.py"
    for name in (
        "numbers",
        "other_clusters",
        "strict",
        "silence",
        "age",
        "culprit",
        "verdict",
        "false_alarms",
    )
]
HELPER = "kustomize/base/schema.py"
# What judges, and the tests that should notice, those first that mostly do.
JUDGES: dict[str, list[str]] = {
    **{
        f"{WAIT}/verdict_{name}.py": STREAMS
        for name in ("containers", "jobs", "pods", "terms", "volumes", "workloads")
    },
    f"{WAIT}/verdict_custom.py": [f"{UNIT}/test_custom.py", f"{UNIT}/test_other_clusters.py"],
    f"{WAIT}/custom_rules.py": [
        f"{UNIT}/test_custom.py",
        "tests/unit/plugins/modules/test_wait_modules.py",
        f"{UNIT}/test_other_clusters.py",
    ],
    f"{WAIT}/reasons.py": [*STREAMS, f"{UNIT}/test_interleaving.py"],
    f"{WAIT}/hints.py": [f"{UNIT}/test_words.py", *STREAMS],
    f"{WAIT}/outcome.py": [f"{UNIT}/test_outcome.py", *STREAMS, f"{UNIT}/test_engine.py"],
    f"{WAIT}/schema.py": [f"{UNIT}/test_schema_words.py", f"{UNIT}/test_words.py", *STREAMS],
    HELPER: ["tests/unit/schema_helper", "tests/integration/schema_helper"],
}
# Seconds for the tests of one change: one that makes them go on forever is noticed.
LIMIT = 900

_COMPARE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.BitOr: ast.BitAnd,
}  # fmt: skip


class Mutant(t.NamedTuple):
    """One change: where, of what kind, and the module's text with it."""

    path: str
    line: int
    # The line as it is, and the change in words: by these it is known again.
    text: str
    change: str
    source: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}\n    {self.change}"


def _changes(node: ast.AST) -> t.Iterator[tuple[str, t.Callable[[], None]]]:
    """Yield what can be changed in a node: in words, and what does it."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARE:
        old, new = type(node.ops[0]), _COMPARE[type(node.ops[0])]
        yield f"{old.__name__} to {new.__name__}", _set(node, "ops", [new(), *node.ops[1:]])
    elif isinstance(node, ast.BoolOp):
        new_op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield f"{type(node.op).__name__} to {type(new_op).__name__}", _set(node, "op", new_op)
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS and not _is_text(node):
        operator = _OPERATORS[type(node.op)]
        yield f"{type(node.op).__name__} to {operator.__name__}", _set(node, "op", operator())
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield f"{node.value} to {not node.value}", _set(node, "value", not node.value)
        elif isinstance(node.value, (int, float)):
            yield f"{node.value} to {node.value + 1}", _set(node, "value", node.value + 1)
        elif isinstance(node.value, str) and node.value.strip():
            yield f"{node.value[:40]!r} to 'mutant'", _set(node, "value", "mutant")
    elif isinstance(node, (ast.If, ast.IfExp, ast.While)):
        negated = ast.UnaryOp(ast.Not(), node.test)
        yield "condition negated", _set(node, "test", negated)
    elif isinstance(node, ast.Return) and node.value is not None:
        yield "return to None", _set(node, "value", ast.Constant(None))
    elif isinstance(node, ast.Continue):
        yield "continue to break", _become(node, ast.Break)


def _set(node: ast.AST, name: str, value: t.Any) -> t.Callable[[], None]:
    return lambda: setattr(node, name, value)


def _become(node: ast.AST, kind: type[ast.AST]) -> t.Callable[[], None]:
    return lambda: setattr(node, "__class__", kind)


def _is_text(node: ast.BinOp) -> bool:
    """Say whether two texts are joined: to subtract them is an error, and no test of a test."""
    return any(isinstance(side, (ast.JoinedStr, ast.Constant)) and not isinstance(
        getattr(side, "value", ""), (int, float)
    ) for side in (node.left, node.right))  # fmt: skip


def _skipped(tree: ast.Module) -> set[int]:
    """Return the nodes that mean nothing: documentation, types, what is said to a reader."""
    found: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr):
                found.update(id(one) for one in ast.walk(first))
        for name in ("annotation", "returns", "decorator_list"):
            part = getattr(node, name, None)
            for one in part if isinstance(part, list) else [part]:
                if isinstance(one, ast.AST):
                    found.update(id(inner) for inner in ast.walk(one))
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found.add(id(node))
        # The words of a cast.
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "t.cast" and node.args:
            found.add(id(node.args[0]))
    return found


def draw(number: int, seed: int, only: str) -> list[Mutant]:
    """Return changes at random: each module has as many as it has places for them."""
    choice = random.Random(seed)  # noqa: S311 - a sample, no secret
    places = [
        (path, index)
        for path in JUDGES
        if only in path
        for index in range(len(_places(ast.parse((ROOT / path).read_text(encoding="utf-8")))))
    ]
    drawn = sorted(choice.sample(places, min(number, len(places))))
    return [_mutant(path, index) for path, index in drawn]


def _places(tree: ast.Module) -> list[tuple[ast.AST, str, t.Callable[[], None]]]:
    """Return all that can be changed in a module."""
    skipped = _skipped(tree)
    return [
        (node, words, change)
        for node in ast.walk(tree)
        if id(node) not in skipped
        for words, change in _changes(node)
    ]


def _mutant(path: str, index: int) -> Mutant:
    text = (ROOT / path).read_text(encoding="utf-8")
    tree = ast.parse(text)
    node, words, change = _places(tree)[index]
    change()
    line = getattr(node, "lineno", 1)
    source = ast.unparse(ast.fix_missing_locations(tree))
    return Mutant(path, line, text.splitlines()[line - 1].strip(), words, source)


def _give(mutant: Mutant, folder: str) -> None:
    """Let the changed text be loaded in place of the module's, wherever that is loaded from."""
    if mutant.path == HELPER:
        # Tests with a real database run it in a process of its own, with MLflow's Python.
        copy = Path(folder, "schema.py")
        copy.write_text(mutant.source, encoding="utf-8")
        os.environ["MLFLOW_TEST_SCHEMA"] = str(copy)
    target, loader = ROOT / mutant.path, importlib.machinery.SourceFileLoader
    usual = loader.get_code

    def get_code(self: importlib.machinery.SourceFileLoader, fullname: str) -> t.Any:
        if Path(self.path).resolve() == target:
            return compile(mutant.source, self.path, "exec")
        return usual(self, fullname)

    loader.get_code = get_code  # type: ignore[method-assign,assignment]


def fails(tests: list[str], mutant: Mutant | None = None) -> bool:
    """Say whether a test fails, with the change if there is one, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        child = os.fork()
        if child == 0:
            _be_the_tests(tests, mutant, folder)
        _pid, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status) != 0


def _be_the_tests(tests: list[str], mutant: Mutant | None, folder: str) -> t.NoReturn:
    code = 1
    try:
        if mutant:
            signal.alarm(LIMIT)
            _give(mutant, folder)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        import pytest

        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
        code = int(pytest.main([*options, *tests]))
    finally:
        os._exit(code)


def equal() -> set[tuple[str, str, str]]:
    """Return the changes that are known to change nothing."""
    listed = yaml.safe_load(EQUAL.read_text(encoding="utf-8")) or []
    return {(one["path"], one["text"], one["change"]) for one in listed}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--number", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="a part of the module's path")
    parser.add_argument("--seconds", type=float, default=86400.0, help="begin none after this")
    chosen = parser.parse_args()
    os.chdir(ROOT)
    # What takes long to load and is not changed, once for all.
    for name in ("pytest", "hypothesis", "kubernetes", "ansible.module_utils.basic"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    end = time.monotonic() + chosen.seconds
    known = equal()
    drawn = draw(chosen.number, chosen.seed, chosen.only)
    every = sorted({test for mutant in drawn for test in JUDGES[mutant.path]})
    if fails(every):
        print("these tests fail without any change:", *every)
        return 1
    counts = {"noticed": 0, "not noticed": 0, "equal": 0}
    for mutant in random.Random(chosen.seed).sample(drawn, len(drawn)):  # noqa: S311
        if time.monotonic() > end:
            break
        if (mutant.path, mutant.text, mutant.change) in known:
            counts["equal"] += 1
        elif fails(JUDGES[mutant.path], mutant):
            counts["noticed"] += 1
        else:
            counts["not noticed"] += 1
            print(mutant, flush=True)
    judged = counts["noticed"] + counts["not noticed"]
    share = 100 * counts["noticed"] / judged if judged else 0.0
    print(", ".join(f"{number} {words}" for words, number in counts.items()), f"({share:.0f} %)")
    return 0 if share >= 90 else 1


if __name__ == "__main__":
    sys.exit(main())
