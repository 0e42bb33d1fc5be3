# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Measure waiting and deploying beside kubectl, helm and kubernetes.core, in one run.

Usage: python -m benchmarks.bench [--quick] [--only ROW …] [--strict]

It uses the cluster of `make up` and namespaces of its own, which it removes. It fails when a
measurement fails; with --strict also when a goal is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import http.client
import http.server
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from benchmarks.report import Row, page, percentile, table

ROOT = Path(__file__).resolve().parents[1]
BIN = ROOT / ".venv/bin"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlops-mlflow"
RESULTS = ROOT / "benchmarks/results"
PAGE = ROOT / "docs/benchmarks.md"
NAMESPACE = "bench"
# How long a peer may take to notice a failure that ours tells in seconds.
CAP = 60
COLLECTION = "ansible_collections.mlops.mlflow.plugins.modules"
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{BIN}:{CACHE / 'bin'}:{os.environ['PATH']}",
    "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
    "PYTHONPATH": str(ROOT / ".ansible/collections"),
    "KUBECONFIG": str(
        CACHE / "clusters" / os.environ.get("KIND_CLUSTER_NAME", "mlflow") / "kubeconfig"
    ),
    "K8S_AUTH_KUBECONFIG": "",
}
ENVIRONMENT["K8S_AUTH_KUBECONFIG"] = ENVIRONMENT["KUBECONFIG"]

Object = dict[str, Any]


class BenchError(Exception):
    """A measurement could not be made."""


def call(*command: str, stdin: str | None = None, timeout: float = 300) -> str:
    """Run a command that has to succeed; return what it printed."""
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
    if done.returncode:
        raise BenchError(f"{' '.join(command[:4])} …: {(done.stderr or done.stdout)[-800:]}")
    return done.stdout


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    return call("kubectl", *arguments, stdin=stdin)


def a_list(*objects: Object) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})


def apply(*objects: Object) -> None:
    kubectl("apply", "-f", "-", stdin=a_list(*objects))


class Ended:
    """A process that runs beside the measurement; when it ended, by the clock of this program."""

    def __init__(self, command: list[str], stdin: str = "", **environment: str) -> None:
        self.started = time.monotonic()
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the object
        self._process = subprocess.Popen(
            command,
            env={**ENVIRONMENT, **environment},
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=subprocess.DEVNULL,
            text=True,
        )
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
            self._process.kill()
            raise BenchError("a process did not end in time")
        return int(self._process.returncode)

    @property
    def seconds(self) -> float:
        return self.at - self.started

    def output(self) -> str:
        self._output.seek(0)
        return self._output.read()


def module(name: str, **arguments: Any) -> Ended:
    """Start one of our modules as Ansible does, without Ansible's own start."""
    command = [str(BIN / "python"), "-m", f"{COLLECTION}.{name}"]
    return Ended(command, module_input(**arguments))


def module_input(**arguments: Any) -> str:
    """Return what Ansible sends to a module."""
    more = {"_ansible_remote_tmp": tempfile.gettempdir()}
    return json.dumps({"ANSIBLE_MODULE_ARGS": {**more, **arguments}})


def rollout(name: str, namespace: str = NAMESPACE, **more: Any) -> Ended:
    resource_ = {"kind": "Deployment", "name": name}
    return module("wait_for_rollout", namespace=namespace, resources=[resource_], **more)


