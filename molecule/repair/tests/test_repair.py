"""Whichever object of a release is deleted, site.yml restores it and reports exactly that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

NAMESPACE = "mlflow-development"
KINDS = (
    "configmaps,secrets,serviceaccounts,services,persistentvolumeclaims,"
    "statefulsets,deployments,poddisruptionbudgets,jobs"
)
# A volume's claim is deleted only when no pod uses it any more, and its data go with it: it is
# nobody's accident that site.yml could repair.
NOT_DELETED = {"PersistentVolumeClaim"}
# What a run notes of what was released is no part of a release; a new record is begun.
NOTES = {"ConfigMap/mlflow-releases"}


def test_each_object_is_restored_and_nothing_else_changes(
    kubectl: Callable[..., str],
    objects: Callable[[str, str], list[dict[str, Any]]],
    site: Callable[..., Any],
) -> None:
    def present() -> dict[str, str]:
        return {
            f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["uid"]
            for item in objects(KINDS, NAMESPACE)
            if item["metadata"].get("labels", {}).get("app.kubernetes.io/part-of") == "mlflow"
            and f"{item['kind']}/{item['metadata']['name']}" not in NOTES
        }

    before = present()
    kinds = {name.split("/")[0] for name in before}
    assert kinds >= {
        "ConfigMap",
        "Secret",
        "ServiceAccount",
        "Service",
        "StatefulSet",
        "Deployment",
    }

    wrong = []
    for name in sorted(before):
        if name.split("/")[0] in NOT_DELETED:
            continue
        kubectl("delete", name, f"--namespace={NAMESPACE}", "--timeout=120s")
        run = site()
        after = present()
        differing = {key for key in before | after if before.get(key) != after.get(key)}
        print(f"{name}: rc={run.code} changed={run.changed} differing={sorted(differing)}")
        if run.code != 0 or run.changed != 1 or differing != {name} or name not in after:
            wrong.append(f"{name}: changed={run.changed} {sorted(differing)}\n{run.output}")
        before = after
    assert not wrong, "\n".join(wrong)
