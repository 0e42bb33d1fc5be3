"""Backup, restore test and restore of a Postgres of somebody else's, as with external-postgres.

Over TLS only, its certificate verified in full, by a role that owns its database and no superuser.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._backup import catalogue
from ansible_collections.mlops.mlflow.tests.integration.backup.test_script import (
    Script,
    manifest,
    quoted,
)
from ansible_collections.mlops.mlflow.tests.integration.schema_helper.conftest import (
    PASSWORD,
    PYTHON,
    SCRIPT,
    Postgres,
    Server,
)

HOST = "localhost"
TENANT = "tenant"
EXPECTED = catalogue.Expected("here", "s3://artifacts/mlflow")


def certificate(folder: Path, host: str) -> tuple[Path, Path]:
    """Make a certificate that vouches for itself; return it and its key."""
    made = folder / f"{host}.crt", folder / f"{host}.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", f"/CN={host}"),
            *("-addext", f"subjectAltName=DNS:{host}"),
            *("-out", str(made[0]), "-keyout", str(made[1])),
        ],
        check=True,
        capture_output=True,
    )
    return made


class External(Script):
    """The script as the component external-postgres has it run."""

    def __init__(self, postgres: Postgres, folder: Path, ca: Path) -> None:
        super().__init__(postgres, folder)
        self.where = {
            "PGHOST": HOST,
            "PGSSLMODE": "verify-full",
            "PGSSLROOTCERT": str(ca),
            "PGUSER": TENANT,
            "MLFLOW_BACKEND_STORE_URI": "postgresql+psycopg2:///mlflow",
        }
        self.environment |= {**self.where, "MLFLOW_ARTIFACTS_DESTINATION": EXPECTED.artifact_store}
        # As the pod's first container leaves it.
        known = subprocess.run(
            [PYTHON, str(SCRIPT), "revisions"], check=True, capture_output=True, text=True
        )
        Path(self.environment["BACKUP_IMAGE_FILE"]).write_text(known.stdout)

    def state(self) -> str:
        """What MLflow's own helper says of the live database, asked the same way."""
        where = {**self.where, "PGPORT": str(self.postgres.port)}
        return self.postgres.helper("status", "mlflow", PYTHON, **where).state

    def refused(self, name: str) -> str:
        """Why a restore would not be begun."""
        report = catalogue.parse(self.good("check", BACKUP_NAME=name).splitlines())
        return "; ".join(catalogue.refusals(report, EXPECTED))

    def owners(self) -> dict[str, str]:
        rows = self.postgres.run(
            "postgres", "SELECT datname, datdba::regrole::text FROM pg_database"
        )
        return {name: owner for name, owner in rows if name in self.databases()}


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Postgres, Path]]:
    """A Postgres that takes nothing but TLS, and the CA of its certificate."""
    folder = Path(tempfile.mkdtemp(prefix="mlops-mlflow-postgres-"))
    server = Server(folder)
    server.initialise()
    ca, key = certificate(folder, HOST)
    for made, name in ((ca, "server.crt"), (key, "server.key")):
        shutil.copyfile(made, server.data / name)
        (server.data / name).chmod(0o600)
        if server.user:
            shutil.chown(server.data / name, server.user)
    with (server.data / "postgresql.conf").open("a") as configuration:
        configuration.write("ssl = on\n")
    (server.data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
    server.start()
    try:
        yield Postgres(server), ca
    finally:
        server.stop("immediate")
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def external(served: tuple[Postgres, Path], tmp_path_factory: pytest.TempPathFactory) -> External:
    postgres, ca = served
    postgres.run("postgres", f"CREATE ROLE {TENANT} LOGIN CREATEDB PASSWORD {quoted(PASSWORD)}")
    postgres.run("postgres", f"CREATE DATABASE mlflow OWNER {TENANT}")
    made = External(postgres, tmp_path_factory.mktemp("external"), ca)
    where = {**made.where, "PGPORT": str(postgres.port)}
    assert postgres.helper("migrate", "mlflow", PYTHON, **where).status == 0
    assert made.state() == "at_head"
    return made


def test_it_is_restored_as_it_was_by_a_role_that_is_no_superuser(external: External) -> None:
    postgres = external.postgres
    postgres.run("mlflow", "INSERT INTO experiment_tags VALUES ('kept', 'yes', 0)")
    before = postgres.contents("mlflow")
    name = external.take()
    assert manifest(external, name)["databases"][0]["rows"]["experiment_tags"] == 1
    report = catalogue.parse(external.good("test", BACKUP_NAME=name).splitlines())
    assert report.backups[0].tested
    assert report.backups[0].tested.ok
    assert external.owners() == {"mlflow": TENANT}

    postgres.run("mlflow", "DELETE FROM experiment_tags")
    postgres.run("mlflow", "INSERT INTO experiment_tags VALUES ('b', 'x', 0), ('c', 'x', 0)")
    report = catalogue.parse(external.good("since", BACKUP_NAME=name).splitlines())
    assert catalogue.since(report) == {"experiment_tags": 1}
    assert external.refused(name) == ""
    external.good("prepare", BACKUP_NAME=name)
    # A server's connection: whoever else is in the database is put out of it.
    left = postgres.connect("mlflow", TENANT)
    external.good("swap", BACKUP_NAME=name)
    left.close()
    assert postgres.contents("mlflow") == before
    assert external.state() == "at_head"
    owners = external.owners()
    assert set(owners.values()) == {TENANT}
    (replaced,) = owners.keys() - {"mlflow"}
    assert replaced.startswith("mlflow_before_")
    # What it makes from now on is its own, as before.
    postgres.run("mlflow", f"SET ROLE {TENANT}", "CREATE TABLE more (id int)", "DROP TABLE more")
    external.good("forget")
    assert external.owners() == {"mlflow": TENANT}


def test_without_createdb_backups_go_on_and_a_restore_is_not_begun(external: External) -> None:
    external.postgres.run("postgres", f"ALTER ROLE {TENANT} NOCREATEDB")
    name = external.take()
    output = external.good("test", BACKUP_NAME=name)
    assert f"{name} was not tested" in output
    cure = 'ALTER ROLE "tenant" CREATEDB'
    assert cure in output
    assert external.refused(name) == (
        "role tenant may not create databases, which a restore and its test need; have an "
        f"administrator run: {cure}"
    )
    # What it says to type is what helps.
    external.postgres.run("postgres", cure)
    assert external.refused(name) == ""
    external.good("test", BACKUP_NAME=name)
    assert json.loads((external.folder / name / "tested.json").read_text())["ok"] is True
    assert external.owners() == {"mlflow": TENANT}


@pytest.mark.parametrize("wrong", ["ca", "host", "plain"])
def test_nothing_is_read_from_a_server_that_is_not_known(
    wrong: str, external: External, tmp_path: Path
) -> None:
    changes = {
        "ca": {"PGSSLROOTCERT": str(certificate(tmp_path, HOST)[0])},
        # The certificate is for a name.
        "host": {"PGHOST": "127.0.0.1"},
        "plain": {"PGSSLMODE": "disable"},
    }[wrong]
    before = external.names()
    done = external.run("backup", **changes)
    assert done.returncode != 0
    words = {"ca": "certificate verify failed", "host": "does not match", "plain": "no encryption"}
    assert words[wrong] in done.stderr
    assert external.names() == before
    assert not list(external.folder.glob(".taking-*"))
