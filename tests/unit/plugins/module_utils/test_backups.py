# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the backup script says is read with care, and what must not be restored is refused."""

from __future__ import annotations

import importlib.util
import json
import sys
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.mlops.mlflow.plugins.module_utils._backup import catalogue

NAME = "20261124T190501Z"
SHA = "ab" * 32
STORE = "mlflow-production:/mlflow/artifacts"
EXPECTED = catalogue.Expected("mlflow-production", STORE)
IMAGE = {
    "mlflow": "3.16.1",
    "tracking": {"head": "b7e2", "known": ["a1", "b7e2"]},
    "auth": {"head": "c3", "known": ["c3"]},
}
DATABASE: dict[str, t.Any] = {
    "role": "tracking",
    "name": "mlflow",
    "file": "tracking.dump",
    "bytes": 100,
    "sha256": SHA,
    "size": 9000,
    "revisions": {"tracking": "b7e2", "auth": "c3"},
    "rows": {"runs": 10000, "users": 3},
}
MANIFEST: dict[str, t.Any] = {
    "format": 1,
    "name": NAME,
    "time": "2026-11-24T19:05:01Z",
    "mlflow": "3.16.1",
    "release": "mlflow-production",
    "artifact_store": STORE,
    "reason": "",
    "postgres": "17.6",
    "databases": [DATABASE],
}


def said(**changes: t.Any) -> dict[str, str]:
    """What a check says of a good backup, line by line, to be changed."""
    return {
        "words": "backup: some words for people, and @backup in the middle",
        "volume": "@volume 1000 400",
        "backup": f"@backup {NAME} {json.dumps({**MANIFEST, **changes})}",
        "tested": f'@tested {NAME} {{"time": "t", "ok": true, "seconds": 3, "message": ""}}',
        "marked": f"@marked {NAME}",
        "chosen": f"@chosen {NAME} whole",
        "file": f"@file tracking.dump 100 {SHA}",
        "image": f"@image {json.dumps(IMAGE)}",
        "live": "@live tracking mlflow",
        "database": '@database {"name": "mlflow", "size": 9000, "comment": ""}',
        "role": '@role {"name": "mlflow", "hindrance": ""}',
    }


def refused(lines: dict[str, str], expected: catalogue.Expected = EXPECTED) -> str:
    return "; ".join(catalogue.refusals(catalogue.parse(lines.values()), expected))


def test_a_good_backup_is_read_and_not_refused() -> None:
    report = catalogue.parse(said().values())
    assert refused(said()) == ""
    (backup,) = report.backups
    assert backup.marked
    assert backup.tested
    assert backup.tested.ok
    assert backup.manifest
    assert backup.manifest.databases[0].rows["runs"] == 10000
    assert report.volume == (1000, 400)
    assert catalogue.as_dict(backup, report)["bytes"] == 100
    assert not catalogue.in_place(report)


