# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Measure waiting and deploying beside kubectl, helm and kubernetes.core, in one run.

Usage: make bench BENCH="[--quick] [--only ROW …] [--strict]"

It uses the cluster of `make up` and namespaces of its own, which it removes. It fails when a
measurement fails; with --strict also when a goal is missed.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import datetime
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks import (
    api_requests,
    apply_many,
    deploy,
    failure,
    fleet,
    large_namespace,
    ready,
    start_up,
)
from benchmarks.harness import ROOT, BenchError, Ended, call, image, kubectl
from benchmarks.report import Row, page, table

RESULTS = ROOT / "benchmarks/results"
PAGE = ROOT / "docs/benchmarks.md"
ROWS: dict[str, Callable[[bool], list[Row]]] = {
    "start-up": start_up.measure,
    "ready": ready.measure,
    "failure": failure.measure,
    "requests": api_requests.measure,
    "apply": apply_many.measure,
    "deploy": deploy.measure,
    "namespace": large_namespace.rows,
    "fleet": fleet.measure,
}
# It lasts five minutes in which next to nothing happens: the others are measured meanwhile.
BESIDE = {"requests"}


def load() -> float:
    """Return how many processes wanted to run, on average over the last minute."""
    return round(os.getloadavg()[0], 1)


def machine() -> dict[str, Any]:
    """What the figures depend on; nothing that names the machine."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    versions = json.loads(kubectl("version", "--output=json"))
    return {
        "cores": os.cpu_count(),
        "GiB of memory": round(total / 2**30),
        "Kubernetes": versions["serverVersion"]["gitVersion"],
        "kubectl": versions["clientVersion"]["gitVersion"],
        "helm": call("helm", "version", "--short").strip(),
        "Python": sys.version.split()[0],
        "load average before": load(),
    }


def keep(rows: list[Row], facts: dict[str, Any]) -> None:
    """Write the figures, and the table into the page."""
    RESULTS.mkdir(exist_ok=True)
    result = RESULTS / f"{datetime.datetime.now(datetime.UTC).date().isoformat()}.json"
    kept = {"machine": facts, "rows": [dataclasses.asdict(row) for row in rows]}
    result.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    before = PAGE.read_text() if PAGE.exists() else ""
    PAGE.write_text(page(before, rows, {**facts, "measured": result.stem}))
    print(f"written to {PAGE.relative_to(ROOT)} and {result.relative_to(ROOT)}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure beside kubectl, helm, kubernetes.core.")
    parser.add_argument("--quick", action="store_true", help="fewer turns, shorter waits")
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--strict", action="store_true", help="fail when a goal is missed")
    wanted = parser.parse_args()
    rows: list[Row] = []
    failed = []
    try:
        image()
        facts = machine()
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    with concurrent.futures.ThreadPoolExecutor() as pool:
        beside = {
            name: pool.submit(ROWS[name], wanted.quick) for name in wanted.only if name in BESIDE
        }
        try:
            for name in sorted(wanted.only, key=lambda name: name in BESIDE):
                started = time.monotonic()
                try:
                    rows += beside[name].result() if name in beside else ROWS[name](wanted.quick)
                except (BenchError, subprocess.TimeoutExpired) as error:
                    failed.append(name)
                    print(f"bench: {name}: {error}", file=sys.stderr)
                print(
                    f"{name}: {time.monotonic() - started:.0f} s, load average {load()}", flush=True
                )
        finally:
            Ended.end_all()
    facts["load average after"] = load()
    print(table(rows))
    if len(wanted.only) == len(ROWS) and not failed and not wanted.quick:
        keep(rows, facts)
    if failed:
        return 1
    return int(wanted.strict and not all(row.met for row in rows))


if __name__ == "__main__":
    sys.exit(main())
