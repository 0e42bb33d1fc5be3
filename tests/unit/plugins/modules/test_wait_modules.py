# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The waiting modules from options to result: keys, exit, check mode, documentation."""

from __future__ import annotations

import base64
import functools
import json
import types
import typing as t

import pytest
import yaml
from ansible_collections.mlops.mlflow.plugins.doc_fragments import lease, wait
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import DEFAULTS
from ansible_collections.mlops.mlflow.plugins.modules import wait_for_mlflow, wait_for_rollout
from ansible_collections.mlops.mlflow.tests.unit.plugins.fake_api import FakeApi
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.any_core import patch_module_args

MODULES = [wait_for_rollout, wait_for_mlflow]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[FakeApi]:
    """An empty API server, and no other way to one."""
    monkeypatch.delenv("K8S_AUTH_KUBECONFIG", raising=False)
    server = FakeApi()
    monkeypatch.setenv("K8S_AUTH_HOST", server.url)
    monkeypatch.setenv("K8S_AUTH_API_KEY", "token")
    yield server
    server.close()


def run(
    module: types.ModuleType, capsys: pytest.CaptureFixture[str], **arguments: t.Any
) -> dict[str, t.Any]:
    """Run a module as Ansible does, and return its result."""
    with patch_module_args(arguments), pytest.raises(SystemExit):
        module.main()
    return t.cast(dict[str, t.Any], json.loads(capsys.readouterr().out))


@functools.cache
def documented(module: types.ModuleType) -> set[str]:
    """Return the keys of the module's documented result."""
    return set(yaml.safe_load(module.RETURN))


def arguments_for(module: types.ModuleType) -> dict[str, t.Any]:
    """Return the least that a module needs."""
    if module is wait_for_mlflow:
        return {"namespace": "ns"}
    return {"namespace": "ns", "resources": [{"kind": "Deployment", "name": "web"}]}


