"""Carriers of workers that many runs share: one process, in which each run has a host of its own (`hosts.py`).

Which process: that of the same worker of the same pipeline file. A subprocess is shared by the runs of this process
that are open at the same time, a Ray actor (`shared_actor.py`) by those of the cluster. The first run starts it, the
others join it; it ends behind the last.

event                                    the run                                 the others
its process dies                         its calls raise WorkerLost              as well; who is first starts another
the run's host is killed (`kill`), as    its calls raise WorkerLost; its host    nothing
it is abandoned or did not answer        is given up
... and the process does not answer      the process is killed                   as above
  a ping within `PING_S`
it closes                                its host is closed, within `LEAVE_S`    nothing
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from thalweg.deploy.cluster.order import Order
from thalweg.deploy.cluster.remote import RemoteError, WorkerFull, WorkerLost
from thalweg.deploy.cluster.subprocess_host import LEAVE_S, Child, ChildLink, start_child
from thalweg.deploy.errors import Problem
from thalweg.deploy.runtime.tasks import beside
from thalweg.pipeline.file.plan import SUBPROCESS

PING_S = 2.0


class SharedProcess(Protocol):
    """A process with the hosts of many runs, as one of them sees it."""

    async def join(self, whose: str, on_problem: Callable[[Problem], None]) -> None:
        """It runs, and the run may make its host. Raises RemoteError, WorkerLost."""
        ...

    async def call(self, whose: str, name: str, *args: Any) -> Any:
        """Call a method of the run's host. Raises RemoteError, WorkerLost."""
        ...

    def post(self, whose: str, name: str) -> None:
        """As `call`, without arguments and without an answer."""
        ...

    def kill(self, reason: str) -> None:
        """End the process, for all."""
        ...

    async def part(self, whose: str) -> None:
        """The run has left. Behind the last the process ends."""
        ...


class SharedCarrier:
    """See `Carrier`. `find`: the process to join, asked anew by each carrier that starts."""

    def __init__(self, order: Order, find: Callable[[], SharedProcess]) -> None:
        self._order = order
        self._find = find
        self._whose = secrets.token_hex(8)
        self._process: SharedProcess | None = None
        self._gone: asyncio.Future[str] | None = None
        self._pinging: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process on this machine, where it is one and runs."""
        return getattr(self._process, "pid", None)

    async def start(self) -> None:
        """Join the process, and have a host made there; in another one, once, where it turns out to be dying. Raises
        WorkerFull where it has as many as it may.
        """
        self._gone = asyncio.get_running_loop().create_future()
        try:
            await self._join()
        except WorkerLost:
            process, self._process = self._process, None
            if process is None or self._gone.done():
                raise
            await process.part(self._whose)
            await self._join()

    async def _join(self) -> None:
        self._process = self._find()
        await self._process.join(self._whose, self._order.on_problem)
        worker = self._order.worker
        most = 0 if self._order.goes_on else worker.runs
        if await self.call("make", worker.name, self._order.bundle.plain(), most):
            raise WorkerFull(worker.name, most, everywhere=worker.launcher != SUBPROCESS)

    async def call(self, name: str, *args: Any) -> Any:
        """See `Carrier.call`."""
        process, gone = self._process, self._gone
        if process is None or gone is None or gone.done():
            raise self._lost()
        async with beside(process.call(self._whose, name, *args)) as answer:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise self._lost()
        return answer.result()

    def post(self, name: str) -> None:
        """See `Carrier.post`."""
        if self._process is not None:
            self._process.post(self._whose, name)

    def kill(self, reason: str) -> None:
        """End this run's host; the process only where it does not answer."""
        if self._process is not None and self._gone is not None and not self._gone.done():
            self._gone.set_result(reason)
            self._process.post(self._whose, "leave")
            self._pinging = asyncio.get_running_loop().create_task(self._ping(self._process, reason))

    async def close(self) -> None:
        """End this run's host. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            if self._pinging is not None:
                await asyncio.wait({self._pinging})
            elif self._gone is not None and not self._gone.done():
                self._gone.set_result("it has ended")
                with suppress(WorkerLost, RemoteError, TimeoutError):
                    async with asyncio.timeout(LEAVE_S):
                        await process.call(self._whose, "leave")
        finally:
            await process.part(self._whose)

    async def _ping(self, process: SharedProcess, reason: str) -> None:
        with suppress(WorkerLost, RemoteError):
            try:
                async with asyncio.timeout(PING_S):
                    await process.call(self._whose, "ping")
            except TimeoutError:
                process.kill(reason)

    def _lost(self) -> WorkerLost:
        done = self._gone is not None and self._gone.done()
        reason = self._gone.result() if self._gone is not None and done else "it was never started, or has ended"
        return WorkerLost(f"worker {self._order.worker.name} is gone: {reason}")


class SharedChild:
    """A subprocess that the runs of this process share. `order`: of the first of them, whose log it has.

    `children`: where it is found, which is told when the last has left.
    """

    def __init__(self, order: Order, children: SharedChildren) -> None:
        self._link = ChildLink(order.worker.name)
        self._order = order
        self._children = children
        self._starting: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process, once it was started."""
        return self._link.pid

    @property
    def lasts(self) -> bool:
        """Whether another run may join it: it has not failed, and is not about to end."""
        starting = self._starting
        failed = starting is not None and starting.done() and (starting.cancelled() or starting.exception() is not None)
        return bool(self._link.listeners) and not failed and not self._link.over

    async def join(self, whose: str, on_problem: Callable[[Problem], None]) -> None:
        """See `SharedProcess.join`. Who gives up waiting does not end it for those who wait, too."""
        self._link.listeners[whose] = on_problem
        if self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(self._start())
        await asyncio.shield(self._starting)

    async def call(self, whose: str, name: str, *args: Any) -> Any:
        """See `SharedProcess.call`."""
        return await self._link.call(whose, name, *args)

    def post(self, whose: str, name: str) -> None:
        """See `SharedProcess.post`."""
        self._link.post(whose, name)

    def kill(self, reason: str) -> None:
        """See `SharedProcess.kill`."""
        self._link.kill(reason)

    async def part(self, whose: str) -> None:
        """See `SharedProcess.part`."""
        self._link.listeners.pop(whose, None)
        if self._link.listeners:
            return
        if self._starting is not None:
            await asyncio.wait({self._starting})
        await self._link.close()
        await self._children.ended(self)

    async def _start(self) -> None:
        await self._link.start(await self._children.process(), self._order.log)
        if self._order.worker.restart.may_return:
            self._children.keep_spare()


