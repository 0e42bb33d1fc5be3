# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold what an inventory adds to pods and to the Service against what Kubernetes takes.

Which fields there are, and of which type, the Kubernetes client knows, whose models are made from
the API. What values a field takes is said here, where people get it wrong.
"""

from __future__ import annotations

import collections
import functools
import importlib
import ipaddress
import re
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.quantities import quantity
from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory.environment import (
    ELSEWHERE,
    VARIABLE,
    check_variable,
)
from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory.types import (
    found,
    suggestion,
)

# The keys of mlflow_pod, as the client writes their types.
_TYPES = {
    "labels": "Dict[str, str]",
    "annotations": "Dict[str, str]",
    "serviceAccountAnnotations": "Dict[str, str]",
    "nodeSelector": "Dict[str, str]",
    "tolerations": "List[V1Toleration]",
    "affinity": "V1Affinity",
    "priorityClassName": "str",
    "imagePullSecrets": "List[V1LocalObjectReference]",
    "env": "List[V1EnvVar]",
    "envFrom": "List[V1EnvFromSource]",
    "volumes": "List[V1Volume]",
    "volumeMounts": "List[V1VolumeMount]",
    "containers": "List[V1Container]",
    "initContainers": "List[V1Container]",
}
# Younger than the oldest client that serves here: not known to every one.
_YOUNG = (
    "restartPolicy", "resizePolicy", "restartPolicyRules", "recursiveReadOnly", "matchLabelKeys",
    "mismatchLabelKeys", "claims", "appArmorProfile", "fileKeyRef", "sleep", "stopSignal", "image",
    "clusterTrustBundle", "podCertificate",
)  # fmt: skip
_CHOICES = {
    ("V1Toleration", "operator"): ("Exists", "Equal"),
    ("V1Toleration", "effect"): ("NoSchedule", "PreferNoSchedule", "NoExecute"),
    ("V1Container", "imagePullPolicy"): ("Always", "IfNotPresent", "Never"),
    ("V1Container", "restartPolicy"): ("Always", "OnFailure", "Never"),
    ("V1NodeSelectorRequirement", "operator"): (
        "In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt",
    ),
    ("V1LabelSelectorRequirement", "operator"): ("In", "NotIn", "Exists", "DoesNotExist"),
}  # fmt: skip
# Sources that are no sources without a name, although the API has it optional.
_BY_NAME = ("secretKeyRef", "configMapKeyRef", "secretRef", "configMapRef")
_LABEL_KEY = re.compile(
    r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?", re.ASCII
)
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?)?", re.ASCII)
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
# Selectors and policies go by these.
_OUR_LABELS = ("app.kubernetes.io/name", "app.kubernetes.io/part-of", "app.kubernetes.io/component")
_OUR_DOMAIN = "mlops.mlflow/"


class _Model(t.NamedTuple):
    """One type of the API: the type of each field, and which of them are required."""

    fields: dict[str, str]
    required: tuple[str, ...]


@functools.cache
def _model(name: str) -> _Model:
    client = importlib.import_module("kubernetes.client")
    model = getattr(client, name)
    names: dict[str, str] = model.attribute_map
    fields = {names[key]: str(kind) for key, kind in model.openapi_types.items()}
    required = tuple(names[key] for key in names if _is_required(client, model, key))
    return _Model(fields, required)


def _is_required(client: t.Any, model: t.Any, key: str) -> bool:
    if hasattr(model, "model_fields"):
        # A word of Python's own, such as exec, has another name there; none of those is required.
        field = model.model_fields.get(key)
        return bool(field and field.is_required())
    # Older clients check in their setters.
    blank = model.__new__(model)
    blank.local_vars_configuration = client.Configuration()
    try:
        setattr(blank, key, None)
    except ValueError:
        return True
    return False


def _of_type(where: str, kind: str, value: t.Any) -> t.Iterator[str]:
    """Hold a value against a type of the API, all the way down."""
    inner = kind.partition("[")[2] or kind.partition("(")[2]
    if kind.lower().startswith("list["):
        if not isinstance(value, list):
            yield f"{where}: must be a list, not {found(value)}"
            return
        for index, item in enumerate(value):
            yield from _of_type(f"{where}[{index}]", inner[:-1], item)
    elif kind.lower().startswith("dict"):
        if not isinstance(value, dict):
            yield f"{where}: must be a mapping, not {found(value)}"
            return
        for key, item in value.items():
            yield from _of_type(f"{where}.{key}", inner[:-1].partition(",")[2].strip(), item)
    elif re.fullmatch(r"(Core)?V\d\w*", kind):
        yield from _of_model(where, kind, value)
    elif kind in ("str", "datetime") and not isinstance(value, str):
        yield f"{where}: must be a string, not {found(value)}{_quotes(value)}"
    elif kind == "int" and (isinstance(value, bool) or not isinstance(value, int)):
        yield f"{where}: must be a whole number, not {found(value)}"
    elif kind == "bool" and not isinstance(value, bool):
        yield f"{where}: must be true or false, not {found(value)}"


def _quotes(value: object) -> str:
    return " (put it in quotes)" if isinstance(value, (bool, int, float)) else ""


def _of_model(where: str, name: str, value: t.Any) -> t.Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where}: must be a mapping, not {found(value)}"
        return
    model = _model(name)
    for key in model.required:
        if value.get(key) is None:
            yield f"{where}.{key}: is not set"
    for key, item in value.items():
        place = f"{where}.{key}"
        choices = _CHOICES.get((name, str(key)), ())
        if key not in model.fields:
            if key not in _YOUNG:
                yield f"{place}: no such field{suggestion(str(key), model.fields)}"
        elif item is None:
            continue
        elif name == "V1ResourceRequirements" and key in ("limits", "requests"):
            yield from _quantities(place, item)
        elif choices and item not in choices:
            yield f"{place}: must be one of {', '.join(choices)}"
        else:
            yield from _of_type(place, model.fields[key], item)


def _quantities(where: str, value: t.Any) -> t.Iterator[str]:
    for key, amount in (value if isinstance(value, dict) else {}).items():
        if (quantity(amount) or 0) <= 0:
            yield f"{where}.{key}: {amount!r} is not a quantity above zero"
    if not isinstance(value, dict):
        yield f"{where}: must be a mapping, not {found(value)}"


# --- What values there may be ---------------------------------------------------------------------


def _check_metadata(pod: dict[str, t.Any]) -> t.Iterator[str]:
    for field in ("labels", "annotations", "nodeSelector", "serviceAccountAnnotations"):
        for key, value in (pod.get(field) or {}).items():
            where = f"mlflow_pod.{field}.{key}"
            if not _LABEL_KEY.fullmatch(str(key)):
                yield f"mlflow_pod.{field}: {key!r} is not the name of a label or an annotation"
            elif field in ("labels", "nodeSelector") and not _LABEL_VALUE.fullmatch(value):
                yield (
                    f"{where}: {value!r} is not the value of a label (letters, digits, -_. and at "
                    "most 63 of them)"
                )
            elif field == "labels" and (key in _OUR_LABELS or key.startswith(_OUR_DOMAIN)):
                yield f"{where}: is the release's own; selectors and policies find its pods by it"


def _check_environment(where: str, variables: t.Iterable[dict[str, t.Any]]) -> t.Iterator[str]:
    """Hold variables against what may be written out, and what a source can be."""
    seen: collections.Counter[str] = collections.Counter()
    for index, variable in enumerate(variables):
        place, name = f"{where}[{index}]", str(variable["name"])
        source = variable.get("valueFrom")
        seen[name] += 1
        if not VARIABLE.fullmatch(name):
            yield f"{place}.name: {name!r} is not the name of an environment variable"
        elif name in ELSEWHERE:
            yield f"{place}: {name}: {ELSEWHERE[name]}"
        elif source is not None and variable.get("value"):
            yield f"{place}: {name} has both a value and valueFrom; it has one of them"
        elif source is not None:
            yield from _one_of(f"{place}.valueFrom", source)
        elif wrong := check_variable(name, variable.get("value") or ""):
            yield f"{place}.value: {name} {wrong}"
        if seen[name] == 2:
            yield f"{place}: {name} is there twice"


def _one_of(where: str, source: dict[str, t.Any]) -> t.Iterator[str]:
    given = [key for key, value in source.items() if value is not None]
    if len(given) != 1:
        yield f"{where}: must name one source, not {len(given)}"
        return
    reference = source[given[0]]
    if given[0] in _BY_NAME and "name" not in reference:
        yield f"{where}.{given[0]}.name: is not set"


def _check_lists(pod: dict[str, t.Any]) -> t.Iterator[str]:
    """Hold the lists against each other: each name once, and each mount with a volume."""
    for index, source in enumerate(pod.get("envFrom") or []):
        where = f"mlflow_pod.envFrom[{index}]"
        yield from _one_of(where, {k: v for k, v in source.items() if k != "prefix"})
    for index, item in enumerate(pod.get("imagePullSecrets") or []):
        if not item.get("name"):
            yield f"mlflow_pod.imagePullSecrets[{index}].name: is not set"
    for index, item in enumerate(pod.get("volumes") or []):
        sources = [key for key, value in item.items() if key != "name" and value is not None]
        if len(sources) != 1:
            yield f"mlflow_pod.volumes[{index}]: must have one source, not {len(sources)}"
    for index, item in enumerate(pod.get("tolerations") or []):
        where = f"mlflow_pod.tolerations[{index}]"
        if item.get("operator") == "Exists" and item.get("value"):
            yield f"{where}: has a value, which the operator Exists takes none of"
        elif not item.get("key") and item.get("operator") != "Exists":
            yield f"{where}: has no key; the operator Exists alone tolerates everything"
    for field, key in (
        ("volumes", "name"), ("containers", "name"), ("initContainers", "name"),
        ("volumeMounts", "mountPath"),
    ):  # fmt: skip
        seen: set[str] = set()
        for index, item in enumerate(pod.get(field) or []):
            where, value = f"mlflow_pod.{field}[{index}].{key}", item[key]
            if value in seen:
                yield f"{where}: {value} is there twice"
            seen.add(value)
            if key == "name" and not _NAME.fullmatch(value):
                yield f"{where}: {value!r} is not a name (small letters, digits and '-')"
    volumes = {item["name"] for item in pod.get("volumes") or []}
    for index, mount in enumerate(pod.get("volumeMounts") or []):
        if mount["name"] not in volumes:
            yield (
                f"mlflow_pod.volumeMounts[{index}].name: mlflow_pod.volumes has no "
                f"{mount['name']!r}{suggestion(mount['name'], volumes)}"
            )


def _check_containers(pod: dict[str, t.Any]) -> t.Iterator[str]:
    for field in ("containers", "initContainers"):
        for index, item in enumerate(pod.get(field) or []):
            where = f"mlflow_pod.{field}[{index}]"
            if not item.get("image"):
                yield f"{where}.image: is not set"
            if field == "containers" and item.get("restartPolicy"):
                yield f"{where}.restartPolicy: is for initContainers"
            yield from _check_environment(f"{where}.env", item.get("env") or [])


def check_pod(settings: dict[str, t.Any]) -> t.Iterator[str]:
    """Say what is wrong with mlflow_pod."""
    pod = {key: value for key, value in (settings.get("mlflow_pod") or {}).items() if value}
    if not pod:
        return
    try:
        wrong = [
            problem
            for key, value in pod.items()
            for problem in _of_type(f"mlflow_pod.{key}", _TYPES.get(key, "object"), value)
        ]
    except ImportError:
        yield "mlflow_pod: Ansible's own Python has no package kubernetes, with which it is checked"
        return
    yield from wrong
    if wrong:
        return
    for check in (_check_metadata, _check_lists, _check_containers):
        yield from check(pod)
    variables = pod.get("env") or []
    yield from _check_environment("mlflow_pod.env", variables)
    for index, variable in enumerate(variables):
        if variable["name"] in (settings.get("mlflow_config") or {}):
            yield (
                f"mlflow_pod.env[{index}]: {variable['name']} is in mlflow_config, too; leave one "
                "of them out"
            )


# --- The Service ----------------------------------------------------------------------------------


def check_service(settings: dict[str, t.Any]) -> t.Iterator[str]:
    """Say what is wrong with mlflow_service."""
    service = settings.get("mlflow_service") or {}
    port = service.get("nodePort")
    if port is not None and not 30000 <= int(port) <= 32767:
        yield f"mlflow_service.nodePort: must be between 30000 and 32767, not {port}"
    if port is not None and service.get("type") == "ClusterIP":
        yield "mlflow_service.nodePort: a Service of type ClusterIP has none"
    for key, value in (service.get("annotations") or {}).items():
        if not _LABEL_KEY.fullmatch(str(key)):
            yield f"mlflow_service.annotations: {key!r} is not the name of an annotation"
        elif not isinstance(value, str):
            yield (
                f"mlflow_service.annotations.{key}: must be a string, not {found(value)}"
                f"{_quotes(value)}"
            )
    for index, block in enumerate(service.get("loadBalancerSourceRanges") or []):
        try:
            ipaddress.ip_network(block)
        except ValueError:
            yield (
                f"mlflow_service.loadBalancerSourceRanges[{index}]: {block!r} is not a range such "
                "as 192.0.2.0/24"
            )
