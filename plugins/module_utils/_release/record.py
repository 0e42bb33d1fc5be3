# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was released, in which order, and where a rollback goes. Pure functions.

The record is one ConfigMap. What it says of each release can be read by a person; what a rollback
applies is kept beside it, compressed. Only what is named here is kept, and no Secret is among it.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import json
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.errors import Failure

Object = dict[str, t.Any]

NAME = "mlflow-releases"
# Not the release's own: what it applies under that name is pruned when it is not rendered.
FIELD_MANAGER = "mlops.mlflow.release_record"
# How many releases are kept.
KEEP = 5
# Bytes that all of them may take together, as the API counts them; a ConfigMap takes 1 MiB.
LIMIT = 900_000
RELEASES = "releases.json"
PENDING = "pending.json"
NEXT = "next"
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
# Of a release as M(mlops.mlflow.release_render) returns it: all that is needed to apply it again,
# but for the Secrets, whose values are the cluster's.
KEPT = (
    "administrator", "artifact_store", "credential_keys", "existing_secrets", "external_secrets",
    "image", "kinds", "migration_job", "namespace", "postgres_image", "secrets", "service",
    "smoke_test_job", "stages", "url", "version",
)  # fmt: skip
_SUMMARY = ("version", "image", "postgres_image")


class RecordError(Failure):
    """Why the record cannot be used, in words for whoever runs the playbook."""


class Record(t.NamedTuple):
    """The ConfigMap's content: releases the newest first, and the one that is under way."""

    releases: tuple[Object, ...] = ()
    pending: Object | None = None
    # What each release applies, by its number, compressed.
    contents: dict[int, str] = {}  # noqa: RUF012 - never changed
    # The number of the next release; none is given twice, also after a rollback.
    next: int = 1


class Target(t.NamedTuple):
    """Where a rollback goes, and what lies between."""

    release: Object
    # The backup that was taken before the schema of this release was left, or nothing.
    backup: Object | None
    # What is left behind: the newest release, or one that was never finished.
    left: Object
    finished: bool


# --- The ConfigMap --------------------------------------------------------------------------------


def _list(text: str) -> list[Object]:
    value = json.loads(text or "[]")
    if not isinstance(value, list) or not all(
        isinstance(item, dict) and isinstance(item.get("number"), int) for item in value
    ):
        raise ValueError
    return value


def read(config_map: Object | None) -> Record:
    """Read the ConfigMap; none is an empty record."""
    data = (config_map or {}).get("data") or {}
    try:
        releases = tuple(_list(str(data.get(RELEASES, ""))))
        pending = json.loads(str(data.get(PENDING, "null")))
        if pending is not None and not isinstance(pending, dict):
            raise ValueError
        following = max([int(data.get(NEXT, 1)), *(item["number"] + 1 for item in releases)])
    except ValueError:
        raise RecordError(
            f"ConfigMap {NAME} is not what this collection wrote; delete it to begin a new record"
        ) from None
    binary = (config_map or {}).get("binaryData") or {}
    contents = {
        int(key.partition(".")[0]): str(value)
        for key, value in binary.items()
        if key.partition(".")[0].isdigit()
    }
    return Record(releases, pending, contents, following)


def write(record: Record, namespace: str) -> Object:
    """Return the ConfigMap of a record."""
    text = json.dumps(record.releases, indent=1, sort_keys=True)
    data = {RELEASES: text + "\n", NEXT: str(record.next)}
    if record.pending is not None:
        data[PENDING] = json.dumps(record.pending, indent=1, sort_keys=True) + "\n"
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": NAME,
            "namespace": namespace,
            "labels": {
                "app.kubernetes.io/name": "mlflow",
                "app.kubernetes.io/part-of": "mlflow",
                "app.kubernetes.io/component": "releases",
            },
        },
        "data": data,
        "binaryData": {f"{number}.json.gz": text for number, text in record.contents.items()},
    }


def _without_last_applied(item: Object) -> Object:
    metadata = dict(item["metadata"])
    annotations = dict(metadata.pop("annotations", None) or {})
    annotations.pop(_LAST_APPLIED, None)
    return {
        **item,
        "metadata": {**metadata, **({"annotations": annotations} if annotations else {})},
    }


