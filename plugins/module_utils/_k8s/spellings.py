# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a value that is known may be spelt in a text, as one regular expression for all spellings.

Every character may be written as it is or in any encoding that logs have: quoted for a URL (once
or again), escaped as in JSON, YAML, Python, Go or C, escaped for HTML, doubled as in SQL, CSV or
an INI file, quoted for a shell. A line may be wrapped between any two. Because each character is
free to choose, a text that is encoded in part, or twice, is found as well. Base64 is found at each
of the three places where a value may begin in a longer text.
"""

from __future__ import annotations

import base64
import functools
import json
import re
import typing as t
from urllib.parse import quote, quote_plus

# What is shorter is everywhere, and masking it would show it by its position.
SHORTEST = 4
# A value as short as this, or an ordinary word, is masked only where it stands alone.
_SHORT = 8
# So much of the beginning of a value, at the end of a text, is a part of it.
_CUT = 6
# A longer value is looked for in pieces of this length, and these in the usual spellings only: a
# pattern in which each character chooses takes its time to compile.
_LONGEST = 64
_PIECE = 24
# Without one of these, a text has only the plain spellings.
_ESCAPES = re.compile(r"[%\\&\n\r]")
# A letter or a digit that is encoded, though none needs to be.
_ENCODED_LETTER = re.compile(
    r"%(?:25)*(?:3[0-9]|[46][1-9a-fA-F]|[57][0-9aA])|\\(?:x|u00|U000000|[0-7]{3})|&(?:amp;)*#"
)
# Between two characters: the end of a line, also as an escape, and how the next one begins.
_WRAP = r"(?:[ \t│|]*[\\=]?\r?\n[ \t│|>+]*|\\+n[ \t]*)?"
_BOUNDARY = r"(?:(?<![\w./-])|(?<=\\[nrt]))", r"(?![\w/-]|\.\w)"

_ENTITIES = {"'": "apos", '"': "quot", "<": "lt", ">": "gt", "&": "amp", " ": "nbsp"}
# Spellings of single characters beyond the codes that all of them have.
_OWN = {
    "'": (r"""'\"'\"'""", r"'\\+''", r"''", r"\\*'"),
    '"': (r'""', r'\\*"'),
    "%": ("%%", "%"),
    "$": (r"\$\$", r"\\*\$"),
}


def _hexadecimal(number: int, width: int = 2) -> str:
    """Return a pattern for a number in either case."""
    digits = f"{number:0{width}x}"
    return "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in digits)


def _percent(byte: int) -> str:
    """Return a pattern for one byte of a URL: quoted, again, for an INI file, and wrapped."""
    return r"%+(?:25)*\s*" + r"\s*".join(_hexadecimal(int(digit, 16), 1) for digit in f"{byte:02x}")


@functools.lru_cache(maxsize=512)
def _codes(character: str) -> tuple[str, ...]:
    """Return the codes of one character: of URLs, of escapes with a backslash, of HTML."""
    code = ord(character)
    data = character.encode("utf-8", "surrogatepass")
    units = character.encode("utf-16-be", "surrogatepass")
    wide = "".join(
        rf"\\+u{_hexadecimal(int.from_bytes(units[at : at + 2], 'big'), 4)}"
        for at in range(0, len(units), 2)
    )
    found = [
        r"\s*".join(map(_percent, data)),
        "".join(rf"\\+x{_hexadecimal(byte)}" for byte in data),
        wide,
        rf"\\+U{_hexadecimal(code, 8)}",
        "".join(rf"\\+{byte:03o}" for byte in data),
        rf"&(?:amp;)*#(?:0*{code}|[xX]0*{_hexadecimal(code, 1)});",
    ]
    if 0x7F < code < 0x100:
        # As a text in Latin-1 has it.
        found += [rf"\\+x{_hexadecimal(code)}", _percent(code)]
    if code > 0x7F:
        # UTF-8 that was read as Latin-1.
        found.append(re.escape(data.decode("latin-1")))
    if character in _ENTITIES:
        found.append(f"&(?:amp;)*{_ENTITIES[character]};")
    return tuple(found)


