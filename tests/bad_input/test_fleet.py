# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many releases in one run, or one after another: nothing of one is used for another."""

from __future__ import annotations

import concurrent.futures
import itertools
import json
import re
import typing as t

import pytest
import yaml
from ansible_collections.mlops.mlflow.tests.bad_input.fake_cluster import ROOT, FakeCluster, Site

# The roles that work on a release, and what each needs to go as far as it can without a release.
ROLES: dict[str, dict[str, t.Any]] = {
    "plan": {},
    "release": {},
    "backup": {},
    "restore": {"mlflow_backup": "latest"},
    "rollback": {},
    "rotate": {"rotate_secrets": ["flask-secret-key"]},
    "teardown": {"teardown_confirm": "{{ mlflow_namespace }}"},
    "status": {},
}
TEAM = re.compile(r"team-[a-z]\b")
PLAYBOOKS = sorted(
    path.stem
    for path in (ROOT / "playbooks").glob("[a-z]*.yml")
    if path.stem not in {"awx", "kind", "pin"}
)
LOCAL = {
    "ansible_connection": "local",
    "ansible_python_interpreter": "{{ ansible_playbook_python }}",
}


def inventory(
    site: Site, hosts: dict[str, dict[str, t.Any]], name: str = "fleet", **variables: t.Any
) -> str:
    """Write an inventory of releases; return its path."""
    return site.write(
        f"{name}/hosts.yml",
        json.dumps(
            {"all": {"hosts": hosts, "vars": LOCAL | {"mlflow_environment": "staging"} | variables}}
        ),
    )


def teams(*names: str) -> dict[str, dict[str, t.Any]]:
    """Return a host for each team."""
    return {name: {"mlflow_namespace": name} for name in names}


def table(output: str) -> dict[str, list[str]]:
    """Return the lines of the table at the end, by release."""
    said = output.rpartition("Say how each release went")[2].partition("TASK")[0]
    found = re.findall(r"^ {8}(\w.*)$", said, re.MULTILINE)
    assert found[0].split() == ["name", "namespace", "version", "outcome", "seconds", "reason"]
    return {line.split()[0]: line.split() for line in found[1:]}


def tour(names: list[str]) -> list[str]:
    """Return a walk in which every name follows every name, itself included, once."""
    left = {name: list(names) for name in names}
    walk: list[str] = []
    path = [names[0]]
    while path:
        if left[path[-1]]:
            path.append(left[path[-1]].pop())
        else:
            walk.append(path.pop())
    return walk[::-1]


def test_a_tour_has_every_pair_once() -> None:
    walk = tour(list(ROLES))
    pairs = list(itertools.pairwise(walk))
    assert sorted(pairs) == sorted(itertools.product(ROLES, repeat=2))


def entry(mark: str, role: str, namespace: str, url: str) -> list[dict[str, t.Any]]:
    """Return the tasks that run a role, however it ends, and then tell the cluster so."""
    return [
        {
            "block": [
                {
                    "ansible.builtin.include_role": {
                        "name": f"mlops.mlflow.{role}",
                        "rolespec_validate": False,
                    },
                    "vars": {**ROLES[role], "mlflow_namespace": namespace},
                }
            ],
            "rescue": [{"ansible.builtin.meta": "noop"}],
        },
        {
            "ansible.builtin.uri": {"url": f"{url}/{mark}", "status_code": [404]},
            "check_mode": False,
        },
    ]


class Walk(t.NamedTuple):
    """What one host does: roles, one after the other, in turn for two namespaces of its own."""

    host: str
    roles: list[str]
    spaces: tuple[str, str]

    def space(self, number: int) -> str:
        """Return the namespace of the role with this number."""
        return self.spaces[number % 2]

    def mark(self, number: int) -> str:
        """Return the path that the cluster is asked for at the end of the role."""
        return f"end/{self.host}/{number}/"

    def play(self, url: str) -> dict[str, t.Any]:
        """Return the play of this host."""
        tasks = [
            task
            for number, role in enumerate(self.roles)
            for task in entry(self.mark(number), role, self.space(number), url)
        ]
        return {"hosts": self.host, "gather_facts": False, "tasks": tasks}

    def check(self, heard: list[str]) -> None:
        """See that each role asked about its namespace, and never about the other one."""
        about: set[str] = set()
        number = 0
        for request in heard:
            if f"/{self.mark(number)} " not in request:
                about |= set(TEAM.findall(request)) & set(self.spaces)
                continue
            before = self.roles[number - 1] if number else "nothing"
            role, space = self.roles[number], self.space(number)
            assert about == {space}, f"{role} for {space} after {before}: asked about {about}"
            about = set()
            number += 1
        assert number == len(self.roles)


