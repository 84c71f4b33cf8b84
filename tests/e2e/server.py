"""`thalweg serve` as a user starts it, in a namespace of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.netns import Wire

ROOT = Path(__file__).parent.parent.parent
PORT = 8080
PATIENCE_S = 60.0


class Server:
    """A running server; `url` is its page. Asked from inside the client's namespace."""

    def __init__(self, ends: Wire, process: subprocess.Popen[str], url: str) -> None:
        self.ends = ends
        self.process = process
        self.url = url

    def get(self, path: str, *curl: str) -> tuple[int, str]:
        """Status and body of one request, by curl."""
        command = ["curl", "-sk", "-m", "10", "-w", "\n%{http_code}", *curl, self.url.rstrip("/") + path]
        done = subprocess.run(self.ends.within(self.ends.client, command), capture_output=True, text=True, check=False)
        body, _, status = done.stdout.rpartition("\n")
        return int(status or 0), body

    def sessions(self) -> list[dict[str, Any]]:
        """What `/sessions` says."""
        found = json.loads(self.get("/sessions", "-H", "Authorization: Bearer admin")[1])["sessions"]
        assert isinstance(found, list)
        return found


@contextmanager
def serve(ends: Wire, file: Path, log: Path, *options: str) -> Iterator[Server]:
    """Start it, wait until it is ready, stop it."""
    address = ends.address
    command = [sys.executable, "-m", "thalweg.deploy", "serve", str(file), "--host", address, "--port", str(PORT)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    with log.open("w") as out:
        process = subprocess.Popen(
            ends.within(ends.server, [*command, "--admin-token", "admin", *options]), env=env, stderr=out, text=True
        )
    server = Server(ends, process, f"{'https' if '--certificate' in options else 'http'}://{address}:{PORT}/")
    try:
        deadline = time.monotonic() + PATIENCE_S
        while server.get("/readyz")[0] != 200:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield server
    finally:
        for _ in range(2):
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                time.sleep(0.3)
        process.wait(timeout=20)
