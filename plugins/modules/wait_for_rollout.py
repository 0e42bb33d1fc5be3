#!/usr/bin/python
# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: wait_for_rollout
short_description: Wait until Kubernetes workloads are rolled out, or say why they cannot be
version_added: 0.1.0
description:
  - Waits for Deployments, StatefulSets, DaemonSets, Jobs, Pods, PersistentVolumeClaims, and for
    custom resources.
  - A custom resource is ready when its kind says so. There are rules for Rollout and Application
    of Argo, postgresql of Zalando, Cluster of CloudNativePG, ExternalSecret and SecretStore,
    Certificate and Issuer, Gateway and its routes, PipelineRun and TaskRun of Tekton, Service of
    Knative, DeploymentConfig and ScaledObject.
  - Other kinds are judged by their conditions (V(Ready), V(Available) and the like), their phase or
    their health. For a kind without any of these, give a rule in O(conditions).
  - Ends as soon as all are ready. Ends as soon as a failure is certain, such as a crash loop, an
    image that does not exist or a missing Secret, and says which container, what its log says and
    what to do. It does not sit out a deadline.
  - Watches the API server instead of asking again and again, and survives interrupted connections
    and a restart of the API server.
author:
  - mlops.mlflow contributors (@mlops-mlflow)
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - mlops.mlflow.wait
  - mlops.mlflow.lease
options:
  resources:
    description:
      - The objects to wait for.
      - One of O(resources) and O(definition) is required.
    type: list
    elements: dict
    suboptions:
      api_version:
        description:
          - The API group and version. Not needed for the built-in kinds.
        type: str
      kind:
        description: The kind, such as V(Deployment).
        type: str
        required: true
      name:
        description: The name.
        type: str
        required: true
      namespace:
        description: The namespace, O(namespace) if not given.
        type: str
  definition:
    description:
      - Objects as they were applied, such as the result of a Kustomize build. Each is waited for if
        its kind has something to wait for; the others, a ConfigMap for example, count as ready.
      - A custom resource whose kind says nothing, or that nobody has given a status, is never
        ready; see O(conditions). Kinds that are known to have no status, ServiceMonitor and
        PrometheusRule for example, count as ready.
    type: list
    elements: dict
  namespace:
    description: The namespace of objects that name none.
    type: str
    default: default
seealso:
  - module: mlops.mlflow.wait_for_mlflow
  - module: kubernetes.core.k8s
  - name: kubectl rollout status
    description: Waits for a Deployment, StatefulSet or DaemonSet until its deadline.
    link: https://kubernetes.io/docs/reference/kubectl/generated/kubectl_rollout/kubectl_rollout_status/
"""

EXAMPLES = r"""
- name: Wait for the database
  mlops.mlflow.wait_for_rollout:
    namespace: mlflow-production
    resources:
      - kind: StatefulSet
        name: postgres
    timeout: 180

- name: Wait for everything that was applied
  mlops.mlflow.wait_for_rollout:
    definition: "{{ applied.result.results | map(attribute='result') | list }}"

- name: Wait for a database of CloudNativePG, on a cluster that is slow to add nodes
  mlops.mlflow.wait_for_rollout:
    context: production
    resources:
      - api_version: postgresql.cnpg.io/v1
        kind: Cluster
        name: mlflow-postgres
        namespace: mlflow-production
    tolerances:
      unschedulable: 300
    timeout: 900

- name: Wait for a kind of one's own
  mlops.mlflow.wait_for_rollout:
    namespace: mlflow-production
    resources:
      - api_version: example.com/v1
        kind: Widget
        name: front
    conditions:
      - kind: Widget
        field: status.phase
        value: Serving
        failed: [Broken, Rejected]

- name: Say whether the server is ready now, without failing
  mlops.mlflow.wait_for_rollout:
    resources:
      - kind: Deployment
        name: mlflow
        namespace: mlflow-production
  check_mode: true
  register: server
"""

RETURN = r"""
ready:
  description: Whether everything that was waited for is ready.
  returned: always
  type: bool
  sample: true
