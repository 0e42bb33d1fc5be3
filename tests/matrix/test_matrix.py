# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Every component alone, and every two of them with and without each other, on each overlay.

All of it builds, is valid to Kubernetes, and gives kubeconform, kube-score and checkov nothing to
say that exceptions.yml does not explain. A new component is found by itself.
"""

from __future__ import annotations

import fnmatch
import itertools
import json
import os
import subprocess
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import kubernetes_validate
import pytest
import yaml
from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory import overlays, values
from ansible_collections.mlops.mlflow.tests.manifests.tree import (
    CACHED_TOOLS,
    TREE,
    Object,
    build,
    combine,
)

OVERLAYS = ("development", "staging", "production")
CHECKOV = CACHED_TOOLS.parent / "checkov/current/bin/python"
# Whose schemas are their own projects'.
CUSTOM = (
    *("external-secrets.io/", "gateway.networking.k8s.io/", "monitoring.coreos.com/"),
    "route.openshift.io/",
)
# What needs no other component. Whatever is neither here nor in overlays.NEEDS has not been thought
# about yet, and fails the test.
FREE = {
    "auth", "autoscaling", "backup", "external-postgres", "external-secrets",
    "gateway", "gc", "high-availability", "ingress", "monitoring", "network-policy", "openshift",
    "s3-artifacts", "shared-artifacts", "size-large", "size-medium", "size-small",
}  # fmt: skip
EXCEPTIONS = yaml.safe_load((Path(__file__).parent / "exceptions.yml").read_text("utf-8"))

Components = frozenset[str]


# --- Which combinations ---------------------------------------------------------------------------


def components() -> list[str]:
    """Return what an inventory may name."""
    names = overlays.shipped("components")
    return [name for name in names if name not in overlays.BUILT_IN_COMPONENTS]


def supported(chosen: Iterable[str]) -> bool:
    """Whether the collection accepts the components together."""
    names = sorted(chosen)
    refused = values.check_values({"mlflow_components": names})
    return not overlays.contradictions(names) and not refused


def with_needed(name: str) -> Components:
    """Return a component with what it is nothing without."""
    found = {name}
    while True:
        more = {overlays.NEEDS[item][0] for item in found if item in overlays.NEEDS}
        if more <= found:
            return frozenset(found)
        found |= more


def pairs(rows: Iterable[Components], names: list[str]) -> set[tuple[str, bool, str, bool]]:
    """Return which two components the rows have with and without each other."""
    return {
        (one, one in row, other, other in row)
        for row in rows
        for one, other in itertools.combinations(names, 2)
    }


def combinations(names: list[str]) -> list[Components]:
    """Return nothing, each component alone, and sets that have each two of them together."""
    rows = [frozenset[str](), *(with_needed(name) for name in names)]
    covered = pairs(rows, names)
    for one, other in itertools.combinations(names, 2):
        row = with_needed(one) | with_needed(other)
        if (one, True, other, True) in covered or not supported(row):
            continue
        # As many as go with these, those first that bring together most that were not yet.
        for _turn in names:
            candidates = [row | with_needed(name) for name in names if name not in row]
            fresh = {c: len(pairs([c], names) - covered) for c in candidates if supported(c)}
            best = max(fresh, key=lambda c: (fresh[c], sorted(c)), default=row)
            if not fresh or fresh[best] < len(pairs([row], names) - covered):
                break
            row = best
        rows.append(row)
        covered |= pairs([row], names)
    return rows


class Render(NamedTuple):
    """One combination on one overlay."""

    overlay: str
    components: Components
    objects: tuple[Object, ...]

    def __str__(self) -> str:
        return f"{self.overlay} with {', '.join(sorted(self.components)) or 'nothing'}"


def included(overlay: str) -> set[str]:
    """Return the components that an overlay has by itself."""
    file = overlays.kustomization_file(TREE / "overlays" / overlay)
    assert file
    return {Path(item).name for item in yaml.safe_load(file.read_text()).get("components", [])}


@pytest.fixture(scope="session")
def renders(tmp_path_factory: pytest.TempPathFactory) -> list[Render]:
    """Return everything, built as the collection builds it."""
    wanted = []
    for overlay in OVERLAYS:
        own = included(overlay)
        rows = {row - own for row in combinations(components())}
        wanted += [(overlay, row) for row in sorted(rows, key=sorted)]

    def make(item: tuple[str, Components]) -> Render:
        overlay, row = item
        folders = sorted((overlays.KUSTOMIZE / "components" / name for name in row), key=order)
        folder = combine(
            tmp_path_factory.mktemp("matrix"),
            f"overlays/{overlay}",
            "smoke-test",
            *(folder.name for folder in folders),
        )
        return Render(overlay, row, build(folder))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(make, wanted))


def order(folder: Path) -> tuple[int, str]:
    return overlays.rank(folder), folder.name


def test_every_component_says_what_it_needs() -> None:
    assert set(components()) <= FREE | set(overlays.NEEDS)
    assert {needed for needed, _why in overlays.NEEDS.values()} <= set(components())


def test_every_two_that_go_together_are_built_together() -> None:
    names = components()
    rows = combinations(names)
    covered = pairs(rows, names)
    for one, other in itertools.combinations(names, 2):
        if supported(with_needed(one) | with_needed(other)):
            assert (one, True, other, True) in covered
    for row in rows:
        assert supported(row), row


def test_what_makes_no_sense_is_refused() -> None:
    for name, (needed, _why) in overlays.NEEDS.items():
        assert overlays.contradictions([name]), name
        assert not overlays.contradictions([name, needed]), name
    for pair in overlays.EXCLUDES:
        assert overlays.contradictions(pair), pair


# --- What is said about them ----------------------------------------------------------------------


def native(objects: Iterable[Object]) -> Iterator[Object]:
    """Yield what Kubernetes itself knows."""
    return (o for o in objects if not o["apiVersion"].startswith(CUSTOM))


def unique(renders: Iterable[Render]) -> list[Object]:
    """Return each different object once: most are the same in most renders."""
    found = {json.dumps(o, sort_keys=True): o for r in renders for o in native(r.objects)}
    return list(found.values())


def test_all_is_valid(renders: list[Render]) -> None:
    version = kubernetes_validate.latest_version()
    for item in unique(renders):
        kubernetes_validate.validate(item, version, strict=True)
    for render in renders:
        names = [
            (o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"])
            for o in render.objects
        ]
        assert len(names) == len(set(names)), render


@pytest.fixture(scope="session")
def schemas(tmp_path_factory: pytest.TempPathFactory, renders: list[Render]) -> Path:
    """Return Kubernetes' own schemas as kubeconform reads them, for the kinds there are."""
    folder = tmp_path_factory.mktemp("schemas")
    version = kubernetes_validate.latest_version()
    package = Path(str(kubernetes_validate.__file__)).parent
    source = package / f"kubernetes-json-schema/v{version}-local-strict"
    kinds = {(o["kind"], o["apiVersion"]) for o in unique(renders)}
    names = {"_definitions.json"}
    for kind, api_version in kinds:
        group, _slash, number = api_version.rpartition("/")
        middle = f"{group.split('.')[0]}-" if group else ""
        names.add(f"{kind.lower()}-{middle}{number}.json")
    for name in names:
        # Their references begin at the root of a server.
        text = (source / name).read_text(encoding="utf-8").replace('"/api/_def', '"_def')
        document = json.loads(text)
        document.pop("$id", None)
        (folder / name).write_text(json.dumps(document), encoding="utf-8")
    return folder