class Observer:
    """Watches a namespace on its own connection, and notes when something first holds."""

    def __init__(self, path: str, holds: Callable[[Object], bool]) -> None:
        self.at: float | None = None
        self._holds = holds
        self._seen = threading.Event()
        self._process = subprocess.Popen(
            ["kubectl", "get", "--raw", f"{path}?watch=true"],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in cast(IO[str], self._process.stdout):
            now = time.monotonic()
            with contextlib.suppress(ValueError):
                if self.at is None and self._holds(json.loads(line)["object"]):
                    self.at = now
                    self._seen.set()

    def wait(self, timeout: float = 120) -> float:
        if not self._seen.wait(timeout) or self.at is None:
            raise BenchError("what should have happened was not seen")
        return self.at

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


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


def deployment(name: str, namespace: str = NAMESPACE, **container: Any) -> Object:
    """Return a Deployment of one pod that sleeps, with changes to its container."""
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


# --- The rows -------------------------------------------------------------------------------------


def ready_latency(quick: bool) -> list[Row]:
    """An object becomes ready: how much later does who waits return?"""
    ours: list[float] = []
    theirs: list[float] = []
    with namespaces(NAMESPACE):
        apply(deployment("web"))
        kubectl("rollout", "status", "deployment/web", "-n", NAMESPACE)
        for turn in range(6 if quick else 20):
            kubectl("rollout", "restart", "deployment/web", "-n", NAMESPACE)
            wanted = json.loads(kubectl("get", "deployment", "web", "-n", NAMESPACE, "-o", "json"))[
                "metadata"
            ]["generation"]

            def done(item: Object, wanted: int = wanted) -> bool:
                status = item.get("status", {})
                return bool(
                    status.get("observedGeneration", 0) >= wanted
                    and status.get("updatedReplicas") == 1
                    and status.get("availableReplicas") == 1
                    and status.get("replicas") == 1
                )

            observer = Observer(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments", done)
            start: list[Callable[[], Ended]] = [
                lambda: rollout("web"),
                lambda: Ended(["kubectl", "rollout", "status", "deployment/web", "-n", NAMESPACE]),
            ]
            # By turns the first: the machine is shared by both.
            pair = [begin() for begin in (start if turn % 2 else start[::-1])]
            mine, kubectls = pair if turn % 2 else pair[::-1]
            ready = observer.wait()
            codes = mine.wait(), kubectls.wait()
            observer.close()
            if any(codes):
                raise BenchError(f"a healthy rollout was called a failure: {codes}")
            ours.append((mine.at - ready) * 1000)
            theirs.append((kubectls.at - ready) * 1000)
    p95, peer = percentile(ours, 95), percentile(theirs, 95)
    return [
        Row(
            "object becomes ready → module returns",
            "kubectl rollout status",
            "p95 ≤ 250 ms, ≤ 1.0 times",
            tuple(ours),
            tuple(theirs),
            p95 <= 250 and percentile(ours, 50) <= percentile(theirs, 50) + 10,
            "ms",
            f"p95 {p95:.0f} ms against {peer:.0f} ms; the process's end is part of both. Medians "
            "within 10 ms of each other count as equal.",
        )
    ]


@dataclasses.dataclass(frozen=True)
class Fault:
    """A failure that is certain, and how the API shows it first."""

    reason: str
    container: Object
    tolerance: float
    path: str
    shows: Callable[[Object], bool]
    before: tuple[Object, ...] = ()


def waiting(*reasons: str) -> Callable[[Object], bool]:
    def shows(pod: Object) -> bool:
        return any(
            status.get("state", {}).get("waiting", {}).get("reason") in reasons
            or (status.get("restartCount", 0) >= 2 and "CrashLoopBackOff" in reasons)
            for status in pod.get("status", {}).get("containerStatuses") or []
        )

    return shows


def has_condition(kind: str, status: str, reason: str = "") -> Callable[[Object], bool]:
    def shows(item: Object) -> bool:
        return any(
            condition["type"] == kind
            and condition["status"] == status
            and reason in condition.get("reason", "")
            for condition in item.get("status", {}).get("conditions") or []
        )

    return shows


def faults() -> dict[str, Fault]:
    secret_key = {"name": "missing", "key": "password"}
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "no-pods"},
        "spec": {"hard": {"pods": "0"}},
    }
    return {
        "missing Secret": Fault(
            "config",
            {"env": [{"name": "A", "valueFrom": {"secretKeyRef": secret_key}}]},
            5,
            "/api/v1/namespaces/{}/pods",
            waiting("CreateContainerConfigError"),
        ),
        "crash loop": Fault(
            "crash_loop",
            {"command": ["false"]},
            0,
            "/api/v1/namespaces/{}/pods",
            waiting("CrashLoopBackOff"),
        ),
        "image that is not there": Fault(
            "image_pull",
            {"image": "localhost/no/such:image"},
            30,
            "/api/v1/namespaces/{}/pods",
            waiting("ErrImagePull", "ImagePullBackOff"),
        ),
        "unschedulable": Fault(
            "unschedulable",
            {"resources": {"requests": {"cpu": "1000"}}},
            60,
            "/api/v1/namespaces/{}/pods",
            has_condition("PodScheduled", "False", "Unschedulable"),
        ),
        "quota": Fault(
            "quota_or_admission",
            {},
            10,
            "/apis/apps/v1/namespaces/{}/replicasets",
            has_condition("ReplicaFailure", "True"),
            (quota,),
        ),
    }


