"""The loop that measures the places of a stage, decides, and has the decision carried out; and who is told of it.

Every `LOOK_S`, and at once when a lease ends, the decision of `pipeline.fleet.moving.placement` is asked for. A lease
is requested for every place of the file that has a lender; one that ended is requested again, from the next lender,
with growing delays. The latency of a place that is not in use is measured by occasional probes: the newest packet is
processed there, and its output discarded. A stage that goes on where another place stopped (`go_on`) is not tried out
so, since each answer of a language model costs something: of its places, the best `quality` whose beats are in time has
it.

Each decision is logged, told to the hub as an event of the stream `STAGE.placement`, and shown in the node's state.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, Protocol

import msgpack

from thalweg.deploy.errors import describe_error
from thalweg.deploy.fleet.placing.lease import Lease
from thalweg.deploy.fleet.placing.lenders import NodeFolder
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.fleet.backoff import pause_s
from thalweg.pipeline.fleet.moving.gauges import Home, Rhythm
from thalweg.pipeline.fleet.moving.placement import Place, Placement, Prediction, Rule, Switch
from thalweg.pipeline.fleet.moving.places import EDGE, Placing
from thalweg.pipeline.packet import Packet
from thalweg.stages.fleet.agent_link import AgentLink
from thalweg.transports.codec import encode

log = logging.getLogger(__name__)

LOOK_S: Final = 0.05
BEAT_S: Final = 0.1
PROBE_S: Final = 2.0
CALM_PROBE_S: Final = 15.0
"""Where packets take less than half of their time here."""
FIRST_PROBES_S: Final = 0.2
PROBE_HERE_S: Final = 5.0
RULE = Rule(deadline_ns=1_000_000_000, beat_ns=round(BEAT_S * 1e9))
"""Where packets have no deadline a second is allowed. Beats: two of 100 ms are missed before a place is lost."""
LATE_S = 0.05
SILENT_NS: Final = 10_000_000_000
"""How long a packet may be unanswered, or ten times what packets are allowed: a stage that hangs answers beats."""
TOLD_AT_MOST = 100


class Movable(Protocol):
    """What is moved: see `PlacedStage`."""

    placing: Placing
    configured: dict[str, Any]
    """The settings that it was given while it ran."""

    @property
    def away(self) -> Lease | None:
        """The lent worker that has it."""
        ...

    @property
    def stuck(self) -> bool:
        """Whether nothing can be given to that any more."""
        ...

    @property
    def stays(self) -> bool:
        """Whether nothing may cross any more."""
        ...

    async def go(self, lease: Lease) -> bool:
        """Hand over; False where that cannot be now."""
        ...

    async def come_home(self, *, lost: bool) -> int:
        """Go on here; how many packets were done again."""
        ...

    async def probe_here(self, packet: Packet) -> int:
        """How long a packet takes here, ns."""
        ...

    def part(self, lease: Lease, generation: int, number: int, results: Any) -> None:
        """Something has come of a packet there."""
        ...

    def answered(self, lease: Lease, generation: int, number: int, results: Any, state: Any, why: str) -> None:
        """A packet was processed there."""
        ...

    def signalled(self, written: bytes, direction: str) -> None:
        """The stage there has raised a signal."""
        ...

    def reported(self, problem: str) -> None:
        """The stage there has said something of the packet in hand."""
        ...


class Follower:
    """Of one placed stage. `run` is its task; `home` and `came` are told what happens here."""

    def __init__(self, stage: Movable, folder: NodeFolder, name: str) -> None:
        self.home = Home()
        self.leases: dict[str, Lease] = {}
        self._stage = stage
        self._folder = folder
        self._name = name
        self._rhythm = Rhythm()
        self._placing = stage.placing
        places = [
            Place(name=each.name, remote=each.name != EDGE, quality=each.quality) for each in self._placing.places
        ]
        self._placement = Placement(RULE, tuple(places), time.monotonic_ns())
        self._newest: Packet | None = None
        self._stir = asyncio.Event()
        self._again_s: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._turn: dict[str, int] = {}
        self._why: dict[str, str] = {}
        self._probed_s: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._news: deque[dict[str, Any]] = deque(maxlen=TOLD_AT_MOST)
        self._told = asyncio.Event()
        self._agent = AgentLink()

    def came(self, packet: Packet) -> None:
        """A packet is the next one."""
        now_ns = time.monotonic_ns()
        self._rhythm.came(now_ns, packet.time, packet.deadline)
        self._newest = packet
        allowed_ns = self._rhythm.allowed_ns
        if allowed_ns is not None and allowed_ns != self._placement.rule.deadline_ns:
            self._placement.rule = replace(self._placement.rule, deadline_ns=allowed_ns)

    async def run(self) -> None:
        """Until it is cancelled; then every lease is given back."""
        if self._placing.stays:
            log.warning("%s stays at the edge: no other place has a higher `quality`", self._name)
        telling = asyncio.get_running_loop().create_task(self._tell_on())
        self._tasks.add(telling)
        try:
            while True:
                await self._pause()
                try:
                    await self._look()
                except Exception:  # without this loop a stage whose worker is lost would never come home
                    log.exception("%s: what was found could not be acted on; it is looked at again", self._name)
        finally:
            for lease in self.leases.values():
                lease.end()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._agent.close()

    def opened(self, lease: Lease) -> None:
        """See `Borrower`."""
        log.info("%s: a worker of %s is open", self._name, lease.lender)
        self._failures[lease.place] = 0
        if self._stage.configured:
            take = lease.declare if hasattr(self._stage, "declare") else lease.configure
            take(self._stage.configured)

    def beat(self, lease: Lease) -> None:
        """See `Borrower`."""
        self._placement.beat(lease.place, time.monotonic_ns())

    def part(self, lease: Lease, generation: int, number: int, results: Any) -> None:
        """See `Borrower`."""
        self._stage.part(lease, generation, number, results)

    def answered(self, lease: Lease, generation: int, number: int, results: Any, state: Any, why: str) -> None:
        """See `Borrower`."""
        self._stage.answered(lease, generation, number, results, state, why)

    def signalled(self, lease: Lease, written: bytes, direction: str) -> None:
        """See `Borrower`."""
        if lease is self._stage.away:
            self._stage.signalled(written, direction)

    def reported(self, lease: Lease, problem: str) -> None:
        """See `Borrower`."""
        if lease is self._stage.away:
            self._stage.reported(problem)

    async def _pause(self) -> None:
        """Until there is something to look at. If it was us who were held up, beats that have come are heard first."""
        until_s = time.monotonic() + LOOK_S
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await self._stir.wait()
        self._stir.clear()
        if time.monotonic() - until_s > LATE_S:
            await asyncio.sleep(LATE_S / 2)

    async def _look(self) -> None:
        revoked = {lender.name for lender in self._folder.lenders() if lender.revoked}
        for lease in self.leases.values():
            if lease.lender.name in revoked:
                lease.end("the hub has revoked it")
        now_ns = time.monotonic_ns()
        away = self._stage.away
        if self._stage.stays and away is None:
            self._keep()
            return
        self._borrow()
        if away is not None and self._stage.stuck:
            away.end("it answers, and gives no state")
        if away is not None and away.silent_ns(now_ns) > max(SILENT_NS, 10 * self._placement.rule.deadline_ns):
            away.end("it lives, and answers no packets")
        if away is not None and not away.ready:
            self._placement.lost(away.place, now_ns)
        predictions = self._predictions()
        before = self._placement.place
        switch = self._placement.decide(now_ns, predictions)
        if switch is not None:
            await self._go(before, switch)
        else:
            await self._probe()

    def _keep(self) -> None:
        """It has come home by itself, and nothing is lent any more."""
        for lease in self.leases.values():
            lease.end("what was said stays here")
        if self._placement.place != EDGE:
            self._tell(self._placement.place, Switch(target=EDGE, reason="what was said stays here"), 0.0, 0)
            self._placement.stay(EDGE)

    def _predictions(self) -> dict[str, Prediction]:
        ready = [lease for lease in self.leases.values() if lease.ready]
        if self._placing.goes_on:  # no packet can be tried out, and the first result counts, not the whole
            found = {lease.place: lease.gauge.predict_by_beats() for lease in ready}
            found[EDGE] = Prediction(queue_ns=0, compute_ns=0)
        else:
            found = {lease.place: lease.gauge.predict(self._rhythm) for lease in ready}
            found[EDGE] = self.home.predict(self._rhythm, waiting=self._stage.away is None)
        return {name: prediction for name, prediction in found.items() if prediction is not None}

    async def _go(self, before: str, switch: Switch) -> None:
        """Carry out the switch. The next decision starts from where the stage is then, also after a failure."""
        try:
            await self._move(before, switch)
        finally:
            now = self._stage.away
            self._placement.stay(EDGE if now is None else now.place)

    async def _move(self, before: str, switch: Switch) -> None:
        began_ns = time.monotonic_ns()
        away = self._stage.away
        lost = away is not None and (not away.ready or not self._placement.alive(away.place, began_ns))
        done = 0
        if switch.target == EDGE:
            done = await self._stage.come_home(lost=lost)
        else:
            lease = self.leases.get(switch.target)
            if lost:
                await self._stage.come_home(lost=True)
            if lease is None or not await self._stage.go(lease):
                return
        self._tell(before, switch, (time.monotonic_ns() - began_ns) / 1e6, done)

    def _tell(self, before: str, switch: Switch, took_ms: float, done: int) -> None:
        target = self._stage.away
        who = str(target.lender) if target is not None else EDGE
        log.warning("%s: %s → %s, since %s (%.0f ms, %d again)", self._name, before, who, switch.reason, took_ms, done)
        self._news.append(
            {
                "stage": self._name,
                "from": before,
                "to": switch.target,
                "lender": "" if target is None else target.lender.name,
                "reason": switch.reason,
                "took_ms": round(took_ms, 1),
                "done_again": done,
                "time_ns": time.time_ns(),
            }
        )
        self._told.set()

    def _borrow(self) -> None:
        """Request a worker at every place that has a lender and no lease."""
        now_s = time.monotonic()
        for each in self._placing.places[1:]:
            if each.name in self.leases or now_s < self._again_s.get(each.name, 0.0):
                continue
            lenders = [one for one in self._folder.lenders() if one.place == each.name and not one.revoked]
            if not lenders:
                self._again_s[each.name] = now_s + 1.0
                continue
            turn = self._turn.get(each.name, 0)
            lease = Lease(
                lenders[turn % len(lenders)],
                self,
                each.name,
                self._placing.use,
                each.settings,
                stateful=self._placing.stateful,
                beat_s=BEAT_S,
            )
            self.leases[each.name] = lease
            task = asyncio.get_running_loop().create_task(self._hold(lease))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _hold(self, lease: Lease) -> None:
        """A lease to its end."""
        place = lease.place
        try:
            why = await lease.run(self._folder)
        except Exception as error:  # a lender is untrusted; an error costs the lease only
            log.debug("a lease ended", exc_info=error)
            why = f"{lease.lender}: {describe_error(error)}"
        finally:
            del self.leases[place]
            self._stir.set()
        failures = self._failures[place] = self._failures.get(place, 0) + 1
        self._turn[place] = self._turn.get(place, 0) + 1
        self._again_s[place] = time.monotonic() + pause_s(failures)
        if why != self._why.get(place):
            self._why[place] = why
            log.warning("%s: no worker at %s: %s", self._name, place, why)

    async def _probe(self) -> None:
        """Find out what a place that is not in use would take."""
        packet, now_s = self._newest, time.monotonic()
        if packet is None or self._placing.goes_on:
            return
        away = self._stage.away
        for lease in self.leases.values():
            every_s = self._probe_every_s() if lease.gauge.known else FIRST_PROBES_S
            if lease is away or not lease.ready or lease.probing or not self._due(lease.place, every_s, now_s):
                continue
            try:
                lease.probe(b"".join(encode(packet)))
            except ThalwegError as error:
                lease.end(f"packets cannot be sent there: {error}")
        if away is not None and self._due(EDGE, PROBE_HERE_S, now_s):
            self.home.took(await self._stage.probe_here(packet))

    def _probe_every_s(self) -> float:
        """Probes take of the uplink what packets take: seldom while all is well here."""
        here = self.home.predict(self._rhythm, waiting=self._stage.away is None)
        well = here is not None and here.whole_ns <= self._placement.rule.deadline_ns / 2
        return CALM_PROBE_S if well and self._stage.away is None else PROBE_S

    def _due(self, place: str, every_s: float, now_s: float) -> bool:
        if now_s - self._probed_s.get(place, 0.0) < every_s:
            return False
        self._probed_s[place] = now_s
        return True

    async def _tell_on(self) -> None:
        """Decisions, to the agent: as events for the hub, and as what is known now."""
        if not self._agent.there:
            return
        await self._agent.tell({f"place {self._name}": EDGE}, 5.0)
        while True:
            await self._told.wait()
            self._told.clear()
            while self._news:
                news = self._news.popleft()
                time_ns = news.pop("time_ns")
                where = news["to"] if not news["lender"] else f"{news['to']}: {news['lender']}"
                await self._agent.tell({f"place {self._name}": f"{where}, since {news['reason']}"}, 5.0)
                refusal = await self._agent.hand_over(
                    "events", f"{self._name}.placement", time_ns, msgpack.packb({"payload": news}), 5.0
                )
                if refusal:
                    log.warning("%s: the hub will not hear of that: %s", self._name, refusal)
