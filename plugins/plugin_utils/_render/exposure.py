# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How MLflow is reached: host names, TLS, path prefix, sizes and time-outs. Pure functions."""

from __future__ import annotations

import copy
import ipaddress
import re
import typing as t
import urllib.parse

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.quantities import quantity

Object = dict[str, t.Any]

INGRESS = "Ingress"
ROUTE = "HTTPRoute"
OPENSHIFT = "Route"
# The component that brings each way in.
COMPONENTS = {INGRESS: "ingress", ROUTE: "gateway", OPENSHIFT: "openshift"}
ALLOWED_HOSTS = "MLFLOW_SERVER_ALLOWED_HOSTS"
ALLOWED_ORIGINS = "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"
STATIC_PREFIX = "MLFLOW_STATIC_PREFIX"
# The annotations of the component ingress that a setting is written to, and how.
_SIZE_ANNOTATIONS = (
    "nginx.ingress.kubernetes.io/proxy-body-size",
    "nginx.org/client-max-body-size",
)
_TIMEOUT_ANNOTATIONS = {
    "nginx.ingress.kubernetes.io/proxy-read-timeout": "{}",
    "nginx.ingress.kubernetes.io/proxy-send-timeout": "{}",
    "nginx.org/proxy-read-timeout": "{}s",
    "nginx.org/proxy-send-timeout": "{}s",
    "haproxy.org/timeout-server": "{}s",
}
_PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
_HEALTH = "/health"


# --- what MLflow is told --------------------------------------------------------------------------


def joined(known: str, more: t.Iterable[str]) -> str:
    """Return a list of MLflow's with more in it, each entry once."""
    entries = [entry.strip() for entry in known.split(",") if entry.strip()]
    entries += [entry for entry in dict.fromkeys(more) if entry not in entries]
    return ",".join(entries)


def allowed_hosts(known: str, hosts: t.Sequence[str]) -> str:
    """Return the hosts MLflow answers to, each with and without a port."""
    entries = []
    for host in hosts:
        if addresses_among([host]) and ":" in host:
            # In a request it stands in brackets, and one of those begins a set in a pattern.
            entries += [f"[{host}]", f"[[]{host}]:*"]
        else:
            entries += [host, f"{host}:*"]
    return joined(known, entries)


# A part of an IPv6 address and what follows, as people write it: fd00:*
_PART_OF_IPV6 = re.compile(r"[0-9a-f]{1,4}:(?:[0-9a-f:]*:?)\*", re.IGNORECASE)


def as_sent(entry: str) -> tuple[str, ...]:
    """Return an entry of allowed hosts, and for IPv6 as a request has it: in brackets."""
    return (entry, f"[[]{entry}") if _PART_OF_IPV6.fullmatch(entry) else (entry,)


def allowed_origins(
    known: str, hosts: t.Sequence[str], schemes: t.Sequence[str], url: str = ""
) -> str:
    """Return the origins that MLflow takes a change from.

    A browser names the page's own origin with every POST, so that without this MLflow's own pages
    would be refused under any name but localhost.
    """
    parts = urllib.parse.urlsplit(url)
    # Those of this machine are allowed anyway.
    elsewhere = url and not _is_local(parts.hostname)
    own = [f"{parts.scheme}://{parts.netloc}".lower()] if elsewhere else []
    origins = [
        entry
        for host in hosts
        for scheme in schemes
        for entry in (f"{scheme}://{host}", f"{scheme}://{host}:*")
    ]
    return joined(known, [*own, *origins])


def _is_local(host: str | None) -> bool:
    return host in ("localhost", "127.0.0.1", "::1")


def schemes(ingress: Object | None, route: Object | None, tls_secret: str, url: str) -> list[str]:
    """Return the schemes under which people come, the likelier first."""
    if url:
        return [url.partition(":")[0]]
    if ingress is not None:
        return ["https" if tls_secret or ingress.get("spec", {}).get("tls") else "http"]
    # A Gateway has TLS as a rule, and our Route. Of what else stands there nothing is known.
    return ["https"] if route is not None else ["https", "http"]


def address(hosts: t.Sequence[str], prefix: str, schemes_: t.Sequence[str]) -> str:
    """Return the address of the first host that is one, or an empty string."""
    for host in hosts:
        if "*" not in host and not host.endswith(".invalid"):
            return f"{schemes_[0]}://{host}{prefix}"
    return ""


def hosts_of(*ways: Object | None) -> list[str]:
    """Return the host names of an Ingress, an HTTPRoute or a Route of OpenShift."""
    found: list[str] = []
    for way in ways:
        spec = (way or {}).get("spec") or {}
        found += [str(rule["host"]) for rule in spec.get("rules") or [] if rule.get("host")]
        found += map(str, spec.get("hostnames") or [])
        found += [str(spec["host"])] if spec.get("host") else []
    return found


