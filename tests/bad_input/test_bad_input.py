# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every bad input ends in one clear message that names it, before anything is written."""

from __future__ import annotations

import base64
import json
import re
import socket
import typing as t
from collections.abc import Iterator

import pytest
import yaml
from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory import overlays
from ansible_collections.mlops.mlflow.tests.bad_input.fake_cluster import (
    ROOT,
    TOKEN,
    FakeCluster,
    Outcome,
    Site,
    kubeconfig,
    serve,
)

SECRET = "correct-horse-battery-staple"


def assert_said(message: str, output: str, expected: t.Iterable[str]) -> None:
    """See that a message has the expected words and that nothing was written; no secret is said."""
    for words in expected:
        assert words in message, output
    assert "othing was written" in message, output
    assert "Traceback" not in output
    assert SECRET not in output
    assert TOKEN not in output


def assert_refused(
    site: Site, cluster: FakeCluster, inventory: str, variables: dict[str, t.Any], *expected: str
) -> str:
    """Run the playbook; see that it failed for the expected reason, in one message, unwritten."""
    outcome = site.run(inventory, variables)
    assert outcome.status != 0, outcome.output
    assert cluster.writes() == [], "the cluster was written to"
    # Where it happened, and at the end.
    host = f"mlflow-{inventory}" if inventory else "localhost"
    assert outcome.output.count(f"fatal: [{host}]") == 2, outcome.output
    message = " ".join(re.sub(r"^fatal: .*$", "", outcome.output, flags=re.MULTILINE).split())
    assert_said(message, outcome.output, expected)
    return message


def _development_password() -> str:
    document = yaml.safe_load((ROOT / "kustomize/base/secrets.yml").read_text(encoding="utf-8"))
    return base64.b64decode(document["data"]["database-password"]).decode()


