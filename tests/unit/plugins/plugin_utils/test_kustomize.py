# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The build through the lookup: its limits, and what is shown of what kustomize says."""

from __future__ import annotations

import os
import pathlib
import time

import pytest
from ansible_collections.mlops.mlflow.plugins.action import release_render as render
from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory import overlays
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render import kustomize

SECRET = "correct-horse/battery"
STAGING = str(overlays.KUSTOMIZE / "overlays" / "staging")


def program(folder: pathlib.Path, text: str, name: str = "kustomize") -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def real() -> kustomize.Kustomize:
    return render.builder({})


def said(folder: pathlib.Path) -> str:
    with pytest.raises(kustomize.BuildError) as caught:
        real().build(folder)
    return kustomize.readable(caught.value, [folder])


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"kustomization.yml": "resources: [nope.yml]"}, "nope.yml: no such file or directory"),
        ({"kustomization.yml": "resorces: [a.yml]"}, 'unknown field "resorces"'),
        ({"kustomization.yml": "resources: [a.yml"}, "did not find expected ',' or ']'"),
        (
            {"kustomization.yml": "resources: [a.yml]", "a.yml": "kind: Secret\nx: y: z"},
            "mapping values are not allowed in this context in File: a.yml",
        ),
    ],
)
def test_kustomize_s_own_line_is_shown(
    files: dict[str, str], words: str, tmp_path: pathlib.Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert words in said(tmp_path)


def test_a_line_of_klog_is_read_without_its_quotes() -> None:
    line = r'E1129 19:51:34.4 28774 run.go:72] "command failed" err="json: unknown \"é\u00e9\x00\""'
    error = kustomize.BuildError(f"kubectl kustomize failed: {line}")
    assert kustomize.readable(error, []) == 'json: unknown "éé\x00"'
    assert kustomize.readable(kustomize.BuildError(line), []) == 'json: unknown "éé\x00"'


REPLACEMENT = (
    "resources: [s.yml]\nreplacements:\n- source: {{kind: Secret, name: x, fieldPath: {field}, "
    "options: {{delimiter: '/', index: 4}}}}\n  targets: [{{select: {{kind: Secret}}, fieldPaths: "
    "[data.a]}}]\n"
)
OBJECT = "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\n"


@pytest.mark.parametrize(
    "files",
    [
        {"kustomization.yml": f"secretGenerator: [{{name: a, literals: ['{SECRET}']}}]"},
        {
            "kustomization.yml": REPLACEMENT.format(field="stringData.a"),
            "s.yml": f"{OBJECT}stringData: {{a: {SECRET}}}",
        },
        {
            "kustomization.yml": (
                f"secretGenerator: [{{name: a, literals: ['{SECRET}']}}]\nresources: ["
            ),
        },
    ],
)
def test_no_value_of_a_secret_is_shown(files: dict[str, str], tmp_path: pathlib.Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    line = said(tmp_path)
    assert SECRET not in line
    assert len(line) > 10


def test_a_secret_of_a_base_is_not_shown_either(tmp_path: pathlib.Path) -> None:
    (tmp_path / "base").mkdir()
    text = f"secretGenerator: [{{name: a, literals: ['{SECRET}']}}]"
    (tmp_path / "base" / "kustomization.yml").write_text(text, encoding="utf-8")
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "kustomization.yml").write_text("resources: [../base]", encoding="utf-8")
    line = said(tmp_path / "top")
    assert SECRET not in line
    assert "invalid literal source ********, expected key=value" in line


def test_a_build_that_hangs_is_ended_with_all_it_started(tmp_path: pathlib.Path) -> None:
    binary = program(
        tmp_path, f'[ "$1" = version ] && exit; sleep 30 & echo $! > {tmp_path}/pid; wait'
    )
    began = time.monotonic()
    with pytest.raises(kustomize.NoAnswerError, match=r"did not finish building .* in 0\.5 s"):
        kustomize.Kustomize(binary, seconds=0.5).build(tmp_path)
    assert time.monotonic() - began < 15
    time.sleep(0.2)
    child = pathlib.Path("/proc", (tmp_path / "pid").read_text().strip(), "stat")
    assert not child.exists() or child.read_text().split()[2] == "Z"


def test_what_the_inventory_asks_for_is_passed_on(tmp_path: pathlib.Path) -> None:
    binary = program(tmp_path, 'echo "$@ $COLOUR"')
    build = render.builder(
        {"binary": binary, "enable_helm": True, "environment": {"COLOUR": "red"}}
    )
    assert build.build(tmp_path) == f"build {tmp_path} --enable-helm red\n"
    kubectl = program(tmp_path, 'echo "$@"', "kubectl")
    assert render.builder({"binary": kubectl}).build(tmp_path) == f"kustomize {tmp_path}\n"


@pytest.mark.parametrize(
    ("answer", "version"),
    [
        ("v5.8.1", (5, 8)),
        ("v5.3.0", (5, 3)),
        ("{Version:kustomize/v4.5.7 GitCommit:5 BuildDate:}", (4, 5)),
        ("Client Version: v1.37.2\nKustomize Version: v5.4.2", (5, 4)),
        ("Client Version: v1.37.2", None),
        ("(devel)", None),
        ("v0.0.0-20260101000000-abcdef", None),
        ("", None),
    ],
)
def test_the_version_is_read(answer: str, version: tuple[int, int] | None) -> None:
    assert kustomize.version_of(answer) == version


def test_a_version_that_is_too_old_is_refused(tmp_path: pathlib.Path) -> None:
    binary = program(tmp_path, '[ "$1" = version ] && echo v5.3.0 || echo "a: b"')
    with pytest.raises(kustomize.NoAnswerError, match=r"has kustomize 5\.3, .* takes 5\.4"):
        kustomize.Kustomize(binary).build(tmp_path)


def test_no_such_binary(tmp_path: pathlib.Path) -> None:
    with pytest.raises(render.RenderError, match="there is no program /nowhere/kustomize"):
        render.builder({"binary": "/nowhere/kustomize"})


def shop(tmp_path: pathlib.Path, *components: pathlib.Path) -> render.Workshop:
    folder = tmp_path / "work"
    folder.mkdir()
    return render.Workshop(str(folder), STAGING, [str(item) for item in components], real())


def test_a_component_of_the_user_s_is_named(tmp_path: pathlib.Path) -> None:
    for name, text in (("good", "labels: [{pairs: {a: b}}]"), ("bad", "resources: [gone.yml]")):
        (tmp_path / name).mkdir()
        head = "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n"
        (tmp_path / name / "kustomization.yml").write_text(head + text, encoding="utf-8")
    with pytest.raises(render.RenderError) as caught:
        shop(tmp_path, tmp_path / "good", tmp_path / "bad").build({})
    message = str(caught.value)
    assert message.startswith(f"{os.path.realpath(STAGING)} builds, but not with the component ")
    assert f"{tmp_path}/bad of mlflow_components: " in message
    assert "gone.yml" in message.partition("mlflow_components: ")[2]


def test_what_of_ours_does_not_build_is_named(tmp_path: pathlib.Path) -> None:
    good: dict[str, object] = {"patches": []}
    bad = {"patches": [{"target": {"kind": "Deployment"}, "patch": '[{"op": "remove"}]'}]}
    with pytest.raises(render.RenderError) as caught:
        shop(tmp_path).build(bad, [("mlflow_config", good), ("mlflow_replicas", bad)])
    message = str(caught.value)
    assert " builds, but not with what mlflow_replicas sets: " in message
    assert "kubectl kustomize" not in message
