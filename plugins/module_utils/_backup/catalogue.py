# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what the backup script says, and decide whether a backup may be restored. Pure functions.

The script (kustomize/components/backup/backup.sh) writes lines that start with @ for programs. What
stands in a backup's files was written by whoever could write to the volume: nothing is taken for
granted here.
"""

from __future__ import annotations

import copy
import json
import re
import typing as t

Object = dict[str, t.Any]

# The newest form of a manifest that is understood here.
FORMAT = 1
CRON_JOB = "mlflow-backup"
CONTAINER = "backup"
# The container that says which MLflow this is a backup of.
IMAGE_CONTAINER = "image"
# The one that copies to and from a bucket, in a CronJob of its own.
S3_CONTAINER = "s3"
COMPONENT = "backup"
# On the Jobs that a run made, as opposed to the CronJob's.
COMMAND_LABEL = "mlops.mlflow/backup-command"
COMMANDS = (
    "backup", "list", "check", "since", "test", "rehearse", "elsewhere",
    "prepare", "swap", "forget", "hold",
)  # fmt: skip
S3_COMMANDS = ("upload", "download")
# Seconds for which a Job stays after its end: those whose logs tell what backups there are, longer.
_STAYS = {"backup": 604800, "test": 604800}
_STAYS_SHORT = 900

_NAME = re.compile(r"\d{8}T\d{6}Z")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(r"[a-z]+\.dump")
_FINGERPRINT = re.compile(r"[0-9a-f]{16}")
# Keys without which something in a backup cannot be read.
_ENCRYPTING = ("kek-passphrase", "webhook-encryption-key")


def is_name(text: str) -> bool:
    """Whether the text is the name of a backup."""
    return _NAME.fullmatch(text) is not None


class ManifestError(Exception):
    """Why a manifest cannot be understood, in a few words."""


class Dump(t.NamedTuple):
    """One database in a backup; bytes are those of its file, size those it had in Postgres."""

    role: str
    name: str
    file: str
    bytes: int
    sha256: str
    size: int
    revisions: dict[str, str]
    rows: dict[str, int]


class Manifest(t.NamedTuple):
    """What a backup says of itself."""

    name: str
    time: str
    mlflow: str
    release: str
    artifact_store: str
    reason: str
    postgres: str
    databases: tuple[Dump, ...]
    # Fingerprints of the keys that something in it may be encrypted with, by their names.
    keys: dict[str, str] = {}  # noqa: RUF012 - never changed


class Tested(t.NamedTuple):
    """How a backup's restore test ended."""

    time: str
    ok: bool
    seconds: int
    message: str


class Backup(t.NamedTuple):
    """One backup; without a manifest, problem says why."""

    name: str
    manifest: Manifest | None
    problem: str = ""
    tested: Tested | None = None
    marked: bool = False


class File(t.NamedTuple):
    """A file of a backup as it is."""

    name: str
    bytes: int
    sha256: str


class Report(t.NamedTuple):
    """Everything that one run of the script said."""

    backups: list[Backup]
    taken: str = ""
    chosen: str = ""
    # Whether the newest was asked for, and not one by its name.
    latest: bool = False
    manifest_whole: bool = False
    files: tuple[File, ...] = ()
    # Total and free bytes of the backups' volume.
    volume: tuple[int, int] | None = None
    # What the MLflow image knows: revisions by schema.
    image: Object | None = None
    # Role and name of the databases that are live.
    live: dict[str, str] = {}  # noqa: RUF012 - never changed
    # Comment of each database that has to do with a restore.
    comments: dict[str, str] = {}  # noqa: RUF012
    # Why this role cannot restore, and what to do; nothing if it can, None if nobody asked.
    hindrance: str | None = None
    # What the restored database has not, that the backup's or the live one has.
    lost: tuple[str, ...] = ()
    # Fingerprints of the keys that the release has today.
    keys: dict[str, str] = {}  # noqa: RUF012
    # How many rows each table of the live databases has, by role.
    now: dict[str, dict[str, int]] = {}  # noqa: RUF012


