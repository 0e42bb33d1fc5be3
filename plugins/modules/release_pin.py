#!/usr/bin/python
# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: release_pin
short_description: Write the digests that a registry knows for images into an inventory
version_added: 0.1.0
author:
  - mlops.mlflow contributors (@mlops-mlflow)
description:
  - Private to this collection. Its options and what it returns may change in any version.
  - Asks the registry of each image, with skopeo, for the manifest behind its tag, computes its
    digest, and writes C(name:tag@sha256:digest) into a file of variables.
  - A digest that the reference has already is asked for again, so that a tag that moved is seen.
  - Either every image is resolved and the file is written, in one step, or nothing is.
options:
  images:
    description: Image references with a tag, by the variable that the file sets to them.
    type: dict
    required: true
  path:
    description:
      - The file of variables, YAML. Its other lines, comments included, stay as they are.
      - Where it is a link, the file that it leads to is written.
      - A variable that it has, or has commented out, is replaced in its place; another is added.
    type: path
    required: true
  tls_verify:
    description: Whether the registry must be reached over TLS, with a certificate that is valid.
    type: bool
    default: true
attributes:
  check_mode:
    description: Can run in check mode and say what it would write, without writing.
    support: full
  diff_mode:
    description: Shows the lines that it writes.
    support: full
requirements:
  - skopeo
seealso:
  - ref: pin role <ansible_collections.mlops.mlflow.pin_role>
    description: Uses it on the images of an inventory.
"""

EXAMPLES = r"""
# Private to this collection: its roles are the examples.
"""

RETURN = r"""
images:
  description: The references with their digests, by variable.
  returned: success
  type: dict
  sample: {mlflow_image: "registry.example.com/mlflow:3.17.2@sha256:…"}
path:
  description: The file that was written, links followed.
  returned: success
  type: str
"""

import hashlib
import os
import re
import subprocess
import tempfile

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.module import Module

try:
    import yaml

    HAS_YAML = True
except ImportError:
    HAS_YAML = False

TIMEOUT = 120


class PinError(Exception):
    """Why nothing is pinned, in one line."""


def tagged(variable: str, reference: str) -> str:
    """Return the reference without its digest; it has to have a tag then."""
    name = reference.partition("@")[0]
    if ":" not in name.rpartition("/")[2]:
        raise PinError(f"{variable}: {reference} has no tag, whose digest could be asked for")
    return name


def manifest_digest(variable: str, reference: str, tls_verify: bool) -> str:
    """Ask the registry for the manifest, and return its digest."""
    command = [
        "skopeo",
        f"--command-timeout={TIMEOUT}s",
        "inspect",
        "--raw",
        "--retry-times=2",
        f"--tls-verify={str(tls_verify).lower()}",
        f"docker://{reference}",
    ]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=TIMEOUT + 30,
            check=False,
        )
    except FileNotFoundError:
        raise PinError(
            "skopeo is not on the controller's PATH (Debian: apt-get install skopeo)"
        ) from None
    except subprocess.TimeoutExpired:
        raise PinError(f"{variable}: the registry of {reference} does not answer") from None
    if done.returncode or not done.stdout.strip():
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise PinError(f"{variable}: no registry tells the digest of {reference}: {why(said)}")
    # That is what a digest is: nothing else that the registry says has to be believed.
    return "sha256:" + hashlib.sha256(done.stdout).hexdigest()


def why(lines: list[str]) -> str:
    """Return what skopeo complains about, without its framing."""
    text = lines[-1] if lines else "it answers with nothing"
    match = re.search(r'msg="((?:[^"\\]|\\.)*)"', text)
    return (match[1].replace('\\"', '"') if match else text)[:400]


def edited(text: str, values: dict[str, str]) -> str:
    """Return the YAML text with each variable set to its value, its other lines untouched."""
    lines = text.splitlines()
    for variable, value in values.items():
        line = f"{variable}: {value}"
        live = [i for i, old in enumerate(lines) if re.match(rf"{variable}\s*:", old)]
        commented = [i for i, old in enumerate(lines) if re.match(rf"#\s*{variable}\s*:", old)]
        if len(live) > 1:
            raise PinError(f"{variable}: is set more than once in the file")
        if live:
            lines[live[0]] = line
        elif commented:
            lines[commented[0]] = line
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


def check(before: str, after: str, values: dict[str, str], path: str) -> None:
    """Raise PinError unless the edit changed these variables and nothing else."""
    if not HAS_YAML:
        raise PinError("PyYAML is missing on the controller")
    try:
        old, new = yaml.safe_load(before) or {}, yaml.safe_load(after)
        good = new == {**old, **values}
    except (yaml.YAMLError, TypeError):
        good = False
    if not good:
        raise PinError(
            f"{path} cannot be edited line by line (it has tags, or one of "
            f"{', '.join(values)} on several lines); set them there yourself"
        )


def write(path: str, text: str) -> None:
    """Put the text in the file's place in one step."""
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".pin-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, os.stat(path).st_mode & 0o7777)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def main() -> None:
    """Resolve everything, then write."""
    module = Module(
        argument_spec={
            "images": {"type": "dict", "required": True},
            "path": {"type": "path", "required": True},
            "tls_verify": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    # prod/ holds links to production's files.
    path = os.path.realpath(module.params["path"])
    values = {}
    try:
        with open(path, encoding="utf-8") as file:
            before = file.read()
        for variable, reference in module.params["images"].items():
            name = tagged(variable, str(reference))
            digest = manifest_digest(variable, name, module.params["tls_verify"])
            values[variable] = f"{name}@{digest}"
        after = edited(before, values)
        check(before, after, values, path)
        changed = after != before
        if changed and not module.check_mode:
            write(path, after)
    except PinError as error:
        module.fail_json(msg=f"{error}. Nothing was written.")
    except (OSError, UnicodeDecodeError) as error:
        module.fail_json(msg=f"{path} cannot be edited: {error}. Nothing was written.")
    header = {"before_header": path, "after_header": path}
    module.exit_json(
        changed=changed, images=values, path=path, diff={"before": before, "after": after, **header}
    )


if __name__ == "__main__":
    main()
