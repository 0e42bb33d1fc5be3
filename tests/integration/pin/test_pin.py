# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""make pin against a registry on this machine: Debian's docker-registry, for the tests only."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[3]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlops-mlflow"
BIN = ROOT / ".venv" / "bin"


def image(folder: Path, content: str) -> None:
    """Make an image as files: one layer, empty, and a label to tell it by."""

    def blob(data: bytes) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        path = folder / "blobs/sha256" / digest
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Labels": {"content": content}},
        "rootfs": {"type": "layers", "diff_ids": []},
    }
    kind = "application/vnd.oci.image"
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{kind}.manifest.v1+json",
        "config": {
            "mediaType": f"{kind}.config.v1+json",
            **blob(json.dumps(config).encode()),
        },
        "layers": [],
    }
    top = {"mediaType": manifest["mediaType"], **blob(json.dumps(manifest).encode())}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))
    (folder / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))


class Registry(NamedTuple):
    """A registry that listens on loopback."""

    address: str
    folder: Path

    def push(self, name: str, content: str) -> str:
        """Push an image, and return the digest that skopeo says it has."""
        source = self.folder / f"image-{content}"
        image(source, content)
        digest = self.folder / "digest"
        subprocess.run(
            [
                "skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false",
                f"--digestfile={digest}", f"oci:{source}", f"docker://{self.address}/{name}",
            ],
            check=True,
        )  # fmt: skip
        return digest.read_text().strip()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    folder = tmp_path_factory.mktemp("registry")
    port = free_port()
    settings = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    (folder / "config.yml").write_text(json.dumps(settings))
    with subprocess.Popen(["docker-registry", "serve", str(folder / "config.yml")]) as process:
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.1)
            yield Registry(f"127.0.0.1:{port}", folder)
        finally:
            process.terminate()


class Inventory(NamedTuple):
    """An inventory of production's making, and prod with links to its files."""

    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "production/group_vars/all.yml"

    def pin(self, *more: str, name: str = "production") -> tuple[bool, str]:
        done = subprocess.run(
            [
                str(BIN / "ansible-playbook"), "-i", str(self.folder / name),
                str(ROOT / "playbooks/pin.yml"), "-e", "pin_tls_verify=false", *more,
            ],
            cwd=ROOT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
            env={
                **os.environ,
                "PATH": f"{BIN}:{CACHE / 'bin'}:{os.environ['PATH']}",
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            },
        )  # fmt: skip
        return done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def inventory(tmp_path: Path) -> Inventory:
    for name in ("production", "prod"):
        for file in ("hosts.yml", "group_vars/all.yml"):
            source = ROOT / "inventories" / name / file
            target = tmp_path / name / file
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_symlink():
                target.symlink_to(os.readlink(source))
            else:
                target.write_text(source.read_text())
    return Inventory(tmp_path)


def use(inventory: Inventory, registry: Registry) -> None:
    """Have the inventory name images of the registry."""
    with inventory.file.open("a") as file:
        file.write(f"mlflow_image: {registry.address}/mlflow:v3.17.2-full\n")
        file.write(f"mlflow_postgres_image: {registry.address}/postgres:17\n")


def changed(output: str) -> int:
    found = re.search(r"changed=(\d+)", output)
    assert found, output
    return int(found[1])


def test_digests_are_those_of_the_registry_and_follow_a_tag_that_moves(
    inventory: Inventory, registry: Registry
) -> None:
    mlflow = registry.push("mlflow:v3.17.2-full", "mlflow-1")
    postgres = registry.push("postgres:17", "postgres-1")
    use(inventory, registry)
    before = inventory.file.read_text()

    ok, output = inventory.pin("--check")
    assert ok, output
    assert (changed(output), inventory.file.read_text()) == (1, before)

    # Through the link: production's file is written, and the link stays one.
    ok, output = inventory.pin(name="prod")
    assert ok, output
    assert changed(output) == 1
    text = inventory.file.read_text()
    assert f"\nmlflow_image: {registry.address}/mlflow:v3.17.2-full@{mlflow}\n" in text
    assert f"\nmlflow_postgres_image: {registry.address}/postgres:17@{postgres}\n" in text
    assert (inventory.folder / "prod/group_vars/all.yml").is_symlink()
    assert [line for line in text.splitlines() if "_image" not in line] == [
        line for line in before.splitlines() if "_image" not in line
    ]

    ok, output = inventory.pin()
    assert ok, output
    assert (changed(output), inventory.file.read_text()) == (0, text)

    moved = registry.push("mlflow:v3.17.2-full", "mlflow-2")
    assert moved != mlflow
    ok, output = inventory.pin()
    assert ok, output
    assert changed(output) == 1
    assert inventory.file.read_text() == text.replace(mlflow, moved)


def test_what_no_registry_tells_is_not_made_up(inventory: Inventory, registry: Registry) -> None:
    registry.push("mlflow:v3.17.2-full", "mlflow-1")
    use(inventory, registry)
    before = inventory.file.read_text()

    # One of the two is known: the file stays as it is all the same.
    absent = f"{registry.address}/postgres:no-such"
    ok, output = inventory.pin("-e", f"mlflow_postgres_image={absent}")
    assert not ok
    assert "mlflow_postgres_image: no registry tells the digest" in " ".join(output.split())

    nobody = f"127.0.0.1:{free_port()}/mlflow:v3.17.2-full"
    ok, output = inventory.pin("-e", f"mlflow_image={nobody}")
    assert not ok
    assert "mlflow_image: no registry tells the digest" in " ".join(output.split())
    assert inventory.file.read_text() == before
    assert not list(inventory.file.parent.glob(".pin-*"))