class Expected(t.NamedTuple):
    """What a restore goes into."""

    release: str
    artifact_store: str
    foreign: bool = False


# --- Reading --------------------------------------------------------------------------------------


def _object(text: str, what: str) -> Object:
    try:
        value = json.loads(text)
    except ValueError:
        raise ManifestError(f"{what} is not JSON") from None
    if not isinstance(value, dict):
        raise ManifestError(f"{what} is not a JSON object")
    return value


def _get(item: Object, key: str, kind: type, where: str) -> t.Any:
    value = item.get(key)
    # A boolean is an int to Python, and no number here is below zero.
    odd = kind is int and isinstance(value, int) and (isinstance(value, bool) or value < 0)
    if not isinstance(value, kind) or odd:
        raise ManifestError(f"{where} has no usable {key}")
    return value


def _dump(item: t.Any) -> Dump:
    if not isinstance(item, dict):
        raise ManifestError("the manifest names a database that is no object")
    where = "a database of the manifest"
    revisions = _get(item, "revisions", dict, where)
    rows = _get(item, "rows", dict, where)
    found = Dump(
        _get(item, "role", str, where),
        _get(item, "name", str, where),
        _get(item, "file", str, where),
        _get(item, "bytes", int, where),
        _get(item, "sha256", str, where),
        _get(item, "size", int, where),
        {str(key): str(value) for key, value in revisions.items()},
        {str(key): value for key, value in rows.items()},
    )
    if found.role not in ("tracking", "auth") or found.file != f"{found.role}.dump":
        raise ManifestError("the manifest names a file that a backup does not have")
    if not _SHA256.fullmatch(found.sha256):
        raise ManifestError(f"{where} has no usable sha256")
    if any(isinstance(value, bool) or not isinstance(value, int) for value in rows.values()):
        raise ManifestError(f"{where} has no usable rows")
    return found


def read_manifest(text: str) -> Manifest:
    """Read a manifest; raise ManifestError with the reason if it cannot be."""
    item = _object(text, "the manifest")
    form = _get(item, "format", int, "the manifest")
    if form > FORMAT:
        raise ManifestError(
            f"its format is {form}, and this collection reads up to {FORMAT}: it was taken by a "
            "newer one"
        )
    texts: list[t.Any] = [
        _get(item, key, str, "the manifest")
        for key in ("name", "time", "mlflow", "release", "artifact_store", "reason", "postgres")
    ]
    databases = tuple(map(_dump, _get(item, "databases", list, "the manifest")))
    roles = [database.role for database in databases]
    if "tracking" not in roles or len(set(roles)) != len(roles):
        raise ManifestError("the manifest does not name the tracking database once")
    keys = item.get("keys")
    return Manifest._make([*texts, databases, _texts(keys if isinstance(keys, dict) else {})])


def _texts(item: Object) -> dict[str, str]:
    return {str(key): value for key, value in item.items() if isinstance(value, str)}


def _read_tested(text: str) -> Tested | None:
    try:
        item = _object(text, "the result")
        return Tested(
            _get(item, "time", str, "the result"),
            _get(item, "ok", bool, "the result"),
            _get(item, "seconds", int, "the result"),
            _get(item, "message", str, "the result"),
        )
    except ManifestError:
        return None


def _read_backup(name: str, text: str) -> Backup:
    try:
        manifest = read_manifest(text)
        if manifest.name != name:
            raise ManifestError(f"its manifest is that of {manifest.name[:40]}")
    except ManifestError as error:
        return Backup(name, None, str(error))
    return Backup(name, manifest)


def _whole(text: str) -> int:
    return int(text) if text.isdigit() else -1