def tool(name: str | Path, *arguments: str, stdin: str = "") -> str:
    """Return what one of the programs says, whatever its status."""
    path = CACHED_TOOLS / name
    if not path.exists():
        pytest.fail(f"there is no {path}: scripts/test.py --only manifests builds it")
    done = subprocess.run(
        [str(path), *arguments], input=stdin, capture_output=True, text=True, check=False
    )
    assert done.stdout, done.stderr
    return done.stdout


def test_kubeconform_has_nothing_to_say(schemas: Path, renders: list[Render]) -> None:
    location = f"{schemas}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
    text = yaml.safe_dump_all(unique(renders))
    said = json.loads(
        tool(
            "kubeconform", "-strict", "-summary", "-output=json", "-n=2",
            f"-schema-location={location}", stdin=text,
        )
    )  # fmt: skip
    assert said.get("resources") in (None, []), said["resources"]
    assert said["summary"]["valid"] == len(unique(renders))
    assert not said["summary"]["skipped"]


class Finding(NamedTuple):
    """What a program has to say about one object, in one render or in any."""

    tool: str
    check: str
    object: str
    where: str
    overlay: str = ""
    components: Components = frozenset()


def kube_score(render: Render) -> list[Finding]:
    text = yaml.safe_dump_all(native(render.objects))
    said = json.loads(
        tool("kube-score", "score", "--output-format=json", "--kubernetes-version=v1.36", "-",
             stdin=text)
    )  # fmt: skip
    return [
        Finding(
            "kube-score",
            check["check"]["id"],
            f"{item['type_meta']['kind']}/{item['object_meta']['name']}",
            str(render),
            render.overlay,
            render.components,
        )
        for item in said
        for check in item["checks"]
        if not check["skipped"] and check["grade"] < 10
    ]


def checkov(folder: Path, renders: list[Render]) -> list[Finding]:
    (folder / "all.yml").write_text(yaml.safe_dump_all(unique(renders)), encoding="utf-8")
    said = json.loads(
        tool(
            CHECKOV, "-m", "checkov.main", "--framework=kubernetes", "--file",
            str(folder / "all.yml"),
            "--skip-download", "--quiet", "--compact", "--output=json",
            # Whether a policy chooses a pod, kube-score says for each render; here they are mixed.
            "--skip-check=CKV2_K8S_6",
        )
    )  # fmt: skip
    found = []
    for item in said["results"]["failed_checks"]:
        kind, *_namespace, name = item["resource"].split(".", 2)
        found.append(Finding("checkov", item["check_id"], f"{kind}/{name}", "any"))
    assert said["summary"]["passed"], said["summary"]
    return found


def explains(exception: dict[str, str], finding: Finding) -> bool:
    """Whether an exception is about a finding."""
    return (
        (exception["tool"], exception["check"]) == (finding.tool, finding.check)
        and fnmatch.fnmatch(finding.object, exception["object"])
        and exception.get("without") not in finding.components
        and exception.get("with") in {None, *finding.components}
        and exception.get("overlay") in {None, finding.overlay}
    )


def test_what_kube_score_and_checkov_say_is_explained(
    tmp_path: Path, renders: list[Render]
) -> None:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = [finding for some in pool.map(kube_score, renders) for finding in some]
    found += checkov(tmp_path, renders)
    unexplained = {
        f"{f.tool} {f.check} {f.object} ({f.where})"
        for f in found
        if not any(explains(exception, f) for exception in EXCEPTIONS)
    }
    assert not unexplained, "\n".join(sorted(unexplained)[:40])
    for exception in EXCEPTIONS:
        assert exception["reason"]
        assert any(explains(exception, f) for f in found), f"no longer applies: {exception}"
