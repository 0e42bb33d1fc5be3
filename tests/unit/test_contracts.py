"""What different files of the collection say about the same thing, they say alike."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.release import __version__ as ansible_version
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import FORGETS_NO_PROXY
from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory import (
    connection,
    secret_values,
)

ROOT = Path(__file__).parents[2]
# By name, with their folders: those that are shipped, and those of a checkout only.
ROLES = {
    path.name: path
    for folder in ("roles", "dev/roles")
    for path in sorted((ROOT / folder).iterdir())
}
MODULES = sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py"))
ENVIRONMENTS = {"development", "staging", "production"}
# The hosts that a file may name: licences, projects, examples, this machine and the cluster's own.
# A package registry is not among them: which one is asked, each machine's own settings say.
HOSTS = re.compile(
    r"(www\.gnu\.org|fsf\.org|mlflow\.org|github\.com|kubernetes\.io|docs\.ansible\.com"
    r"|truststore\.pki\.rds\.amazonaws\.com"  # the CA of a managed Postgres
    r"|registry-1\.docker\.io"  # where kind's and the release's published images are
    r"|oauth2-proxy\.github\.io|truststore\.pki\.rds\.amazonaws\.com"  # what pages lead to
    r"|127\.0\.0\.1|10\.1\.1\.1|localhost|(\w[\w.-]*\.)?example(\.(org|com))?|\w+)"
)


def tracked() -> list[Path]:
    """Return the files that are, or are about to be, in the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("this is not a git checkout")
    found = (ROOT / name for name in listed.stdout.decode().split("\0") if name)
    return [path for path in found if path.is_symlink() or path.is_file()]


def texts() -> Iterator[tuple[str, str]]:
    """Yield the name and content of every tracked file."""
    for path in tracked():
        if not path.is_symlink():
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def load(name: str | Path) -> Any:
    """Return what a YAML file holds."""
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def options(role: str) -> dict[str, dict[str, Any]]:
    """Return what a role's argument spec says of its variables."""
    spec: dict[str, dict[str, Any]] = load(ROLES[role] / "meta/argument_specs.yml")[
        "argument_specs"
    ]["main"]["options"]
    return spec


def documentation(module: str, part: str = "DOCUMENTATION") -> dict[str, Any]:
    """Return a module's documentation, or another part of it."""
    source = (ROOT / f"plugins/modules/{module}.py").read_text(encoding="utf-8")
    found = re.search(rf'^{part} = r?"""\n(.*?)"""', source, re.MULTILINE | re.DOTALL)
    assert found, module
    document: dict[str, Any] = yaml.safe_load(found[1])
    return document


# --- Roles ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_defaults_and_argument_specs_agree(role: str) -> None:
    defaults = load(ROLES[role] / "defaults/main.yml") or {}
    spec = options(role)
    # What is required has no default, and nothing else is without one.
    assert set(defaults) == {name for name, option in spec.items() if not option.get("required")}
    for name, value in defaults.items():
        if isinstance(value, str) and "{{" in value:
            assert "default" in spec[name], f"{name}: the default is not documented"
        else:
            assert value == spec[name].get("default"), name


@pytest.mark.parametrize("role", ROLES)
def test_a_role_s_variables_bear_its_name(role: str) -> None:
    assert all(name.startswith(f"{role}_") for name in options(role))


@pytest.mark.parametrize("role", ROLES)
def test_each_variable_is_described(role: str) -> None:
    for name, option in options(role).items():
        assert option["description"], name
        assert option["type"] in {"str", "int", "bool", "list", "dict", "path", "raw"}, name
        assert option["type"] != "list" or "elements" in option, name