def parse(lines: t.Iterable[str]) -> Report:
    """Read what the script wrote; a line that is not understood is skipped."""
    backups: dict[str, Backup] = {}
    found: dict[str, t.Any] = {}
    files: list[File] = []
    live: dict[str, str] = {}
    comments: dict[str, str] = {}
    for line in lines:
        word, _space, rest = line.strip().partition(" ")
        first, _space, text = rest.partition(" ")
        parts = rest.split()
        if word == "@backup" and _NAME.fullmatch(first):
            backups[first] = _read_backup(first, text)
        elif word == "@tested" and first in backups:
            backups[first] = backups[first]._replace(tested=_read_tested(text))
        elif word == "@marked" and rest in backups:
            backups[rest] = backups[rest]._replace(marked=True)
        elif word == "@taken" and _NAME.fullmatch(rest):
            found["taken"] = rest
        elif word == "@chosen" and _NAME.fullmatch(first):
            found.update(chosen=first, manifest_whole=text == "whole")
        elif word == "@asked":
            found["latest"] = rest == "latest"
        elif word == "@file" and len(parts) == 3 and _FILE.fullmatch(first):
            files.append(File(first, _whole(parts[1]), parts[2]))
        elif word == "@volume" and len(parts) == 2:
            found["volume"] = (_whole(parts[0]), _whole(parts[1]))
        elif word == "@live" and len(parts) == 2:
            live[first] = text
        elif word in ("@image", "@database", "@role", "@now", "@lost", "@keys"):
            _note(word, rest, found, comments)
    return Report(list(backups.values()), files=tuple(files), live=live, comments=comments, **found)


def _note(word: str, text: str, found: dict[str, t.Any], comments: dict[str, str]) -> None:
    try:
        item = _object(text, word)
    except ManifestError:
        return
    if word == "@image":
        found["image"] = item
    elif word == "@database":
        comments[str(item.get("name"))] = str(item.get("comment") or "")
    elif word == "@keys":
        found["keys"] = _texts(item)
    elif word == "@lost":
        what = item.get("what")
        lines = [str(line)[:200] for line in what] if isinstance(what, list) else []
        found["lost"] = (*found.get("lost", ()), *lines)
    elif word == "@now":
        rows = item.get("rows")
        counted = rows if isinstance(rows, dict) else {}
        found.setdefault("now", {})[str(item.get("role"))] = {
            str(key): value
            for key, value in counted.items()
            if isinstance(value, int) and not isinstance(value, bool)
        }
    else:
        found["hindrance"] = str(item.get("hindrance") or "")


# --- Deciding -------------------------------------------------------------------------------------


def chosen(report: Report) -> Backup | None:
    """Return the backup that the script was asked about."""
    return next((item for item in report.backups if item.name == report.chosen), None)


def refusals(report: Report, expected: Expected) -> list[str]:
    """Return every reason why the chosen backup must not be restored, one line each."""
    backup = chosen(report)
    if backup is None:
        return ["there is no such backup"]
    if not report.manifest_whole:
        return [f"{backup.name} is damaged: its manifest is not the one that was written"]
    if backup.manifest is None:
        return [f"{backup.name} cannot be read: {backup.problem}"]
    manifest = backup.manifest
    return [
        *_damaged(manifest, report.files),
        *_shrunk(manifest, report),
        *_foreign(manifest, expected),
        *_laid_out_differently(manifest, report.live),
        *_too_new(manifest, report.image),
        *_not_permitted(report),
    ]


def _damaged(manifest: Manifest, files: t.Iterable[File]) -> t.Iterator[str]:
    there = {file.name: file for file in files}
    for dump in manifest.databases:
        file = there.get(dump.file)
        if file is None:
            yield f"{manifest.name} is damaged: it has no {dump.file}"
        elif file.bytes < dump.bytes:
            yield (
                f"{manifest.name} is truncated: {dump.file} has {file.bytes} bytes of {dump.bytes}"
            )
        elif file.bytes != dump.bytes or file.sha256 != dump.sha256:
            yield f"{manifest.name} is damaged: the checksum of {dump.file} is not the manifest's"