def peers(name: str, fault: Fault, folder: Path) -> dict[str, Ended]:
    """Start what others have, each on an object of its own."""
    namespace = f"{NAMESPACE}-{name.split()[0].lower()}"
    # In words: the same tolerance that ours has, and then the cap.
    cap = int(fault.tolerance + CAP)
    chart = folder / namespace
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: fault\nversion: 0.1.0\n")
    item = deployment("by-helm", namespace, **fault.container)
    (chart / "templates/deployment.yaml").write_text(json.dumps(item))
    apply(deployment("by-kubectl", namespace, **fault.container))
    definition = deployment("by-core", namespace, **fault.container)
    arguments = {"definition": definition, "wait": True, "wait_timeout": cap}
    return {
        "kubectl rollout status": Ended(
            ["kubectl", "rollout", "status", "deployment/by-kubectl", "-n", namespace,
             f"--timeout={cap}s"]
        ),
        "helm install --wait": Ended(
            ["helm", "install", "fault", str(chart), "-n", namespace, "--wait",
             f"--timeout={cap}s"]
        ),
        "kubernetes.core wait": Ended(
            ["ansible", "localhost", "-m", "kubernetes.core.k8s", "-a", json.dumps(arguments)]
        ),
    }  # fmt: skip


def failure_latency(quick: bool) -> list[Row]:
    """A failure is certain: how much later is it told, and is it told right?"""
    chosen = faults()
    if quick:
        chosen = {name: chosen[name] for name in ("missing Secret", "crash loop", "quota")}
    spaces = {name: f"{NAMESPACE}-{name.split()[0].lower()}" for name in chosen}
    past: list[float] = []
    right: list[str] = []
    told: dict[str, list[float | None]] = {}
    with tempfile.TemporaryDirectory() as folder, namespaces(*spaces.values()):
        others = {}
        for name, fault in chosen.items():
            for item in fault.before:
                kubectl("apply", "-n", spaces[name], "-f", "-", stdin=json.dumps(item))
            others[name] = peers(name, fault, Path(folder))
        for name, fault in chosen.items():
            observer = Observer(
                fault.path.format(spaces[name]),
                lambda item, fault=fault: (  # type: ignore[misc]
                    "ours" in item["metadata"]["name"] and fault.shows(item)
                ),
            )
            apply(deployment("ours", spaces[name], **fault.container))
            mine = rollout("ours", spaces[name], timeout=240)
            mine.wait()
            past.append(mine.at - observer.wait(5) - fault.tolerance)
            observer.close()
            result = json.loads(mine.output())
            if (result.get("failure") or {}).get("reason") == fault.reason:
                right.append(name)
        for name, started in others.items():
            for peer, process in started.items():
                code = process.wait()
                noticed = code != 0 and process.seconds < chosen[name].tolerance + CAP - 1
                value = process.seconds - chosen[name].tolerance if noticed else None
                told.setdefault(peer, []).append(value)
    rows = [
        Row(
            "failure is certain → module returns, past the tolerance",
            peer,
            "≤ 2 s",
            tuple(past),
            tuple(values),
            max(past) <= 2,
            "s",
            f'{", ".join(chosen)}; "never" means not within {CAP} s past the tolerance.',
        )
        for peer, values in told.items()
    ]
    rows.append(
        Row(
            "… with the right reason",
            "the contract",
            "100 %",
            (100 * len(right) / len(chosen),),
            (),
            len(right) == len(chosen),
            "%",
        )
    )
    return rows