VARIABLES: dict[str, tuple[dict[str, t.Any], list[str]]] = {
    # wrong types
    "replicas-is-a-word": ({"mlflow_replicas": "two"}, ["mlflow_replicas: must be a whole number"]),
    "replicas-is-a-boolean": ({"mlflow_replicas": True}, ["mlflow_replicas: must be a whole"]),
    "replicas-is-a-list": ({"mlflow_replicas": [2]}, ["mlflow_replicas", "not a list"]),
    "replicas-is-a-fraction": ({"mlflow_replicas": 1.5}, ["mlflow_replicas: must be a whole"]),
    "external-database-nowhere": (
        {"mlflow_components": ["external-postgres"]},
        ["mlflow_config.PGHOST: is not set"],
    ),
    "backup-schedule-without-component": (
        {"mlflow_backup_schedule": "17 2 * * *"},
        ["mlflow_backup_schedule: the overlay has no CronJob mlflow-backup"],
    ),
    "backup-schedule-is-none": (
        {"mlflow_components": ["backup"], "mlflow_backup_schedule": "every night"},
        ["mlflow_backup_schedule: 'every night' is not a schedule"],
    ),
    "drill-schedule-is-none": (
        {"mlflow_components": ["backup"], "mlflow_backup_drill_schedule": "never"},
        ["mlflow_backup_drill_schedule: 'never' is not a schedule"],
    ),
    "bucket-is-not-set": (
        {"mlflow_components": ["backup", "backup-s3"]},
        ["mlflow_backup_s3.url: is not set, and the component backup-s3 needs it"],
    ),
    "bucket-without-component": (
        {"mlflow_backup_s3": {"url": "s3://backups"}},
        ["mlflow_backup_s3: the overlay has no CronJob mlflow-backup-s3"],
    ),
    "bucket-is-a-name": (
        {"mlflow_backup_s3": {"url": "backups"}},
        ["mlflow_backup_s3.url: must be s3://BUCKET"],
    ),
    "bucket-with-a-password": (
        {
            "mlflow_backup_s3": {
                "url": "s3://backups",
                "endpoint": f"https://me:{SECRET}@s3.example.org",
            }
        },
        ["mlflow_backup_s3.endpoint: must be https://HOST"],
    ),
    "bucket-without-backups": (
        {"mlflow_components": ["backup-s3"], "mlflow_backup_s3": {"url": "s3://backups"}},
        ["mlflow_components: backup-s3 needs backup"],
    ),
    "gc-removes-what-a-backup-needs": (
        {"mlflow_components": ["backup", "gc"], "mlflow_gc_older_than": "7d"},
        ["mlflow_gc_older_than: gc removes", "mlflow_backup_keep_days keeps backups longer (14"],
    ),
    "gc-removes-what-one-of-many-backups-needs": (
        {"mlflow_components": ["backup", "gc"], "mlflow_backup_keep": 60},
        ["mlflow_gc_older_than: gc removes", "mlflow_backup_keep keeps backups longer (60 backups"],
    ),
    "backup-keep-none": ({"mlflow_backup_keep": 0}, ["mlflow_backup_keep: must be between 1 and"]),
    "backup-is-a-path": (
        {"mlflow_backup": "../20261124T190501Z"},
        ["is not latest, nor a backup's name"],
    ),
    "backup-and-file": (
        {"mlflow_backup": "latest", "mlflow_backup_file": "x.tar"},
        ["mlflow_backup: is set, and so is mlflow_backup_file"],
    ),
    "backup-storage-size": (
        {"mlflow_backup_storage_size": "10"},
        ["mlflow_backup_storage_size: '10' is less than 1Mi"],
    ),
    "lock-ttl-too-short": (
        {"mlflow_lock_ttl": 5},
        ["mlflow_lock_ttl: must be between 30 and 86400 seconds"],
    ),
    "lock-wait-negative": ({"mlflow_lock_wait": -1}, ["mlflow_lock_wait: must be between 0 and"]),
    "config-is-a-list": ({"mlflow_config": ["A=1"]}, ["mlflow_config: must be a mapping"]),
    "config-name-is-none": (
        {"mlflow_config": {"MLFLOW-WORKERS": 1}},
        ["mlflow_config: 'MLFLOW-WORKERS' is not the name of an environment variable"],
    ),
    "config-holds-a-secret": (
        {"mlflow_config": {"AWS_SECRET_ACCESS_KEY": "abc"}},
        ["mlflow_config.AWS_SECRET_ACCESS_KEY: is a secret by its name"],
    ),
    "config-names-another-database": (
        {"mlflow_config": {"MLFLOW_BACKEND_STORE_URI": "mysql+pymysql://db.example.org/mlflow"}},
        ["mlflow_config.MLFLOW_BACKEND_STORE_URI: is mysql; a release's database is Postgres"],
    ),
    "config-starts-another-server": (
        {"mlflow_config": {"MLFLOW_GUNICORN_OPTS": "--timeout 120"}},
        ["mlflow_config.MLFLOW_GUNICORN_OPTS: starts gunicorn", "set MLFLOW_UVICORN_OPTS instead"],
    ),
    "config-holds-the-key-of-an-account": (
        {
            "mlflow_config": {
                "AZURE_STORAGE_CONNECTION_STRING": f"AccountName=a;AccountKey={SECRET}",
                "TOKENIZERS_PARALLELISM": False,
            }
        },
        ["mlflow_config.AZURE_STORAGE_CONNECTION_STRING: holds an account's key"],
    ),
    "config-holds-a-password": (
        {"mlflow_config": {"MLFLOW_BACKEND_STORE_URI": "postgresql://mlflow:hunter22@db/mlflow"}},
        ["mlflow_config.MLFLOW_BACKEND_STORE_URI: holds a password"],
    ),
    "config-value-is-a-list": (
        {"mlflow_config": {"MLFLOW_WORKERS": [1]}},
        ["mlflow_config.MLFLOW_WORKERS: must be a string, a number or true or false"],
    ),
    "config-value-is-quoted": (
        {"mlflow_config": {"MLFLOW_SERVER_ENV": '"a"'}},
        ["mlflow_config.MLFLOW_SERVER_ENV: starts or ends with a quotation mark"],
    ),
    "config-value-has-lines": (
        {"mlflow_config": {"MLFLOW_SERVER_ENV": "a\nb"}},
        ["mlflow_config.MLFLOW_SERVER_ENV: holds a control character"],
    ),
    "hosts-is-a-string": ({"mlflow_hosts": "mlflow.example.org"}, ["mlflow_hosts: must be a list"]),
    "hosts-holds-a-mapping": ({"mlflow_hosts": [{"name": "a"}]}, ["mlflow_hosts[0]", "a mapping"]),
    "hosts-holds-nothing": ({"mlflow_hosts": [""]}, ["mlflow_hosts[0]"]),
    "namespace-is-a-mapping": ({"mlflow_namespace": {"name": "a"}}, ["mlflow_namespace: must be"]),
    "version-is-a-number": ({"mlflow_version": 3.17}, ["mlflow_version", "put it in quotes"]),
    "image-is-a-list": ({"mlflow_image": ["mlflow"]}, ["mlflow_image: must be a string"]),
    "resources-is-a-word": ({"mlflow_resources": "big"}, ["mlflow_resources: must be a mapping"]),
    "timeout-is-a-word": ({"mlflow_timeout": "10m"}, ["mlflow_timeout: must be a whole number"]),
    "smoke-test-is-a-word": ({"mlflow_smoke_test": "perhaps"}, ["mlflow_smoke_test", "true or"]),
    "components-is-a-string": (
        {"mlflow_components": "auth"},
        ["mlflow_components: must be a list"],
    ),
    "tolerances-is-a-list": ({"mlflow_tolerances": ["volume"]}, ["mlflow_tolerances: must be a"]),
    "node-port-is-a-word": (
        {"mlflow_service": {"nodePort": "http"}},
        ["mlflow_service.nodePort: must be a whole"],
    ),
    "pod-is-no-kubernetes": (
        {"mlflow_pod": {"tolerations": [{"kee": "dedicated"}], "env": [{"name": "A", "value": 1}]}},
        [
            "mlflow_pod.tolerations[0].kee: no such field; did you mean key?",
            "mlflow_pod.env[0].value: must be a string, not a number (put it in quotes)",
        ],
    ),
    "pod-has-what-ours-have": (
        {"mlflow_pod": {"env": [{"name": "PGUSER", "value": "me"}]}},
        ["mlflow_pod.env[0].name: Deployment mlflow has PGUSER already; mlflow_secrets says where"],
    ),
    "service-variable-of-before": (
        {"mlflow_service_type": "ClusterIP", "mlflow_node_port": 30123},
        ["mlflow_service_type: is now mlflow_service.type", "is now mlflow_service.nodePort"],
    ),
    "service-without-a-load-balancer": (
        {"mlflow_service": {"loadBalancerSourceRanges": ["192.0.2.0/24"]}},
        ["mlflow_service.loadBalancerSourceRanges: the Service is of type ClusterIP"],
    ),
    "password-is-a-list": ({"mlflow_database_password": [SECRET]}, ["mlflow_database_password"]),
    "password-is-a-mapping": (
        {"mlflow_database_password": {"value": SECRET}},
        ["mlflow_database_password: must be"],
    ),
    "role-variable-is-a-list": ({"release_back_to": ["a"]}, ["release_back_to: must"]),
    # unknown names
    "unknown-variable": (
        {"mlflow_replica": 3},
        ["mlflow_replica: no such variable; did you mean mlflow_replicas?"],
    ),
    "unknown-secret": (
        {"mlflow_db_password": SECRET},
        ["mlflow_db_password: no such", "mlflow_database_password"],
    ),
    "unknown-and-far-off": ({"mlflow_zzz": 1}, ["mlflow_zzz: no such variable"]),
    "unknown-key": (
        {"mlflow_resources": {"request": {"cpu": 1}}},
        ["mlflow_resources.request: no such key; did you mean requests?"],
    ),
    "unknown-reason": (
        {"mlflow_tolerances": {"imagepull": 3}},
        ["mlflow_tolerances.imagepull", "image_pull"],
    ),
    # impossible values
    "environment-unknown": ({"mlflow_environment": "prod"}, ["mlflow_environment", "production?"]),
    "overlay-unknown": (
        {"mlflow_overlay": "productoin"},
        ["mlflow_overlay", "did you mean production?"],
    ),
    "overlay-nowhere": ({"mlflow_overlay": "/nowhere/at-all"}, ["mlflow_overlay: there is no"]),
    "component-unknown": ({"mlflow_components": ["no-such"]}, ["mlflow_components[0]", "no-such"]),
    **{
        f"component-{name}-alone": (
            {"mlflow_components": [name]},
            [f"mlflow_components: {name} needs {needed}"],
        )
        for name, (needed, _why) in overlays.NEEDS.items()
    },
    **{
        f"components-{one}-and-{other}": (
            {"mlflow_components": [one, other]},
            [f"mlflow_components: {one} and {other} exclude each other"],
        )
        for one, other in overlays.EXCLUDES
    },
    "gc-schedule": ({"mlflow_gc_schedule": "nightly"}, ["mlflow_gc_schedule: 'nightly' is not"]),
    "gc-age-without-unit": ({"mlflow_gc_older_than": "30"}, ["mlflow_gc_older_than: '30' is not"]),
    "gc-is-not-there": (
        {"mlflow_gc_older_than": "30d"},
        ["mlflow_gc_older_than: the overlay has no CronJob mlflow-gc"],
    ),
    "component-built-in": ({"mlflow_components": ["migration"]}, ["mlflow_components[0]"]),
    "namespace-not-a-name": (
        {"mlflow_namespace": "Not_A_Name"},
        ["mlflow_namespace: 'Not_A_Name'"],
    ),
    "namespace-too-long": ({"mlflow_namespace": "n" * 64}, ["mlflow_namespace"]),
    "namespace-of-kubernetes": (
        {"mlflow_namespace": "kube-system"},
        ["mlflow_namespace: kube-sys"],
    ),
    "version-is-latest": ({"mlflow_version": "latest"}, ["mlflow_version: 'latest'"]),
    "version-against-image": (
        {"mlflow_version": "3.16.1", "mlflow_image": "ghcr.io/mlflow/mlflow:v3.17.2-full"},
        ["mlflow_version: 3.16.1 contradicts"],
    ),
    "image-in-capitals": ({"mlflow_image": "Example/MLflow"}, ["mlflow_image: 'Example/MLflow'"]),
    "image-short-digest": ({"mlflow_image": "mlflow@sha256:abc"}, ["mlflow_image"]),
    "image-postgres-with-space": (
        {"mlflow_postgres_image": "postgres :17"},
        ["mlflow_postgres_im"],
    ),
    "replicas-zero": ({"mlflow_replicas": 0}, ["mlflow_replicas: must be between 1 and"]),
    "replicas-negative": ({"mlflow_replicas": "-1"}, ["mlflow_replicas: must be between 1 and"]),
    "replicas-too-many-connections": (
        {"mlflow_replicas": 50},
        ["mlflow_replicas", "more connections than Postgres has"],
    ),
    "autoscaling-too-many-connections": (
        {"mlflow_autoscaling": {"max": 20}},
        ["mlflow_autoscaling.max: ", "more connections than Postgres has", "or less, or lower"],
    ),
    "autoscaling-and-replicas": (
        {"mlflow_autoscaling": {"max": 3}, "mlflow_replicas": 3},
        ["mlflow_replicas: is set, and so is mlflow_autoscaling, which decides"],
    ),
    "autoscaling-min-above-max": (
        {"mlflow_autoscaling": {"min": 3, "max": 2}},
        ["mlflow_autoscaling: min, 3, is more than max, 2"],
    ),
    "autoscaling-unknown-key": (
        {"mlflow_autoscaling": {"maximum": 3}},
        ["mlflow_autoscaling.maximum: no such key"],
    ),
    "autoscaling-zero": (
        {"mlflow_autoscaling": {"max": 0}},
        ["mlflow_autoscaling.max: must be between 1 and 1000, not 0"],
    ),
    "size-unknown": ({"mlflow_size": "huge"}, ["mlflow_size: must be one of small, medium, large"]),
    "size-twice": (
        {"mlflow_components": ["size-small", "size-large"]},
        ["mlflow_components: size-small and size-large exclude each other: a release has one size"],
    ),
    "size-and-component": (
        {"mlflow_size": "small", "mlflow_components": ["size-large"]},
        ["mlflow_size: is set, and mlflow_components has size-large"],
    ),
    "size-and-too-few-connections": (
        {"mlflow_size": "large", "mlflow_database_max_connections": 50},
        ["mlflow_replicas: ", "of 47", "mlflow_database_max_connections: "],
    ),
    "external-database-and-too-few-connections": (
        {
            "mlflow_components": ["external-postgres"],
            "mlflow_config": {"PGHOST": "db.example.org"},
            "mlflow_database_max_connections": 40,
        },
        ["mlflow_replicas: ", "more connections than Postgres has", "of 37"],
    ),
    "connections-too-many-for-the-memory": (
        {"mlflow_size": "small", "mlflow_database_max_connections": 400},
        [
            "mlflow_database_max_connections: 400 connections need 1520 MiB",
            "or less",
            "mlflow_size",
        ],
    ),
    "connections-too-few-to-mean-it": (
        {"mlflow_database_max_connections": 1},
        ["mlflow_database_max_connections: must be between 20 and 10000"],
    ),
    "service-monitor-without-metrics": (
        {"mlflow_components": ["service-monitor"]},
        ["mlflow_components: service-monitor needs monitoring: without it there are no metrics"],
    ),
    "dashboard-without-metrics": (
        {"mlflow_components": ["dashboard"]},
        ["mlflow_components: dashboard needs monitoring: without it there are no metrics"],
    ),
    "size-not-a-size": ({"mlflow_artifact_storage_size": "lots"}, ["mlflow_artifact_storage_size"]),
    "size-without-unit": (
        {"mlflow_database_storage_size": "50"},
        ["mlflow_database_storage_size", "unit missing"],
    ),
    "request-above-limit": (
        {"mlflow_resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "500m"}}},
        ["mlflow_resources.requests.cpu: 2 is more than its limit"],
    ),
    "quantity-not-a-quantity": (
        {"mlflow_resources": {"limits": {"memory": "2 gigs"}}},
        ["mlflow_resources.limits.memory"],
    ),
    "node-port-too-low": (
        {"mlflow_service": {"nodePort": 80}},
        ["mlflow_service.nodePort: must be between 30000"],
    ),
    "node-port-on-cluster-ip": (
        {"mlflow_service": {"nodePort": 30123}},
        ["mlflow_service.nodePort", "ClusterIP"],
    ),
    "service-type-unknown": (
        {"mlflow_service": {"type": "nodeport"}},
        ["mlflow_service.type", "did you mean NodePort?"],
    ),
    "host-with-scheme": ({"mlflow_hosts": ["https://a.example.org"]}, ["mlflow_hosts[0]"]),
    "host-with-port": ({"mlflow_hosts": ["a.example.org:443"]}, ["mlflow_hosts[0]"]),
    "host-half-an-address": ({"mlflow_hosts": ["10.0.0"]}, ["mlflow_hosts[0]"]),
    "prefix-without-slash": (
        {"mlflow_static_prefix": "mlflow"},
        ["mlflow_static_prefix: 'mlflow' is not a path such as /mlflow"],
    ),
    "prefix-ends-with-slash": ({"mlflow_static_prefix": "/a/"}, ["mlflow_static_prefix: '/a/'"]),
    "prefix-with-a-brace": ({"mlflow_static_prefix": "/{a}"}, ["mlflow_static_prefix"]),
    "prefix-against-url": (
        {"mlflow_static_prefix": "/mlflow", "mlflow_url": "https://a.example.org/other"},
        ["mlflow_url: does not end with /mlflow"],
    ),
    "prefix-in-config": (
        {"mlflow_config": {"MLFLOW_STATIC_PREFIX": "/mlflow"}},
        ["mlflow_config.MLFLOW_STATIC_PREFIX: set mlflow_static_prefix instead"],
    ),
    "ingress-without-hosts": (
        {"mlflow_components": ["ingress"]},
        ["mlflow_hosts: is empty, and the component ingress needs a name"],
    ),
    "ingress-of-an-address": (
        {"mlflow_components": ["ingress"], "mlflow_hosts": ["192.0.2.1"]},
        ["mlflow_hosts: an Ingress takes names only, and 192.0.2.1 is an address"],
    ),
    "ingress-and-gateway": (
        {
            "mlflow_components": ["ingress", "gateway"],
            "mlflow_hosts": ["a.example.org"],
            "mlflow_gateway": {"name": "web"},
        },
        ["mlflow_components: ingress and gateway would both claim"],
    ),
    "tls-without-ingress": (
        {"mlflow_hosts": ["a.example.org"], "mlflow_tls_secret": "a-tls"},
        ["mlflow_tls_secret: there is nothing to set it on; add ingress to mlflow_components"],
    ),
    "tls-secret-not-a-name": ({"mlflow_tls_secret": "A TLS"}, ["mlflow_tls_secret: 'A TLS'"]),
    "gateway-without-parent": (
        {"mlflow_components": ["gateway"], "mlflow_hosts": ["a.example.org"]},
        ["mlflow_gateway: is empty, and the component gateway needs its Gateway"],
    ),
    "gateway-without-name": (
        {"mlflow_gateway": {"namespace": "web"}},
        ["mlflow_gateway.name: is not set"],
    ),
    "gateway-with-unknown-key": (
        {"mlflow_gateway": {"name": "web", "listener": "https"}},
        ["mlflow_gateway.listener: no such key"],
    ),
    "gateway-without-component": (
        {"mlflow_gateway": {"name": "web"}},
        ["mlflow_gateway: there is nothing to set it on; add gateway to mlflow_components"],
    ),
    "upload-limit-of-a-gateway": (
        {
            "mlflow_components": ["gateway"],
            "mlflow_hosts": ["a.example.org"],
            "mlflow_gateway": {"name": "web"},
            "mlflow_upload_limit": "20Gi",
        },
        ["mlflow_upload_limit: there is nothing to set it on"],
    ),
    "upload-limit-without-unit": ({"mlflow_upload_limit": "20"}, ["mlflow_upload_limit: '20'"]),
    "proxy-timeout-zero": ({"mlflow_proxy_timeout": 0}, ["mlflow_proxy_timeout: must be between"]),
    "annotation-is-a-boolean": (
        {"mlflow_ingress_annotations": {"example.org/a": True}},
        ["mlflow_ingress_annotations.example.org/a: must be a string", "put it in quotes"],
    ),
    "annotation-without-name": (
        {"mlflow_ingress_annotations": {"a b": "c"}},
        ["mlflow_ingress_annotations: 'a b' is not the name"],
    ),
    "url-with-password": (
        {"mlflow_url": f"https://me:{SECRET}@a.example.org"},
        ["mlflow_url: must be http"],
    ),
    "timeout-zero": ({"mlflow_timeout": 0}, ["mlflow_timeout: must be between"]),
    "tolerance-negative": (
        {"mlflow_tolerances": {"volume": -1}},
        ["mlflow_tolerances.volume: must be seconds"],
    ),
    "wait-condition-of-no-kind": (
        {"mlflow_wait_conditions": [{"condition": "Ready"}]},
        ["mlflow_wait_conditions[0].kind: is not set"],
    ),
    "wait-condition-unknown-key": (
        {"mlflow_wait_conditions": [{"kind": "Widget", "conditions": "Ready"}]},
        ["mlflow_wait_conditions[0].conditions: no such key; did you mean condition?"],
    ),
    "wait-condition-says-nothing": (
        {"mlflow_wait_conditions": [{"kind": "Widget"}]},
        ["mlflow_wait_conditions[0].condition: give the type"],
    ),
    "password-short": ({"mlflow_database_password": "short"}, ["mlflow_database_password: is sh"]),
    "password-with-line-end": (
        {"mlflow_database_password": SECRET + "\n"},
        ["mlflow_database_password", "line end"],
    ),
    "fernet-key-not-one": (
        {"mlflow_webhook_encryption_key": SECRET},
        ["mlflow_webhook_encryption_key", "Fernet"],
    ),
    "development-password": (
        {"mlflow_database_password": _development_password()},
        ["mlflow_database_password: is the development value", "refused in production"],
    ),
    "development-overlay": (
        {"mlflow_overlay": "development"},
        ["renders development credentials (Secret mlflow-credentials)", "refused in production"],
    ),
    # where secrets come from
    "secrets-is-a-list": ({"mlflow_secrets": ["a"]}, ["mlflow_secrets: must be a mapping"]),
    "secrets-key-unknown": (
        {"mlflow_secrets": {"databse-password": {"secret": "a"}}},
        ["mlflow_secrets.databse-password: no such key; did you mean database-password?"],
    ),
    "secrets-holds-a-value": (
        {"mlflow_secrets": {"database-password": SECRET}},
        ["mlflow_secrets.database-password: must be a mapping, not a string"],
    ),
    "secrets-part-unknown": (
        {"mlflow_secrets": {"database-password": {"secert": "a"}}},
        ["mlflow_secrets.database-password.secert: no such key; did you mean secret?"],
    ),
    "secrets-part-is-a-number": (
        {"mlflow_secrets": {"database-password": {"secret": 5}}},
        ["mlflow_secrets.database-password.secret: must be a string, not a number"],
    ),
    "secrets-name-is-a-value": (
        {"mlflow_secrets": {"database-password": {"secret": SECRET.upper()}}},
        ["mlflow_secrets.database-password.secret: is not the name of a Secret"],
    ),
    "secrets-two-sources": (
        {
            "mlflow_secrets": {"database-password": {"secret": "a", "external": "b"}},
            "mlflow_secret_store": {"name": "vault"},
        },
        ["mlflow_secrets.database-password: names a Secret and an external one"],
    ),
    "secrets-no-source": (
        {"mlflow_secrets": {"database-password": {}}},
        ["mlflow_secrets.database-password: names no source"],
    ),
    "secrets-key-of-nothing": (
        {
            "mlflow_secrets": {"database-password": {"external": "a", "key": "b"}},
            "mlflow_secret_store": {"name": "vault"},
        },
        ["mlflow_secrets.database-password.key: is the key of a Secret"],
    ),
    "secrets-property-of-nothing": (
        {"mlflow_secrets": {"database-password": {"secret": "a", "property": "b"}}},
        ["mlflow_secrets.database-password.property: is a property of an external entry"],
    ),
    "secrets-the-releases-own": (
        {"mlflow_secrets": {"database-password": {"secret": "mlflow-credentials"}}},
        ["mlflow_secrets.database-password.secret: mlflow-credentials is the release's own"],
    ),
    "secrets-given-as-well": (
        {
            "mlflow_secrets": {"database-password": {"secret": "a"}},
            "mlflow_database_password": SECRET,
        },
        ["mlflow_database_password: is set, and mlflow_secrets.database-password says"],
    ),
    "secrets-without-a-store": (
        {"mlflow_secrets": {"kek-passphrase": {"external": "a"}}},
        ["mlflow_secret_store.name: is not set, and mlflow_secrets.kek-passphrase is external"],
    ),
    "secrets-store-for-nothing": (
        {"mlflow_secret_store": {"name": "vault"}},
        ["mlflow_secret_store: is set, and nothing of mlflow_secrets is external"],
    ),
    "secrets-store-kind": (
        {
            "mlflow_secrets": {"kek-passphrase": {"external": "a"}},
            "mlflow_secret_store": {"name": "vault", "kind": "Vault"},
        },
        ["mlflow_secret_store.kind: must be one of SecretStore, ClusterSecretStore"],
    ),
    "secrets-nobody-asks-for": (
        {"mlflow_secrets": {"admin-password": {"secret": "a"}}},
        ["mlflow_secrets.admin-password: no pod of this release", "component auth missing?"],
    ),
    "secrets-not-there": (
        {"mlflow_secrets": {"database-password": {"secret": "cluster-app", "key": "password"}}},
        [
            "mlflow_secrets.database-password: there is no Secret cluster-app",
            "for its key password: kubectl -n secrets-not-there create secret generic",
        ],
    ),
    "template-undefined": (
        {"mlflow_namespace": "{{ no_such_variable }}"},
        ["mlflow_namespace: its template"],
    ),
}


# What says where a release is, a host of a fleet has to itself.
ALONE = {"mlflow_namespace", "mlflow_context", "mlflow_kubeconfig"}
TOGETHER = [case for case, (variables, _words) in VARIABLES.items() if not ALONE & set(variables)]
# An Ansible takes seconds to start: so many hosts, each with another mistake, in one run.
FLEET = 24
# As the hosts of the shipped inventories are.
LOCAL = {
    "ansible_connection": "local",
    "ansible_python_interpreter": "{{ ansible_playbook_python }}",
}


def fleet_of(case: str) -> int:
    return TOGETHER.index(case) // FLEET


@pytest.fixture(scope="session")
def run_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[t.Callable[[int], Outcome]]:
    """Run site.yml on the fleet with a number, once, and see that nothing was written."""
    everywhere = yaml.safe_load((ROOT / "inventories/production/group_vars/all.yml").read_text())
    outcomes: dict[int, Outcome] = {}

    with serve(FakeCluster()) as cluster:

        def run(number: int) -> Outcome:
            if number not in outcomes:
                cases = TOGETHER[number * FLEET : (number + 1) * FLEET]
                hosts = {case: {"mlflow_namespace": case, **VARIABLES[case][0]} for case in cases}
                inventory = {"all": {"hosts": hosts, "vars": {**everywhere, **LOCAL}}}
                site = Site(cluster, tmp_path_factory.mktemp("fleet"))
                path = site.write("inventory/hosts.yml", json.dumps(inventory))
                outcomes[number] = site.run(path, {}, "--forks=4", timeout=900)
            return outcomes[number]

        yield run
        assert cluster.writes() == [], "the cluster was written to"


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=pytest.mark.xdist_group(str(fleet_of(case)))) for case in TOGETHER],
)
def test_variable(case: str, run_fleet: t.Callable[[int], Outcome]) -> None:
    """A bad variable is named, whatever else is right here and wrong elsewhere."""
    outcome = run_fleet(fleet_of(case))
    assert outcome.status != 0, outcome.output
    said = re.findall(rf"^fatal: \[{case}\].*\n((?: .*\n|\n)*)", outcome.output, re.MULTILINE)
    # Where it happened, and at the end.
    assert len(said) == 2, outcome.output
    message = " ".join(yaml.safe_load(said[0])["msg"].split())
    assert_said(message, outcome.output, VARIABLES[case][1])


