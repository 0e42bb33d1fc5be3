"""Secrets that are known, everything that is left of a run, and a search for the ones in the other.

Every secret variable has a canary: a value made up for this session, so that it is in no file of
the repository. It is looked for in every spelling that the collection masks.
"""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json
import os
import secrets
import subprocess
import threading
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s import spellings

ROOT = Path(__file__).parents[3]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlops-mlflow"
KUBECONFIG = CACHE / "clusters" / os.environ["KIND_CLUSTER_NAME"] / "kubeconfig"
NAMESPACE = os.environ.get("MLFLOW_TEST_NAMESPACE", "mlflow-leaks")
# What the API server has that a secret must not be in. Secrets themselves are not among it.
KINDS = (
    "configmaps,events,pods,deployments,replicasets,statefulsets,jobs,cronjobs,services,leases,"
    "persistentvolumeclaims,serviceaccounts,networkpolicies,controllerrevisions"
)


def secret_variables() -> list[str]:
    """Return every variable of every role that is a secret by its specification."""
    found = []
    for path in sorted((ROOT / "roles").glob("*/meta/argument_specs.yml")):
        spec = yaml.safe_load(path.read_text(encoding="utf-8"))
        for name, option in (spec["argument_specs"]["main"].get("options") or {}).items():
            if option.get("no_log"):
                found.append(name)
    return found


def canary(name: str) -> str:
    """Make up a value that is good for the variable."""
    text = f"canary{secrets.token_hex(13)}"
    if name.endswith("_webhook_encryption_key"):
        return base64.urlsafe_b64encode(text.encode()).decode()
    return text


class Search:
    """Looks for canaries."""

    def __init__(self, canaries: dict[str, str]) -> None:
        self.canaries = canaries

    def names_in(self, data: bytes | str) -> list[str]:
        """Return the names of the canaries in a text."""
        text = data if isinstance(data, str) else data.decode(errors="replace")
        return [name for name, value in self.canaries.items() if spellings.is_in(text, value)]


class Processes(threading.Thread):
    """Watches the arguments of all processes: this machine's, and so those of the pods, too."""

    def __init__(self, search: Search) -> None:
        super().__init__(daemon=True)
        self._search = search
        self._ended = threading.Event()
        self.found: set[tuple[str, str]] = set()
        self._seen: set[bytes] = set()

    def run(self) -> None:
        while not self._ended.wait(0.1):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    data = path.read_bytes()
                except OSError:
                    continue
                if data in self._seen:
                    continue
                self._seen.add(data)
                for name in self._search.names_in(data):
                    self.found.add((name, data.split(b"\0")[0].decode(errors="replace")))

    def stop(self) -> set[tuple[str, str]]:
        self._ended.set()
        self.join()
        return self.found


@dataclasses.dataclass
class Outcome:
    """A run of a playbook, and where canaries were found in what is left of it."""

    code: int
    output: str
    hits: list[str]


def kubectl(*arguments: str) -> str:
    done = subprocess.run(
        ["kubectl", f"--kubeconfig={KUBECONFIG}", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout


class Hunt:
    """Runs playbooks with the canaries, and looks for these afterwards."""

    def __init__(self, folder: Path, canaries: dict[str, str], settings: dict[str, Any]) -> None:
        self.folder = folder
        self.canaries = canaries
        self.settings = settings
        self.search = Search(canaries)
        self._count = 0

    def look_for(self, name: str, value: str) -> None:
        """Look for one more canary from now on."""
        self.canaries[name] = value
        self.search = Search(self.canaries)

    def run(self, playbook: str, changes: dict[str, Any], *options: str) -> Outcome:
        """Run a playbook as loudly as can be."""
        self._count += 1
        place = self.folder / str(self._count)
        for name in ("left", "given"):
            (place / name).mkdir(parents=True)
        given = place / "given" / "variables.json"
        variables = {**self.settings, **changes}
        given.write_text(json.dumps(variables), encoding="utf-8")
        watch = Processes(self.search)
        watch.start()
        done = subprocess.run(
            [
                "ansible-playbook",
                f"--inventory={ROOT}/inventories/staging",
                f"--inventory={ROOT}/molecule/inventory",
                f"--extra-vars=@{given}",
                "-vvv",
                "--diff",
                playbook,
                *options,
            ],
            cwd=ROOT,
            env=self._environment(place / "left"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=900,
            check=False,
        )
        hits = [f"arguments of {program}: {name}" for name, program in watch.stop()]
        hits += self._look("output", done.stdout)
        hits += self._look_into(place / "left")
        return Outcome(done.returncode, done.stdout, hits)

    def _environment(self, left: Path) -> dict[str, str]:
        return {
            **os.environ,
            "PATH": f"{CACHE / 'bin'}:{os.environ['PATH']}",
            "TMPDIR": str(left),
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_LOCAL_TEMP": str(left / "local"),
            "ANSIBLE_REMOTE_TEMP": str(left / "remote"),
            "ANSIBLE_LOG_PATH": str(left / "ansible.log"),
            "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "molecule/leaks/callback_plugins"),
            "ANSIBLE_CALLBACKS_ENABLED": "record,ansible.builtin.junit",
            "JUNIT_OUTPUT_DIR": str(left / "junit"),
            "MLFLOW_TEST_RECORD": str(left / "results.jsonl"),
        }

    def _look(self, where: str, data: bytes | str) -> list[str]:
        return [f"{where}: {name}" for name in self.search.names_in(data)]

    def _look_into(self, folder: Path) -> list[str]:
        hits = []
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                hits += self._look(f"file {path.relative_to(folder)}", path.read_bytes())
        return hits

    def cluster(self) -> list[str]:
        """Look into everything in the namespace that is no Secret, and what its pods wrote."""
        hits = []
        for kind in KINDS.split(","):
            text = kubectl("get", kind, f"--namespace={NAMESPACE}", "--output=json")
            hits += self._look(kind, text)
            for item in json.loads(text)["items"]:
                # The record of releases is compressed.
                for name, data in (item.get("binaryData") or {}).items():
                    if name.endswith(".gz"):
                        content = gzip.decompress(base64.b64decode(data))
                        hits += self._look(f"{kind}: {name}", content)
        for pod in kubectl("get", "pods", f"--namespace={NAMESPACE}", "--output=name").split():
            text = kubectl("logs", pod, f"--namespace={NAMESPACE}", "--all-containers", "--tail=-1")
            hits += self._look(f"log of {pod}", text)
        return hits

    def checkout(self) -> list[str]:
        """Look into every file of the checkout that git would take in."""
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
        hits = []
        for name in listed.stdout.decode().split("\0"):
            path = ROOT / name
            if name and path.is_file():
                hits += self._look(f"checkout {name}", path.read_bytes())
        return hits
