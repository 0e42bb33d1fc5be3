#!/usr/bin/python
# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: release_render
short_description: Build the release from its Kustomize overlay, once
version_added: 0.1.0
description:
  - Private to this collection. Its options and what it returns may change in any version.
  - Writes a small kustomization into a temporary folder that has the overlay as its resource and
    carries what the inventory sets, has kustomize build it, and returns the objects by stage.
    Kustomize does all the editing; no YAML is templated.
  - Adds the components C(migration) and C(smoke-test) where the overlay has no such Job, and names
    the Jobs after what they run, so that a Job that is there was for this very release.
  - Adds the annotation by which C(kubectl apply) finds out what was removed, so that kubectl can
    go on where Ansible stopped.
  - Secrets are returned apart from everything else. When there are any, the result is not shown.
    An error never quotes kustomize, which may quote a Secret.
requirements:
  - C(kustomize), or C(kubectl) which has it built in, on the controller's PATH
author:
  - mlops.mlflow contributors (@mlops-mlflow)
options:
  overlay:
    description: The folder of the overlay.
    type: path
    required: true
  components:
    description: Folders of components to add.
    type: list
    elements: path
    default: []
  smoke_test:
    description: Whether to add the smoke test.
    type: bool
    default: true
  namespace:
    description: The namespace, if not the overlay's own.
    type: str
    default: ""
  version:
    description: The version of MLflow, if not the one in the overlay's image tag.
    type: str
    default: ""
  image:
    description: The MLflow image, if not the overlay's.
    type: str
    default: ""
  postgres_image:
    description: The Postgres image, if not the overlay's.
    type: str
    default: ""
  replicas:
    description: How many MLflow servers, if not as many as the overlay says.
    type: int
  size:
    description: Adds the component of that size, such as C(size-small) for V(small).
    type: str
    default: ""
  autoscaling:
    description:
      - C(min), C(max) and C(cpu) of the autoscaler. The component C(autoscaling) is added if there
        is none yet.
    type: dict
    default: {}
  database_max_connections:
    description: With how many connections the bundled Postgres is started.
    type: int
  resources:
    description: Requests and limits of the MLflow container.
    type: dict
    default: {}
  config:
    description: Environment variables of MLflow, added to those of the overlay's C(mlflow-config).
    type: dict
    default: {}
  hosts:
    description: Host names that MLflow answers to besides the overlay's.
    type: list
    elements: str
    default: []
  url:
    description: The address under which people reach MLflow, if it is not derived.
    type: str
    default: ""
  tls_secret:
    description: The Secret with the certificate, for the Ingress.
    type: str
    default: ""
  ingress_class:
    description: The class of the Ingress.
    type: str
    default: ""
  ingress_annotations:
    description: Annotations of the Ingress, beside those of the component.
    type: dict
    default: {}
  gateway:
    description: The C(name), C(namespace) and C(section_name) of the HTTPRoute's Gateway.
    type: dict
    default: {}
  static_prefix:
    description: The path under which MLflow lies.
    type: str
    default: ""
  upload_limit:
    description: The largest request that the Ingress lets through.
    type: str
    default: ""
  proxy_timeout:
    description: Seconds after which the Ingress or the Gateway gives a request up.
    type: int
  service:
    description: What of the Service is not as the overlay says, as C(mlflow_service) has it.
    type: dict
    default: {}
  pod:
    description: What pods have beside what the overlay says, as C(mlflow_pod) has it.
    type: dict
    default: {}
  storage_class:
    description: StorageClass of the volumes.
    type: str
    default: ""
  artifact_storage_size:
    description: Size of the volume for artifacts.
    type: str
    default: ""
  database_storage_size:
    description: Size of the database's volume.
    type: str
    default: ""
  secrets:
    description:
      - Where values are that are not in the release's own Secret, by key of it, as C(secret) and
        C(key), or as C(external) and C(property).
      - Everything that refers to such a value refers to it there. Nothing is copied.
      - For those that are C(external) the component C(external-secrets) is added.
    type: dict
    default: {}
  secret_store:
    description: C(name) and C(kind) of the store of External Secrets.
    type: dict
    default: {}
  backup:
    description:
      - Whether to return the objects of the component C(backup) also where the release does not
        have it. They do not become part of the release.
    type: bool
    default: false
  backup_schedule:
    description: When backups are taken, as a CronJob's schedule.
    type: str
    default: ""
  backup_drill_schedule:
    description: When the latest backup is restored as a test, as a CronJob's schedule.
    type: str
    default: ""
  backup_keep:
    description: How many backups are kept at least.
    type: int
  backup_keep_days:
    description: For how many days backups are kept at least.
    type: int
  backup_storage_size:
    description: Size of the backups' volume.
    type: str
    default: ""
  backup_s3:
    description: The C(url), C(endpoint) and C(region) of the bucket that backups are copied to.
    type: dict
    default: {}
  gc_schedule:
    description: When the component C(gc) works, as a CronJob's schedule, if not as it says itself.
    type: str
    default: ""
  gc_older_than:
    description: How long ago something must have been deleted for C(gc) to remove it.
    type: str
    default: ""
  kustomize:
    description: What builds, and how it is called.
    type: dict
    default: {}
    suboptions:
      binary:
        description: The kustomize or kubectl to call; else the one on the controller's E(PATH).
        type: str
      enable_helm:
        description: Whether kustomize may inflate Helm charts.
        type: bool
      environment:
        description: Environment variables for the binary.
        type: dict