class Counter(http.server.ThreadingHTTPServer):
    """A proxy on loopback that counts requests, in front of `kubectl proxy`."""

    daemon_threads = True

    def __init__(self, upstream: int) -> None:
        self.count = 0
        self.upstream = upstream
        super().__init__(("127.0.0.1", 0), Forward)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Forward(http.server.BaseHTTPRequestHandler):
    """Passes one request on, and its answer back as it comes."""

    server: Counter
    # The end of the connection is the end of the answer.
    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        # What ours reads once, when the wait has failed, is not the wait.
        self.server.count += "/log?" not in self.path
        connection = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=600)
        headers = {name: value for name, value in self.headers.items() if name != "Host"}
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else None
        connection.request(self.command, self.path, body=body, headers=headers)
        answer = connection.getresponse()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError, http.client.HTTPException):
            while piece := answer.read1(65536):
                self.wfile.write(piece)
                self.wfile.flush()
        connection.close()

    do_POST = do_PATCH = do_GET

    def log_message(self, format: str, *arguments: Any) -> None:
        """Stay silent."""


def request_count(quick: bool) -> list[Row]:
    """How often is the API server asked in a long wait?"""
    seconds = 50 if quick else 300
    never: Object = {"readinessProbe": {"exec": {"command": ["false"]}, "periodSeconds": 5}}
    proxy = subprocess.Popen(
        ["kubectl", "proxy", "--port=0"], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    try:
        port = int(cast(IO[str], proxy.stdout).readline().strip().rpartition(":")[2])
        mine, theirs = Counter(port), Counter(port)
        with namespaces(NAMESPACE):
            apply(deployment("slow", **never))
            info = {
                "kind": "Deployment", "api_version": "apps/v1", "name": "slow",
                "namespace": NAMESPACE, "wait": True, "wait_timeout": seconds,
                "host": theirs.url, "api_key": "none",
            }  # fmt: skip
            mine_too = {
                "namespace": NAMESPACE, "timeout": seconds, "host": mine.url, "api_key": "none",
                "resources": [{"kind": "Deployment", "name": "slow"}],
            }  # fmt: skip
            # No kubeconfig: each goes to its own counter.
            bare = {"KUBECONFIG": "", "K8S_AUTH_KUBECONFIG": ""}
            waits = [
                Ended(
                    [str(BIN / "python"), "-m", f"{COLLECTION}.wait_for_rollout"],
                    module_input(**mine_too),
                    **bare,
                ),
                Ended(
                    [
                        *("ansible", "localhost", "-m", "kubernetes.core.k8s_info"),
                        *("-a", json.dumps(info)),
                    ],
                    **bare,
                ),
            ]
            for wait in waits:
                wait.wait(seconds + 120)
            result = json.loads(waits[0].output())
            if (result.get("failure") or {}).get("reason") != "timeout":
                raise BenchError(f"the wait did not last: {result.get('msg')}")
    finally:
        proxy.kill()
        proxy.wait()
    kinds = 5
    return [
        Row(
            f"API requests in a wait of {seconds} s",
            "kubernetes.core wait",
            "≤ 2 per kind",
            (float(mine.count),),
            (float(theirs.count),),
            mine.count <= 2 * kinds,
            "requests",
            f"{kinds} kinds are watched: Deployment, ReplicaSet, Pod, volume claims and Events. "
            "Counted by a proxy; the logs that the report of the failure ends with are not.",
        )
    ]


def playbook(tasks: list[Object], folder: str) -> list[str]:
    path = Path(folder, f"{time.monotonic_ns()}.yml")
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}
    path.write_text(json.dumps([play]))
    return ["ansible-playbook", str(path)]


def timed(command: list[str], stdin: str = "") -> float:
    process = Ended(command, stdin)
    if process.wait():
        raise BenchError(f"{' '.join(command[:3])} failed: {process.output()[-800:]}")
    return process.seconds


