"""Launcher: a host in a process of its own on this machine."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thalweg.deploy.cluster.child import read_message, write_message
from thalweg.deploy.cluster.heartbeat import Beat
from thalweg.deploy.cluster.host import Bundle, Routes
from thalweg.deploy.ops.observing.outcome import Outcome, Problem
from thalweg.deploy.ops.observing.stats import WorkerStats
from thalweg.pipeline.errors import ThalwegError

LEAVE_S = 2.0


class WorkerLost(ThalwegError):
    """A worker that is gone: its process ended without being told to. `cleanly`: by itself, with code 0."""

    def __init__(self, message: str, *, cleanly: bool = False) -> None:
        super().__init__(message)
        self.cleanly = cleanly


class RemoteError(ThalwegError):
    """What a worker elsewhere could not do, in its own words."""


@dataclass(slots=True)
class Child:
    """A process that waits to be told which worker it is, and our end of its socket."""

    process: asyncio.subprocess.Process
    sock: socket.socket

    async def dismiss(self) -> None:
        """It is not needed."""
        self.sock.close()
        await self.process.wait()


async def start_child(through: Sequence[str] = ()) -> Child:
    """Start one; it loads everything that does not depend on which worker it will be.

    `through`: a command that runs the one behind it, in its own process and with the files that are open, such as
    `ip netns exec NAME`.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        process = await asyncio.create_subprocess_exec(
            *through,
            sys.executable,
            "-m",
            "thalweg.deploy.cluster.child",
            str(theirs.fileno()),
            pass_fds=[theirs.fileno()],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            start_new_session=True,
        )
    return Child(process, ours)


class SubprocessHost:
    """The same calls as `Host`, done in a subprocess. `close` must be awaited in the end.

    `log`: the file that what it prints is added to; without one it prints where we do. `child`: a process to use.
    """

    def __init__(
        self,
        name: str,
        bundle: Bundle,
        on_problem: Callable[[Problem], None],
        log: Path | None = None,
        child: Child | None = None,
    ) -> None:
        self._child = child
        self.name = name
        self._log = log
        self._bundle = bundle
        self._on_problem = on_problem
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._listening: asyncio.Task[None] | None = None
        self._lost: WorkerLost | None = None
        self._reason = ""

    @property
    def pid(self) -> int | None:
        """The process, once it was started."""
        return None if self._process is None else self._process.pid

    async def prepare(self) -> str:
        """Start the process."""
        child = self._child or await start_child()
        self._process = child.process
        reader, self._writer = await asyncio.open_connection(sock=child.sock)
        self._listening = asyncio.get_running_loop().create_task(self._listen(reader))
        await self._call("make", self.name, self._bundle.plain(), None if self._log is None else str(self._log))
        return str(await self._call("prepare"))

    async def listen(self, edges: Mapping[str, str], address: str, certificates: list[bytes] | None) -> dict[str, str]:
        """See `Host.listen`."""
        addresses: dict[str, str] = await self._call("listen", dict(edges), address, certificates)
        return addresses

    async def connect(self, routes: Routes, certificates: list[bytes] | None) -> None:
        """See `Host.connect`."""
        await self._call("connect", {edge: list(route) for edge, route in routes.items()}, certificates)

    async def relink(self, routes: Routes, certificates: list[bytes] | None) -> None:
        """See `Host.relink`."""
        await self._call("relink", {edge: list(route) for edge, route in routes.items()}, certificates)

    async def give_up(self, edges: Sequence[str], reason: str) -> None:
        """See `Host.give_up`."""
        await self._call("give_up", list(edges), reason)

    async def restore(self, state: bytes | None, watched: bool, set_aside: Sequence[Sequence[Any]]) -> None:
        """See `Host.restore`."""
        await self._call("restore", state, watched, [list(key) for key in set_aside])

    async def beat(self, stored: int) -> Beat:
        """See `Host.beat`. Raises WorkerLost where there is nobody to ask."""
        beat: Beat = await self._call("beat", stored)
        return beat

    async def open(self) -> None:
        """See `Host.open`."""
        await self._call("open")

    async def run(self) -> Outcome:
        """See `Host.run`. Raises WorkerLost where the process ends first."""
        return Outcome.from_plain(await self._call("run"))

    async def stats(self) -> WorkerStats:
        """See `Host.stats`. Raises WorkerLost where there is nobody to ask."""
        stats: WorkerStats = await self._call("stats")
        return stats

    def stop(self) -> None:
        """See `Host.stop`."""
        self._send("stop")

    def abandon(self) -> None:
        """See `Host.abandon`."""
        self._send("abandon")

    def kill(self, reason: str) -> None:
        """End it at once: whoever waits for it is told that it is gone, and `reason`. Idempotent."""
        if self._process is not None and self._process.returncode is None:
            self._reason = reason
            self._process.kill()

    async def close(self) -> None:
        """End the process: kindly, then not. Idempotent."""
        if self._process is None:
            return
        self._send("leave")
        try:
            async with asyncio.timeout(LEAVE_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        if self._listening is not None:
            await self._listening
        if self._writer is not None:
            self._writer.close()
        self._process = None

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while True:
            try:
                message = await read_message(reader)
            except (asyncio.IncompleteReadError, ConnectionError):
                break
            if "problem" in message:
                self._on_problem(Problem(**message["problem"]))
            elif (future := self._calls.pop(message["id"], None)) is not None and not future.done():
                if "error" in message:
                    future.set_exception(RemoteError(message["error"]))
                else:
                    future.set_result(message["result"])
        assert self._process is not None
        code = await self._process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        reason = self._reason or f"its process {how}"
        self._lost = WorkerLost(f"worker {self.name} is gone: {reason}", cleanly=code == 0)
        calls, self._calls = self._calls, {}
        for future in calls.values():
            if not future.done():
                future.set_exception(self._lost)

    async def _call(self, name: str, *args: Any) -> Any:
        future = asyncio.get_running_loop().create_future()
        self._send(name, *args, future=future)
        return await future

    def _send(self, name: str, *args: Any, future: asyncio.Future[Any] | None = None) -> None:
        if self._lost is not None or self._writer is None:
            if future is not None:
                future.set_exception(self._lost or WorkerLost(f"worker {self.name} was never started"))
            return
        number = id(future) if future is not None else 0
        if future is not None:
            self._calls[number] = future
        write_message(self._writer, {"id": number, "call": name, "args": list(args)})
