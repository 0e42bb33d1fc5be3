"""Everything that proves the collection, fast checks first; ends with how many tests passed.

Usage: python scripts/test.py [--only STAGE … | --scenarios NAME … | --all | --until TIME]
Stages: lint sanity unit ship manifests docs bad-input versions integration molecule
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
BIN = ROOT / ".venv" / "bin"
COLLECTION = ".ansible/collections/ansible_collections/mlops/mlflow"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlops-mlflow"
CLUSTER = os.environ.get("MLFLOW_TEST_CLUSTER", "mlflow-test")
PORT = int(os.environ.get("MLFLOW_TEST_HTTP_PORT", "15050"))
# Scenarios wait for more than they work: two at a time, each on a cluster of its own.
CLUSTERS = {f"{CLUSTER}-{number}": PORT + number for number in range(2)}
# Nothing else runs beside those: one holds what is said against the clock, to two seconds, and the
# clients of the second and the six releases of the third take all that a machine can give.
# The last one's cluster has three nodes.
ALONE = ("faults", "upgrade", "fleet", "cluster")
# How long a scenario takes, in seconds, where this machine has not measured it: the longest begin
# first, so that both clusters are done at about the same time.
TAKES = {
    "postgres": 1100,
    "recovery": 900,
    "upgrade": 900,
    "restore": 600,
    "lock": 540,
    "operations": 480,
    "kubectl": 420,
    "faults": 420,
    "production": 400,
    "awx": 400,
    "fleet": 360,
}
# What a scenario makes for itself beside those, by the end of its name.
OF_THEIR_OWN = ("", "-nodes")
TAKES_OTHERWISE = 300
TIMES = CACHE / "scenario-times.json"
SCENARIOS = {path.parent.name for path in ROOT.glob("molecule/*/molecule.yml")}
# What make test runs: what a stranger needs to believe, in the time that a change may take. Each
# other scenario, a new one too, is for make test-all. After make test, continuous integration runs
# as many of them as there is time for, and begins each time with another one.
ESSENTIAL = ("default", "faults", "kubectl")
# What has not been seen to pass on a cluster with the steps that the roles have now. make test-all
# runs them, and so does `--scenarios`; make test and continuous integration say that they do not.
# An empty list is the aim.
UNPROVEN = (
    "awx",
    "cluster",
    "external-secrets",
    "galaxy",
    "gitops",
    "interruption",
    "leaks",
    "outage",
    "postgres",
    "recovery",
)
# The locks of tests/versions with which all of that stage has been seen to pass: continuous
# integration takes one in its turn, and make test-all takes all there are.
PROVEN_CORES: tuple[str, ...] = ()
COMPLAINT = re.compile(r"\S\.\w+:\d+|\berror\b", re.IGNORECASE)
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PYTHON = [
    f"{COLLECTION}/plugins",
    "benchmarks",
    f"{COLLECTION}/dev",
    "kustomize/base/schema.py",
    "kustomize/components/backup/keys.py",
    "kustomize/components/backup-s3/s3.py",
    "kustomize/components/gc/gc.py",
    "kustomize/components/monitoring/metrics.py",
    "kustomize/components/smoke-test/smoke_test.py",
    "molecule",
    "scripts/test.py",
    "tests",
]


class Count(NamedTuple):
    """Tests that passed, failed and were skipped, and the names of those that failed."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    names: tuple[str, ...] = ()

    def plus(self, other: Count) -> Count:
        return Count(
            self.passed + other.passed,
            self.failed + other.failed,
            self.skipped + other.skipped,
            self.names + other.names,
        )

    def called(self, stage: str) -> Count:
        """The same, with a name for failures that have none."""
        return self._replace(names=(stage,)) if self.failed and not self.names else self


def start(
    command: list[str],
    cwd: Path = ROOT,
    output: IO[str] | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.Popen[str]:
    """Start a command, in front of the reader or with its output in a file."""
    settings = {
        **os.environ,
        "PATH": f"{BIN}:{CACHE / 'bin'}:{os.environ['PATH']}",
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        **environment,
    }
    # In a group of its own, so that nothing that it started outlives an interruption.
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=settings,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output else None,
        start_new_session=True,
        text=True,
    )


