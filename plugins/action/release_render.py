# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of mlops.mlflow.release_render; the module of that name documents it."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import tempfile
import typing as t

import yaml
from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory import overlays
from ansible_collections.mlops.mlflow.plugins.plugin_utils._release.local import (
    LocalAction,
    Result,
)
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render import (
    kustomization,
    kustomize,
    placement,
)

_TIMEOUT = 60
_BOILERPLATE = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
_OPTIONS: dict[str, dict[str, t.Any]] = {
    "overlay": {"type": "path", "required": True},
    "components": {"type": "list", "elements": "path", "default": []},
    "smoke_test": {"type": "bool", "default": True},
    "namespace": {"type": "str", "default": ""},
    "version": {"type": "str", "default": ""},
    "image": {"type": "str", "default": ""},
    "postgres_image": {"type": "str", "default": ""},
    "replicas": {"type": "int"},
    "resources": {"type": "dict", "default": {}},
    "config": {"type": "dict", "default": {}},
    "hosts": {"type": "list", "elements": "str", "default": []},
    "url": {"type": "str", "default": ""},
    "tls_secret": {"type": "str", "default": ""},
    "ingress_class": {"type": "str", "default": ""},
    "ingress_annotations": {"type": "dict", "default": {}},
    "gateway": {"type": "dict", "default": {}},
    "static_prefix": {"type": "str", "default": ""},
    "upload_limit": {"type": "str", "default": ""},
    "proxy_timeout": {"type": "int"},
    "service": {"type": "dict", "default": {}},
    "pod": {"type": "dict", "default": {}},
    "storage_class": {"type": "str", "default": ""},
    "artifact_storage_size": {"type": "str", "default": ""},
    "database_storage_size": {"type": "str", "default": ""},
    "secrets": {"type": "dict", "default": {}},
    "secret_store": {"type": "dict", "default": {}},
    "backup": {"type": "bool", "default": False},
    "backup_schedule": {"type": "str", "default": ""},
    "backup_drill_schedule": {"type": "str", "default": ""},
    "backup_keep": {"type": "int"},
    "backup_keep_days": {"type": "int"},
    "backup_storage_size": {"type": "str", "default": ""},
    "backup_s3": {"type": "dict", "default": {}},
    "gc_schedule": {"type": "str", "default": ""},
    "gc_older_than": {"type": "str", "default": ""},
    "size": {"type": "str", "default": ""},
    "autoscaling": {"type": "dict", "default": {}},
    "database_max_connections": {"type": "int"},
    "kustomize": {"type": "dict", "default": {}},
}
_NOT_SETTINGS = ("overlay", "components", "smoke_test", "backup", "kustomize")
_BACKUP = overlays.KUSTOMIZE / "components" / "backup"


class RenderError(Exception):
    """Why there is no render; the message is fixed and holds no value of a manifest."""


def builder(wanted: dict[str, t.Any]) -> kustomize.Kustomize:
    """Return what builds a kustomization: the binary that is named, else one from PATH."""
    named = wanted.get("binary") or ""
    for name in [named] if named else ["kustomize", "kubectl"]:
        found = shutil.which(os.path.expanduser(name))
        if found:
            return kustomize.Kustomize(
                found, bool(wanted.get("enable_helm")), wanted.get("environment"), _TIMEOUT
            )
    if named:
        raise RenderError(f"mlflow_kustomize.binary: there is no program {named}")
    raise RenderError("neither kustomize nor kubectl is on the controller's PATH")


