# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which MLflow an image says that it is."""

from __future__ import annotations

import re

# What may be MLflow's version: not 1.4.0 or 2026.11.24, which are numbers of somebody's own.
VERSION = r"[2-9]\.\d+\.\d+"
_TAGGED = re.compile(rf":v?({VERSION}(?:\.?(?:rc|dev|a|b)\d+)?)(?:[-+][\w.-]*)?(?:@|$)")
# MLflow's own image, a mirror of it, and ours.
_PUBLISHED = re.compile(r"(?:^|/)(?:mlflow|mlops-mlflow)/mlflow[:@]")


def version_tagged(image: str) -> str:
    """Return the MLflow version that an image's tag seems to name, or an empty string."""
    found = _TAGGED.search(image)
    return found[1] if found else ""


def version_in(image: str) -> str:
    """Return the MLflow version that an image is known to hold, or nothing: its tag may mislead."""
    return version_tagged(image) if _PUBLISHED.search(image) else ""