def walks() -> list[Walk]:
    """Return the tour in two parts that go on side by side; the second begins as the first ends."""
    whole = tour(list(ROLES))
    half = len(whole) // 2
    return [
        Walk("one", whole[: half + 1], ("team-a", "team-b")),
        Walk("two", whole[half:], ("team-c", "team-d")),
    ]


def test_no_role_uses_what_another_learned_of_another_release(
    site: Site, cluster: FakeCluster
) -> None:
    """Every role after every role, on one host, for another namespace each time."""
    cluster.namespace = {"metadata": {"name": "any"}}
    runs = []
    for walk in walks():
        playbook = site.write(f"{walk.host}.yml", yaml.safe_dump([walk.play(cluster.url)]))
        hosts = inventory(site, {walk.host: {}}, name=walk.host)
        runs.append((hosts, playbook))
    with concurrent.futures.ThreadPoolExecutor() as both:
        outcomes = list(
            both.map(
                lambda run: site.run(run[0], {}, "--check", playbook=run[1], timeout=1800), runs
            )
        )
    for walk, outcome in zip(walks(), outcomes, strict=True):
        assert outcome.status == 0, outcome.output
        walk.check(cluster.heard)


def preflight(namespace: str, **variables: t.Any) -> dict[str, t.Any]:
    """Return the task that runs preflight without a cluster."""
    return {
        "ansible.builtin.include_role": {
            "name": "mlops.mlflow.preflight",
            "rolespec_validate": False,
        },
        "vars": {"mlflow_namespace": namespace, "preflight_cluster": False, **variables},
    }


def test_facts_of_another_release_are_forgotten(site: Site) -> None:
    strangers = {
        "release_lock": {"holder": "x", "lease": {"namespace": "team-a", "holder": "x"}},
        "release_backup": {"name": "20260101T000000Z"},
        "backup_taken": "20260101T000000Z",
        "restore_chosen": {"name": "20260101T000000Z"},
        "restore_swapping": True,
        "rollback_since": {"name": "20260101T000000Z"},
    }
    kept = {"ansible.builtin.assert": {"that": "preflight_release.namespace == wanted"}}
    within = {"__preflight_known": True}
    tasks: list[dict[str, t.Any]] = [
        {"ansible.builtin.set_fact": strangers},
        preflight("team-a"),
        {"ansible.builtin.assert": {"that": [f"{name} is falsy" for name in strangers]}},
        # A role within a role: what is known of the same release is not found out again.
        preflight("team-a", mlflow_backup="latest", **within),
        {**kept, "vars": {"wanted": "team-a"}},
        # What is known of another one is of no use.
        preflight("team-b", **within),
        {**kept, "vars": {"wanted": "team-b"}},
        preflight("team-b", mlflow_replicas=5, **within),
        # Nor is what a check without a backup has found for one that needs it.
        preflight("team-b", mlflow_replicas=5, preflight_backup=True, **within),
        # And nothing is known of what could not be built.
        {
            "block": [preflight("team-b", mlflow_ingress_class="nobody")],
            "rescue": [{"ansible.builtin.assert": {"that": "preflight_for is falsy"}}],
        },
    ]
    play = [{"hosts": "all", "gather_facts": False, "tasks": tasks}]
    playbook = site.write("facts.yml", yaml.safe_dump(play))
    outcome = site.run(inventory(site, {"one": {}}), {}, playbook=playbook, timeout=300)
    assert outcome.status == 0, outcome.output
    assert outcome.output.count(": Build the release with Kustomize]") == 5
    assert "rescued=1" in outcome.output