def apply_many(quick: bool) -> list[Row]:
    """Apply a list of objects with one task, as a stage of the release role does."""

    def maps(count: int, turn: str) -> list[Object]:
        return [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": f"{turn}-{number}", "namespace": NAMESPACE},
                "data": {"key": "value"},
            }
            for number in range(count)
        ]

    def by_task(items: list[Object], folder: str) -> float:
        task = {
            "kubernetes.core.k8s": {
                "definition": items,
                "apply": True,
                "server_side_apply": {"field_manager": "mlops.mlflow", "force_conflicts": True},
            }
        }
        return timed(playbook([task], folder)) - empty

    def by_kubectl(items: list[Object]) -> float:
        return timed(["kubectl", "apply", "--server-side", "-f", "-"], a_list(*items))

    figures: dict[int, tuple[list[float], list[float]]] = {
        10: ([], []),
        50: ([], []),
        100: ([], []),
    }
    turns = 2 if quick else 5
    with tempfile.TemporaryDirectory() as folder, namespaces(NAMESPACE):
        nothing = [{"ansible.builtin.meta": "noop"}]
        # What Ansible takes to start and end is not the task's.
        empty = percentile([timed(playbook(nothing, folder)) for _turn in range(turns)], 50)
        for turn in range(turns):
            for count, (ours, theirs) in figures.items():
                ours.append(by_task(maps(count, f"ours-{turn}-{count}"), folder))
                theirs.append(by_kubectl(maps(count, f"theirs-{turn}-{count}")))
    ours, theirs = figures[50]
    more = percentile(ours, 50) - percentile(theirs, 50)
    slopes = [
        (percentile(figures[100][who], 50) - percentile(figures[10][who], 50)) / 90 * 1000
        for who in (0, 1)
    ]
    return [
        Row(
            "apply 50 objects, one k8s task",
            "kubectl apply --server-side",
            "≤ 1.5 s more, and no more per object",
            tuple(ours),
            tuple(theirs),
            more <= 1.5 and slopes[0] <= slopes[1] * 1.1,
            "s",
            f"{more:.2f} s more; per object {slopes[0]:.0f} ms against {slopes[1]:.0f} ms (from 10 "
            "to 100 objects).",
        )
    ]


def site(namespace: str, *more: str) -> list[str]:
    return [
        "ansible-playbook", "-i", str(ROOT / "inventories/development"), str(ROOT / "site.yml"),
        "-e", f"mlflow_namespace={namespace}", "-e", "mlflow_service_type=ClusterIP",
        "-e", "mlflow_url=", "-e", "mlflow_smoke_test=false", *more,
    ]  # fmt: skip


def fresh_site(quick: bool) -> list[Row]:
    """Deploy into a fresh namespace, and then once more with nothing to do."""
    ours: list[float] = []
    theirs: list[float] = []
    again: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder).resolve()
        overlay = os.path.relpath(ROOT / "kustomize/overlays/development", place)
        to_cluster_ip = [
            {"op": "remove", "path": "/spec/ports/0/nodePort"},
            {"op": "replace", "path": "/spec/type", "value": "ClusterIP"},
        ]
        service = {
            "target": {"kind": "Service", "name": "mlflow"},
            "patch": json.dumps(to_cluster_ip),
        }
        (place / "kustomization.yml").write_text(
            json.dumps({"resources": [overlay], "namespace": "bench-kubectl", "patches": [service]})
        )
        script = (
            f"kubectl apply -k {place} && kubectl -n bench-kubectl rollout status"
            " deployment/mlflow --timeout=10m"
        )
        for turn in range(1 if quick else 3):
            with namespaces("bench-site", "bench-kubectl"):
                deploy: list[tuple[list[float], list[str]]] = [
                    (ours, site("bench-site")),
                    (theirs, ["bash", "-c", script]),
                ]
                for figures, command in deploy if turn % 2 else deploy[::-1]:
                    figures.append(timed(command))
                again += [timed(site("bench-site")) for _turn in range(2)]
    more = percentile(ours, 50) - percentile(theirs, 50)
    return [
        Row(
            "site.yml on a fresh namespace",
            "kubectl apply -k && kubectl rollout status",
            "≤ +5 s",
            tuple(ours),
            tuple(theirs),
            more <= 5,
            "s",
            f"{more:+.1f} s. Ours also waits for the migration and asks every server for its "
            "database; the smoke test, which kubectl has nothing like, is left out.",
        ),
        Row(
            "site.yml with nothing to do",
            "—",
            "≤ 10 s",
            tuple(again),
            (),
            percentile(again, 50) <= 10,
        ),
    ]


