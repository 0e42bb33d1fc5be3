"""Looks at this machine and says, as JSON, what the role has to do and what stands in its way.

Reads only. The settings are one JSON object as first argument; see tasks/survey.yml.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

GIB = 1024**3
# Measured: a first build leaves 9 GiB in the caches and the engine's store, and one cluster with
# MLflow in it takes 1.5 GiB of memory.
ROOM_TO_BUILD, ROOM_TO_RUN, MEMORY = 15 * GIB, 6 * GIB, 3 * GIB


def output_of(command: list[str], environment: dict[str, str] | None = None) -> str | None:
    """What a command prints, or None where it is missing, fails or hangs."""
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def version_in(text: str) -> tuple[int, ...]:
    """The first x.y.z in a program's words about itself."""
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", text)
    return tuple(int(part) for part in found.groups()) if found else ()


def recent_tools(tools: list[dict[str, Any]], path: str) -> dict[str, str]:
    """Of the tools wanted, those that are on PATH and recent enough, with where they are."""
    usable = {}
    for tool in tools:
        place = shutil.which(tool["name"], path=path)
        if place is None:
            continue
        said = output_of([place, *tool["version"][1:]])
        if said and version_in(said) >= version_in(tool["at_least"]):
            usable[tool["name"]] = place
    return usable


def registry_answers() -> bool:
    """Whether Docker Hub can be asked for an image: it answers 401 to who shows no token."""
    try:
        urllib.request.urlopen("https://registry-1.docker.io/v2/", timeout=5)
    except urllib.error.HTTPError as error:
        return error.code == 401
    except OSError:
        return False
    return True


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def missing_packages(names: list[str]) -> list[str]:
    if not names:
        return []
    # dpkg-query fails as a whole when it does not know one of the names, and prints the others.
    done = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *names],
        capture_output=True,
        text=True,
        check=False,
    )
    installed = {
        line.split()[0] for line in done.stdout.splitlines() if line.endswith(" installed")
    }
    return [name for name in names if name not in installed]


def existing_parent(path: Path) -> Path:
    return path if path.exists() else existing_parent(path.parent)


def cluster(engine: str, node: str, environment: dict[str, str]) -> dict[str, Any]:
    """The node's container: its state (absent, running, stopped) and the port it publishes."""
    found = output_of([engine, "inspect", "--type=container", node], environment)
    if found is None:
        return {"state": "absent", "port": None}
    container = json.loads(found)[0]
    bindings = (container["HostConfig"].get("PortBindings") or {}).get("30500/tcp") or [{}]
    return {
        "state": "running" if container["State"]["Running"] else "stopped",
        "port": int(bindings[0].get("HostPort") or 0) or None,
    }


def debian_release() -> str:
    try:
        text = Path("/etc/os-release").read_text()
    except OSError:
        return ""
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return f"{fields.get('ID', '')} {fields.get('VERSION_ID', '')}".replace('"', "")


