"""The agent: one process per node, which starts with the machine, with or without a hub.

Theory of operation. What is to be done is decided by `pipeline.fleet`: the rollout's record says which release runs,
the gate whether it stays. Here this is done, in this order after every event: the record is written to the disk, then
what it demands happens. What failed of it, on a full disk, say, is done by the next tick that can. A pipeline that ends
by itself is started again, slower and slower. Nothing waits for the hub.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgpack

from thalweg.deploy.fleet.errors import FleetError
from thalweg.deploy.fleet.node.asking import HubRefused
from thalweg.deploy.fleet.node.commands import Commands, allowed_in
from thalweg.deploy.fleet.node.disk import DISK_ERRORS
from thalweg.deploy.fleet.node.identity import Identity
from thalweg.deploy.fleet.node.intake import SOCKET, Intake
from thalweg.deploy.fleet.node.recent_log import RecentLog
from thalweg.deploy.fleet.node.releases import ReleaseRefused, Releases
from thalweg.deploy.fleet.node.running import Pipeline, deadlines_of, spent_in
from thalweg.deploy.fleet.node.uplink import Uplink
from thalweg.deploy.fleet.node.vehicle import VehicleState
from thalweg.deploy.ops.keeping.systemd import notify
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.fleet.backoff import LONGEST_S, pause_s
from thalweg.pipeline.fleet.causes import Causes
from thalweg.pipeline.fleet.gate import Trial
from thalweg.pipeline.fleet.rollout import Do, Phase, RolloutEvent, follow
from thalweg.pipeline.fleet.spool_policy import SpoolClass
from thalweg.transports.fleet.segment import SpoolError
from thalweg.transports.fleet.spool import Spool

log = logging.getLogger(__name__)

TICK_S = 1.0
TIDY_S = 60.0


class Agent:
    """Runs a node until it is told to stop. Raises FleetError where another agent runs in the same folder."""

    def __init__(self, folder: Path, *, report_s: float = 5.0) -> None:
        self._folder = folder
        self._lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise FleetError(f"an agent runs in {folder} already") from None
        self.identity = Identity(folder)
        self._local = self.identity.local()
        self._boot = self.identity.next_boot()
        self.spool = Spool(folder / "spool", self._boot, self._local.spool_mb << 20)
        self.releases = Releases(folder, self.identity.signing)
        self._disk = self.identity.disk
        self._socket = self._disk.place() / SOCKET
        self.pipeline = Pipeline(self._disk, self._socket)
        self.record = self.releases.load()
        who = self.identity
        self.commands = Commands(who.name, who.instance, _allowed(folder), who.signing, self._note_command)
        self._recent = RecentLog(lambda: self.pipeline.log)
        self.uplink = Uplink(
            who,
            self.spool,
            self._report,
            self._wanted,
            report_s=report_s,
            commands=self.commands,
            log_lines=self._recent.lines,
        )
        self._vehicle = VehicleState(folder, self._disk)
        self._intake = Intake(
            self.spool, self.uplink.stored, self._vehicle.said, self.commands.wait, self.uplink.media_bps
        )
        self._causes = Causes()
        self._trial: Trial | None = None
        self._deciding = asyncio.Lock()
        self._fetching: asyncio.Task[None] | None = None
        self._desired = 0
        self._deaths = 0
        self._started_s = 0.0
        self._again_s: float | None = None

    async def run(self) -> None:
        """Until SIGTERM or SIGINT."""
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopping.set)
        logging.getLogger("thalweg").addHandler(self._recent)
        await asyncio.to_thread(self.pipeline.stop)  # what an agent before has left
        await self._intake.start(self._socket)
        self.uplink.start()
        log.info("node %s, boot %d, release %s", self.identity.name, self._boot, self.record.current or "none")
        try:
            async with asyncio.TaskGroup() as group:
                await self._boot_up()
                notify("READY=1")
                ticking = group.create_task(self._tick_on(group))
                await stopping.wait()
                notify("STOPPING=1")
                ticking.cancel()
                if self._fetching is not None:
                    self._fetching.cancel()
        finally:
            logging.getLogger("thalweg").removeHandler(self._recent)
            await self._intake.close()
            await asyncio.to_thread(self.pipeline.stop)
            await asyncio.to_thread(self.uplink.stop)
            with suppress(OSError):  # of a disk that takes nothing
                self.spool.close()
            os.close(self._lock)

    async def _boot_up(self) -> None:
        """Run what is to run; where the disk takes nothing, the ticks do."""
        before = self.record
        try:
            await self._hear(RolloutEvent.BOOTED)
        except OSError as error:
            self._failed(error)
            if self.record is before:
                self.record, _ = follow(before, RolloutEvent.BOOTED)

    async def _tick_on(self, group: asyncio.TaskGroup) -> None:
        tidied_s = 0.0
        while True:
            await asyncio.sleep(TICK_S)
            notify("WATCHDOG=1")
            with suppress(SpoolError):
                await asyncio.to_thread(self.spool.sync, SpoolClass.TELEMETRY)
            await asyncio.to_thread(self._look_at_disk)
            try:
                await self._tick(group)
                if time.monotonic() - tidied_s > TIDY_S:
                    tidied_s = time.monotonic()
                    self.pipeline.tidy()
            except (ThalwegError, OSError) as error:  # a full disk, most likely: what runs goes on
                self._failed(error)

    def _look_at_disk(self) -> None:
        """Blocking."""
        if self.spool.problem:
            self._disk.failed(self.spool.problem)
            self.spool.problem = ""
        self._disk.look()

    def _failed(self, error: Exception) -> None:
        """Say so; of the disk once."""
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            self._disk.failed(error.strerror or str(error))
        else:
            log.error("%s", error)

    async def _tick(self, group: asyncio.TaskGroup) -> None:
        if self._trial is not None:
            sight = await asyncio.to_thread(self.pipeline.sight)
            verdict = self._trial.see(time.monotonic_ns(), sight)
            if verdict is not None:
                await self._hear(RolloutEvent.PASSED if verdict.passed else RolloutEvent.FAILED, reason=verdict.reason)
        elif self._is_down():
            await self._start_again()
        if self.record.phase is Phase.COMMITTING:  # the disk has not taken it before
            await self._commit()
        if self.record.phase is Phase.STAGED and self._may_change():
            await self._hear(RolloutEvent.ALLOWED)
        busy = self._fetching is not None and not self._fetching.done()
        behind = self._desired > self.record.highest or self.record.phase is Phase.FETCHING
        if behind and not busy and self.record.phase in (Phase.RESTING, Phase.STAGED, Phase.FETCHING):
            self._fetching = group.create_task(self._fetch())

    async def _hear(self, event: RolloutEvent, *, generation: int = 0, reason: str = "") -> None:
        """The record first, then what it demands; one event at a time."""
        async with self._deciding:
            await self._follow(event, generation=generation, reason=reason)

    async def _commit(self) -> None:
        async with self._deciding:
            await self._point()

    async def _follow(self, event: RolloutEvent, *, generation: int = 0, reason: str = "") -> None:
        before = self.record
        record, do = follow(before, event, generation=generation, reason=reason)
        if record != before:
            await asyncio.to_thread(self.releases.save, record)
            self.record = record
            if not record.on_trial:
                self._trial = None
            said = f": {record.reason}" if record.reason and record.reason != before.reason else ""
            log.info("release %s: %s%s", record.candidate or record.current, record.phase.value, said)
            self.uplink.report_soon()
        if do is Do.POINT:
            await self._point()
        elif do is Do.RUN:
            await self._run_current()
        if do in (Do.RUN, Do.DISCARD) and self.record.phase is Phase.RESTING:
            await asyncio.to_thread(self.releases.tidy, self.record)

    async def _point(self) -> None:
        await asyncio.to_thread(self.releases.point, self.record.candidate)
        await self._follow(RolloutEvent.COMMITTED)

    async def _run_current(self) -> None:
        """Have the release run that is to run; what runs already goes on."""
        wanted = self.record.running
        self._started_s, self._again_s = time.monotonic(), None
        if wanted == 0:
            await asyncio.to_thread(self.pipeline.stop)
            return
        try:
            manifest = self.releases.manifest(wanted)
            if self.pipeline.generation != wanted or self.pipeline.ended:
                self._vehicle.forget_pipeline()
                await asyncio.to_thread(self.pipeline.start, self.releases.path(wanted), manifest)
        except (ThalwegError, OSError) as error:
            log.error("release %d cannot be run: %s", wanted, error)
            if self.record.on_trial:
                await self._follow(RolloutEvent.FAILED, reason=str(error))
            return
        if self.record.on_trial:
            self._trial = Trial(manifest.gate, time.monotonic_ns())

    def _is_down(self) -> bool:
        """Whether what is to run does not. Until a commit is done, either of the two may run."""
        record = self.record
        either = {record.running, record.candidate} if record.phase is Phase.COMMITTING else {record.running}
        return self.pipeline.ended or self.pipeline.generation not in either

    async def _start_again(self) -> None:
        """What is to run does not: it is started at once the first time, then after pauses that double."""
        now_s = time.monotonic()
        if self._again_s is None:
            self._deaths = self._deaths + 1 if now_s - self._started_s < LONGEST_S else 0
            wait_s = pause_s(self._deaths)
            self._again_s = now_s + wait_s
            log.warning("the pipeline does not run; it is started again in %g s", wait_s)
        if now_s >= self._again_s:
            async with self._deciding:
                await self._run_current()

    async def _fetch(self) -> None:
        """Fetch the release that the hub wants. After any failure the next tick tries again."""
        try:
            try:
                await asyncio.to_thread(self._fetch_in_thread, asyncio.get_running_loop())
            except ReleaseRefused as error:
                await self._hear(RolloutEvent.REFUSED, reason=str(error))
                return
            await self._hear(RolloutEvent.FETCHED)
        except OSError as error:
            self._failed(error)
            await asyncio.sleep(5.0)
        except ThalwegError as error:
            level = logging.ERROR if isinstance(error, HubRefused) else logging.INFO
            log.log(level, "fetching a release: %s", error)
            await asyncio.sleep(5.0)

    def _fetch_in_thread(self, loop: asyncio.AbstractEventLoop) -> None:
        with self.identity.client(timeout_s=30.0) as client:
            manifest, sealed = self.releases.ask(client)
            if manifest.generation > self.record.highest:
                hearing = self._hear(RolloutEvent.WANTED, generation=manifest.generation)
                asyncio.run_coroutine_threadsafe(hearing, loop).result()
            if manifest.generation != self.record.candidate:
                raise FleetError(f"the hub offers release {manifest.generation}, which is no newer than what was had")
            self.releases.fetch(client, manifest, sealed)

    def _may_change(self) -> bool:
        """Whether a release may be tried now: the vehicle has not said that it is armed, or has disarmed since; or the
        node's own file says always.
        """
        return self._local.updates == "always" or self._vehicle.armed is not True

    def _wanted(self, generation: int) -> None:
        self._desired = generation

    def _note_command(self, outcome: dict[str, Any]) -> None:
        """What became of a command that no stage has seen. From any thread."""
        try:
            self.spool.append(SpoolClass.EVENTS, "commands", msgpack.packb({"payload": outcome}), time.time_ns())
            self.uplink.stored()
        except ThalwegError as error:
            log.error("%s", error)

    def _report(self) -> dict[str, Any]:
        """How this node is. Called in a thread; what is read is replaced whole."""
        found = self.pipeline.status() if self.pipeline.generation else None
        status = found["status"] if found else {}
        deadlines = deadlines_of(found) if found else {}
        if found:
            self._causes.look(deadlines["late"], deadlines["dropped"], spent_in(found))
        return {
            "boot": self._boot,
            "instance": self.identity.instance,
            "time": time.time(),
            "rollout": self.record.plain(),
            "running": self.pipeline.generation,
            "pipeline": status.get("state", "ended" if self.pipeline.generation else "none"),
            "backlog": self.spool.backlog(),
            "refused": dict(self.spool.refused),
            "deadlines": deadlines,
            "causes": dict(self._causes.counts),
            "vehicle": self._vehicle.known,
            "commands": sorted(self.commands.allowed),
            "disk": self._disk.problem,
        }


def _allowed(folder: Path) -> frozenset[str]:
    """Which commands are taken; none where the file that says so is no good."""
    try:
        return allowed_in(folder)
    except FleetError as error:
        log.error("%s; no command is taken", error)
        return frozenset()


def run_node(folder: Path, *, report_s: float) -> int:
    """Be a node until told to stop. Raises FleetError where this folder is none."""
    if not folder.is_dir():
        raise FleetError(f"{folder} is no node: `thalweg node enrol HUB CODE` makes it one")
    with suppress(KeyboardInterrupt):
        asyncio.run(Agent(folder, report_s=report_s).run())
    return 0