@pytest.mark.parametrize("case", sorted(set(VARIABLES) - set(TOGETHER)))
def test_variable_that_says_where(case: str, site: Site, cluster: FakeCluster) -> None:
    """So is one of those by which releases are told apart."""
    variables, expected = VARIABLES[case]
    assert_refused(site, cluster, "production", variables, *expected)


def test_everything_wrong_is_said_at_once(site: Site, cluster: FakeCluster) -> None:
    """Nobody has to run it five times to find five mistakes."""
    variables = {"mlflow_replicas": "two", "mlflow_imge": "x", "mlflow_timeout": 0}
    site.environment["KUBECONFIG"] = "/nowhere/kubeconfig"
    assert_refused(
        site, cluster, "production", variables,
        "4 problems", "mlflow_replicas", "mlflow_imge", "mlflow_timeout", "KUBECONFIG",
    )  # fmt: skip


def test_no_inventory(site: Site, cluster: FakeCluster) -> None:
    """Without an inventory nothing is guessed."""
    assert_refused(site, cluster, "", {}, "mlflow_environment: is not set", "inventories/")


# --- overlays -------------------------------------------------------------------------------------


def test_overlay_without_kustomization(site: Site, cluster: FakeCluster) -> None:
    """A folder is not an overlay."""
    folder = site.write("overlay/readme.txt", "nothing").rsplit("/", 1)[0]
    assert_refused(
        site, cluster, "production", {"mlflow_overlay": folder}, "holds no kustomization.yml"
    )