# Tables whose rows are what people put into MLflow.
_CONTENT = ("experiments", "runs", "registered_models", "trace_info", "logged_models")
# A latest backup with less than this part of what one before it held is asked about.
_SHRUNK = 10


def content(manifest: Manifest) -> int:
    """Return how many experiments, runs, models and traces a backup holds together."""
    rows = next((dump.rows for dump in manifest.databases if dump.role == "tracking"), {})
    return sum(rows.get(table, 0) for table in _CONTENT)


def _shrunk(manifest: Manifest, report: Report) -> t.Iterator[str]:
    """Refuse to guess: the newest may be of the new, empty database that followed a disaster."""
    if not report.latest:
        return
    held = {item.name: content(item.manifest) for item in report.backups if item.manifest}
    now = content(manifest)
    fuller = [name for name, count in held.items() if count > now * _SHRUNK + _SHRUNK]
    if fuller:
        newest = max(fuller)
        yield (
            f"{manifest.name} is the latest and holds {now} experiments, runs, models and traces, "
            f"while {newest} holds {held[newest]}: name the backup that you want"
        )


def _foreign(manifest: Manifest, expected: Expected) -> t.Iterator[str]:
    if expected.foreign:
        return
    hint = "set mlflow_restore_foreign if that is what you want"
    if manifest.release != expected.release:
        yield (
            f"{manifest.name} is foreign: it is of the release in {manifest.release[:80]}, not in "
            f"{expected.release}; {hint}"
        )
    elif manifest.artifact_store != expected.artifact_store:
        yield (
            f"{manifest.name} is foreign: its artifacts are in {manifest.artifact_store[:200]}, "
            f"this release's in {expected.artifact_store}; {hint}"
        )


def _laid_out_differently(manifest: Manifest, live: dict[str, str]) -> t.Iterator[str]:
    roles = {dump.role for dump in manifest.databases}
    if roles != set(live):
        yield (
            f"{manifest.name} holds {len(roles)} database(s) ({', '.join(sorted(roles))}), this "
            f"release has {len(live)} ({', '.join(sorted(live))})"
        )


def _too_new(manifest: Manifest, image: Object | None) -> t.Iterator[str]:
    if image is None:
        yield "the MLflow image did not say which revisions it knows"
        return
    for dump in manifest.databases:
        for schema, revision in dump.revisions.items():
            entry = image.get(schema)
            known = entry.get("known") if isinstance(entry, dict) else None
            if not isinstance(known, list) or revision not in known:
                yield (
                    f"{manifest.name} is newer than the image: its {schema} schema is at revision "
                    f"{revision[:64]}, which MLflow {image.get('mlflow')} does not know; it was "
                    f"taken with MLflow {manifest.mlflow[:40]}, restore it with that or a later one"
                )


def _not_permitted(report: Report) -> t.Iterator[str]:
    if report.hindrance is None:
        yield "the database did not say whether a restore may replace it"
    elif report.hindrance:
        yield report.hindrance


def other_keys(report: Report) -> dict[str, str]:
    """Return the fingerprints of the keys of the chosen backup that the release does not have."""
    backup = chosen(report)
    if backup is None or backup.manifest is None:
        return {}
    marks = backup.manifest.keys
    return {
        name: marks[name]
        for name in _ENCRYPTING
        if _FINGERPRINT.fullmatch(marks.get(name, "")) and report.keys.get(name) != marks[name]
    }


def in_place(report: Report) -> bool:
    """Whether every live database is the one that was restored from the chosen backup."""
    wanted = f"mlops.mlflow: restored from {report.chosen}"
    names = list(report.live.values())
    return bool(names) and all(report.comments.get(name) == wanted for name in names)


def replaced(report: Report) -> list[str]:
    """Return the databases that earlier restores replaced and kept, sorted."""
    return sorted(
        name
        for name, comment in report.comments.items()
        if comment.startswith("mlops.mlflow: replaced by ")
    )


