# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build a kustomization through the lookup kubernetes.core.kustomize.

The lookup waits for ever and puts what kustomize says into its error, values of Secrets included.
So it runs in a process of its own that can be ended, and what it says is masked before it is shown.
"""

from __future__ import annotations

import ast
import base64
import binascii
import contextlib
import json
import os
import pathlib
import re
import select
import signal
import subprocess
import time
import typing as t

import yaml
from ansible.errors import AnsibleError
from ansible_collections.kubernetes.core.plugins.lookup.kustomize import LookupModule

NEEDED = (5, 4)
_LONGEST_LINE = 600
_LARGEST_FILE = 262144
_MOST_FOLDERS = 50
_HIDDEN = "********"
_SHORT = 8
# Some builds of kubectl, such as gcloud's, log their error in a line of klog, in Go's quotes.
_LOGGED = re.compile(r'E\d{4} .* err=("(?:[^"\\]|\\.)*")\s*$', re.MULTILINE)
# What stands behind these is no value, in a file that cannot be read as YAML.
_NO_VALUES = ("kind", "apiVersion", "resources", "name", "namespace")


class BuildError(Exception):
    """Why there is no build. It may quote a Secret: see readable."""


class NoAnswerError(Exception):
    """There is no build, for a reason that has nothing to do with what was to be built."""


class Kustomize:
    """One binary, kustomize or kubectl, and how it is to be called."""

    def __init__(
        self,
        binary: str,
        enable_helm: bool = False,
        environment: dict[str, str] | None = None,
        seconds: float = 60,
    ) -> None:
        self.binary = binary
        self._helm = enable_helm
        self._environment = environment or None
        self._seconds = seconds
        self._checked = False

    def build(self, folder: pathlib.Path) -> str:
        """Return what is built of a folder; raise BuildError or NoAnswerError."""
        asked = None if self._checked else self._ask_version()
        try:
            kind, text = _apart(lambda: self._look_up(folder), self._seconds)
        finally:
            if asked is not None:
                self._check_version(asked)
        if kind == "late":
            raise NoAnswerError(
                f"kustomize did not finish building {folder} in {self._seconds:g} s; does it name "
                "something on the network?"
            )
        if kind == "broken":
            raise NoAnswerError(f"{self.binary} cannot be started")
        if kind == "error":
            raise BuildError(text)
        return text

    def _look_up(self, folder: pathlib.Path) -> str:
        built = LookupModule().run(
            [],
            {},
            dir=str(folder),
            binary_path=self.binary,
            enable_helm=self._helm,
            environment=self._environment,
        )
        return str(built[0])

    def _ask_version(self) -> subprocess.Popen[str] | None:
        """Ask the binary for its version, beside the first build."""
        kubectl = self.binary.endswith("kubectl")
        command = [self.binary, "version", *(["--client"] if kubectl else [])]
        with contextlib.suppress(OSError):  # the build says so
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        return None

    def _check_version(self, asked: subprocess.Popen[str]) -> None:
        try:
            said, _errors = asked.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            asked.kill()
            asked.communicate()
            raise NoAnswerError(f"{self.binary} does not say its version") from None
        version = version_of(said)
        if version and version < NEEDED:
            found, needed = (".".join(map(str, each)) for each in (version, NEEDED))
            raise NoAnswerError(
                f"{self.binary} has kustomize {found}, and this tree takes {needed} or newer; "
                "mlflow_kustomize.binary names another"
            )
        self._checked = True


def version_of(said: str) -> tuple[int, int] | None:
    """Return major and minor of kustomize, from what it or kubectl says; None if it is not told."""
    lines = [line for line in said.splitlines() if "Kustomize Version" in line]
    if not lines and "Client Version" in said:
        return None
    found = re.search(r"\bv(\d+)\.(\d+)\.\d+", (lines or [said])[0])
    # A build from a checkout calls itself v0.0.0 or (devel).
    return (int(found[1]), int(found[2])) if found and int(found[1]) else None


def _apart(work: t.Callable[[], str], seconds: float) -> tuple[str, str]:
    """Do work in a process that is ended, children included, when it takes too long.

    Return what came of it: built, error, broken or late, and the text.
    """
    out, into = os.pipe()
    child = os.fork()
    if not child:
        os.close(out)
        _work_and_exit(work, into)
    os.close(into)
    end = time.monotonic() + seconds
    received = b""
    try:
        while True:
            ready, _w, _x = select.select([out], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                return "late", ""
            chunk = os.read(out, 1 << 20)
            if not chunk:
                break
            received += chunk
        kind, text = json.loads(received or b'["broken", ""]')
        return kind, text
    finally:
        os.close(out)
        with contextlib.suppress(ProcessLookupError):  # it ended by itself
            os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _work_and_exit(work: t.Callable[[], str], into: int) -> t.NoReturn:
    """Do the work in this child process, say what came of it, and end without any clean-up."""
    answer = ("broken", "")
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        try:
            answer = ("built", work())
        except AnsibleError as error:
            answer = ("error", str(getattr(error, "message", error)))
        except OSError:
            answer = ("broken", "")
        with os.fdopen(into, "wb") as pipe:
            pipe.write(json.dumps(answer).encode())
    finally:
        os._exit(0)


# --- what kustomize says --------------------------------------------------------------------------


def readable(error: BuildError, folders: t.Iterable[pathlib.Path]) -> str:
    """Return kustomize's own line, without any value of a Secret that these folders hold."""
    text = _LOGGED.sub(lambda found: f"\n{ast.literal_eval(found[1])}", str(error))
    text = text.partition("error: ")[2] or text
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = (
        [line for line in lines if line.startswith("Error:")] or lines[-1:] or ["no reason given"]
    )
    line = said[0].removeprefix("Error:").strip()
    for value in sorted(secret_values(folders), key=len, reverse=True):
        if len(value) >= _SHORT:
            line = line.replace(value, _HIDDEN)
        else:
            line = re.sub(rf"(?<![\w./-]){re.escape(value)}(?![\w/-])", _HIDDEN, line)
    return line if len(line) <= _LONGEST_LINE else line[: _LONGEST_LINE - 2] + " …"


