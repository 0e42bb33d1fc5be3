# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What every measurement is made with: processes and their ends, an eye on the cluster, objects."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, ClassVar, cast

import kubernetes
import urllib3

ROOT = Path(__file__).resolve().parents[1]
BIN = ROOT / ".venv/bin"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlops-mlflow"
NAMESPACE = "bench"
COLLECTION = "ansible_collections.mlops.mlflow.plugins.modules"
KUBECONFIG = str(CACHE / "clusters" / os.environ.get("KIND_CLUSTER_NAME", "mlflow") / "kubeconfig")
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{BIN}:{CACHE / 'bin'}:{os.environ['PATH']}",
    "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
    "PYTHONPATH": str(ROOT / ".ansible/collections"),
    "KUBECONFIG": KUBECONFIG,
    "K8S_AUTH_KUBECONFIG": KUBECONFIG,
}

Object = dict[str, Any]


class BenchError(Exception):
    """A measurement could not be made."""


# --- Processes ------------------------------------------------------------------------------------


def call(*command: str, stdin: str | None = None, timeout: float = 300) -> str:
    """Run a command that has to succeed; return what it printed."""
    try:
        done = subprocess.run(
            command,
            env=ENVIRONMENT,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            cwd=ROOT,
        )
    except FileNotFoundError as error:
        raise BenchError(f"{error.filename} is not there; make bench brings it") from None
    if done.returncode:
        raise BenchError(f"{' '.join(command[:4])} …: {(done.stderr or done.stdout)[-800:]}")
    return done.stdout


class Ended:
    """A process that runs beside the measurement; when it ended, by the clock of this program."""

    # All that were started and not waited for.
    _running: ClassVar[set[Ended]] = set()

    def __init__(self, command: list[str], stdin: str = "", **environment: str) -> None:
        self.started = time.monotonic()
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the object
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            env={**ENVIRONMENT, **environment},
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=self._errors,
            text=True,
        )
        self._running.add(self)
        pipe = cast(IO[str], self._process.stdin)
        pipe.write(stdin)
        pipe.close()
        self.at = float("nan")
        self.maximum_memory = 0.0
        self._thread = threading.Thread(target=self._reap, daemon=True)
        self._thread.start()

    def _reap(self) -> None:
        _pid, status, usage = os.wait4(self._process.pid, 0)
        self.at = time.monotonic()
        self._process.returncode = os.waitstatus_to_exitcode(status)
        self.maximum_memory = usage.ru_maxrss / 1024

    def wait(self, timeout: float = 400) -> int:
        """Return the exit status."""
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise BenchError("a process did not end in time")
        self._running.discard(self)
        return int(self._process.returncode)

    @property
    def seconds(self) -> float:
        return self.at - self.started

    def output(self) -> str:
        self._output.seek(0)
        return self._output.read()

    def words(self) -> str:
        """Return all that it said, errors last."""
        self._errors.seek(0)
        return self.output() + self._errors.read()

    @classmethod
    def end_all(cls) -> None:
        """End what a measurement that failed has left running."""
        for one in list(cls._running):
            if one._thread.is_alive():
                one._process.terminate()
            cls._running.discard(one)


def timed(command: list[str], stdin: str = "") -> float:
    """Run a command that has to succeed; return how long it took (s)."""
    process = Ended(command, stdin)
    if process.wait(900):
        raise BenchError(f"{' '.join(command[:3])} failed: {process.words()[-800:]}")
    return process.seconds


def playbook(tasks: list[Object], folder: str) -> list[str]:
    """Return the command that runs these tasks on this machine."""
    path = Path(folder, f"{time.monotonic_ns()}.yml")
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}
    path.write_text(json.dumps([play]))
    return ["ansible-playbook", str(path)]


def module(name: str, arguments: Object, **environment: str) -> Ended:
    """Start one of our modules as Ansible does, without Ansible's own start."""
    told = {"ANSIBLE_MODULE_ARGS": {"_ansible_remote_tmp": tempfile.gettempdir(), **arguments}}
    command = [str(BIN / "python"), "-m", f"{COLLECTION}.{name}"]
    return Ended(command, json.dumps(told), **environment)


def rollout(name: str, namespace: str = NAMESPACE, **more: Any) -> Ended:
    """Start to wait for a Deployment with our module."""
    resources = [{"kind": "Deployment", "name": name}]
    return module("wait_for_rollout", {"namespace": namespace, "resources": resources, **more})


# --- The cluster ----------------------------------------------------------------------------------


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    return call("kubectl", *arguments, stdin=stdin)


def a_list(*objects: Object) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})


def apply(*objects: Object) -> None:
    kubectl("apply", "-f", "-", stdin=a_list(*objects))


@contextlib.contextmanager
def namespaces(*names: str) -> Iterator[None]:
    """Make namespaces, and remove them whatever happens."""
    for name in names:
        kubectl("delete", "namespace", name, "--ignore-not-found")
        kubectl("create", "namespace", name)
    try:
        yield
    finally:
        for name in names:
            kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=false")


class Observer:
    """Watches a collection on a connection of its own, and notes when something first holds.

    It has no code in common with what is measured. Its watch is open when it is made.
    """

    def __init__(self, path: str, holds: Callable[[Object], bool]) -> None:
        self.at: float | None = None
        self._holds = holds
        self._seen = threading.Event()
        client = kubernetes.config.new_client_from_config(KUBECONFIG)
        # It answers once it watches, and tells what is there already as well.
        self._stream = client.rest_client.pool_manager.request(
            "GET",
            f"{client.configuration.host}{path}?watch=true",
            preload_content=False,
            timeout=urllib3.Timeout(connect=5, read=900),
        )
        if self._stream.status != 200:
            raise BenchError(f"{path} cannot be watched: HTTP {self._stream.status}")
        self._thread = threading.Thread(target=self._read, args=(client,), daemon=True)
        self._thread.start()

    def _read(self, _client: Any) -> None:
        """Read until it holds; the client, which owns the key files, lives as long."""
        rest = b""
        with contextlib.suppress(urllib3.exceptions.HTTPError, OSError):
            for chunk in self._stream.stream(65536):
                now = time.monotonic()
                *lines, rest = (rest + chunk).split(b"\n")
                if any(self._holds(json.loads(line)["object"]) for line in lines):
                    self.at = now
                    self._seen.set()
                    break
        self._stream.close()

    def wait(self, timeout: float = 120) -> float:
        """Return when it held first."""
        if not self._seen.wait(timeout) or self.at is None:
            raise BenchError("what should have happened was not seen")
        return self.at


# --- What is deployed -----------------------------------------------------------------------------


def image() -> str:
    """Return the image of the development release, which the cluster has."""
    try:
        found = kubectl(
            "get", "deployment", "mlflow", "-n", "mlflow-development",
            "-o", "jsonpath={.spec.template.spec.containers[0].image}",
        )  # fmt: skip
    except (BenchError, OSError) as error:
        raise BenchError(f"there is no cluster with MLflow; type make up first ({error})") from None
    return found.strip()


def deployment(
    name: str, namespace: str = NAMESPACE, pod: Object | None = None, **container: Any
) -> Object:
    """Return a Deployment of one pod that sleeps, with changes to its pod and container."""
    labels = {"app": name}
    spec: Object = {
        "terminationGracePeriodSeconds": 0,
        "containers": [
            {
                "name": "main",
                "image": image(),
                "command": ["sleep", "3600"],
                "readinessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1},
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
                **container,
            }
        ],
        **(pod or {}),
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }
