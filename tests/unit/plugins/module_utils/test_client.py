# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An API server that misses one request: what was only read is asked for again."""

from __future__ import annotations

import contextlib
import http.server
import threading
import time
from collections.abc import Iterator

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Api, ApiError

Misses = list[str]


@pytest.fixture
def misses() -> Misses:
    """How the server fails those who ask, one after the other; then it answers."""
    return []


@pytest.fixture
def asked() -> list[str]:
    """The methods of the requests that came."""
    return []


@pytest.fixture
def url(misses: Misses, asked: list[str]) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.command)
            miss = misses.pop(0) if misses else ""
            if miss == "closes":
                self.close_connection = True
                return
            if miss == "silent":
                time.sleep(1)
                return
            with contextlib.suppress(BrokenPipeError):
                self.send_response(200)
                self.send_header("Content-Length", "20" if miss == "half" else "11")
                self.end_headers()
                self.wfile.write(b'{"one": "1"}'[:11] if miss == "half" else b'{"one":"1"}')

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("miss", ["closes", "silent", "half"])
def test_what_is_read_is_asked_for_twice(
    miss: str, url: str, misses: Misses, asked: list[str]
) -> None:
    misses.append(miss)
    answer = Api({"host": url, "api_key": "any"}).request("GET", "/one", read_timeout=0.3)
    assert answer.body == {"one": "1"}
    assert asked == ["GET", "GET"]


@pytest.mark.parametrize("miss", ["closes", "silent", "half"])
def test_it_is_not_asked_for_without_end(
    miss: str, url: str, misses: Misses, asked: list[str]
) -> None:
    misses += [miss] * 3
    with pytest.raises(ApiError, match="cannot reach the cluster"):
        Api({"host": url, "api_key": "any"}).request("GET", "/one", read_timeout=0.3)
    assert asked == ["GET", "GET"]


def test_what_is_written_is_sent_once(url: str, misses: Misses, asked: list[str]) -> None:
    misses.append("closes")
    with pytest.raises(ApiError, match="cannot reach the cluster"):
        Api({"host": url, "api_key": "any"}).request("POST", "/one", {}, read_timeout=0.3)
    assert asked == ["POST"]
