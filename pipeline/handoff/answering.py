"""One reply from several backends: which is asked when, whose words are emitted, and which continues a broken reply.

Theory of operation. Backends are asked in the order of the route. Their streams arrive as events with the backend's
name. The text of one of them, the *speaker*, is emitted, cut at whole words (`seam.WordGate`). A backend that takes
over is given what was said, and its text passes through a `seam.Seam`, so that no word comes twice.

    state      event                                              next       action
    ASKING     text of the only one that is asked                 SPEAKING   that one is the speaker
    ASKING     of several, the first clause of one                SPEAKING   that one is the speaker; Cancel the others
    ASKING     no text for `hedge_ms`, another may be asked       ASKING     Ask the next, beside the first
    ASKING     no text for `first_ms`, or failed                  ASKING     Cancel, Ask the next
    SPEAKING   text of the speaker                                SPEAKING   Say
    SPEAKING   the speaker failed                                 RESCUING   Ask the next with what was said
    SPEAKING   silent for too long (below), and what is still
               to be heard lasts no longer than the next needs    RESCUING   Ask the next, beside the silent one
    RESCUING   text of the silent one                             SPEAKING   Cancel the other: it was only slow
    RESCUING   text of the other                                  SPEAKING   that one is the speaker; Cancel the silent
    RESCUING   the other failed, or gave no text in `first_ms`    RESCUING   Ask the next
    SPEAKING,  silent for `stall_ms` + `first_ms`, nothing is
    RESCUING   still to be heard, and no backend is left          FAILED     Cancel, GiveUp
    any        the speaker's reply is whole                       DONE       Say what was held back, End
    RESCUING   one has nothing to add behind a whole sentence     DONE       End; in the middle of one it has failed
    any        no backend is left to ask, none is streaming       FAILED     GiveUp
    any        stop                                               DONE       Cancel all

A hand-over happens as late as it can without an audible gap: while there is sound left to play, the silent backend may
still resume. The allowed silence is `stall_ms` if play-out does not report how much sound is left. Where it does, the
limit is `PAUSES` times the longest pause after which the speaker has gone on, at least `BRIEF_MS` (`SHORT_MS` once its
pace is known, by an earlier answer or by `PACE` pauses of this one, of `PAUSE_MS` at least: tokens that come in one
packet tell no pace) and at most `stall_ms`: with the sound about to end, a longer wait is audible, and a needless
question costs a prompt. Events of a backend that was cancelled, or was never asked, are ignored. A backend that was
cancelled without a failure may be asked again, `ROUNDS` times, if the winner breaks off later.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from thalweg.pipeline.handoff.seam import LETTER, Seam, WordGate, is_sentence

ROUNDS = 3
BRIEF_MS, SHORT_MS, PAUSES = 250.0, 100.0, 2.0
PACE, PAUSE_MS = 8, 1.0
_CLAUSE = re.compile(
    rf"\s*\S[^.,;:!?…。！？、，；：]*(?:[.,;:!?…]\s|[。！？、，；：])|\s*(?:\S+\s+){{6}}|\s*(?:{LETTER}\s*){{12}}"
)
"""A clause that can be spoken by itself: up to a punctuation mark, six words, or twelve letters of a script without
spaces."""


class ReplyState(Enum):
    """See the table above."""

    ASKING = "asking"
    SPEAKING = "speaking"
    RESCUING = "rescuing"
    DONE = "done"
    FAILED = "failed"


TRANSITIONS: Mapping[ReplyState, frozenset[ReplyState]] = {
    ReplyState.ASKING: frozenset({ReplyState.SPEAKING, ReplyState.DONE, ReplyState.FAILED}),
    ReplyState.SPEAKING: frozenset({ReplyState.RESCUING, ReplyState.DONE, ReplyState.FAILED}),
    ReplyState.RESCUING: frozenset({ReplyState.SPEAKING, ReplyState.DONE, ReplyState.FAILED}),
    ReplyState.DONE: frozenset(),
    ReplyState.FAILED: frozenset(),
}
"""The table above as data: state → possible next states, without itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyLimits:
    """`first_ms`: longest wait for the first text of a backend, thinking and pings or not. `stall_ms`: silence in
    mid-reply that counts as one, whether or not there is sound to play. `hedge_ms`: after which another is asked beside
    the first; None for never; `hedges`: how many at most.
    """

    first_ms: float = 4_000.0
    stall_ms: float = 1_500.0
    hedge_ms: float | None = None
    hedges: int = 8