# What a person calls the rows of a table; of the others, only how many tables there are.
_CALLED = {
    "experiments": "experiments",
    "runs": "runs",
    "metrics": "metric values",
    "registered_models": "registered models",
    "model_versions": "model versions",
    "logged_models": "logged models",
    "trace_info": "traces",
    "users": "users",
}


def since(report: Report) -> dict[str, int]:
    """Return by how many rows each table of the live databases differs from the chosen backup."""
    backup = chosen(report)
    if backup is None or backup.manifest is None:
        return {}
    found: dict[str, int] = {}
    for dump in backup.manifest.databases:
        now = report.now.get(dump.role, {})
        for table in dump.rows.keys() | now.keys():
            if not table.startswith("alembic_version"):
                difference = now.get(table, 0) - dump.rows.get(table, 0)
                found[table] = found.get(table, 0) + difference
    return {table: difference for table, difference in sorted(found.items()) if difference}


def since_in_words(differences: t.Mapping[str, int]) -> str:
    """Return what was written since a backup, as a person would say it."""
    said = [
        f"{differences[table]:+,} {words}"
        for table, words in _CALLED.items()
        if differences.get(table)
    ]
    others = sum(1 for table in differences if table not in _CALLED)
    if others:
        said.append(f"rows in {others} other table(s)")
    return ", ".join(said) or "no row that was added or deleted"


# --- Running --------------------------------------------------------------------------------------


def job(
    cron_job: Object, name: str, command: str, environment: dict[str, str], image: str = ""
) -> Object:
    """Return a Job that runs one command of the script, made from the release's own CronJob.

    image is the MLflow that the database is of, if it is not the CronJob's.
    """
    name_of_it = S3_CONTAINER if command in S3_COMMANDS else CONTAINER
    spec = copy.deepcopy(cron_job["spec"]["jobTemplate"]["spec"])
    labels = dict(cron_job["spec"]["jobTemplate"].get("metadata", {}).get("labels") or {})
    labels[COMMAND_LABEL] = command
    spec["ttlSecondsAfterFinished"] = _STAYS.get(command, _STAYS_SHORT)
    # What the script or Postgres' programs refuse is said at once. A container that could not be
    # started, or was evicted, is tried again: every command may be.
    spec["backoffLimit"] = 2
    spec["podFailurePolicy"] = {
        "rules": [
            {
                "action": "Ignore",
                "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
            },
            {
                "action": "FailJob",
                "onExitCodes": {
                    "containerName": name_of_it,
                    "operator": "In",
                    "values": [1, 2, 3],
                },
            },
        ]
    }
    metadata = spec["template"].setdefault("metadata", {})
    metadata["labels"] = {**(metadata.get("labels") or {}), COMMAND_LABEL: command}
    for container in spec["template"]["spec"].get("initContainers") or []:
        if image and container["name"] == IMAGE_CONTAINER:
            container["image"] = image
    for container in spec["template"]["spec"]["containers"]:
        if container["name"] == name_of_it:
            container["args"] = [command]
            given = [item for item in container.get("env") or [] if item["name"] not in environment]
            more = [{"name": key, "value": value} for key, value in sorted(environment.items())]
            container["env"] = given + more
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": cron_job["metadata"].get("namespace", ""),
            "labels": labels,
        },
        "spec": spec,
    }


def as_dict(backup: Backup, report: Report) -> Object:
    """Return a backup as a module returns it."""
    manifest = backup.manifest
    return {
        "name": backup.name,
        "problem": backup.problem,
        "marked": backup.marked,
        "tested": backup.tested._asdict() if backup.tested else None,
        "untested": (report.hindrance or "") if backup.tested is None else "",
        "time": manifest.time if manifest else "",
        "mlflow": manifest.mlflow if manifest else "",
        "release": manifest.release if manifest else "",
        "artifact_store": manifest.artifact_store if manifest else "",
        "reason": manifest.reason if manifest else "",
        "bytes": sum(dump.bytes for dump in manifest.databases) if manifest else 0,
        "databases": [dump._asdict() for dump in manifest.databases] if manifest else [],
    }
