"""The milestones of each turn, and what was said or decided in it.

A turn is an epoch. Its clock starts at the end of speech: when the voice stopped, or, if a recording is read faster
than real time, when that part of the audio was read, whichever came first. For a multimodal sample it starts when the
first modality was sensed to its end.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from thalweg.pipeline.packet import AMBIENT, Packet
from thalweg.pipeline.payload import AudioChunk, Decision, Routed, Speech, Token, Transcript

KEPT = 10_000
KEPT_STAYING = 1_000
"""Turns kept by a run that ends, and by one that stays up for weeks, where more would only fill memory."""
LONGEST = 20_000
"""Characters kept of a turn's reply, with … in place of the rest, so that an endless reply cannot fill memory."""
PIECES, LISTENED_TO = 3000, 16
"""Pieces of speech kept to find its end, a minute of 20 ms each, and most utterances at a time."""

MILESTONES = ("first_partial", "final_transcript", "first_token", "first_audio", "decision")


@dataclass(slots=True)
class Turn:
    """One epoch. `marks`: the time of each milestone that was reached, ns of the pipeline's clock."""

    epoch: int
    speech_start_ns: int
    speech_end_ns: int | None = None
    transcript: str = ""
    reply: str = ""
    decision: str = ""
    route: str = ""
    complete: bool = False
    interrupted: bool = False
    problem: str = ""
    marks: dict[str, int] = field(default_factory=dict)

    def latency_ns(self, milestone: str) -> int | None:
        """Time from the end of speech to `milestone`, ns; negative if it came before. None if either is missing."""
        if self.speech_end_ns is None or milestone not in self.marks:
            return None
        return self.marks[milestone] - self.speech_end_ns


class TurnRecorder:
    """Observes every emitted packet and keeps the newest `capacity` turns, in the order they began.

    `forgotten`: how many older ones were discarded, so that memory stays bounded. The cost of a call does not depend on
    the number of turns. Not thread-safe: only the event loop of its worker calls it.
    """

    def __init__(self, capacity: int = KEPT) -> None:
        self.turns: dict[int, Turn] = {}
        self.forgotten = 0
        self._capacity = capacity
        self._forgotten_epoch = AMBIENT
        self._open: list[int] = []  # epochs that an interrupt may still cut short, ascending
        self._heard: dict[int, deque[tuple[int, int]]] = {}
        self._changed: set[int] | None = None

    def observe(self, packet: Packet, now_ns: int) -> None:
        """A packet was emitted at `now_ns`."""
        epoch = packet.epoch
        turn = self.turns.get(epoch)
        if turn is None:
            if epoch <= self._forgotten_epoch:
                return
            turn = self._begin(epoch, packet.time)
        if self._changed is not None:
            self._changed.add(epoch)
        payload = packet.payload
        if isinstance(payload, Speech):
            self._speech(turn, packet.time, payload, now_ns)
        elif isinstance(payload, Transcript):
            turn.transcript = payload.text
            turn.marks.setdefault("final_transcript" if payload.final else "first_partial", now_ns)
        elif isinstance(payload, Token):
            if len(turn.reply) <= LONGEST:
                reply = turn.reply + payload.text
                turn.reply = reply if len(reply) <= LONGEST else _cut(reply)
            if turn.complete != payload.last:
                self._complete(turn, payload.last)
            if payload.text:
                turn.marks.setdefault("first_token", now_ns)
        elif isinstance(payload, Routed):
            turn.route = str(payload)
        elif isinstance(payload, AudioChunk) and len(payload.samples):
            turn.marks.setdefault("first_audio", now_ns)
        elif isinstance(payload, Decision) and not payload.verifies:
            turn.decision = payload.name
            if not turn.complete:
                self._complete(turn, True)
            turn.marks.setdefault("decision", now_ns)
            if payload.latency_ns is not None:
                turn.speech_end_ns = now_ns - payload.latency_ns

    def interrupt(self, epoch: int) -> None:
        """An interrupt to `epoch` was raised: older turns with an unfinished reply are interrupted."""
        older = bisect_left(self._open, epoch)
        for cut in self._open[:older]:
            self.turns[cut].interrupted = True
        if self._changed is not None:
            self._changed.update(self._open[:older])
        del self._open[:older]

    def fail(self, epoch: int, problem: str) -> None:
        """The turn failed; only its first problem is kept."""
        turn = self.turns.get(epoch)
        if turn is not None and not turn.problem:
            turn.problem = _cut(problem)
            if self._changed is not None:
                self._changed.add(epoch)

    def track(self) -> None:
        """Record from now on which turns change, for `changed`."""
        self._changed = set()

    def changed(self) -> list[Turn]:
        """The turns that began or changed since the last call, or since `track`; none where that was never called."""
        if not self._changed:
            return []
        changed, self._changed = self._changed, set()
        return [self.turns[epoch] for epoch in sorted(changed)]

    def restore(self, turns: Iterable[Turn], forgotten: int) -> None:
        """Continue with the turns and the `forgotten` count of an earlier recorder."""
        self.forgotten = forgotten
        for turn in turns:
            if turn.epoch not in self.turns:
                self._begin(turn.epoch, turn.speech_start_ns)
            self.turns[turn.epoch] = turn
            if turn.complete or turn.interrupted:
                self._close(turn.epoch)

    def _begin(self, epoch: int, time_ns: int) -> Turn:
        if len(self.turns) >= self._capacity:
            self._forget(next(iter(self.turns)))
        turn = self.turns[epoch] = Turn(epoch=epoch, speech_start_ns=time_ns)
        insort(self._open, epoch)
        return turn

    def _forget(self, epoch: int) -> None:
        del self.turns[epoch]
        self._close(epoch)
        self._heard.pop(epoch, None)
        if self._changed is not None:
            self._changed.discard(epoch)
        self._forgotten_epoch = max(self._forgotten_epoch, epoch)
        self.forgotten += 1

    def _complete(self, turn: Turn, complete: bool) -> None:
        turn.complete = complete
        if complete:
            self._close(turn.epoch)
        elif not turn.interrupted:
            insort(self._open, turn.epoch)

    def _close(self, epoch: int) -> None:
        """The turn is over: a later interrupt does not affect it."""
        at = bisect_left(self._open, epoch)
        if at < len(self._open) and self._open[at] == epoch:
            del self._open[at]

    def _speech(self, turn: Turn, time_ns: int, speech: Speech, now_ns: int) -> None:
        heard = self._heard.get(turn.epoch)
        if heard is None:
            if len(self._heard) >= LISTENED_TO:
                del self._heard[next(iter(self._heard))]
            heard = self._heard[turn.epoch] = deque(maxlen=PIECES)
        heard.append((time_ns + speech.audio.duration_ns, now_ns))
        if speech.speech_end_ns is None:
            return
        end_ns = speech.speech_end_ns
        seen_ns = next((seen for until, seen in heard if until >= end_ns), now_ns)
        turn.speech_end_ns = min(end_ns, seen_ns)
        del self._heard[turn.epoch]


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"
