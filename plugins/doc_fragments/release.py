# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of what modules share that look at a release in its cluster, or work on it."""

from __future__ import annotations


class ModuleDocFragment:
    """The option C(namespace), and what the host needs."""

    DOCUMENTATION = r"""
options:
  namespace:
    description: The namespace of the release.
    type: str
    required: true
requirements:
  - kubernetes >= 24.2.0
"""