def stop(process: subprocess.Popen[str]) -> None:
    """End a command, if it has not ended, with all that it started."""
    if process.poll() is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def run(command: list[str], cwd: Path = ROOT) -> bool:
    """Run a command in front of the reader; whether it succeeded."""
    print("$", " ".join(command), flush=True)
    process = start(command, cwd)
    try:
        return process.wait() == 0
    except BaseException:
        stop(process)
        raise


def be_stopped_by(*signals: signal.Signals) -> None:
    """End in an orderly way on a signal, so that the cluster is removed."""
    for number in signals:
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Do not let a signal, or one more of them, cut short what cleans up."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def each(*commands: list[str], cwd: Path = ROOT) -> Count:
    """Run all commands at once; print what they say in their order, count each as one test."""
    names = []
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder, str(number)) for number in range(len(commands))]
        processes = []
        try:
            for command, path in zip(commands, outputs, strict=True):
                with path.open("w", encoding="utf-8") as file:
                    processes.append(start(command, cwd, output=file))
            for command, path, process in zip(commands, outputs, processes, strict=True):
                print("$", " ".join(command), flush=True)
                if process.wait() != 0:
                    names.append(f"{command[0]}: {complaint(path)!r}")
                show(path)
        finally:
            for process in processes:
                stop(process)
    return Count(len(commands) - len(names), len(names), names=tuple(names))


def complaint(output: Path) -> str:
    """The first lines in which a linter names a line of a file or an error; otherwise its last."""
    lines = output.read_text(encoding="utf-8", errors="replace").splitlines()
    told = [line.strip() for line in lines if COMPLAINT.search(line)] or lines[-3:]
    return "; ".join(told)[:600]


def show(output: Path) -> None:
    """Print what a command wrote to a file."""
    with output.open(encoding="utf-8", errors="replace") as file:
        shutil.copyfileobj(file, sys.stdout)
    sys.stdout.flush()


def counted(report: Path, succeeded: bool) -> Count:
    """Read what pytest wrote to a JUnit report; a run without a report is one failure."""
    if not report.exists():
        return Count(failed=1)
    total = Count()
    for suite in ElementTree.parse(report).iter("testsuite"):  # noqa: S314 - our own file
        bad = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped = int(suite.get("skipped", 0))
        names = tuple(
            f"{case.get('classname')}::{case.get('name')}: {told.get('message', '')[:300]!r}"
            for case in suite.iter("testcase")
            for told in [*case.iter("failure"), *case.iter("error")][:1]
        )
        total = total.plus(Count(int(suite.get("tests", 0)) - bad - skipped, bad, skipped, names))
    # pytest can also fail as a whole, for example when it collects nothing.
    return total if succeeded or total.failed else total.plus(Count(failed=1))


def pytest(*arguments: str) -> Count:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        ok = run([str(BIN / "pytest"), "-q", f"--junit-xml={report}", *arguments])
        return counted(report, ok)


def lint() -> Count:
    return each(
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy", *PYTHON],
        ["yamllint", "--strict", "."],
        ["ansible-lint", "--offline"],
    )


