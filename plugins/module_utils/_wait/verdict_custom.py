# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts on custom resources: by the rule for their kind, else by what most kinds have.

A kind without a rule is judged by its conditions, its phase or its health. One that has none of
these is never ready: nobody can tell, and the verdict says which rule to give.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import Kind
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.custom_rules import (
    RETRIED,
    RULES,
    WITHOUT_STATUS,
    Rule,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import UNTIL_TIMEOUT
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.state import Object, condition
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict_terms import (
    PROGRESSING,
    READY,
    Rules,
    Verdict,
    one_line,
    problem_of,
    unobserved,
)

# Conditions by which custom resources commonly say that they are done, the best first.
_READY_CONDITIONS = (
    "Ready",
    "Available",
    "Programmed",
    "Established",
    "Accepted",
    "Succeeded",
    "Healthy",
    "Complete",
    "Completed",
    "Synced",
)
# What stands beside such a condition, and says that it is of before.
_NOT_YET = (("Synced", "False"), ("Degraded", "True"))
# Where kinds without such a condition commonly say in one word how they are, and what they say.
_WORD_FIELDS = (
    "status.phase",
    "status.state",
    "status.health.status",
    "status.health",
    "status.status",
)
_READY_WORD = re.compile(
    r"(?:ready|running|healthy|active|available|succeeded|success|bound|completed?|deployed"
    r"|provisioned|established|online|green)$",
    re.IGNORECASE,
)
_FAILED_WORD = re.compile(r"fail|error|degraded|invalid|unhealthy|unrecoverable", re.IGNORECASE)


def judge_custom(item: Object, kind: Kind, rules: Rules) -> Verdict:
    """Judge an object of any other kind."""
    rule = rule_for(kind, rules.custom)
    if rule is None and (kind.group, kind.kind) in WITHOUT_STATUS:
        return Verdict(READY, "nothing to wait for")
    if _is_older(item, (item.get("status") or {}).get("observedGeneration")):
        return _stopped(item) or unobserved(item)
    stalled = condition(item, "Stalled", "True")
    if stalled:
        text = _words(stalled) or "its controller gave up"
        return _failed(item, f"it is stalled: {text}", "progress_deadline", 0.0)
    if rule is not None:
        return _judge_by_rule(item, rule)
    return _judge_by_habit(item, kind)


def _stopped(item: Object) -> Verdict | None:
    """Say that somebody told the controller to leave an object alone, or None."""
    for name in ("suspend", "suspended", "paused"):
        if (item.get("spec") or {}).get(name) is True:
            text = f"it is stopped (spec.{name} is true): its controller does not act on it"
            return _held(item, text)
    return None


def _held(item: Object, text: str) -> Verdict:
    """Say that an object waits for somebody, which may be meant."""
    message = f"{item.get('kind')} {item['metadata']['name']}: {text}"
    problem = problem_of(item, "blocked", message, tolerance=UNTIL_TIMEOUT)
    return Verdict(PROGRESSING, one_line(text), (problem,))


def rule_for(kind: Kind, given: t.Mapping[str, Rule]) -> Rule | None:
    """Return the rule for a kind: the user's, else ours; None if there is none."""
    for name in (f"{kind.kind}.{kind.group}", kind.kind):
        if name in given:
            return given[name]
    return RULES.get((kind.group, kind.kind))


# --- By a rule ------------------------------------------------------------------------------------


def _judge_by_rule(item: Object, rule: Rule) -> Verdict:
    if not item.get("status"):
        return Verdict(PROGRESSING, "has no status yet")
    for asked, about in rule.same:
        wanted, told = _value(item, asked), _value(item, about)
        if wanted and told and wanted != told:
            return Verdict(PROGRESSING, f"waiting for {asked} {wanted}, the status is of {told}")
    for entry in rule.working:
        found = _holding(item, rule, entry)
        if found is not None:
            return Verdict(PROGRESSING, found or entry)
    for entry in rule.failed:
        found = _holding(item, rule, entry)
        if found is not None:
            return _failed(item, found or entry, rule.reason, rule.patience)
    for entry in rule.held:
        found = _holding(item, rule, entry)
        if found is not None:
            return _held(item, found)
    missing = (
        _missing_condition(item, rule)
        or _missing_entry(item, rule)
        or _missing_value(item, rule)
        or _missing_count(item, rule)
        or _made_of_another(item, rule)
    )
    if missing:
        return _stopped(item) or Verdict(PROGRESSING, missing)
    return Verdict(READY, _ready_words(item, rule))


def _failed(item: Object, text: str, reason: str, patience: float) -> Verdict:
    message = f"{item.get('kind')} {item['metadata']['name']}: {text}"
    problem = problem_of(item, reason, message)
    if patience:
        problem = problem._replace(tolerance=patience)
    return Verdict(PROGRESSING, one_line(text), (problem,))


def _ready_words(item: Object, rule: Rule) -> str:
    if rule.field and _value(item, rule.field):
        return _value(item, rule.field)
    found = condition(item, rule.conditions[0].partition("=")[0]) if rule.conditions else None
    return _words(found) if found and _words(found) else "ready"


def _missing_condition(item: Object, rule: Rule) -> str:
    """Say which condition of the rule is not what it must be; empty if all are."""
    groups = _groups(item, rule)
    for entry in rule.conditions:
        name, _equals, wanted = entry.partition("=")
        places = _places(item, rule, name)
        if not places:
            return f"no entry of {rule.within} says {name} yet"
        for where, found in places:
            told = _pick(found, name)
            if told is None:
                return f"{where}does not say {name} yet"
            if _is_older(item, told.get("observedGeneration")):
                return f"{where}waiting for the controller to see this {item.get('kind')}"
            if told.get("status") != (wanted or "True"):
                return f"{where}not {name.lower()}" + _after(": ", _words(told))
    for name in rule.unless_false:
        for where, found in [("", _conditions(item)), *groups]:
            told = _pick(found, name)
            if told and _is_older(item, told.get("observedGeneration")):
                return f"{where}waiting for the controller to see this {item.get('kind')}"
            if told and told.get("status") == "False":
                return f"{where}not {name.lower()}" + _after(": ", _words(told))
    return ""


def _missing_entry(item: Object, rule: Rule) -> str:
    """Say that something of the specification has no entry in the status yet."""
    if not rule.each_of:
        return ""
    asked, told = _find(item, rule.each_of), _find(item, rule.within)
    if isinstance(asked, list) and isinstance(told, list):
        names = {_reference(item, entry.get("parentRef")) for entry in told}
        for entry in asked:
            if _reference(item, entry) not in names:
                return f"{entry.get('name')} has not accepted it yet"
    return ""


def _missing_value(item: Object, rule: Rule) -> str:
    for entry in rule.also:
        path, _equals, wanted = entry.partition("=")
        if _value(item, path) != wanted:
            return f"{path} is {_value(item, path) or 'not set'}, not {wanted}"
    if not rule.field:
        return ""
    told = _value(item, rule.field)
    if told in rule.values or (not told and rule.conditions):
        return ""
    return f"{rule.field} is {told or 'not set'}" + ("" if told else " yet")


def _missing_count(item: Object, rule: Rule) -> str:
    for asked, told in rule.counts:
        wanted, there = _find(item, asked), _find(item, told)
        if int(there or 0) < int(1 if wanted is None else wanted):
            return f"{int(there or 0)} of {wanted} {told.rpartition('.')[2]}"
    return ""


def _made_of_another(item: Object, rule: Rule) -> str:
    told = _value(item, rule.made_of) if rule.made_of else ""
    if told and _is_older(item, told.partition("-")[0]):
        return f"waiting for the controller to see this {item.get('kind')}"
    return ""


def _holding(item: Object, rule: Rule, entry: str) -> str | None:
    """Return the words for an entry of the rule that holds now; None if it does not."""
    name, _equals, wanted = entry.partition("=")
    if "." in name:
        if _value(item, name) != wanted:
            return None
        why = next((text for path in rule.says if (text := _value(item, path))), "")
        return f"{name} is {wanted}" + _after(": ", why)
    status, _slash, reason = wanted.partition("/")
    places = [("", _conditions(item)), *(_groups(item, rule) or _places(item, rule, name))]
    for where, found in places:
        told = _pick(found, name)
        if told is None or _is_older(item, told.get("observedGeneration")):
            continue
        if str(told.get("status") or "") != status:
            continue
        if reason and (told.get("reason") == reason.lstrip("!")) == reason.startswith("!"):
            continue
        return where + (_words(told) or f"{name} is {status}")
    return None


# --- By what most kinds have ----------------------------------------------------------------------


def _judge_by_habit(item: Object, kind: Kind) -> Verdict:
    """Judge by the standard conditions as kstatus does, then by a phase or a health."""
    working = condition(item, "Reconciling", "True")
    if working:
        return Verdict(PROGRESSING, _words(working) or "reconciling")
    failed = condition(item, "Failed", "True")
    if failed:
        return _failed(item, _words(failed) or "it failed", "progress_deadline", RETRIED)
    for name, status in _NOT_YET:
        told = condition(item, name, status)
        if told:
            text = f"{name} is {status}" + _after(": ", _words(told))
            return _failed(item, text, "progress_deadline", RETRIED)
    working = condition(item, "Progressing", "True") if condition(item, "Degraded") else None
    if working:
        return Verdict(PROGRESSING, _words(working) or "progressing")
    places = [("", _conditions(item))]
    if not any(_pick(places[0][1], name) for name in _READY_CONDITIONS):
        places = _all_groups(item)
    found = [verdict for place in places if (verdict := _by_condition(item, *place))]
    found += _by_words(item)
    for verdict in found:
        if verdict.status != READY:
            return verdict
    return found[0] if found else _cannot_tell(item, kind)


def _by_condition(item: Object, where: str, found: list[Object]) -> Verdict | None:
    for name in _READY_CONDITIONS:
        told = _pick(found, name)
        if told is None:
            continue
        if _is_older(item, told.get("observedGeneration")):
            return unobserved(item)
        if told.get("status") == "True":
            return Verdict(READY, where + (_words(told) or name.lower()))
        return Verdict(PROGRESSING, f"{where}not {name.lower()}" + _after(": ", _words(told)))
    return None


def _by_words(item: Object) -> list[Verdict]:
    """Judge by the first word that says how an object is, and by its health."""
    told = [(path, word) for path in _WORD_FIELDS if (word := _word(item, path))]
    found = []
    for path, word in dict([*told[:1], *(one for one in told if "health" in one[0])]).items():
        if _FAILED_WORD.search(word):
            found.append(_failed(item, f"{path} is {word}", "progress_deadline", RETRIED))
        elif _READY_WORD.match(word):
            found.append(Verdict(READY, word))
        else:
            found.append(Verdict(PROGRESSING, f"{path} is {word}"))
    return found


def _word(item: Object, path: str) -> str:
    found = _find(item, path)
    return found if isinstance(found, str) else ""


def _cannot_tell(item: Object, kind: Kind) -> Verdict:
    name = kind.kind
    why = "nothing in its status is known to say so" if item.get("status") else "it has no status"
    return Verdict(
        PROGRESSING,
        f"cannot tell whether it is ready: {why}; give a rule, such as conditions: "
        f"[{{kind: {name}, condition: Ready}}] or "
        f"[{{kind: {name}, field: status.phase, value: Running}}]",
    )


# --- What a status has ----------------------------------------------------------------------------


def _conditions(item: Object) -> list[Object]:
    found = (item.get("status") or {}).get("conditions")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _pick(found: list[Object], name: str) -> Object | None:
    return next((one for one in found if one.get("type") == name), None)


def _groups(item: Object, rule: Rule) -> list[tuple[str, list[Object]]]:
    """Return the conditions of each entry of the rule's list, with the words for the entry."""
    found = _find(item, rule.within) if rule.within else None
    asked = _find(item, rule.each_of) if rule.each_of else None
    if isinstance(asked, list) and isinstance(found, list):
        # What was asked for before may still have an entry: whoever wrote it may be gone.
        names = {_reference(item, entry) for entry in asked}
        found = [
            entry
            for entry in found
            if isinstance(entry, dict) and _reference(item, entry.get("parentRef")) in names
        ]
    return _entries(found)


def _reference(item: Object, reference: t.Any) -> tuple[str, str]:
    """Return what a reference means: the namespace and the name."""
    found = reference if isinstance(reference, dict) else {}
    namespace = found.get("namespace") or item["metadata"].get("namespace") or ""
    return str(namespace), str(found.get("name"))


def _entries(found: t.Any) -> list[tuple[str, list[Object]]]:
    groups = []
    for entry in found if isinstance(found, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("conditions"), list):
            name = entry.get("name") or (entry.get("parentRef") or {}).get("name")
            groups.append((f"{name}: " if name else "", entry["conditions"]))
    return groups


def _all_groups(item: Object) -> list[tuple[str, list[Object]]]:
    """Return the conditions of all entries of the lists in a status, as routes have them."""
    status = item.get("status") or {}
    return [group for value in status.values() for group in _entries(value)]


def _places(item: Object, rule: Rule, name: str) -> list[tuple[str, list[Object]]]:
    """Return where a condition is to be looked for: each place must have it."""
    whole = [("", _conditions(item))]
    if name in rule.own:
        return whole
    if rule.within:
        return _groups(item, rule)
    return whole if _pick(whole[0][1], name) else _all_groups(item) or whole


def _find(item: Object, path: str) -> t.Any:
    found: t.Any = item
    for name in path.split("."):
        if isinstance(found, list) and name.isdigit() and int(name) < len(found):
            found = found[int(name)]
        elif isinstance(found, dict):
            found = found.get(name)
        else:
            return None
    return found


def _value(item: Object, path: str) -> str:
    """Return a field as YAML would write it."""
    found = _find(item, path)
    if found is None:
        return ""
    return str(found).lower() if isinstance(found, bool) else str(found)


def _is_older(item: Object, seen: t.Any) -> bool:
    """Say whether a generation that a controller names is one of before.

    Some write it as a text, and older Argo Rollouts a hash, which tells nothing.
    """
    generation = item["metadata"].get("generation")
    if seen is None or generation is None or not str(seen).isdigit():
        return False
    return int(seen) < int(generation)


def _words(told: Object) -> str:
    return one_line(str(told.get("message") or told.get("reason") or ""))


def _after(separator: str, text: str) -> str:
    return separator + text if text else ""
