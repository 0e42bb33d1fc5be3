"""Writes a docker archive with one image of one layer: the files of a folder, as they are.

Kubernetes' components are static binaries: an image of them needs no container engine to make.
Usage: component_image.py ARCHIVE NAME:TAG FOLDER ENTRYPOINT
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path


def main(archive: str, reference: str, folder: str, entrypoint: str) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        layer.add(folder, arcname=".", filter=_as_root)
    content = buffer.getvalue()
    digest = hashlib.sha256(content).hexdigest()
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Entrypoint": [entrypoint],
                "Env": ["PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps(
        [{"Config": config_name, "RepoTags": [reference], "Layers": [f"{digest}/layer.tar"]}]
    ).encode()
    with tarfile.open(archive, "w") as out:
        for name, data in (
            (f"{digest}/layer.tar", content),
            (config_name, config),
            ("manifest.json", manifest),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))


def _as_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    return info


if __name__ == "__main__":
    # Path() only to fail early, with the name in the message, when the folder is missing.
    main(sys.argv[1], sys.argv[2], str(Path(sys.argv[3]).resolve(strict=True)), sys.argv[4])
