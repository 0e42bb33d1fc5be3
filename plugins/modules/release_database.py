#!/usr/bin/python
# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: release_database
short_description: Hand the bundled Postgres' volume over to another major version
version_added: 0.1.0
description:
  - Private to this collection. Its options and what it returns may change in any version.
  - Reads which major version the database on the volume is of, and which others are kept beside it,
    in the container of the database.
  - Writes, or takes away, the note that the start of Postgres follows. See
    C(kustomize/base/postgres-start.sh). While the note is there, the database that it comes from is
    the truth, and an image of that version finds it in its place again.
author:
  - mlops.mlflow contributors (@mlops-mlflow)
options:
  state:
    description:
      - V(read) only reads.
      - V(handed_over) writes the note.
      - V(settled) takes it away. From then on the database that is in place is the truth.
    type: str
    choices: [read, handed_over, settled]
    default: read
  definition:
    description:
      - The StatefulSet that is to be applied. The volume is handed over to the major version that
        the tag of its image names.
    type: dict
    required: true
  kept:
    description: Whether a database of that version is kept on the volume, and takes over as it is.
    type: bool
    default: false
  backup:
    description: The backup that goes into the database that begins empty.
    type: str
    default: ""
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - mlops.mlflow.release
  - mlops.mlflow.lease
  - mlops.mlflow.attributes
  - ansible.builtin.action_common_attributes
seealso:
  - module: mlops.mlflow.release_look
  - module: mlops.mlflow.release_unblock
"""

EXAMPLES = r"""
# Private to this collection: its roles are the examples.
"""

RETURN = r"""
major:
  description: The major version of the database in place.
  returned: success
  type: int
  sample: 17
wanted:
  description: The major version that the image's tag names.
  returned: success
  type: int
  sample: 18
kept:
  description: The major versions whose databases are kept beside it.
  returned: success
  type: list
  elements: int
  sample: [15]
size:
  description: How large the database in place is, in bytes.
  returned: success
  type: int
free:
  description: How much room the volume has left, in bytes.
  returned: success
  type: int
note:
  description: The note, if there is one.
  returned: success
  type: dict
  contains:
    from:
      description: The major version whose database is the truth.
      type: int
    to:
      description: The major version that takes over.
      type: int
    kept:
      description: Whether its database is kept on the volume.
      type: bool
    backup:
      description: The backup that goes into the one that begins empty.
      type: str
"""

import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Api, ApiError
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.errors import Failure
from ansible_collections.mlops.mlflow.plugins.module_utils._release.database import (
    NAME,
    image_of,
    major,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._release.work import module_of, working

_POD = f"{NAME}-0"
# Seconds for a command that reads some numbers of a folder, or writes a line.
_WITHIN = 60.0
_READ = r"""
cat "$PGDATA/PG_VERSION" | sed 's/^/major /'
for version in "$PGDATA".*/PG_VERSION; do
  if [[ $version =~ \.([0-9]+)/PG_VERSION$ ]]; then echo "kept ${BASH_REMATCH[1]}"; fi
done
df -Pk "$PGDATA" | awk 'NR == 2 { printf "free %.0f\n", $4 * 1024 }'
du -sk "$PGDATA" | awk '{ printf "size %.0f\n", $1 * 1024 }'
if [[ -s $PGDATA.hand-over ]]; then sed 's/^/note /' "$PGDATA.hand-over"; fi
"""
_WRITE = r"""
printf '%s\n' "$1" >"$PGDATA.hand-over.new"
sync "$PGDATA.hand-over.new"
mv "$PGDATA.hand-over.new" "$PGDATA.hand-over"
sync "${PGDATA%/*}"
"""
_REMOVE = r"""
rm -f "$PGDATA.hand-over"
sync "${PGDATA%/*}"
"""

Object = dict[str, t.Any]


class Volume:
    """The databases on the volume of the bundled Postgres."""

    def __init__(self, cluster: Api, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace

    def _run(self, script: str, *arguments: str) -> str:
        command = ["bash", "-euo", "pipefail", "-c", script, "bash", *arguments]
        self._cluster.before_write()
        try:
            code, output, errors = self._cluster.execute(
                self._namespace, _POD, NAME, command, _WITHIN
            )
        except ApiError as error:
            raise Failure(f"the volume of {_POD} cannot be looked at: {error}") from error
        if code:
            said = errors.strip().splitlines()[-1:] or ["it said nothing"]
            raise Failure(f"the volume of {_POD} cannot be looked at: {said[0]}")
        return output

    def read(self) -> Object:
        """Return what is on it; see the module's documentation."""
        return understood(self._run(_READ))

    def hand_over(self, note: Object) -> None:
        """Write the note."""
        other = "kept" if note["kept"] else "empty"
        line = " ".join(filter(None, [str(note["from"]), str(note["to"]), other, note["backup"]]))
        self._run(_WRITE, line)

    def settle(self) -> None:
        """Take the note away."""
        self._run(_REMOVE)


def understood(output: str) -> Object:
    """Return what the script has printed, a fact a line."""
    found: Object = {"major": 0, "kept": [], "free": 0, "size": 0, "note": {}}
    for line in output.splitlines():
        name, _space, value = line.partition(" ")
        if name == "note":
            start, to, other, backup = (*value.split(), "", "", "", "")[:4]
            found["note"] = {
                "from": int(start),
                "to": int(to),
                "kept": other == "kept",
                "backup": backup,
            }
        elif name == "kept":
            found["kept"].append(int(value))
        elif name in found:
            found[name] = int(value)
    return found


def work(volume: Volume, params: Object, write: bool) -> Object:
    """Do what the state says; return the module's result."""
    image = image_of(params["definition"])
    wanted = major(image)
    if wanted is None:
        raise Failure(
            f"mlflow_postgres_image: the tag of {image} does not begin with the major version of "
            "Postgres"
        )
    found = {**volume.read(), "wanted": wanted}
    note: Object = {}
    if params["state"] == "handed_over":
        note = {
            "from": found["major"],
            "to": wanted,
            **{key: params[key] for key in ("kept", "backup")},
        }
        if note["kept"] and wanted not in found["kept"]:
            raise Failure(f"there is no database of Postgres {wanted} on the volume")
    if params["state"] == "read" or note == found["note"]:
        return {"changed": False, **found}
    if write and note:
        volume.hand_over(note)
    elif write:
        volume.settle()
    return {"changed": True, **found, "note": note}


def main() -> None:
    """Entry point."""
    states = ["read", "handed_over", "settled"]
    module = module_of(
        {
            "state": {"type": "str", "choices": states, "default": "read"},
            "definition": {"type": "dict", "required": True},
            "kept": {"type": "bool", "default": False},
            "backup": {"type": "str", "default": ""},
        }
    )
    params = module.params
    with working(module) as (cluster, _progress):
        volume = Volume(cluster, params["namespace"])
        module.exit_json(**work(volume, params, not module.check_mode))


if __name__ == "__main__":
    main()