class Workshop:
    """A temporary folder in which kustomizations on top of an overlay are built."""

    def __init__(
        self, folder: str, overlay: str, components: list[str], build: kustomize.Kustomize
    ) -> None:
        # kustomize resolves links before it goes up a relative path, and so must we.
        self.folder = pathlib.Path(os.path.realpath(folder))
        self.overlay = pathlib.Path(os.path.realpath(overlay))
        self.components = [pathlib.Path(os.path.realpath(item)) for item in components]
        self._users = list(self.components)
        self._below = self.overlay
        self._kustomize = build
        self._count = 0

    def build(
        self, part: kustomization.Object, pieces: t.Iterable[tuple[str, kustomization.Object]] = ()
    ) -> list[kustomization.Object]:
        """Build what there is with a part of a kustomization on top.

        When that fails, pieces of the part are tried one by one, to name the one that fails.
        """
        try:
            return _parse(self._built(part, self.components), self.overlay)
        except kustomize.NoAnswerError as error:
            raise RenderError(str(error)) from None
        except kustomize.BuildError as error:
            raise RenderError(self._culprit(part, list(pieces), error)) from None

    def _built(self, part: kustomization.Object, components: list[pathlib.Path]) -> str:
        self._count += 1
        root = self.folder / str(self._count)
        root.mkdir(mode=0o700)
        document = {**_BOILERPLATE, "resources": [os.path.relpath(self._below, root)], **part}
        if components:
            document["components"] = [os.path.relpath(item, root) for item in components]
        text = json.dumps(document, indent=1)  # which is YAML, too
        (root / "kustomization.yaml").write_text(text, encoding="utf-8")
        return self._kustomize.build(root)

    def _culprit(
        self,
        part: kustomization.Object,
        pieces: list[tuple[str, kustomization.Object]],
        error: kustomize.BuildError,
    ) -> str:
        """Say whose fault a failure is: the overlay's, a component's, or of what is set."""
        folders = [self.overlay, *self._users]

        def fails(build: t.Callable[[], str]) -> str:
            try:
                build()
            except kustomize.BuildError as found:
                return kustomize.readable(found, folders)
            except kustomize.NoAnswerError:
                return ""  # the first error is told
            return ""

        said = fails(lambda: self._kustomize.build(self.overlay))
        if said:
            return f"kustomize cannot build {self.overlay}: {said}"
        fine = f"{self.overlay} builds, but not with"
        for count, component in enumerate(self.components, 1):
            said = fails(lambda upto=count: self._built({}, self.components[:upto]))  # type: ignore[misc]
            if said:
                whose = " of mlflow_components" if component in self._users else ""
                return f"{fine} the component {component}{whose}: {said}"
        for variables, piece in pieces:
            said = fails(lambda more=piece: self._built(more, self.components))  # type: ignore[misc]
            if said:
                return f"{fine} what {variables} sets: {said}"
        return f"{fine} {', '.join(sorted(part))} on top: {kustomize.readable(error, folders)}"

    def go_on_top(self) -> None:
        """Let what is built from now on stand on what was built last, components included."""
        self._below = self.folder / str(self._count)
        self.components = []


def _parse(text: str, overlay: pathlib.Path) -> list[kustomization.Object]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        documents = [item for item in yaml.load_all(text, Loader=loader) if item is not None]
    except yaml.YAMLError:
        raise RenderError(f"what kustomize built from {overlay} is not YAML") from None
    for item in documents:
        named = isinstance(item, dict) and item.get("kind") and item.get("apiVersion")
        if not named or not (item.get("metadata") or {}).get("name"):
            raise RenderError(f"{overlay} has an object without apiVersion, kind or name")
    return documents


def settings_from(arguments: dict[str, t.Any]) -> kustomization.Settings:
    """Return what the inventory sets among the module's options."""
    given = {key: value for key, value in arguments.items() if key not in _NOT_SETTINGS}
    return kustomization.Settings(**given)


def render(arguments: dict[str, t.Any], folder: str) -> list[kustomization.Object]:
    """Return the objects of the release, everything that is set applied, Jobs renamed."""
    settings = settings_from(arguments)
    build = builder(arguments["kustomize"])
    shop = Workshop(folder, arguments["overlay"], arguments["components"], build)
    # What others have something to say about comes first.
    shop.components.sort(key=overlays.rank)
    # Without a namespace, which would move what is elsewhere.
    plain = shop.build({})
    _refuse_unsupported(plain)
    wanted = ["migration"] + (["smoke-test"] if arguments["smoke_test"] else [])
    # Before the inventory's own, which may have something to say about their Jobs.
    if kustomization.external_secrets(settings) and not kustomization.find(
        plain, "ExternalSecret", kustomization.CREDENTIALS
    ):
        wanted.append("external-secrets")
    if settings.size:
        wanted.append(f"size-{settings.size}")
    if settings.autoscaling and not kustomization.autoscaler(plain):
        wanted.append("autoscaling")
    shop.components[:0] = [
        overlays.KUSTOMIZE / "components" / component
        for component in wanted
        if not kustomization.jobs(plain, component)
    ]
    # The inventory has the last word, also on what a component sets: of one kustomization, the
    # components come after its generators.
    whole = plain
    if shop.components:
        # What they add refers to what is there, which holds within a namespace only.
        namespace = kustomization.namespace_of(plain)
        where: kustomization.Object = {"namespace": namespace} if namespace else {}
        labels = kustomization.labels_of_all(plain)
        whole = shop.build(where | ({"labels": labels} if labels else {}))
    shop.go_on_top()
    edited = shop.build(
        kustomization.edits(whole, settings), kustomization.named_edits(whole, settings)
    )
    version = settings.version or kustomization.version_of(edited)
    # The Jobs' names depend on what they became, the servers' place on their volume.
    pieces = [
        (whose, {"patches": patches})
        for whose, patches in (
            (
                "the names of the Jobs",
                kustomization.rename_patches(kustomization.job_names(edited, version)),
            ),
            ("the access modes of the servers' volume", placement.patches(edited)),
        )
        if patches
    ]
    if not pieces:
        return edited
    shop.go_on_top()
    return shop.build(
        {"patches": [one for _whose, piece in pieces for one in piece["patches"]]}, pieces
    )