def kept(release: Object) -> Object:
    """Return what is kept of a release."""
    found = {key: release[key] for key in KEPT if key in release}
    stages = found.get("stages") or {}
    if any(item.get("kind") == "Secret" for items in stages.values() for item in items):
        raise RecordError("the stages of a release hold a Secret, which is never recorded")
    # A second copy of each object, which can be made again.
    found["stages"] = {
        stage: [_without_last_applied(item) for item in items] for stage, items in stages.items()
    }
    return found


def pack(content: Object) -> str:
    """Return a release's content compressed, the same for the same content."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def unpack(text: str) -> Object:
    """Return a release's content, as C(kept) returned it, each object with its annotation."""
    try:
        content = json.loads(gzip.decompress(base64.b64decode(text, validate=True)))
        stages = {
            stage: [_with_last_applied(item) for item in items]
            for stage, items in content["stages"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, OSError, EOFError, binascii.Error):
        raise RecordError(f"ConfigMap {NAME}: what is kept of a release cannot be read") from None
    return {**content, "stages": stages}


def _with_last_applied(item: Object) -> Object:
    """Return an object as a render has it; see plugin_utils/_render/stages.py."""
    text = json.dumps(item, sort_keys=True, separators=(",", ":"))
    metadata = dict(item["metadata"])
    metadata["annotations"] = {**(metadata.get("annotations") or {}), _LAST_APPLIED: text + "\n"}
    return {**item, "metadata": metadata}


def digest(content: Object) -> str:
    """Return a word that tells one release from another, by what they apply."""
    text = json.dumps(content["stages"], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _secret_names(value: t.Any) -> t.Iterator[str]:
    """Yield the name of every Secret that something refers to."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key in ("secretKeyRef", "secretRef", "secret") and isinstance(item, dict):
                yield str(item.get("name") or item.get("secretName") or "")
            elif key == "imagePullSecrets" and isinstance(item, list):
                yield from (str(entry.get("name", "")) for entry in item)
            yield from _secret_names(item)
    elif isinstance(value, list):
        for item in value:
            yield from _secret_names(item)


def summary(content: Object) -> Object:
    """Return what a person may want to know of a release."""
    return {
        **{key: str(content.get(key, "")) for key in _SUMMARY},
        "digest": digest(content),
        "secrets": sorted(set(_secret_names(content["stages"])) - {""}),
    }


# --- Moving on ------------------------------------------------------------------------------------


def revisions(schema: t.Mapping[str, t.Any] | None) -> dict[str, str]:
    """Return each database's revision, from the schema helper's verdict."""
    return {
        name: str(verdict["current"])
        for name, verdict in (schema or {}).items()
        if isinstance(verdict, dict) and verdict.get("current")
    }


def _better(old: Object | None, new: Object | None, left: t.Mapping[str, str]) -> Object | None:
    """Return which backup leads back: the newest with the schema that is left.

    A run after one that has migrated and then failed takes its backup too late.
    """
    if old is None or new is None:
        return new or old
    return new if not left or new.get("revisions") == left else old


def begun(
    record: Record,
    content: Object,
    time: str,
    backup: Object | None = None,
    back_to: int | None = None,
) -> Record:
    """Return the record when a release is about to be written to the cluster."""
    about = summary(content)
    newest = record.releases[0] if record.releases else None
    before = record.pending or {}
    if back_to is None and not before and newest and newest["digest"] == about["digest"]:
        return record
    left = (newest or {}).get("schema") or {}
    pending = {
        **about,
        "time": time,
        "backup": _better(before.get("backup"), backup, left),
        "back_to": back_to,
    }
    same = {**before, "time": time} == pending
    return record if same else record._replace(pending=pending)


def _not_left_behind(record: Record) -> tuple[Object, ...]:
    """Return the releases but those that the rollback which is under way leaves behind."""
    back_to = (record.pending or {}).get("back_to")
    return tuple(item for item in record.releases if back_to is None or item["number"] <= back_to)


def done(
    record: Record, content: Object, time: str, schema: t.Mapping[str, t.Any] | None = None
) -> Record:
    """Return the record when a release serves."""
    about = summary(content)
    pending = record.pending or {}
    found = revisions(schema)
    # A release with a smoke test serves when that has passed.
    proof = "smoke test" if content.get("smoke_test_job") else "rollout"
    back_to = pending.get("back_to")
    record = record._replace(releases=_not_left_behind(record))
    again = record.releases[0] if record.releases else None
    if again and again["digest"] == about["digest"]:
        updated = {**again, "schema": found or again.get("schema") or {}, "proof": proof}
        if back_to is not None:
            updated["back_since"] = time
        return _trimmed(record._replace(releases=(updated, *record.releases[1:]), pending=None))
    number = record.next
    release = {
        "number": number,
        **about,
        "time": time,
        "proof": proof,
        "schema": found,
        "backup": pending.get("backup"),
    }
    return _trimmed(
        Record(
            (release, *record.releases),
            None,
            {**record.contents, number: pack(content)},
            number + 1,
        )
    )


def _trimmed(record: Record) -> Record:
    """Leave out what is too old, and what would make the ConfigMap too large."""
    releases = record.releases[:KEEP]
    while len(releases) > 1 and _size(releases, record.contents) > LIMIT:
        releases = releases[:-1]
    numbers = {item["number"] for item in releases}
    contents = {key: value for key, value in record.contents.items() if key in numbers}
    return record._replace(releases=releases, contents=contents)


def _size(releases: t.Sequence[Object], contents: t.Mapping[int, str]) -> int:
    return len(json.dumps(releases, indent=1)) + sum(
        len(contents.get(item["number"], "")) for item in releases
    )


# --- Going back -----------------------------------------------------------------------------------


def target(record: Record) -> Target:
    """Return where a rollback goes; raise RecordError with the reason if there is nowhere."""
    pending, releases = record.pending, record.releases
    if not releases and pending is None:
        raise RecordError(
            "no release is recorded in this namespace: what is there was deployed by other means, "
            "or before releases were recorded; run site.yml once"
        )
    if pending is not None and pending.get("back_to") is not None:
        # One that was interrupted; everything newer than its goal is left behind.
        number = pending["back_to"]
        newer = [item for item in releases if item["number"] > number]
        older = [item for item in releases if item["number"] == number]
        if older and newer:
            backup = _better(newer[-1].get("backup"), pending.get("backup"), {})
            return _with_content(record, Target(older[0], backup, newer[0], True))
        if older:
            left = {**pending, "number": None}
            return _with_content(record, Target(older[0], pending.get("backup"), left, False))
    if pending is not None:
        if not releases:
            raise RecordError(
                "there is no previous release: the first one was never finished; run site.yml again"
            )
        left = {**pending, "number": None}
        return _with_content(record, Target(releases[0], pending.get("backup"), left, False))
    if len(releases) < 2:
        raise RecordError(
            f"there is no previous release: {name(releases[0])} is the only one that is recorded"
        )
    return _with_content(record, Target(releases[1], releases[0].get("backup"), releases[0], True))


def _with_content(record: Record, found: Target) -> Target:
    if found.release["number"] not in record.contents:
        raise RecordError(
            f"what {name(found.release)} applied is not recorded any more; set mlflow_version or "
            "mlflow_image to its image and run site.yml"
        )
    return found


def name(release: Object) -> str:
    """Return how a person calls a release."""
    number = release.get("number")
    what = f"MLflow {release.get('version') or release.get('image')}"
    return f"release {number} ({what})" if number else f"an unfinished release ({what})"


def last(record: Record) -> Object | None:
    """Return which release served last, since when, by what that is known, and what leads back."""
    if not record.releases:
        return None
    newest = record.releases[0]
    return {
        "time": str(newest.get("back_since") or newest.get("time") or ""),
        "proof": str(newest.get("proof") or "rollout"),
        "number": newest["number"],
        "version": newest.get("version") or None,
        "backup": (newest.get("backup") or {}).get("name") or None,
    }


def needed_secrets(record: Record) -> list[str]:
    """Return the Secrets that a recorded release would need to be applied again."""
    return sorted(
        {secret for item in _not_left_behind(record) for secret in item.get("secrets") or []}
    )
