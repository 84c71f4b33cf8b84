"""A lent worker: `python -m thalweg.deploy.fleet.lending.worker FD MEMORY`, started by the lender, or on a node of its
Ray cluster, for one stage of one node, which may allocate so many bytes.

It talks with the node over the inherited socket, through the lender, as `transports.fleet.lease` describes. The stage
computes in a thread, or waits on the loop, so beats are answered meanwhile, and what it emits is sent as the link takes
it: what waits for the link waits here. An interrupt ends the work on what is of no use any more, as it does on the
node, where the stage is async. When the socket ends so does the process, with all that it has
started. Only what is installed here is run, and only what can be moved, which no stage is that reads or writes files: a
class that the node names `module:Class` must lie in the lender's own folder, which is the working
directory.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from thalweg.deploy.errors import describe_error
from thalweg.deploy.fleet.errors import FleetError
from thalweg.deploy.fleet.lending.context import LentContext
from thalweg.deploy.fleet.lending.process import be_lent, refuse
from thalweg.deploy.runtime.tasks import in_thread
from thalweg.pipeline.decoding import shown
from thalweg.pipeline.file.catalog import find_stage, stage_names
from thalweg.pipeline.fleet.moving.places import placing_problem
from thalweg.pipeline.hooks import is_async
from thalweg.pipeline.packet import AMBIENT
from thalweg.pipeline.signal import Interrupt, Signal
from thalweg.transports.codec import decode, decode_signal
from thalweg.transports.fleet.lease import LEASE_S, VERSION, frame, next_frame
from thalweg.transports.state import pack_state, unpack_state

log = logging.getLogger(__name__)

STATE_S = 0.1
"""How often a state goes along with an answer: what has to be done again when this worker is lost."""
STATE_PACKETS = 8
QUEUED = 64


class LentStage:
    """The stage, and what it was asked. `serve` returns when the node has gone."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="stage")
        self._work: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue(QUEUED)
        self._stage: Any = None
        self._loop = asyncio.get_running_loop()
        self._some = asyncio.Event()
        self._ctx = LentContext(self._send_anywhere, self._thread, self._stir)
        self._number: int | None = None
        self._patience: asyncio.Timeout | None = None
        self._epoch = AMBIENT
        self._stateful = False
        self._generation = -1
        self._failed = False
        self._state_s = 0.0
        self._since_state = 0

    async def serve(self) -> None:
        """Open the stage that is asked for, then answer. Raises IncompleteReadError, ConnectionError at the end."""
        try:
            await self._open(await next_frame(self._reader))
        except (asyncio.IncompleteReadError, ConnectionError):
            raise
        except Exception as error:  # a third-party stage may raise anything; the node is told why it gets no worker
            await refuse(self._reader, self._writer, describe_error(error))
            return
        self._send("open", LEASE_S)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._compute())
            group.create_task(self._stream())
            while True:
                await self._hear(await next_frame(self._reader))

    async def _open(self, asked: tuple[Any, ...]) -> None:
        match asked:
            case ("lease", int() as version, str() as use, dict() as settings, bool() as stateful):
                if version != VERSION:
                    raise FleetError(f"the node speaks version {version} of leases, this lender {VERSION}")
            case _:
                raise FleetError(f"a lease is asked for by version, stage and settings, found {shown(asked)}")
        find_only_ours(use)
        find_only_our_backends(settings)
        info = find_stage(use)
        problem = placing_problem(info)  # the node has checked, too, but is not trusted here
        if problem:
            raise FleetError(f"{shown(use)} is not lent: {problem}")
        self._stateful = stateful
        self._stage = info.cls(**info.check(settings))
        self._ctx.ports = info.outputs
        opening = getattr(self._stage, "open", None)
        if opening is not None:
            await self._call(opening, self._ctx)

    async def _hear(self, said: tuple[Any, ...]) -> None:
        match said:
            case ("ping", int() as number):
                self._send("pong", number)
                await self._writer.drain()  # a node that only asks, and never reads, is not kept in memory
            case ("begin", *_):
                if self._number is not None:
                    self._end_work()  # nothing of that generation is wanted any more
                await self._work.put(said)
            case ("packet" | "probe", *_):
                await self._work.put(said)
            case ("configure" | "declare", dict()):
                await self._work.put(said)
            case ("signal", bytes() as written):
                self._hear_signal(decode_signal(written))
            case _:
                raise FleetError(f"the node said {shown(said[0])}, which a lent worker does not know")

    async def _compute(self) -> None:
        while True:
            match await self._work.get():
                case ("begin", int() as generation, bytes() | None as state):
                    await self._begin(generation, state)
                case ("packet", int() as generation, int() as number, bytes() as record):
                    if generation == self._generation and not self._failed:
                        await self._answer(number, record)
                case ("probe", int() as number, bytes() as record):
                    _, took_ns, _ = await self._process(record)
                    self._send("probed", number, took_ns)
                case ("configure", dict() as settings):
                    self._stage.configure(settings)
                case ("declare", dict() as settings):
                    self._stage.declare(settings)
                case _:
                    raise FleetError("the node said something that a lent worker does not know")
            await self._writer.drain()

    async def _begin(self, generation: int, state: bytes | None) -> None:
        self._generation, self._failed = generation, False
        self._since_state, self._state_s = 0, 0.0
        if state is None:
            return
        try:
            await in_thread(self._thread, self._stage.restore, unpack_state(state))
        except Exception as error:
            self._failed = True
            self._send("failed", generation, describe_error(error)[:1000])

    async def _answer(self, number: int, record: bytes) -> None:
        self._number = number
        results, took_ns, error = await self._process(record)
        self._number = None
        self._since_state += 1
        now_s = time.monotonic()
        state = None
        if self._stateful and (now_s - self._state_s >= STATE_S or self._since_state >= STATE_PACKETS):
            snapshot = await in_thread(self._thread, self._stage.snapshot)
            if snapshot is not None:  # else it is in the middle of something, and asked again with the next packet
                state = pack_state(snapshot)
                self._since_state, self._state_s = 0, now_s
        self._send("answer", self._generation, number, results, took_ns, state, error)

    async def _process(self, record: bytes) -> tuple[list[bytes], int, str]:
        """Results, ns that it took, and why it failed or nothing."""
        began_ns = time.monotonic_ns()
        error = ""
        try:
            self._ctx.begin(decode(record))
            async with asyncio.timeout(None) as self._patience:
                self._drop_stale()
                await self._call(self._stage.process, self._ctx.packet, self._ctx)
        except TimeoutError as raised:
            if self._patience is None or not self._patience.expired():
                error = describe_error(raised)[:1000]
        except Exception as raised:  # as in any worker: it costs this packet
            error = describe_error(raised)[:1000]
        self._patience = None
        return self._ctx.end(), time.monotonic_ns() - began_ns, error

    async def _stream(self) -> None:
        """Send results of the packet in hand as they come, and no faster than the link takes them."""
        while True:
            await self._some.wait()
            self._some.clear()
            await self._writer.drain()
            if self._number is not None and (results := self._ctx.take()):
                self._send("part", self._generation, self._number, results)
                self._some.set()

    def _hear_signal(self, found: Signal) -> None:
        if isinstance(found, Interrupt):
            self._epoch = max(self._epoch, found.epoch)
            self._drop_stale()
        if hasattr(self._stage, "on_signal"):
            self._stage.on_signal(found, self._ctx)

    def _drop_stale(self) -> None:
        """End the work on a packet whose epoch is over."""
        packet = self._ctx.packet
        if packet is None or not AMBIENT < packet.epoch < self._epoch:
            return
        self._end_work()

    def _end_work(self) -> None:
        """End the work on the packet in hand where that is async; else the stage may look at `stale`."""
        self._ctx.stale = True
        if self._patience is not None and is_async(self._stage.process) and not self._patience.expired():
            self._patience.reschedule(self._loop.time())

    async def _call(self, function: Any, *args: Any) -> None:
        if is_async(function):
            await function(*args)
        elif inspect.isawaitable(result := await in_thread(self._thread, function, *args)):
            await result

    def _send(self, *parts: Any) -> None:
        self._writer.write(frame(*parts))

    def _stir(self) -> None:
        self._loop.call_soon_threadsafe(self._some.set)

    def _send_anywhere(self, *parts: Any) -> None:
        """From the stage's own threads, too."""
        self._loop.call_soon_threadsafe(self._writer.write, frame(*parts))


def find_only_ours(use: str) -> None:
    """Raises FleetError where a class is named that is neither installed as a stage nor in the working directory."""
    if use not in stage_names() and not _in_our_folder(use):
        raise FleetError(f"{shown(use)} is no stage that is installed here, and no module in the lender's folder")


def find_only_our_backends(settings: Any) -> None:
    """Raises FleetError where a language model's `backend`, of one or of a pool, is such a class of another place."""
    if not isinstance(settings, dict):
        return
    named = settings.get("backend")
    if isinstance(named, str) and ":" in named and not _in_our_folder(named):
        raise FleetError(f"{shown(named)} is no backend that is installed here, and no module in the lender's folder")
    for each in settings.values():
        find_only_our_backends(each)


def _in_our_folder(name: str) -> bool:
    module = name.partition(":")[0].partition(".")[0]
    return module.isidentifier() and os.path.exists(f"{module}.py")


async def main(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve the node until it is gone."""
    try:
        await LentStage(reader, writer).serve()
    except* (asyncio.IncompleteReadError, ConnectionError):
        pass
    except* Exception as errors:
        for error in errors.exceptions:
            log.error("a lent worker ends: %s", describe_error(error))


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[2]),) * 2)
    be_lent(main)
