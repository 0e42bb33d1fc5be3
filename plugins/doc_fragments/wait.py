# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation that the waiting modules share."""

from __future__ import annotations


class ModuleDocFragment:
    """Options, attributes and notes of every module that waits."""

    DOCUMENTATION = r"""
options:
  timeout:
    description:
      - For how many seconds to wait at most.
      - A failure that is certain ends the wait long before; see O(tolerances).
      - V(0) looks once, and fails if not everything is ready.
    type: float
    default: 300
  tolerances:
    description:
      - For how many seconds each kind of problem may last before it is a failure, by its name.
        What is not given keeps its default.
      - V(image_invalid) (0) - the image's name is invalid, or it is not on the node and may not be
        pulled.
      - V(image_pull) (30, or 0 if the registry says not found or unauthorised) - the image cannot
        be pulled.
      - V(config) (20) - a container refers to a Secret, a ConfigMap or a key that does not exist.
        A kubelet looks again after 10 to 15 seconds.
      - V(sandbox) (60) - a node cannot make ready for a pod, its network or devices first of all.
      - V(container_start) (30) - a container cannot be created or its command not be run. Once it
        is in back-off for that, it is certain at once, unless the node itself is in trouble.
      - V(crash_loop) (0) - a container of the current revision keeps ending; it is in back-off, or
        was restarted twice and has ended again. An init container or a sidecar that is in back-off
        after its second try gets a third one within 30 seconds.
      - V(oom_killed) (0) - the same, killed for its memory limit.
      - V(unschedulable) (60) - no node takes a pod. An autoscaler that adds one, and a
        scheduler that makes room for it, stop the clock.
      - V(volume) (60, or 0 for a claim that lost its volume) - a claim cannot be bound, or a volume
        not be mounted. A provisioner that is at work stops the clock.
      - V(quota_or_admission) (10, or 30 for a webhook that does not answer) - the API server
        refuses to create a pod, because of a quota, Pod Security, a policy or a webhook. Pods that
        are going, and so empty a quota, stop the clock.
      - V(rejected) (30) - nodes reject or evict one pod after the other.
      - V(blocked) (10) - a rollout waits for what does not come by itself. That is 10 seconds for
        the pod of an older revision that a StatefulSet does not replace, and for a sidecar that
        keeps a Job from ending. A gate, a node that is not ready, or an old pod that does not go is
        named at once, and is no failure before O(timeout) unless a tolerance is given here.
      - V(job_failed) (0) - a Job failed.
      - V(progress_deadline) (0) - the controller itself gave up.
      - V(schema_behind), V(schema_ahead), V(schema_unknown), V(schema_partial) (0) - MLflow's
        database schema does not fit its image.
      - V(database_unreachable) (30), V(database_denied) (0) - MLflow cannot use its database.
      - V(http_unready) (30) - MLflow's pods are ready, but it does not answer as it should.
      - V(unauthorized) (0) - MLflow refuses the credentials given.
      - V(paused) (0) - a Deployment is paused, or a Job is suspended.
      - V(not_found) (10) - what is waited for does not exist, or is being deleted.
    type: dict
    default: {}
  conditions:
    description:
      - When custom resources of a kind are ready, where the collection does not know it or where
        you know it better. One entry a kind; it is used instead of the collection's own rule.
      - A status, or a condition, of an older generation than the object's never counts.
    type: list
    elements: dict
    default: []
    suboptions:
      kind:
        description: The kind, such as V(Widget), or with its group V(Widget.example.com).
        type: str
        required: true
      condition:
        description:
          - The type of the condition that says that it is ready. Where the object itself has none
            of this type, those in the lists of its status are taken, and each must say so.
          - One of O(conditions[].condition) and O(conditions[].field) is required.
        type: str
      field:
        description: The path of the field that says it, such as V(status.phase).
        type: str
      value:
        description:
          - What it must be. For a condition V(True), if not given.
        type: str
      failed:
        description:
          - Values of the field that mean that the object failed, and end the wait at once. For a
            condition, its status (V(False)) or a reason that it gives.
        type: list
        elements: str
        default: []
  settle:
    description:
      - For how many seconds a container without a readiness probe must have run before it counts
        as ready. Kubernetes calls it ready as soon as it has started, even if it ends a moment
        later.
      - One that has ended before must also outlast its longest run. How long a first run will last
        nobody can know, so give a container that fails late a readiness probe, or raise this.
    type: float
    default: 10
  fail_fast:
    description:
      - Whether the first failure ends the wait.
      - If V(false), the wait goes on until every object is either ready or failed.
    type: bool
    default: true
  log_lines:
    description: How many of the last lines of a failed container's log to return.
    type: int
    default: 20
attributes:
  check_mode:
    description: Can run in check mode, and says what is so without changing anything.
    details: Looks once, and does not fail if something is not ready.
    support: full
  diff_mode:
    description: Can show what it changes.
    details: Changes nothing.
    support: none
  action:
    description: Has an action plugin of the same name.
    details: It shows on standard error what is being waited for. Where the module runs on another
      host, a second connection of the same kind reads it there.
    support: full
  idempotent:
    description: Changes nothing when it is run again.
    support: full
requirements:
  - kubernetes >= 24.2.0
notes:
  - Only the current revision counts. An old pod that is dying, a pod that was evicted and
    replaced, or a restart that was followed by running is not a failure.
  - "The account needs the verbs C(list) and C(watch) in the namespace: on C(pods),
    C(persistentvolumeclaims) and C(events) of the core group; on C(deployments), C(replicasets),
    C(statefulsets), C(daemonsets) and C(controllerrevisions) of C(apps); on C(jobs) of C(batch).
    Each is needed only if an object of that kind is waited for. Without C(events),
    C(persistentvolumeclaims) or C(controllerrevisions) a wait works, knows less of causes, and says
    so. C(get) on C(pods/log) lets a
    failure show the log. The role C(view) of Kubernetes has all of these."
  - Passwords, tokens and keys that are recognised are masked in logs, events and messages.
"""
