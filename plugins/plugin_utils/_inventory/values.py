# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold an inventory's values against what they are for, without touching a cluster.

Everything here is a pure function from values to a list of problems. A problem is one line that
starts with the variable's name and never repeats the value of a secret.
"""

from __future__ import annotations

import ipaddress
import re
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.quantities import quantity
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow.images import version_in
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.custom_rules import wrong_rules
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import DEFAULTS
from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory.environment import (
    ELSEWHERE,
    VARIABLE,
    check_variable,
)
from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory.notations import (
    OBJECT_NAME,
    image_parts,
)
from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory.pod import (
    check_pod,
    check_service,
)
from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory.secret_values import (
    check_secrets,
    check_sources,
)
from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory.types import found, suggestion

Settings = dict[str, t.Any]
# From, to, and in what; both ends included.
_RANGES: dict[str, tuple[int, int, str]] = {
    "mlflow_replicas": (1, 1000, ""),
    "mlflow_database_max_connections": (20, 10000, ""),
    "mlflow_backup_keep": (1, 3650, ""),
    "mlflow_backup_keep_days": (1, 3650, ""),
    "mlflow_proxy_timeout": (1, 86400, " seconds"),
    "mlflow_timeout": (1, 86400, " seconds"),
    "mlflow_lock_wait": (0, 86400, " seconds"),
    "mlflow_lock_ttl": (30, 86400, " seconds"),
    "mlflow_backup_timeout": (1, 86400, " seconds"),
}
# Five fields, or one of Kubernetes' short names for them.
_SCHEDULE = re.compile(
    r"@(yearly|annually|monthly|weekly|daily|midnight|hourly)|[\d*/,A-Za-z-]+( [\d*/,A-Za-z?-]+){4}"
)
# What a value must look like, and what is said of one that does not.
_FORMS: dict[str, tuple[re.Pattern[str], str]] = {
    "mlflow_version": (
        re.compile(r"\d+\.\d+\.\d+((a|b|rc|\.dev|\.post)\d+)?"),
        "is not a version of MLflow, such as 3.17.2",
    ),
    "mlflow_namespace": (
        re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"),
        "is not a namespace name (small letters, digits and '-', at most 63, a letter or digit at "
        "both ends)",
    ),
    "mlflow_static_prefix": (
        re.compile(r"(/[A-Za-z0-9._~-]+)+"),
        "is not a path such as /mlflow (it starts with '/', does not end with one, and holds "
        "letters, digits and -._~ only)",
    ),
    "mlflow_tls_secret": (
        OBJECT_NAME,
        "is not the name of an object (small letters, digits, - and .)",
    ),
    "mlflow_ingress_class": (
        OBJECT_NAME,
        "is not the name of an object (small letters, digits, - and .)",
    ),
    "mlflow_backup_schedule": (_SCHEDULE, "is not a schedule, such as '17 2 * * *'"),
    "mlflow_backup_drill_schedule": (_SCHEDULE, "is not a schedule, such as '17 4 * * 0'"),
    "mlflow_gc_schedule": (_SCHEDULE, "is not a schedule, such as '41 3 * * *'"),
    "mlflow_gc_older_than": (
        re.compile(r"(?=\d)(\d+d)?(\d+h)?(\d+m)?(\d+s)?"),
        "is not an age, such as 30d or 1d12h",
    ),
    "mlflow_backup": (
        re.compile(r"latest|\d{8}T\d{6}Z"),
        "is not latest, nor a backup's name, such as 20261124T190501Z",
    ),
}
# Of two that are both set, one is meant.
_EITHER = {
    "mlflow_replicas": ("mlflow_autoscaling", "which decides"),
    "mlflow_backup": ("mlflow_backup_file", "which is another one"),
}
_HOST = re.compile(
    r"(\*\.)?[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?"
    r"(\.[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?)*"
)
_SYSTEM_NAMESPACES = ("kube-system", "kube-public", "kube-node-lease")
_BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[\w./-]*)?")
_ANNOTATION = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?")


def _check_each(settings: Settings) -> t.Iterator[str]:
    """Hold each value against its range or its form."""
    for name, (least, most, unit) in _RANGES.items():
        number = settings.get(name)
        if number is not None and not least <= number <= most:
            yield f"{name}: must be between {least} and {most}{unit}, not {number}"
    for name, (form, words) in _FORMS.items():
        value = settings.get(name)
        if value and not form.fullmatch(value):
            yield f"{name}: {value!r} {words}"
    for name, (other, words) in _EITHER.items():
        if settings.get(name) and settings.get(other):
            yield f"{name}: is set, and so is {other}, {words}; leave one of them out"


def _check_names(settings: Settings) -> t.Iterator[str]:
    namespace = settings.get("mlflow_namespace")
    if namespace in _SYSTEM_NAMESPACES:
        yield f"mlflow_namespace: {namespace} belongs to Kubernetes itself"
    url = settings.get("mlflow_url", "")
    if url and not re.fullmatch(r"https?://[^\s/@]+(/\S*)?", url):
        # The address may hold a password, which is what the pattern refuses: so it is not quoted.
        yield "mlflow_url: must be http://HOST or https://HOST, with no user or password in it"
    for index, host in enumerate(settings.get("mlflow_hosts", [])):
        if not _is_host(host):
            yield (
                f"mlflow_hosts[{index}]: {host!r} is not a host name (no scheme, port or path, "
                "such as mlflow.example.org)"
            )


def _check_exposure(settings: Settings) -> t.Iterator[str]:
    """Hold how MLflow is to be reached against what an Ingress, a route and MLflow take."""
    prefix, url = settings.get("mlflow_static_prefix", ""), settings.get("mlflow_url", "")
    if prefix and url and not url.rstrip("/").endswith(prefix):
        yield f"mlflow_url: does not end with {prefix}, which is mlflow_static_prefix"
    gateway = settings.get("mlflow_gateway") or {}
    if gateway and not gateway.get("name"):
        yield "mlflow_gateway.name: is not set; which Gateway is it?"
    for key, value in gateway.items():
        if value and not OBJECT_NAME.fullmatch(value):
            yield f"mlflow_gateway.{key}: {value!r} is not the name of an object"
    limit = settings.get("mlflow_upload_limit", "")
    if limit and (quantity(limit) or 0) < 2**20:
        yield f"mlflow_upload_limit: {limit!r} is not a size of 1Mi or more, such as 20Gi"
    for name, value in (settings.get("mlflow_ingress_annotations") or {}).items():
        if not _ANNOTATION.fullmatch(str(name)):
            yield f"mlflow_ingress_annotations: {name!r} is not the name of an annotation"
        elif not isinstance(value, str):
            yield (
                f"mlflow_ingress_annotations.{name}: must be a string, not {found(value)} (put it "
                "in quotes)"
            )


def _is_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        numeric = re.fullmatch(r"[\d.]+", host) is not None
        return not numeric and len(host) <= 253 and _HOST.fullmatch(host) is not None
    return True


def _check_images(settings: Settings) -> t.Iterator[str]:
    version = settings.get("mlflow_version", "")
    if not _FORMS["mlflow_version"][0].fullmatch(version):
        version = ""
    for name in ("mlflow_image", "mlflow_postgres_image"):
        reference = settings.get(name)
        if not reference:
            continue
        parts = image_parts(reference)
        if parts is None:
            yield (
                f"{name}: {reference!r} is not an image reference (name[:tag][@sha256:digest], "
                "the name in small letters)"
            )
        elif name == "mlflow_image" and version:
            tagged = version_in(reference)
            if tagged and tagged != version:
                yield f"mlflow_version: {version} contradicts the tag of mlflow_image, {tagged}"


def _check_config(settings: Settings) -> t.Iterator[str]:
    """Hold the environment of MLflow against what a ConfigMap, and kustomize, can carry."""
    for name, value in settings.get("mlflow_config", {}).items():
        where = f"mlflow_config.{name}"
        if not VARIABLE.fullmatch(str(name)):
            yield f"mlflow_config: {name!r} is not the name of an environment variable"
        elif name in ELSEWHERE:
            yield f"{where}: {ELSEWHERE[name]}"
        elif wrong := check_variable(str(name), value):
            yield f"{where}: {wrong}"


def _check_scaling(settings: Settings) -> t.Iterator[str]:
    scaling = settings.get("mlflow_autoscaling") or {}
    for name in ("min", "max", "cpu"):
        number = scaling.get(name)
        if number is not None and not 1 <= int(number) <= 1000:
            yield f"mlflow_autoscaling.{name}: must be between 1 and 1000, not {number}"
    components = map(str, settings.get("mlflow_components") or [])
    sizes = [name for name in components if name.startswith("size-")]
    if settings.get("mlflow_size") and sizes:
        yield f"mlflow_size: is set, and mlflow_components has {sizes[0]}; leave one of them out"


def _check_sizes(settings: Settings) -> t.Iterator[str]:
    for name in (
        "mlflow_artifact_storage_size",
        "mlflow_database_storage_size",
        "mlflow_backup_storage_size",
    ):
        size = settings.get(name)
        if size and (quantity(size) or 0) < 1:
            yield f"{name}: {size!r} is not a size, such as 50Gi"
        elif size and (quantity(size) or 0) < 2**20:
            yield f"{name}: {size!r} is less than 1Mi; is a unit missing?"
    resources = settings.get("mlflow_resources") or {}
    for kind in ("requests", "limits"):
        for resource, amount in (resources.get(kind) or {}).items():
            if (quantity(amount) or 0) <= 0:
                yield f"mlflow_resources.{kind}.{resource}: {amount!r} is not a quantity above zero"
    for resource, amount in (resources.get("requests") or {}).items():
        limit = quantity((resources.get("limits") or {}).get(resource))
        wanted = quantity(amount)
        if limit and wanted and wanted > limit:
            yield f"mlflow_resources.requests.{resource}: {amount} is more than its limit"


def _check_backups(settings: Settings) -> t.Iterator[str]:
    bucket = settings.get("mlflow_backup_s3") or {}
    if bucket and not _BUCKET.fullmatch(bucket.get("url") or ""):
        yield "mlflow_backup_s3.url: must be s3://BUCKET or s3://BUCKET/FOLDER"
    endpoint = bucket.get("endpoint") or ""
    if endpoint and not re.fullmatch(r"https?://[^\s/@]+/?", endpoint):
        # It may hold a password, which is what the pattern refuses: so it is not quoted.
        yield "mlflow_backup_s3.endpoint: must be https://HOST, with no user or password in it"
    reason = settings.get("mlflow_backup_reason", "")
    if len(reason) > 200 or any(ord(char) < 32 for char in reason):
        yield "mlflow_backup_reason: must be one line of at most 200 characters"


def _check_kustomize(settings: Settings) -> t.Iterator[str]:
    wanted = settings.get("mlflow_kustomize") or {}
    binary = wanted.get("binary") or ""
    if binary and not binary.endswith(("kustomize", "kubectl")):
        # By its name the lookup knows how to call it.
        yield f"mlflow_kustomize.binary: must end with kustomize or kubectl, not {binary!r}"
    for name, value in (wanted.get("environment") or {}).items():
        where = f"mlflow_kustomize.environment.{name}"
        if not VARIABLE.fullmatch(str(name)):
            yield f"{where}: is not the name of an environment variable"
        elif not isinstance(value, str):
            yield f"{where}: must be a string; put it in quotes"


def _check_run(settings: Settings) -> t.Iterator[str]:
    for reason, seconds in (settings.get("mlflow_tolerances") or {}).items():
        if reason not in DEFAULTS:
            yield f"mlflow_tolerances.{reason}: no such reason{suggestion(str(reason), DEFAULTS)}"
        elif isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or seconds < 0:
            yield f"mlflow_tolerances.{reason}: must be seconds, 0 or more"
    yield from wrong_rules("mlflow_wait_conditions", settings.get("mlflow_wait_conditions") or [])


def check_values(settings: Settings, development_values: t.Collection[str] = ()) -> list[str]:
    """Return a line for each value that has the right type and yet cannot work."""
    checks = (
        _check_each,
        _check_names,
        _check_images,
        _check_config,
        _check_scaling,
        _check_sizes,
        _check_backups,
        _check_exposure,
        _check_run,
        _check_kustomize,
        check_sources,
        check_pod,
        check_service,
    )
    problems = [problem for check in checks for problem in check(settings)]
    return problems + list(check_secrets(settings, development_values))