CHANGES: dict[str, tuple[dict[str, str], str]] = {
    "manifest-damaged": ({"chosen": f"@chosen {NAME} damaged"}, "is damaged: its manifest"),
    "truncated": ({"file": f"@file tracking.dump 99 {SHA}"}, "truncated: tracking.dump has 99"),
    "damaged": ({"file": f"@file tracking.dump 100 {'cd' * 32}"}, "checksum of tracking.dump"),
    "longer": ({"file": f"@file tracking.dump 101 {SHA}"}, "checksum of tracking.dump"),
    "file-missing": ({"file": ""}, "is damaged: it has no tracking.dump"),
    "none": ({"backup": "", "chosen": ""}, "there is no such backup"),
    "not-json": ({"backup": f"@backup {NAME} {{'format'"}, "cannot be read: the manifest is not"),
    "image-silent": ({"image": ""}, "did not say which revisions it knows"),
    "image-odd": ({"image": '@image {"tracking": 3}'}, "is newer than the image"),
    "two-databases": (
        {"live": "@live tracking mlflow\n", "more": "@live auth users"},
        "holds 1 database(s) (tracking), this release has 2 (auth, tracking)",
    ),
    "role": ({"role": '@role {"name": "me", "hindrance": "ask for CREATEDB"}'}, "ask for CREATEDB"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_wrong_is_named(name: str) -> None:
    changes, words = CHANGES[name]
    assert words in refused({**said(), **changes})


@pytest.mark.parametrize(
    ("role", "tested", "untested"),
    [
        ('@role {"name": "me", "hindrance": "ask for CREATEDB"}', False, "ask for CREATEDB"),
        # What was tested before stays so.
        ('@role {"name": "me", "hindrance": "ask for CREATEDB"}', True, ""),
        ('@role {"name": "me", "hindrance": ""}', False, ""),
        ("", False, ""),
    ],
)
def test_why_a_backup_was_not_tested(role: str, tested: bool, untested: str) -> None:
    lines = {**said(), "role": role}
    if not tested:
        lines.pop("tested")
    report = catalogue.parse(lines.values())
    found = catalogue.as_dict(report.backups[0], report)
    assert bool(found["tested"]) is tested
    assert untested in found["untested"]
    assert bool(found["untested"]) is bool(untested)
    assert bool(report.hindrance) is ("ask" in role)


def test_a_restore_that_nobody_knows_to_be_permitted_is_refused() -> None:
    assert "did not say whether a restore may replace it" in refused({**said(), "role": ""})


MANIFESTS: dict[str, tuple[dict[str, t.Any], str]] = {
    "format": ({"format": 2}, "its format is 2"),
    "format-is-true": ({"format": True}, "no usable format"),
    "name": ({"name": "20200101T000000Z"}, "its manifest is that of 20200101T000000Z"),
    "no-databases": ({"databases": []}, "does not name the tracking database once"),
    "twice": ({"databases": [DATABASE, DATABASE]}, "does not name the tracking database once"),
    "path": ({"databases": [{**DATABASE, "file": "../../x"}]}, "a file that a backup does not"),
    "sum": ({"databases": [{**DATABASE, "sha256": "no"}]}, "no usable sha256"),
    "rows": ({"databases": [{**DATABASE, "rows": {"runs": "many"}}]}, "no usable rows"),
    "bytes": ({"databases": [{**DATABASE, "bytes": -1}]}, "no usable bytes"),
    "text": ({"databases": ["mlflow"]}, "a database that is no object"),
    "release": ({"release": "other"}, "is foreign: it is of the release in other"),
    "store": ({"artifact_store": "s3://other"}, "its artifacts are in s3://other"),
    "newer": (
        {"mlflow": "3.17.2", "databases": [{**DATABASE, "revisions": {"tracking": "dc11"}}]},
        "is newer than the image: its tracking schema is at revision dc11, which MLflow 3.16.1 "
        "does not know; it was taken with MLflow 3.17.2",
    ),
    "newer-auth": (
        {"databases": [{**DATABASE, "revisions": {"tracking": "a1", "auth": "d4"}}]},
        "its auth schema is at revision d4",
    ),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_that_does_not_fit_is_refused(name: str) -> None:
    changes, words = MANIFESTS[name]
    assert words in refused(said(**changes))


def test_a_foreign_backup_is_restored_when_told() -> None:
    told = EXPECTED._replace(foreign=True)
    assert refused(said(release="other", artifact_store="s3://other"), told) == ""


def test_an_older_backup_is_not_refused() -> None:
    older = {**DATABASE, "revisions": {"tracking": "a1"}}
    assert refused(said(databases=[older])) == ""


def test_what_an_interrupted_restore_left_is_recognised() -> None:
    comment = f"mlops.mlflow: restored from {NAME}"
    lines = said()
    lines["database"] = "@database " + json.dumps({"name": "mlflow", "comment": comment})
    lines["old"] = (
        '@database {"name": "mlflow_before_20261124T190600Z", "comment": '
        f'"mlops.mlflow: replaced by {NAME}"}}'
    )
    report = catalogue.parse(lines.values())
    assert catalogue.in_place(report)
    assert catalogue.replaced(report) == ["mlflow_before_20261124T190600Z"]


@pytest.mark.parametrize(
    "line",
    ["@backup", "@backup ../etc {}", "@tested x {}", "@file a b", "@image []", "@volume", "@"],
)
def test_odd_lines_are_skipped(line: str) -> None:
    assert catalogue.parse([line]) == catalogue.Report([])


def test_a_job_is_the_cron_jobs_with_another_command() -> None:
    container = {
        "name": "backup",
        "args": ["backup"],
        "env": [{"name": "BACKUP_NAME", "value": "old"}, {"name": "PGUSER", "valueFrom": {}}],
    }
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container]}}
    spec = {"metadata": {"labels": {"c": "d"}}, "spec": {"backoffLimit": 2, "template": template}}
    cron_job = {"metadata": {"namespace": "n"}, "spec": {"jobTemplate": spec}}
    before = json.dumps(cron_job)
    job = catalogue.job(cron_job, "x", "check", {"BACKUP_NAME": NAME})
    assert json.dumps(cron_job) == before
    assert job["metadata"]["labels"] == {"c": "d", catalogue.COMMAND_LABEL: "check"}
    assert job["spec"]["backoffLimit"] == 2
    assert job["spec"]["podFailurePolicy"]["rules"][1]["onExitCodes"]["values"] == [1, 2, 3]
    made = job["spec"]["template"]
    assert made["metadata"]["labels"] == {"a": "b", catalogue.COMMAND_LABEL: "check"}
    assert made["spec"]["containers"][0]["args"] == ["check"]
    assert made["spec"]["containers"][0]["env"] == [
        {"name": "PGUSER", "valueFrom": {}},
        {"name": "BACKUP_NAME", "value": NAME},
    ]


