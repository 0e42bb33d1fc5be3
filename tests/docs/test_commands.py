"""What the pages have people type names what there is: targets, playbooks, variables, files."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from ansible_collections.mlops.mlflow.plugins.filter.survey import specs
from ansible_collections.mlops.mlflow.tests.docs.pages import PAGES, ROOT, Block, blocks, commands

TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
# Names that stand for one of the reader's own.
PLACEHOLDER = re.compile(
    r"[A-Z]{2,}|…|^/|~|^inventor(y|ies)\.yml$|^@?(vault|gone)\.yml$|^job$|^tenants$"
)
TYPED = [(block, line) for block in blocks("console", "bash") for line in commands(block)]
# Variables of a playbook of its own, which no role documents.
OF_PLAYBOOKS = ("kind_", "ee_", "plan_file", "status_file")
# A module, MLflow's metrics, and what is in the database.
OF_OTHERS = re.compile(
    r"mlflow_(info$|http_|otlp_|exporter_|restoring$|rehearsal$|before_|restore_test$|b$)"
)
IN_PROSE = re.compile(r"`((?:mlflow|awx|teardown|rotate|pin)_[a-z0-9_]+)\b[^`]*`")


def test_there_are_commands() -> None:
    assert len(TYPED) > 60


@pytest.mark.parametrize("block", blocks("bash"), ids=lambda block: block.name)
def test_bash_reads_it(block: Block) -> None:
    """The whole block, with something that bash takes for the placeholder of a name."""
    text = block.text.replace("…", "X")
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("block", "line"), TYPED, ids=[f"{block.name} {line}" for block, line in TYPED]
)
def test_what_is_typed_is_there(block: Block, line: str) -> None:
    for target in re.findall(r"\bmake (?:-s )?([a-z-]+)", line):
        assert target in TARGETS, target
    for name in re.findall(r"\bmlops\.mlflow\.(\w+)", line):
        kinds = ("playbooks", "plugins/modules", "roles")
        assert any(list((ROOT / kind).glob(f"{name}*")) for kind in kinds), name
    for scenario in re.findall(r"molecule test -s (\S+)", line):
        assert PLACEHOLDER.search(scenario) or (ROOT / "molecule" / scenario).is_dir(), scenario
    for path in re.findall(
        r"(?<![\w/.])(?:dev|docs|kustomize|playbooks|scripts|tests)/[\w./-]+",
        line,
    ):
        assert (ROOT / path).exists(), path
    # A command line that Ansible's own parser takes.
    if line.startswith(("ansible-playbook ", "ansible ")):
        check_playbook(line)


def check_playbook(line: str) -> None:
    words = shlex.split(line)[1:]
    for flag, value in zip(words, [*words[1:], ""], strict=True):
        if flag == "-i":
            assert PLACEHOLDER.search(value) or (ROOT / value).exists(), value
        elif flag in ("-e", "--extra-vars"):
            check_variables(value)
        elif flag.startswith("-"):
            known = {"--check", "--diff", "--limit", "-v", "-vv", "-vvv", "--ask-vault-pass"}
            assert flag.partition("=")[0] in known, flag
        elif flag.endswith(".yml"):
            assert PLACEHOLDER.search(flag) or (ROOT / flag).is_file(), flag


def check_variables(text: str) -> None:
    for name in re.findall(r"(?:^|[{,\s])\"?([a-z_]+)\"?(?==|:)", text):
        assert name.startswith(OF_PLAYBOOKS) or name in specs(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_variable_in_a_sentence_is_there(page: Path) -> None:
    text = page.read_text()
    for name in IN_PROSE.findall(text):
        # A name that ends in _ stands for all that begin with it.
        whole = [known for known in specs() if known.startswith(name)] if name[-1] == "_" else []
        assert whole or name in specs() or OF_OTHERS.match(name), name
