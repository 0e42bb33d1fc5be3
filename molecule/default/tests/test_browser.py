"""MLflow's pages, in a browser, through the Service: they show a run that a client logged."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.mlops.mlflow.molecule.default.tests.browser import chromium

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlops-mlflow"
URL = f"http://127.0.0.1:{os.environ['KIND_CLUSTER_HTTP_PORT']}"
# Kept where the logs are, for a person to look at; the latest run's takes the place of the last.
SCREENSHOT = CACHE / "log" / f"browser-{os.environ['KIND_CLUSTER_NAME']}.png"

# The smoke test's own run is gone by now: it leaves nothing behind.
CLIENT = """
import mlflow

experiment = mlflow.set_experiment("seen in a browser")
with mlflow.start_run(run_name="run-in-the-browser") as run:
    mlflow.log_metric("loss", 0.25)
print(experiment.experiment_id, run.info.run_id)
"""


@pytest.fixture(scope="module")
def logged() -> tuple[str, str]:
    """Log a run as a user's program does; return the ids of its experiment and its own."""
    done = subprocess.run(
        [sys.executable, "-c", CLIENT],
        env={**os.environ, "MLFLOW_TRACKING_URI": URL, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    experiment, run = done.stdout.split()[-2:]
    return experiment, run


def test_the_page_shows_the_run(logged: tuple[str, str]) -> None:
    experiment, run = logged
    with chromium() as page:
        try:
            page.open(f"{URL}/#/experiments/{experiment}/runs")
            page.wait_for("run-in-the-browser")
            # Its own page needs more of the API.
            page.open(f"{URL}/#/experiments/{experiment}/runs/{run}")
            page.wait_for("loss")
            page.wait_for("0.25")
        finally:
            page.screenshot(SCREENSHOT)
    assert SCREENSHOT.read_bytes().startswith(b"\x89PNG")
