"""As much of AWX's REST API as awx.awx's modules talk to, in memory, on loopback.

It keeps what it is sent and answers as AWX does where the modules look: lists with filters, names
within an organization, associations, surveys, and $encrypted$ in the place of secrets. It runs
nothing. What AWX would refuse, beyond what awx.awx's argument specs refuse, it does not know.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Item = dict[str, Any]
TYPES = {
    "organizations": "organization",
    "execution_environments": "execution_environment",
    "projects": "project",
    "inventories": "inventory",
    "inventory_sources": "inventory_source",
    "credentials": "credential",
    "credential_types": "credential_type",
    "job_templates": "job_template",
    "workflow_job_templates": "workflow_job_template",
    "workflow_job_template_nodes": "workflow_job_template_node",
    "workflow_approval_templates": "workflow_approval_template",
}
ASSOCIATIONS = {"credentials", "success_nodes", "failure_nodes", "always_nodes"}
UNIFIED = ("job_templates", "projects", "inventory_sources", "workflow_job_templates")
SECRETS = {"bearer_token"}


class Awx:
    """What is there, by collection."""

    def __init__(self) -> None:
        self.items: dict[str, dict[int, Item]] = {name: {} for name in TYPES}
        self.surveys: dict[str, Item] = {}
        self.associations: dict[str, list[int]] = {}
        self.secrets: list[Any] = []
        self.writes: list[str] = []
        self._number = 0
        self.add("credential_types", {"name": "OpenShift or Kubernetes API Bearer Token"})

    def add(self, collection: str, body: Item) -> Item:
        """Make an object."""
        self._number += 1
        url = f"/api/v2/{collection}/{self._number}/"
        related = {"survey_spec": f"{url}survey_spec/", "update": f"{url}update/"}
        item = {"id": self._number, "type": TYPES[collection], "url": url, "related": related}
        item.update(summary_fields={}, scm_revision="")
        self.items[collection][self._number] = item
        return self.change(item, body)

    def change(self, item: Item, body: Item) -> Item:
        """Give an object other fields."""
        fields = dict(body)
        if item["type"] == "workflow_approval_template":
            fields = {key: body[key] for key in ("name", "description", "timeout") if key in body}
        if "inputs" in fields:
            self.secrets += [value for key, value in fields["inputs"].items() if key in SECRETS]
            fields["inputs"] = {
                key: "$encrypted$" if key in SECRETS else value
                for key, value in fields["inputs"].items()
            }
        item.update(fields)
        return item

    def named(self, collection: str) -> dict[str, Item]:
        """Return the objects of a collection by name."""
        return {item["name"]: item for item in self.items[collection].values()}

    def listed(self, collection: str, query: dict[str, str]) -> Item:
        """Answer a search."""
        names = UNIFIED if collection == "unified_job_templates" else (collection,)
        found = [
            item
            for name in names
            for item in self.items[name].values()
            if all(str(item.get(key)) == value for key, value in query.items())
        ]
        return {"count": len(found), "next": None, "results": found}

    def answer(self, method: str, path: str, query: dict[str, str], body: Item) -> tuple[int, Any]:
        """Answer one request."""
        parts = path.removeprefix("/api/v2/").strip("/").split("/")
        if method != "GET":
            self.writes.append(f"{method} {path}")
        if len(parts) == 1:
            if method == "POST":
                return 201, self.add(parts[0], body)
            return 200, self.listed(parts[0], query)
        item = self.items[parts[0]].get(int(parts[1]))
        if item is None:
            return 404, {"detail": "Not found."}
        if len(parts) == 2:
            return 200, self.change(item, body) if method == "PATCH" else item
        if parts[2] == "survey_spec":
            if method == "POST":
                self.surveys[path] = body
            return 200, self.surveys.get(path, {})
        if parts[2] == "create_approval_template":
            approval = self.add("workflow_approval_templates", body)
            item["unified_job_template"] = approval["id"]
            item["related"]["unified_job_template"] = approval["url"]
            return 201, approval
        assert parts[2] in ASSOCIATIONS, path
        there = self.associations.setdefault(path, [])
        if method == "POST":
            if body.get("disassociate"):
                there.remove(body["id"])
            else:
                there.append(body["id"])
            return 204, None
        return 200, {"count": len(there), "next": None, "results": [{"id": id} for id in there]}


@contextmanager
def serving(awx: Awx) -> Iterator[str]:
    """Serve it on loopback; yield its address."""

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            parts = urlsplit(self.path)
            status, answer = awx.answer(
                self.command, parts.path, dict(parse_qsl(parts.query)), body
            )
            data = b"" if answer is None else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("X-API-Product-Name", "AWX")
            self.send_header("X-API-Product-Version", "24.6.1")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = _serve

        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
