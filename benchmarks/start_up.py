# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a module takes before it does anything."""

from __future__ import annotations

from benchmarks.harness import BIN, ENVIRONMENT, ROOT, BenchError, Ended
from benchmarks.report import Row, percentile

_OURS = (
    "from ansible_collections.mlops.mlflow.plugins.modules import wait_for_mlflow;"
    "from ansible_collections.mlops.mlflow.plugins.module_utils import _client;"
    "_client.Api({})"
)
_THEIRS = (
    "from ansible_collections.kubernetes.core.plugins.module_utils.k8s import client;"
    "client.get_api_client()"
)


def measure(quick: bool) -> list[Row]:
    """Start both by turns."""
    site_packages = next((ROOT / ".venv/lib").glob("python3*/site-packages"))
    path = f"{ENVIRONMENT['PYTHONPATH']}:{site_packages}"
    seconds: tuple[list[float], list[float]] = ([], [])
    memory: tuple[list[float], list[float]] = ([], [])
    for _turn in range(5 if quick else 15):
        for who, code in enumerate((_OURS, _THEIRS)):
            process = Ended([str(BIN / "python"), "-c", code], PYTHONPATH=path)
            if process.wait():
                raise BenchError(f"cannot start: {code}: {process.words()[-500:]}")
            seconds[who].append(process.seconds)
            memory[who].append(process.maximum_memory)
    return [
        Row(
            what,
            "importing kubernetes.core's client",
            "≤ 1.2 times",
            tuple(figures[0]),
            tuple(figures[1]),
            percentile(figures[0], 50) <= 1.2 * percentile(figures[1], 50),
            unit,
            f"{percentile(figures[0], 50) / percentile(figures[1], 50):.2f} times, of the medians.",
        )
        for what, figures, unit in (
            ("module start-up", seconds, "s"),
            ("module memory", memory, "MiB"),
        )
    ]
