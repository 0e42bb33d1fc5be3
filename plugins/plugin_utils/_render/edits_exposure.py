# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edits of how MLflow is reached, and of its environment. Pure functions."""

from __future__ import annotations

import typing as t

from ansible_collections.mlops.mlflow.plugins.plugin_utils._render import exposure
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render.edits_workloads import (
    patch,
    required,
)
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render.objects import (
    SERVER,
    Object,
    find,
    without_hash,
)
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render.settings import (
    Settings,
    SettingsError,
)


def exposed(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
    """Edit the ways in and the probes, which all know the path prefix."""
    ways = {kind: find(objects, kind, SERVER) for kind in exposure.COMPONENTS}
    ingress, route, openshift = ways.values()
    for variable, value, component, there in (
        ("mlflow_tls_secret", settings.tls_secret, "ingress", ingress),
        ("mlflow_ingress_class", settings.ingress_class, "ingress", ingress),
        ("mlflow_ingress_annotations", settings.ingress_annotations, "ingress", ingress),
        ("mlflow_upload_limit", settings.upload_limit, "ingress", ingress),
        ("mlflow_gateway", settings.gateway, "gateway", route),
        (
            "mlflow_proxy_timeout",
            settings.proxy_timeout,
            "ingress or gateway",
            ingress or route or openshift,
        ),
    ):
        if value and there is None:
            raise SettingsError(
                f"{variable}: there is nothing to set it on; add {component} to mlflow_components"
            )
    present = [kind for kind, way in ways.items() if way is not None]
    if len(present) > 1 and settings.hosts:
        names = " and ".join(exposure.COMPONENTS[kind] for kind in present)
        raise SettingsError(
            f"mlflow_components: {names} would both claim the names of mlflow_hosts; choose one"
        )
    numbers = exposure.addresses_among(settings.hosts)
    if numbers and present:
        article = "a" if present[0] == exposure.OPENSHIFT else "an"
        raise SettingsError(
            f"mlflow_hosts: {article} {present[0]} takes names only, and {numbers[0]} is an address"
        )
    if openshift is not None and len(settings.hosts) > 1:
        raise SettingsError(
            f"mlflow_hosts: a Route takes one name, and there are {len(settings.hosts)}; use the "
            "component ingress for more, of which OpenShift makes a Route each"
        )
    hosts = [host.lower() for host in settings.hosts]
    if ingress is not None:
        operations = exposure.ingress_operations(
            ingress,
            hosts,
            settings.static_prefix,
            settings.tls_secret,
            settings.ingress_class,
            settings.upload_limit,
            settings.proxy_timeout,
            settings.ingress_annotations,
        )
        if operations:
            yield patch(exposure.INGRESS, SERVER, operations)
    if route is not None:
        operations = exposure.route_operations(
            hosts, settings.static_prefix, settings.gateway, settings.proxy_timeout
        )
        if operations:
            yield patch(exposure.ROUTE, SERVER, operations)
    if openshift is not None:
        operations = exposure.openshift_operations(
            hosts[0] if hosts else "", settings.static_prefix, settings.proxy_timeout
        )
        if operations:
            yield patch(exposure.OPENSHIFT, SERVER, operations)
    if settings.static_prefix:
        deployment = required(objects, "Deployment", SERVER, "mlflow_static_prefix")
        operations = exposure.probe_operations(deployment, settings.static_prefix)
        if operations:
            yield patch("Deployment", SERVER, operations)


def address(objects: list[Object], settings: Settings) -> str:
    """Return the address under which people reach MLflow, if it can be told, else nothing."""
    ingress = find(objects, exposure.INGRESS, SERVER)
    route = find(objects, exposure.ROUTE, SERVER) or find(objects, exposure.OPENSHIFT, SERVER)
    hosts = settings.hosts or exposure.hosts_of(ingress, route)
    schemes = exposure.schemes(ingress, route, settings.tls_secret, settings.url)
    return settings.url or exposure.address(hosts, settings.static_prefix, schemes)


def _reached(settings: Settings, data: dict[str, str], schemes: list[str]) -> dict[str, str]:
    """Return MLflow's environment for the names it is reached under, and the prefix."""
    found: dict[str, str] = {}
    hosts = [host.lower() for host in settings.hosts]
    if hosts:
        found[exposure.ALLOWED_HOSTS] = exposure.allowed_hosts(data[exposure.ALLOWED_HOSTS], hosts)
    origins = exposure.allowed_origins(
        data.get(exposure.ALLOWED_ORIGINS, ""), hosts, schemes, settings.url
    )
    if origins:
        found[exposure.ALLOWED_ORIGINS] = origins
    if settings.static_prefix:
        found[exposure.STATIC_PREFIX] = settings.static_prefix
    return found


# By these names a release's own pods ask each other; a proxy does not know them.
_OWN_NAMES = (SERVER, "localhost", "127.0.0.1", ".svc", ".cluster.local")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def _past_the_proxy(settings: Settings, data: t.Mapping[str, str]) -> dict[str, str]:
    """Return what is not to go through a proxy, where there is one."""
    asked = {*data, *(str(one.get("name")) for one in settings.pod.get("env") or [])}
    if not {name.upper() for name in asked} & set(PROXIES):
        return {}
    name = "no_proxy" if "no_proxy" in data else "NO_PROXY"
    return {name: exposure.joined(data.get(name, ""), _OWN_NAMES)}


def config(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
    """Merge what the inventory sets into the ConfigMap that MLflow's environment comes from."""
    variables = {
        "mlflow_config": settings.config,
        "mlflow_hosts": settings.hosts,
        "mlflow_static_prefix": settings.static_prefix,
        "mlflow_url": settings.url,
        "mlflow_pod": settings.pod.get("env"),
    }
    given = [name for name, value in variables.items() if value]
    if not given:
        return
    schemes = exposure.schemes(
        find(objects, exposure.INGRESS, SERVER),
        find(objects, exposure.ROUTE, SERVER) or find(objects, exposure.OPENSHIFT, SERVER),
        settings.tls_secret,
        settings.url,
    )
    for item in objects:
        data = item.get("data") or {}
        if item.get("kind") == "ConfigMap" and exposure.ALLOWED_HOSTS in data:
            literals = {name: _text(value) for name, value in settings.config.items()}
            # To what the release needs itself, and what the overlay allows.
            for name in {exposure.ALLOWED_HOSTS, exposure.ALLOWED_ORIGINS} & set(literals):
                more = [entry.strip() for entry in literals[name].split(",")]
                if name == exposure.ALLOWED_HOSTS:
                    more = [one for entry in more for one in exposure.as_sent(entry)]
                literals[name] = exposure.joined(data.get(name, ""), more)
            literals |= _reached(settings, {**data, **literals}, schemes)
            literals |= _past_the_proxy(settings, {**data, **literals})
            if literals:
                yield {
                    "name": without_hash(item["metadata"]["name"]),
                    "behavior": "merge",
                    "literals": [f"{name}={value}" for name, value in sorted(literals.items())],
                }
            return
    needing = [name for name in given if name not in ("mlflow_url", "mlflow_pod")]
    if needing:
        raise SettingsError(
            f"{needing[0]}: no ConfigMap of the overlay sets {exposure.ALLOWED_HOSTS}"
        )


def _text(value: object) -> str:
    """Return a setting as MLflow reads it from its environment."""
    return str(value).lower() if isinstance(value, bool) else str(value)