def start_up(quick: bool) -> list[Row]:
    """What a module takes before it does anything."""
    mine = (
        "from ansible_collections.mlops.mlflow.plugins.modules import wait_for_mlflow;"
        "from ansible_collections.mlops.mlflow.plugins.module_utils import _client;"
        "_client.Api({})"
    )
    cores = (
        "from ansible_collections.kubernetes.core.plugins.module_utils.k8s import client;"
        "client.get_api_client()"
    )
    site_packages = next((ROOT / ".venv/lib").glob("python3*/site-packages"))
    seconds: tuple[list[float], list[float]] = ([], [])
    memory: tuple[list[float], list[float]] = ([], [])
    before = ENVIRONMENT["PYTHONPATH"]
    ENVIRONMENT["PYTHONPATH"] = f"{before}:{site_packages}"
    try:
        for _turn in range(5 if quick else 15):
            for who, code in enumerate((mine, cores)):
                process = Ended([str(BIN / "python"), "-c", code])
                if process.wait():
                    raise BenchError(f"cannot start: {code}")
                seconds[who].append(process.seconds)
                memory[who].append(process.maximum_memory)
    finally:
        ENVIRONMENT["PYTHONPATH"] = before
    against = "importing kubernetes.core's client"
    return [
        Row(
            "module start-up",
            against,
            "≤ 1.2 times",
            tuple(seconds[0]),
            tuple(seconds[1]),
            percentile(seconds[0], 50) <= 1.2 * percentile(seconds[1], 50),
        ),
        Row(
            "module memory",
            against,
            "≤ 1.2 times",
            tuple(memory[0]),
            tuple(memory[1]),
            percentile(memory[0], 50) <= 1.2 * percentile(memory[1], 50),
            "MiB",
        ),
    ]


ROWS: dict[str, Callable[[bool], list[Row]]] = {
    "start-up": start_up,
    "ready": ready_latency,
    "failure": failure_latency,
    "requests": request_count,
    "apply": apply_many,
    "site": fresh_site,
}


def machine() -> dict[str, Any]:
    """What the figures depend on; nothing that names the machine."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    versions = json.loads(kubectl("version", "--output=json"))
    return {
        "cores": os.cpu_count(),
        "GiB of memory": round(total / 2**30),
        "Kubernetes": versions["serverVersion"]["gitVersion"],
        "kubectl": versions["clientVersion"]["gitVersion"],
        "helm": call("helm", "version", "--short").strip(),
        "Python": sys.version.split()[0],
        "load average before": round(os.getloadavg()[0], 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure beside kubectl, helm, kubernetes.core.")
    parser.add_argument("--quick", action="store_true", help="fewer turns, shorter waits")
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--strict", action="store_true", help="fail when a goal is missed")
    wanted = parser.parse_args()
    rows: list[Row] = []
    failed = []
    try:
        image()
        facts = machine()
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    for name in wanted.only:
        started = time.monotonic()
        try:
            rows += ROWS[name](wanted.quick)
        except (BenchError, subprocess.TimeoutExpired) as error:
            failed.append(name)
            print(f"bench: {name}: {error}", file=sys.stderr)
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
    print(table(rows))
    if len(wanted.only) == len(ROWS) and not failed and not wanted.quick:
        RESULTS.mkdir(exist_ok=True)
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        kept = {"machine": facts, "rows": [dataclasses.asdict(row) for row in rows]}
        (RESULTS / f"{today}.json").write_text(
            json.dumps(kept, indent=1, ensure_ascii=False) + "\n"
        )
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page(rows, facts))
        print(f"written to {PAGE.relative_to(ROOT)} and {RESULTS.relative_to(ROOT)}/{today}.json")
    if failed:
        return 1
    return int(wanted.strict and not all(row.met for row in rows))


if __name__ == "__main__":
    sys.exit(main())
