"""Detects the end of a speaker's turn: from the silence, the sound of the last words, and the words.

Theory of operation. A fixed silence either cuts off people who think or makes everyone wait. So the wait depends on
what is known by then, and each piece of knowledge may come late or never:

    state     event                                   next       action
    VOICE     silence begins                          PAUSE
    PAUSE     voice                                   VOICE      a pending judgement of this pause is ignored
    PAUSE     silent for `ask_after`                  PAUSE      Ask: how does it sound?
    PAUSE     sound judged, words came                PAUSE      the wait is computed again
    PAUSE     silent for as long as the wait          VOICE      End

The words decide which row of `WAITS` holds (`completeness.py`). Along it the wait falls as the probability rises that
the turn is complete by its sound, judged by a model such as Smart Turn. A threshold per kind of pause, not one for all,
is due to Raux and Eskenazi, “Optimizing endpointing thresholds using dialogue features”, SIGdial 2008.

The wait lies between `shortest` and `longest`. If neither words nor sound are known it is `unknown`. While the words
are not known yet it is at least `hearing`: recognisers report them some 200 ms after the voice has paused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from thalweg.pipeline.dialogue.completeness import Completeness, completeness
from thalweg.pipeline.duration import MS


@dataclass(frozen=True, slots=True)
class Waits:
    """Silence that ends a turn, ms: `unlikely` where the probability that it is complete, by its sound, is at most
    `low`; `likely` from `high` on; between them along a line. A sound that is not known counts as 0.5.
    """

    unlikely: int
    likely: int
    low: float = 0.1
    high: float = 0.9

    def at(self, probability: float) -> float:
        """The wait, ms."""
        share = min(1.0, max(0.0, (self.high - probability) / (self.high - self.low)))
        return self.likely + share * (self.unlikely - self.likely)


WAITS: Mapping[Completeness, Waits] = {
    Completeness.GOES_ON: Waits(1_400, 1_000),
    Completeness.DICTATED: Waits(1_400, 1_400),
    Completeness.LISTED: Waits(1_400, 1_400),
    Completeness.NUMBER: Waits(800, 400),
    Completeness.OPEN: Waits(1_300, 300, high=0.6),
    Completeness.WHOLE: Waits(1_400, 256, low=0.02, high=0.06),
}
"""Chosen on the turns that `bench endofturn` sets apart for it: fewest cut off with a median delay under 350 ms. What
reads whole waits only where the sound is sure that it is not. Longer waits cut off fewer; `unknown` moves them all."""

_WRITTEN_FOR_MS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class EndRules:
    """Waits, ns. `shortest`, `longest`: bounds in every case. `unknown`: where nothing is known; `waits` are written
    for 500 ms of it and change in proportion. `hearing`: where the words are not known yet. `ask_after`: of silence,
    before the sound is judged: sooner it is judged wrongly too often.
    """

    shortest_ns: int = 192 * MS
    unknown_ns: int = 500 * MS
    longest_ns: int = 1_400 * MS
    hearing_ns: int = 352 * MS
    ask_after_ns: int = 224 * MS
    waits: Mapping[Completeness, Waits] = field(default_factory=lambda: WAITS)


class EndAction(Enum):
    """What the stage must do: have the sound of the turn judged, or end the turn."""

    ASK = "ask"
    END = "end"


class EndOfTurn:
    """Detects the end of one turn after another. `pause` counts pauses, so that a late judgement can be recognised."""

    def __init__(self, rules: EndRules) -> None:
        self.rules = rules
        self.pause = 0
        self._began_ns: int | None = None
        self._asked = False
        self._sound: float | None = None
        self._words: Completeness | None = None

    @property
    def wait_ns(self) -> int:
        """The silence that ends the turn, ns, from what is known now."""
        rules = self.rules
        waits = rules.waits[self._words or Completeness.OPEN]
        wait_ns = waits.at(0.5 if self._sound is None else self._sound) * rules.unknown_ns / _WRITTEN_FOR_MS
        if self._words is None:
            wait_ns = max(wait_ns, rules.hearing_ns)
        return min(rules.longest_ns, max(rules.shortest_ns, round(wait_ns)))

    def voice(self) -> None:
        """A frame of voice: a pause ends."""
        if self._began_ns is not None:
            self._began_ns = None
            self.pause += 1
            self._asked, self._sound, self._words = False, None, None

    def silence(self, now_ns: int, duration_ns: int) -> EndAction | None:
        """A frame without voice, `duration_ns` long, that ends at `now_ns`."""
        if self._began_ns is None:
            self._began_ns = now_ns - duration_ns
        silent_ns = now_ns - self._began_ns
        if self._asked and silent_ns >= self.wait_ns:
            return EndAction.END
        if not self._asked and silent_ns >= self.rules.ask_after_ns:
            self._asked = True
            return EndAction.ASK
        return None

    def sounds(self, pause: int, probability: float) -> None:
        """How likely the turn is complete by its sound, 0…1, judged in the pause `pause`. Late ones are ignored."""
        if pause == self.pause and self._began_ns is not None:
            self._sound = probability

    def words(self, text: str, language: str = "") -> None:
        """The words of the turn so far, as recognised in this pause. `language`: code; empty where it is not known."""
        if self._began_ns is not None:
            self._words = completeness(text, language)

    def begin(self) -> None:
        """A new turn."""
        self.voice()
