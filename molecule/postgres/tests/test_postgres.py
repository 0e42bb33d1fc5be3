"""Another major version of Postgres on the same volume: nothing is lost, whatever happens to it.

By itself on a cluster that has both images: KIND_CLUSTER_NAME=mlflow pytest molecule/postgres
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.molecule.conftest import Kubectl, Run
from ansible_collections.mlops.mlflow.molecule.upgrading import NEW, Release

IMAGE = "localhost/mlops-mlflow/postgres"
# What the playbook does while the old database is the one that counts.
BEFORE_THE_END = ("Wait for Postgres", "Note that the new database is the one that counts")


class Databases(Release):
    """A release whose Postgres goes from one version to another."""

    def to(
        self, version: int | str, playbook: str = "playbooks/upgrade_postgres.yml", **more: Any
    ) -> Run:
        image = f"{IMAGE}:{version}"
        return self.play(NEW, playbook=playbook, mlflow_postgres_image=image, **more)

    def major(self) -> int:
        return int(self.sql("SELECT current_setting('server_version_num')")) // 10000

    def serves(self, major: int) -> None:
        assert self.is_whole() == NEW
        assert self.major() == major

    def folders(self) -> list[str]:
        return self.kubectl(
            "exec", "postgres-0", f"--namespace={self.namespace}", "--",
            "ls", "/var/lib/postgresql/data",
        ).split()  # fmt: skip


@pytest.fixture(scope="module")
def release(kubectl: Kubectl) -> Iterator[Databases]:
    with Databases(kubectl, "mlflow-postgres") as release:
        release.begin(NEW, mlflow_postgres_image=f"{IMAGE}:15")
        yield release


def test_site_refuses_it_and_says_what_to_run(release: Databases) -> None:
    run = release.to(17, "site.yml")
    assert run.code != 0
    assert "playbooks/upgrade_postgres.yml" in run.output
    release.serves(15)


def test_a_version_that_does_not_start_leaves_the_old_one_serving(release: Databases) -> None:
    run = release.to("17-missing", mlflow_timeout=120)
    assert run.code != 0
    said = " ".join(run.output.split())
    assert "did not take over" in said
    assert f"{IMAGE}:15 again" in said
    release.serves(15)
    # And what the inventory says is deployed as ever.
    assert release.to(15, "site.yml").code == 0
    release.serves(15)


@pytest.mark.parametrize("task", BEFORE_THE_END)
def test_cut_off_before_the_end_the_old_version_has_its_database_again(
    release: Databases, task: str
) -> None:
    assert release.to(17, at={task: ""}).code != 0
    run = release.to(15, "site.yml")
    assert run.code == 0, run.output
    release.serves(15)


def test_cut_off_in_the_swap_the_next_run_finishes_it(release: Databases) -> None:
    task = "Start the Job: swap"
    assert release.to(17, at={task: ""}, mlflow_rehearse=True).code != 0
    run = release.to(17)
    assert run.code == 0, run.output
    said = " ".join(run.output.split())
    assert "Postgres 17 serves, with all of backup" in said
    release.serves(17)
    assert "pgdata.15" in said
    assert "pgdata.15" in release.folders()
    assert "pgdata.hand-over" not in release.folders()
    assert release.sql("SELECT count(*) FROM pg_database WHERE datname LIKE 'mlflow_%'") == "0"
    # The release is the inventory's: nothing is left to do.
    run = release.to(17, "site.yml")
    assert run.code == 0, run.output
    assert run.changed == 0, run.output


def test_back_only_where_it_is_said(release: Databases) -> None:
    run = release.to(15)
    assert run.code != 0
    assert "mlflow_postgres_go_back=true" in run.output
    release.serves(17)
    release.sql("UPDATE runs SET name = 'written since' WHERE run_uuid = md5('1')")
    run = release.to(15, mlflow_postgres_go_back=True)
    assert run.code == 0, run.output
    release.serves(15)
    assert "pgdata.17" in release.folders()


def test_cut_off_after_the_end_the_next_run_brings_the_release_up(release: Databases) -> None:
    task = "Delete the migration Job, so that it runs again"
    assert release.to(17, at={task: ""}).code != 0
    run = release.to(17)
    assert run.code == 0, run.output
    release.serves(17)
    # What the first upgrade wrote is still there, too.
    assert len([name for name in release.folders() if name.startswith("pgdata.17")]) == 1


def test_where_nothing_is_to_do_nothing_is_done(release: Databases) -> None:
    run = release.to(17)
    assert run.code == 0, run.output
    assert "is of Postgres 17, as the image is" in " ".join(run.output.split())
    release.serves(17)
