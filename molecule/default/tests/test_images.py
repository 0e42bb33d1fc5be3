"""The images that run are those that docs/supply-chain.md describes.

Only where they were built here: a published image has its publisher's own contents.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from testinfra.host import Host

NAMESPACE = "mlflow-development"
SBOM = "/usr/share/doc/sbom"
COMPILERS = ("cc", "gcc", "g++", "clang", "make", "ld", "as", "go", "rustc")
INSTALLED = (
    "import importlib.metadata as m;"
    "print(*sorted(f'{d.name}=={d.version}' for d in m.distributions()), sep='\\n')"
)


@pytest.fixture(params=["server", "database"])
def container(
    request: pytest.FixtureRequest,
    pod: Callable[[str, str, str], Host],
    objects: Callable[[str, str], list[dict[str, Any]]],
) -> Host:
    component = "app.kubernetes.io/component"
    item = next(
        item
        for item in objects("pods", NAMESPACE)
        if item["metadata"]["labels"].get(component) == request.param
        and item["status"]["phase"] == "Running"
    )
    main = item["spec"]["containers"][0]
    if not main["image"].startswith("localhost/"):
        pytest.skip(f"{main['image']} was not built here")
    return pod(item["metadata"]["name"], main["name"], NAMESPACE)


def components(container: Host, name: str) -> dict[str, str]:
    document = json.loads(container.check_output(f"cat {SBOM}/{name}.cdx.json"))
    assert document["bomFormat"] == "CycloneDX"
    return {item["name"]: item["version"] for item in document["components"]}


def test_no_compiler_and_no_root(container: Host) -> None:
    assert container.check_output("id --user") != "0"
    for name in COMPILERS:
        assert not container.exists(name), name


def test_the_bill_of_materials_has_every_debian_package(container: Host) -> None:
    query = "dpkg-query --show --showformat='${binary:Package} ${Version}\\n'"
    installed = dict(line.split() for line in container.check_output(query).splitlines())
    assert len(installed) > 50
    listed = components(container, "debian")
    missing = {name.partition(":")[0] for name in installed} - set(listed)
    assert not missing
    assert listed["libc6"] == installed.get("libc6", installed.get("libc6:amd64"))


@pytest.mark.parametrize("container", ["server"], indirect=True)
def test_the_bill_of_materials_has_every_python_package(container: Host) -> None:
    installed = container.check_output("/opt/mlflow/bin/python -c %s", INSTALLED).splitlines()
    assert len(installed) > 50
    listed = components(container, "python")
    # Names are compared as pip compares them.
    found = {
        f"{re.sub('[-_.]+', '-', name).lower()}=={version}" for name, version in listed.items()
    }
    for package in installed:
        name, _equals, version = package.partition("==")
        assert f"{re.sub('[-_.]+', '-', name).lower()}=={version}" in found
