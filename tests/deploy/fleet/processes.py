"""A hub and a node as processes of their own, as somebody would run them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from thalweg.deploy.fleet.hub.serve import asking
from thalweg.pipeline.errors import ThalwegError

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
PATIENCE_S = 90.0


def thalweg(*arguments: str | Path) -> list[str]:
    """The command line of a command of ours."""
    return [sys.executable, "-m", "thalweg.deploy", *map(str, arguments)]


def free_port() -> int:
    """A port that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Fleet:
    """One hub and one node. Use it as a context: what was started is ended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self.processes):
            self.end(name)

    def start_hub(self) -> None:
        """Returns once it answers."""
        self._start("hub", thalweg("hub", "run", "--folder", self.folder / "hub", "--port", self.port))
        wait_until(lambda: self.nodes() is not None)

    def start_node(self) -> None:
        """Its agent."""
        self._start("node", thalweg("node", "run", "--folder", self.folder / "node", "--report", "0.5"))

    def enrol(self) -> None:
        """Make the node one of the hub."""
        code = self.hub("enrol", "drone-7").strip()
        run("node", "enrol", f"127.0.0.1:{self.port}", code, "--folder", str(self.folder / "node"))

    def hub(self, command: str, *arguments: str) -> str:
        """A command that asks the hub."""
        return run("hub", command, *arguments, "--folder", str(self.folder / "hub"))

    def roll_out(self, *more: str) -> int:
        """Have the node run the beacon, tried for two seconds; the generation."""
        files = str(HERE / "beacon.yaml"), "--file", str(HERE / "beacon.py")
        told = self.hub("rollout", *files, "--watch", "2", "--open", "60", *more)
        return int(told.split()[1])

    def nodes(self) -> dict[str, Any] | None:
        """What the hub says of the node; None where it does not answer."""
        try:
            with asking(self.folder / "hub") as hub:
                rows = hub.ask("nodes")
        except ThalwegError:
            return None
        return dict(rows[0]) if rows else {}

    def seen(self, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Wait until the hub says of the node what is wanted."""
        found: dict[str, Any] = {}

        def look() -> object:
            found.clear()
            found.update(self.nodes() or {})
            return found and condition(found)

        wait_until(look, lambda: f"{found}\n{(self.folder / 'node.log').read_text(encoding='utf-8')}")
        return found

    def kill(self, name: str) -> None:
        """As a power cut of that process."""
        process = self.processes.pop(name)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    def end(self, name: str) -> None:
        """As systemd would."""
        process = self.processes.pop(name)
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _start(self, name: str, command: list[str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, stdin=subprocess.DEVNULL)


def run(*arguments: str) -> str:
    """A command to its end; what it printed."""
    done = subprocess.run(
        thalweg(*arguments), cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, done.args, done.stdout, done.stderr)
    return done.stdout


def wait_until(condition: Callable[[], object], told: Callable[[], str] = str) -> None:
    """Raises AssertionError where it does not come to pass."""
    until_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until_s, told()
        time.sleep(0.2)