def test_overlay_with_a_missing_file(site: Site, cluster: FakeCluster) -> None:
    """The file that kustomize misses is named."""
    site.write("overlay/kustomization.yml", "resources: [no-such-file.yml]\n")
    folder = str(site.folder / "overlay")
    assert_refused(
        site, cluster, "production", {"mlflow_overlay": folder},
        "kustomize cannot build", "no-such-file.yml",
    )  # fmt: skip


def test_overlay_that_quotes_a_secret(site: Site, cluster: FakeCluster) -> None:
    """What kustomize says about a broken Secret quotes it; we do not."""
    site.write("overlay/kustomization.yml", "resources: [secret.yml]\n")
    site.write("overlay/secret.yml", f"kind: Secret\nstringData:\n  password: {SECRET}: : {{\n")
    folder = str(site.folder / "overlay")
    assert_refused(
        site, cluster, "production", {"mlflow_overlay": folder},
        "kustomize cannot build", "secret.yml",
    )  # fmt: skip


def test_overlay_without_a_namespace(site: Site, cluster: FakeCluster) -> None:
    """An overlay that names no namespace needs mlflow_namespace."""
    base = ROOT / "kustomize" / "base"
    assert_refused(
        site, cluster, "development", {"mlflow_overlay": str(base)}, "mlflow_namespace: is not set"
    )