attributes:
  action:
    description: Runs on the controller.
    support: full
extends_documentation_fragment:
  - mlops.mlflow.attributes
  - ansible.builtin.action_common_attributes
seealso:
  - module: mlops.mlflow.release_variables
  - plugin: kubernetes.core.kustomize
    plugin_type: lookup
"""

EXAMPLES = r"""
# Private to this collection: its roles are the examples.
"""

RETURN = r"""
stages:
  description:
    - The objects by stage (C(config), C(database), C(migration), C(server), C(smoke-test)), in
      the order in which to apply them. Secrets are not among them.
  returned: success
  type: dict
namespace:
  description: The namespace of the release.
  returned: success
  type: str
version:
  description: The version of MLflow; empty when neither the image's tag nor the inventory tells.
  returned: success
  type: str
url:
  description: The address under which people reach MLflow; empty when it cannot be told.
  returned: success
  type: str
image:
  description: The MLflow image.
  returned: success
  type: str
postgres_image:
  description: The Postgres image; empty when the overlay brings no database.
  returned: success
  type: str
migration_job:
  description: Name of the migration Job; empty when there is none.
  returned: success
  type: str
smoke_test_job:
  description: Name of the smoke test's Job; empty when there is none.
  returned: success
  type: str
backup:
  description: The objects of the component C(backup).
  returned: success
  type: list
  elements: dict
artifact_store:
  description: Where the artifacts go, C(MLFLOW_ARTIFACTS_DESTINATION).
  returned: success
  type: str
service:
  description: Type, port and node port of the Service.
  returned: success
  type: dict
kinds:
  description: The kinds of objects in the release, as C(api_version) and C(kind).
  returned: success
  type: list
  elements: dict
secrets:
  description: Names of the rendered Secrets, and whether each is marked as for development only.
  returned: success
  type: list
  elements: dict
credential_keys:
  description: Keys of the Secret C(mlflow-credentials) that the pods ask for, and how each is made.
  returned: success
  type: dict
administrator:
  description:
    - Where MLflow's administrator is, as C(username) and C(password), each with C(secret) and
      C(key). Empty without the component C(auth).
  returned: success
  type: dict
existing_secrets:
  description: What has to be in the cluster already, as C(variable), C(secret) and C(key).
  returned: success
  type: list
  elements: dict
external_secrets:
  description: What External Secrets has to bring, in the same form.
  returned: success
  type: list
  elements: dict
secret_definitions:
  description: The rendered Secrets as JSON text, for M(mlops.mlflow.release_credentials).
  returned: success
  type: str
"""
