"""Every block of YAML in the pages works: inventories pass preflight, overlays build.

Preflight is the role that site.yml begins with. Here it runs without a cluster, in one run with one
host for each block.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from ansible_collections.mlops.mlflow.plugins.filter.survey import specs
from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory import types
from ansible_collections.mlops.mlflow.tests.docs.pages import ROOT, Block, blocks, filled
from ansible_collections.mlops.mlflow.tests.manifests import tree
from ansible_collections.mlops.mlflow.tests.ship.galaxy import BIN

# What only a page's reader has a schema for: kinds of operators that are not ours.
FOREIGN = {
    ("argoproj.io/v1alpha1", "Application"),
    ("kustomize.toolkit.fluxcd.io/v1", "Kustomization"),
    ("postgresql.cnpg.io/v1", "Cluster"),
}
BUILT_IN = re.compile(
    r"v1$|(apps|autoscaling|batch|policy|(networking|rbac\.authorization)\.k8s\.io)/"
)
# How the pages call the folder of this collection, seen from an overlay of the reader's own.
CHECKOUT = "../../mlops-mlflow/kustomize/"
PRODUCTION = f"{CHECKOUT}overlays/production"
OVERLAY_KEYS = {
    "apiVersion", "kind", "namespace", "resources", "components", "patches", "images",
    "configMapGenerator", "replacements", "labels", "commonAnnotations",
}  # fmt: skip
Document = dict[str, Any]


def is_playbook(block: Block) -> bool:
    return isinstance(yaml.safe_load(filled(block.text)), list)


def loaded(block: Block) -> Document:
    document = yaml.safe_load(filled(block.text))
    assert isinstance(document, dict), f"{block.name}: is not a mapping"
    return document


def file_of(block: Block) -> str:
    """Return the name of the file that a block is, if its first line says so."""
    found = re.match(r"# (\S+/kustomization\.yml)$", block.text.split("\n", 1)[0])
    return found[1] if found else ""


def kind_of(block: Block) -> str:
    """Return what a block is: variables, inventory, playbook, overlay, component or object."""
    if is_playbook(block):
        return "playbook"
    document = loaded(block)
    if set(document) <= set(specs()):
        return "variables"
    if "all" in document:
        return "inventory"
    if document.get("kind") == "Component":
        return "component"
    foreign = (document.get("apiVersion"), document.get("kind")) in FOREIGN
    if foreign or document.get("kind", "Kustomization") != "Kustomization":
        return "object"
    return "overlay" if set(document) <= OVERLAY_KEYS else "nothing that is known"


YAML = [(kind_of(block), block) for block in blocks("yaml")]


def of_kind(*kinds: str) -> list[Block]:
    return [block for kind, block in YAML if kind in kinds]


def playbook(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ansible-playbook with the environment of `make env`."""
    return subprocess.run(
        [str(BIN / "ansible-playbook"), *arguments],
        env={
            **os.environ,
            "PATH": f"{BIN}:{tree.CACHED_TOOLS}:{os.environ['PATH']}",
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
        },
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("kind", "block"), YAML, ids=[block.name for _kind, block in YAML])
def test_a_block_is_of_a_kind_that_is_tested(kind: str, block: Block) -> None:
    assert kind != "nothing that is known", loaded(block)


# --- overlays -------------------------------------------------------------------------------------


def before(block: Block, *kinds: str) -> list[Block]:
    """Return the blocks of these kinds on the same page, up to this one."""
    return [b for b in of_kind(*kinds) if b.page == block.page and b.line < block.line]


def whole(block: Block) -> Document:
    """Return a part of an overlay with what the page said before of the rest."""
    document = loaded(block)
    earlier = [
        loaded(b)["components"] for b in before(block, "overlay") if "components" in loaded(b)
    ]
    if "components" not in document and "resources" not in document and earlier:
        document["components"] = earlier[0]
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        # References between what a component adds and what there is hold within a namespace.
        "namespace": "mlflow-production",
        "resources": [PRODUCTION],
        **document,
    }


def lay_out(folder: Path, page: str) -> Path:
    """Write the files that a page shows beside a checkout, and return the folder they are in."""
    own = folder / "mine"
    own.mkdir(parents=True)
    (folder / "mlops-mlflow").symlink_to(ROOT)
    for block in of_kind("overlay", "component"):
        if block.page == page and file_of(block):
            write(own / file_of(block), loaded(block))
    return own