def blocks(spec: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield each group of options that stands inside another option, as text."""
    for option in spec.values():
        inner = option.get("options") or {}
        if inner:
            yield json.dumps(inner, sort_keys=True)
            yield from blocks(inner)


def test_ansible_doc_prints_no_group_of_options_twice() -> None:
    found = list(blocks(options("mlflow")))
    assert found
    assert len(found) == len(set(found))


def test_an_entry_of_mlflow_secrets_is_described_as_it_is_checked() -> None:
    described = " ".join(options("mlflow")["mlflow_secrets"]["description"])
    for name in secret_values.SOURCE:
        assert f"C({name})" in described, name


def test_secrets_are_not_logged() -> None:
    for name, option in options("mlflow").items():
        secret = re.search(r"_(password|passphrase|key|token)$", name)
        assert bool(secret) == option.get("no_log", False), name


def test_each_variable_that_is_used_exists() -> None:
    known = {name for role in ROLES for name in options(role)}
    for name, text in texts():
        if not re.match(r"(roles|playbooks|inventories|molecule|site\.yml|README\.md)", name):
            continue
        if Path(name).suffix not in {".yml", ".md"}:
            continue
        # The words before a slash, dot or dash are names of files, objects and modules.
        used = set(re.findall(r"(?<![\w./-])(mlflow_[a-z_]*[a-z])\b(?!\.\w|/)", text))
        # A role may register results of its own under its own name only.
        assert used <= known, f"{name}: {sorted(used - known)}"


# --- Inventories ----------------------------------------------------------------------------------


def test_an_inventory_for_each_overlay() -> None:
    overlays = {path.name for path in (ROOT / "kustomize/overlays").iterdir() if path.is_dir()}
    assert overlays == ENVIRONMENTS == set(options("mlflow")["mlflow_environment"]["choices"])
    for name in ENVIRONMENTS:
        settings = load(f"inventories/{name}/group_vars/all.yml")
        assert settings["mlflow_environment"] == name


def test_prod_is_production() -> None:
    prod, production = ROOT / "inventories/prod", ROOT / "inventories/production"

    def files(folder: Path) -> set[Path]:
        return {path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir()}

    assert files(prod) == files(production)
    for path in files(prod):
        assert (prod / path).is_symlink(), path
        assert (prod / path).resolve() == (production / path).resolve(), path


# --- The collection -------------------------------------------------------------------------------


def test_the_action_group_is_every_module_that_connects() -> None:
    connecting = {
        module
        for module in MODULES
        if "kubernetes.core.k8s_auth_options"
        in documentation(module).get("extends_documentation_fragment", [])
    }
    group = load("meta/runtime.yml")["action_groups"]["k8s"]
    assert group == sorted(connecting)


def test_each_module_says_since_when() -> None:
    releases = set(load("changelogs/changelog.yaml")["releases"])
    releases.add(str(load("galaxy.yml")["version"]))
    for module in MODULES:
        assert documentation(module)["version_added"] in releases, module


def names(returned: dict[str, Any]) -> Iterator[str]:
    """Yield the name of each return value, also of those inside another."""
    for name, value in returned.items():
        yield name
        yield from names(value.get("contains") or {})


@pytest.mark.parametrize("module", MODULES)
def test_a_return_value_can_be_written_with_a_dot(module: str) -> None:
    # result.keys is a method of the mapping, and ansible-core 2.21 refuses such a name.
    assert not set(names(documentation(module, "RETURN"))) & set(dir(dict))


def test_what_is_tried_as_the_oldest_is_what_is_asked_for() -> None:
    lock = (ROOT / "tests/ship/requirements-least.txt").read_text(encoding="utf-8")
    least = load("meta/runtime.yml")["requires_ansible"].removeprefix(">=")
    assert f"ansible-core=={least} " in lock
    client = re.search(r"^kubernetes==([\d.]+) ", lock, re.MULTILINE)
    assert client
    for module in MODULES:
        for line in documentation(module).get("requirements", []):
            if line.startswith("kubernetes "):
                assert line == f"kubernetes >= {client[1]}", module


def texts_for_users() -> Iterator[tuple[str, str]]:
    """Yield what tells people, or their tools, which versions to install."""
    for name, text in texts():
        if re.match(r"(README\.md|docs/(?!site/)|meta/|plugins/|roles/|galaxy\.yml)", name):
            yield name, text


def test_one_lower_bound_of_kubernetes_core() -> None:
    wanted = load("galaxy.yml")["dependencies"]["kubernetes.core"]
    least, below = re.fullmatch(r">=([\d.]+),<([\d.]+)", wanted).groups()  # type: ignore[union-attr]
    found = [
        (name, bound)
        for name, text in texts_for_users()
        for bound in re.findall(r"kubernetes\.core\W{1,6}(>= ?[\d.]+(?:, ?< ?[\d.]+)?)", text)
    ]
    assert {name for name, _bound in found} >= {
        "galaxy.yml", "plugins/module_utils/_k8s/client.py"
    }  # fmt: skip
    for name, bound in found:
        assert bound.replace(" ", "") == f">={least},<{below}", name


def test_one_lower_bound_of_the_kubernetes_client() -> None:
    lock = (ROOT / "tests/ship/requirements-least.txt").read_text(encoding="utf-8")
    least = re.search(r"^kubernetes==([\d.]+) ", lock, re.MULTILINE)
    assert least
    found = set()
    for name, text in texts_for_users():
        for bound, refused in re.findall(
            r"\bkubernetes(?: \()? ?>= ?([\d.]*\d)(?:,!=([\d.]+))?", text
        ):
            found.add(name)
            assert f"{bound}.0".startswith(least[1]), name
            # Whoever installs by it does not get the one that modules refuse.
            assert refused == (FORGETS_NO_PROXY if not name.startswith("plugins/") else ""), name
    assert found >= {"README.md", "meta/ee-requirements.txt", "plugins/doc_fragments/wait.py"}


def test_one_version_of_ansible_is_asked_for() -> None:
    least = load("meta/runtime.yml")["requires_ansible"]
    for role in ROLES:
        minimum = load(ROLES[role] / "meta/main.yml")["galaxy_info"]["min_ansible_version"]
        assert least == f">={minimum}.0", role
    assert [int(n) for n in ansible_version.split(".")[:2]] >= [
        int(n) for n in least.removeprefix(">=").split(".")[:2]
    ]


@pytest.mark.parametrize(
    ("group", "fragment"),
    [("k8s", "kubernetes.core.k8s_auth_options"), ("locked", "mlops.mlflow.lease")],
)
def test_an_action_group_holds_every_module_that_takes_its_options(
    group: str, fragment: str
) -> None:
    taking = [
        name
        for name in MODULES
        if fragment in documentation(name).get("extends_documentation_fragment", [])
    ]
    # In order, so that a reader finds what is missing.
    assert load("meta/runtime.yml")["action_groups"][group] == taking


def test_no_module_is_newer_than_the_collection() -> None:
    version = load("galaxy.yml")["version"]
    for name in MODULES:
        added = str(documentation(name)["version_added"])
        assert [int(n) for n in added.split(".")] <= [int(n) for n in version.split(".")], name


def test_each_action_plugin_has_a_documented_module() -> None:
    actions = {path.stem for path in (ROOT / "plugins/action").glob("*.py")}
    assert actions <= set(MODULES)


def test_nothing_that_is_shipped_needs_what_only_a_checkout_has() -> None:
    names = [path.stem for path in (ROOT / "dev/library").glob("*.py")]
    names += [path.name for path in (ROOT / "dev/roles").iterdir()]
    # As a module of a task, or as the name of a role.
    used = re.compile(
        rf"^\s*(- )?({'|'.join(names)}):|\b(role|name): ({'|'.join(names)})$", re.MULTILINE
    )
    for name, text in texts():
        if name.startswith(("roles/", "playbooks/")) and name.endswith(".yml"):
            assert not used.search(text), name


def test_the_needed_collections_are_among_the_requirements() -> None:
    wanted = load("galaxy.yml")["dependencies"]
    assert set(wanted) == {"kubernetes.core"}
    least, below = re.fullmatch(r">=([\d.]+),<([\d.]+)", wanted["kubernetes.core"]).groups()  # type: ignore[union-attr]
    for folder in map(Path, sys.path):
        manifest = folder / "ansible_collections/kubernetes/core/MANIFEST.json"
        if manifest.exists():
            installed = yaml.safe_load(manifest.read_text())["collection_info"]["version"]
            numbers = [[int(n) for n in v.split(".")] for v in (least, installed, below)]
            assert numbers[0] <= numbers[1] < numbers[2]
            return
    pytest.fail("kubernetes.core is not installed")


def test_one_version_of_mlflow() -> None:
    image = re.search(
        r"image: ghcr\.io/mlflow/mlflow:v([\d.]+)-full",
        (ROOT / "kustomize/base/mlflow-deployment.yml").read_text(encoding="utf-8"),
    )
    assert image
    version = image[1]
    assert load("dev/roles/kind_cluster/defaults/main.yml")["kind_cluster_mlflow_versions"] == [
        version
    ]
    assert (ROOT / f"images/mlflow/requirements-{version}.txt").exists()
    for name in ("requirements-dev.in", "requirements.txt"):
        assert re.search(
            rf"^mlflow(-skinny)?=={re.escape(version)}\b",
            (ROOT / name).read_text(encoding="utf-8"),
            re.MULTILINE,
        ), name


# --- Requirements ---------------------------------------------------------------------------------

LOCKS = [ROOT / "requirements.txt", *sorted((ROOT / "images").glob("*/requirements-*.txt"))]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_requirement_is_locked_to_what_it_holds(lock: Path) -> None:
    entries = [entry for entry in re.split(r"(?m)^(?=\S)", lock.read_text()) if entry.strip()]
    assert entries
    for entry in entries:
        assert re.match(r"[\w.-]+(\[[\w,-]+\])?==\S+.*\\\n +--hash=sha256:", entry), entry


@pytest.mark.parametrize("name", ["requirements.in", "requirements-dev.in"])
def test_every_requirement_is_in_the_lock(name: str) -> None:
    locked = {
        line.split("==")[0]: line
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if "==" in line
    }
    for line in (ROOT / name).read_text().splitlines():
        if line and not line.startswith("#"):
            project, pinned, version = line.partition("==")
            entry = locked[project.strip().lower()]
            assert not pinned or entry.startswith(f"{project.lower()}=={version}"), entry


# --- What is in the repository --------------------------------------------------------------------


def test_no_file_names_a_place_of_one_machine() -> None:
    places = {str(ROOT), str(Path.home()), str(Path.home().resolve())}
    bound = [
        re.compile(rf"(?<![\w$}}.~]){re.escape(place)}/") for place in places if len(place) > 1
    ]
    for name, text in texts():
        for pattern in bound:
            found = pattern.search(text)
            assert not found, f"{name}: {text[found.start() : found.start() + 60]!r}"


def test_no_file_names_a_package_registry() -> None:
    for name, text in texts():
        if name == "COPYING" or name.endswith("go.sum"):
            continue
        for host in re.findall(r"https?://(?:[^\s/@\"'`]*@)?([\w][\w.-]*[\w])", text):
            assert HOSTS.fullmatch(host), f"{name}: {host}"
        # Settings that would choose one.
        setting = re.search(
            r"--(extra-)?index-url|--find-links\b|\b(GOPROXY|GOSUMDB|PIP_INDEX_URL|UV_INDEX\w*)=",
            text,
        )
        assert not setting or name.startswith("tests/"), f"{name}: {setting[0] if setting else ''}"


def test_no_link_leads_to_a_folder_or_nowhere() -> None:
    for path in tracked():
        if path.is_symlink():
            assert path.is_file(), f"{path.relative_to(ROOT)}"


def test_programs_can_be_run() -> None:
    for path in tracked():
        if path.is_symlink() or path.suffix not in {"", ".sh"} or path.name == "COPYING":
            continue
        with path.open("rb") as file:
            first = file.readline()
        if first.startswith(b"#!") and path.parent.name != "base":
            assert path.stat().st_mode & 0o111, f"{path.relative_to(ROOT)}"


# --- README ---------------------------------------------------------------------------------------


def test_the_readme_names_what_there_is() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"up", "test"} <= targets
    assert set(re.findall(r"(?:[`(]|\$ )make (?:-s )?([a-z-]+)", readme)) <= targets
    for link in re.findall(r"\]\((?!https?://|#)([^)#]+)", readme):
        assert (ROOT / link).exists(), link
    for path in re.findall(r"\b(?:inventories|kustomize|playbooks|roles)/[\w./-]*\w", readme):
        assert (ROOT / path.replace("<env>", "development")).exists(), path


# --- What the argument spec of the role mlflow says of paths and of the cluster -------------------

# Every way to name a cluster: as the argument spec has it, and as a run says which one it took.
SOURCES = {
    "E(K8S_AUTH_HOST)": "K8S_AUTH_HOST (",
    "E(KUBECONFIG)": "from KUBECONFIG",
    "E(K8S_AUTH_KUBECONFIG)": "from K8S_AUTH_KUBECONFIG",
    "service account": "service account",
    "C(~/.kube/config)": "from ~/.kube/config",
}


def said(variable: str) -> str:
    """Return what the argument spec says of a variable."""
    return " ".join(options("mlflow")[variable]["description"])


def test_a_cluster_is_chosen_in_the_order_that_is_documented(tmp_path: Path) -> None:
    contexts = {"current-context": "a", "contexts": [{"name": "a"}]}
    (tmp_path / ".kube").mkdir()
    for path in (tmp_path / "given", tmp_path / ".kube/config"):
        path.write_text(json.dumps(contexts))
    token = tmp_path / "token"
    token.touch()
    environ = {
        "K8S_AUTH_HOST": "https://127.0.0.1:1",
        "KUBECONFIG": str(tmp_path / "given"),
        "K8S_AUTH_KUBECONFIG": str(tmp_path / "given"),
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "HOME": str(tmp_path),
    }
    text = said("mlflow_kubeconfig")
    documented = sorted(SOURCES, key=text.index)
    found = []
    for variable in (*list(environ), None):
        source = connection.choose({}, environ, str(token)).source
        found += [name for name, words in SOURCES.items() if words in source]
        # The next one, when this one is not set.
        environ.pop(variable or "", None)
    assert found[: len(SOURCES)] == documented


def test_the_guide_names_the_sources_of_a_cluster_in_that_order() -> None:
    page = (ROOT / "docs/guides/your-own-cluster.md").read_text(encoding="utf-8")
    named = ("K8S_AUTH_HOST`", "`KUBECONFIG`", "K8S_AUTH_KUBECONFIG`", "ServiceAccount of the pod",
             "`~/.kube/config`")  # fmt: skip
    places = [page.index(name) for name in ("`mlflow_kubeconfig`", *named)]
    assert places == sorted(places)
    text = said("mlflow_kubeconfig")
    assert [text.index(name) for name in SOURCES] == sorted(text.index(name) for name in SOURCES)


@pytest.mark.parametrize("variable", ["mlflow_overlay", "mlflow_components"])
def test_a_relative_path_is_relative_to_what_is_documented(variable: str, tmp_path: Path) -> None:
    assert "A relative path is taken from the inventory's folder." in said(variable)
    for folder in ("inventory", "playbook", "here"):
        (tmp_path / folder / "mine").mkdir(parents=True)
        (tmp_path / folder / "mine/kustomization.yml").write_text("resources: []\n")
    (tmp_path / "inventory/hosts").write_text("one ansible_connection=local\n")
    task = {"mlops.mlflow.release_variables": {"roles": ["mlflow"], "connection": False}}
    say = {"ansible.builtin.debug": {"msg": "{{ result.overlay }} {{ result.components }}"}}
    play = {"hosts": "all", "gather_facts": False, "tasks": [task | {"register": "result"}, say]}
    (tmp_path / "playbook/play.yml").write_text(json.dumps([play]))
    given = {"mlflow_environment": "development"}
    given |= {variable: "./mine"} if variable == "mlflow_overlay" else {variable: ["./mine"]}  # type: ignore[dict-item]
    done = subprocess.run(
        [
            Path(sys.executable).with_name("ansible-playbook"),
            "--inventory=../inventory/hosts",
            f"--extra-vars={json.dumps(given)}",
            "../playbook/play.yml",
        ],
        cwd=tmp_path / "here",
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert str(tmp_path / "inventory/mine") in done.stdout
