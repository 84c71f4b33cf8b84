"""What a lent worker was given and has not settled: it may be lost at any moment, and nothing with it.

Theory of operation. While a stage runs elsewhere each packet it is given has a number and is kept here until it is
settled: a state of the stage that covers it is here, or, of a stage without state, its answer is. When the worker is
lost, or the stage comes home by plan, it goes on from the last state; packets that no state covers are processed again,
those that were answered silently, since what came of them is out already, the others aloud. Of one that was being
processed, the results that had come are known: what comes of it again is passed on from there. So every result comes
out exactly once, even if a state or a packet is lost in between.

    state   seen        next    answer
    HOME    lend        AWAY    a new generation; the state it begins with there
    AWAY    give        AWAY    the packet's number
    AWAY    part        AWAY    the packet, where these results of it are to be passed on: before its answer only
    AWAY    answered    AWAY    the packet, where its results are to be passed on: once, of this generation only
    AWAY    home        HOME    the state to go on from, and the packets to be processed again

Nothing here waits; who gives asks `has_room` first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, TypeVar

from thalweg.pipeline.errors import ThalwegError

P = TypeVar("P")

UNANSWERED_AT_MOST = 4
"""Packets under way: as many as cover a round trip of several times the gap between packets; more would grow old."""
UNSETTLED_AT_MOST = 64
"""Packets that no state covers: what coming home has to do again, at most."""


class HandoverError(ThalwegError):
    """An event that the current state does not allow: a bug in the caller."""


class Whereabouts(Enum):
    """See the table above."""

    HOME = "home"
    AWAY = "away"


TRANSITIONS: Mapping[tuple[Whereabouts, str], Whereabouts] = {
    (Whereabouts.HOME, "lend"): Whereabouts.AWAY,
    (Whereabouts.AWAY, "give"): Whereabouts.AWAY,
    (Whereabouts.AWAY, "part"): Whereabouts.AWAY,
    (Whereabouts.AWAY, "answered"): Whereabouts.AWAY,
    (Whereabouts.AWAY, "home"): Whereabouts.HOME,
}
"""The table above as data."""


@dataclass(slots=True)
class _Given(Generic[P]):
    packet: P
    answered: bool = False
    sent: list[P] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Again(Generic[P]):
    """A packet that is to be processed again. `silent`: what comes of it is out already. `sent`: the results that are
    out, of one that is not silent, or of any where the ledger `keeps` them.
    """

    packet: P
    silent: bool
    sent: tuple[P, ...] = ()


class Ledger(Generic[P]):
    """Of one stage. `stateful`: a packet is settled by a state, else by its answer. `generation` only rises.

    `keeps`: the results of a packet are kept until it is settled, not only until it is answered.
    """

    def __init__(self, *, stateful: bool, keeps: bool = False) -> None:
        self.stateful = stateful
        self.keeps = keeps
        self.generation = 0
        self.whereabouts = Whereabouts.HOME
        self._state: bytes | None = None
        self._given: dict[int, _Given[P]] = {}
        self._next = 0

    def lend(self, state: bytes | None) -> int:
        """It goes away with this state; the new generation."""
        self._step("lend")
        self.generation += 1
        self._state = state
        return self.generation

    def give(self, packet: P) -> int:
        """A packet goes where the stage is; its number."""
        self._step("give")
        number = self._next
        self._next += 1
        self._given[number] = _Given(packet)
        return number

    def part(self, generation: int, number: int, results: Sequence[P]) -> P | None:
        """Results of a packet have come; more of it may."""
        if generation != self.generation or self.whereabouts is Whereabouts.HOME:
            return None
        self._step("part")
        given = self._given.get(number)
        if given is None or given.answered:
            return None
        given.sent += results
        return given.packet

    def answered(self, generation: int, number: int, state: bytes | None, rest: Sequence[P] = ()) -> P | None:
        """An answer has come, with the state behind it where that was sent along. `rest`: results that no part had."""
        if generation != self.generation or self.whereabouts is Whereabouts.HOME:
            return None
        self._step("answered")
        given = self._given.get(number)
        fresh = given is not None and not given.answered
        if given is not None:
            if not self.keeps:
                given.sent.clear()
            elif fresh:
                given.sent += rest
            given.answered = True
        if not self.stateful:
            self._given.pop(number, None)
        elif state is not None and given is not None:
            self._state = state
            for settled in [other for other in self._given if other <= number]:
                del self._given[settled]
        return given.packet if given is not None and fresh else None

    def home(self) -> tuple[bytes | None, list[Again[P]]]:
        """It comes home."""
        self._step("home")
        kept = self.kept()
        self._given.clear()
        return kept

    def kept(self) -> tuple[bytes | None, list[Again[P]]]:
        """What `home` would return, without a change of state: for a checkpoint of the owner."""
        again = [Again(given.packet, given.answered, tuple(given.sent)) for given in self._given.values()]
        return self._state, again

    @property
    def unanswered(self) -> int:
        """Packets whose answer has not come."""
        return sum(not given.answered for given in self._given.values())

    @property
    def has_room(self) -> bool:
        """Whether another packet may be given."""
        return self.unanswered < UNANSWERED_AT_MOST and len(self._given) < UNSETTLED_AT_MOST

    @property
    def stuck(self) -> bool:
        """Whether there is no room since no state comes, though every answer does."""
        return len(self._given) >= UNSETTLED_AT_MOST and self.unanswered == 0

    def _step(self, event: str) -> None:
        try:
            self.whereabouts = TRANSITIONS[self.whereabouts, event]
        except KeyError:
            raise HandoverError(f"`{event}` while the stage is {self.whereabouts.value}") from None