def write(file: Path, document: Document) -> Path:
    """Write a kustomization, and return its folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return file.parent


def build(block: Block, folder: Path) -> tuple[Document, tuple[Document, ...]]:
    """Build what a block shows; return it, and the objects."""
    own = lay_out(folder, block.page)
    if kind_of(block) == "overlay":
        document = whole(block)
        return document, tree.build(write(own / "overlay-of-a-test/kustomization.yml", document))
    # On top of all that brings pods of its own.
    names = ("smoke-test", "backup", "gc", "monitoring", "network-policy", "auth")
    document = {
        "namespace": "mlflow-production",
        "resources": [PRODUCTION],
        "components": [
            *(f"{CHECKOUT}components/{name}" for name in names),
            f"../{Path(file_of(block)).parent}",
        ],
    }
    built = tree.build(write(own / "overlay-of-a-test/kustomization.yml", document))
    return loaded(block), built


@pytest.mark.parametrize("block", of_kind("overlay", "component"), ids=lambda block: block.name)
def test_it_builds_and_passes_pod_security_and_each_patch_finds_its_object(
    block: Block, tmp_path: Path
) -> None:
    document, built = build(block, tmp_path)
    for patch in document.get("patches", []):
        for kind in target_of(patch).get("kind", ".*").split("|"):
            target = {**target_of(patch), "kind": kind}
            found = [item for item in built if matches(target, item)]
            assert found, patch
            for item in found:
                if BUILT_IN.match(item["apiVersion"]):
                    validate(item)
    assert_restricted(built)


def assert_restricted(built: tuple[Document, ...]) -> None:
    """See that all pods pass Pod Security's level, which the overlays' namespaces enforce."""
    for name, pod in tree.pods(built):
        whole_pod = pod["spec"].get("securityContext", {})
        for container in tree.containers(pod):
            context = {**whole_pod, **container.get("securityContext", {})}
            where = f"{name}: {container['name']}"
            assert context.get("allowPrivilegeEscalation") is False, where
            assert context.get("capabilities", {}).get("drop") == ["ALL"], where
            assert context.get("runAsNonRoot") is True, where
            assert context.get("seccompProfile") == {"type": "RuntimeDefault"}, where


def test_what_a_component_of_ones_own_patches_reaches_every_pod(tmp_path: Path) -> None:
    (block,) = [b for b in of_kind("component") if file_of(b).startswith("sandbox/")]
    _document, built = build(block, tmp_path)
    found = {name: pod["spec"].get("runtimeClassName") for name, pod in tree.pods(built)}
    assert len(found) >= 6 and set(found.values()) == {"gvisor"}, found


def target_of(patch: Document) -> Document:
    """Return the kind and the name of what a patch is for."""
    if "target" in patch:
        return dict(patch["target"])
    document = yaml.safe_load(patch["patch"])
    return {"kind": document["kind"], "name": document["metadata"]["name"]}


def matches(target: Document, item: Document) -> bool:
    labels = item["metadata"].get("labels", {})
    selected = dict(part.split("=") for part in target.get("labelSelector", "").split(",") if part)
    name = re.sub(r"-[0-9a-z]{10}$", "", item["metadata"]["name"])
    return (
        re.fullmatch(target.get("kind", ".*"), item["kind"]) is not None
        and any(
            re.fullmatch(target.get("name", ".*"), known)
            for known in (name, item["metadata"]["name"])
        )
        and selected.items() <= labels.items()
    )


# --- objects --------------------------------------------------------------------------------------


def validate(item: Document) -> None:
    kubernetes_validate.validate(item, "1.33", strict=True)


@pytest.mark.parametrize("block", of_kind("object"), ids=lambda block: block.name)
def test_an_object_is_one_that_kubernetes_takes(block: Block) -> None:
    item = loaded(block)
    if (item["apiVersion"], item["kind"]) not in FOREIGN:
        validate(item)


# --- playbooks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", of_kind("playbook"), ids=lambda block: block.name)
def test_a_playbook_is_one_and_names_what_there_is(block: Block, tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text(block.text, encoding="utf-8")
    done = playbook("--syntax-check", str(tmp_path / "play.yml"))
    assert done.returncode == 0, done.stdout
    for task in (task for play in yaml.safe_load(block.text) for task in play.get("tasks", [])):
        for action, arguments in task.items():
            if action.startswith("mlops.mlflow."):
                assert (ROOT / f"plugins/modules/{action.rpartition('.')[2]}.py").is_file(), action
            if action.endswith(("include_role", "import_role")):
                assert (ROOT / "roles" / arguments["name"].rpartition(".")[2]).is_dir(), arguments
            if action == "vars":
                assert set(arguments) <= set(specs()), arguments


# --- inventories ----------------------------------------------------------------------------------

PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.include_role:
        name: mlops.mlflow.preflight
        rolespec_validate: false
"""


