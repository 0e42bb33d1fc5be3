#!/usr/bin/python
# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: backup_info
short_description: Say which backups there are, and whether one may be restored
version_added: 0.1.0
description:
  - Reads what the latest backup Job, or a given one, wrote to its log. It starts no pod and writes
    nothing, so what it says is as of RV(as_of); M(mlops.mlflow.backup_job) with the command
    V(list) makes it up to date.
  - With O(restore_into) it also judges the backup that a Job with the command V(check) looked at,
    and fails with every reason why it must not be restored.
author:
  - mlops.mlflow contributors (@mlops-mlflow)
options:
  job:
    description: The Job whose log to read. Empty means the latest that ended well.
    type: str
    default: ""
  warn:
    description: Whether to warn of RV(not_permitted).
    type: bool
    default: false
  restore_into:
    description: What the backup would be restored into.
    type: dict
    suboptions:
      artifact_store:
        description: V(MLFLOW_ARTIFACTS_DESTINATION) of the release.
        type: str
        required: true
      foreign:
        description: Whether a backup of another release, or with other artifacts, may be restored.
        type: bool
        default: false
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - mlops.mlflow.release
  - mlops.mlflow.attributes
  - ansible.builtin.action_common_attributes
seealso:
  - module: mlops.mlflow.backup_job
"""

EXAMPLES = r"""
- name: Which backups are there?
  mlops.mlflow.backup_info:
    namespace: mlflow-production
  register: known

- name: Say when the last one was taken
  ansible.builtin.debug:
    msg: "{{ known.backups[0].time }}, tested: {{ known.backups[0].tested.ok | default(false) }}"
  when: known.backups | length > 0
"""

RETURN = r"""
backups:
  description:
    - The backups, the newest first, with what their manifests say. Of one without a restore test,
      C(untested) says why none can be made, and what to do, as far as that is known.
  returned: success
  type: list
  elements: dict
  sample:
    - name: 20261124T190501Z
      time: "2026-11-24T19:05:01Z"
      mlflow: 3.17.2
      release: mlflow-production
      artifact_store: s3://mlflow/artifacts
      reason: before the upgrade to 3.17.2
      marked: true
      problem: ""
      bytes: 1045321
      tested: {time: "2026-11-24T19:05:09Z", ok: true, seconds: 7, message: ""}
      untested: ""
      databases: []
as_of:
  description: When the Job ended from which this is known; empty when there is none.
  returned: success
  type: str
job:
  description: The Job from which this is known; empty when there is none.
  returned: success
  type: str
volume:
  description: Bytes of the volume, C(total) and C(free), if known.
  returned: success
  type: dict
taken:
  description: Name of the backup that the Job took; empty when it took none.
  returned: success
  type: str
chosen:
  description: The backup that the Job checked, or nothing.
  returned: success
  type: dict
in_place:
  description: Whether the live database is already the one restored from RV(chosen).
  returned: success
  type: bool
since:
  description:
    - After a Job with the command V(since), what the live databases have more or less than
      RV(chosen) - by table in C(rows), and as a person would say it in C(words). Rows that were
      changed are not counted.
  returned: success
  type: dict
  sample: {rows: {metrics: 40, runs: 2}, words: "+2 runs, +40 metric values"}
not_permitted:
  description:
    - Why no database can be made, or none put in the live one's place, which a restore and its test
      need, and what to do; empty if they can, or if the Job did not ask.
  returned: success
  type: str
  sample: >-
    role mlflow may not create databases, which a restore and its test need; have an administrator
    run: ALTER ROLE "mlflow" CREATEDB
other_keys:
  description:
    - Fingerprints of the keys with which something in RV(chosen) may be encrypted, by their names
      in C(mlflow-credentials), as far as the release has other ones today.
  returned: success
  type: dict
  sample: {kek-passphrase: 0c1d2e3f40516273}
lost:
  description:
    - What the restored database has not, that the backup's or the live one has - extensions,
      settings, privileges. Their values are not shown.
  returned: success
  type: list
  elements: str
  sample: [extension pg_stat_statements]