@functools.lru_cache(maxsize=512)
def _one(character: str) -> str:
    """Return a pattern for one character that is neither white space nor a backslash."""
    code = ord(character)
    if code < 0x80 and character.isalnum():
        # The same as of the others, shorter: most of a secret is made of these.
        hexadecimal = _hexadecimal(code)
        return (
            rf"(?:{character}|{_percent(code)}|\\+(?:x|u00){hexadecimal}|\\+{code:03o}"
            rf"|&(?:amp;)*#(?:0*{code}|[xX]{hexadecimal});)"
        )
    own = _OWN.get(character, (rf"\\*{re.escape(character)}",))
    return f"(?:{'|'.join((*_codes(character), *own))})"


def _run(text: str) -> str:
    """Return a pattern for a run of white space or of backslashes, or for one other character."""
    if text[0] == "\\":
        codes = "|".join(_codes("\\"))
        return rf"(?:\\|{codes}){{{len(text)},}}"
    if text[0].isspace():
        codes = "|".join(code for one in sorted({*text, " "}) for code in _codes(one))
        return rf"(?:[\s+]|\\+[nrtfv]|\\+(?=\s)|{codes})+"
    return _one(text)


def _free(value: str) -> str:
    """Return the pattern in which every character chooses its spelling."""
    return _WRAP.join(_run(run) for run in re.findall(r"\s+|\\+|.", value, re.DOTALL))


def _base64_cores(data: bytes) -> t.Iterator[tuple[str, bool, bool]]:
    """Yield what base64 has of the data wherever it begins, and if characters are beside it."""
    for offset in range(3):
        end = (offset + len(data)) % 3
        encoded = base64.b64encode(b"\0" * offset + data + b"\0" * (-end % 3)).decode()
        # The characters at the ends that the neighbours have a part in.
        core = encoded[(0, 2, 3)[offset] : len(encoded) - (0, 3, 2)[end]]
        yield core, offset > 0, end > 0


def _encoded_texts(value: str) -> set[str]:
    """Return the spellings that somebody may have encoded once more."""
    return {
        value,
        quote(value, safe=""),
        quote(value),
        quote_plus(value),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        value.replace("%", "%%"),
        quote(value, safe="").replace("%", "%%"),
    }


@functools.lru_cache(maxsize=256)
def _cores(value: str) -> tuple[tuple[str, bool, bool], ...]:
    found: dict[tuple[str, bool, bool], None] = {}
    for text in sorted(_encoded_texts(value)):
        codings = ("utf-8",) if text.isascii() else ("utf-8", "latin-1")
        for coding in codings:
            for core in _base64_cores(text.encode(coding, "replace")):
                # A few letters would be found where there is nothing.
                if len(core[0]) >= 8:
                    found[core] = None
    return tuple(found)


_BASE64 = {
    "+": r"(?:[+-]|%+(?:25)*2[bB]|\\+u002[bB])",
    "/": r"(?:\\*/|_|%+(?:25)*2[fF])",
}
# The alphabet of base64 for URLs as the standard one.
_STANDARD = str.maketrans("-_", "+/")
_SQUASH = (
    (re.compile(_WRAP[:-1]), ""),
    (re.compile(r"%+(?:25)*2[bB]|\\+u002[bB]"), "+"),
    (re.compile(r"%+(?:25)*2[fF]|\\+/"), "/"),
)


@functools.lru_cache(maxsize=1024)
def _base64_pattern(core: str, before: bool, after: bool) -> re.Pattern[str]:
    inner = _WRAP.join(_BASE64.get(character, character) for character in core)
    first = r"[\w+/-]?" if before else ""
    last = rf"{_WRAP}[\w+/-]?" if after else ""
    return re.compile(f"{first}{inner}{last}(?:=|%+(?:25)*3[dD]|\\\\+u003[dD]){{0,2}}")


def _alone(value: str) -> bool:
    """Say whether a value looks like a word, or a part of one, that texts have anyway."""
    if re.search(r"\W", value):
        return False
    return len(value) < _SHORT or (value.isalpha() and value.islower())


@functools.lru_cache(maxsize=256)
def _free_pattern(value: str) -> re.Pattern[str]:
    inner = _free(value)
    if _alone(value):
        return re.compile(_BOUNDARY[0] + inner + _BOUNDARY[1], re.DOTALL)
    return re.compile(inner, re.DOTALL)


