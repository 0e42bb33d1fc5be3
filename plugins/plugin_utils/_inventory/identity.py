# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which release is meant, so that nothing learned of one is ever used for another."""

from __future__ import annotations

import hashlib
import json
import typing as t

# How a run goes, not what is built: a role within a role may set these otherwise.
_OF_THE_RUN = {
    "mlflow_backup",
    "mlflow_backup_fetch",
    "mlflow_backup_file",
    "mlflow_backup_mark",
    "mlflow_backup_reason",
    "mlflow_backup_test",
    "mlflow_backup_timeout",
    "mlflow_lock_ttl",
    "mlflow_lock_wait",
    "mlflow_max_fail_percentage",
    "mlflow_migration_strategy",
    "mlflow_postgres_go_back",
    "mlflow_restore_drop_replaced",
    "mlflow_restore_foreign",
    "mlflow_rollback_restore",
    "mlflow_serial",
    "mlflow_target",
    "mlflow_timeout",
    "mlflow_tolerances",
    "mlflow_wait_conditions",
}


def identity(
    settings: t.Mapping[str, t.Any],
    specs: t.Mapping[str, t.Mapping[str, t.Any]],
    cluster: t.Mapping[str, str],
    source: str,
    place: t.Sequence[str],
) -> str:
    """Return a digest of the cluster, the place (overlay, components, namespace), and the settings.

    No secret goes into it: a digest can be guessed from, and no build is made from a secret.
    """
    built_from = {
        name: value
        for name, value in settings.items()
        if name.startswith("mlflow_")
        and name not in _OF_THE_RUN
        and not specs.get(name, {}).get("no_log")
    }
    whole = json.dumps(
        [sorted(cluster.items()), source, list(place), built_from], sort_keys=True, default=str
    )
    return hashlib.sha256(whole.encode()).hexdigest()[:32]


def left_out(run_tags: t.Collection[str], skip_tags: t.Collection[str]) -> str:
    """Return why a run that leaves tasks out is refused, or nothing if it leaves none out."""
    # Other tags are of the plays around this collection's: its own tasks have none.
    skipped = sorted(set(skip_tags) & {"all", "always", "tagged", "untagged"})
    ran = [] if "all" in run_tags else sorted(run_tags)
    if not ran and not skipped:
        return ""
    option = f"--tags {','.join(ran)}" if ran else f"--skip-tags {','.join(skipped)}"
    return (
        f"{option} would leave out steps that a release needs, its checks and its lock among them; "
        "run all of it. Nothing was written."
    )