replaced:
  description: Databases that earlier restores replaced and kept.
  returned: success
  type: list
  elements: str
"""

import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._backup import catalogue
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import (
    AUTH_ARG_SPEC,
    Api,
    ApiError,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.errors import full_stop
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import POD
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.module import Module

_LINES = 2000

Object = dict[str, t.Any]


def _ended(pod: Object) -> str:
    """Return when a pod's script ended well, or nothing."""
    for status in (pod.get("status") or {}).get("containerStatuses") or []:
        if status.get("name") == catalogue.CONTAINER:
            ended = (status.get("state") or {}).get("terminated") or {}
            if ended.get("exitCode") == 0:
                return str(ended.get("finishedAt") or "")
    return ""


def latest(pods: t.Iterable[Object]) -> tuple[str, str, str] | None:
    """Return pod, Job and time of the latest that ended well."""
    found = [
        (
            _ended(pod),
            str(pod["metadata"]["name"]),
            str((pod["metadata"].get("labels") or {}).get("job-name", "")),
        )
        for pod in pods
    ]
    best = max((item for item in found if item[0]), default=None)
    return (best[1], best[2], best[0]) if best else None


def artifact_store(namespace: str, destination: str) -> str:
    """Return how the script writes an artifact store: a path together with whose it is."""
    return destination if "://" in destination else f"{namespace}:{destination}"


def look(cluster: Api, params: dict[str, t.Any]) -> tuple[catalogue.Report, str, str]:
    """Return what the Job said, its name and when it ended."""
    namespace = params["namespace"]
    selector = f"app.kubernetes.io/component={catalogue.COMPONENT}"
    if params["job"]:
        selector = f"job-name={params['job']}"
    found = latest(cluster.items(POD.path(namespace), "the pods of backups", selector))
    if found is None:
        if params["job"]:
            raise ApiError(0, f"Job {params['job']} has no pod that ended well")
        return catalogue.Report([]), "", ""
    pod, job, ended = found
    try:
        lines = cluster.logs(namespace, pod, catalogue.CONTAINER, _LINES)
    except ApiError as error:
        raise ApiError(0, f"the log of pod {pod} cannot be read: {error.message}") from None
    return catalogue.parse(lines), job, ended


def main() -> None:
    """Entry point."""
    spec = dict(AUTH_ARG_SPEC)
    spec.update(
        namespace={"type": "str", "required": True},
        job={"type": "str", "default": ""},
        warn={"type": "bool", "default": False},
        restore_into={
            "type": "dict",
            "options": {
                "artifact_store": {"type": "str", "required": True},
                "foreign": {"type": "bool", "default": False},
            },
        },
    )
    module = Module(argument_spec=spec, supports_check_mode=True)
    params = module.params
    try:
        report, job, ended = look(Api.of(module), params)
    except ApiError as error:
        module.fail_json(msg=full_stop(error))
        return
    into = params["restore_into"]
    if into is not None:
        store = artifact_store(params["namespace"], into["artifact_store"])
        expected = catalogue.Expected(params["namespace"], store, into["foreign"])
        problems = catalogue.refusals(report, expected)
        if problems:
            module.fail_json(msg=f"{'; '.join(problems)}. Nothing was changed.")
    if params["warn"] and report.hindrance:
        module.warn(f"As Job {job} said at {ended}, {report.hindrance}.")
    backup = catalogue.chosen(report)
    total, free = report.volume or (None, None)
    since = catalogue.since(report)
    module.exit_json(
        changed=False,
        backups=[catalogue.as_dict(item, report) for item in report.backups],
        as_of=ended,
        job=job,
        volume={"total": total, "free": free},
        taken=report.taken,
        chosen=catalogue.as_dict(backup, report) if backup else None,
        in_place=catalogue.in_place(report),
        since={"rows": since, "words": catalogue.since_in_words(since)},
        not_permitted=report.hindrance or "",
        lost=list(report.lost),
        other_keys=catalogue.other_keys(report),
        replaced=catalogue.replaced(report),
    )


if __name__ == "__main__":
    main()
