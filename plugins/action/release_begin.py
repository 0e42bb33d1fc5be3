# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows the progress of the module release_begin while it waits."""

from __future__ import annotations

from ansible_collections.mlops.mlflow.plugins.plugin_utils._release.progress import ProgressAction


class ActionModule(ProgressAction):
    """See plugins/modules/release_begin.py for the options."""