def _refuse_unsupported(objects: list[kustomization.Object]) -> None:
    problem = kustomization.unsupported(objects)
    if problem:
        raise RenderError(problem)


def backup_of(
    objects: list[kustomization.Object], arguments: dict[str, t.Any]
) -> list[kustomization.Object]:
    """Return the objects of the component backup, as they are or as they would be."""
    if arguments["backup"] and not kustomization.find(objects, "CronJob", kustomization.BACKUP):
        more = {
            **arguments,
            "components": [str(_BACKUP), *arguments["components"]],
            "smoke_test": False,
        }
        with tempfile.TemporaryDirectory(prefix="mlops-mlflow-") as folder:
            objects = render(more, folder)
    return [
        kustomization.with_last_applied(item)
        for item in objects
        if kustomization.label(item, kustomization.COMPONENT_LABEL) == "backup"
    ]


def describe(objects: list[kustomization.Object], version: str) -> dict[str, t.Any]:
    """Return the result: stages, names, and the Secrets as text of their own."""
    namespace = kustomization.namespace_of(objects)
    server = kustomization.find(objects, "Deployment", kustomization.SERVER)
    database = kustomization.find(objects, "StatefulSet", kustomization.DATABASE)
    service = kustomization.find(objects, "Service", kustomization.SERVER)
    spec = (service or {}).get("spec", {})
    ports = spec.get("ports") or [{}]
    return {
        "stages": kustomization.by_stage(objects),
        "namespace": namespace,
        "version": version or kustomization.version_of(objects),
        "image": kustomization.container(server, kustomization.SERVER).get("image", ""),
        "postgres_image": kustomization.container(database, kustomization.DATABASE).get(
            "image", ""
        ),
        "migration_job": _first_name(kustomization.jobs(objects, "migration")),
        "smoke_test_job": _first_name(kustomization.jobs(objects, "smoke-test")),
        "service": {
            "type": spec.get("type", "ClusterIP"),
            "port": ports[0].get("port"),
            "node_port": ports[0].get("nodePort"),
        },
        "kinds": kustomization.kinds(objects),
        "secrets": kustomization.summary_of_secrets(objects),
        "credential_keys": kustomization.credential_keys(objects),
        "administrator": kustomization.administrator(objects),
        "secret_definitions": json.dumps(kustomization.secrets(objects)),
    }


def _first_name(items: list[kustomization.Object]) -> str:
    return str(items[0]["metadata"]["name"]) if items else ""


class ActionModule(LocalAction):
    """Build the release once, on the controller; never changed."""

    OPTIONS = _OPTIONS

    def answer(self, arguments: Result, task_vars: Result) -> Result:
        """Render."""
        try:
            with tempfile.TemporaryDirectory(prefix="mlops-mlflow-") as folder:
                objects = render(arguments, folder)
            described = describe(objects, arguments["version"])
            described["backup"] = backup_of(objects, arguments)
            described["artifact_store"] = kustomization.artifact_store(objects)
            described["url"] = kustomization.address(objects, settings_from(arguments))
            if not described["namespace"]:
                raise RenderError(
                    "mlflow_namespace: is not set, and the overlay names no namespace either"
                )
        except (RenderError, kustomization.SettingsError) as error:
            return {"failed": True, "msg": f"{error}. Nothing was written."}
        settings = kustomization.Settings(secrets=arguments["secrets"])
        described["existing_secrets"] = kustomization.existing_secrets(settings)
        described["external_secrets"] = kustomization.external_secrets(settings)
        # Only a success carries Secrets: hidden here, so that a failure can still be read.
        hidden = {"_ansible_no_log": True} if described["secrets"] else {}
        return {"_ansible_verbose_override": True, **described, **hidden}
