"""Releases that are no good: `python -m tests.deploy.fleet.bad_releases [--together] [KIND …]`. A row of each kind.

A hub and three nodes as processes on loopback. Each node has committed the beacon; then they are given the same bad
release, one after the other or all together, with the gate as it is. Seconds are from when the hub has it until it has
heard that it is over and the release before is ready again. Beside it a gate that looks only at whether the process is
up: what it would have said of FAULTS is seen by running the same files as a node does, three at a time, for the 30 s of
the trial. Needs root, for small disks.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.deploy.fleet.processes import HERE, ROOT, Fleet, thalweg, wait_until
from thalweg.deploy.fleet.hub.serve import asking

NODES = ("drone-1", "drone-2", "drone-3")
FAULTS = ("crash", "hang", "silent", "freeze")
KINDS = (*FAULTS, "wrong hash", "older generation", "too big")
WATCH_S = 30.0
DISK_MB, MODEL_MB = 64, 96


class Bad:
    """One hub, three nodes, each on a small disk of its own."""

    def __init__(self, fleet: Fleet, together: bool) -> None:
        self.fleet = fleet
        self.groups = [NODES] if together else [(name,) for name in NODES]
        self.good = 0

    def start(self) -> None:
        """All nodes run the beacon, committed."""
        self.fleet.start_hub()
        for name in NODES:
            self.fleet.enrol(name, name)
            self._run(name)
        self.good = self._roll_out("--open", "60", "--watch", "5")
        self._until(lambda row: row["current"] == self.good and row["phase"] == "resting")

    def try_out(self, kind: str) -> tuple[list[float], str]:
        """Seconds of each node that came back, and why it did."""
        took: dict[str, float] = {}
        reasons: set[str] = set()
        for names in self.groups:
            self._try_on(kind, names, took, reasons)
        return list(took.values()), "; ".join(sorted(reasons))

    def _try_on(self, kind: str, names: tuple[str, ...], took: dict[str, float], reasons: set[str]) -> None:
        with self._paused():  # so that no node fetches before it is spoilt
            wanted = self._give(kind, names)
        began_s = time.monotonic()
        refused = {name: self._said_older(name) for name in NODES}

        def over(row: dict[str, Any]) -> bool:
            name, back = row["node"], row["current"] == self.good and row["pipeline"] == "ready"
            if kind == "older generation":
                found = back and row["phase"] == "resting" and self._said_older(name) > refused[name]
                row["reason"] = "the hub offers a release which is no newer than what was had"
            else:
                found = back and row["phase"] == "resting" and row["last"] == wanted and row["reason"]
            if found and name not in took:
                took[name] = time.monotonic() - began_s
                reasons.add(row["reason"])
            return bool(found)

        self._until(over, names)

    def would_stay(self, kind: str) -> int:
        """Of how many of three whose process is up after the trial's time, run with no other gate."""
        with ExitStack() as stack:
            processes = [self._alone(stack, name, kind) for name in NODES]
            time.sleep(WATCH_S)
            return sum(process.poll() is None for process in processes)

    def _give(self, kind: str, names: tuple[str, ...]) -> int:
        """Have these nodes want it."""
        to = [part for name in names for part in ("--node", name)]
        if kind in FAULTS:
            return self._roll_out("--set", f"fault={kind}", *to)
        folder = self.fleet.folder
        if kind == "too big":
            model = folder / "model.bin"
            model.write_bytes(os.urandom(MODEL_MB << 20))
            return self._roll_out("--file", str(model), *to)
        if kind == "older generation":  # signed by the hub, and again under a new number
            wanted = self._roll_out("--set", "gap=30", *to)
            old = (folder / f"hub/manifests/{self.good}.json").read_bytes()
            (folder / f"hub/manifests/{wanted}.json").write_bytes(old)
            return wanted
        model = folder / "model.bin"
        model.write_bytes(os.urandom(1 << 20))
        before = set((folder / "hub/artefacts").iterdir())
        wanted = self._roll_out("--file", str(model), *to)
        (kept,) = set((folder / "hub/artefacts").iterdir()) - before
        spoilt = bytearray(kept.read_bytes())
        spoilt[len(spoilt) // 2] ^= 1
        kept.write_bytes(spoilt)
        return wanted

    def _alone(self, stack: ExitStack, name: str, kind: str) -> subprocess.Popen[bytes]:
        """What a node would run, without a trial."""
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for file in ("beacon.yaml", "beacon.py"):
            (folder / file).write_bytes((HERE / file).read_bytes())
        process = subprocess.Popen(
            thalweg("up", "--foreground", "--name", "alone", "--set", f"fault={kind}", "--", "beacon.yaml"),
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT / os.environ.get("PYTHONPATH", "")),
                "THALWEG_NODE": str(self.fleet.folder / name / "intake.sock"),
                "XDG_STATE_HOME": str(folder),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stack.callback(_end, process)
        return process

    def _run(self, name: str) -> None:
        command = thalweg("node", "run", "--folder", self.fleet.folder / name, "--report", 0.5)
        self.fleet.start(name, command)

    @contextmanager
    def _paused(self) -> Iterator[None]:
        agents = [self.fleet.processes[name] for name in NODES]
        for agent in agents:
            agent.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for agent in agents:
                agent.send_signal(signal.SIGCONT)

    def _roll_out(self, *more: str) -> int:
        files = str(HERE / "beacon.yaml"), "--file", str(HERE / "beacon.py")
        return int(self.fleet.hub("rollout", *files, *more).split()[1])

    def _said_older(self, name: str) -> int:
        return (self.fleet.folder / f"{name}.log").read_text(encoding="utf-8").count("which is no newer")

    def _until(self, condition: Callable[[dict[str, Any]], object], names: tuple[str, ...] = NODES) -> None:
        """Until the hub says so of all of these nodes."""
        rows: list[dict[str, Any]] = []

        def look() -> bool:
            with asking(self.fleet.folder / "hub") as hub:
                rows[:] = map(dict, hub.ask("nodes"))
            return all([condition(row) for row in rows if row["node"] in names])  # noqa: C419 - each is looked at

        wait_until(look, lambda: str([(row["node"], row["phase"], row["last"], row["reason"]) for row in rows]))


def main(kinds: list[str], together: bool) -> None:
    """Takes some ten minutes."""
    with tempfile.TemporaryDirectory() as at, ExitStack() as stack:
        folder = Path(at)
        for name in NODES:
            (folder / name).mkdir()
            small = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=700", "tmpfs", str(folder / name)]
            subprocess.run(small, check=True)
            stack.callback(subprocess.run, ["umount", "-l", str(folder / name)], check=False)
        bad = Bad(stack.enter_context(Fleet(folder)), together)
        bad.start()
        print("| kind | rolled back | p50, max | why | a gate that asks whether the process is up keeps |", flush=True)
        for kind in kinds:
            took, why = bad.try_out(kind)
            load = os.getloadavg()[0]
            stays = f"{bad.would_stay(kind)} of {len(NODES)}" if kind in FAULTS else "–"
            print(
                f"| {kind} | {len(took)} of {len(NODES)} | {statistics.median(took):.1f} s, {max(took):.1f} s | "
                f"{why} | {stays} | load {load:.0f}",
                flush=True,
            )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


if __name__ == "__main__":
    asked = [kind for kind in sys.argv[1:] if kind != "--together"]
    main(asked or list(KINDS), "--together" in sys.argv)
