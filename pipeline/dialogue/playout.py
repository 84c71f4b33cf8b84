"""What the person hears: pieces of speech put one behind the other, and an exact account of what was played.

Theory of operation. The stage that speaks pushes pieces; the carrier pulls a block every 20 ms and gets speech, or
silence where there is none. Both name their time. A reply is an epoch.

    state    event                          next     effect
    IDLE     push                           PLAYING  `Started` with the first sample that is pulled
    IDLE     push, while it is on hold      HELD     nothing is played before `resume`
    PLAYING  last piece pulled to its end   IDLE     `Finished`, with the whole text
    PLAYING  nothing left, not last         PLAYING  silence, counted as a gap: the speaker was late
    PLAYING  hold                           HELD     fades out in 5 ms; the position is kept
    HELD     resume                         PLAYING  fades in where it stopped
    any      interrupt(epoch)               IDLE     older pieces are dropped behind a fade of 5 ms; `Finished` per
                                                     reply, with the text that was really played

Pieces of one reply follow each other sample by sample, so a sentence join has exactly the silence that the voice put
there. How much of a text was played is taken from the share of its samples, to the last whole word: a voice that
hurries through one half of a sentence makes that off by a word.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from thalweg.pipeline.packet import AMBIENT

FADE_NS = 5_000_000


class PlayState(Enum):
    """See the table above."""

    IDLE = "idle"
    PLAYING = "playing"
    HELD = "held"


TRANSITIONS: Mapping[PlayState, frozenset[PlayState]] = {
    PlayState.IDLE: frozenset({PlayState.PLAYING, PlayState.HELD}),
    PlayState.PLAYING: frozenset({PlayState.IDLE, PlayState.HELD}),
    PlayState.HELD: frozenset({PlayState.IDLE, PlayState.PLAYING}),
}
"""What may become of each state, itself aside: the table above as data; a test walks it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The first sample of a reply was pulled at `time_ns`."""

    epoch: int
    time_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A reply is over: `text` is what was played of it. `time_ns`: when its last sample was pulled, before any hold."""

    epoch: int
    time_ns: int
    text: str
    complete: bool


PlayEvent = Started | Finished


@dataclass(slots=True)
class _Piece:
    epoch: int
    samples: NDArray[np.float32]
    text: str
    last: bool
    at: int = 0

    @property
    def heard(self) -> str:
        """The words whose samples were played."""
        if self.at >= len(self.samples):
            return self.text
        upto = int(len(self.text) * self.at / len(self.samples))
        cut = self.text.rfind(" ", 0, upto + 1)
        return self.text[: max(cut, 0)]


