# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets: kept, given or generated once, and never shown."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Answer, ApiError
from ansible_collections.mlops.mlflow.plugins.module_utils._release import credentials
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.memory_cluster import (
    MemoryCluster,
    encode,
)

PATH = "/api/v1/namespaces/here/secrets/mlflow-credentials"
POSTGRES = "/apis/apps/v1/namespaces/here/statefulsets/postgres"


def params(**changes: Any) -> dict[str, Any]:
    return {
        "namespace": "here",
        "state": "present",
        "keys": credentials.DEFAULT_KEYS,
        "values": None,
        "definitions": None,
        **changes,
    }


def rendered(**values: str) -> str:
    item = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {"name": "mlflow-credentials", "namespace": "here", "labels": {"a": "b"}},
        "data": {key.replace("_", "-"): encode(value) for key, value in values.items()},
    }
    return json.dumps([item])


ALL = {
    "database_username": "mlflow",
    "database_password": "one-password",
    "flask_secret_key": "one-flask-key",
    "webhook_encryption_key": "one-fernet-key",
    "kek_passphrase": "one-passphrase",
}


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster()


def run(cluster: MemoryCluster, check_mode: bool = False, **changes: Any) -> dict[str, Any]:
    result = credentials.run(cluster, params(**changes), check_mode)
    # Whatever happened, no value is in the result.
    text = json.dumps(result)
    for item in cluster.objects.values():
        for value in (item.get("data") or {}).values():
            plain = base64.b64decode(value).decode()
            assert plain == "mlflow" or (plain not in text and value not in text)
    return result


def test_generated_once(cluster: MemoryCluster) -> None:
    first = run(cluster)
    assert first["changed"]
    assert first["created"] == ["mlflow-credentials"]
    assert len(first["generated"]) == 5
    before = dict(cluster.objects[PATH]["data"])
    writes = len(cluster.writes())
    second = run(cluster)
    assert not second["changed"]
    assert cluster.objects[PATH]["data"] == before
    assert len(cluster.writes()) == writes
    fernet = base64.b64decode(before["webhook-encryption-key"]).decode()
    assert len(base64.urlsafe_b64decode(fernet)) == 32
    assert base64.b64decode(before["database-username"]) == b"mlflow"


def test_a_secret_made_by_hand_is_left_alone(cluster: MemoryCluster) -> None:
    data = {key.replace("_", "-"): encode(value) for key, value in ALL.items()}
    cluster.put(PATH, {"apiVersion": "v1", "kind": "Secret", "data": data})
    assert not run(cluster)["changed"]
    assert cluster.writes() == []


def test_a_missing_key_is_added_to_it(cluster: MemoryCluster) -> None:
    cluster.put(PATH, {"apiVersion": "v1", "kind": "Secret", "data": {"mine": encode("mine")}})
    result = run(cluster)
    assert result["changed"]
    assert len(result["generated"]) == 5
    assert cluster.objects[PATH]["data"]["mine"] == encode("mine")


def test_given_values_win_and_empty_ones_do_not_count(cluster: MemoryCluster) -> None:
    values = json.dumps({"database-password": "given-password", "kek-passphrase": ""})
    assert "database-password" not in run(cluster, values=values)["generated"]
    assert cluster.objects[PATH]["data"]["database-password"] == encode("given-password")
    assert not run(cluster, values=values)["changed"]
    assert not run(cluster)["changed"]
    changed = run(cluster, values=json.dumps({"database-password": "another-password"}))
    assert changed["updated"] == ["database-password"]


def test_the_trees_secret_is_applied_as_it_is(cluster: MemoryCluster) -> None:
    assert run(cluster, definitions=rendered(**ALL))["generated"] == []
    assert cluster.objects[PATH]["metadata"]["labels"] == {"a": "b"}
    assert not run(cluster, definitions=rendered(**ALL))["changed"]


KEYS = {"webhook-encryption-key": "old-webhook-key", "kek-passphrase": "old-passphrase"}


def test_a_lost_generated_secret_asks_for_a_restart_until_it_was(cluster: MemoryCluster) -> None:
    cluster.put(POSTGRES, {"apiVersion": "apps/v1", "kind": "StatefulSet"})
    word = run(cluster, values=json.dumps(KEYS))["restart"]
    assert word
    assert run(cluster)["restart"] == word
    assert run(cluster, state="restarted")["changed"]
    again = run(cluster)
    assert (again["restart"], again["changed"]) == ("", False)


def test_a_lost_secret_of_the_tree_asks_for_none(cluster: MemoryCluster) -> None:
    """It comes back with the values everything runs with."""
    cluster.put(POSTGRES, {"apiVersion": "apps/v1", "kind": "StatefulSet"})
    assert run(cluster, definitions=rendered(**ALL))["restart"] == ""


def test_a_changed_value_asks_for_a_restart_even_in_the_tree(cluster: MemoryCluster) -> None:
    cluster.put(POSTGRES, {"apiVersion": "apps/v1", "kind": "StatefulSet"})
    run(cluster, definitions=rendered(**ALL))
    changed = {**ALL, "database_password": "two-password"}
    word = run(cluster, definitions=rendered(**changed))["restart"]
    assert word
    # A run that was interrupted is followed by one that finds the mark still there.
    assert run(cluster, definitions=rendered(**changed))["restart"] == word


def test_nothing_to_restart_on_a_fresh_namespace(cluster: MemoryCluster) -> None:
    assert run(cluster)["restart"] == ""