@pytest.mark.parametrize("module", MODULES)
def test_every_key_on_failure(
    module: types.ModuleType, server: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    """A failure has all documented keys, and one line of message."""
    arguments = {**arguments_for(module), "timeout": 5, "tolerances": {"not_found": 0}}
    result = run(module, capsys, **arguments)
    assert result["failed"] is True
    assert documented(module) <= set(result)
    assert result["failure"]["reason"] == "not_found"
    assert "\n" not in result["msg"]


@pytest.mark.parametrize("module", MODULES)
def test_check_mode_looks_once_and_never_fails(
    module: types.ModuleType, server: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    """Check mode is one pass."""
    result = run(module, capsys, **arguments_for(module), _ansible_check_mode=True)
    assert "failed" not in result
    assert (result["changed"], result["ready"]) == (False, False)
    assert documented(module) <= set(result)


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"tolerances": {"crashloop": 1}}, "crashloop is not known"),
        ({"tolerances": {"crash_loop": "soon"}}, "crash_loop must be a number"),
        ({"tolerances": {"crash_loop": -1}}, "crash_loop must be a number"),
        ({"timeout": -1}, "timeout must be"),
    ],
)
def test_impossible_options(
    module: types.ModuleType,
    wrong: dict[str, t.Any],
    says: str,
    server: FakeApi,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What cannot be meant is refused before any request."""
    result = run(module, capsys, **arguments_for(module), **wrong)
    assert says in result["msg"]
    assert documented(module) <= set(result)
    assert server.requests == []


def test_definitions(server: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    """Of what was applied, only what has something to wait for is waited for."""
    pods = "/api/v1/namespaces/ns/pods"
    done = {"metadata": {"name": "p", "namespace": "ns"}, "status": {"phase": "Succeeded"}}
    server.put(pods, done)
    definition = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "ns"}},
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns"}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "ns"}},
    ]
    result = run(wait_for_rollout, capsys, definition=definition, timeout=5)
    assert [entry["status"] for entry in result["resources"]] == ["ready"] * 3
    assert result["changed"] is False


def test_a_first_deployment_is_one_wait(
    server: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    """Database, migration and server, each once; the one that is not there is named."""
    server.put("/api/v1/namespaces/ns/pods", {"metadata": {"name": "p", "namespace": "ns"}})
    definition = [
        {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "ns"}}
        for version, kind, name in (
            ("apps/v1", "StatefulSet", "postgres"),
            ("v1", "Service", "postgres"),
            ("batch/v1", "Job", "mlflow-migration"),
        )
    ]
    result = run(
        wait_for_mlflow,
        capsys,
        namespace="ns",
        migration_job="mlflow-migration",
        definition=definition,
        timeout=5,
        tolerances={"not_found": 0},
    )
    assert [(found["kind"], found["name"]) for found in result["resources"]] == [
        ("StatefulSet", "postgres"),
        ("Service", "postgres"),
        ("Job", "mlflow-migration"),
        ("Deployment", "mlflow"),
    ]
    assert result["failure"]["kind"] == "StatefulSet"


def test_custom_resource(server: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    """A custom resource is found by its kind, and judged by its conditions."""
    server.always["list", "/apis/example.com/v1"] = (
        200,
        {"resources": [{"name": "things", "kind": "Thing", "namespaced": True}]},
    )
    ready = [{"type": "Ready", "status": "True"}]
    thing = {"metadata": {"name": "t", "namespace": "ns"}, "status": {"conditions": ready}}
    server.put("/apis/example.com/v1/namespaces/ns/things", thing)
    wanted = {"api_version": "example.com/v1", "kind": "Thing", "name": "t", "namespace": "ns"}
    assert run(wait_for_rollout, capsys, resources=[wanted], timeout=5)["ready"]
    wanted["kind"] = "Other"
    server.requests.clear()
    result = run(wait_for_rollout, capsys, resources=[wanted], timeout=5)
    assert "no kind Other" in result["msg"]


def test_the_rule_for_a_kind_is_taken(server: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    """The user's word counts, also against a condition that the kind has."""
    server.always["list", "/apis/example.com/v1"] = (
        200,
        {"resources": [{"name": "things", "kind": "Thing", "namespaced": True}]},
    )
    status = {"conditions": [{"type": "Ready", "status": "True"}], "stage": "broken"}
    thing = {"kind": "Thing", "metadata": {"name": "t", "namespace": "ns"}, "status": status}
    server.put("/apis/example.com/v1/namespaces/ns/things", thing)
    wanted = {"api_version": "example.com/v1", "kind": "Thing", "name": "t", "namespace": "ns"}
    rule = {"kind": "Thing", "field": "status.stage", "value": "done", "failed": ["broken"]}
    result = run(wait_for_rollout, capsys, resources=[wanted], conditions=[rule], timeout=5)
    assert result["failure"]["reason"] == "progress_deadline"
    assert "status.stage is broken" in result["msg"]
    rule = {"kind": "Thing", "field": "status.stage", "value": "broken"}
    assert run(wait_for_rollout, capsys, resources=[wanted], conditions=[rule], timeout=5)["ready"]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"kind": "a b", "condition": "Ready"}, "conditions[0].kind: must be a kind"),
        ({"kind": "Thing"}, "conditions[0].condition: give the type of a condition"),
        ({"kind": "Thing", "condition": "A", "field": "status.b"}, "conditions[0].field: give"),
        ({"kind": "Thing", "field": "phase", "value": "x"}, "conditions[0].field: must be a path"),
        ({"kind": "Thing", "field": "status.phase"}, "conditions[0].value: must be given"),
        ({"kind": "Thing", "condition": "A", "value": "yes"}, "conditions[0].value: of a"),
        ({"kind": "Thing", "condition": "A", "failed": ["True"]}, "conditions[0].failed: True"),
    ],
)
def test_an_impossible_rule_is_named(
    wrong: dict[str, t.Any], says: str, server: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, with the field."""
    for module in MODULES:
        arguments = {**arguments_for(module), "conditions": [wrong]}
        result = run(module, capsys, **arguments)
        assert says in result["msg"]
        assert "\n" not in result["msg"]
        assert server.requests == []


def test_nothing_to_wait_for_in_a_secret(
    server: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    """A kind that is never ready is refused when it is asked for by name."""
    result = run(wait_for_rollout, capsys, resources=[{"kind": "Secret", "name": "s"}])
    assert "nothing to wait for" in result["msg"]


def test_mlflow_credentials_are_not_sent_to_kubernetes(
    server: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    """username and password are MLflow's."""
    run(
        wait_for_mlflow,
        capsys,
        namespace="ns",
        username="admin",
        password="long-enough-1",
        timeout=5,
        tolerances={"not_found": 0},
    )
    sent = {value for _path, _query, headers in server.requests for value in headers.values()}
    assert "Bearer token" in sent
    assert not any("Basic" in value for value in sent)


def test_an_unreachable_cluster_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing of the library's wrapping is shown."""
    from ansible_collections.mlops.mlflow.plugins.module_utils._wait import watch

    monkeypatch.setattr(watch, "FIRST_ANSWER", 0.2)
    monkeypatch.delenv("K8S_AUTH_KUBECONFIG", raising=False)
    result = run(
        wait_for_rollout,
        capsys,
        **arguments_for(wait_for_rollout),
        host="http://127.0.0.1:9",
        api_key="x",
    )
    assert result["msg"].startswith("the API server http://127.0.0.1:9 does not answer")
    assert documented(wait_for_rollout) <= set(result)


@pytest.mark.parametrize("module", MODULES)
def test_documentation_parses(module: types.ModuleType) -> None:
    """Options that are documented exist, and the other way round."""
    own = yaml.safe_load(module.DOCUMENTATION)["options"]
    shared = {
        name: option
        for fragment in (lease, wait)
        for name, option in yaml.safe_load(fragment.ModuleDocFragment.DOCUMENTATION)[
            "options"
        ].items()
    }
    spec = module.argument_spec()
    from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_SPEC

    assert set(spec) == {*own, *shared, *AUTH_ARG_SPEC}
    for name, option in {**shared, **own}.items():
        assert option.get("default") == spec[name].get("default"), name
        assert option["type"] == spec[name]["type"], name
    assert yaml.safe_load(module.EXAMPLES)


def test_tolerances_are_documented() -> None:
    """Every reason, with its default."""
    options = yaml.safe_load(wait.ModuleDocFragment.DOCUMENTATION)["options"]
    text = " ".join(options["tolerances"]["description"])
    for reason, seconds in DEFAULTS.items():
        assert f"V({reason})" in text
        assert f"({seconds:g}" in text


SECRET = "/api/v1/namespaces/ns/secrets/mlflow-credentials"


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (404, None, "credentials_secret:"),
        (200, {"data": {"admin-username": "YWRtaW4="}}, "has no usable key admin-password"),
        (
            200,
            {"data": {"admin-username": "YWRtaW4=", "admin-password": "%%%"}},
            "has no usable key admin-password",
        ),
    ],
)
def test_credentials_that_are_not_there(
    status: int,
    body: t.Any,
    says: str,
    server: FakeApi,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Told at once, with the key."""
    server.next_answer("list", SECRET, status, body)
    result = run(wait_for_mlflow, capsys, namespace="ns", credentials_secret="mlflow-credentials")
    assert says in result["msg"]
    assert documented(wait_for_mlflow) <= set(result)


def test_credentials_from_a_secret_are_in_no_result(
    server: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever a pod says of itself, the password is not repeated."""
    password = "correct-horse-battery"
    encoded = base64.b64encode(password.encode()).decode()
    server.next_answer(
        "list", SECRET, 200, {"data": {"admin-username": "YWRtaW4=", "admin-password": encoded}}
    )
    deployment = "/apis/apps/v1/namespaces/ns/deployments"
    metadata = {"name": "mlflow", "namespace": "ns", "generation": 1, "uid": "u"}
    condition = {
        "type": "Progressing",
        "status": "False",
        "reason": "ProgressDeadlineExceeded",
        "message": f"cannot log in with {password}",
    }
    server.put(
        deployment,
        {
            "metadata": metadata,
            "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}},
            "status": {"observedGeneration": 1, "conditions": [condition]},
        },
    )
    result = run(
        wait_for_mlflow,
        capsys,
        namespace="ns",
        credentials_secret="mlflow-credentials",
        timeout=60,
    )
    assert result["failure"]["reason"] == "progress_deadline"
    assert "cannot log in" in json.dumps(result)
    assert password not in json.dumps(result)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mlflow:5000", "must start with http"),
        ("ftp://mlflow", "must start with http"),
        ("http://", "names no host"),
        ("http://:5000", "names no host"),
        ("http://my flow:5000", "names no host"),
        ("http://mlflow:0", "names no host"),
        ("http://mlflow:port", "is no address"),
        ("http://mlflow:70000", "is no address"),
        ("http://[::1", "is no address"),
        ("http://me:s3cr3t-word@mlflow", "give them as username and password"),
        ("http://mlflow/?a=b", "no query"),
        ("http://mlflow/#top", "no query"),
    ],
)
def test_an_impossible_url_is_named_before_the_start(
    url: str, says: str, server: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    """And not repeated: there may be a password in it."""
    result = run(wait_for_mlflow, capsys, namespace="ns", url=url, timeout=5)
    assert result["msg"].startswith("url: ")
    assert says in result["msg"]
    assert "s3cr3t-word" not in result["msg"]
    assert server.requests == []


@pytest.mark.parametrize(
    "url", ["http://mlflow:5000", "https://m.example/prefix/", "http://[::1]:5"]
)
def test_a_possible_url_is_none(url: str) -> None:
    assert wait_for_mlflow.wrong_url(url) == ""
