# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No module says what the run knows to be a secret: whatever it prints goes through one class."""

from __future__ import annotations

import importlib
import json
import pathlib
import re
import typing as t

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import AUTH_ARG_SPEC
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import KINDS
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.module import Module
from ansible_collections.mlops.mlflow.tests.unit.plugins.fake_api import FakeApi
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.any_core import patch_module_args

FOLDER = pathlib.Path(__file__).parents[4] / "plugins" / "modules"
PACKAGE = "ansible_collections.mlops.mlflow.plugins.modules"
# Those of which the controller's side does all the work have documentation only.
MODULES = sorted(
    path.stem for path in FOLDER.glob("*.py") if "def main(" in path.read_text(encoding="utf-8")
)
SECRET = "Zq7xKp2vWm"
# Those that ask a cluster with little to tell them, and what they need.
ASKING: dict[str, dict[str, t.Any]] = {
    "diagnose": {},
    "mlflow_info": {},
    "wait_for_rollout": {"resources": [{"kind": "Pod", "name": "p"}], "timeout": 5},
    "wait_for_mlflow": {"timeout": 5},
}


@pytest.mark.parametrize("name", MODULES)
def test_each_module_is_of_that_class(name: str) -> None:
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    assert "AnsibleModule" not in text
    assert not re.search(r"\bprint\(|sys\.(?:stdout|stderr)", text)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[FakeApi]:
    """An API server that says the secret in every refusal, and a run that knows it."""
    monkeypatch.delenv("K8S_AUTH_KUBECONFIG", raising=False)
    monkeypatch.setenv("MLFLOW_DATABASE_PASSWORD", SECRET)
    server = FakeApi()
    monkeypatch.setenv("K8S_AUTH_HOST", server.url)
    monkeypatch.setenv("K8S_AUTH_API_KEY", "token")
    yield server
    server.close()


@pytest.mark.parametrize("name", ASKING)
def test_a_refusal_is_told_without_it(
    name: str, server: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    """An admission webhook quotes what it was given, and an API server what it says."""
    refusal = {"kind": "Status", "message": f"refused: {SECRET} is too weak"}
    for kind in KINDS.values():
        server.always["list", kind.path("ns")] = (400, refusal)
    module = importlib.import_module(f"{PACKAGE}.{name}")
    with patch_module_args({"namespace": "ns", **ASKING[name]}), pytest.raises(SystemExit):
        module.main()
    told = capsys.readouterr().out
    assert "is too weak" in told
    assert SECRET not in told


@pytest.mark.parametrize("way", ["exit_json", "fail_json"])
def test_what_is_said_is_redacted_and_data_is_left_alone(
    way: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other tasks take data as it is."""
    monkeypatch.setenv("MLFLOW_KEK_PASSPHRASE", SECRET)
    form = "postgresql://u:pw-of-nobody@db/x"
    with patch_module_args({}), pytest.raises(SystemExit):
        getattr(Module(argument_spec={}), way)(
            msg=f"a {SECRET} b {form}", report=[f"line {SECRET}"], data={"uri": form}
        )
    told = json.loads(capsys.readouterr().out)
    assert SECRET not in json.dumps(told)
    assert "pw-of-nobody" not in told["msg"]
    assert told["data"] == {"uri": form}


def test_an_option_that_is_secret_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    """In every spelling, as in an address."""
    spec = {"password": {"type": "str", "no_log": True}}
    with patch_module_args({"password": "a b/" + SECRET}), pytest.raises(SystemExit):
        Module(argument_spec=spec).fail_json(msg=f"cannot open x://u:a%20b%2F{SECRET}@h")
    assert SECRET not in capsys.readouterr().out


def said_by(
    arguments: dict[str, t.Any], text: str, capsys: pytest.CaptureFixture[str]
) -> dict[str, t.Any]:
    """Return what a module prints that fails with a text."""
    with patch_module_args(arguments), pytest.raises(SystemExit):
        Module(argument_spec=dict(AUTH_ARG_SPEC)).fail_json(msg=text, place=text)
    result: dict[str, t.Any] = json.loads(capsys.readouterr().out)
    return result


def test_where_a_kubeconfig_is_is_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    """To Ansible it is: the words of its path would be masked in what is to be typed."""
    text = "kubectl -n mlflow-prod logs mlflow-1 -c mlflow, of /clusters/mlflow/kubeconfig"
    result = said_by({"kubeconfig": "/clusters/mlflow/kubeconfig"}, text, capsys)
    assert (result["msg"], result["place"]) == (text, text)


def test_of_a_kubeconfig_given_as_such_what_its_users_have_is_secret(
    capsys: pytest.CaptureFixture[str],
) -> None:
    secrets = {key: f"{SECRET}-{key}" for key in ("token", "password", "client-key-data")}
    helper = {"command": "helper", "env": [{"name": "ANY", "value": f"{SECRET}-env"}]}
    config = {"name": "any", "config": {"access-token": f"{SECRET}-provider"}}
    kubeconfig = {
        "current-context": "mlflow",
        "clusters": [{"name": "mlflow", "cluster": {"server": "https://mlflow.example.org"}}],
        "users": [
            {"name": "mlflow", "user": {**secrets, "exec": helper}},
            {"name": "other", "user": {"auth-provider": config}},
            {"name": "empty", "user": None},
        ],
    }
    words = [*secrets.values(), f"{SECRET}-env", f"{SECRET}-provider"]
    text = " ".join(["-c mlflow at https://mlflow.example.org", *words])
    result = said_by({"kubeconfig": kubeconfig, "api_key": "mlflow-key"}, text, capsys)
    for told in (result["msg"], result["place"]):
        assert told.startswith("-c mlflow at https://mlflow.example.org ***")
        assert SECRET not in told
    masked = said_by({"kubeconfig": "mlflow-key", "api_key": "mlflow-key"}, "mlflow-key", capsys)
    assert masked["msg"] == "********"