@dataclass(frozen=True, slots=True)
class AskBackend:
    """Ask a backend; `said`: what the reply has begun with, to go on from there."""

    backend: str
    said: str = ""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Nothing of it is wanted any more. `reason`: for the record; empty where it did nothing wrong."""

    backend: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Say:
    """Words of the reply, whole ones."""

    text: str


@dataclass(frozen=True, slots=True)
class End:
    """The reply is whole."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """It will not be. `reason`: of each backend that was asked."""

    reason: str


Action = AskBackend | Cancel | Say | End | GiveUp


@dataclass(slots=True)
class _Stream:
    asked_ms: float
    seam: Seam
    heard_ms: float = float("-inf")
    paused_ms: float = 0.0
    pauses: int = 0
    hedged: bool = False
    alive: bool = False
    held: str = ""
    blank: str = ""

    def speaks(self, now_ms: float) -> None:
        """It has said something."""
        if math.isfinite(self.heard_ms):
            pause_ms = now_ms - self.heard_ms
            self.paused_ms = max(self.paused_ms, pause_ms)
            self.pauses += pause_ms >= PAUSE_MS
        self.heard_ms = now_ms

    def silent_ms(self, now_ms: float) -> float:
        """For how long it has said nothing, and thought nothing."""
        return now_ms - max(self.asked_ms, self.heard_ms)


@dataclass(slots=True)
class Answering:
    """A reply under way. `order`: the route. `needs_ms`: how long a backend needs from being asked until its words can
    be heard (its first token, and speech made of it). `paused_ms`: longest pause that it made lately. `alone`: who is
    never asked beside another, nor another beside it. `begun`: what was said of the reply elsewhere, to go on from.
    `speaker`: whose words go out.
    """

    order: Sequence[str]
    limits: ReplyLimits = field(default_factory=ReplyLimits)
    needs_ms: Callable[[str], float] = lambda backend: 1_000.0
    paused_ms: Callable[[str], float] = lambda backend: 0.0
    alone: Collection[str] = ()
    begun: str = ""
    state: ReplyState = ReplyState.ASKING
    speaker: str = ""
    switches: int = 0
    hedges: int = 0
    _left: list[str] = field(default_factory=list)
    _streams: dict[str, _Stream] = field(default_factory=dict)
    _gate: WordGate = field(default_factory=WordGate)
    _why: dict[str, str] = field(default_factory=dict)
    _again: dict[str, int] = field(default_factory=dict)
    _heard_out_ms: float | None = None

    def __post_init__(self) -> None:
        self._gate.said = self.begun

    @property
    def said(self) -> str:
        """What has gone out."""
        return self._gate.said

    @property
    def under_way(self) -> Collection[str]:
        """Who is asked at the moment."""
        return tuple(self._streams)

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in (ReplyState.DONE, ReplyState.FAILED)

    def begin(self, now_ms: float) -> list[Action]:
        """Ask the first."""
        self._left = list(self.order)
        return self._next(now_ms)

    def text(self, backend: str, text: str, now_ms: float) -> list[Action]:
        """A piece of a backend's reply."""
        stream = self._streams.get(backend)
        if stream is None or self.over:
            return []
        if not text.strip():  # it ends no word: it may be a ping behind half of one
            stream.blank += text
            return []
        stream.speaks(now_ms)
        blank, stream.blank = stream.blank, ""
        return self._pass_on(backend, stream, stream.held + stream.seam.put(blank + text))

    def alive(self, backend: str, now_ms: float, *, thinking: bool = False) -> list[Action]:
        """A sign of life without text. Thinking keeps a backend from being silent; pings and empty deltas do not."""
        stream = self._streams.get(backend)
        if stream is not None and not self.over:
            stream.alive = True
            if thinking:
                stream.heard_ms = now_ms
        return []

    def finished(self, backend: str, now_ms: float) -> list[Action]:
        """A backend's reply is whole."""
        stream = self._streams.get(backend)
        if stream is None or self.over:
            return []
        rest = stream.held + stream.seam.finish()
        if backend != self.speaker and not rest.strip() and not is_sentence(self.said):
            reason = "it had nothing to add in mid-sentence" if self.said else "it gave an empty answer"
            return self.failed(backend, reason, now_ms)
        actions = self._win(backend) if backend != self.speaker or len(self._streams) > 1 else []
        text = self._gate.put(rest) + self._gate.finish()
        self.state = ReplyState.DONE
        self._streams.clear()
        return [*actions, *([Say(text)] if text else []), End()]

    def failed(self, backend: str, reason: str, now_ms: float) -> list[Action]:
        """A backend cannot go on, or could not be asked."""
        if self._streams.pop(backend, None) is None or self.over:
            return []
        self._why[backend] = reason
        if backend == self.speaker:
            self.speaker = ""
            self._gate.drop()
            self.state = ReplyState.RESCUING
        if self._streams.keys() <= {self.speaker}:
            return self._next(now_ms)
        only, *others = self._streams.items()
        return [] if others else self._pass_on(*only, only[1].held)

    def buffered(self, ms: float, now_ms: float) -> list[Action]:
        """How much sound there is still to play, as play-out tells while it plays."""
        self._heard_out_ms = now_ms + ms
        return self.passed(now_ms)

    def passed(self, now_ms: float) -> list[Action]:
        """Time has passed: to be called several times a second, and at `due_ms`."""
        if self.over:
            return []
        actions: list[Action] = []
        for name, stream in list(self._streams.items()):
            if name != self.speaker and stream.silent_ms(now_ms) >= self.limits.first_ms:
                signs = ", only signs of life" if stream.alive else ""
                reason = f"it gave no word within {self.limits.first_ms:.0f} ms{signs}"
                actions += [Cancel(name, reason), *self.failed(name, reason, now_ms)]
        if self.state is ReplyState.ASKING and self.limits.hedge_ms is not None:
            actions += self._hedge(now_ms, self.limits.hedge_ms)
        if self.state is ReplyState.SPEAKING and self._must_rescue(now_ms):
            self.state = ReplyState.RESCUING
            actions += self._next(now_ms)
        if self._is_lost(now_ms):
            reason = self._silence()
            actions += [Cancel(self.speaker, reason), *self.failed(self.speaker, reason, now_ms)]
        return actions

    def due_ms(self, now_ms: float) -> float:
        """When `passed` has something to do at the latest, if nothing comes until then. Never before `now_ms`."""
        due = [float("inf")]
        for name, stream in self._streams.items():
            since_ms = now_ms - stream.silent_ms(now_ms)
            if name != self.speaker:
                due.append(since_ms + self.limits.first_ms)
                hedge_ms = self.limits.hedge_ms
                if (
                    self.state is ReplyState.ASKING
                    and hedge_ms is not None
                    and not stream.hedged
                    and self._beside(name)
                ):
                    due.append(stream.asked_ms + hedge_ms)
            elif self.state is ReplyState.SPEAKING and self._left:
                runs_out_ms = now_ms + self._left_to_hear_ms(now_ms) - self.needs_ms(self._left[0])
                due.append(max(since_ms + self._too_long_ms(name, stream), runs_out_ms))
            elif len(self._streams) == 1 and not self._left:
                heard_out_ms = now_ms + self._left_to_hear_ms(now_ms)
                due.append(max(since_ms + self.limits.stall_ms + self.limits.first_ms, heard_out_ms))
        return max(now_ms, min(due))

    def stop(self) -> list[Action]:
        """The rest is no longer wanted: an interruption."""
        if self.over:
            return []
        actions: list[Action] = [Cancel(name) for name in self._streams]
        self._streams.clear()
        self.state = ReplyState.DONE
        return actions

    def _pass_on(self, backend: str, stream: _Stream, passed: str) -> list[Action]:
        """Say what is new of a backend's reply, or hold it: it repeats what was said, or may yet lose to a hedge."""
        hedged = self.state is ReplyState.ASKING and len(self._streams) > 1
        if not passed.strip() or (hedged and not _CLAUSE.match(passed)):
            stream.held = passed
            return []
        stream.held = ""
        won = self._win(backend) if backend != self.speaker or self.state is ReplyState.RESCUING else []
        out = self._gate.put(passed)
        return won + ([Say(out)] if out else [])

    def _hedge(self, now_ms: float, hedge_ms: float) -> list[Action]:
        for name, stream in self._streams.items():
            other = self._beside(name)
            if other and not stream.hedged and now_ms - stream.asked_ms >= hedge_ms:
                stream.hedged = True
                self.hedges += 1
                self._left.remove(other)
                return self._ask(other, now_ms)
        return []

    def _beside(self, name: str) -> str:
        """The backend to ask beside `name`: the next that is not streaming (a route may name one twice), or empty."""
        other = next((left for left in self._left if left not in self._streams), "")
        return other if self.hedges < self.limits.hedges and not {name, other} & {*self.alone} else ""

    def _must_rescue(self, now_ms: float) -> bool:
        """Whether the speaker is silent, and another must be asked now to avoid an audible gap."""
        stream = self._streams.get(self.speaker)
        if stream is None or not self._left or stream.silent_ms(now_ms) < self._too_long_ms(self.speaker, stream):
            return False
        return self._left_to_hear_ms(now_ms) <= self.needs_ms(self._left[0])

    def _too_long_ms(self, name: str, stream: _Stream) -> float:
        """The silence of the speaker, ms, after which another may be asked."""
        if self._heard_out_ms is None or {name, self._left[0]} & {*self.alone}:
            return self.limits.stall_ms
        lately_ms = self.paused_ms(name)
        least_ms = SHORT_MS if lately_ms >= PAUSE_MS or stream.pauses >= PACE else BRIEF_MS
        return min(self.limits.stall_ms, max(least_ms, PAUSES * max(stream.paused_ms, lately_ms)))

    def _left_to_hear_ms(self, now_ms: float) -> float:
        """How long the sound left to play lasts, ms; 0 where unknown."""
        return max(0.0, (self._heard_out_ms or 0.0) - now_ms)

    def _is_lost(self, now_ms: float) -> bool:
        """Whether the speaker is silent, nothing is left to play, and no other backend is left."""
        if self.over or self._left or self._streams.keys() != {self.speaker}:
            return False
        patience_ms = self.limits.stall_ms + self.limits.first_ms
        return self._streams[self.speaker].silent_ms(now_ms) >= patience_ms and not self._left_to_hear_ms(now_ms)

    def _silence(self) -> str:
        return f"it fell silent in mid-answer, for {self.limits.stall_ms:.0f} ms and longer"

    def _win(self, backend: str) -> list[Action]:
        """This one speaks from now on."""
        if self.speaker and backend != self.speaker:
            self._gate.drop()
        if len(self.said) > len(self.begun) and backend != self.speaker:
            self.switches += 1
        before, self.speaker, self.state = self.speaker, backend, ReplyState.SPEAKING
        losers = [name for name in self._streams if name != backend]
        for name in losers:
            del self._streams[name]
            self._again[name] = self._again.get(name, 0) + 1
            if self._again[name] <= ROUNDS and name not in self._left:
                self._left.append(name)
        return [Cancel(name, self._silence() if name == before else "") for name in losers]

    def _next(self, now_ms: float) -> list[Action]:
        self._left = [name for name in self._left if name not in self._streams]
        if self._left:
            return self._ask(self._left.pop(0), now_ms)
        if self._streams:
            return []
        self.state = ReplyState.FAILED
        return [GiveUp("; ".join(f"{name}: {why}" for name, why in self._why.items()) or "there is no backend")]

    def _ask(self, backend: str, now_ms: float) -> list[Action]:
        self._streams[backend] = _Stream(asked_ms=now_ms, seam=Seam(self.said))
        return [AskBackend(backend, self.said)]
