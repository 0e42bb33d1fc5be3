"""The pages that people read, and the blocks of code in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "kustomize/README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "roles").glob("*/README.md")),
]
_FENCE = re.compile(r"^( *)```(\S*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"


def read(page: Path) -> Iterator[Block]:
    """Yield the blocks of one page, in order."""
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        indent, language, body = found.groups()
        line = text.count("\n", 0, found.start()) + 1
        lines = [part.removeprefix(indent) for part in body.splitlines(keepends=True)]
        yield Block(str(page.relative_to(ROOT)), line, language, "".join(lines))


BLOCKS = [block for page in PAGES for block in read(page)]


def blocks(*languages: str, page: str = "") -> list[Block]:
    """Return the blocks in these languages, of one page or of all."""
    return [
        block
        for block in BLOCKS
        if block.language in languages and (not page or block.page == page)
    ]


def commands(block: Block) -> list[str]:
    """Return what a block has people type, one line for each command."""
    lines = re.sub(r"\s*\\\n\s*", " ", block.text)
    if block.language == "console":
        lines = "\n".join(re.findall(r"^\$ (.*)$", lines, re.MULTILINE))
    found = [re.sub(r"(^|\s+)# .*", "", line).strip() for line in lines.splitlines()]
    return [line for line in found if line]


def programs(page: str = "") -> list[tuple[str, str]]:
    """Return each Python program that the pages have people run: where it is, and its text."""
    found = [(block.name, block.text) for block in blocks("python", page=page)]
    for block in blocks("console", "bash", page=page):
        for line in commands(block):
            code = re.search(r"^python -c '(.*)'$", line)
            if code:
                found.append((block.name, code[1]))
    return found


# What stands for something of the reader's own, and something that could stand there.
_PLACEHOLDERS = {
    r"sha256:(…|\.\.\.)": f"sha256:{'0' * 64}",
    r": (…|\.\.\.)(?=\s)": ": something-of-the-readers-own",
    r"\bBUCKET\b": "bucket",
    r"\bNAME\b": "name",
    r"\bNAMESPACE\b": "team-a",
}


def filled(text: str) -> str:
    """Return a block with something in the place of each placeholder."""
    for pattern, value in _PLACEHOLDERS.items():
        text = re.sub(pattern, value, text)
    return text
