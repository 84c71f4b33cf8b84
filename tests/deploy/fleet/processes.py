"""A hub and a node as processes of their own, as somebody would run them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack

from tests.netlab import Host
from thalweg.deploy.bench.ports import free_port
from thalweg.deploy.fleet.hub.serve import asking
from thalweg.pipeline.errors import ThalwegError
from thalweg.transports.fleet.segment import MAGIC, records

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
PATIENCE_S = 90.0


def thalweg(*arguments: str | Path | float) -> list[str]:
    """The command line of a command of ours."""
    return [sys.executable, "-m", "thalweg.deploy", *map(str, arguments)]


class Fleet:
    """One hub and one node, here or on hosts of their own. Use it as a context: what was started is ended."""

    def __init__(self, folder: Path, hub_host: Host | None = None, node_host: Host | None = None) -> None:
        self.folder = folder
        self.hosts = {"hub": hub_host, "node": node_host}
        self.address = "127.0.0.1" if hub_host is None else hub_host.address
        self.port = free_port()
        self.page = ""
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self.processes):
            self.end(name)

    def start_hub(self, *more: str) -> None:
        """Returns once it answers."""
        where = "--folder", self.folder / "hub", "--host", self.address, "--port", self.port
        self.start("hub", thalweg("hub", "run", *where, *more))
        wait_until(lambda: self.nodes() is not None)

    def start_node(self, report_s: float = 0.5) -> None:
        """Its agent."""
        self.start("node", thalweg("node", "run", "--folder", self.folder / "node", "--report", report_s))

    def enrol(self, name: str = "drone-7", folder: str = "node", *more: str) -> None:
        """Make the node one of the hub."""
        code = self.hub("enrol", name, *more).strip()
        command = thalweg("node", "enrol", f"{self.address}:{self.port}", code, "--folder", self.folder / folder)
        subprocess.run(self._on("node", command), cwd=ROOT, check=True, capture_output=True, timeout=PATIENCE_S)

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
        return next((dict(row) for row in rows if row["node"] == "drone-7"), {})

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

    def spooled(self) -> int:
        """Bytes of events on the node's disk."""
        return sum(path.stat().st_size for path in (self.folder / "node/spool").glob("*-events.seg"))

    def _on(self, name: str, command: list[str]) -> list[str]:
        host = self.hosts.get(name)
        return command if host is None else host.command(command)

    def start(self, name: str, command: list[str]) -> None:
        """A process, to be ended with the others; what it prints is in NAME.log."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                self._on(name, command), cwd=ROOT, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )


def arrived(folder: Path) -> Counter[tuple[int, int]]:
    """(boot, what the beacon has counted to) → how often the hub has it."""
    found: Counter[tuple[int, int]] = Counter()
    for path in sorted((folder / "hub/nodes/drone-7/records").glob("*.seg")):
        for record in records(path.read_bytes(), len(MAGIC)):
            stored = record.stored
            if stored.stream == "beacon.token":
                found[stored.boot, int(msgpack.unpackb(stored.payload)["payload"]["text"])] += 1
    return found


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
