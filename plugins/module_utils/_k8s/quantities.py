# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubernetes' quantities as numbers, and back."""

from __future__ import annotations

import re

_QUANTITY = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][-+]?\d+)?")
_SUFFIXES = {
    "": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip


def quantity(text: object) -> float | None:
    """Return a Kubernetes quantity as a number, or None when it is not one."""
    match = _QUANTITY.fullmatch(str(text).strip()) if isinstance(text, (str, int, float)) else None
    if match is None or isinstance(text, bool):
        return None
    suffix = match.group(2) or ""
    if suffix[:1] in "eE" and suffix not in _SUFFIXES:
        return float(match.group(1) + suffix)
    return float(match.group(1)) * _SUFFIXES[suffix]


def readable(number: float, resource: str) -> str:
    """Return an amount of a resource as a person writes it."""
    if "memory" in resource or "storage" in resource:
        unit = "Gi" if number >= _SUFFIXES["Gi"] else "Mi"
        return f"{round(number / _SUFFIXES[unit], 2):g}{unit}"
    return f"{round(number, 3):g}"
