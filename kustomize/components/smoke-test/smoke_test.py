# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Use MLflow as a client does: log a run with an artifact, read it all back, remove it.

The last line on standard output, and the pod's termination message, is the verdict as JSON.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# A server that does not answer should be told here, not retried for minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")

# The Service's address is the same with any prefix; the server's own setting tells which it has.
if os.environ.get("MLFLOW_STATIC_PREFIX") and os.environ.get("MLFLOW_TRACKING_URI"):
    os.environ["MLFLOW_TRACKING_URI"] += os.environ["MLFLOW_STATIC_PREFIX"]

TERMINATION_LOG = Path("/dev/termination-log")
METRIC = 0.25
ARTIFACT = "smoke-test/hello.txt"


class Failed(Exception):
    """What was read back is not what was written."""


def expect(what: str, found: object, written: object) -> None:
    """Raise Failed if `found` differs from `written`."""
    if found != written:
        raise Failed(f"{what}: wrote {written!r}, read back {found!r}")


def say(step: str, started: float) -> None:
    """Print one step that is done, and when."""
    print(f"{time.monotonic() - started:6.1f} s  {step}", flush=True)


def use(client: Any, experiment_id: str, started: float) -> str:
    """Log a run with a parameter, a metric and an artifact, read it back; return the run's id."""
    run_id: str = client.create_run(experiment_id).info.run_id
    token = secrets.token_hex(8)
    client.log_param(run_id, "token", token)
    client.log_metric(run_id, "score", METRIC, step=1)
    say(f"run {run_id} with a parameter and a metric", started)

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, Path(ARTIFACT).name)
        source.write_text(token, encoding="utf-8")
        client.log_artifact(run_id, str(source), str(Path(ARTIFACT).parent))
    say("artifact up", started)
    client.set_terminated(run_id)

    (found,) = client.search_runs([experiment_id], f"params.token = '{token}'")
    expect("the run", found.info.run_id, run_id)
    expect("the run's status", found.info.status, "FINISHED")
    expect("the parameter", found.data.params.get("token"), token)
    expect("the metric", found.data.metrics.get("score"), METRIC)
    say("run read back", started)

    with tempfile.TemporaryDirectory() as folder:
        path = client.download_artifacts(run_id, ARTIFACT, folder)
        expect("the artifact", Path(path).read_text(encoding="utf-8"), token)
    say("artifact down", started)
    return run_id


def remove(client: Any, experiment_id: str) -> None:
    """Remove the experiment, its runs and its artifacts, for good where the database is at hand."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    location = client.get_experiment(experiment_id).artifact_location
    get_artifact_repository(location).delete_artifacts()
    run_ids = [run.info.run_id for run in client.search_runs([experiment_id])]
    for run_id in run_ids:
        client.delete_run(run_id)
    client.delete_experiment(experiment_id)

    # MLflow's API only marks as deleted. Without this every deployment would leave rows behind.
    database = os.environ.get("MLFLOW_BACKEND_STORE_URI")
    if database:
        from mlflow.cli import gc

        arguments = ["--backend-store-uri", database, "--experiment-ids", experiment_id]
        if run_ids:
            arguments += ["--run-ids", ",".join(run_ids)]
        gc.main(args=arguments, prog_name="mlflow gc", standalone_mode=False)


def smoke_test() -> dict[str, Any]:
    """Do all of it, and tell what happened."""
    started = time.monotonic()
    import mlflow

    client = mlflow.MlflowClient()
    say(f"mlflow {mlflow.__version__} at {os.environ.get('MLFLOW_TRACKING_URI')}", started)
    name = f"mlops-mlflow-smoke-test-{secrets.token_hex(6)}"
    experiment_id = client.create_experiment(name)
    say(f"experiment {name}", started)
    try:
        run_id = use(client, experiment_id, started)
    finally:
        remove(client, experiment_id)
        say("all removed", started)
    return {
        "ok": True,
        "mlflow": mlflow.__version__,
        "experiment": name,
        "run_id": run_id,
        "seconds": round(time.monotonic() - started, 1),
    }


def main() -> int:
    """Print the verdict; return 0 if all is well, 1 if not."""
    try:
        verdict = smoke_test()
    except Exception as error:  # whatever it is, it is the verdict
        verdict = {"ok": False, "error": f"{type(error).__name__}: {error}"[:2000]}
    line = json.dumps(verdict)
    if os.access(TERMINATION_LOG, os.W_OK):
        TERMINATION_LOG.write_text(line, encoding="utf-8")
    print(line, flush=True)
    return 0 if verdict["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
