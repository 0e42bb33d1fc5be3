"""Creates a kind cluster; what a failure needs to be understood is kept, and said in few lines.

Usage: create_cluster.py LOG NAME KIND_ARGUMENT … (the cluster's configuration on stdin)
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

# What kind and kubeadm say, and what a person does about it. The first that is found counts.
ADVICE = (
    (
        r"port is already allocated|[Aa]ddress already in use",
        "take another port: KIND_CLUSTER_HTTP_PORT=15001 make up",
    ),
    (r"[Nn]o space left on device", "free space on the disk (df -h), then: make up"),
    (
        r"[Oo]ut of memory|[Cc]annot allocate memory|oom-kill",
        "free memory (free -h), then: make up",
    ),
    (r"[Tt]oo many open files", "sysctl fs.inotify.max_user_instances=512, then: make up"),
    (
        r"pull.*(image|manifest)|manifest unknown",
        "build the images instead of pulling them: KIND_CLUSTER_SOURCE=build make up",
    ),
    (
        r"timed? ?out|deadline exceeded|not healthy|isn't running",
        "the machine may be too busy or too small: look at the log, then: make up",
    ),
)
# Two clusters that begin at the same moment both make the network that they share.
TAKEN = r"network.* already exists"
# From the most to the least telling.
REASONS = (
    r"\[ERROR [^\]]+\]: .+",
    r"(?:[Ee]rror response from daemon|Error): .+",
    r"[Ee]rror execution phase .+",
    r"(?:[Tt]he kubelet is not (?:healthy|running)|[Ff]ailed to|[Cc]annot|[Nn]o space left).*",
)


def reason(text: str) -> str:
    """The line that tells most of what kind printed, short enough for two lines of a terminal."""
    summary = re.search(r"ERROR: (failed to create cluster.*?)(?:: command \"|\n|$)", text)
    said = summary[1] if summary else "kind failed"
    # What kind says itself is above; below it is what it ran that failed.
    output = text.partition("Command Output:")[2] or text
    for pattern in REASONS:
        found = re.search(pattern, output)
        if found and found[0] not in said:
            return f"{said}: {found[0].strip()}"[:300]
    return said[:300]


def advice(text: str) -> str:
    return next(
        (what for pattern, what in ADVICE if re.search(pattern, text)),
        "look at the log, then: make up",
    )


def report(text: str, name: str, log: Path) -> str:
    """At most eight lines: why, what to type, where the rest is."""
    return (
        f"The cluster {name} was not created, and nothing of it is left.\n"
        f"Reason: {reason(text)}\n"
        f"To do: {advice(text)}\n"
        f"Log: {log}\n"
        f"The node's own logs: {log.with_suffix('')}/"
    )


def create(name: str, arguments: list[str], configuration: str) -> subprocess.CompletedProcess[str]:
    """Run kind; again, if another cluster that begins at the same moment made kind's network."""
    for left in (2, 1, 0):
        # A node that failed is kept until its logs are.
        created = subprocess.run(
            ["kind", "create", "cluster", f"--name={name}", "--retain", *arguments],
            input=configuration,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        # No node was made yet, and the network is there now.
        if not (left and created.returncode and re.search(TAKEN, created.stdout)):
            break
    return created


def main(log: Path, name: str, arguments: list[str]) -> int:
    log.parent.mkdir(parents=True, exist_ok=True)
    created = create(name, arguments, sys.stdin.read())
    log.write_text(created.stdout)
    if created.returncode == 0:
        return 0
    for command in (
        ["kind", "export", "logs", f"--name={name}", str(log.with_suffix(""))],
        ["kind", "delete", "cluster", f"--name={name}"],
    ):
        after = subprocess.run(command, capture_output=True, text=True, check=False)
        with log.open("a") as stream:
            stream.write(f"$ {' '.join(command)}\n{after.stdout}{after.stderr}")
    print(report(created.stdout, name, log))
    return 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