def test_overlay_without_a_server(site: Site, cluster: FakeCluster) -> None:
    """An overlay that is not built on the base is refused."""
    site.write("overlay/kustomization.yml", "namespace: elsewhere\nresources: [one.yml]\n")
    site.write(
        "overlay/one.yml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one}\ndata: {}\n"
    )
    folder = str(site.folder / "overlay")
    variables = {"mlflow_overlay": folder, "mlflow_smoke_test": False}
    assert_refused(site, cluster, "production", variables, "renders no Deployment mlflow")


# --- which cluster --------------------------------------------------------------------------------


def test_kubeconfig_missing(site: Site, cluster: FakeCluster) -> None:
    """KUBECONFIG names a file that is not there."""
    site.environment["KUBECONFIG"] = "/nowhere/kubeconfig"
    assert_refused(
        site, cluster, "production", {}, "KUBECONFIG: there is no kubeconfig at /nowhere/kubeconfig"
    )


def test_kubeconfig_variable_missing(site: Site, cluster: FakeCluster) -> None:
    """So does mlflow_kubeconfig, although KUBECONFIG is good."""
    assert_refused(
        site, cluster, "production", {"mlflow_kubeconfig": "/nowhere/config"},
        "mlflow_kubeconfig: there is no kubeconfig at /nowhere/config",
    )  # fmt: skip