def secret_values(folders: t.Iterable[pathlib.Path]) -> set[str]:
    """Return every text that may be a value of a Secret, from folders and what they refer to."""
    found: set[str] = set()
    for folder in _reached(folders):
        texts: dict[pathlib.Path, str] = {}
        for path in folder.rglob("*"):
            with contextlib.suppress(OSError, UnicodeDecodeError):  # kustomize cannot quote it
                if path.is_file() and path.stat().st_size <= _LARGEST_FILE:
                    texts[path] = path.read_text(encoding="utf-8")
        generators = any("secretGenerator" in text for text in texts.values())
        for path, text in texts.items():
            if path.suffix in (".yml", ".yaml") or path.name == "Kustomization":
                found |= _of_yaml(text)
            elif generators:
                found |= {*_loose(text), text.strip()}
    plain = {value for value in found if len(value) > 2}
    return plain | {other for value in plain for other in _other_spellings(value)}


def _reached(folders: t.Iterable[pathlib.Path]) -> list[pathlib.Path]:
    """Return the folders, and those that their kustomizations name, as far as they are here."""
    todo, found = list(folders), dict[pathlib.Path, None]()
    while todo and len(found) < _MOST_FOLDERS:
        folder = pathlib.Path(os.path.realpath(todo.pop()))
        if folder in found:
            continue
        found[folder] = None
        for name in ("kustomization.yml", "kustomization.yaml", "Kustomization"):
            with contextlib.suppress(OSError, UnicodeDecodeError):  # kustomize says so
                text = (folder / name).read_text(encoding="utf-8")
                words = {word for word in re.findall(r"[\w./-]+", text) if "." in word}
                todo += [folder / word for word in words if (folder / word).is_dir()]
    return list(found)


def _of_yaml(text: str) -> set[str]:
    try:
        documents = list(yaml.safe_load_all(text))
    except yaml.YAMLError:
        # Nobody can say where the values are: whatever stands behind a colon may be one.
        return _loose(text) if re.search("secret", text, re.IGNORECASE) else set()
    found: set[str] = set()
    for item in documents:
        found |= _within(item)
    return found


def _within(item: t.Any) -> set[str]:
    """Return the values of Secrets in a document: a Secret, a generator, a patch as text."""
    found: set[str] = set()
    if isinstance(item, str):
        if "\n" in item and re.search("secret|stringData", item, re.IGNORECASE):
            found |= _of_yaml(item)
    elif isinstance(item, list):
        for each in item:
            found |= _within(each)
    elif isinstance(item, dict):
        if item.get("kind") == "Secret":
            found |= {text for key in ("data", "stringData") for text in _scalars(item.get(key))}
        for generator in item.get("secretGenerator") or []:
            literals = generator.get("literals") if isinstance(generator, dict) else None
            for entry in _scalars(literals):
                found |= {entry, entry.partition("=")[2]}
        for value in item.values():
            found |= _within(value)
    return found


def _scalars(value: t.Any) -> t.Iterator[str]:
    if isinstance(value, dict):
        for each in value.values():
            yield from _scalars(each)
    elif isinstance(value, list):
        for each in value:
            yield from _scalars(each)
    elif value is not None:
        yield str(value)


def _loose(text: str) -> set[str]:
    """Return what stands behind a colon or an equals sign, whole and word by word."""
    found: set[str] = set()
    for line in text.splitlines():
        parts = re.split(r"[:=]", line, maxsplit=1)
        if len(parts) > 1 and parts[0].strip(" -") in _NO_VALUES:
            continue
        value = parts[-1].strip()
        found |= {value, *re.findall(r"[^\s{}\[\],'\":]+", value)}
    return found


def _other_spellings(value: str) -> t.Iterator[str]:
    yield base64.b64encode(value.encode()).decode()
    with contextlib.suppress(binascii.Error, UnicodeDecodeError):  # it is not base64
        decoded = base64.b64decode(value, validate=True).decode()
        if len(decoded) > 2:
            yield decoded
