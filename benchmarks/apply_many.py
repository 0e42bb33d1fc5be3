# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Apply a list of objects with one task, as a stage of the release role does."""

from __future__ import annotations

import tempfile

from benchmarks.harness import NAMESPACE, Object, a_list, namespaces, playbook, timed
from benchmarks.report import Row, percentile

COUNTS = (10, 50, 100)


def _maps(count: int, turn: str) -> list[Object]:
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"{turn}-{number}", "namespace": NAMESPACE},
            "data": {"key": "value"},
        }
        for number in range(count)
    ]


def _task(items: list[Object]) -> Object:
    return {
        "kubernetes.core.k8s": {
            "definition": items,
            "apply": True,
            "server_side_apply": {"field_manager": "mlops.mlflow", "force_conflicts": True},
        }
    }


def _slope(figures: dict[int, list[float]]) -> float:
    """Return what one more object takes (ms), from the fewest to the most."""
    few, many = COUNTS[0], COUNTS[-1]
    seconds = percentile(figures[many], 50) - percentile(figures[few], 50)
    return seconds / (many - few) * 1000


def measure(quick: bool) -> list[Row]:
    """Create lists of objects of three lengths with both, by turns."""
    ours: dict[int, list[float]] = {count: [] for count in COUNTS}
    theirs: dict[int, list[float]] = {count: [] for count in COUNTS}
    turns = 2 if quick else 5
    with tempfile.TemporaryDirectory() as folder, namespaces(NAMESPACE):
        nothing = playbook([{"ansible.builtin.meta": "noop"}], folder)
        # What Ansible takes to start and end is not the task's.
        empty = percentile([timed(nothing) for _turn in range(turns)], 50)
        for turn in range(turns):
            for count in COUNTS:
                task = playbook([_task(_maps(count, f"ours-{turn}-{count}"))], folder)
                ours[count].append(timed(task) - empty)
                kubectl = ["kubectl", "apply", "--server-side", "-f", "-"]
                items = _maps(count, f"theirs-{turn}-{count}")
                theirs[count].append(timed(kubectl, a_list(*items)))
    more = percentile(ours[50], 50) - percentile(theirs[50], 50)
    slopes = _slope(ours), _slope(theirs)
    return [
        Row(
            "apply 50 objects, one k8s task",
            "kubectl apply --server-side",
            "≤ 1.5 s more",
            tuple(ours[50]),
            tuple(theirs[50]),
            more <= 1.5,
            "s",
            f"{more:.2f} s more, of the medians; Ansible's own start is taken off.",
        ),
        Row(
            "… each further object",
            "kubectl apply --server-side",
            "no more",
            (slopes[0],),
            (slopes[1],),
            slopes[0] <= slopes[1],
            "ms",
            f"From {COUNTS[0]} to {COUNTS[-1]} objects, of the medians.",
        ),
    ]
