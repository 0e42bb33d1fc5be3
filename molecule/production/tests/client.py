"""What a user's program does with MLflow; a process of its own, as MLflow keeps who it is for one.

Usage: client.py ACTION [ARGUMENT …], with MLFLOW_TRACKING_URI, _USERNAME and _PASSWORD set.
Prints its result as JSON, on the last line.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import requests
from mlflow.exceptions import MlflowException


def refused(action: Callable[[], Any]) -> str:
    """Do it, and return what MLflow said against it, or an empty string."""
    try:
        action()
    except MlflowException as error:
        return str(error)
    return ""


def users(method: str, action: str, version: str = "2.0", **fields: Any) -> None:
    """Do something with users. MLflow's own client of this needs the server's packages."""
    answer = requests.request(
        method,
        f"{os.environ['MLFLOW_TRACKING_URI']}/api/{version}/mlflow/users/{action}",
        json=fields,
        auth=(os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]),
        timeout=60,
    )
    if not answer.ok:
        raise MlflowException(answer.text)


def permission(change: str, username: str, experiment_id: str, **fields: str) -> None:
    """Grant or revoke what a user may do with an experiment."""
    where = {"resource_type": "experiment", "resource_id": experiment_id}
    users("POST", f"permissions/{change}", "3.0", username=username, **where, **fields)


def checksum(path: str | Path) -> str:
    """Return the SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def log(experiment: str) -> dict[str, str]:
    """Log a run with a metric and a small artifact."""
    experiment_id = mlflow.set_experiment(experiment).experiment_id
    with mlflow.start_run() as run:
        mlflow.log_metric("loss", 0.25)
        mlflow.log_text(run.info.run_id, "id.txt")
    return {"run_id": run.info.run_id, "experiment_id": experiment_id}


def read(run_id: str) -> dict[str, Any]:
    """Read that run back."""
    run = mlflow.get_run(run_id)
    text = mlflow.artifacts.load_text(f"runs:/{run_id}/id.txt")
    return {"status": run.info.status, "metrics": run.data.metrics, "text": text}


def search() -> dict[str, str]:
    """Ask for what every user may ask for."""
    return {"refused": refused(lambda: mlflow.MlflowClient().search_experiments())}


def try_everything(experiment_id: str, run_id: str) -> dict[str, str]:
    """Read from, write to, delete, and take over another user's experiment."""
    client = mlflow.MlflowClient()
    me = os.environ["MLFLOW_TRACKING_USERNAME"]
    return {
        "read": refused(lambda: client.get_run(run_id)),
        "artifact": refused(lambda: mlflow.artifacts.load_text(f"runs:/{run_id}/id.txt")),
        "write": refused(lambda: client.log_metric(run_id, "loss", 1.0)),
        "delete": refused(lambda: client.delete_experiment(experiment_id)),
        "grant": refused(lambda: permission("grant", me, experiment_id, permission="MANAGE")),
        "admin": refused(lambda: users("PATCH", "update-admin", username=me, is_admin=True)),
    }


def create_user(username: str, password: str) -> dict[str, str]:
    """Create a user, as an administrator."""
    users("POST", "create", username=username, password=password)
    return {}


def grant(username: str, experiment_id: str, allowed: str) -> dict[str, str]:
    """Say what a user may do with an experiment, as an administrator."""
    # So that one grant is left, whatever there was before.
    refused(lambda: permission("revoke", username, experiment_id))
    permission("grant", username, experiment_id, permission=allowed)
    return {}


def change_password(username: str, password: str) -> dict[str, str]:
    """Change a password, as that user or as an administrator."""
    current = os.environ["MLFLOW_TRACKING_PASSWORD"]
    fields = {"password": password, "current_password": current}
    users("PATCH", "update-password", username=username, **fields)
    return {}


def large(megabytes: str) -> dict[str, str]:
    """Send an artifact of that size, and get it back."""
    mlflow.set_experiment("large")
    with tempfile.TemporaryDirectory() as folder, mlflow.start_run() as run:
        source = Path(folder, "model.bin")
        with source.open("wb") as file:
            for _part in range(int(megabytes)):
                file.write(secrets.token_bytes(1024**2))
        mlflow.log_artifact(str(source))
        sent = checksum(source)
        source.unlink()
        back = mlflow.artifacts.download_artifacts(
            run_id=run.info.run_id, artifact_path="model.bin", dst_path=folder
        )
        return {"run_id": run.info.run_id, "sent": sent, "received": checksum(back)}


if __name__ == "__main__":
    actions: dict[str, Callable[..., dict[str, Any]]] = {
        action.__name__: action
        for action in (
            log, read, search, try_everything, create_user, grant, change_password, large,
        )
    }  # fmt: skip
    print(json.dumps(actions[sys.argv[1]](*sys.argv[2:])))