def test_no_cluster_at_all(site: Site, cluster: FakeCluster) -> None:
    """Nothing names a cluster."""
    del site.environment["KUBECONFIG"]
    assert_refused(site, cluster, "production", {}, "mlflow_kubeconfig: no cluster is named")


def test_kubeconfig_not_yaml(site: Site, cluster: FakeCluster) -> None:
    """A broken kubeconfig is named and not quoted."""
    site.write("kubeconfig", f"users: [{{token: {SECRET}\n")
    assert_refused(site, cluster, "production", {}, "KUBECONFIG: ", "is not YAML")


def test_kubeconfig_something_else(site: Site, cluster: FakeCluster) -> None:
    """Some other YAML file is not a kubeconfig."""
    site.write("kubeconfig", "colour: blue\n")
    assert_refused(site, cluster, "production", {}, "is not a kubeconfig")


def test_context_unknown(site: Site, cluster: FakeCluster) -> None:
    """The contexts there are, are listed."""
    assert_refused(
        site, cluster, "production", {"mlflow_context": "fakes"},
        "mlflow_context: ", "has no context 'fakes' (it has: fake); did you mean fake?",
    )  # fmt: skip


def test_no_current_context(site: Site, cluster: FakeCluster) -> None:
    """No context is guessed."""
    site.write("kubeconfig", kubeconfig(cluster.url, **{"current-context": ""}))
    assert_refused(site, cluster, "production", {}, "mlflow_context: is not set")


