# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""mlflow_pod and mlflow_service are held against what Kubernetes takes, before it is asked."""

from __future__ import annotations

import builtins
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.action.release_variables import role_specs
from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory import pod, types
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SPECS = role_specs(["mlflow"])
GOOD: dict[str, Any] = {
    "labels": {"azure.workload.identity/use": "true", "team": "vision"},
    "annotations": {"sidecar.istio.io/inject": "false"},
    "serviceAccountAnnotations": {
        "eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/mlflow"
    },
    "nodeSelector": {"pool": "data"},
    "tolerations": [
        {"key": "dedicated", "operator": "Equal", "value": "data", "effect": "NoSchedule"},
        {"operator": "Exists"},
        {"key": "spot", "tolerationSeconds": 60, "operator": "Exists", "effect": "NoExecute"},
    ],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}
                ]
            }
        },
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {
                    "weight": 100,
                    "podAffinityTerm": {
                        "topologyKey": "kubernetes.io/hostname",
                        "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "mlflow"}},
                    },
                }
            ]
        },
    },
    "priorityClassName": "high",
    "imagePullSecrets": [{"name": "registry"}],
    "env": [
        {"name": "HTTPS_PROXY", "value": "http://proxy.example.org:3128"},
        {
            "name": "OPENAI_API_KEY",
            "valueFrom": {"secretKeyRef": {"name": "provider", "key": "api-key"}},
        },
        {"name": "REGION", "valueFrom": {"configMapKeyRef": {"name": "cloud", "key": "region"}}},
    ],
    "envFrom": [
        {"secretRef": {"name": "provider"}},
        {"configMapRef": {"name": "c"}, "prefix": "P_"},
    ],
    "volumes": [
        {"name": "ca", "configMap": {"name": "ca", "items": [{"key": "a", "path": "a"}]}},
        {"name": "client", "secret": {"secretName": "client", "defaultMode": 0o440}},
        {
            "name": "token",
            "projected": {"sources": [{"serviceAccountToken": {"path": "t", "audience": "a"}}]},
        },
    ],
    "volumeMounts": [{"name": "ca", "mountPath": "/etc/ca", "readOnly": True}],
    "containers": [
        {
            "name": "log-shipper",
            "image": "registry.example.org/log-shipper:1.4",
            "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"cpu": 1}},
            "readinessProbe": {"httpGet": {"path": "/", "port": 8080}},
        }
    ],
    "initContainers": [
        {
            "name": "cloud-sql-proxy",
            "image": "gcr.example.org/proxy:2",
            "restartPolicy": "Always",
            "args": ["--port=5432"],
            "startupProbe": {"tcpSocket": {"port": "db"}, "periodSeconds": 1},
        }
    ],
}


def problems(given_pod: Any, **more: Any) -> list[str]:
    values = {"mlflow_pod": given_pod, **more}
    good, wrong = types.check_types({"mlflow_pod": SPECS["mlflow_pod"]}, values)
    return wrong or list(pod.check_pod({**more, **good}))