def sanity() -> Count:
    """ansible-test sanity, on a copy: it wants the collection's own path, and writes to it."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "ansible_collections/mlops/mlflow")
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout.decode()
        for name in listed.split("\0"):
            source = ROOT / name
            if name and source.is_file():
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, tree / name, follow_symlinks=False)
        # Documentation fragments come from the collections that this one depends on.
        for needed in BIN.parent.glob("lib/python*/site-packages/ansible_collections/kubernetes"):
            (tree.parents[1] / "kubernetes").symlink_to(needed)
        subprocess.run(["git", "init", "--quiet", str(tree)], check=True)
        subprocess.run(["git", "add", "--all"], cwd=tree, check=True)
        # ansible-test fetches an installer for pip into its virtual environments from the network;
        # Python brings one itself, and it is found in the cache under this name.
        installer = Path.home() / ".ansible/test/cache/get_pip_24_2.py"
        if not installer.exists():
            installer.parent.mkdir(parents=True, exist_ok=True)
            installer.write_text("import ensurepip\nensurepip.bootstrap()\n")
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        command = ["ansible-test", "sanity", "--requirements", "--python", version, "--color", "no"]
        return each(command, cwd=tree)


def manifests() -> Count:
    # On a fresh machine there is no kustomize yet.
    tools = ["ansible-playbook", "dev/kind.yml", "--extra-vars=kind_cluster_state=tools"]
    if not run([str(BIN / tools[0]), *tools[1:]]):
        return Count(failed=1)
    if not run([str(BIN / "ansible-playbook"), "tests/matrix/prepare.yml"]):
        return Count(failed=1)
    return pytest("--numprocesses=2", "tests/manifests", "tests/matrix")


def integration() -> Count:
    tools = ["tests/tools/prepare.yml", '--extra-vars={"tools": ["versitygw"]}']
    for prepare in (["tests/integration/prepare.yml"], tools):
        if not run([str(BIN / "ansible-playbook"), *prepare]):
            return Count(failed=1)
    return pytest("--numprocesses=2", "tests/integration")


def versions(turn: int | None = None) -> Count:
    """Other ansible-cores, Pythons and Kubernetes clients; of them, the one whose turn it is."""
    if turn is not None and not PROVEN_CORES:
        print("no other ansible-core is proven yet, see make test-all", flush=True)
        return Count()
    if turn is not None:
        os.environ["MLFLOW_TEST_VERSIONS"] = PROVEN_CORES[turn % len(PROVEN_CORES)]
    return pytest("tests/versions")


class Scenario(NamedTuple):
    """A scenario that runs."""

    name: str
    process: subprocess.Popen[str]
    output: Path
    began: float


def molecule(chosen: Collection[str] = (), until: float | None = None) -> Count:
    """Run scenarios: those that were chosen, or those of make test, and a share of the rest."""
    wanted = chosen or set(ESSENTIAL) - set(UNPROVEN)
    if not chosen and UNPROVEN:
        print(f"scenarios not proven, see make test-all: {' '.join(UNPROVEN)}", flush=True)
    # An earlier run that was killed may have left its clusters.
    remove_clusters()
    try:
        # Alone ones first, then the longest: both clusters are done at about the same time.
        order = sorted(wanted, key=lambda name: (name not in ALONE, -takes(name), name))
        total = each_scenario(order, list(CLUSTERS))
        rest = share(commits())
        if chosen:
            pass
        elif until is None:
            print(
                f"scenarios not run here, see make test-all: {' '.join(sorted(rest))}", flush=True
            )
        elif not total.failed:
            # By itself each: two on two cores took as long, and one of them failed for it.
            total = total.plus(each_scenario(rest, list(CLUSTERS)[:1], until))
    finally:
        # Also when interrupted: molecule itself may not have come to it.
        with undisturbed():
            remove_clusters()
    left = leftovers()
    for line in left:
        print(f"left behind: {line}", flush=True)
    return total.plus(Count(passed=int(not left), failed=int(bool(left))))


def commits() -> int:
    """How many commits led here: with each one it is another scenario's turn."""
    counted = subprocess.run(
        ["git", "rev-list", "--count", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return int(counted.stdout)


def share(turn: int) -> list[str]:
    """The rest, beginning with the one whose turn it is: of two, so two go on with each turn."""
    proven = sorted(SCENARIOS - set(ESSENTIAL) - set(UNPROVEN))
    first = turn * len(CLUSTERS) % max(1, len(proven))
    return [*proven[first:], *proven[:first]]


def takes(name: str) -> float:
    """Seconds that a scenario takes: as it took here, or as it took elsewhere."""
    measured = json.loads(TIMES.read_text()) if TIMES.exists() else {}
    return float(measured.get(name, TAKES.get(name, TAKES_OTHERWISE)))


def remember(name: str, seconds: float) -> None:
    measured = json.loads(TIMES.read_text()) if TIMES.exists() else {}
    TIMES.parent.mkdir(parents=True, exist_ok=True)
    new = TIMES.with_suffix(".new")
    new.write_text(json.dumps({**measured, name: round(seconds)}, indent=1, sort_keys=True))
    new.replace(TIMES)


def fits(name: str, until: float | None) -> bool:
    """Whether a scenario would be through in time, with a quarter more than it takes."""
    left = float("inf") if until is None else until - time.time()
    if 1.25 * takes(name) <= left:
        return True
    minutes = f"about {takes(name) / 60:.0f} min, and {max(0, left) / 60:.0f} are left"
    print(f"scenario {name}: not begun, it takes {minutes}", flush=True)
    return False


def next_one(waiting: Collection[str], running: Collection[Scenario]) -> str | None:
    """The first that may begin now: one of ALONE when nothing runs, and then nothing beside it."""
    if any(found.name in ALONE for found in running):
        return None
    return next((name for name in waiting if not (running and name in ALONE)), None)


def each_scenario(names: list[str], clusters: list[str], until: float | None = None) -> Count:
    """Run scenarios, as many at a time as there are clusters; their outputs one after another.

    With a time, in seconds since 1970, none begins that would not be through by then.
    """
    waiting = list(names)
    running: dict[str, Scenario] = {}
    total = Count()
    with tempfile.TemporaryDirectory() as folder:
        try:
            while waiting or running:
                for cluster in clusters:
                    while cluster not in running and (name := next_one(waiting, running.values())):
                        waiting.remove(name)
                        if fits(name, until):
                            running[cluster] = start_scenario(name, cluster, Path(folder))
                time.sleep(0.5)
                ended = [
                    name for name, found in running.items() if found.process.poll() is not None
                ]
                for cluster in ended:
                    total = total.plus(end_scenario(running.pop(cluster), Path(folder)))
        finally:
            for found in running.values():
                stop(found.process)
    return total


def start_scenario(name: str, cluster: str, folder: Path) -> Scenario:
    chosen = f"--scenario-name={name}"
    # To molecule, a cluster that was prepared for another scenario is prepared.
    line = (
        f"molecule create {chosen} && molecule prepare {chosen} --force"
        f" && molecule test {chosen} --destroy=never"
    )
    command = ["bash", "-c", line]
    print("$", line, "# on", cluster, flush=True)
    settings = {
        "MLFLOW_TEST_CLUSTER": cluster,
        "MLFLOW_TEST_HTTP_PORT": str(CLUSTERS[cluster]),
        "MLFLOW_TEST_REPORTS": str(folder),
        "MOLECULE_EPHEMERAL_DIRECTORY": str(notes(cluster)),
    }
    output = folder / f"{name}.log"
    with output.open("w", encoding="utf-8") as file:
        process = start(command, output=file, environment=settings)
    return Scenario(name, process, output, time.monotonic())


def end_scenario(scenario: Scenario, folder: Path) -> Count:
    """Print what a scenario wrote; count its tests, and itself as one."""
    show(scenario.output)
    ok = scenario.process.returncode == 0
    count = counted(Path(folder, f"{scenario.name}.xml"), succeeded=True)
    took = time.monotonic() - scenario.began
    if ok:
        remember(scenario.name, took)
    print(
        f"scenario {scenario.name}: {count.passed} passed, {count.failed} failed in {took:.0f} s"
        + ("" if ok else "; molecule failed"),
        flush=True,
    )
    itself = Count(passed=int(ok), failed=int(not ok))
    return count.plus(itself.called(f"scenario {scenario.name}"))


def notes(cluster: str) -> Path:
    """Where molecule remembers what it did with a cluster.

    Its own choice of a place goes by the name of the checkout's folder, which two may share.
    """
    return CACHE / "molecule" / cluster


def every_cluster() -> list[str]:
    return [f"{cluster}{end}" for cluster in CLUSTERS for end in OF_THEIR_OWN]


def remove_clusters() -> None:
    for cluster in every_cluster():
        # Molecule's notes say that there is a cluster, and it would not look.
        shutil.rmtree(notes(cluster), ignore_errors=True)
        run(
            [
                str(BIN / "ansible-playbook"),
                "dev/kind.yml",
                "--extra-vars=kind_cluster_state=absent",
                f"--extra-vars=kind_cluster_name={cluster}",
            ]
        )


def leftovers() -> list[str]:
    """What the clusters of the tests would leave on this machine."""
    found = []
    environment = {**os.environ, "CONTAINERS_CONF": str(CACHE / "containers.conf")}
    for engine in filter(shutil.which, ("docker", "podman")):

        def names(engine: str, *listing: str) -> list[str]:
            return subprocess.run(
                [engine, *listing], env=environment, capture_output=True, text=True, check=False
            ).stdout.split()

        nodes = [
            name
            for name in names(engine, "ps", "--all", "--format={{.Names}}")
            if name.endswith("-control-plane")
        ]
        ours = {f"{cluster}-control-plane" for cluster in every_cluster()}
        found += [f"container {name}" for name in nodes if name in ours]
        # Another cluster may be using it.
        if not nodes and "kind" in names(engine, "network", "ls", "--format={{.Name}}"):
            found.append("network kind")
    return found + [
        f"folder clusters/{cluster}"
        for cluster in every_cluster()
        if (CACHE / "clusters" / cluster).exists()
    ]


STAGES: dict[str, Callable[[], Count]] = {
    "lint": lint,
    "sanity": sanity,
    # Most of them wait for something: together they take half as long.
    "unit": lambda: pytest("--numprocesses=3", "--dist=worksteal", "tests/unit"),
    "ship": lambda: pytest("--numprocesses=2", "--dist=loadfile", "tests/ship"),
    "manifests": manifests,
    # After those, which see to kustomize.
    "docs": lambda: pytest("--numprocesses=2", "--dist=loadfile", "tests/docs"),
    "bad-input": lambda: pytest("--numprocesses=2", "--dist=loadgroup", "tests/bad_input"),
    "versions": versions,
    "integration": integration,
    "molecule": molecule,
}
# What make test leaves to make test-all and, one version at a time, to continuous integration.
RARE = {"versions"}
# Nothing that takes minutes starts while these fail.
FAST = {"lint", "sanity", "unit", "ship", "manifests", "docs"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=STAGES)
    parser.add_argument("--scenarios", nargs="+", choices=sorted(SCENARIOS), default=[])
    parser.add_argument("--all", action="store_true", help="all stages and scenarios")
    parser.add_argument(
        "--until",
        type=float,
        help="after all that, a share of the other scenarios that is done by this time (date +%%s)",
    )
    arguments = parser.parse_args()
    scenarios = sorted(SCENARIOS) if arguments.all else arguments.scenarios
    rare = set() if arguments.all or arguments.until else RARE
    wanted = ["molecule"] if arguments.scenarios else arguments.only or set(STAGES) - rare
    be_stopped_by(*SIGNALS)
    total = Count()
    try:
        for name, stage in STAGES.items():
            if name not in wanted:
                continue
            if total.failed and name not in FAST:
                print(f"== {name}: not run, because of the failures above", flush=True)
                continue
            print(f"== {name}", flush=True)
            started = time.monotonic()
            if name == "molecule":
                count = molecule(scenarios, arguments.until)
            elif name == "versions" and arguments.until:
                count = versions(commits())
            else:
                count = stage()
            total = total.plus(count.called(name))
            print(
                f"== {name}: {count.passed} passed, {count.failed} failed, {count.skipped} skipped"
                f" in {time.monotonic() - started:.0f} s",
                flush=True,
            )
    except BaseException:
        # Interrupted: what did not come to its end counts as one failure.
        total = total.plus(Count(failed=1))
        raise
    finally:
        # The end is what a reader of a long output sees.
        for name in total.names[:20]:
            print(f"failed: {name}")
        skipped = f", {total.skipped} skipped" if total.skipped else ""
        print(f"{total.passed} passed, {total.failed} failed{skipped}", flush=True)
    return 1 if total.failed or not total.passed else 0


if __name__ == "__main__":
    sys.exit(main())
