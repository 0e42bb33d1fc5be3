# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects as verdicts may rely on them: what is not of its type is not there.

An API server leaves out what is empty, writes null, or passes on what a controller of another
version wrote. A verdict that has to mind each of these at each place forgets one.
"""

from __future__ import annotations

import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import (
    EVENT,
    POD,
    Kind,
    is_built_in,
)

Object = dict[str, t.Any]

_CONTAINER_LISTS = ("initContainers", "containers")
_STATUS_LISTS = ("initContainerStatuses", "containerStatuses")
_STATES = ("waiting", "running", "terminated")
_POD_LISTS = ("volumes", "schedulingGates", "readinessGates")


def shaped(kind: Kind, item: t.Any) -> Object | None:
    """Return an object of the API in the shape that it should have, or None if it has no name.

    It is changed in place, and only where it has to be. What is in the status of a custom resource
    may be anything.
    """
    if not isinstance(item, dict):
        return None
    metadata = item.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        return None
    if not isinstance(item.get("kind"), str):
        item["kind"] = kind.kind
    for name in ("labels", "annotations"):
        _texts(metadata, name)
    _lists(metadata, "ownerReferences")
    if not isinstance(metadata.get("finalizers"), list):
        metadata.pop("finalizers", None)
    if kind == EVENT:
        _mappings(item, "involvedObject", "series", "source")
        _words(item, "reason", "message")
        return item
    _mappings(item, "spec", "status")
    if not is_built_in(kind.api_version):
        return item
    status, spec = item.get("status"), item.get("spec")
    if status:
        _lists(status, "conditions")
    if spec and kind != POD:
        _mappings(spec, "template", "strategy", "updateStrategy", "ordinals")
        template = spec.get("template")
        if template:
            _mappings(template, "metadata", "spec")
            spec = template.get("spec")
    if spec:
        _pod_spec(spec)
    if status and kind == POD:
        _pod_status(status)
    return item


def _mappings(holder: Object, *names: str) -> None:
    """Take out what should be a mapping and is none."""
    for name in names:
        if name in holder and not isinstance(holder[name], dict):
            del holder[name]


def _texts(holder: Object, name: str) -> None:
    """Take out of a mapping what is no text."""
    _mappings(holder, name)
    found = holder.get(name)
    if found and not all(isinstance(value, str) for value in found.values()):
        holder[name] = {key: value for key, value in found.items() if isinstance(value, str)}


def _words(holder: Object, *names: str) -> None:
    """Take out what should be a text and is none."""
    for name in names:
        if name in holder and not isinstance(holder[name], str):
            del holder[name]


def _lists(holder: Object, *names: str) -> None:
    """Take out what should be a list of mappings and is none, and what such a list should not hold.

    What has to be there is a name, a type or a uid: without it an entry says nothing.
    """
    for name in names:
        if name not in holder:
            continue
        found = holder[name]
        if not isinstance(found, list):
            del holder[name]
        elif not all(isinstance(entry, dict) for entry in found):
            holder[name] = [entry for entry in found if isinstance(entry, dict)]


def _named(holder: Object, *names: str) -> None:
    _lists(holder, *names)
    for name in names:
        found = holder.get(name)
        if found and not all(isinstance(entry.get("name"), str) for entry in found):
            holder[name] = [entry for entry in found if isinstance(entry.get("name"), str)]


def _pod_spec(spec: Object) -> None:
    _named(spec, *_CONTAINER_LISTS)
    _lists(spec, *_POD_LISTS)
    for name in _CONTAINER_LISTS:
        for container in spec.get(name) or ():
            if "resources" in container:
                _mappings(container, "resources")
                if container.get("resources"):
                    _mappings(container["resources"], "limits", "requests")
    for volume in spec.get("volumes") or ():
        if "persistentVolumeClaim" in volume:
            _mappings(volume, "persistentVolumeClaim")
            _words(volume.get("persistentVolumeClaim") or {}, "claimName")


def _pod_status(status: Object) -> None:
    _named(status, *_STATUS_LISTS)
    for name in _STATUS_LISTS:
        for entry in status.get(name) or ():
            _mappings(entry, "state", "lastState")
            for section in ("state", "lastState"):
                state = entry.get(section)
                if state:
                    _mappings(state, *_STATES)
                    for name_of_state in _STATES:
                        _words(state.get(name_of_state) or {}, "reason", "message")
            entry["restartCount"] = whole(entry.get("restartCount"))


def whole(value: t.Any, default: int = 0) -> int:
    """Return a whole number that the API gave, or what to take where it gave none."""
    if isinstance(value, bool) or value is None:
        return default
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return default
