# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the option with which a module renews the release lock."""

from __future__ import annotations


class ModuleDocFragment:
    """The option C(lease)."""

    DOCUMENTATION = r"""
options:
  lease:
    description:
      - The release lock, to renew meanwhile, as M(mlops.mlflow.release_begin) returns it. If
        it turns out to be another's, or gone, the module stops and fails.
      - A module that writes looks at it before each single write, and makes that only while the
        lock is still held.
      - Needs the verbs C(get) and C(update) on C(leases) of C(coordination.k8s.io).
    type: dict
    suboptions:
      name:
        description: Name of the Lease.
        type: str
        default: mlflow-release
      namespace:
        description: Its namespace.
        type: str
        required: true
      holder:
        description: Who must hold it.
        type: str
        required: true
      ttl:
        description: For how many seconds it is held from each renewal on.
        type: int
        default: 120
"""