def test_what_kubernetes_takes_passes() -> None:
    assert problems(GOOD) == []
    assert problems({}) == []
    for key, value in GOOD.items():
        if key != "volumeMounts":
            assert problems({key: value}) == [], key


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"label": {}}, "mlflow_pod.label: no such key; did you mean labels?"),
        ({"labels": {"a": 1}}, "mlflow_pod.labels.a: must be a string, not a number (put it in q"),
        ({"labels": {"a": "b c"}}, "mlflow_pod.labels.a: 'b c' is not the value of a label"),
        ({"labels": {"a b": "c"}}, "mlflow_pod.labels: 'a b' is not the name of a label"),
        ({"labels": {"mlops.mlflow/a": "b"}}, "mlflow_pod.labels.mlops.mlflow/a: is the release's"),
        (
            {"labels": {"app.kubernetes.io/part-of": "b"}},
            "mlflow_pod.labels.app.kubernetes.io/part-of: is the release's own",
        ),
        ({"annotations": {"a": True}}, "mlflow_pod.annotations.a: must be a string"),
        ({"nodeSelector": ["a"]}, "mlflow_pod.nodeSelector: must be a mapping"),
        ({"tolerations": {"key": "a"}}, "mlflow_pod.tolerations: must be a list"),
        ({"tolerations": ["a"]}, "mlflow_pod.tolerations[0]: must be a mapping"),
        (
            {"tolerations": [{"key": "a", "operator": "Is"}]},
            "mlflow_pod.tolerations[0].operator: must be one of Exists, Equal",
        ),
        ({"tolerations": [{"kee": "a"}]}, "mlflow_pod.tolerations[0].kee: no such field; did you"),
        ({"tolerations": [{"effect": "NoSchedule"}]}, "mlflow_pod.tolerations[0]: has no key"),
        (
            {"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]},
            "mlflow_pod.tolerations[0]: has a value, which the operator Exists",
        ),
        ({"affinity": {"nodeAfinity": {}}}, "mlflow_pod.affinity.nodeAfinity: no such field; did"),
        (
            {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{}]}}},
            "mlflow_pod.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0]"
            ".topologyKey: is not set",
        ),
        ({"priorityClassName": ["a"]}, "mlflow_pod.priorityClassName: must be a string"),
        ({"imagePullSecrets": ["a"]}, "mlflow_pod.imagePullSecrets[0]: must be a mapping"),
        ({"imagePullSecrets": [{}]}, "mlflow_pod.imagePullSecrets[0].name: is not set"),
        ({"env": {"A": "b"}}, "mlflow_pod.env: must be a list"),
        ({"env": [{"value": "a"}]}, "mlflow_pod.env[0].name: is not set"),
        (
            {"env": [{"name": "A", "value": 1}]},
            "mlflow_pod.env[0].value: must be a string, not a n",
        ),
        ({"env": [{"name": "A-B", "value": "1"}]}, "mlflow_pod.env[0].name: 'A-B' is not the name"),
        (
            {"env": [{"name": "OPENAI_API_KEY", "value": "hunter22"}]},
            "mlflow_pod.env[0].value: OPENAI_API_KEY is a secret by its name",
        ),
        (
            {"env": [{"name": "A", "valueFrom": {"secretRef": {"name": "a"}}}]},
            "mlflow_pod.env[0].valueFrom.secretRef: no such field; did you mean secretKeyRef?",
        ),
        (
            {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "a"}}}]},
            "mlflow_pod.env[0].valueFrom.secretKeyRef.key: is not set",
        ),
        (
            {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"key": "a"}}}]},
            "mlflow_pod.env[0].valueFrom.secretKeyRef.name: is not set",
        ),
        (
            {"env": [{"name": "A", "value": "b", "valueFrom": {"fieldRef": {"fieldPath": "c"}}}]},
            "mlflow_pod.env[0]: A has both",
        ),
        ({"env": [{"name": "A", "valueFrom": {}}]}, "mlflow_pod.env[0].valueFrom: must name one"),
        ({"env": [{"name": "A"}, {"name": "A"}]}, "mlflow_pod.env[1]: A is there twice"),
        (
            {"env": [{"name": "MLFLOW_STATIC_PREFIX", "value": "/a"}]},
            "mlflow_pod.env[0]: MLFLOW_STATIC_PREFIX: set mlflow_static_prefix",
        ),
        ({"envFrom": [{"secretRef": {}}]}, "mlflow_pod.envFrom[0].secretRef.name: is not set"),
        ({"envFrom": [{"prefix": "A"}]}, "mlflow_pod.envFrom[0]: must name one source, not 0"),
        ({"volumes": [{"name": "a"}]}, "mlflow_pod.volumes[0]: must have one source, not 0"),
        (
            {"volumes": [{"name": "A", "emptyDir": {}}]},
            "mlflow_pod.volumes[0].name: 'A' is not a name",
        ),
        (
            {"volumes": [{"name": "a", "secret": {"name": "b"}}]},
            "mlflow_pod.volumes[0].secret.name: no such field",
        ),
        (
            {"volumes": [{"name": "a", "secret": {"secretName": "b", "defaultMode": "0440"}}]},
            "mlflow_pod.volumes[0].secret.defaultMode: must be a whole number",
        ),
        (
            {
                "volumes": [{"name": "ca", "emptyDir": {}}],
                "volumeMounts": [{"name": "cs", "mountPath": "/a"}],
            },
            "mlflow_pod.volumeMounts[0].name: mlflow_pod.volumes has no 'cs'",
        ),
        ({"volumeMounts": [{"name": "a"}]}, "mlflow_pod.volumeMounts[0].mountPath: is not set"),
        ({"containers": [{"image": "a"}]}, "mlflow_pod.containers[0].name: is not set"),
        ({"containers": [{"name": "a"}]}, "mlflow_pod.containers[0].image: is not set"),
        (
            {"containers": [{"name": "a", "image": "b", "restartPolicy": "Always"}]},
            "mlflow_pod.containers[0].restartPolicy: is for initContainers",
        ),
        (
            {"containers": [{"name": "a", "image": "b", "resources": {"limits": {"cpu": "x"}}}]},
            "mlflow_pod.containers[0].resources.limits.cpu: 'x' is not a quantity",
        ),
        (
            {
                "containers": [
                    {"name": "a", "image": "b", "env": [{"name": "A_TOKEN", "value": "b"}]}
                ]
            },
            "mlflow_pod.containers[0].env[0].value: A_TOKEN is a secret",
        ),
        (
            {"initContainers": [{"name": "a", "image": "b", "command": "sh"}]},
            "mlflow_pod.initContainers[0].command: must be a list, not a string",
        ),
        (
            {"initContainers": [{"name": "a", "image": "b"}, {"name": "a", "image": "b"}]},
            "mlflow_pod.initContainers[1].name: a is there twice",
        ),
    ],
)
def test_what_kubernetes_would_refuse_is_told(wrong: dict[str, Any], said: str) -> None:
    (found,) = problems(wrong)
    assert found.startswith(said), found
    assert "hunter22" not in found


