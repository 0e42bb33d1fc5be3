# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edits of how MLflow is reached, and of its environment. Pure functions."""

from __future__ import annotations

import typing as t

from ansible_collections.mlops.mlflow.plugins.plugin_utils._render import (
    exposure,
)
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render.edits_workloads import (
    patch,
    required,
)
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render.objects import (
    SERVER,
    Object,
    find,
)
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render.settings import (
    Settings,
    SettingsError,
)


def exposed(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
    """Edit the Ingress, the HTTPRoute and the probes, which all know the path prefix."""
    ingress = find(objects, exposure.INGRESS, SERVER)
    route = find(objects, exposure.ROUTE, SERVER)
    for variable, value, component, there in (
        ("mlflow_tls_secret", settings.tls_secret, "ingress", ingress),
        ("mlflow_ingress_class", settings.ingress_class, "ingress", ingress),
        ("mlflow_ingress_annotations", settings.ingress_annotations, "ingress", ingress),
        ("mlflow_upload_limit", settings.upload_limit, "ingress", ingress),
        ("mlflow_gateway", settings.gateway, "gateway", route),
        ("mlflow_proxy_timeout", settings.proxy_timeout, "ingress or gateway", ingress or route),
    ):
        if value and there is None:
            raise SettingsError(
                f"{variable}: there is nothing to set it on; add {component} to mlflow_components"
            )
    if ingress is not None and route is not None and settings.hosts:
        raise SettingsError(
            "mlflow_components: ingress and gateway would both claim the names of mlflow_hosts; "
            "choose one"
        )
    numbers = exposure.addresses_among(settings.hosts)
    if numbers and (ingress or route):
        kind = exposure.INGRESS if ingress else exposure.ROUTE
        raise SettingsError(
            f"mlflow_hosts: an {kind} takes names only, and {numbers[0]} is an address"
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
    if settings.static_prefix:
        deployment = required(objects, "Deployment", SERVER, "mlflow_static_prefix")
        operations = exposure.probe_operations(deployment, settings.static_prefix)
        if operations:
            yield patch("Deployment", SERVER, operations)


def address(objects: list[Object], settings: Settings) -> str:
    """Return the address under which people reach MLflow, if it can be told, else nothing."""
    ingress = find(objects, exposure.INGRESS, SERVER)
    route = find(objects, exposure.ROUTE, SERVER)
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


def config(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
    """Merge what the inventory sets into the ConfigMap that MLflow's environment comes from."""
    variables = {
        "mlflow_config": settings.config,
        "mlflow_hosts": settings.hosts,
        "mlflow_static_prefix": settings.static_prefix,
        "mlflow_url": settings.url,
    }
    given = [name for name, value in variables.items() if value]
    if not given:
        return
    schemes = exposure.schemes(
        find(objects, exposure.INGRESS, SERVER),
        find(objects, exposure.ROUTE, SERVER),
        settings.tls_secret,
        settings.url,
    )
    for item in objects:
        data = item.get("data") or {}
        if item.get("kind") == "ConfigMap" and exposure.ALLOWED_HOSTS in data:
            literals = {name: _text(value) for name, value in settings.config.items()}
            literals |= _reached(settings, {**data, **literals}, schemes)
            if literals:
                yield {
                    # The name in the render carries the hash; the generator's own name does not.
                    "name": item["metadata"]["name"].rsplit("-", 1)[0],
                    "behavior": "merge",
                    "literals": [f"{name}={value}" for name, value in sorted(literals.items())],
                }
            return
    if given != ["mlflow_url"]:
        raise SettingsError(
            f"{given[0]}: no ConfigMap of the overlay sets {exposure.ALLOWED_HOSTS}"
        )


def _text(value: object) -> str:
    """Return a setting as MLflow reads it from its environment."""
    return str(value).lower() if isinstance(value, bool) else str(value)
