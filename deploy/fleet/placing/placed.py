"""A stage with several places: the one here, and workers that others lend.

Theory of operation. In the graph it is one node, whose stage is this. The stage itself is made and opened here, and
always stays open: packets are processed by it, or sent to the lent worker that has taken over. Who does is decided by
`placement` on what `gauges` has measured; what was sent and is not settled is kept by `handover`, all of
`pipeline.fleet.moving`. So:

    going out      the lent worker has opened its own before; between two packets it gets the state of the one here,
                   and the packets from then on. Nothing stops for it: make before break
    coming home    at once, planned or not: from the last state that came back, what was not settled is done again here,
                   silently where the results are out. Of a packet that was being processed some are: the rest follows
    a lent worker  that misses two beats, closes or refuses is lost; another lease is asked for after a while. Results
                   of a generation that is over are not believed

A stage that would not do the same again, such as a language model, has `go_on`: it is given what came of a packet
elsewhere, and finishes it. That stage follows each state that comes back, so that what is asked of it here, and the
signals that it hears, meet what it knows.

What of a packet may cross a stage says with `crossing`. Once it `stays`, it comes home behind what is under way, and
neither packets nor states nor signals cross any more.

`follow.py` measures and decides; here is what the decision does. One lock is held while the stage is used or moved, so
packets stay in order.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from typing import Any

from thalweg.deploy.errors import describe_error
from thalweg.deploy.fleet.placing.again import Again, Quiet
from thalweg.deploy.fleet.placing.follow import Follower
from thalweg.deploy.fleet.placing.lease import LARGEST_RECORD, Lease, record_of, results_of
from thalweg.deploy.fleet.placing.lenders import NodeFolder
from thalweg.deploy.runtime.tasks import beside
from thalweg.pipeline.fleet.moving.handover import Again as Undone
from thalweg.pipeline.fleet.moving.handover import Ledger
from thalweg.pipeline.graph import Vertex
from thalweg.pipeline.hooks import is_async
from thalweg.pipeline.packet import AMBIENT, Packet
from thalweg.pipeline.signal import Direction, Interrupt, Signal
from thalweg.pipeline.stage import Context
from thalweg.transports.codec import decode_signal, encode_signal
from thalweg.transports.state import pack_state, unpack_state

log = logging.getLogger(__name__)

DRAIN_S = 0.25
"""How long a planned return waits for answers that are on their way: what comes later is done again here."""


class PlacedStage:
    """Stands for `stage` in a worker. What it does not say itself, the stage does (`__getattr__`)."""

    def __init__(self, stage: Any, vertex: Vertex) -> None:
        assert vertex.placing is not None
        self.stage = stage
        self.placing = vertex.placing
        self._blocking = vertex.info.blocking
        self._deadline_ns = vertex.deadline_ns
        self._ledger: Ledger[Packet] = Ledger(stateful=vertex.placing.stateful, keeps=vertex.placing.goes_on)
        self._lock = asyncio.Lock()
        self._here = asyncio.Lock()
        self._room = asyncio.Event()
        self._lease: Lease | None = None
        self._undone: list[Undone[Packet]] = []
        self._redoing: tuple[Packet, asyncio.Timeout] | None = None
        self._epoch = AMBIENT
        self._finishing = False
        self.configured: dict[str, Any] = {}
        self._ctx: Any = None
        self._tasks = AsyncExitStack()
        self._counts = {"moved": 0, "away": 0, "away_us": 0, "link_us": 0, "done_again": 0}
        folder = NodeFolder.here()
        self._follower = None if folder is None else Follower(self, folder, vertex.name)
        if hasattr(stage, "snapshot") and hasattr(stage, "restore"):
            self.snapshot, self.restore = self._snapshot, self._restore
        if hasattr(stage, "configure"):
            self.configure = self._configure
        if hasattr(stage, "declare"):
            self.declare = self._declare

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "stage":
            raise AttributeError(name)
        return getattr(self.stage, name)

    @property
    def counts(self) -> dict[str, int]:
        """The stage's own, and how often it was moved, packets processed elsewhere, how long that took there and on the
        way, µs in all, and packets done again.
        """
        return {**getattr(self.stage, "counts", {}), **self._counts}

    async def open(self, ctx: Context) -> None:
        """Open the one here; others come when they come."""
        self._ctx = ctx
        opening = getattr(self.stage, "open", None)
        if opening is not None:
            await self._called(opening, ctx, apart=True)
        if self._follower is not None:
            await self._tasks.enter_async_context(beside(self._follower.run()))

    async def close(self) -> None:
        """Give back what was lent, close the one here."""
        await self._tasks.aclose()
        closing = getattr(self.stage, "close", None)
        if closing is not None:
            result = closing() if is_async(closing) else await asyncio.to_thread(closing)
            if inspect.isawaitable(result):
                await result

    async def process(self, packet: Packet, ctx: Context) -> None:
        """Here or there. Returns once there is room for another."""
        crosses = self.stage.crossing(packet) if hasattr(self.stage, "crossing") else packet
        if self.stays:
            await self._stay()
        elif self._follower is not None and crosses is not None:
            self._follower.came(crosses)
        async with self._lock:
            await self._do_undone()
            if self._lease is None:
                await self._run_here(packet, ctx)
            elif crosses is not None:
                record = record_of(crosses)  # before it is given: one that cannot be sent costs itself alone
                self._lease.packet(self._ledger.generation, self._ledger.give(crosses), record)
        while self._lease is not None and not self._ledger.has_room:
            self._room.clear()
            await self._room.wait()

    async def finish(self, ctx: Context) -> None:
        """What is under way comes back first, or is done here."""
        self._finishing = True
        await self._settled()
        async with self._lock:
            await self._come_home()
        finishing = getattr(self.stage, "finish", None)
        if finishing is not None:
            await self._called(finishing, ctx, apart=self._blocking)

    @property
    def away(self) -> Lease | None:
        """The lent worker that has it."""
        return self._lease

    @property
    def stays(self) -> bool:
        """Whether nothing may cross any more."""
        return bool(getattr(self.stage, "stays", False))

    @property
    def stuck(self) -> bool:
        """Whether nothing can be given since no state comes back."""
        return self._lease is not None and self._ledger.stuck

    async def go(self, lease: Lease) -> bool:
        """Hand over to a lent worker, between two packets; False where that cannot be now."""
        async with self._lock:
            await self._do_undone()
            if self._lease is not None:
                await self._come_home()
            state = None
            if self.placing.stateful:
                try:
                    snapshot = self.stage.snapshot()
                    state = None if snapshot is None else pack_state(snapshot)
                except Exception as error:
                    self._ctx.report(f"it cannot be moved, for its state cannot be had: {describe_error(error)}")
                    return False
                if state is None:  # it is in the middle of something
                    return False
                if len(state) > LARGEST_RECORD:
                    self._ctx.report(f"it cannot be moved: a state of {len(state) / 1e6:.0f} MB is too large for that")
                    return False
            if not lease.ready or self._finishing or self.stays:
                return False
            lease.begin(self._ledger.lend(state), state)
            self._lease = lease
            self._counts["moved"] += 1
        return True

    async def come_home(self, *, lost: bool) -> int:
        """Go on here; how many packets were done again."""
        lease = self._lease
        if lease is None:
            return 0
        if lost:
            lease.end("it was lost")
        async with self._lock:
            if not lost:
                with suppress(TimeoutError):
                    async with asyncio.timeout(DRAIN_S):
                        await self._settled()
            done = await self._come_home()
            self._counts["moved"] += 1
        self._room.set()
        return done

    async def probe_here(self, packet: Packet) -> int:
        """Measure how long this packet takes here, ns, while the stage is elsewhere. The output is discarded, and so is
        the state, which is restored when the stage comes home.
        """
        async with self._here:
            began_ns = time.monotonic_ns()
            try:
                await self._called(self.stage.process, packet, Quiet(self._ctx, packet), apart=self._blocking)
            except Exception as error:
                log.debug("a probe of %s failed: %s", self._ctx.name, describe_error(error))
            return time.monotonic_ns() - began_ns

    def part(self, lease: Lease, generation: int, number: int, results: Any) -> None:
        """See `Borrower`: results of a packet that is being processed there go on from here."""
        if lease is not self._lease:
            return
        found, why = results_of(results)
        packet = self._ledger.part(generation, number, found)
        if packet is not None:
            self._pass_on(packet, found, why)

    def answered(self, lease: Lease, generation: int, number: int, results: Any, state: Any, why: str) -> None:
        """See `Borrower`: a packet was processed there; its results go on from here."""
        if lease is not self._lease:
            return
        found, wrong = results_of(results)
        state = state if isinstance(state, bytes) else None
        packet = self._ledger.answered(generation, number, state, found)
        self._room.set()
        taken = self._ledger.kept()[0] is state  # it is not of an old generation
        if taken and state is not None and self.placing.goes_on:
            self._follow(state)
        if packet is None:
            return
        self._counts["away"] += 1
        self._counts["away_us"] += lease.took_ns // 1000
        self._counts["link_us"] += lease.link_ns // 1000
        self._pass_on(packet, found, wrong or why)

    def _pass_on(self, packet: Packet, results: list[Packet], why: str) -> None:
        if why := Again(self._ctx, packet, self._deadline_ns).pass_on(results) or why:
            self._ctx.report(why)

    def _follow(self, state: bytes) -> None:
        """The stage here knows what the one there does."""
        try:
            self.stage.restore(unpack_state(state))
        except Exception as error:  # it goes on as it is: that is better than not at all
            self._ctx.report(f"it cannot go on from the state that came back: {describe_error(error)}")

    def signalled(self, written: bytes, direction: str) -> None:
        """See `Borrower`."""
        self._ctx.signal(decode_signal(written), Direction(direction))

    def reported(self, problem: str) -> None:
        """See `Borrower`."""
        self._ctx.report(problem)

    async def _stay(self) -> None:
        """Come home for good, behind what is under way elsewhere."""
        await self._settled()
        async with self._lock:
            self._counts["moved"] += self._lease is not None
            await self._come_home()

    async def _settled(self) -> None:
        while self._lease is not None and self._ledger.unanswered:
            self._room.clear()
            await self._room.wait()

    async def _come_home(self) -> int:
        """With the lock held. Idempotent."""
        if self._lease is None:
            return 0
        self._lease = None
        state, self._undone = self._ledger.home()
        try:
            async with self._here:
                if state is not None and not self.placing.goes_on:
                    self.stage.restore(unpack_state(state))
        except Exception as error:  # it goes on as it is: that is better than not at all
            self._ctx.report(f"it came home and cannot go on from the state it had: {describe_error(error)}")
        return await self._do_undone()

    async def _do_undone(self) -> int:
        """What a place that was lost had not settled. A packet that is overdue matters to the state only."""
        done = 0
        while self._undone:
            undone = self._undone.pop(0)
            packet = undone.packet
            overdue = packet.deadline is not None and packet.deadline < self._ctx.now_ns()
            if overdue and not self.placing.stateful:
                continue
            try:
                await self._redo(undone)
            except Exception as error:  # as if it had failed there: it costs this packet
                self._ctx.report(describe_error(error))
            done += 1
        self._counts["done_again"] += done
        return done

    async def _redo(self, undone: Undone[Packet]) -> None:
        """One that no state covers. An interrupt ends it where the stage is async, as it does any other."""
        packet, sent = undone.packet, undone.sent
        over = undone.silent or self._is_stale(packet)
        goes_on = self.placing.goes_on and (over or sent)
        try:
            async with asyncio.timeout(None) as patience:
                self._redoing = packet, patience
                if goes_on:
                    ctx = Quiet(self._ctx, packet) if over else Again(self._ctx, packet, self._deadline_ns)
                    payloads = tuple(each.payload for each in sent)
                    async with self._here:
                        await self._called(self.stage.go_on, packet, payloads, over, ctx, apart=self._blocking)
                else:
                    out = [each.stream for each in sent]
                    again = Again(self._ctx, packet, self._deadline_ns, out)
                    await self._run_here(packet, Quiet(self._ctx, packet) if undone.silent else again)
        except TimeoutError:
            if not patience.expired():
                raise
        finally:
            self._redoing = None

    def _is_stale(self, packet: Packet) -> bool:
        return AMBIENT < packet.epoch < self._epoch

    async def _run_here(self, packet: Packet, ctx: Any) -> None:
        async with self._here:
            began_ns = time.monotonic_ns()
            await self._called(self.stage.process, packet, ctx, apart=self._blocking)
            if self._follower is not None:
                self._follower.home.took(time.monotonic_ns() - began_ns)

    async def _called(self, function: Any, *args: Any, apart: bool) -> None:
        """As a worker would: `apart` in the stage's own thread."""
        if is_async(function):
            await function(*args)
            return
        result = await self._ctx.compute(function, *args) if apart else function(*args)
        if inspect.isawaitable(result):
            await result

    def on_signal(self, signal: Signal, ctx: Context) -> None:
        """Hear it here, which may make the stage stay, and then there. An interrupt ends what is of no use any more."""
        if hears := hasattr(self.stage, "on_signal"):
            self.stage.on_signal(signal, ctx)
        if isinstance(signal, Interrupt):
            self._epoch = max(self._epoch, signal.epoch)
        if hears or isinstance(signal, Interrupt):
            for lease in self._leases():
                lease.signal(encode_signal(signal))
        if self._redoing is not None and is_async(self.stage.process):
            packet, patience = self._redoing
            if self._is_stale(packet) and not patience.expired():
                patience.reschedule(asyncio.get_running_loop().time())

    def _configure(self, settings: Mapping[str, Any]) -> None:
        self.stage.configure(settings)
        if not hasattr(self.stage, "declare"):  # else they are for this sample only
            self.configured |= settings
        for lease in self._leases():
            lease.configure(settings)

    def _declare(self, settings: Mapping[str, Any]) -> None:
        self.stage.declare(settings)
        self.configured |= settings
        for lease in self._leases():
            lease.declare(settings)

    def _leases(self) -> list[Lease]:
        """Those that hear of settings and signals: of a stage that stays the one alone that still has it."""
        leases = [] if self._follower is None else list(self._follower.leases.values())
        return [lease for lease in leases if lease is self._lease or not self.stays]

    def _snapshot(self) -> Any:
        """Of the stage, wherever it is, with the packets that would be done again."""
        if self._lock.locked():
            return None
        if self._lease is None:
            state = self.stage.snapshot()
            undone = self._undone
        else:
            packed, undone = self._ledger.kept()
            state = None if packed is None else unpack_state(packed)
        if state is None:
            return None
        return {"stage": state, "undone": [(each.packet, each.silent, list(each.sent)) for each in undone]}

    def _restore(self, state: Any) -> None:
        self.stage.restore(state["stage"])
        self._undone = [
            Undone(packet, silent, tuple(sent[0]) if sent else ())  # without `sent`: of before results were streamed
            for packet, silent, *sent in state["undone"]
        ]
