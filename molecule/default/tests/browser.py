"""A headless Chromium, driven through its DevTools protocol."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import websocket

FLAGS = (
    "--headless",
    "--no-sandbox",  # which Chromium refuses to make for root
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--window-size=1400,900",
    "--remote-debugging-port=0",
)


class Page:
    """One page of the browser."""

    def __init__(self, address: str) -> None:
        # The protocol is for this machine's programs only; a browser's page would name an origin.
        self._socket = websocket.create_connection(address, timeout=60, suppress_origin=True)
        self._count = itertools.count(1)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; return its result."""
        number = next(self._count)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result

    def text(self) -> str:
        """Return what a person reads on the page."""
        found = self.call(
            "Runtime.evaluate",
            expression="document.body ? document.body.innerText : ''",
            returnByValue=True,
        )
        return str(found["result"].get("value", ""))

    def open(self, url: str) -> None:
        """Go to an address."""
        found = self.call("Page.navigate", url=url)
        assert not found.get("errorText"), found

    def wait_for(self, words: str, seconds: float = 120) -> None:
        """Return when the page shows the words."""
        deadline = time.monotonic() + seconds
        while words not in self.text():
            assert time.monotonic() < deadline, f"{words!r} is not in:\n{self.text()}"
            time.sleep(0.25)

    def screenshot(self, file: Path) -> None:
        """Keep what the page looks like."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


@contextlib.contextmanager
def chromium() -> Iterator[Page]:
    """Start a browser that knows nothing and keeps nothing; give its page."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if not program:
        pytest.fail("there is no chromium: molecule/default/browser.yml installs it", pytrace=False)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={folder}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            note = Path(folder, "DevToolsActivePort")
            deadline = time.monotonic() + 60
            while not (note.exists() and note.read_text()):
                assert process.poll() is None, "chromium ended at once"
                assert time.monotonic() < deadline, "chromium did not start"
                time.sleep(0.1)
            port = int(note.read_text().split()[0])
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=30) as answer:
                pages = [item for item in json.load(answer) if item["type"] == "page"]
            yield Page(pages[0]["webSocketDebuggerUrl"])
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