class SharedChildren:
    """Those of one event loop, by worker and file; and one process in reserve where any of them may come back."""

    def __init__(self) -> None:
        self._children: dict[tuple[str, str], SharedChild] = {}
        self._spare: asyncio.Task[Child] | None = None

    def find(self, order: Order) -> SharedChild:
        """The one of this worker that lasts, or a new one, which is to be joined before anything else happens."""
        key = order.worker.name, order.bundle.digest
        found = self._children.get(key)
        if found is None or not found.lasts:
            found = self._children[key] = SharedChild(order, self)
        return found

    async def process(self) -> Child:
        """The one in reserve, or a new one."""
        spare, self._spare = self._spare, None
        if spare is not None:
            with suppress(OSError):
                child = await spare
                if child.process.returncode is None:
                    return child
                await child.dismiss()
        return await start_child()

    def keep_spare(self) -> None:
        """Have a process in reserve."""
        if self._spare is None:
            self._spare = asyncio.get_running_loop().create_task(start_child())

    async def ended(self, child: SharedChild) -> None:
        """The last run has left it."""
        self._children = {key: other for key, other in self._children.items() if other is not child}
        if not self._children and self._spare is not None:
            spare, self._spare = self._spare, None
            with suppress(OSError):
                await (await spare).dismiss()


_of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, SharedChildren] = WeakKeyDictionary()


def _children() -> SharedChildren:
    return _of_loops.setdefault(asyncio.get_running_loop(), SharedChildren())


def shared_carrier(order: Order) -> SharedCarrier:
    """The carrier of a worker that is shared, by its launcher."""
    if order.worker.launcher == SUBPROCESS:
        return SharedCarrier(order, lambda: _children().find(order))
    from thalweg.deploy.cluster.shared_actor import SharedActor  # wants Ray

    return SharedCarrier(order, lambda: SharedActor(order))
