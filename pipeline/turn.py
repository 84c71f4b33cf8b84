"""What became of each question: the milestones of a turn, and what was said or decided in it.

A turn is an epoch. Its clock starts at the end of speech: the moment the voice stopped, or, where a recording
is read faster than it plays, the moment that stretch of audio was read, whichever came first. For a sample of several
senses it starts when the first of them was sensed to its end.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from thalweg.pipeline.packet import AMBIENT, Packet
from thalweg.pipeline.payload import AudioChunk, Decision, Speech, Token, Transcript

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
    complete: bool = False
    interrupted: bool = False
    problem: str = ""
    marks: dict[str, int] = field(default_factory=dict)

    def latency_ns(self, milestone: str) -> int | None:
        """From the end of speech to `milestone`; negative where it came before. None where either is missing."""
        if self.speech_end_ns is None or milestone not in self.marks:
            return None
        return self.marks[milestone] - self.speech_end_ns


class TurnRecorder:
    """Follows every emitted packet and keeps the newest `capacity` turns, in the order they began.

    `forgotten`: how many older ones were let go, so that a pipeline may run for weeks.
    """

    def __init__(self, capacity: int = 10_000) -> None:
        self.turns: dict[int, Turn] = {}
        self.forgotten = 0
        self._capacity = capacity
        self._forgotten_epoch = AMBIENT
        self._heard: dict[int, list[tuple[int, int]]] = {}

    def observe(self, packet: Packet, now_ns: int) -> None:
        """A packet was emitted at `now_ns`."""
        turn = self.turns.get(packet.epoch)
        if turn is None:
            if packet.epoch <= self._forgotten_epoch:
                return
            turn = self._begin(packet.epoch, packet.time)
        payload = packet.payload
        if isinstance(payload, Speech):
            self._speech(turn, packet.time, payload, now_ns)
        elif isinstance(payload, Transcript):
            turn.transcript = payload.text
            turn.marks.setdefault("final_transcript" if payload.final else "first_partial", now_ns)
        elif isinstance(payload, Token):
            turn.reply += payload.text
            turn.complete = payload.last
            if payload.text:
                turn.marks.setdefault("first_token", now_ns)
        elif isinstance(payload, AudioChunk) and len(payload.samples):
            turn.marks.setdefault("first_audio", now_ns)
        elif isinstance(payload, Decision) and not payload.verifies:
            turn.decision = payload.name
            turn.complete = True
            turn.marks.setdefault("decision", now_ns)
            if payload.latency_ns is not None:
                turn.speech_end_ns = now_ns - payload.latency_ns

    def _begin(self, epoch: int, time_ns: int) -> Turn:
        if len(self.turns) == self._capacity:
            oldest = next(iter(self.turns))
            del self.turns[oldest]
            self._heard.pop(oldest, None)
            self._forgotten_epoch = max(self._forgotten_epoch, oldest)
            self.forgotten += 1
        turn = self.turns[epoch] = Turn(epoch=epoch, speech_start_ns=time_ns)
        return turn

    def _speech(self, turn: Turn, time_ns: int, speech: Speech, now_ns: int) -> None:
        heard = self._heard.setdefault(turn.epoch, [])
        heard.append((time_ns + speech.audio.duration_ns, now_ns))
        if speech.speech_end_ns is None:
            return
        end_ns = speech.speech_end_ns
        seen_ns = next((seen for until, seen in heard if until >= end_ns), now_ns)
        turn.speech_end_ns = min(end_ns, seen_ns)
        del self._heard[turn.epoch]

    def interrupt(self, epoch: int) -> None:
        """An interrupt to `epoch` went out: older turns whose reply was under way were cut short."""
        for turn in self.turns.values():
            if turn.epoch < epoch and not turn.complete:
                turn.interrupted = True

    def fail(self, epoch: int, problem: str) -> None:
        """The turn could not be served; the first problem is the one that is kept."""
        turn = self.turns.get(epoch)
        if turn is not None and not turn.problem:
            turn.problem = problem