def test_two_clusters(site: Site, cluster: FakeCluster) -> None:
    """Two sources that may mean different clusters are not silently mixed."""
    site.environment["K8S_AUTH_HOST"] = "https://127.0.0.1:1"
    assert_refused(
        site, cluster, "production", {"mlflow_kubeconfig": site.environment["KUBECONFIG"]},
        "mlflow_kubeconfig: is set, and so is K8S_AUTH_HOST",
    )  # fmt: skip


def test_cluster_unreachable(site: Site, cluster: FakeCluster) -> None:
    """A port where nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    site.write("kubeconfig", kubeconfig(f"http://127.0.0.1:{port}"))
    assert_refused(
        site, cluster, "production", {},
        f"cannot reach the cluster at http://127.0.0.1:{port}: connection refused",
    )  # fmt: skip


def test_cluster_silent(site: Site, cluster: FakeCluster) -> None:
    """A server that takes the connection and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        site.write("kubeconfig", kubeconfig(f"http://127.0.0.1:{port}"))
        assert_refused(site, cluster, "production", {}, "cannot reach the cluster", "no answer")


def test_cluster_refuses_credentials(site: Site, cluster: FakeCluster) -> None:
    """An expired token."""
    cluster.version = (401, "{}")
    assert_refused(site, cluster, "production", {}, "refuses the credentials")