def host(block: Block) -> str:
    return re.sub(r"\W+", "-", block.name)


def variables_of(block: Block) -> Document:
    """Return the variables that a block sets for a release."""
    document = loaded(block)
    return {name: value for name, value in document.items() if name.startswith("mlflow_")}


def releases() -> list[Block]:
    return [block for block in of_kind("variables") if variables_of(block)]


@pytest.fixture(scope="module")
def preflight(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a run of preflight says, in which each block is a host."""
    folder = tmp_path_factory.mktemp("inventory")
    # An inventory each, in a folder each: paths in it are relative to that.
    inventories: list[str] = []
    for block in releases():
        file = lay_out(folder / host(block), block.page) / "hosts.yml"
        hosts = {host(block): {"mlflow_environment": "production", **variables_of(block)}}
        file.write_text(json.dumps({"all": {"hosts": hosts}}), encoding="utf-8")
        inventories += ["-i", str(file)]
    shared = {
        "ansible_connection": "local",
        "ansible_python_interpreter": str(BIN / "python"),
        "preflight_cluster": False,
    }
    (folder / "play.yml").write_text(PLAY, encoding="utf-8")
    done = playbook(*inventories, "-e", json.dumps(shared), str(folder / "play.yml"))
    return done.stdout


def failures(name: str, said: str) -> list[str]:
    """Return what a run says of a host that did not come through preflight."""
    recap = re.search(rf"^{re.escape(name)} +: ok=(\d+) .*failed=(\d+)", said, re.MULTILINE)
    assert recap, said[-3000:]
    # Variables, build, and what must not be deployed.
    if recap[2] == "0" and int(recap[1]) >= 3:
        return []
    return re.findall(
        rf"^\S+ \[{re.escape(name)}\]: FAILED.*(?:\n {{4}}.*)*", said, re.MULTILINE
    ) or [said]


@pytest.mark.parametrize("block", releases(), ids=lambda block: block.name)
def test_a_release_of_these_variables_passes_preflight(block: Block, preflight: str) -> None:
    assert failures(host(block), preflight) == []


def hosts_in(group: Document) -> list[str]:
    """Return the names of the hosts of a group, and of those below it."""
    below = [name for child in group.get("children", {}).values() for name in hosts_in(child)]
    return [*group.get("hosts", {}), *below]


@pytest.mark.parametrize("block", of_kind("inventory"), ids=lambda block: block.name)
def test_each_release_of_an_inventory_passes_preflight(block: Block, tmp_path: Path) -> None:
    """The file as it is printed: each host is a release, with what its groups say."""
    file = lay_out(tmp_path, block.page) / "hosts.yml"
    file.write_text(block.text, encoding="utf-8")
    (tmp_path / "play.yml").write_text(PLAY, encoding="utf-8")
    shared = json.dumps({"preflight_cluster": False})
    done = playbook("-i", str(file), "-e", shared, str(tmp_path / "play.yml"))
    names = hosts_in(loaded(block)["all"])
    assert names, "an inventory without a host has no release"
    assert [said for name in names for said in failures(name, done.stdout)] == []


@pytest.mark.parametrize(
    "block",
    [b for b in of_kind("variables") if not variables_of(b)],
    ids=lambda block: block.name,
)
def test_variables_of_another_playbook_have_their_types(block: Block) -> None:
    document = loaded(block)
    problems = [
        p for name, value in document.items() for p in types.check_value(name, specs()[name], value)
    ]
    assert problems == []
