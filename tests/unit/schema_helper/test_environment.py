"""What the schema helper takes from its environment, and what it keeps to itself."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.places import SPELLINGS

SCRIPT = Path(__file__).parents[3] / "kustomize" / "base" / "schema.py"
URI = "postgresql+psycopg2://db:5432/mlflow"

needs_driver = pytest.mark.skipif(
    importlib.util.find_spec("psycopg2") is None, reason="psycopg2 is not installed"
)
needs_mlflow = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None or importlib.util.find_spec("sqlalchemy") is None,
    reason="MLflow is not installed",
)


def auth_file(path: Path, uri: str) -> str:
    """Write a basic-auth INI file, and return its path."""
    path.write_text(f"[mlflow]\ndatabase_uri = {uri}\n", encoding="utf-8")
    return str(path)


@needs_driver
def test_the_addresses_come_from_the_environment_or_a_file(
    schema: ModuleType, tmp_path: Path
) -> None:
    file = tmp_path / "uri"
    file.write_text(f"{URI}\n", encoding="utf-8")
    assert schema.addresses({"MLFLOW_BACKEND_STORE_URI": URI}) == {"tracking": URI}
    assert schema.addresses({"MLFLOW_BACKEND_STORE_URI_FILE": str(file)}) == {"tracking": URI}
    direct = URI.replace("db:", "direct:")
    assert schema.addresses(
        {"MLFLOW_BACKEND_STORE_URI": URI, "MLOPS_SCHEMA_DIRECT_URI": direct}
    ) == {"tracking": direct}


@needs_driver
def test_basic_auths_address_comes_from_its_file(schema: ModuleType, tmp_path: Path) -> None:
    path = auth_file(tmp_path / "auth.ini", "postgresql+psycopg2://u:a%%2Fb@db/auth")
    found = schema.addresses({"MLFLOW_BACKEND_STORE_URI": URI, "MLFLOW_AUTH_CONFIG_PATH": path})
    assert found == {"tracking": URI, "auth": "postgresql+psycopg2://u:a%2Fb@db/auth"}


@needs_driver
def test_the_driver_is_named(schema: ModuleType) -> None:
    assert schema.driver_named("tracking", "postgresql://db/m") == "postgresql+psycopg2://db/m"
    assert schema.driver_named("tracking", "postgres://db/m") == "postgresql+psycopg2://db/m"


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "MLFLOW_BACKEND_STORE_URI is not set"),
        ({"MLFLOW_BACKEND_STORE_URI": ""}, "MLFLOW_BACKEND_STORE_URI is not set"),
        ({"MLFLOW_BACKEND_STORE_URI_FILE": "/nowhere"}, "_FILE cannot be read: /nowhere"),
        ({"MLFLOW_BACKEND_STORE_URI": "sqlite:///m.db"}, "not a postgresql:// address"),
        ({"MLFLOW_BACKEND_STORE_URI": "no address"}, "not a postgresql:// address"),
        ({"MLFLOW_BACKEND_STORE_URI": "postgresql+none_such://db/m"}, "no Postgres driver"),
        (
            {"MLFLOW_BACKEND_STORE_URI": URI, "MLFLOW_AUTH_CONFIG_PATH": "/nowhere"},
            "/nowhere (MLFLOW_AUTH_CONFIG_PATH) cannot be read",
        ),
    ],
)
def test_a_wrong_environment_is_named(
    schema: ModuleType, environment: dict[str, str], message: str
) -> None:
    with pytest.raises(schema.UsageError) as caught:
        schema.addresses(environment)
    assert message in str(caught.value)


def test_a_broken_auth_file_is_not_repeated(schema: ModuleType, tmp_path: Path) -> None:
    path = auth_file(tmp_path / "auth.ini", "postgresql://u:hunter%2Ftwo@db/auth")  # % not doubled
    with pytest.raises(schema.UsageError) as caught:
        schema.addresses({"MLFLOW_BACKEND_STORE_URI": URI, "MLFLOW_AUTH_CONFIG_PATH": path})
    assert "must be doubled" in str(caught.value)
    assert "hunter" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("text", ["soon", "-1", "inf", "nan", "1e99"])
def test_a_wrong_timeout_is_refused(schema: ModuleType, text: str) -> None:
    with pytest.raises(schema.UsageError, match="MLOPS_SCHEMA_TIMEOUT"):
        schema._timeout({"MLOPS_SCHEMA_TIMEOUT": text})


def test_the_timeout_has_a_default(schema: ModuleType) -> None:
    assert schema._timeout({}) == 900
    assert schema._timeout({"MLOPS_SCHEMA_TIMEOUT": "0.5"}) == 0.5


@pytest.mark.parametrize("password", ["s3cr%t/p@ss", "a b+c", "plain", "p:q", "ü&=?"])
def test_a_password_is_never_repeated(schema: ModuleType, password: str) -> None:
    from urllib.parse import quote, quote_plus

    uri = f"postgresql://u:{quote(password, safe='')}@db/m"
    secrets = schema.passwords({"PGPASSWORD": password}, [uri])
    for text in (
        f"cannot open {uri}",
        f"password is {password}.",
        f"in a query: {quote_plus(password)}",
        f"postgresql+psycopg2://u:{quote(password)}@db/m",
    ):
        found = schema.redact(text, secrets)
        assert "***" in found
        assert password not in found and quote(password, safe="") not in found


def test_an_unknown_address_loses_its_password_too(schema: ModuleType) -> None:
    assert schema.redact("at postgresql://u:pw@db/m", ()) == "at postgresql://u:***@db/m"
    assert schema.redact("at http://mlflow:5000/x", ()) == "at http://mlflow:5000/x"
    assert schema.passwords({}, ["postgresql://db/m?user=u&password=a%2Fb"]) == {"a/b"}


@pytest.mark.parametrize(
    "password", ["s3cr%t/p@ss+x", "Zq7x Kp2v'Wm\"9", "pü&=?€;`\\\\n", "Zq7xKp2vWm"]
)
@pytest.mark.parametrize("name", SPELLINGS)
def test_a_password_is_masked_in_every_spelling(
    schema: ModuleType, name: str, password: str
) -> None:
    spelt = SPELLINGS[name](password)
    shown = schema.redact(f"it failed\n{spelt}\nand went on", {password})
    assert spelt not in shown
    assert "***" in shown
    assert shown.startswith("it failed\n") and shown.endswith("and went on")


@pytest.mark.parametrize(
    "text",
    [
        'could not translate host name "Zq7xKp2v@db" to address: Name or service not known',
        "PGPASSWORD=ab&Zq7xKp2v",
        "password=ab;Zq7xKp2v dbname=x",
        "DB_PASSWORD=ab,Zq7xKp2v",
        'DB_PASSWORD=ab"Zq7xKp2v',
        "host=db password='a\\'Zq7xKp2v' dbname=x",
        "postgresql://user@server:Zq7xKp2v@db.postgres.database.azure.com/x",
        "postgresql://u:1234/Zq7xKp2v@db/x",
        "postgresql://u:pa'Zq7xKp2v@db/x",
        'postgresql://u:pa"Zq7xKp2v@db/x',
        "connecting to mlflow:Zq7xKp2v@postgres:5432/mlflow",
        '{"uri":"postgresql:\\/\\/u:Zq7xKp2v@h\\/db"}',
        "Cookie: a=b; sessionid=Zq7xKp2v",
        "[parameters: ('admin', 'scrypt:32768:8:1$x$Zq7xKp2v', True)]",
        "ALTER ROLE x ENCRYPTED PASSWORD E'Zq7xKp2v'",
        "MIIEvQZq7xKp2v\nZq7xKp2vZq7xKp2v\n-----END PRIVATE KEY-----",
        '{"password": "Zq7xKp2v", "a": 1}',
        "{'password': 'Zq7xKp2v'}",
        "connect(host='h', password=\"Zq7xKp2v\")",
        "Authorization: Basic Zq7xKp2v9",
    ],
)
def test_an_unknown_password_is_masked_by_its_form(schema: ModuleType, text: str) -> None:
    assert "Zq7x" not in schema.redact(text, ())


@pytest.mark.parametrize(
    "text",
    [
        'FATAL:  password authentication failed for user "mlflow"',
        'connection to server at "10.0.0.1", port 5432 failed: Connection refused',
        "blocked by session 7 (application 'x', user u from 10.0.0.1, idle in transaction)",
        "MLFLOW_BACKEND_STORE_URI_FILE cannot be read: /nowhere",
        "image ghcr.io/mlflow/mlflow:3.17.2@sha256:0a0a0a0a0a0a",
        'database "mlflow" does not exist',
        "tracking behind at b7e2c1a4d9f3, head dc11669786a5",
    ],
)
def test_what_explains_is_kept(schema: ModuleType, text: str) -> None:
    assert schema.redact(text, {"Zq7xKp2v"}) == text


@pytest.mark.parametrize("arguments", [[], ["upgrade"], ["status", "wait"], ["--help"]])
def test_wrong_arguments(
    schema: ModuleType, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert schema.main(arguments) == 2
    assert (
        "usage: schema.py {status,compare,wait,migrate,rehearse,revisions}"
        in capsys.readouterr().err
    )


def test_what_an_image_knows_is_told_without_a_database(
    schema: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "version.py").write_text('VERSION = "3.17.2"\n')
    for one, tables in (
        (schema.TRACKING, ("experiments", "runs", "tags", "metrics", "params")),
        (schema.AUTH, ("users",)),
    ):
        versions = tmp_path / one.script_dir / "versions"
        versions.mkdir(parents=True)
        (versions / "a.py").write_text('revision = "a"\ndown_revision = None\n')
        (versions / "b.py").write_text('revision = "b"\ndown_revision = "a"\n')
        models = tmp_path / one.models[0]
        models.parent.mkdir(parents=True, exist_ok=True)
        models.write_text("".join(f'class X:\n    __tablename__ = "{name}"\n' for name in tables))
    monkeypatch.setattr(schema, "package_dir", lambda: tmp_path)
    assert schema.main(["revisions"]) == 0
    known = {"head": "b", "known": ["a", "b"]}
    assert json.loads(capsys.readouterr().out) == {
        "mlflow": "3.17.2",
        "tracking": known,
        "auth": known,
    }


def test_the_verdict_is_left_for_kubernetes_but_not_by_status(
    schema: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = tmp_path / "termination-log"
    log.touch()
    monkeypatch.setenv("MLOPS_SCHEMA_TERMINATION_LOG", str(log))
    verdicts = {"tracking": schema.Verdict("behind", "r1", "r3", "x" * 9000)}
    schema.report("status", verdicts)
    assert log.read_text(encoding="utf-8") == ""
    schema.report("wait", verdicts)
    line = log.read_text(encoding="utf-8")
    assert len(line) < 4096  # Kubernetes cuts what is longer
    assert json.loads(line)["tracking"]["state"] == "behind"
    assert capsys.readouterr().out.splitlines()[-1] == line


@needs_mlflow
def test_a_usage_error_is_a_verdict_too() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "status"],
        env={"PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    verdict = json.loads(done.stdout.splitlines()[-1])
    assert verdict["tracking"]["detail"] == "MLFLOW_BACKEND_STORE_URI is not set"


@needs_mlflow
@needs_driver
@pytest.mark.parametrize("command", ["status", "wait", "migrate"])
def test_an_unreachable_database(command: str) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), command],
        env={
            "PATH": "",
            "MLFLOW_BACKEND_STORE_URI": "postgresql+psycopg2://u:hunter2@127.0.0.1:1/m",
            "MLOPS_SCHEMA_TIMEOUT": "0",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert json.loads(done.stdout.splitlines()[-1])["tracking"]["state"] == "unreachable"
    assert "hunter2" not in done.stdout + done.stderr
