# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run's turn at a release: it begins with lock and note, and ends with note and lock."""

from __future__ import annotations

import contextlib
import getpass
import secrets
import socket
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Api
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.errors import Failure
from ansible_collections.mlops.mlflow.plugins.module_utils._release.lock import (
    Lease,
    Progress,
    fence,
    through_an_outage,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._release.records import Records

Object = dict[str, t.Any]


def new_holder(run: str) -> str:
    """Return a name for this run that no other run has."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # A container's user may have no name.
        user = "unknown"
    words = f" ({run})" if run else ""
    return f"{user}@{socket.gethostname()}{words} {secrets.token_hex(4)}"


def _result(lease: Object, holder: str, changed: bool) -> Object:
    return {"changed": changed, "holder": holder, "lease": {**lease, "holder": holder}}


def begin(
    cluster: Api, params: Object, check_mode: bool, progress: Progress | None = None
) -> Object:
    """Take the lock, or renew it, and note which release begins; return the module's result."""
    # A holder without a name is nobody, who has no lock to renew.
    ours = params["holder"] is not None
    holder = params["holder"] if ours else new_holder(params["run"])
    lock = {name: params[name] for name in ("name", "namespace", "ttl")}
    lease = Lease(cluster, holder=holder, **lock)
    if check_mode:
        there = lease.look()
        return _result(lock, there.holder if there else "", False)
    if ours:
        through_an_outage(lease.renew)
    else:
        lease.acquire(params["wait"], progress)
    if params["release"] is not None:
        fence(cluster, lease)
        try:
            Records(cluster, params["namespace"]).begin(
                params["release"], params["backup"], params["back_to"]
            )
        except Exception:
            if not ours:
                # Why it did not begin matters more; the lock ends by itself.
                with contextlib.suppress(Failure):
                    lease.release()
            raise
    return _result(lock, holder, not ours)


def end(cluster: Api, params: Object, check_mode: bool) -> Object:
    """Note which release serves, and give the lock back; return the module's result."""
    lock = params["lease"]
    lease = Lease(cluster, **lock)
    if params["release"] is not None and not check_mode:
        fence(cluster, lease)
        # Also where there is nothing to write.
        lease.check()
        records = Records(cluster, lock["namespace"])
        # It serves: what is noted of it does not hang on an API server that restarts just now.
        through_an_outage(lambda: records.end(params["release"], params["schema"]))
    changed = through_an_outage(lambda: lease.release(write=not check_mode))
    return _result(lock, "", changed)