def test_a_variable_is_set_in_one_place() -> None:
    wanted = {"env": [{"name": "A", "value": "1"}]}
    (found,) = problems(wanted, mlflow_config={"A": "2"})
    assert found == "mlflow_pod.env[0]: A is in mlflow_config, too; leave one of them out"


def test_without_the_client_nothing_is_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    pod._model.cache_clear()

    def no_client(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(pod.importlib, "import_module", no_client)
    assert problems({"labels": {"a": "b"}}) == []
    (found,) = problems({"tolerations": [{"operator": "Exists"}]})
    assert "no package kubernetes" in found


class OldModel:
    """A type as clients before their models became pydantic's have it."""

    attribute_map = {"name": "name", "value_from": "valueFrom"}  # noqa: RUF012
    openapi_types = {"name": "str", "value_from": "dict(str, str)"}  # noqa: RUF012

    def __setattr__(self, key: str, value: Any) -> None:
        if key == "name" and value is None:
            raise ValueError("Invalid value for `name`, must not be `None`")
        builtins.object.__setattr__(self, key, value)


def test_an_older_client_serves_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    class Client:
        Configuration = dict
        V1EnvVar = OldModel

    pod._model.cache_clear()
    monkeypatch.setattr(pod.importlib, "import_module", lambda _name: Client)
    assert problems({"env": [{"value_from": 1}]}) == [
        "mlflow_pod.env[0].name: is not set",
        "mlflow_pod.env[0].value_from: no such field; did you mean valueFrom?",
    ]
    assert problems({"env": [{"name": "a", "valueFrom": {"a": 1}}]}) == [
        "mlflow_pod.env[0].valueFrom.a: must be a string, not a number (put it in quotes)"
    ]
    pod._model.cache_clear()


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=60)
@given(
    st.dictionaries(
        st.sampled_from(sorted(GOOD)),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["name", "value", "image", "key", "env", "valueFrom"]), inner
                )
            ),
            max_leaves=8,
        ),
        max_size=3,
    )
)
def test_whatever_is_given_the_answer_is_a_list_of_problems(wanted: dict[str, Any]) -> None:
    assert all(problem.startswith("mlflow_pod") for problem in problems(wanted))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"nodePort": 80}, "mlflow_service.nodePort: must be between 30000 and 32767, not 80"),
        ({"type": "ClusterIP", "nodePort": 30123}, "mlflow_service.nodePort: a Service of type Cl"),
        ({"annotations": {"a": 1}}, "mlflow_service.annotations.a: must be a string"),
        ({"annotations": {"a b": "c"}}, "mlflow_service.annotations: 'a b' is not the name"),
        (
            {"loadBalancerSourceRanges": ["192.0.2.1/24"]},
            "mlflow_service.loadBalancerSourceRanges[0]: '192.0.2.1/24' is not a range",
        ),
    ],
)
def test_what_a_service_would_refuse_is_told(wrong: dict[str, Any], said: str) -> None:
    (found,) = pod.check_service({"mlflow_service": wrong})
    assert found.startswith(said)


def test_a_service_of_a_cloud_passes() -> None:
    service = {
        "type": "LoadBalancer",
        "annotations": {"service.beta.kubernetes.io/aws-load-balancer-scheme": "internal"},
        "loadBalancerSourceRanges": ["192.0.2.0/24", "2001:db8::/32"],
    }
    assert list(pod.check_service({"mlflow_service": service})) == []


def test_what_a_variable_is_called_now_is_told() -> None:
    assert types.unknown_names(["mlflow_service_type"], SPECS) == [
        "mlflow_service_type: is now mlflow_service.type"
    ]