elapsed:
  description: How long the wait took, in seconds.
  returned: always
  type: float
  sample: 12.31
requests:
  description: How many requests were sent to the Kubernetes API.
  returned: always
  type: int
  sample: 10
resources:
  description: What can be said about each object, in the order in which they were given.
  returned: always
  type: list
  elements: dict
  contains:
    kind:
      description: The object's kind.
      type: str
      sample: Deployment
    name:
      description: The object's name.
      type: str
      sample: mlflow
    namespace:
      description: The object's namespace.
      type: str
      sample: mlflow-development
    status:
      description: V(ready), V(progressing) or V(failed).
      type: str
      sample: ready
    message:
      description: What it is doing, or what is wrong with it.
      type: str
      sample: 2 of 2 available
    ready_after:
      description: After how many seconds it became ready, or null if it is not.
      type: float
      sample: 11.8
timeline:
  description: What happened while waiting, in order.
  returned: always
  type: list
  elements: dict
  contains:
    at:
      description: Seconds since the wait began.
      type: float
      sample: 3.02
    object:
      description: What it happened to.
      type: str
      sample: Deployment/mlflow
    event:
      description: What happened.
      type: str
      sample: 1 of 2 available · mlflow-7c9f5d-x2x7k pulling image
msg:
  description:
    - One line that says how it ended. For a failure, the reason, the object and container, the line
      of the log that explains it, and what to do.
  returned: always
  type: str
  sample: "ready: Deployment/mlflow"
failure:
  description: Why it is not ready, or null.
  returned: always
  type: dict
  contains:
    reason:
      description: One of the names listed with O(tolerances), or V(timeout).
      type: str
      sample: crash_loop
    kind:
      description: The kind of the object that is at fault, such as a pod of what was waited for.
      type: str
      sample: Pod
    name:
      description: The name of that object.
      type: str
      sample: mlflow-7c9f5d-x2x7k
    container:
      description: The container at fault, or null.
      type: str
      sample: mlflow
    message:
      description: What is wrong.
      type: str
      sample: container mlflow of pod mlflow-7c9f5d-x2x7k ended with exit code 1, restarted 2 times
    hint:
      description: What to do about it, in one line.
      type: str
      sample: "Read the whole log: kubectl -n mlflow logs mlflow-7c9f5d-x2x7k -c mlflow --previous"
    events:
      description:
        - The last events about the objects concerned, the oldest first.
        - When the time was up, what is not as it should be in their conditions comes before.
      type: list
      elements: str
    logs:
      description: The last lines that the container wrote, of its previous instance if that ended.
      type: list
      elements: str
"""

import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import AUTH_ARG_SPEC
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.module import Module
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow.migration import (
    what_it_waits_for,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._release.progress import (
    progress_from_environment,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.engine import Engine
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.options import (
    WAIT_ARG_SPEC,
    connect,
    find_targets,
    finish,
    run,
    wait_options,
)


def argument_spec() -> dict[str, t.Any]:
    """Return the module's options."""
    return {
        **AUTH_ARG_SPEC,
        **WAIT_ARG_SPEC,
        "resources": {
            "type": "list",
            "elements": "dict",
            "options": {
                "api_version": {"type": "str"},
                "kind": {"type": "str", "required": True},
                "name": {"type": "str", "required": True},
                "namespace": {"type": "str"},
            },
        },
        "definition": {"type": "list", "elements": "dict"},
        "namespace": {"type": "str", "default": "default"},
    }


def main() -> None:
    """Run the module."""
    module = Module(
        argument_spec=argument_spec(),
        supports_check_mode=True,
        required_one_of=[("resources", "definition")],
        mutually_exclusive=[("resources", "definition")],
    )
    options = wait_options(module)
    api = connect(module, module.params)
    objects = module.params["resources"] or module.params["definition"] or []
    targets = find_targets(module, api, objects, module.params["namespace"])
    result = run(
        module,
        module.params,
        lambda progress: Engine(
            api, targets, options, progress=progress, learn=what_it_waits_for(api)
        ).run(),
        progress_from_environment(),
    )
    finish(module, result)


if __name__ == "__main__":
    main()
