"""In a pod: asks MLflow through its Service, one new connection a request, and counts what fails.

It ends when the file /tmp/stop is there, or after the given seconds.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import pathlib
import sys
import time


def main() -> None:
    """Ask until told to stop; say how it went in one line of JSON."""
    pair = f"{os.environ['CLIENT_USER']}:{os.environ['CLIENT_PASSWORD']}".encode()
    headers = {
        "Authorization": "Basic " + base64.b64encode(pair).decode(),
        "Content-Type": "application/json",
    }
    body = json.dumps({"max_results": 1})
    end = time.monotonic() + float(sys.argv[1])
    asked, failed = 0, []
    while time.monotonic() < end and not pathlib.Path("/tmp/stop").exists():  # noqa: S108
        asked += 1
        connection = http.client.HTTPConnection("mlflow", 5000, timeout=30)
        try:
            connection.request("POST", "/api/2.0/mlflow/experiments/search", body, headers)
            answer = connection.getresponse()
            if answer.status != 200:
                failed.append(f"{answer.status} {answer.read(200)!r}")
        except OSError as error:
            failed.append(repr(error))
        finally:
            connection.close()
        time.sleep(0.05)
    sys.stdout.write(json.dumps({"asked": asked, "failed": failed}) + "\n")


if __name__ == "__main__":
    main()