def addresses_among(hosts: t.Iterable[str]) -> list[str]:
    """Return those hosts that are IP addresses, which no Ingress or HTTPRoute takes."""
    found = []
    for host in hosts:
        try:
            ipaddress.ip_address(host)
        except ValueError:
            continue
        found.append(host)
    return found


# --- JSON patches ---------------------------------------------------------------------------------


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _add(path: str, value: t.Any) -> Object:
    return {"op": "add", "path": path, "value": value}


def nginx_size(limit: str) -> str:
    """Return a Kubernetes quantity as nginx writes sizes: 20Gi is 20g."""
    size = int(quantity(limit) or 0)
    for suffix, unit in (("g", 2**30), ("m", 2**20), ("k", 2**10)):
        if size and size % unit == 0:
            return f"{size // unit}{suffix}"
    return str(size)


def ingress_operations(
    ingress: Object,
    hosts: t.Sequence[str],
    prefix: str,
    tls_secret: str,
    ingress_class: str,
    upload_limit: str,
    timeout: int | None,
    annotations: t.Mapping[str, str],
) -> list[Object]:
    """Return the edits of an Ingress; the rule it has is the pattern of all of them."""
    operations: list[Object] = []
    spec = ingress["spec"]
    pattern = (spec.get("rules") or [{}])[0]
    if hosts or prefix:
        rules = []
        for host in hosts or hosts_of(ingress):
            rule = {**copy.deepcopy(pattern), "host": host}
            for path in (rule.get("http") or {}).get("paths") or []:
                path["path"] = prefix or path["path"]
            rules.append(rule)
        operations.append(_add("/spec/rules", rules))
    if tls_secret:
        names = list(hosts) or hosts_of(ingress)
        operations.append(_add("/spec/tls", [{"hosts": names, "secretName": tls_secret}]))
    if ingress_class:
        operations.append(_add("/spec/ingressClassName", ingress_class))
    wanted: dict[str, str] = {}
    if upload_limit:
        wanted |= dict.fromkeys(_SIZE_ANNOTATIONS, nginx_size(upload_limit))
    if timeout is not None:
        wanted |= {name: form.format(timeout) for name, form in _TIMEOUT_ANNOTATIONS.items()}
    wanted |= annotations
    if wanted and not ingress["metadata"].get("annotations"):
        operations.append(_add("/metadata/annotations", {}))
    operations += [
        _add(f"/metadata/annotations/{_escaped(name)}", value)
        for name, value in sorted(wanted.items())
    ]
    return operations


def route_operations(
    hosts: t.Sequence[str],
    prefix: str,
    gateway: t.Mapping[str, str],
    timeout: int | None,
) -> list[Object]:
    """Return the edits of an HTTPRoute."""
    operations: list[Object] = []
    if gateway:
        names = {"name": "name", "namespace": "namespace", "section_name": "sectionName"}
        parent = {to: gateway[key] for key, to in names.items() if gateway.get(key)}
        operations.append(_add("/spec/parentRefs", [parent]))
    if hosts:
        operations.append(_add("/spec/hostnames", list(hosts)))
    if prefix:
        matches = [{"path": {"type": "PathPrefix", "value": prefix}}]
        operations.append(_add("/spec/rules/0/matches", matches))
    if timeout is not None:
        operations.append(_add("/spec/rules/0/timeouts", {"request": f"{timeout}s"}))
    return operations


def openshift_operations(host: str, prefix: str, timeout: int | None) -> list[Object]:
    """Return the edits of a Route of OpenShift."""
    operations: list[Object] = []
    if host:
        operations.append(_add("/spec/host", host))
    if prefix:
        operations.append(_add("/spec/path", prefix))
    if timeout is not None:
        place = f"/metadata/annotations/{_escaped('haproxy.router.openshift.io/timeout')}"
        operations.append(_add(place, f"{timeout}s"))
    return operations


def probe_operations(deployment: Object, prefix: str) -> list[Object]:
    """Return the edits that make the probes ask under the prefix."""
    operations = []
    containers = deployment["spec"]["template"]["spec"].get("containers") or []
    for index, container in enumerate(containers):
        for probe in _PROBES:
            if ((container.get(probe) or {}).get("httpGet") or {}).get("path") == _HEALTH:
                path = f"/spec/template/spec/containers/{index}/{probe}/httpGet/path"
                operations.append(_add(path, prefix + _HEALTH))
    return operations
