# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of what holds for every module that does not say otherwise."""

from __future__ import annotations


class ModuleDocFragment:
    """The attributes."""

    DOCUMENTATION = r"""
attributes:
  check_mode:
    description: Says in check mode what it would say without it, and writes nothing.
    support: full
  diff_mode:
    description: Has nothing to compare.
    support: none
  platform:
    description: Needs Python and a network; nothing of the operating system.
    platforms: posix
    support: full
"""