def test_the_releases_of_an_inventory_are_each_their_own(site: Site, cluster: FakeCluster) -> None:
    hosts = inventory(
        site,
        teams("team-a", "team-b"),
        plan_file=f"{site.folder}/{{{{ inventory_hostname }}}}.json",
    )
    outcome = site.run(hosts, {}, playbook="playbooks/plan.yml")
    assert outcome.status == 0, outcome.output
    for team in ("team-a", "team-b"):
        plan = json.loads((site.folder / f"{team}.json").read_text(encoding="utf-8"))
        assert f"Namespace/{team}" in plan["add"]
    lines = table(outcome.output)
    assert set(lines) == {"team-a", "team-b"}
    assert all(line[1] == name and line[3] == "planned" for name, line in lines.items())
    assert cluster.writes() == []


def test_one_that_fails_leaves_the_others_alone(site: Site, cluster: FakeCluster) -> None:
    hosts = inventory(
        site, {**teams("team-a", "team-c"), "team-b": {"mlflow_namespace": "b", "mlflow_size": "x"}}
    )
    outcome = site.run(hosts, {"mlflow_serial": [1, "100%"]}, playbook="playbooks/plan.yml")
    assert outcome.status != 0
    assert outcome.output.count("seconds  reason") == 1
    lines = table(outcome.output)
    assert {name: line[3] for name, line in lines.items()} == {
        "team-a": "planned",
        "team-b": "failed",
        "team-c": "planned",
    }
    assert lines["team-b"][5].startswith("mlflow_size:")


def last_lines(output: str) -> list[str]:
    """Return what is said last, but for Ansible's recap."""
    said = output.partition("PLAY RECAP")[0].rpartition("TASK [")[2]
    return [line.strip() for line in said.splitlines() if line.startswith(" " * 8)]


def test_the_last_lines_name_the_reason_and_are_at_most_eight(
    site: Site, cluster: FakeCluster
) -> None:
    wrong = {f"mlflow_{name}": "x" for name in ("size", "migration_strategy", "version")}
    for variables in (
        {"mlflow_size": "x"},
        wrong,
        {**wrong, "mlflow_replicas": "y", "mlflow_x": 1},
    ):
        outcome = site.run("staging", variables)
        lines = last_lines(outcome.output)
        assert outcome.status != 0
        assert len(lines) <= 8, outcome.output
        assert lines[0].split()[0] == "name"
        assert any("mlflow_size: must be one of small, medium, large" in line for line in lines[1:])
        assert cluster.writes() == []


