# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images, versions and quantities, as Kubernetes writes them."""

from __future__ import annotations

import re

from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow.images import VERSION

# The name of a Secret, an IngressClass, or any other object.
OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_IMAGE = re.compile(
    r"(?P<name>(?:(?:(?:localhost|[-A-Za-z0-9]+(?:\.[-A-Za-z0-9]+)+)(?::\d+)?"
    r"|[-A-Za-z0-9]+:\d+)/)?"
    r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_TAG_VERSION = re.compile(rf"(?<![\d.])v?({VERSION}(?:(?:a|b|rc)\d+)?)(?![\d.])")


def image_parts(reference: str) -> dict[str, str] | None:
    """Split an image reference into name, tag and digest; None when it is not one."""
    match = _IMAGE.fullmatch(reference)
    if match is None:
        return None
    return {key: value or "" for key, value in match.groupdict().items()}


def version_of_tag(tag: str) -> str:
    """Return the version a tag such as C(v3.17.2-full) names, or an empty string."""
    match = _TAG_VERSION.search(tag)
    return match.group(1) if match else ""


def with_version(tag: str, version: str) -> str:
    """Return the tag with the version in it replaced, or the version when it names none."""
    match = _TAG_VERSION.search(tag)
    if match is None:
        return version
    return tag[: match.start(1)] + version + tag[match.end(1) :]
