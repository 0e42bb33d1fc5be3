"""Run one fault: make it, wait for it with the module and, side by side, with kubectl."""

from __future__ import annotations

import copy
import dataclasses
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_collections.mlops.mlflow.molecule.faults.tests.observer import (
    Object,
    Observer,
    Signal,
)

ROOT = Path(__file__).parents[3]
MODULES = "ansible_collections.mlops.mlflow.plugins.modules"
# How long kubectl may sit there, in seconds.
CAP = 30
# How long before the fault is made the wait is started (s).
HEAD_START = 1.5


@dataclasses.dataclass(frozen=True)
class Fault:
    """What is broken, and what is to be said about it."""

    name: str
    reason: str
    # Those of MLflow are made when they are needed: they are built with Kustomize.
    objects: list[Object] | Callable[[], list[Object]]
    signals: list[Signal]
    # What is waited for; the Deployment "app" if nothing is said.
    wait: dict[str, Any] = dataclasses.field(default_factory=dict)
    # The module can learn of it by asking MLflow or the schema helper, too. That does not show at
    # the API: then the time counts from when it was told.
    asked: bool = False
    tolerance: float = 0.0
    module: str = "wait_for_rollout"
    kubectl: tuple[str, ...] = ("rollout", "status", "deployment/app")
    namespace_labels: dict[str, str] = dataclasses.field(default_factory=dict)
    container: str | None = None
    # Parts of the message, of a line in the log, and of the hint.
    says: tuple[str, ...] = ()
    log: str = ""
    hint: tuple[str, ...] = ()
    # What has to be so before the fault is made: objects, and what kubectl waits for.
    before: tuple[list[Object], tuple[str, ...]] | None = None
    # A namespace that is there already, with what the fault needs in it.
    namespace: str = ""

    @property
    def place(self) -> str:
        return self.namespace or f"faults-{self.name}"


@dataclasses.dataclass
class Outcome:
    """What the module said, and when."""

    fault: Fault
    result: dict[str, Any]
    # Seconds from the moment at which the fault is a failure by its tolerance, to the answer.
    late: float
    # Seconds from the start of the wait.
    took: float
    kubectl: str = ""
    story: list[str] = dataclasses.field(default_factory=list)


class Runner:
    """Runs modules and kubectl against the tests' cluster."""

    def __init__(self, kubeconfig: Path, environment: dict[str, str]) -> None:
        self.kubeconfig = kubeconfig
        self.environment = {
            **environment,
            "PYTHONPATH": str(ROOT / ".ansible/collections"),
        }

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        done = subprocess.run(
            ["kubectl", *arguments],
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert not check or done.returncode == 0, f"kubectl {arguments}: {done.stderr}"
        return done.stdout if done.returncode == 0 else done.stderr

    def apply(self, namespace: str, objects: list[Object], manager: str = "kubectl") -> None:
        if not objects:
            return
        objects = copy.deepcopy(objects)
        for item in objects:
            if namespace:
                item["metadata"].setdefault("namespace", namespace)
        document = {"apiVersion": "v1", "kind": "List", "items": objects}
        manager = f"--field-manager={manager}"
        self.kubectl("apply", "--server-side", manager, "-f", "-", stdin=json.dumps(document))

    def make_namespace(self, name: str, labels: dict[str, str]) -> None:
        metadata = {"name": name, "labels": {"mlops.mlflow/test": "faults", **labels}}
        item = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
        self.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(item))

    def start(self, module: str, **arguments: Any) -> subprocess.Popen[str]:
        """Start a module as Ansible would: a Python process that reads its arguments."""
        arguments = {"kubeconfig": str(self.kubeconfig), **arguments}
        process = subprocess.Popen(
            [sys.executable, "-m", f"{MODULES}.{module}"],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdin
        process.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": arguments}))
        process.stdin.close()
        process.stdin = None
        return process

    def end(self, process: subprocess.Popen[str]) -> tuple[dict[str, Any], float]:
        """Return a module's result, and when it came."""
        output, errors = process.communicate(timeout=400)
        at = time.monotonic()
        assert "{" in output, errors
        result: dict[str, Any] = json.loads(output)
        return result, at

    def run_module(self, module: str, **arguments: Any) -> dict[str, Any]:
        return self.end(self.start(module, **arguments))[0]

    def run(self, fault: Fault, observer: Observer) -> Outcome:
        """Make a fault and wait for it."""
        place = fault.place
        if not fault.namespace:
            self.make_namespace(place, fault.namespace_labels)
        if fault.before:
            self.apply(place, fault.before[0])
            self.kubectl("wait", f"--namespace={place}", *fault.before[1], "--timeout=60s")
        arguments = dict(fault.wait)
        if fault.module == "wait_for_rollout":
            arguments.setdefault("resources", [{"kind": "Deployment", "name": "app"}])
        waiting = self.start(fault.module, namespace=place, **arguments)
        # It is to see what happens from the beginning.
        time.sleep(HEAD_START)
        self.apply(place, fault.objects() if callable(fault.objects) else fault.objects)
        outcome = Outcome(fault, {}, float("inf"), float("inf"))
        if fault.kubectl:
            threading.Thread(target=self._compare, args=(outcome,), daemon=True).start()
        result, ended = self.end(waiting)
        outcome.result = result
        outcome.took = result["elapsed"]
        # Before the API server's first answer, nothing can be known.
        began = (
            ended
            - result["elapsed"]
            + min((entry["at"] for entry in result["timeline"]), default=0.0)
        )
        # The watches of the observer may be a moment behind.
        time.sleep(1.0)
        due = observer.due(place, fault.signals, began, ended)
        if fault.asked and due > ended:
            due = ended - result["elapsed"] + _told(result, fault.reason) + fault.tolerance
        outcome.late = ended - due
        outcome.story = observer.story(place, began)
        return outcome

    def _compare(self, outcome: Outcome) -> None:
        """Let kubectl wait for the same, and note what became of it."""
        fault = outcome.fault
        began = time.monotonic()
        done = subprocess.run(
            ["kubectl", f"--namespace={fault.place}", *fault.kubectl, f"--timeout={CAP}s"],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=CAP + 60,
            check=False,
        )
        took = time.monotonic() - began
        if done.returncode == 0:
            outcome.kubectl = f"{took:.1f} success"
        elif took >= CAP - 1:
            outcome.kubectl = f">{CAP}"
        else:
            outcome.kubectl = f"{took:.1f}"


def _told(result: dict[str, Any], reason: str) -> float:
    """Return when the module first saw a problem, by its own timeline (s)."""
    return min(
        (entry["at"] for entry in result["timeline"] if entry["event"].startswith(f"{reason}: ")),
        default=float("inf"),
    )


def table(outcomes: list[Outcome]) -> list[str]:
    """Return what a reader wants to see at the end, in lines that molecule does not break."""
    rows = [("fault", "reason", "s", "late", "kubectl")]
    rows += [
        (
            outcome.fault.name,
            (outcome.result.get("failure") or {}).get("reason") or "none",
            f"{outcome.took:.1f}",
            f"{outcome.late:+.2f}",
            outcome.kubectl or "-",
        )
        for outcome in outcomes
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return [
        *lines,
        "",
        "s: until the module answered, late: of that past the fault's tolerance,",
        "kubectl: rollout status (wait, for a Job); success: it called it one",
    ]
