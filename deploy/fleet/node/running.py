"""The pipeline of a node: a deployment as `thalweg up --foreground` keeps it, in processes of its own.

The agent starts and ends it and asks it how it is; it computes nothing itself, so it stays small and survives any
failure of a pipeline. `XDG_STATE_HOME=FOLDER/run thalweg top` looks at it as at any other deployment. While the disk
takes nothing, what its keeper remembers and its log are in memory.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

from thalweg.deploy.fleet.manifest import Manifest
from thalweg.deploy.fleet.node.disk import Disk, in_memory
from thalweg.deploy.fleet.node.releases import PACKAGES
from thalweg.deploy.ops.keeping import systemd
from thalweg.deploy.ops.keeping.control import Control
from thalweg.deploy.ops.keeping.deployments import MARK, DeploymentFolder, KeepingError
from thalweg.deploy.ops.keeping.logs import trim
from thalweg.models.child_process import python_module
from thalweg.pipeline.fleet.agent_socket import NODE, NODE_FOLDER
from thalweg.pipeline.fleet.causes import COMPUTE, LINK, QUEUE, Spent
from thalweg.pipeline.fleet.gate import Sight, leads_out
from thalweg.stages.io.private import append_private

NAME: Final = "pipeline"
LOG: Final = "pipeline.log"
PACKAGES_VARIABLE: Final = "THALWEG_PACKAGES"  # reading.PACKAGES: its module would bring numpy into the agent
_DEADLINE: Final = "deadline"  # Drop.DEADLINE: its module would bring numpy into the agent
DRAIN_S = 5.0
ANSWER_S = 2.0


class Pipeline:
    """At most one at a time. Blocking, and safe to be called from several threads."""

    def __init__(self, disk: Disk, socket: Path) -> None:
        self.generation = 0
        self._disk = disk
        self._socket = socket
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._use(in_memory(disk.folder))
        self._elsewhere = self._deployment
        self._use(disk.folder)

    def start(self, release: Path, manifest: Manifest) -> None:
        """End what runs, and run this release."""
        self.stop()
        with self._lock:
            self._use(self._disk.place())
            settings = [part for name, value in manifest.settings.items() for part in ("--set", f"{name}={value}")]
            command = python_module("thalweg.deploy", "up", "--foreground", "--name", NAME, *settings)
            with self._opened_log() as log:
                self._process = subprocess.Popen(
                    [*command, "--", manifest.pipeline],
                    cwd=release / "files",
                    env=self._environment(release),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            self.generation = manifest.generation

    def stop(self) -> None:
        """End it: its sources stop and what is under way is finished, for a few seconds. Idempotent."""
        with self._lock:
            process, self._process, self.generation = self._process, None, 0
            if process is not None:
                process.terminate()
                try:
                    process.wait(DRAIN_S + 5.0)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            for left in (self._elsewhere, self._deployment):
                left.kill_processes()
            until_s = time.monotonic() + DRAIN_S
            while self._deployment.is_up and time.monotonic() < until_s:
                time.sleep(0.05)

    @property
    def ended(self) -> bool:
        """Whether it was started and has ended."""
        return self._process is not None and self._process.poll() is not None

    def status(self) -> dict[str, Any] | None:
        """What its keeper says of it; None where it does not answer."""
        with suppress(KeepingError, OSError, ValueError), Control(self._deployment) as control:
            found: dict[str, Any] = control.ask("stats", within_s=ANSWER_S)
            return found
        return None

    def sight(self) -> Sight | None:
        """How it looks, for a trial."""
        process = self._process
        if process is None:
            return Sight(ready=False, ended="it is not there")
        if (code := process.poll()) is not None:
            return Sight(ready=False, ended=self._why(code))
        found = self.status()
        return None if found is None else sight_of(found)

    def tidy(self) -> None:
        """Keep its log short."""
        with suppress(OSError):
            trim(self.log)

    def _use(self, place: Path) -> None:
        """Keep its state and log there from now on."""
        self._run, self.log = place / "run", place / LOG
        os.environ["XDG_STATE_HOME"] = str(self._run)
        self._deployment = DeploymentFolder(NAME)

    def _environment(self, release: Path) -> dict[str, str]:
        """That of the agent, whose words with systemd are its own. With the mark a keeper is found, and ended, that an
        agent before has left: its lock keeps every other one from starting, and it answers for a release of its own.
        """
        own = {name: value for name, value in os.environ.items() if name != systemd.SOCKET}
        return own | {
            PACKAGES_VARIABLE: str((release / PACKAGES).absolute()),
            NODE: str(self._socket),
            NODE_FOLDER: str(self._disk.folder.absolute()),
            "XDG_STATE_HOME": str(self._run),
            MARK: str(self._deployment.path),
        }

    def _opened_log(self) -> IO[bytes]:
        return append_private(self.log)

    def _why(self, code: int) -> str:
        reason = str(self._deployment.state.get("reason", ""))
        return reason or f"exit code {code}"


def sight_of(found: dict[str, Any]) -> Sight:
    """What a keeper's answer to `stats` means for a trial."""
    status, workers = found["status"], [worker for worker in found["stats"].values() if worker is not None]
    stages = {name: stage for worker in workers for name, stage in worker["stages"].items()}
    deadlines = deadlines_of(found)
    return Sight(
        ready=status["state"] == "ready",
        ended=status["reason"] if status["state"] == "failed" else "",
        restarts=sum(worker["restarts"] for worker in status["workers"].values()),
        outputs={name: stage["units"] for name, stage in stages.items() if leads_out(stage["use"])},
        made=sum(deadlines.values()),
        missed=deadlines["late"] + deadlines["dropped"],
    )


def spent_in(found: dict[str, Any]) -> dict[str, Spent]:
    """Where packets have spent how much time so far, by a keeper's answer to `stats`."""
    spent: dict[str, Spent] = {}
    for worker in found["stats"].values():
        if worker is None:
            continue
        for name, stage in worker["stages"].items():
            counts, work = stage["counts"], stage["work"]
            spent[f"{name} here"] = Spent(COMPUTE, work["total_ns"], stage["units"])
            spent[f"{name} there"] = Spent(COMPUTE, counts.get("away_us", 0) * 1000, counts.get("away", 0))
            spent[f"{name} link"] = Spent(LINK, counts.get("link_us", 0) * 1000, counts.get("away", 0))
        for name, channel in worker["channels"].items():
            age = channel["age"]
            spent[f"{name} queue"] = Spent(QUEUE, age["total_ns"], sum(count for _, count in age["counts"]))
    return spent


def deadlines_of(found: dict[str, Any]) -> dict[str, int]:
    """What became of packets with a deadline, over the whole pipeline, by a keeper's answer to `stats`: `in_time` or
    `late` where they left it, `dropped` on their way since the deadline had passed.
    """
    total = {"in_time": 0, "late": 0, "dropped": 0}
    for worker in found["stats"].values():
        if worker is None:
            continue
        for stage in worker["stages"].values():
            if leads_out(stage["use"]):
                for name in ("in_time", "late"):
                    total[name] += stage["counts"].get(name, 0)
        total["dropped"] += sum(channel["drops"].get(_DEADLINE, 0) for channel in worker["channels"].values())
    return total
