"""Where a stage runs now, of the places that could run it: following the link and the load, without flapping.

Theory of operation. Each place is predicted: `queue + compute + bytes / rate + p95 of the round trip`. Places are put
in order by three questions: is it alive, does it meet the deadline, how good is what it runs (`quality`; a smaller
model is a place of its own). Among equals the quickest wins.

    state     seen                                                              answer
    SETTLED   another place is better (below)                                   TEMPTED
    TEMPTED   it has been better for `hold_ns` (`urgent_ns` where this place    Switch, SETTLED
              misses the deadline), and `dwell_ns` have passed
    TEMPTED   it is no longer better                                            SETTLED
    any       this place has missed `beats` beats                               Switch at once, to the best that is
                                                                                warm here and alive; SETTLED

A remote place is gone to once it has not missed any beats for `dwell_ns`: a link that comes and goes more often than
that is not followed at all.

Better is: this place misses the deadline and the other one meets it; or both meet it and the other one's quality is
higher, with `gain` of the deadline to spare; or both are of one quality and meet it, or neither meets it, and the
other one takes `gain` less time. A short hold follows a link that changes within seconds; dwell is what keeps a link
that changes all the time from costing a switch each time. No clock inside: `now_ns` is an argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_S = 1_000_000_000
BEHIND_NS = 10 * _S
"""What waiting comes to at a place that does not keep up: it grows for as long as that lasts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One that could run the stage. `remote`: its beats are counted. `quality`: higher is better."""

    name: str
    remote: bool = False
    quality: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a result would take there now. `rate_bps`: None where nothing has to be sent. `every_ns`: how often a packet
    comes, 0 where that is no matter: a place that takes longer over each does not keep up, and meets no deadline.
    """

    queue_ns: int
    compute_ns: int
    size: int = 0
    rate_bps: float | None = None
    round_trip_p95_ns: int = 0
    every_ns: int = 0

    @property
    def whole_ns(self) -> int:
        """See above."""
        sending_ns = 0 if self.rate_bps is None else round(self.size * 8 * _S / max(1.0, self.rate_bps))
        falls_behind = 0 < self.every_ns < self.compute_ns
        waiting_ns = BEHIND_NS if falls_behind else self.queue_ns
        return waiting_ns + self.compute_ns + sending_ns + self.round_trip_p95_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The numbers of the table above. `beat_ns`: how often a place that is remote says that it lives."""

    deadline_ns: int
    gain: float = 0.2
    hold_ns: int = 3 * _S
    urgent_ns: int = _S // 2
    dwell_ns: int = 10 * _S
    beat_ns: int = 200_000_000
    beats: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """Go there. `reason` is for people."""

    target: str
    reason: str


class Placement:
    """Of one stage. `place`: where it runs. The first of `places` is where it begins; it must not be remote."""

    def __init__(self, rule: Rule, places: tuple[Place, ...], now_ns: int = 0) -> None:
        self.rule = rule
        self.places = {place.name: place for place in places}
        self.place = places[0].name
        self._heard_ns: dict[str, int] = {}
        self._gap_ns: dict[str, int] = {}
        self._since_ns = now_ns - rule.dwell_ns
        self._tempted: tuple[str, int] | None = None

    def beat(self, place: str, now_ns: int) -> None:
        """A remote place said that it lives."""
        heard_ns = self._heard_ns.get(place)
        if heard_ns is None or now_ns - heard_ns > self.rule.beats * self.rule.beat_ns:
            self._gap_ns[place] = now_ns
        self._heard_ns[place] = now_ns

    def lost(self, place: str, now_ns: int) -> None:
        """A remote place is known to be gone, before it has missed a beat."""
        if place in self._heard_ns:
            self._heard_ns[place] = now_ns - self.rule.beats * self.rule.beat_ns - 1

    def stay(self, place: str) -> None:
        """It could not be left for where it was to go: it is where it was."""
        self.place = place

    def alive(self, place: str, now_ns: int) -> bool:
        """Whether it may be counted on."""
        if not self.places[place].remote:
            return True
        heard_ns = self._heard_ns.get(place)
        return heard_ns is not None and now_ns - heard_ns <= self.rule.beats * self.rule.beat_ns

    def decide(self, now_ns: int, predictions: Mapping[str, Prediction]) -> Switch | None:
        """Look at what is predicted of each place that can be predicted; go where it says, at once."""
        alive = {
            name: found.whole_ns
            for name, found in predictions.items()
            if self.alive(name, now_ns) and (name == self.place or self._steady(name, now_ns))
        }
        if not self.alive(self.place, now_ns):
            self._gap_ns[self.place] = now_ns
            local = {name: ns for name, ns in alive.items() if not self.places[name].remote}
            target = self._best(local) if local else next(n for n, p in self.places.items() if not p.remote)
            return self._go(target, now_ns, f"{self.place} missed {self.rule.beats} beats")
        if self.place not in alive:
            return None
        target = self._best(alive)
        reason = self._better(target, alive) if target != self.place else ""
        if not reason:
            self._tempted = None
            return None
        if self._tempted is None or self._tempted[0] != target:
            self._tempted = target, now_ns
        held_ns, stayed_ns = now_ns - self._tempted[1], now_ns - self._since_ns
        fits = alive[self.place] <= self.rule.deadline_ns
        if held_ns < (self.rule.hold_ns if fits else self.rule.urgent_ns) or stayed_ns < self.rule.dwell_ns:
            return None
        return self._go(target, now_ns, f"{reason} for {held_ns / _S:.1f} s")

    def _steady(self, place: str, now_ns: int) -> bool:
        """Whether it has missed no beats for long enough to be gone to."""
        gap_ns = self._gap_ns.get(place)
        return gap_ns is None or now_ns - gap_ns >= self.rule.dwell_ns

    def _best(self, whole_ns: Mapping[str, int]) -> str:
        """In time with something to spare, then quality, then time; this place before its equals."""
        spare_ns = self.rule.deadline_ns * (1 - self.rule.gain)

        def order(name: str) -> tuple[bool, float, int]:
            fits = whole_ns[name] <= (self.rule.deadline_ns if name == self.place else spare_ns)
            return not fits, -self.places[name].quality if fits else 0.0, whole_ns[name]

        return min(whole_ns, key=order)

    def _better(self, other: str, whole_ns: Mapping[str, int]) -> str:
        """Why another place is better, or nothing."""
        mine_ns, theirs_ns = whole_ns[self.place], whole_ns[other]
        took = f"{theirs_ns / 1e6:.0f} ms instead of {mine_ns / 1e6:.0f} ms"
        fits, would_fit = mine_ns <= self.rule.deadline_ns, theirs_ns <= self.rule.deadline_ns
        if would_fit and not fits:
            return f"{other} meets the deadline, {took}"
        if fits and would_fit and self.places[other].quality > self.places[self.place].quality:
            return f"{other} is better and in time, {took}"
        same = self.places[other].quality == self.places[self.place].quality or not (fits or would_fit)
        return f"{other} is quicker, {took}" if same and theirs_ns <= (1 - self.rule.gain) * mine_ns else ""

    def _go(self, target: str, now_ns: int, reason: str) -> Switch:
        self.place, self._since_ns, self._tempted = target, now_ns, None
        return Switch(target=target, reason=reason)