def test_a_job_for_the_bucket_is_that_of_the_other_cron_job() -> None:
    path = Path(__file__).parents[4] / "kustomize/components/backup-s3/backup-s3-cronjob.yml"
    cron_job = yaml.safe_load(path.read_text())
    job = catalogue.job(cron_job, "job", "download", {"BACKUP_NAME": "latest"})
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["name"] == catalogue.S3_CONTAINER
    assert container["args"] == ["download"]
    assert {"name": "BACKUP_NAME", "value": "latest"} in container["env"]
    (_ignore, fail) = job["spec"]["podFailurePolicy"]["rules"]
    assert fail["onExitCodes"]["containerName"] == catalogue.S3_CONTAINER


def test_what_was_written_since_a_backup_is_counted() -> None:
    lines = said()
    rows = {"runs": 10002, "users": 2, "tags": 5, "alembic_version": 9}
    now = "@now " + json.dumps({"role": "tracking", "rows": rows, "revisions": {}})
    report = catalogue.parse([*lines.values(), now])
    assert catalogue.since(report) == {"runs": 2, "tags": 5, "users": -1}
    words = catalogue.since_in_words({"runs": 2, "metrics": 4000, "tags": 5, "params": 1})
    assert words == "+2 runs, +4,000 metric values, rows in 2 other table(s)"
    assert catalogue.since_in_words({}) == "no row that was added or deleted"


def test_the_image_that_a_backup_is_of_can_be_another_than_the_cron_job_s() -> None:
    pod = {
        "initContainers": [{"name": "image", "image": "new"}],
        "containers": [{"name": "backup", "image": "postgres"}],
    }
    cron_job = {"metadata": {}, "spec": {"jobTemplate": {"spec": {"template": {"spec": pod}}}}}
    for image, expected in (("old", "old"), ("", "new")):
        made = catalogue.job(cron_job, "x", "backup", {}, image)["spec"]["template"]["spec"]
        assert made["initContainers"][0]["image"] == expected
        assert made["containers"][0]["image"] == "postgres"


OLDER = "20261120T190501Z"


@pytest.mark.parametrize(
    ("runs", "asked", "refusal"),
    [
        # After a disaster the nightly backup is of the new database, which a smoke test has used.
        (1, "latest", f"{NAME} is the latest and holds 1 experiments"),
        (1, NAME, ""),
        (9000, "latest", ""),
        (0, "latest", f"while {OLDER} holds 10000: name the backup that you want"),
    ],
)
def test_the_latest_is_not_taken_when_it_holds_next_to_nothing(
    runs: int, asked: str, refusal: str
) -> None:
    lines = said(databases=[{**DATABASE, "rows": {"runs": runs}}])
    lines["asked"] = f"@asked {asked}"
    lines["older"] = f"@backup {OLDER} {json.dumps({**MANIFEST, 'name': OLDER})}"
    found = refused(lines)
    assert refusal in found
    assert bool(refusal) == bool(found)


def test_a_small_release_may_be_restored_from_its_latest() -> None:
    lines = said(databases=[{**DATABASE, "rows": {"runs": 0, "experiments": 1}}])
    lines["asked"] = "@asked latest"
    older = {**MANIFEST, "name": OLDER, "databases": [{**DATABASE, "rows": {"runs": 3}}]}
    lines["older"] = f"@backup {OLDER} {json.dumps(older)}"
    assert refused(lines) == ""


def test_the_copies_in_a_bucket_go_by_the_same_rule() -> None:
    """s3.py stands alone: what it takes for a backup of next to nothing is written there again."""
    path = Path(__file__).parents[4] / "kustomize/components/backup-s3/s3.py"
    spec = importlib.util.spec_from_file_location("s3", path)
    assert spec
    assert spec.loader
    s3 = importlib.util.module_from_spec(spec)
    # Its classes look for their module there.
    sys.modules["s3"] = s3
    spec.loader.exec_module(s3)
    assert (s3._CONTENT, s3._SHRUNK) == (catalogue._CONTENT, catalogue._SHRUNK)
    text = json.dumps(MANIFEST)
    assert s3.content(json.loads(text)) == catalogue.content(catalogue.read_manifest(text)) > 0