def test_a_wave_that_fails_is_the_last(site: Site, cluster: FakeCluster) -> None:
    hosts = inventory(
        site,
        {"team-a": {"mlflow_namespace": "a", "mlflow_size": "x"}, **teams("team-b", "team-c")},
        # As a canary's inventory would have it.
        mlflow_serial=[1, "100%"],
    )
    outcome = site.run(hosts, {}, playbook="playbooks/plan.yml")
    assert outcome.status != 0
    lines = table(outcome.output)
    assert lines["team-a"][3] == "failed"
    for team in ("team-b", "team-c"):
        assert lines[team][3:5] == ["not", "begun"]
    assert not [path for _method, path in cluster.requests if "team-" in path]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--limit", "team-x"], "no hosts to target"),
        (["--limit", "team-a,team-x"], "--limit: the inventory has no team-x"),
        (["-e", "mlflow_target=team-x"], "mlflow_target: team-x matches no release."),
        (
            ["-e", "mlflow_target=team-a", "--limit", "team-b"],
            "mlflow_target: team-a matches no release within --limit team-b",
        ),
        (["-e", "mlflow_namespace=one"], "team-a, team-b: are one release, namespace one of"),
        (["-e", "plan_file=plan.json"], "plan_file: is plan.json for each of team-a, team-b"),
        (["--tags", "migration"], "--tags migration would leave out steps"),
        (["--skip-tags", "untagged"], "--skip-tags untagged would leave out steps"),
        (["--start-at-task", "Say what would be done"], "--start-at-task Say what would be done: "),
        # Within a role: Ansible would find no such task, skip everything, and call it a success.
        (
            ["--start-at-task", "Work out the plan"],
            "--start-at-task Work out the plan: would leave",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_run_that_cannot_be_meant_is_refused(
    options: list[str], words: str, site: Site, cluster: FakeCluster
) -> None:
    hosts = inventory(site, teams("team-a", "team-b"))
    outcome = site.run(hosts, {}, *options, playbook="playbooks/plan.yml")
    assert outcome.status != 0, outcome.output
    assert words in " ".join(outcome.output.split()), outcome.output
    assert cluster.requests == []


@pytest.mark.parametrize("playbook", ["site.yml", "playbooks/pin.yml", "playbooks/awx.yml"])
def test_a_limit_without_an_inventory_is_refused(
    playbook: str, site: Site, cluster: FakeCluster
) -> None:
    outcome = site.run("", {}, "--limit", "team-a", playbook=playbook)
    assert outcome.status != 0, outcome.output
    assert "--limit team-a: there is no inventory to choose from" in outcome.output
    assert cluster.requests == []


def test_a_target_chooses_one(site: Site, cluster: FakeCluster) -> None:
    hosts = inventory(site, teams("team-a", "team-b"))
    outcome = site.run(hosts, {"mlflow_target": "team-b"}, playbook="playbooks/status.yml")
    assert outcome.status == 0, outcome.output
    assert set(table(outcome.output)) == {"team-b"}
    assert not [line for line in cluster.heard if "team-a" in line]


def test_the_folder_for_a_backup_s_copy_is_made_before_the_first_write(
    site: Site, cluster: FakeCluster
) -> None:
    cluster.namespace = {"metadata": {"name": "team-a"}}
    hosts = inventory(site, teams("team-a"))
    taken = site.write("taken", "a file, not a folder")
    outcome = site.run(
        hosts, {"mlflow_backup_fetch": f"{taken}/here"}, playbook="playbooks/backup.yml"
    )
    assert outcome.status != 0
    assert f"{taken}/here" in outcome.output
    assert cluster.writes() == []
    new = site.folder / "not" / "there"
    site.run(hosts, {"mlflow_backup_fetch": str(new)}, playbook="playbooks/backup.yml")
    assert new.is_dir()
    # Then it went on: here it ends, as this cluster gives no lock.
    assert cluster.writes()[0][0] == "POST"


def test_a_namespace_can_be_diagnosed_without_an_inventory(
    site: Site, cluster: FakeCluster
) -> None:
    outcome = site.run("", {"mlflow_namespace": "team-a"}, playbook="playbooks/diagnose.yml")
    assert {found for line in cluster.heard for found in TEAM.findall(line)} == {"team-a"}
    assert table(outcome.output)["localhost"][1] == "team-a"


def test_the_guide_s_ten_teams_are_ten_releases(site: Site) -> None:
    guide = (ROOT / "docs/guides/fleet.md").read_text(encoding="utf-8")
    blocks = re.findall(r"(?ms)^```yaml\n# inventories/teams/hosts\.yml\n(.*?)^```", guide)
    assert len(blocks) == 1
    hosts = site.write("teams/hosts.yml", blocks[0])
    play = [
        {
            "hosts": "all",
            "gather_facts": False,
            "tasks": [
                {
                    "ansible.builtin.include_role": {
                        "name": "mlops.mlflow.preflight",
                        "rolespec_validate": False,
                    },
                    "vars": {"preflight_cluster": False},
                },
                {
                    "ansible.builtin.debug": {
                        "msg": "is {{ preflight_release.namespace }} in {{ mlflow_context }}"
                    }
                },
            ],
        }
    ]
    outcome = site.run(
        hosts, {}, playbook=site.write("render.yml", yaml.safe_dump(play)), timeout=300
    )
    assert outcome.status == 0, outcome.output
    said = re.findall(r"is (mlflow-\w+) in (\w+)", outcome.output)
    assert len(set(said)) == 10
    assert {context for _namespace, context in said} == {"europe", "america"}


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_each_playbook_takes_a_fleet(playbook: str) -> None:
    plays = yaml.safe_load((ROOT / f"playbooks/{playbook}.yml").read_text(encoding="utf-8"))
    first, work, last = plays
    assert first["ansible.builtin.import_playbook"] == "_choose.yml"
    assert last["ansible.builtin.import_playbook"] == "_report.yml"
    site = yaml.safe_load((ROOT / "playbooks/site.yml").read_text(encoding="utf-8"))[1]
    for keyword in ("hosts", "strategy", "serial"):
        assert work[keyword] == site[keyword], keyword
    assert work["tasks"][0]["vars"]["__common_role"] == {"site": "release"}.get(playbook, playbook)
