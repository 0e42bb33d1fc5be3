"""Serve the metrics that MLflow's workers write to a folder, added up, to Prometheus.

Usage: metrics.py FOLDER PORT

It runs beside the server, in its image and with its folder, and answers without a password: what
is counted are requests, by method and status. It may start before the server, and ends on SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys

# With these set, what this process counts itself would be written to the folder, too.
for name in ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"):
    os.environ.pop(name, None)

from prometheus_client import CollectorRegistry, start_http_server  # noqa: E402
from prometheus_client.multiprocess import MultiProcessCollector  # noqa: E402


def main(folder: str, port: int) -> None:
    """Serve until a signal says to end."""
    # Blocked before the server's threads start, which inherit it: the signal waits for us.
    ending = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=folder)
    start_http_server(port, registry=registry)
    signal.sigwait(ending)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
