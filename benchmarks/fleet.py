# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ten releases in one run, with nothing to do."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from benchmarks.harness import ROOT, Object, kubectl, timed
from benchmarks.report import Row, percentile

RELEASES = 10
GOAL = 25.0
NAMES = [f"bench-{number}" for number in range(RELEASES)]
VARIABLES: Object = {
    "ansible_connection": "local",
    "ansible_python_interpreter": "{{ ansible_playbook_python }}",
    "mlflow_environment": "development",
    "mlflow_namespace": "{{ inventory_hostname }}",
    "mlflow_service": {"type": "ClusterIP"},
    "mlflow_url": "",
    "mlflow_smoke_test": False,
}
# Ten that start at once on two cores start one another's clocks.
FIRST: Object = {
    "mlflow_serial": 2,
    "mlflow_timeout": 1800,
    "mlflow_tolerances": {"unschedulable": 1200, "progress_deadline": 1200},
}


def _site(place: Path, name: str, **more: object) -> list[str]:
    inventory = place / f"{name}.yml"
    hosts: Object = {host: {} for host in NAMES}
    inventory.write_text(json.dumps({"all": {"hosts": hosts, "vars": {**VARIABLES, **more}}}))
    return ["ansible-playbook", "-i", str(inventory), str(ROOT / "site.yml")]


def measure(quick: bool) -> list[Row]:
    """Deploy all of them once, which is not measured, then run again and again."""
    figures: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            timed(_site(Path(folder), "first", **FIRST))
            again = _site(Path(folder), "again")
            figures += [timed(again) for _turn in range(1 if quick else 3)]
        finally:
            kubectl("delete", "namespace", *NAMES, "--ignore-not-found", "--wait=false")
    return [
        Row(
            "ten releases with nothing to do, one run",
            "—",
            f"≤ {GOAL:g} s",
            tuple(figures),
            (),
            percentile(figures, 95) <= GOAL,
        )
    ]
