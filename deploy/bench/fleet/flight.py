"""A simulated flight: frames that have to be understood in time, here or in the cloud, over a link that changes.

Discrete events under a virtual clock. The decisions are the real ones (`pipeline.fleet.moving.placement`), so is the
model of a link (`pipeline.video.impairment`). The rest is declared, not measured: a frame of 30 kB every 100 ms, due
250 ms after its capture; the full model takes 80 ms on the edge and 25 ms in the cloud, a small one (quality 0.6) 40 ms
on the edge, each ± 10 %. The edge works on one frame at a time, and a newer frame takes the place of one that
waits; the cloud has room for all. Packets of 1,200 bytes; what is lost is sent again after one and a half round
trips. What is overdue is sent no more.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from thalweg.pipeline.clock import VirtualClock
from thalweg.pipeline.fleet.moving.placement import Place, Placement, Prediction, Rule
from thalweg.pipeline.video.impairment import Impairment, Link

MS, S = 1_000_000, 1_000_000_000
EVERY_NS, DEADLINE_NS, SIZE, PACKET = 100 * MS, 250 * MS, 30_000, 1_200
EDGE, SMALL, CLOUD = "edge", "small", "cloud"
COMPUTE_NS = {EDGE: 80 * MS, SMALL: 40 * MS, CLOUD: 25 * MS}
PLACES = (Place(name=EDGE), Place(name=SMALL, quality=0.6), Place(name=CLOUD, remote=True))
QUALITY = {place.name: place.quality for place in PLACES}
BEAT_NS, LOOK_NS, PROBE_NS = 100 * MS, 50 * MS, S
RULE = Rule(deadline_ns=DEADLINE_NS, beat_ns=BEAT_NS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What a flight meets. `changes`: (second, link from then on); `stress`: (second, how much slower the edge is)."""

    up: Link = field(default_factory=lambda: Link(delay_ms=20, jitter_ms=3, rate=20e6))
    down: Link = field(default_factory=lambda: Link(delay_ms=20, jitter_ms=3, rate=20e6))
    changes: tuple[tuple[float, Link], ...] = ()
    stress: tuple[tuple[float, float], ...] = ()
    outages: tuple[tuple[float, float], ...] = ()
    seconds: float = 120.0


@dataclass(slots=True)
class Frame:
    """One on its way. `result`: when and from where it came."""

    number: int
    at_ns: int
    missing: set[int] = field(default_factory=set)
    started_ns: int = 0
    first_ns: int | None = None
    compute_ns: int = 0
    result: tuple[int, str] | None = None