def test_cluster_is_something_else(site: Site, cluster: FakeCluster) -> None:
    """A web server is not an API server."""
    cluster.version = (200, "<html>hello</html>")
    assert_refused(site, cluster, "production", {}, "is not a Kubernetes API server")


def test_awx_credential_refused(site: Site, cluster: FakeCluster) -> None:
    """The same through the environment that AWX injects."""
    del site.environment["KUBECONFIG"]
    site.environment |= {"K8S_AUTH_HOST": cluster.url, "K8S_AUTH_API_KEY": TOKEN}
    cluster.version = (401, "{}")
    assert_refused(site, cluster, "production", {}, "refuses the credentials", "K8S_AUTH_HOST")


# --- what the cluster permits ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "permission",
    [
        "patch deployments",
        "create secrets",
        "get secrets",
        "create jobs",
        "delete jobs",
        "watch pods",
        "create pods/exec",
        "create pods/portforward",
        "create persistentvolumeclaims",
        "get persistentvolumeclaims",
    ],
)
def test_permission_missing(permission: str, site: Site, cluster: FakeCluster) -> None:
    """Verb and resource of a missing permission are named."""
    cluster.is_admin = False
    cluster.denied = {permission}
    assert_refused(site, cluster, "production", {}, "permissions are missing", permission)


def test_all_missing_permissions_are_said(site: Site, cluster: FakeCluster) -> None:
    """All of them, not the first."""
    cluster.is_admin = False
    cluster.denied = {"patch deployments", "create services", "list events"}
    assert_refused(
        site, cluster, "production", {},
        "patch deployments.apps", "create services", "list events",
    )  # fmt: skip


def test_namespace_being_deleted(site: Site, cluster: FakeCluster) -> None:
    """A namespace on its way out takes nothing in."""
    cluster.namespace = {"metadata": {"name": "x", "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    assert_refused(site, cluster, "production", {}, "mlflow_namespace", "is being deleted")


def test_namespace_nobody_brings(site: Site, cluster: FakeCluster) -> None:
    """An overlay without a Namespace object needs one that is there."""
    base = ROOT / "kustomize" / "base"
    variables = {"mlflow_overlay": str(base), "mlflow_namespace": "nowhere"}
    assert_refused(site, cluster, "development", variables, "the namespace nowhere does not exist")
