# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of mlops.mlflow.release_fleet; the module of that name documents it."""

from __future__ import annotations

import os
import secrets
import time
import typing as t

from ansible import constants as C
from ansible.errors import AnsibleError
from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory import (
    connection,
    identity,
    overlays,
)
from ansible_collections.mlops.mlflow.plugins.plugin_utils._release import fleet
from ansible_collections.mlops.mlflow.plugins.plugin_utils._release.local import LocalAction

Result = dict[str, t.Any]
# Variables that name a place on the controller, which no two releases can share.
_PLACES = ("plan_file", "status_file", "mlflow_backup_fetch")
_OPTIONS: dict[str, dict[str, t.Any]] = {
    "state": {
        "type": "str",
        "choices": ["chosen", "begun", "ended", "reported", "judged"],
        "required": True,
    },
    "target": {"type": "str", "default": ""},
    "targets": {"type": "list", "elements": "str", "default": []},
    "chosen": {"type": "dict", "default": {}},
    "begun": {"type": "dict", "default": {}},
    "max_fail_percentage": {"type": "float", "default": 99.0},
    "version": {"type": "str", "default": ""},
    "outcome": {"type": "str", "default": "done"},
    "error": {"type": "dict", "default": {}},
}


class ActionModule(LocalAction):
    """Choose releases, begin and end each, and report on all."""

    OPTIONS = _OPTIONS

    def answer(self, arguments: Result, task_vars: Result) -> Result:
        """Do what the state says."""
        self._vars = task_vars
        found: Result = getattr(self, f"_{arguments['state']}")(arguments)
        return found

    # --- Which releases ---------------------------------------------------------------------------

    def _chosen(self, arguments: Result) -> Result:
        hosts = list(self._vars.get("ansible_play_hosts_all") or [])
        limit = self._limit()
        refused = identity.left_out(
            self._vars.get("ansible_run_tags") or (), self._vars.get("ansible_skip_tags") or ()
        )
        if refused:
            return _refused(refused)
        groups = self._vars.get("groups") or {}
        unknown = fleet.unknown_in(limit, {*groups, *groups.get("all", []), *hosts})
        if unknown:
            return _refused(f"--limit: the inventory has no {', '.join(unknown)}.{_listed(groups)}")
        chosen = hosts
        if arguments["target"]:
            chosen = [host for host in hosts if host in arguments["targets"]]
        if not chosen:
            within = f" within --limit {limit}" if limit else ""
            return _refused(
                f"mlflow_target: {arguments['target']} matches no release{within}.{_listed(groups)}"
            )
        problems = self._shared(chosen) if len(chosen) > 1 else []
        if problems:
            return _refused(" ".join(problems))
        return {"run": secrets.token_hex(4), "releases": chosen}

    def _limit(self) -> str:
        limit = self._vars.get("ansible_limit") or ""
        # @FILE has one a line, and is Ansible's to read.
        return "" if str(limit).startswith("@") else str(limit)

    def _shared(self, hosts: list[str]) -> list[str]:
        """Return which of the releases are one and the same, or would write into one file."""
        places = {host: self._place(host) for host in hosts}
        problems = []
        for same, place in fleet.alike({h: p for h, p in places.items() if p is not None}):
            problems.append(
                f"{', '.join(same)}: are one release, namespace {place[0]} of {place[1]}. Give "
                "each host its own mlflow_namespace or cluster, or choose one with --limit or "
                "mlflow_target."
            )
        for name in _PLACES:
            values = {host: self._value(host, name) for host in hosts}
            for same, value in fleet.alike({h: v for h, v in values.items() if v}):
                problems.append(
                    f"{name}: is {value} for each of {', '.join(same)}; have the release's name "
                    "in it, as in " + _with_name(str(value)) + "."
                )
        return problems

    def _place(self, host: str) -> tuple[str, str] | None:
        """Return the namespace and cluster of a host's release; None if preflight says why not."""
        names = ("mlflow_namespace", "mlflow_kubeconfig", "mlflow_context")
        settings = {name: self._value(host, name) for name in names}
        cluster = connection.choose(settings, os.environ)
        namespace = str(settings["mlflow_namespace"] or "") or self._overlay_namespace(host)
        return None if cluster.problems or not namespace else (namespace, cluster.source)

    def _overlay_namespace(self, host: str) -> str:
        wanted = self._value(host, "mlflow_overlay") or self._value(host, "mlflow_environment")
        if not wanted:
            return ""
        base = str(self._vars["hostvars"][host].get("inventory_dir") or os.getcwd())
        overlay, _problem = overlays.find("mlflow_overlay", "overlays", str(wanted), base)
        return overlays.namespace_of(overlay) if overlay is not None else ""

    def _value(self, host: str, name: str) -> t.Any:
        """Return a variable of a host; nothing if it has none, or if preflight has to say why."""
        try:
            return self._vars["hostvars"][host].get(name)
        except AnsibleError:
            return None

    # --- One release ------------------------------------------------------------------------------

    def _begun(self, arguments: Result) -> Result:
        run = arguments["chosen"]["run"]
        here = str(self._vars["inventory_hostname"])
        # Of this wave, those that come after others; of earlier waves, all.
        waves: dict[str, tuple[list[str], list[str]]] = {}
        for host in arguments["chosen"]["releases"]:
            begun = self._kept(host, "common_begun", run)
            if begun and host != here:
                outcome = self._kept(host, "common_outcome", run)
                failed = waves.setdefault(",".join(begun["wave"]), (list(begun["wave"]), []))[1]
                failed += [host] if outcome.get("outcome") == "failed" else []
        stopped = fleet.stopped_by(
            (fleet.Wave(*wave) for wave in waves.values()), arguments["max_fail_percentage"]
        )
        return {
            "run": run,
            "wave": sorted(self._vars.get("ansible_play_batch") or [here]),
            "at": time.time(),
            "go": not stopped,
            "reason": stopped,
        }

    def _kept(self, host: str, name: str, run: str) -> Result:
        """Return what a host keeps of this very run."""
        kept = self._value(host, name)
        return dict(kept) if kept and kept.get("run") == run else {}

    def _ended(self, arguments: Result) -> Result:
        here = str(self._vars["inventory_hostname"])
        error = arguments["error"]
        place = self._place(here)
        message = fleet.message_of(error) if error else ""
        return {
            "run": arguments["begun"]["run"],
            "name": here,
            "namespace": place[0] if place else str(self._value(here, "mlflow_namespace") or ""),
            "version": arguments["version"],
            "outcome": "failed" if error else arguments["outcome"],
            "seconds": round(time.time() - arguments["begun"]["at"]),
            "reason": fleet.shorten(message),
            "message": message,
        }

    # --- All of them ------------------------------------------------------------------------------

    def _reported(self, arguments: Result) -> Result:
        run = str(arguments["chosen"].get("run") or "")
        releases = arguments["chosen"].get("releases") or []
        outcomes = [self._outcome(host, run) for host in releases]
        lines = fleet.ending(outcomes)
        # YAML breaks long items of a list, and quotes some; a text it prints as it is.
        style = C.config.get_config_value("result_format", None, "callback", "default")
        msg = "\n".join(lines) if style == "yaml" else lines
        return {"msg": msg, "_ansible_verbose_always": True}

    def _judged(self, arguments: Result) -> Result:
        run = str(arguments["chosen"].get("run") or "")
        outcome = self._outcome(str(self._vars["inventory_hostname"]), run)
        bad = outcome["outcome"] in ("failed", "not begun")
        return _refused(outcome["reason"]) if bad else {}

    def _outcome(self, host: str, run: str) -> fleet.Outcome:
        kept = self._kept(host, "common_outcome", run)
        if kept:
            return t.cast(
                fleet.Outcome, {name: kept[name] for name in fleet.Outcome.__annotations__}
            )
        begun = self._kept(host, "common_begun", run)
        reason = begun.get("reason") or (
            "the run ended before its end" if begun else "it could not be reached"
        )
        place = self._place(host)
        return {
            "run": run,
            "name": host,
            "namespace": place[0] if place else "",
            "version": "",
            "outcome": "not begun" if begun.get("reason") else "failed",
            "seconds": None,
            "reason": reason,
            "message": reason,
        }


def _refused(message: str) -> Result:
    return {"failed": True, "msg": message}


def _listed(groups: t.Mapping[str, t.Sequence[str]]) -> str:
    hosts = groups.get("all") or []
    more = f", and {len(hosts) - 20} more" if len(hosts) > 20 else ""
    return f" The inventory has: {', '.join(hosts[:20]) or 'no releases'}{more}."


def _with_name(path: str) -> str:
    """Return an example of a path that has the release's name in it."""
    folder, _slash, file = path.rpartition("/")
    stem, dot, suffix = file.rpartition(".")
    name = "{{ inventory_hostname }}"
    named = f"{stem}-{name}{dot}{suffix}" if dot and stem else f"{file}/{name}"
    return f"{folder}/{named}" if folder else named
