"""Launcher: a host in a process of its own on this machine, reached over an inherited socket."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thalweg.deploy.cluster.child import debugging, read_message, write_message
from thalweg.deploy.cluster.host import Bundle
from thalweg.deploy.cluster.remote import RemoteError, WorkerLost
from thalweg.deploy.ops.observing.outcome import Problem
from thalweg.deploy.runtime.tasks import beside
from thalweg.models.child_process import module_path, python_module

log = logging.getLogger(__name__)

LEAVE_S = 2.0


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
            *python_module("thalweg.deploy.cluster.child", str(theirs.fileno())),
            pass_fds=[theirs.fileno()],
            env=os.environ | module_path() | debugging(),
            start_new_session=True,
        )
    return Child(process, ours)


class ChildLink:
    """Our end of a process that is started: calls, to the host of one run or another, and what comes back.

    `name`: the worker's; `listeners`: who is told of problems, by run.
    """

    def __init__(self, name: str) -> None:
        self.listeners: dict[str, Callable[[Problem], None]] = {}
        self.lost: WorkerLost | None = None
        self._name = name
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._tasks = AsyncExitStack()
        self._reason = ""

    @property
    def pid(self) -> int | None:
        """The process, once it was started."""
        return None if self._process is None else self._process.pid

    @property
    def over(self) -> bool:
        """Whether the process has ended, or is about to."""
        return self.lost is not None or bool(self._reason)

    async def start(self, child: Child, log: Path | None) -> None:
        """Listen to a process that waits; what it prints is added to `log`. Raises WorkerLost."""
        self._process = child.process
        reader, self._writer = await asyncio.open_connection(sock=child.sock)
        await self._tasks.enter_async_context(beside(self._listen(reader)))
        if log is not None:
            await self.call("", "print_to", str(log))

    async def call(self, whose: str, name: str, *args: Any) -> Any:
        """Call a method of a host and return what it returns. Raises RemoteError, WorkerLost."""
        future = asyncio.get_running_loop().create_future()
        self._send(whose, name, *args, future=future)
        return await future

    def post(self, whose: str, name: str) -> None:
        """As `call`, without arguments and without an answer."""
        self._send(whose, name)

    def kill(self, reason: str) -> None:
        """See `Carrier.kill`."""
        if self._process is not None and self._process.returncode is None:
            self._reason = reason
            self._process.kill()

    async def close(self) -> None:
        """End the process: kindly, then not. Idempotent."""
        if self._process is None:
            return
        self._send("", "end")
        try:
            async with asyncio.timeout(LEAVE_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._tasks.aclose()
        if self._writer is not None:
            self._writer.close()
        self._process = None

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Read messages of the process until it ends; then fail all calls that wait for an answer."""
        process = self._process
        assert process is not None
        try:
            while True:
                try:
                    message = await read_message(reader)
                except (asyncio.IncompleteReadError, ConnectionError):
                    break
                except ValueError as error:  # the child sent something that is not our protocol
                    self.kill(f"it said what cannot be read: {error}")
                    break
                self._hear(message)
            code = await process.wait()
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            cleanly = code == 0
        except asyncio.CancelledError:
            how, cleanly = "was given up", True
        self.lost = WorkerLost(f"worker {self._name} is gone: {self._reason or f'its process {how}'}", cleanly=cleanly)
        calls, self._calls = self._calls, {}
        for future in calls.values():
            if not future.done():
                future.set_exception(self.lost)

    def _hear(self, message: dict[str, Any]) -> None:
        if "problem" in message:
            listener = self.listeners.get(message["whose"])
            try:
                if listener is not None:
                    listener(Problem(**message["problem"]))
            except Exception:
                log.exception("worker %s: %s; the listener `on_problem` raised", self._name, message["problem"])
        elif (future := self._calls.pop(message["id"], None)) is not None and not future.done():
            if "error" in message:
                future.set_exception(RemoteError(message["error"]))
            else:
                future.set_result(message["result"])

    def _send(self, whose: str, name: str, *args: Any, future: asyncio.Future[Any] | None = None) -> None:
        if self.lost is not None or self._writer is None:
            if future is not None:
                future.set_exception(self.lost or WorkerLost(f"worker {self._name} was never started"))
            return
        number = id(future) if future is not None else 0
        if future is not None:
            self._calls[number] = future
        write_message(self._writer, {"id": number, "whose": whose, "call": name, "args": list(args)})


class SubprocessCarrier:
    """See `Carrier`. `log`: the file that what it prints is added to; without one it prints where we do. `child`: a
    process to use.
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
        self._name = name
        self._log = log
        self._bundle = bundle
        self._link = ChildLink(name)
        self._link.listeners[""] = on_problem

    @property
    def pid(self) -> int | None:
        """The process, once it was started."""
        return self._link.pid

    async def start(self) -> None:
        """Start the process, and have it make the host."""
        await self._link.start(self._child or await start_child(), self._log)
        await self.call("make", self._name, self._bundle.plain())

    async def call(self, name: str, *args: Any) -> Any:
        """See `Carrier.call`."""
        return await self._link.call("", name, *args)

    def post(self, name: str) -> None:
        """See `Carrier.post`."""
        self._link.post("", name)

    def kill(self, reason: str) -> None:
        """See `Carrier.kill`."""
        self._link.kill(reason)

    async def close(self) -> None:
        """See `Carrier.close`."""
        await self._link.close()