class Playout:
    """One person's ear. `rate`: samples per second of everything pushed and pulled, mono float32.

    `gap_ns`: silence inserted inside replies because speech was late. `last_sound_ns`: when the last sample that was no
    silence was pulled, fades included; `stopped_ns`: the last such of the reply that was interrupted last. `on_cut` is
    told of each reply that an interrupt ended.
    """

    def __init__(self, rate: int = 48_000) -> None:
        self.rate = rate
        self.gap_ns = 0
        self.gaps = 0
        self.last_sound_ns = 0
        self.stopped_ns = 0
        self._texts: deque[str] = deque(maxlen=32)
        self._pieces: deque[_Piece] = deque()
        self._floor = AMBIENT
        self._epoch = AMBIENT
        self._said: list[str] = []
        self._held = False
        self._starved = False
        self._gain = 1.0
        self._fade = max(1, rate * FADE_NS // 1_000_000_000)
        self._tail: NDArray[np.float32] = np.zeros(0, np.float32)
        self._last_pull_ns = 0
        self.on_cut: Callable[[Finished], None] = lambda finished: None

    @property
    def state(self) -> PlayState:
        """See the table above."""
        if self._held and (self._pieces or self._epoch != AMBIENT):
            return PlayState.HELD
        return PlayState.PLAYING if self._pieces or self._epoch != AMBIENT else PlayState.IDLE

    @property
    def epoch(self) -> int:
        """The reply that is being played, AMBIENT if none has begun."""
        return self._epoch

    @property
    def heard(self) -> str:
        """What was played of the reply that is being played, to the last whole word."""
        half = self._pieces[0].heard if self._pieces and self._pieces[0].epoch == self._epoch else ""
        return " ".join(filter(None, (*self._said, half)))

    @property
    def waiting_ns(self) -> int:
        """How much speech waits to be played."""
        return sum(len(piece.samples) - piece.at for piece in self._pieces) * 1_000_000_000 // self.rate

    @property
    def recent(self) -> str:
        """The last texts that were pushed: what an echo would be made of."""
        return " ".join(self._texts)

    def push(self, *, epoch: int, samples: NDArray[np.float32], text: str = "", last: bool = False) -> None:
        """Add a piece behind those there. Ignored where an interrupt has made its epoch stale."""
        if epoch >= self._floor:
            self._pieces.append(_Piece(epoch=epoch, samples=samples, text=text, last=last))
            if text:
                self._texts.append(text)

    def hold(self) -> None:
        """Fall silent, and be ready to go on. Idempotent."""
        self._held = True
        if self._epoch == AMBIENT:
            self._gain = 0.0

    def resume(self) -> None:
        """Go on where it was held. Idempotent."""
        self._held = False
        if self._epoch == AMBIENT:
            self._gain = 1.0

    def interrupt(self, epoch: int) -> list[PlayEvent]:
        """Nothing older than `epoch` is played from now on, but for a fade. Says what had been played."""
        if epoch <= self._floor:
            return []
        self._floor = epoch
        self.stopped_ns = self.last_sound_ns
        stale = [piece for piece in self._pieces if piece.epoch < epoch]
        if stale and stale[0].epoch == self._epoch and self._gain > 0.0:
            rest = stale[0].samples[stale[0].at : stale[0].at + self._fade]
            self._tail = (rest * np.linspace(self._gain, 0.0, len(rest), dtype=np.float32)).astype(np.float32)
        events: list[PlayEvent] = []
        for reply in dict.fromkeys([self._epoch, *(piece.epoch for piece in stale)]):
            if AMBIENT < reply < epoch:
                said = self._said if reply == self._epoch else []
                half = next((piece.heard for piece in stale if piece.epoch == reply and piece.at), "")
                text = " ".join(filter(None, (*said, half)))
                last_ns = self.last_sound_ns if self._held and reply == self._epoch else self._last_pull_ns
                cut = Finished(epoch=reply, time_ns=last_ns, text=text, complete=False)
                events.append(cut)
                self.on_cut(cut)
        self._pieces = deque(piece for piece in self._pieces if piece.epoch >= epoch)
        if self._epoch < epoch:
            self._end()
        return events

    def fail(self, epoch: int) -> list[PlayEvent]:
        """Reply `epoch` will get no further piece: it ends behind those that are there, at once if none are."""
        if self._pieces and self._pieces[-1].epoch == epoch:
            self._pieces[-1].last = True
        elif self._epoch == epoch:
            self._pieces.append(_Piece(epoch=epoch, samples=np.zeros(0, np.float32), text="", last=True))
        elif epoch >= self._floor:
            return [Finished(epoch=epoch, time_ns=self._last_pull_ns, text="", complete=False)]
        return []

    def pull(self, count: int, now_ns: int) -> tuple[NDArray[np.float32], list[PlayEvent]]:
        """The next `count` samples for the person, and what happened with them."""
        block = np.zeros(count, np.float32)
        events: list[PlayEvent] = []
        filled = min(count, len(self._tail))
        if filled:
            block[:filled] = self._tail[:filled]
            self._tail = self._tail[filled:]
            self.stopped_ns = now_ns + filled * 1_000_000_000 // self.rate
        self._last_pull_ns = now_ns
        if self._held and self._gain == 0.0 and not filled:
            return block, events
        while filled < count and self._pieces:
            piece = self._pieces[0]
            if piece.epoch != self._epoch:
                self._epoch, self._said = piece.epoch, []
            if piece.at == 0 and not self._said and len(piece.samples):
                events.append(Started(epoch=piece.epoch, time_ns=now_ns + filled * 1_000_000_000 // self.rate))
            take = min(count - filled, len(piece.samples) - piece.at)
            filled += self._copy(piece, take, block, filled)
            if self._held and self._gain == 0.0:
                break
            if piece.at >= len(piece.samples):
                self._pieces.popleft()
                if len(piece.samples):
                    self._said.append(piece.text)
                if piece.last:
                    events.append(self._finish(now_ns + filled * 1_000_000_000 // self.rate))
        self._count_gap(count - filled)
        if filled:
            self.last_sound_ns = now_ns + filled * 1_000_000_000 // self.rate
        return block, events

    def _copy(self, piece: _Piece, take: int, block: NDArray[np.float32], at: int) -> int:
        """Play up to `take` samples of a piece, following the gain to where it should be."""
        goal = 0.0 if self._held else 1.0
        if self._gain != goal:
            take = min(take, max(1, round(abs(goal - self._gain) * self._fade)))
        part = piece.samples[piece.at : piece.at + take]
        if self._gain != goal:
            step = take / self._fade * (1.0 if goal > self._gain else -1.0)
            after = min(1.0, max(0.0, self._gain + step))
            after = goal if abs(after - goal) < 1e-3 else after
            part = part * np.linspace(self._gain, after, len(part), dtype=np.float32)
            self._gain = after
        block[at : at + len(part)] = part
        piece.at += len(part)
        return len(part)

    def _count_gap(self, missing: int) -> None:
        late = missing > 0 and self._epoch != AMBIENT and not self._held
        if late:
            self.gap_ns += missing * 1_000_000_000 // self.rate
            self.gaps += not self._starved
        self._starved = late

    def _finish(self, time_ns: int) -> Finished:
        finished = Finished(epoch=self._epoch, time_ns=time_ns, text=" ".join(filter(None, self._said)), complete=True)
        self._end()
        return finished

    def _end(self) -> None:
        self._epoch = AMBIENT
        self._said = []
        self._starved = False
        self._gain = 0.0 if self._held else 1.0
