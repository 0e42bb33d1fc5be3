# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When custom resources are ready: one table of data, each kind as its own controller says it."""

from __future__ import annotations

import re
import typing as t

# Seconds for what a controller tries again by itself: a Secret store that does not answer, a
# certificate for a listener that is still being made.
RETRIED = 30.0
# Seconds for a controller that does not say which generation its status is of: what it says of a
# failure may be of before the change.
SEEN_LATER = 10.0


class Rule(t.NamedTuple):
    """How a kind says that it is ready, still at work, or failed.

    A place is the type of a condition, or the path of a field with a dot in it. An entry with `=`
    names a value too: `Ready=False`, `status.phase=Failed`; for a condition, a reason may follow
    as in `Issuing=False/Failed`, or one that it must not have, as in `Issuing=True/!Renewing`.
    """

    # Conditions that must be True (or the value named), each seen for this generation.
    conditions: tuple[str, ...] = ()
    # Conditions that need not be there, but must not be False.
    unless_false: tuple[str, ...] = ()
    # The list whose entries have the conditions (all but those in own), and the list in the
    # specification of which each entry must have one there.
    within: str = ""
    each_of: str = ""
    own: tuple[str, ...] = ()
    # A field, and the values of it that mean ready. Beside conditions it need not be there.
    field: str = ""
    values: tuple[str, ...] = ()
    # What else must be so.
    also: tuple[str, ...] = ()
    # Numbers of the specification that numbers of the status must reach.
    counts: tuple[tuple[str, str], ...] = ()
    # Fields that must be the same: what was asked for, and what the status is about.
    same: tuple[tuple[str, str], ...] = ()
    # A field that begins with the generation that the present state was made of.
    made_of: str = ""
    # What says that the controller is at work, that somebody has to let it go on, and that it
    # failed.
    working: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    # Fields that say why, in the controller's words.
    says: tuple[str, ...] = ()
    # The reason of that failure, and for how long it may last (s).
    reason: str = "progress_deadline"
    patience: float = 0.0


# One source, or several.
_ARGO_SOURCE = tuple(
    (f"spec.{source}.{name}", f"status.sync.comparedTo.{source}.{name}")
    for source in ("source", *(f"sources.{number}" for number in range(8)))
    for name in ("repoURL", "path", "targetRevision", "chart")
)
_ROUTE = Rule(
    conditions=("Accepted",),
    unless_false=("ResolvedRefs", "Programmed"),
    within="status.parents",
    each_of="spec.parentRefs",
    failed=("Accepted=False", "ResolvedRefs=False"),
    patience=RETRIED,
)
_RUN = Rule(conditions=("Succeeded",), failed=("Succeeded=False",), reason="job_failed")
_STORE = Rule(conditions=("Ready",), failed=("Ready=False",), patience=RETRIED)
_KNATIVE = Rule(conditions=("Ready",), failed=("Ready=False",), patience=RETRIED)

RULES: dict[tuple[str, str], Rule] = {
    ("argoproj.io", "Rollout"): Rule(
        field="status.phase",
        values=("Healthy",),
        held=("status.phase=Paused",),
        failed=("status.phase=Degraded", "InvalidSpec=True"),
        says=("status.message",),
    ),
    # Healthy alone may be what was there before: the revision that was asked for must be the one
    # compared, and synced.
    ("argoproj.io", "Application"): Rule(
        field="status.health.status",
        values=("Healthy",),
        also=("status.sync.status=Synced",),
        same=_ARGO_SOURCE,
        working=("status.operationState.phase=Running", "status.operationState.phase=Terminating"),
        held=("status.health.status=Suspended",),
        failed=(
            "status.health.status=Degraded",
            "status.operationState.phase=Failed",
            "status.operationState.phase=Error",
            "ComparisonError=",
            "InvalidSpecError=",
        ),
        says=("status.operationState.message", "status.health.message"),
        patience=RETRIED,
    ),
    ("acid.zalan.do", "postgresql"): Rule(
        field="status.PostgresClusterStatus",
        values=("Running",),
        failed=tuple(
            f"status.PostgresClusterStatus={value}"
            for value in ("CreateFailed", "UpdateFailed", "SyncFailed", "Invalid")
        ),
        patience=SEEN_LATER,
    ),
    ("postgresql.cnpg.io", "Cluster"): Rule(
        conditions=("Ready",),
        field="status.phase",
        values=("Cluster in healthy state",),
        failed=tuple(
            f"status.phase={value}"
            for value in (
                "Cluster is unrecoverable and needs manual intervention",
                "Unable to create required cluster objects",
                "Waiting for user action",
                "Cluster has incomplete or invalid image catalog",
                "Cluster cannot proceed to reconciliation due to an unknown plugin being required",
                "Cluster cannot execute instance online upgrade due to missing architecture binary",
            )
        ),
        says=("status.phaseReason",),
        patience=SEEN_LATER,
    ),
    ("external-secrets.io", "ExternalSecret"): Rule(
        conditions=("Ready",),
        made_of="status.syncedResourceVersion",
        failed=("Ready=False",),
        patience=RETRIED,
    ),
    ("external-secrets.io", "SecretStore"): _STORE,
    ("external-secrets.io", "ClusterSecretStore"): _STORE,
    ("cert-manager.io", "Certificate"): Rule(
        conditions=("Ready",),
        # The certificate that is there is good while the next one is made in time.
        working=("Issuing=True/!Renewing",),
        failed=("Issuing=False/Failed",),
    ),
    ("cert-manager.io", "Issuer"): _STORE,
    ("cert-manager.io", "ClusterIssuer"): _STORE,
    ("gateway.networking.k8s.io", "Gateway"): Rule(
        conditions=("Accepted", "Programmed"),
        own=("Accepted", "Programmed"),
        unless_false=("Accepted", "Programmed", "ResolvedRefs"),
        within="status.listeners",
        failed=("Accepted=False", "ResolvedRefs=False", "Programmed=False/Invalid"),
        patience=RETRIED,
    ),
    ("gateway.networking.k8s.io", "HTTPRoute"): _ROUTE,
    ("gateway.networking.k8s.io", "GRPCRoute"): _ROUTE,
    ("gateway.networking.k8s.io", "TLSRoute"): _ROUTE,
    ("gateway.networking.k8s.io", "TCPRoute"): _ROUTE,
    ("tekton.dev", "PipelineRun"): _RUN,
    ("tekton.dev", "TaskRun"): _RUN,
    ("serving.knative.dev", "Service"): _KNATIVE,
    ("serving.knative.dev", "Configuration"): _KNATIVE,
    ("serving.knative.dev", "Route"): _KNATIVE,
    ("apps.openshift.io", "DeploymentConfig"): Rule(
        conditions=("Available",),
        unless_false=("Progressing",),
        counts=(
            ("spec.replicas", "status.updatedReplicas"),
            ("spec.replicas", "status.availableReplicas"),
        ),
        failed=("Progressing=False",),
    ),
    ("keda.sh", "ScaledObject"): Rule(
        conditions=("Ready",), failed=("Ready=False",), patience=RETRIED
    ),
}