def test_check_mode_writes_nothing(cluster: MemoryCluster) -> None:
    result = run(cluster, check_mode=True)
    assert result["changed"]
    assert cluster.writes() == []
    run(cluster, definitions=rendered(**ALL))
    count = len(cluster.writes())
    changed = {**ALL, "database_password": "two-password"}
    assert run(cluster, check_mode=True, definitions=rendered(**changed))["changed"]
    assert len(cluster.writes()) == count


def test_taken_over_from_kubectl(cluster: MemoryCluster) -> None:
    item = json.loads(rendered(**ALL, extra="extra"))[0]
    cluster.put(PATH, item, ("kubectl-client-side-apply", "Update"))
    assert run(cluster, definitions=rendered(**ALL))["changed"]
    managers = [entry["manager"] for entry in cluster.objects[PATH]["metadata"]["managedFields"]]
    assert managers == ["mlops.mlflow"]


def test_refusals_do_not_quote_the_server(cluster: MemoryCluster) -> None:
    body = {"message": "Invalid value: s3cr3t", "reason": "Invalid"}
    cluster.answers[("PATCH", PATH)] = Answer(422, body)
    with pytest.raises(ApiError) as caught:
        run(cluster)
    assert str(caught.value) == "Secret mlflow-credentials cannot be written (Invalid)"


@pytest.mark.parametrize("option", ["values", "definitions"])
@pytest.mark.parametrize("text", ["s3cr3t", "{s3cr3t", '"s3cr3t"'])
def test_malformed_input_is_not_quoted(cluster: MemoryCluster, option: str, text: str) -> None:
    with pytest.raises(ApiError) as caught:
        credentials.run(cluster, params(**{option: text}), check_mode=False)
    assert option in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_data_that_is_not_base64_is_not_quoted(cluster: MemoryCluster) -> None:
    item = json.loads(rendered(**ALL))[0]
    item["data"]["database-password"] = "s3cr3t!"
    with pytest.raises(ApiError) as caught:
        run(cluster, definitions=json.dumps([item]))
    assert "s3cr3t" not in str(caught.value)


CLAIM = "/api/v1/namespaces/here/persistentvolumeclaims/data-postgres-0"
DEPLOYMENT = "/apis/apps/v1/namespaces/here/deployments/mlflow"


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize("key", credentials.ENCRYPTING)
def test_a_key_that_encrypts_is_not_written_over(
    cluster: MemoryCluster, key: str, check_mode: bool
) -> None:
    run(cluster, values=json.dumps(KEYS))
    before = dict(cluster.objects[PATH]["data"])
    values = json.dumps({**KEYS, key: "new-value"})
    with pytest.raises(ApiError) as caught:
        credentials.run(cluster, params(values=values), check_mode)
    message = str(caught.value)
    assert credentials.ENCRYPTING[key][0] in message
    assert f'playbooks/rotate.yml -e \'{{"rotate_secrets": ["{key}"]}}\'' in message
    assert "new-value" not in message
    assert KEYS[key] not in message
    assert cluster.objects[PATH]["data"] == before
    # The one that is there may be said again.
    assert not run(cluster, values=json.dumps(KEYS))["changed"]


def test_nor_by_the_overlay(cluster: MemoryCluster) -> None:
    run(cluster, definitions=rendered(**ALL))
    before = dict(cluster.objects[PATH]["data"])
    with pytest.raises(ApiError, match="the overlay's Secret mlflow-credentials: kek-passph"):
        run(cluster, definitions=rendered(**{**ALL, "kek_passphrase": "two"}))
    assert cluster.objects[PATH]["data"] == before


@pytest.mark.parametrize("status", [403, 500])
@pytest.mark.parametrize("path", [PATH, POSTGRES, DEPLOYMENT, CLAIM])
def test_what_cannot_be_read_may_be_there(cluster: MemoryCluster, path: str, status: int) -> None:
    """No key is made up as if this were the first deployment."""
    cluster.answers["GET", path] = Answer(status, {"message": "no"})
    with pytest.raises(ApiError, match="cannot be read: no"):
        run(cluster)
    assert cluster.writes() == []


@pytest.mark.parametrize("path", [POSTGRES, DEPLOYMENT, CLAIM])
@pytest.mark.parametrize("there", [None, {"mine": encode("mine")}, {"kek-passphrase": ""}])
def test_keys_that_were_lost_are_not_made_up(
    cluster: MemoryCluster, path: str, there: dict[str, str] | None
) -> None:
    cluster.put(path, {"apiVersion": "v1", "kind": "Anything"})
    if there is not None:
        cluster.put(PATH, {"apiVersion": "v1", "kind": "Secret", "data": there})
    with pytest.raises(ApiError) as caught:
        run(cluster)
    said = (
        "Secret mlflow-credentials has no kek-passphrase, webhook-encryption-key",
        "kubectl -n here exec deployment/mlflow -- printenv MLFLOW_CRYPTO_KEK_PASSPHRASE",
        "Give them as mlflow_kek_passphrase and mlflow_webhook_encryption_key",
    )
    assert all(words in str(caught.value) for words in said)
    assert cluster.writes() == []
    # Given, they are put back.
    assert run(cluster, values=json.dumps(KEYS))["created" if there is None else "generated"]
    assert cluster.objects[PATH]["data"]["kek-passphrase"] == encode("old-passphrase")


def test_keys_that_a_release_does_not_have_are_not_missed(cluster: MemoryCluster) -> None:
    cluster.put(POSTGRES, {"apiVersion": "apps/v1", "kind": "StatefulSet"})
    assert run(cluster, keys={"database-password": "password"})["created"]
