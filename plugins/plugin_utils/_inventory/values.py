# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold an inventory's variables against the roles' argument specs, without touching a cluster.

Everything here is a pure function from values to a list of problems. A problem is one line that
starts with the variable's name and never repeats the value of a secret.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import ipaddress
import re
import typing as t

PREFIX = "mlflow_"

# The words of wait_for_rollout's contract, see its documentation.
REASONS = (
    "image_invalid",
    "image_pull",
    "config",
    "container_start",
    "crash_loop",
    "oom_killed",
    "unschedulable",
    "volume",
    "quota_or_admission",
    "job_failed",
    "progress_deadline",
    "schema_behind",
    "schema_ahead",
    "schema_unknown",
    "schema_partial",
    "database_unreachable",
    "database_denied",
    "http_unready",
    "unauthorized",
    "paused",
    "not_found",
)

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_HOST = re.compile(
    r"(\*\.)?[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?"
    r"(\.[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?)*"
)
_VERSION = re.compile(r"\d+\.\d+\.\d+((a|b|rc|\.dev|\.post)\d+)?")
_QUANTITY = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][-+]?\d+)?")
_SUFFIXES = {
    "": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip
_IMAGE = re.compile(
    r"(?P<name>(?:(?:(?:localhost|[-A-Za-z0-9]+(?:\.[-A-Za-z0-9]+)+)(?::\d+)?"
    r"|[-A-Za-z0-9]+:\d+)/)?"
    r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_TAG_VERSION = re.compile(r"(?<![\d.])v?(\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?)")
_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")
_SYSTEM_NAMESPACES = ("kube-system", "kube-public", "kube-node-lease")


def suggestion(name: str, known: t.Iterable[str]) -> str:
    """Return C(; did you mean X?) when one of the known names is close, else nothing."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    # And a second one that is about as close: what is nearest by its letters need not be meant.
    close += [
        other
        for other in difflib.get_close_matches(name, names, n=2, cutoff=0.8)[1:]
        if _likeness(name, close[0]) - _likeness(name, other) < 0.05
    ]
    close = (
        close
        or [candidate for candidate in names if len(name) >= 3 and candidate.startswith(name)][:1]
    )
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, other, one).ratio()


def image_parts(reference: str) -> dict[str, str] | None:
    """Split an image reference into name, tag and digest; None when it is not one."""
    match = _IMAGE.fullmatch(reference)
    if match is None:
        return None
    return {key: value or "" for key, value in match.groupdict().items()}


def version_of_tag(tag: str) -> str:
    """Return the version a tag such as C(v3.17.2-full) names, or an empty string."""
    match = _TAG_VERSION.search(tag)
    return match.group(1) if match else ""


def with_version(tag: str, version: str) -> str:
    """Return the tag with the version in it replaced, or the version when it names none."""
    match = _TAG_VERSION.search(tag)
    if match is None:
        return version
    return tag[: match.start(1)] + version + tag[match.end(1) :]


def quantity(text: object) -> float | None:
    """Return a Kubernetes quantity as a number, or None when it is not one."""
    match = _QUANTITY.fullmatch(str(text).strip()) if isinstance(text, (str, int, float)) else None
    if match is None or isinstance(text, bool):
        return None
    suffix = match.group(2) or ""
    if suffix[:1] in "eE" and suffix not in _SUFFIXES:
        return float(match.group(1) + suffix)
    return float(match.group(1)) * _SUFFIXES[suffix]


# --- names --------------------------------------------------------------------------------------


def unknown_names(names: t.Iterable[str], known: t.Collection[str]) -> list[str]:
    """Name every variable under C(mlflow_) that no role documents."""
    return [
        f"{name}: no such variable{suggestion(name, known)}"
        for name in sorted(names)
        if name.startswith(PREFIX) and name not in known
    ]


# --- types --------------------------------------------------------------------------------------

_ARTICLE = {
    "str": "a string", "path": "a path", "int": "a whole number", "bool": "true or false",
    "list": "a list", "dict": "a mapping", "float": "a number", "raw": "a value",
}  # fmt: skip
_FOUND = {str: "a string", bool: "a boolean", int: "a number", float: "a number",
          list: "a list", tuple: "a list", dict: "a mapping"}  # fmt: skip


def _found(value: object) -> str:
    for python_type, words in _FOUND.items():
        if isinstance(value, python_type) and not (
            python_type is int and value in (True, False) and isinstance(value, bool)
        ):
            return words
    return "nothing" if value is None else "something else"


def _has_type(value: object, wanted: str) -> bool:
    """Whether the value is of the type, or a string (from C(-e)) that spells one."""
    if wanted in ("str", "path"):
        return isinstance(value, str)
    if wanted == "int":
        if isinstance(value, str):
            return re.fullmatch(r"[-+]?\d+", value.strip()) is not None
        return isinstance(value, int) and not isinstance(value, bool)
    if wanted == "float":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if wanted == "bool":
        return isinstance(value, bool) or str(value).lower() in _TRUE + _FALSE
    if wanted == "list":
        return isinstance(value, (list, tuple))
    if wanted == "dict":
        return isinstance(value, dict)
    return True


def converted(value: t.Any, wanted: str) -> t.Any:
    """Turn a value that C(_has_type) accepted into that type."""
    if wanted == "int":
        return int(value)
    if wanted == "bool":
        return value if isinstance(value, bool) else str(value).lower() in _TRUE
    return value


def check_value(name: str, spec: dict[str, t.Any], value: t.Any) -> list[str]:
    """Hold one value against its option in an argument spec."""
    wanted = spec.get("type", "str")
    if value is None or (value == "" and wanted in ("path", "int", "list", "dict")):
        return [f"{name}: is required"] if spec.get("required") else []
    if not _has_type(value, wanted):
        hint = ""
        if wanted == "str" and isinstance(value, (int, float, bool)):
            hint = " (put it in quotes)"
        elif wanted == "list" and isinstance(value, str):
            hint = " (write it as [one, two])"
        return [f"{name}: must be {_ARTICLE[wanted]}, not {_found(value)}{hint}"]
    problems = []
    choices = spec.get("choices") or []
    chosen = value if wanted == "list" else [value]
    for item in chosen if choices else []:
        if item in choices:
            continue
        listed = ", ".join(str(choice) for choice in choices if choice != "")
        said = "" if spec.get("no_log") else f", not {item!s}"
        close = suggestion(str(item), [str(choice) for choice in choices if choice])
        problems.append(f"{name}: must be one of {listed}{said}{close}")
    if wanted == "list" and spec.get("elements"):
        for index, item in enumerate(value):
            if item is None or item == "" or not _has_type(item, spec["elements"]):
                problems.append(
                    f"{name}[{index}]: must be {_ARTICLE[spec['elements']]}, not "
                    f"{'an empty one' if item == '' else _found(item)}"
                )
    if wanted == "dict" and spec.get("options"):
        for key, item in value.items():
            if key not in spec["options"]:
                problems.append(f"{name}.{key}: no such key{suggestion(key, spec['options'])}")
            else:
                problems += check_value(f"{name}.{key}", spec["options"][key], item)
        for key, option in spec["options"].items():
            if option.get("required") and key not in value:
                problems.append(f"{name}.{key}: is not set")
    return problems


def check_types(
    specs: dict[str, dict[str, t.Any]], values: dict[str, t.Any]
) -> tuple[dict[str, t.Any], list[str]]:
    """Return the values that have the right type, converted, and a line for each that has not."""
    good: dict[str, t.Any] = {}
    problems: list[str] = []
    for name, spec in specs.items():
        if name not in values:
            if spec.get("required"):
                choices = ", ".join(str(choice) for choice in spec.get("choices", []))
                listed = f" (one of {choices})" if choices else ""
                # Only what describes a release is a matter of the inventory.
                advice = (
                    "choose an inventory, such as -i inventories/development"
                    if name.startswith(PREFIX)
                    else f"set it, with -e {name}=… for instance"
                )
                problems.append(f"{name}: is not set{listed}; {advice}")
            continue
        found = check_value(name, spec, values[name])
        problems += found
        if not found and values[name] is not None and values[name] != "":
            good[name] = converted(values[name], spec.get("type", "str"))
    return good, problems


# --- values -------------------------------------------------------------------------------------


def _check_names(settings: dict[str, t.Any]) -> t.Iterator[str]:
    namespace = settings.get("mlflow_namespace")
    if namespace and not _DNS_LABEL.fullmatch(namespace):
        yield (
            f"mlflow_namespace: {namespace!r} is not a namespace name (small letters, digits and "
            "'-', at most 63, a letter or digit at both ends)"
        )
    elif namespace in _SYSTEM_NAMESPACES:
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


_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")
_ANNOTATION = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?")
_OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


def _check_exposure(settings: dict[str, t.Any]) -> t.Iterator[str]:
    """Hold how MLflow is to be reached against what an Ingress, a route and MLflow take."""
    prefix, url = settings.get("mlflow_static_prefix", ""), settings.get("mlflow_url", "")
    if prefix and not _PREFIX.fullmatch(prefix):
        yield (
            f"mlflow_static_prefix: {prefix!r} is not a path such as /mlflow (it starts with '/', "
            "does not end with one, and holds letters, digits and -._~ only)"
        )
    elif prefix and url and not url.rstrip("/").endswith(prefix):
        yield f"mlflow_url: does not end with {prefix}, which is mlflow_static_prefix"
    for name in ("mlflow_tls_secret", "mlflow_ingress_class"):
        value = settings.get(name, "")
        if value and not _OBJECT_NAME.fullmatch(value):
            yield f"{name}: {value!r} is not the name of an object (small letters, digits, - and .)"
    gateway = settings.get("mlflow_gateway") or {}
    if gateway and not gateway.get("name"):
        yield "mlflow_gateway.name: is not set; which Gateway is it?"
    for key, value in gateway.items():
        if value and not _OBJECT_NAME.fullmatch(value):
            yield f"mlflow_gateway.{key}: {value!r} is not the name of an object"
    limit = settings.get("mlflow_upload_limit", "")
    if limit and (quantity(limit) or 0) < 2**20:
        yield f"mlflow_upload_limit: {limit!r} is not a size of 1Mi or more, such as 20Gi"
    timeout = settings.get("mlflow_proxy_timeout")
    if timeout is not None and not 1 <= timeout <= 86400:
        yield f"mlflow_proxy_timeout: must be between 1 and 86400 seconds, not {timeout}"
    for name, value in (settings.get("mlflow_ingress_annotations") or {}).items():
        if not _ANNOTATION.fullmatch(str(name)):
            yield f"mlflow_ingress_annotations: {name!r} is not the name of an annotation"
        elif not isinstance(value, str):
            yield (
                f"mlflow_ingress_annotations.{name}: must be a string, not {_found(value)} (put it "
                "in quotes)"
            )


def _is_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        numeric = re.fullmatch(r"[\d.]+", host) is not None
        return not numeric and len(host) <= 253 and _HOST.fullmatch(host) is not None
    return True


def _check_images(settings: dict[str, t.Any]) -> t.Iterator[str]:
    version = settings.get("mlflow_version", "")
    if version and not _VERSION.fullmatch(version):
        yield f"mlflow_version: {version!r} is not a version of MLflow, such as 3.17.2"
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
            tagged = version_of_tag(parts["tag"])
            if tagged and tagged != version:
                yield f"mlflow_version: {version} contradicts the tag of mlflow_image, {tagged}"


# What is secret by its name. AWS_ACCESS_KEY_ID is a name, but belongs beside its secret.
_SECRET_NAME = re.compile(
    r"(PASSWORD|PASSWD|SECRET|TOKEN|PASSPHRASE|CREDENTIAL|PRIVATE_KEY|ACCESS_KEY)"
)
_URI_WITH_PASSWORD = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/@:]*:[^\s/@]+@", re.IGNORECASE)


def _check_config(settings: dict[str, t.Any]) -> t.Iterator[str]:
    """Hold the environment of MLflow against what a ConfigMap, and kustomize, can carry."""
    for name, value in settings.get("mlflow_config", {}).items():
        where = f"mlflow_config.{name}"
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(name)):
            yield f"mlflow_config: {name!r} is not the name of an environment variable"
        elif _SECRET_NAME.search(str(name).upper()):
            yield (
                f"{where}: is a secret by its name, and would be in a ConfigMap; give it to the "
                "container from a Secret, with a component or an overlay of your own"
            )
        elif name == "MLFLOW_STATIC_PREFIX":
            yield f"{where}: set mlflow_static_prefix instead, of which the probes know too"
        elif not isinstance(value, (str, int, float)):
            yield f"{where}: must be a string, a number or true or false, not {_found(value)}"
        elif _URI_WITH_PASSWORD.search(str(value)):
            # Not quoted: it holds the password.
            yield f"{where}: holds a password; leave it out of the address (libpq's PGPASSWORD)"
        elif any(ord(char) < 32 or ord(char) == 127 for char in str(value)):
            yield f"{where}: holds a control character (a line end, perhaps)"
        elif str(value)[:1] in ("'", '"') or str(value)[-1:] in ("'", '"'):
            yield f"{where}: starts or ends with a quotation mark, which kustomize takes away"


def _check_scaling(settings: dict[str, t.Any]) -> t.Iterator[str]:
    scaling = settings.get("mlflow_autoscaling") or {}
    for name in ("min", "max", "cpu"):
        number = scaling.get(name)
        if number is not None and not 1 <= int(number) <= 1000:
            yield f"mlflow_autoscaling.{name}: must be between 1 and 1000, not {number}"
    if scaling and settings.get("mlflow_replicas") is not None:
        yield "mlflow_replicas: is set, and mlflow_autoscaling decides; leave one of them out"
    connections = settings.get("mlflow_database_max_connections")
    if connections is not None and not 20 <= connections <= 10000:
        yield f"mlflow_database_max_connections: must be between 20 and 10000, not {connections}"
    components = map(str, settings.get("mlflow_components") or [])
    sizes = [name for name in components if name.startswith("size-")]
    if settings.get("mlflow_size") and sizes:
        yield f"mlflow_size: is set, and mlflow_components has {sizes[0]}; leave one of them out"


def _check_sizes(settings: dict[str, t.Any]) -> t.Iterator[str]:
    replicas = settings.get("mlflow_replicas")
    if replicas is not None and not 1 <= replicas <= 1000:
        yield f"mlflow_replicas: must be between 1 and 1000, not {replicas}"
    yield from _check_scaling(settings)
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


# Five fields, or one of Kubernetes' short names for them.
_SCHEDULE = re.compile(
    r"@(yearly|annually|monthly|weekly|daily|midnight|hourly)|[\d*/,A-Za-z-]+( [\d*/,A-Za-z?-]+){4}"
)
_BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[\w./-]*)?")
_BACKUP_NAME = re.compile(r"latest|\d{8}T\d{6}Z")


def _check_backups(settings: dict[str, t.Any]) -> t.Iterator[str]:
    schedule = settings.get("mlflow_backup_schedule", "")
    if schedule and not _SCHEDULE.fullmatch(schedule):
        yield f"mlflow_backup_schedule: {schedule!r} is not a schedule, such as '17 2 * * *'"
    for name in ("mlflow_backup_keep", "mlflow_backup_keep_days"):
        number = settings.get(name)
        if number is not None and not 1 <= number <= 3650:
            yield f"{name}: must be between 1 and 3650, not {number}"
    backup = settings.get("mlflow_backup", "")
    if backup and not _BACKUP_NAME.fullmatch(backup):
        yield (
            f"mlflow_backup: must be latest or a backup's name, such as 20261124T190501Z, not "
            f"{backup!r}"
        )
    if backup and settings.get("mlflow_backup_file"):
        yield "mlflow_backup: and mlflow_backup_file are both set; say which one is meant"
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


def _check_service(settings: dict[str, t.Any]) -> t.Iterator[str]:
    port = settings.get("mlflow_node_port")
    if port is None:
        return
    if not 30000 <= port <= 32767:
        yield f"mlflow_node_port: must be between 30000 and 32767, not {port}"
    if settings.get("mlflow_service_type") == "ClusterIP":
        yield "mlflow_node_port: a Service of type ClusterIP (mlflow_service_type) has none"


_AGE = re.compile(r"(?=\d)(\d+d)?(\d+h)?(\d+m)?(\d+s)?")


def _check_gc(settings: dict[str, t.Any]) -> t.Iterator[str]:
    schedule = settings.get("mlflow_gc_schedule", "")
    if schedule and not _SCHEDULE.fullmatch(schedule):
        yield f"mlflow_gc_schedule: {schedule!r} is not a schedule, such as '41 3 * * *'"
    age = settings.get("mlflow_gc_older_than", "")
    if age and not _AGE.fullmatch(age):
        yield f"mlflow_gc_older_than: {age!r} is not an age, such as 30d or 1d12h"


_BINARIES = ("kustomize", "kubectl")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _check_kustomize(settings: dict[str, t.Any]) -> t.Iterator[str]:
    wanted = settings.get("mlflow_kustomize") or {}
    binary = wanted.get("binary") or ""
    if binary and not binary.endswith(_BINARIES):
        # By its name the lookup knows how to call it.
        yield f"mlflow_kustomize.binary: must end with kustomize or kubectl, not {binary!r}"
    for name, value in (wanted.get("environment") or {}).items():
        where = f"mlflow_kustomize.environment.{name}"
        if not _VARIABLE.fullmatch(str(name)):
            yield f"{where}: is not the name of an environment variable"
        elif not isinstance(value, str):
            yield f"{where}: must be a string; put it in quotes"


def _check_run(settings: dict[str, t.Any]) -> t.Iterator[str]:
    timeout = settings.get("mlflow_timeout")
    if timeout is not None and not 1 <= timeout <= 86400:
        yield f"mlflow_timeout: must be between 1 and 86400 seconds, not {timeout}"
    for name, least in (
        ("mlflow_lock_wait", 0),
        ("mlflow_lock_ttl", 30),
        ("mlflow_backup_timeout", 1),
    ):
        duration = settings.get(name)
        if duration is not None and not least <= duration <= 86400:
            yield f"{name}: must be between {least} and 86400 seconds, not {duration}"
    for reason, seconds in (settings.get("mlflow_tolerances") or {}).items():
        if reason not in REASONS:
            yield f"mlflow_tolerances.{reason}: no such reason{suggestion(str(reason), REASONS)}"
        elif isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or seconds < 0:
            yield f"mlflow_tolerances.{reason}: must be seconds, 0 or more"


# Which variable gives the value of a key of the release's Secret.
GIVEN = {
    "database-password": "mlflow_database_password",
    "flask-secret-key": "mlflow_flask_secret_key",
    "webhook-encryption-key": "mlflow_webhook_encryption_key",
    "kek-passphrase": "mlflow_kek_passphrase",
    "admin-password": "mlflow_admin_password",
}
_SECRET_KEY = re.compile(r"[-._A-Za-z0-9]{1,253}")
_OWN_SECRETS = ("mlflow-credentials", "mlflow-external")
# What an entry of mlflow_secrets may say. The argument spec describes it once, in words: as options
# of each key, ansible-doc prints it seven times.
SOURCE = {name: {"type": "str"} for name in ("secret", "key", "external", "property")}


def _check_source(where: str, source: dict[str, str]) -> t.Iterator[str]:
    """Hold one entry of mlflow_secrets against what it can mean."""
    secret, external = source.get("secret"), source.get("external")
    if secret and external:
        yield f"{where}: names a Secret and an external one; a value has one source"
    elif not secret and not external:
        yield (
            f"{where}: names no source; set secret (a Secret in the namespace) or external (an "
            "entry of mlflow_secret_store), or leave it out to have it generated"
        )
    if source.get("key") and not secret:
        yield f"{where}.key: is the key of a Secret, and none is named"
    if source.get("property") and not external:
        yield f"{where}.property: is a property of an external entry, and none is named"
    if secret in _OWN_SECRETS:
        yield f"{where}.secret: {secret} is the release's own; leave it out"
    # Not quoted: somebody may have put the value where its name belongs.
    elif secret and not _OBJECT_NAME.fullmatch(secret):
        yield f"{where}.secret: is not the name of a Secret (it names one, it holds no value)"
    if source.get("key") and not _SECRET_KEY.fullmatch(source["key"]):
        yield f"{where}.key: is not a key of a Secret (letters, digits, '-', '_' and '.')"


def _check_sources(settings: dict[str, t.Any]) -> t.Iterator[str]:
    sources = settings.get("mlflow_secrets") or {}
    store = settings.get("mlflow_secret_store") or {}
    for key, source in sources.items():
        where = f"mlflow_secrets.{key}"
        problems = check_value(where, {"type": "dict", "options": SOURCE}, source)
        yield from problems or _check_source(where, source)
        given = GIVEN.get(key, "")
        if settings.get(given):
            yield f"{given}: is set, and {where} says that its value is elsewhere; leave one out"
    external = [key for key, source in sources.items() if source.get("external")]
    if external and not store.get("name"):
        yield f"mlflow_secret_store.name: is not set, and mlflow_secrets.{external[0]} is external"
    if store and not external:
        yield "mlflow_secret_store: is set, and nothing of mlflow_secrets is external"
    if store.get("name") and not _OBJECT_NAME.fullmatch(store["name"]):
        yield "mlflow_secret_store.name: is not the name of a SecretStore or ClusterSecretStore"


def is_fernet_key(text: str) -> bool:
    """Whether the text is 32 bytes in URL-safe base64."""
    try:
        return len(base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)) == 32
    except (ValueError, UnicodeEncodeError, binascii.Error):
        return False


def _check_secrets(
    settings: dict[str, t.Any], development_values: t.Collection[str]
) -> t.Iterator[str]:
    shortest = {
        "mlflow_database_password": 8,
        "mlflow_flask_secret_key": 16,
        "mlflow_kek_passphrase": 12,
        "mlflow_webhook_encryption_key": 0,
        "mlflow_admin_password": 12,
    }
    refused = (
        settings.get("mlflow_environment") in ("staging", "production")
        and not settings.get("mlflow_allow_development_credentials")
    )  # fmt: skip
    for name, length in shortest.items():
        value = settings.get(name)
        if not value:
            continue
        if any(ord(char) < 32 or ord(char) == 127 for char in value):
            yield f"{name}: holds a control character (a line end from a file, perhaps)"
        elif len(value) < length:
            yield f"{name}: is shorter than {length} characters"
        elif name == "mlflow_webhook_encryption_key" and not is_fernet_key(value):
            yield f"{name}: is not a Fernet key (32 bytes in URL-safe base64, 44 characters)"
        if refused and value in development_values:
            yield (
                f"{name}: is the development value, which anyone can read in the repository; "
                f"refused in {settings['mlflow_environment']}"
            )


def check_values(
    settings: dict[str, t.Any], development_values: t.Collection[str] = ()
) -> list[str]:
    """Return a line for each value that has the right type and yet cannot work."""
    return [
        *_check_names(settings),
        *_check_images(settings),
        *_check_config(settings),
        *_check_sizes(settings),
        *_check_service(settings),
        *_check_backups(settings),
        *_check_gc(settings),
        *_check_exposure(settings),
        *_check_run(settings),
        *_check_kustomize(settings),
        *_check_secrets(settings, development_values),
        *_check_sources(settings),
    ]


def report(problems: t.Sequence[str]) -> str:
    """Put the problems into the one message a person reads."""
    if len(problems) == 1:
        return f"{problems[0]}. Nothing was written."
    lines = "\n".join(f"  - {problem}" for problem in problems)
    return f"{len(problems)} problems, nothing was written:\n{lines}"