# Kinds that are read by somebody else, and that nobody gives a status: there as soon as applied.
WITHOUT_STATUS: frozenset[tuple[str, str]] = frozenset(
    {
        ("monitoring.coreos.com", "ServiceMonitor"),
        ("monitoring.coreos.com", "PodMonitor"),
        ("monitoring.coreos.com", "Probe"),
        ("monitoring.coreos.com", "PrometheusRule"),
        ("monitoring.coreos.com", "AlertmanagerConfig"),
        ("traefik.io", "IngressRoute"),
        ("traefik.io", "Middleware"),
        ("traefik.io", "ServersTransport"),
        ("networking.istio.io", "DestinationRule"),
        ("networking.istio.io", "Gateway"),
        ("networking.istio.io", "ServiceEntry"),
        ("networking.istio.io", "Sidecar"),
        ("networking.istio.io", "VirtualService"),
        ("security.istio.io", "AuthorizationPolicy"),
        ("security.istio.io", "PeerAuthentication"),
        ("security.istio.io", "RequestAuthentication"),
        ("projectcalico.org", "NetworkPolicy"),
        ("crd.projectcalico.org", "NetworkPolicy"),
        ("secrets-store.csi.x-k8s.io", "SecretProviderClass"),
        ("cloud.google.com", "BackendConfig"),
        ("networking.gke.io", "FrontendConfig"),
        ("monitoring.googleapis.com", "PodMonitoring"),
        ("gateway.networking.k8s.io", "ReferenceGrant"),
        ("keda.sh", "TriggerAuthentication"),
        ("argoproj.io", "AnalysisTemplate"),
        ("tekton.dev", "Task"),
        ("tekton.dev", "Pipeline"),
        ("cilium.io", "CiliumNetworkPolicy"),
    }
)

# --- Rules of users -------------------------------------------------------------------------------

_FIELD = re.compile(r"(?:status|spec|metadata)(?:\.[A-Za-z0-9_-]+)+")
_STATUSES = frozenset({"True", "False", "Unknown"})


def wrong_rules(name: str, entries: t.Sequence[t.Mapping[str, t.Any]]) -> list[str]:
    """Return a line for each rule that is impossible; name is that of the option."""
    found = []
    kinds: set[str] = set()
    for number, entry in enumerate(entries):
        wrong = _wrong_rule(entry) or (
            ("kind", f"{entry['kind']} has a rule already") if entry["kind"] in kinds else None
        )
        if wrong:
            found.append(f"{name}[{number}].{wrong[0]}: {wrong[1]}")
        kinds.add(str(entry.get("kind")))
    return found


def _wrong_rule(entry: t.Mapping[str, t.Any]) -> tuple[str, str] | None:
    """Return which field of a rule is wrong and why; None if none is."""
    kind, place, field = entry.get("kind"), entry.get("condition"), entry.get("field")
    value, failed = entry.get("value"), entry.get("failed") or []
    if not re.fullmatch(r"[A-Za-z]\w*(?:\.[a-z0-9.-]+)?", str(kind)):
        return "kind", f"must be a kind such as Widget or Widget.example.com, not {kind!r}"
    if place and field:
        return "field", "give either condition or field, not both"
    if not place and not field:
        return "condition", "give the type of a condition, or a field with its value"
    if field and not _FIELD.fullmatch(field):
        return "field", f"must be a path such as status.phase, not {field!r}"
    if field and not value:
        return "value", f"must be given: what {field} is when the object is ready"
    if place and value and value not in _STATUSES:
        return "value", f"of a condition is True, False or Unknown, not {value!r}"
    if (value or "True") in failed:
        return "failed", f"{value or 'True'} means ready already"
    return None


def rule_of(entry: t.Mapping[str, t.Any]) -> Rule:
    """Return the rule that a user wrote down."""
    if entry.get("field"):
        failed = tuple(f"{entry['field']}={value}" for value in entry["failed"])
        return Rule(field=entry["field"], values=(entry["value"],), failed=failed)
    name, ready = entry["condition"], entry.get("value") or "True"
    found: list[str] = []
    for value in entry["failed"]:
        # A status of the condition, or a reason that it gives.
        others = sorted(_STATUSES - {ready})
        found += [f"{name}={value}"] if value in _STATUSES else [
            f"{name}={status}/{value}" for status in others
        ]  # fmt: skip
    return Rule(conditions=(f"{name}={ready}",), failed=tuple(found))
