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
from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory import values
from ansible_collections.mlops.mlflow.tests.docs.pages import ROOT, Block, blocks, filled
from ansible_collections.mlops.mlflow.tests.manifests import tree
from ansible_collections.mlops.mlflow.tests.ship.galaxy import BIN

# What only this page's reader has a schema for: the kind of an operator that is not ours.
FOREIGN = {("postgresql.cnpg.io/v1", "Cluster")}
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


def loaded(block: Block) -> Document:
    document = yaml.safe_load(filled(block.text))
    assert isinstance(document, dict), f"{block.name}: is not a mapping"
    return document


def kind_of(block: Block) -> str:
    """Return what a block is: variables, inventory, overlay, object or patch."""
    document = loaded(block)
    if set(document) <= set(specs()):
        return "variables"
    if "all" in document:
        return "inventory"
    if document.get("kind", "Kustomization") != "Kustomization":
        first = block.text.splitlines()[0]
        return "patch" if first.startswith("# ") and first.endswith("-patch.yml") else "object"
    if set(document) <= OVERLAY_KEYS:
        return "overlay"
    return "nothing that is known"


YAML = [(kind_of(block), block) for block in blocks("yaml")]


def of_kind(*kinds: str) -> list[Block]:
    return [block for kind, block in YAML if kind in kinds]


@pytest.mark.parametrize(("kind", "block"), YAML, ids=[block.name for _kind, block in YAML])
def test_a_block_is_of_a_kind_that_is_tested(kind: str, block: Block) -> None:
    assert kind in ("variables", "inventory", "overlay", "object", "patch"), loaded(block)


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


def overlay(folder: Path, block: Block, document: Document) -> Path:
    """Write an overlay as its reader has it, beside a checkout, and return its folder."""
    # Of two blocks that are one file, the file's name in a comment tells which.
    own = folder / "mine/overlay"
    own.mkdir(parents=True)
    (folder / "mlops-mlflow").symlink_to(ROOT)
    text = yaml.safe_dump(document, sort_keys=False)
    (own / "kustomization.yml").write_text(text, encoding="utf-8")
    for patch in [b for b in of_kind("patch") if b.page == block.page]:
        name = patch.text.splitlines()[0].removeprefix("# ")
        (own / name).write_text(patch.text, encoding="utf-8")
    return own


@pytest.mark.parametrize("block", of_kind("overlay"), ids=lambda block: block.name)
def test_an_overlay_builds_and_each_patch_finds_its_object(block: Block, tmp_path: Path) -> None:
    document = whole(block)
    built = tree.build(overlay(tmp_path, block, document))
    for item in built:
        if BUILT_IN.match(item["apiVersion"]):
            validate(item)
    for patch in document.get("patches", []):
        assert any(matches(target_of(patch, tmp_path), item) for item in built), patch


def target_of(patch: Document, folder: Path) -> Document:
    """Return the kind and the name of what a patch is for."""
    if "target" in patch:
        return dict(patch["target"])
    if "path" in patch:
        text = (folder / "mine/overlay" / patch["path"]).read_text(encoding="utf-8")
    else:
        text = patch["patch"]
    document = yaml.safe_load(text)
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
    if "all" in document:
        return dict(document["all"].get("vars", {}))
    return {name: value for name, value in document.items() if name.startswith("mlflow_")}


def releases() -> list[Block]:
    return [block for block in of_kind("variables", "inventory") if variables_of(block)]


@pytest.fixture(scope="module")
def preflight(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a run of preflight says, in which each block is a host."""
    folder = tmp_path_factory.mktemp("inventory")
    hosts = {}
    for block in releases():
        given = variables_of(block)
        if "mlflow_overlay" in given and "/" in given["mlflow_overlay"]:
            # The reader's own overlay is the last one that the page has shown.
            shown = before(block, "overlay") or [
                Block(block.page, block.line, "yaml", "resources: []")
            ]
            document = whole(shown[-1])
            document["resources"] = document["resources"] or [PRODUCTION]
            given["mlflow_overlay"] = str(overlay(folder / host(block), block, document))
        hosts[host(block)] = {"mlflow_environment": "production", **given}
    inventory = {
        "all": {
            "hosts": hosts,
            "vars": {
                "ansible_connection": "local",
                "ansible_python_interpreter": str(BIN / "python"),
                "preflight_cluster": False,
            },
        }
    }
    (folder / "hosts.yml").write_text(json.dumps(inventory), encoding="utf-8")
    (folder / "play.yml").write_text(PLAY, encoding="utf-8")
    done = subprocess.run(
        [BIN / "ansible-playbook", "-i", folder / "hosts.yml", folder / "play.yml"],
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
    return done.stdout


@pytest.mark.parametrize("block", releases(), ids=lambda block: block.name)
def test_a_release_of_these_variables_passes_preflight(block: Block, preflight: str) -> None:
    said = re.findall(
        rf"^\S+ \[{re.escape(host(block))}\]: FAILED.*(?:\n {{4}}.*)*", preflight, re.MULTILINE
    )
    recap = re.search(
        rf"^{re.escape(host(block))} +: ok=(\d+) .*failed=(\d+)", preflight, re.MULTILINE
    )
    assert recap, preflight[-3000:]
    assert (recap[2], said) == ("0", []), said
    # Variables, build, and what must not be deployed.
    assert int(recap[1]) >= 3


@pytest.mark.parametrize(
    "block",
    [b for b in of_kind("variables") if not variables_of(b)],
    ids=lambda block: block.name,
)
def test_variables_of_another_playbook_have_their_types(block: Block) -> None:
    document = loaded(block)
    problems = [
        p
        for name, value in document.items()
        for p in values.check_value(name, specs()[name], value)
    ]
    assert problems == []