def problems_of(survey: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    """What has to be put right by a person, each with what to do about it."""
    found = []
    if survey["go_needed"] and survey["go"] < (1, 26):
        said = ".".join(map(str, survey["go"])) or "not on PATH"
        found.append(f"Go 1.26 or newer is needed to build from source, found: {said}")
    if settings["state"] == "tools":
        return found
    building, engine = survey["build"], survey["engine"]
    if (building or survey["packages"]) and os.geteuid() != 0:
        found.append(
            "root is needed to build the node image or to install Debian packages"
            f" ({', '.join(survey['packages']) or 'none missing'}): run it as root, or start Docker"
            " and set KIND_CLUSTER_SOURCE=pull"
        )
    if building and survey["release"] != "debian 12":
        found.append(
            "images can be built on Debian 12 only, this is"
            f" {survey['release'] or 'another system'}: use a machine that"
            " reaches a container registry, with KIND_CLUSTER_SOURCE=pull"
        )
    locks = [Path(path) for path in settings["locks"]]
    found += [
        f"kind_cluster_mlflow_versions: there is no {lock} to build this version from"
        for lock in locks
        if building and not lock.exists()
    ]
    if building and engine != "podman":
        found.append("the node image is built with podman: set KIND_CLUSTER_PROVIDER=podman")
    if engine == "docker" and output_of(["docker", "info"]) is None:
        found.append("Docker's daemon does not answer: start it")
    if survey["cluster"] != "absent":
        if survey["port"] != settings["http_port"]:
            found.append(
                f"the cluster {settings['name']} publishes MLflow on port {survey['port']}, and"
                f" {settings['http_port']} is asked for: set"
                f" KIND_CLUSTER_HTTP_PORT={survey['port']}, or remove the cluster first"
            )
        return found
    # What is built already does not need its room twice.
    built = (Path(settings["cache_dir"]) / "kubernetes").exists()
    room_needed = ROOM_TO_BUILD if building and not built else ROOM_TO_RUN
    if survey["room"] < room_needed:
        found.append(
            f"{room_needed // GIB} GiB of disk are needed for {settings['cache_dir']},"
            f" {survey['room'] // GIB} GiB are free"
        )
    if survey["memory"] is not None and survey["memory"] < MEMORY:
        found.append(
            f"{MEMORY // GIB} GiB of free memory are needed,"
            f" {survey['memory'] / GIB:.1f} GiB are free"
        )
    if not port_is_free(settings["http_port"]):
        found.append(
            f"port {settings['http_port']} on 127.0.0.1 is in use: free it, or set"
            " KIND_CLUSTER_HTTP_PORT"
        )
    return found


def memory_available() -> int | None:
    """Bytes of memory that a new program could have, None where the kernel does not tell."""
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return None
    found = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def engines(settings: dict[str, Any]) -> list[str]:
    """The container engines to look for the cluster in, the one for a new one first."""
    if settings["provider"] != "auto":
        return [settings["provider"]]
    return ["docker", "podman"] if output_of(["docker", "info"]) is not None else ["podman"]


def environment_of(engine: str, cache: Path) -> dict[str, str]:
    ours = {"CONTAINERS_CONF": str(cache / "containers.conf")} if engine == "podman" else {}
    return {**os.environ, **ours}


def find_cluster(settings: dict[str, Any], cache: Path) -> tuple[str, dict[str, Any], bool]:
    """The engine, the cluster's state in it, and whether images are built for it."""
    found = engines(settings)
    for engine in found:
        node = cluster(engine, f"{settings['name']}-control-plane", environment_of(engine, cache))
        if node["state"] != "absent":
            break
    else:
        engine = found[0]
    if settings["state"] == "tools":
        return engine, node, False
    # An existing cluster stays with what it was made from, whatever the network says today.
    made_from = cache / "clusters" / settings["name"] / "source"
    if settings["source"] != "auto":
        build = settings["source"] == "build"
    elif node["state"] != "absent" and made_from.exists():
        build = made_from.read_text().strip() == "build"
    else:
        build = not registry_answers()
    # Only podman takes a node image that is built here, whether Docker runs or not.
    if build and node["state"] == "absent" and settings["provider"] == "auto":
        engine = "podman"
    return engine, node, build


def main(settings: dict[str, Any]) -> dict[str, Any]:
    cache = Path(settings["cache_dir"])
    path = ":".join(
        part for part in os.environ.get("PATH", "").split(":") if part != str(cache / "bin")
    )
    engine, node, build = find_cluster(settings, cache)
    usable = recent_tools(settings["tools"], path)
    packages: list[str] = []
    if shutil.which("dpkg-query") and settings["state"] != "tools":
        packages = settings["build_packages"] if build else []
        if engine == "podman" and (build or not shutil.which("podman", path=path)):
            packages = packages + settings["engine_packages"]
    survey: dict[str, Any] = {
        "engine": engine,
        "build": build,
        "cluster": node["state"],
        "port": node["port"],
        "tools": usable,
        "packages": missing_packages(packages),
        "go": version_in(output_of(["go", "version"]) or ""),
        "go_needed": build or len(usable) < len(settings["tools"]),
        "release": debian_release(),
        "memory": memory_available(),
        "room": shutil.disk_usage(existing_parent(cache)).free,
    }
    survey["problems"] = problems_of(survey, settings)
    return survey


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
