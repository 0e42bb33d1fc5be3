"""What a run of site.yml ends with: the real way in, and commands that can be copied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.any_core import load

TASKS = Path(__file__).resolve().parents[4] / "roles/release/tasks/summary.yml"
ADMINISTRATOR = {"secret": "mlflow-credentials", "key": "admin-password"}


def summary(
    url: str = "",
    kinds: tuple[str, ...] = (),
    administrator: dict[str, str] | None = None,
    wanted: bool = False,
    **settings: str | list[str],
) -> list[str]:
    """Return the lines of the summary of a release."""
    loader = DataLoader()
    (task,) = load(TASKS)
    variables = {
        "mlflow_static_prefix": "",
        "mlflow_hosts": [],
        "mlflow_url": "",
        "mlflow_context": "",
        "mlflow_kubeconfig": "",
        "preflight_release": {
            "namespace": "team-a",
            "version": "3.17.2",
            "image": "mlflow:v3.17.2",
            "url": url,
            "service": {"type": "ClusterIP", "port": 5000},
            "kinds": [{"api_version": "v1", "kind": kind} for kind in kinds],
            "administrator": {"password": administrator} if administrator else {},
        },
        "preflight_checked": {
            "connections": {"wanted": 190, "available": None, "formula": "…"} if wanted else {}
        },
        **settings,
        **task["vars"],
    }
    text: Any = Templar(loader=loader, variables=variables).template(
        task["ansible.builtin.debug"]["msg"]
    )
    assert isinstance(text, str), "a list is wrapped by YAML, and its items are quoted"
    return text.splitlines()


FORWARD = "  kubectl -n team-a port-forward service/mlflow 5000:5000"


def test_without_a_host_name_the_way_in_is_a_port_forward() -> None:
    lines = summary()
    assert lines[:3] == [
        "MLflow 3.17.2 in namespace team-a",
        "URL: http://localhost:5000 while this runs:",
        FORWARD,
    ]
    assert lines[-1] == "  export MLFLOW_TRACKING_URI=http://localhost:5000"


def test_a_host_name_that_nothing_serves_is_not_called_the_url() -> None:
    lines = summary(url="https://mlflow.example.org", mlflow_hosts=["mlflow.example.org"])
    assert "URL: http://localhost:5000 while this runs:" in lines and FORWARD in lines
    (said,) = [line for line in lines if "mlflow.example.org" in line]
    assert "nothing in this release serves" in said and "ingress" in said


def test_what_an_ingress_or_a_route_serves_is_the_url() -> None:
    for kind in ("Ingress", "HTTPRoute"):
        lines = summary(
            url="https://mlflow.example.org", kinds=(kind,), mlflow_hosts=["mlflow.example.org"]
        )
        assert lines[1] == "URL: https://mlflow.example.org"
        assert not [line for line in lines if "port-forward" in line]


def test_an_address_of_one_s_own_is_the_url() -> None:
    url = "https://mlflow.example.org"
    assert summary(url=url, mlflow_url=url)[1] == f"URL: {url}"


def test_a_prefix_is_part_of_the_address() -> None:
    assert "URL: http://localhost:5000/mlflow while this runs:" in summary(
        mlflow_static_prefix="/mlflow"
    )


def test_with_users_it_says_how_to_see_the_administrator_s_password() -> None:
    lines = summary(administrator=ADMINISTRATOR)
    at = lines.index("Password of MLflow's administrator:")
    assert lines[at + 1] == (
        "  kubectl -n team-a get secret mlflow-credentials"
        " -o jsonpath='{.data.admin-password}' | base64 -d"
    )
    assert not [line for line in summary() if "administrator" in line]


def test_a_dot_in_a_key_is_not_a_step_of_the_path() -> None:
    lines = summary(administrator={"secret": "theirs", "key": "admin.password"})
    assert [line for line in lines if r"{.data.admin\.password}" in line]


def test_commands_go_to_the_cluster_of_the_inventory() -> None:
    lines = summary(
        administrator=ADMINISTRATOR, mlflow_context="europe", mlflow_kubeconfig="/srv/kube/config"
    )
    commands = [line for line in lines if "kubectl" in line]
    assert len(commands) >= 2
    for line in commands:
        assert "kubectl --kubeconfig /srv/kube/config --context europe -n team-a" in line


def test_a_command_stands_alone_on_its_line() -> None:
    for line in summary(administrator=ADMINISTRATOR, wanted=True):
        if "kubectl" in line or "export" in line:
            assert line.startswith("  ") and not line.endswith("."), line
