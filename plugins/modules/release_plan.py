#!/usr/bin/python
# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: release_plan
short_description: Say what a deployment would do
version_added: 0.1.0
description:
  - Private to this collection. Its options and what it returns may change in any version.
  - Puts what M(mlops.mlflow.release_render), M(mlops.mlflow.release_look),
    M(mlops.mlflow.release_credentials) in check mode and M(mlops.mlflow.mlflow_info) have found
    into a plan, for people and for an approval.
  - Touches nothing. The deployment acts on the answers of the same modules.
author:
  - mlops.mlflow contributors (@mlops-mlflow)
options:
  release:
    description: The result of M(mlops.mlflow.release_render).
    type: dict
    required: true
  difference:
    description: The result of M(mlops.mlflow.release_look).
    type: dict
    required: true
  credentials:
    description: The result of M(mlops.mlflow.release_credentials) in check mode.
    type: dict
    default: {}
  info:
    description: The result of M(mlops.mlflow.mlflow_info).
    type: dict
    default: {}
  connections:
    description: What M(mlops.mlflow.release_check) found out about the connections to Postgres.
    type: dict
    default: {}
  strategy:
    description: How a migration is made, as C(mlflow_migration_strategy) says.
    type: str
    choices: [online, offline]
    default: online
  backup:
    description: Whether a backup is taken before another MLflow works on the database.
    type: bool
    default: false
  rehearsal:
    description: What a rehearsal of the migration has found, or nothing.
    type: dict
    default: {}
  prune:
    description: Whether objects that the release no longer has are removed.
    type: bool
    default: true
attributes:
  action:
    description: Runs on the controller.
    support: full
  platform:
    description: Needs Python; nothing of the operating system.
    platforms: posix
    support: full
extends_documentation_fragment:
  - mlops.mlflow.attributes
  - ansible.builtin.action_common_attributes
seealso:
  - module: mlops.mlflow.release_look
  - module: mlops.mlflow.mlflow_info
"""

EXAMPLES = r"""
# Private to this collection: its roles are the examples.
"""

RETURN = r"""
nothing_to_do:
  description: Whether the deployment would change nothing.
  returned: success
  type: bool
rotation:
  description: Which secrets a rotation is about that was cut off, and that the deployment finishes.
  returned: success
  type: list
  elements: str
namespace:
  description: The namespace of the release.
  returned: success
  type: str
add:
  description: Objects that would be created, as C(KIND/NAME).
  returned: success
  type: list
  elements: str
change:
  description: Objects that would be changed.
  returned: success
  type: list
  elements: str
again:
  description: Failed Jobs that would be made anew.
  returned: success
  type: list
  elements: str
remove:
  description: Objects of an earlier release that would be removed.
  returned: success
  type: list
  elements: str
take_over:
  description: Objects of which fields would be taken over from kubectl, or left to an autoscaler.
  returned: success
  type: list
  elements: str
restart:
  description: Workloads whose pods would be replaced.
  returned: success
  type: list
  elements: str
back_in_service:
  description: What an earlier run took out of service and this one would bring back.
  returned: success
  type: list
  elements: str
versions:
  description: MLflow's version now (C(from)) and then (C(to)), null where not known; and the image.
  returned: success
  type: dict
backup:
  description: Whether a backup would be taken before.
  returned: success
  type: bool
schema:
  description:
    - Whether the tracking schema C(moves), the revisions C(from) and C(to), null where not known,
      and C(words) for it.
  returned: success
  type: dict
  sample: {moves: true, from: b7e2c1a4d9f3, to: dc11669786a5, words: b7e2c1a4d9f3 → dc11669786a5}
rehearsal:
  description: What the migration took on a copy of the database; null where it was not rehearsed.
  returned: success
  type: dict
  sample:
    backup: 20261129T021700Z
    time: "2026-11-29T02:17:00Z"
    took: 41 s, spans locked 29 s
    schema: {}
downtime:
  description:
    - C(expected) is V(none), V(rolling) (none either), V(database), V(recreate) or V(offline);
      C(words) say how long that is.
  returned: success
  type: dict
connections:
  description: The connections to Postgres that the servers may open, and those there are.
  returned: success
  type: dict
lock:
  description: Who holds the release lock now, or null.
  returned: success
  type: dict
report:
  description: All of it as lines for people.
  returned: success
  type: list
  elements: str
"""
