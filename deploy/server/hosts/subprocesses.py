"""Conversation hosts as processes of this machine: started, adopted, started again, and told to end.

They are found by files that they write into a private folder of this user, so a restarted front finds the hosts of the
one before. Hosts of another pipeline file are drained: their conversations continue on a new host.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path

from thalweg.deploy.cluster.host import Bundle
from thalweg.deploy.door.refused import Refused
from thalweg.deploy.server.hosts.front import Front
from thalweg.deploy.server.hosts.host import HostOrder, settings_for_hosts
from thalweg.deploy.server.hosts.link import HostLink, HostLost, LinkState
from thalweg.deploy.server.hosts.record import SUFFIX, HostError, records_in
from thalweg.deploy.server.settings import ServerSettings
from thalweg.models.child_process import module_path, python_module
from thalweg.models.store.home import user_folder
from thalweg.stages.io.terminal import logs_objects

log = logging.getLogger(__name__)

LOOK_S = 0.2
LONGEST_PATH = 100
PAUSES_S = (0.0, 1.0, 2.0, 5.0, 15.0, 30.0)
STEADY_S = 60.0
ENDING_S = 8.0


@dataclass(slots=True)
class _Started:
    process: asyncio.subprocess.Process
    since_s: float


class SubprocessHosts:
    """Keeps `count` of them for a front. `run` until cancelled; `end` tells them all to end."""

    def __init__(self, front: Front, bundle: Bundle, settings: ServerSettings, count: int, folder: Path) -> None:
        self._front = front
        self._bundle = bundle
        self._settings = settings
        self._count = count
        self._folder = folder
        self._digest = bundle.digest
        self._started: dict[str, _Started] = {}
        self._failures = 0
        self._next_s = 0.0
        self._lock: int | None = None

    async def run(self) -> None:
        """See the head of this file."""
        try:
            while True:
                for record in records_in(self._folder):
                    self._front.add(record)
                    self._front.missing.pop(record.name, None)
                if sum(link.takes for link in self._front.links.values()) >= self._count:
                    self._front.missing.clear()  # others, of other names, have taken their place
                if self._starts():
                    self._bury()
                    await self._start_missing()
                    await self._front.empty_others()
                await asyncio.sleep(LOOK_S)
        finally:
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def _starts(self) -> bool:
        """Whether this front is the one that starts hosts here: of several with one folder, one does."""
        if self._lock is None:
            held = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(held)
                return False
            self._lock = held
        return True

    async def end(self) -> None:
        """Tell every host to end, and wait for those that were started here; kill what does not."""
        for name, link in list(self._front.links.items()):
            link.ending = True
            if name not in self._started:  # of a front before this one
                with contextlib.suppress(HostLost, Refused):
                    await link.ask("/stop", {}, within_s=2.0)
        for started in self._started.values():
            with contextlib.suppress(ProcessLookupError):
                started.process.terminate()
        for name, started in self._started.items():
            try:
                async with asyncio.timeout(ENDING_S):
                    await started.process.wait()
            except TimeoutError:
                started.process.kill()
                await started.process.wait()
            (self._folder / f"{name}{SUFFIX}").unlink(missing_ok=True)

    def _good(self) -> set[str]:
        """Those that newcomers can, or will soon, be sent to."""
        links = self._front.links.values()
        there = {
            link.name
            for link in links
            if link.record.pipeline == self._digest
            and link.state in (LinkState.NEW, LinkState.UP)
            and not link.told.draining
        }
        emptied = {link.name for link in links if link.told.draining}
        return there | (self._started.keys() - emptied)

    async def _start_missing(self) -> None:
        if time.monotonic() < self._next_s:
            return
        try:
            for _ in range(self._count - len(self._good())):
                await self._start()
        except OSError as error:  # no process, no descriptor, no memory is left: those who talk, talk on
            log.error("no conversation host can be started now: %s", error.strerror or type(error).__name__)
            self._later()

    def _later(self) -> None:
        """Wait before another one is started, longer each time."""
        self._failures += 1
        self._next_s = time.monotonic() + PAUSES_S[min(self._failures, len(PAUSES_S)) - 1]

    async def _start(self) -> None:
        taken = self._started.keys() | self._front.links.keys()
        name = next(name for number in range(1, 10_000) if (name := f"host-{number}") not in taken)
        where = self._folder / f"{name}.sock"
        order = HostOrder(
            name=name,
            bundle=self._bundle.plain(),
            where=str(where),
            settings=settings_for_hosts(self._settings),
            drain_s=self._settings.drain_s,
            zone=self._settings.zone,
        )
        process = await asyncio.create_subprocess_exec(
            *python_module("thalweg.deploy.server.hosts.child", str(self._folder)),
            stdin=asyncio.subprocess.PIPE,
            env=os.environ | module_path() | {"THALWEG_LOG": "json" if logs_objects() else "text"},
            start_new_session=True,
        )
        self._started[name] = _Started(process, time.monotonic())
        assert process.stdin is not None
        with contextlib.suppress(ConnectionError):
            process.stdin.write(order.model_dump_json().encode())
            await process.stdin.drain()
        process.stdin.close()

    def _bury(self) -> None:
        """Those that have ended: forget them, and start others, more slowly each time they end soon."""
        now_s = time.monotonic()
        for name, started in list(self._started.items()):
            code = started.process.returncode
            if code is None:
                continue
            del self._started[name]
            self._forget(name)
            if code == 0:
                continue
            log.error("conversation host %s ended with code %d", name, code)
            self._front.missing[name] = f"it ended with code {code}: the log says more"
            if now_s - started.since_s > STEADY_S:
                self._failures = 0
            self._later()
        for link in list(self._front.links.values()):  # of a front before this one
            if link.name not in self._started and link.state is LinkState.LOST and not _lives(link):
                self._forget(link.name)

    def _forget(self, name: str) -> None:
        (self._folder / f"{name}{SUFFIX}").unlink(missing_ok=True)
        self._front.remove(name)


def _lives(link: HostLink) -> bool:
    return link.record.pid > 0 and Path(f"/proc/{link.record.pid}").exists()


def hosts_folder(name: str, port: int) -> Path:
    """Where the hosts of a server write themselves down: this user's alone. Raises HostError."""
    folder = user_folder("XDG_STATE_HOME", ".local/state") / "thalweg" / "hosts" / f"{name}-{port}"
    if len(os.fsencode(folder / "host-9999.sock")) > LONGEST_PATH:
        raise HostError(f"{folder} is too long for Unix sockets in it: name a shorter folder in XDG_STATE_HOME")
    try:
        for part in (folder.parents[1], folder.parent, folder):
            part.mkdir(parents=part == folder.parents[1], exist_ok=True, mode=0o700)
        found = folder.stat()
    except OSError as error:
        raise HostError(
            f"conversation hosts need a folder, and {folder} cannot be one: {error.strerror}; name another folder in "
            "XDG_STATE_HOME"
        ) from None
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise HostError(f"{folder} is not yours alone: chmod 700 it, or name another folder in XDG_STATE_HOME")
    return folder