class Flight:
    """One system through one cell. `policy`: edge, small, cloud, or follow; `hedged`: see `_hedge`."""

    def __init__(self, cell: Cell, policy: str, seed: int, *, hedged: bool = False) -> None:
        self.cell, self.policy, self.hedged = cell, policy, hedged
        self.clock = VirtualClock()
        self.frames: list[Frame] = []
        self.switches: list[tuple[int, str, str]] = []
        self._chance = random.Random(f"{seed}/compute")
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._links = {
            "up": Impairment[Callable[[], None]](cell.up, f"{seed}/up"),
            "down": Impairment[Callable[[], None]](cell.down, f"{seed}/down"),
        }
        self._due_ns = dict.fromkeys(self._links, 0)
        self._placement = Placement(RULE, PLACES, -RULE.dwell_ns)
        self._busy_until_ns = 0
        self._waiting: tuple[Frame, str] | None = None
        self._slow = 1.0
        self._trips: deque[int] = deque(maxlen=50)
        self._rate_bps = 5e6
        self._in_cloud: dict[int, Frame] = {}

    def fly(self) -> Flight:
        """To the end."""
        end_ns = round(self.cell.seconds * S)
        for number in range(end_ns // EVERY_NS):
            self._at(number * EVERY_NS, partial(self._capture, number))
        for number in range(end_ns // BEAT_NS):
            self._at(number * BEAT_NS, self._ping)
        for number in range(end_ns // LOOK_NS):
            self._at(number * LOOK_NS, self._look)
        for number in range(end_ns // PROBE_NS):
            self._at(number * PROBE_NS, self._probe)
        for seconds, link in self.cell.changes:
            self._at(round(seconds * S), partial(self._change, link))
        while self._events:
            time_ns, _, event = heapq.heappop(self._events)
            self.clock.advance_to(time_ns)
            event()
        return self

    @property
    def _now(self) -> int:
        return self.clock.now_ns()

    def _at(self, time_ns: int, event: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (max(time_ns, self._now), self._count, event))

    def _send(self, way: str, size: int, arrived: Callable[[], None], give_up_ns: int) -> None:
        """A packet, again and again until it arrives or is of no use any more."""
        link = self._links[way]
        if link.push(arrived, size, self._now) is not None:
            trip_ns = sorted(self._trips)[len(self._trips) // 2] if self._trips else 100 * MS
            again_ns = self._now + 3 * trip_ns // 2
            if again_ns < give_up_ns:
                self._at(again_ns, lambda: self._send(way, size, arrived, give_up_ns))
            return
        self._drain(way)

    def _drain(self, way: str) -> None:
        link = self._links[way]
        while (arrived := link.pop(self._now)) is not None:
            arrived()
        next_ns, due_ns = link.next_ns, self._due_ns[way]
        if next_ns is not None and not self._now < due_ns <= next_ns:
            self._due_ns[way] = max(next_ns, self._now + 1)
            self._at(self._due_ns[way], lambda: self._drain(way))

    def _change(self, link: Link) -> None:
        self._links["up"].change(link, self._now)

    def _capture(self, number: int) -> None:
        frame = Frame(number, self._now)
        self.frames.append(frame)
        self._place(frame, self._placement.place if self.policy == "follow" else self.policy)

    def _place(self, frame: Frame, place: str) -> None:
        if place == CLOUD:
            self._upload(frame)
        else:
            self._run_here(frame, place)

    def _run_here(self, frame: Frame, variant: str) -> None:
        if self._busy_until_ns > self._now:
            self._waiting = frame, variant
            return
        took_ns = self._took(variant) * self._stress()
        frame.compute_ns = round(took_ns)
        self._busy_until_ns = self._now + round(took_ns)
        self._slow += 0.3 * (took_ns / COMPUTE_NS[variant] - self._slow)
        self._at(self._busy_until_ns, lambda: self._done_here(frame, variant))

    def _done_here(self, frame: Frame, variant: str) -> None:
        self._arrive(frame, variant)
        if self._waiting is not None:
            (waiting, place), self._waiting = self._waiting, None
            if waiting.result is None:
                self._run_here(waiting, place)

    def _upload(self, frame: Frame) -> None:
        frame.missing = set(range(-(-SIZE // PACKET)))
        frame.started_ns = self._now
        self._in_cloud[frame.number] = frame
        for part in list(frame.missing):
            self._send("up", PACKET, partial(self._uploaded, frame, part), frame.at_ns + DEADLINE_NS)
        if self.hedged:
            left_ns = DEADLINE_NS - round(COMPUTE_NS[SMALL] * self._slow * 1.25) - 10 * MS
            self._at(frame.at_ns + max(0, left_ns), lambda: self._hedge(frame))

    def _uploaded(self, frame: Frame, part: int) -> None:
        frame.first_ns = self._now if frame.first_ns is None else frame.first_ns
        if part not in frame.missing:
            return
        frame.missing.discard(part)
        if frame.missing:
            return
        took_s = max(1, self._now - frame.first_ns) / S
        rate_bps = (SIZE - PACKET) * 8 / took_s
        frame.compute_ns = round(self._took(CLOUD))
        self._at(self._now + frame.compute_ns, lambda: self._answer(frame, rate_bps))

    def _answer(self, frame: Frame, rate_bps: float) -> None:
        def arrived() -> None:
            self._learn(rate_bps)
            self._in_cloud.pop(frame.number, None)
            self._arrive(frame, CLOUD)

        self._send("down", 400, arrived, frame.at_ns + 4 * DEADLINE_NS)

    def _hedge(self, frame: Frame) -> None:
        """Just before it would be too late, the small model here takes a frame that the cloud has not answered."""
        if frame.result is None and self._busy_until_ns <= self._now:
            self._run_here(frame, SMALL)

    def _arrive(self, frame: Frame, place: str) -> None:
        if frame.result is None:
            frame.result = self._now, place

    def _ping(self) -> None:
        sent_ns = self._now

        def back() -> None:
            self._trips.append(self._now - sent_ns)
            self._placement.beat(CLOUD, self._now)

        self._links["up"].push(lambda: self._pong(back), 60, sent_ns)
        self._drain("up")

    def _pong(self, back: Callable[[], None]) -> None:
        self._links["down"].push(back, 60, self._now)
        self._drain("down")

    def _probe(self) -> None:
        """Once a second: how slow the edge is, and what the link takes while nothing is sent over it."""
        self._slow += 0.5 * (self._stress() - self._slow)
        if self.policy != "follow" or self._placement.place == CLOUD:
            return
        arrivals: list[int] = []

        def arrived() -> None:
            arrivals.append(self._now)
            if len(arrivals) == 8:
                rate_bps = 7 * PACKET * 8 * S / max(1, arrivals[-1] - arrivals[0])
                self._links["down"].push(lambda: self._learn(rate_bps), 60, self._now)
                self._drain("down")

        for _ in range(8):
            self._links["up"].push(arrived, PACKET, self._now)
        self._drain("up")

    def _learn(self, rate_bps: float) -> None:
        self._rate_bps += 0.3 * (min(rate_bps, 1e9) - self._rate_bps)

    def _look(self) -> None:
        if self.policy != "follow":
            return
        queue_ns = max(0, self._busy_until_ns - self._now) if self._placement.place != CLOUD else 0
        predictions = {
            name: Prediction(queue_ns=queue_ns, compute_ns=round(COMPUTE_NS[name] * self._slow), every_ns=EVERY_NS)
            for name in (EDGE, SMALL)
        }
        if len(self._trips) >= 5:
            p95_ns = sorted(self._trips)[round(0.95 * (len(self._trips) - 1))]
            predictions[CLOUD] = Prediction(
                queue_ns=0,
                compute_ns=COMPUTE_NS[CLOUD],
                size=SIZE,
                rate_bps=self._rate_bps,
                round_trip_p95_ns=p95_ns,
            )
        before = self._placement.place
        switch = self._placement.decide(self._now, predictions)
        if switch is None:
            return
        self.switches.append((self._now, switch.target, switch.reason))
        if before == CLOUD:
            self._replay(switch.target)

    def _replay(self, place: str) -> None:
        """The newest frame that the cloud has not answered, if there is time for it here."""
        left = [frame for frame in self._in_cloud.values() if frame.result is None]
        self._in_cloud.clear()
        need_ns = COMPUTE_NS[place] * self._slow
        if left and left[-1].at_ns + DEADLINE_NS - self._now > need_ns:
            self._run_here(left[-1], place)

    def _took(self, place: str) -> float:
        return COMPUTE_NS[place] * max(0.7, self._chance.gauss(1.0, 0.1))

    def _stress(self) -> float:
        found = 1.0
        for seconds, factor in self.cell.stress:
            if self._now >= seconds * S:
                found = factor
        return found