@functools.lru_cache(maxsize=256)
def _plain_pattern(value: str) -> re.Pattern[str]:
    """Return a pattern for the spellings that have no escape in them, and for common ones."""
    data = value.encode("utf-8", "surrogatepass")
    spelt = {value, value.replace(" ", "+"), value.replace("'", "''"), value.replace('"', '""')}
    spelt |= {value.replace("$", "$$"), value.replace("'", "'\"'\"'")}
    spelt |= {data.decode("latin-1"), *_encoded_texts(value)}
    inner = "|".join(re.escape(one) for one in sorted(spelt, key=len, reverse=True))
    if _alone(value):
        return re.compile(f"{_BOUNDARY[0]}(?:{inner}){_BOUNDARY[1]}")
    return re.compile(inner)


def pieces(value: str) -> list[str]:
    """Return what to look for of a value: itself, or of a long one its parts.

    Of a value in lines (a private key, say) a log may have some only. The last part of a long one
    overlaps the one before it, so that it is not short.
    """
    value = value.strip()
    parts = []
    for text in [value, *(line.strip() for line in value.splitlines()[1:])]:
        if len(text) <= _LONGEST and (text == value or len(text) >= 2 * _SHORT):
            parts.append(text)
    for line in value.splitlines() if len(value) > _LONGEST else ():
        if len(line) >= _PIECE:
            starts = [*range(0, len(line) - _PIECE, _PIECE), len(line) - _PIECE]
            parts += [line[start : start + _PIECE] for start in starts]
    return [part for part in dict.fromkeys(parts) if len(part) >= SHORTEST]


@functools.lru_cache(maxsize=8)
def _squashed(text: str) -> str:
    """Return a text with its lines joined and what base64 may be encoded in decoded."""
    for pattern, replacement in _SQUASH:
        text = pattern.sub(replacement, text)
    return text.translate(_STANDARD)


@functools.lru_cache(maxsize=256)
def _longest_run(value: str) -> str:
    """Return the longest part of a value that stays as it is unless letters are encoded."""
    return max(re.findall(r"[A-Za-z0-9]+", value), key=len, default="")


def _may_have(text: str, value: str) -> bool:
    """Say whether a closer look is worth it: the full pattern takes its time to compile."""
    return _longest_run(value) in _squashed(text) or _ENCODED_LETTER.search(text) is not None


def _mask_cut(text: str, value: str, replacement: str) -> str:
    """Mask the beginning of a value at the end of a text, which somebody cut to a length."""
    end = len(text.rstrip("….\n "))
    tail = text[max(0, end - len(value)) : end]
    at = tail.find(value[:_CUT])
    while at >= 0:
        if value.startswith(tail[at:]):
            return text[: end - len(tail) + at] + replacement + text[end:]
        at = tail.find(value[:_CUT], at + 1)
    return text


def mask(text: str, value: str, replacement: str) -> str:
    """Return the text with one piece masked, however it is spelt."""
    escaped = _ESCAPES.search(text) is not None
    found = text
    if not escaped:
        found = _plain_pattern(value).sub(lambda _match: replacement, text)
    elif len(value) == _PIECE:
        # Most likely a part of a long one.
        found = _plain_pattern(value).sub(lambda _match: replacement, text)
        if _ENCODED_LETTER.search(text):
            found = _free_pattern(value).sub(lambda _match: replacement, found)
    elif _may_have(text, value):
        found = _free_pattern(value).sub(lambda _match: replacement, text)
    squashed = _squashed(text)
    for core, before, after in _cores(value):
        if core in squashed:
            found = _base64_pattern(core, before, after).sub(lambda _match: replacement, found)
    found = _mask_cut(found, value, replacement)
    digits = value.encode("utf-8", "surrogatepass").hex()
    if len(digits) >= 12 and digits in text.lower():
        found = re.sub(digits, lambda _match: replacement, found, flags=re.IGNORECASE)
    return found


def is_in(text: str, value: str) -> bool:
    """Say whether a text has a value, or a part of a long one, however it is spelt."""
    return any(mask(text, piece, "") != text for piece in pieces(value))
