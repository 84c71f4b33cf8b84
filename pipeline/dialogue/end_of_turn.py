"""Detects the end of a speaker's turn: from the silence, the sound of the last words, and the words.

Theory of operation. A fixed silence either cuts off people who think or makes everyone wait. So the wait depends on
what is known by then, and each piece of knowledge may come late or never:

    state     event                                   next       action
    VOICE     silence begins                          PAUSE
    PAUSE     voice                                   VOICE      a pending judgement of this pause is ignored
    PAUSE     silent for `ask_after`                  PAUSE      Ask: how does it sound?
    PAUSE     sound judged, words came                PAUSE      the wait is computed again
    PAUSE     silent for as long as the wait          VOICE      End

The wait lies between `shortest` and `longest`. The sound (a probability that the turn is complete, from a model such as
Smart Turn) determines it; words can change it either way. An unfinished sentence ("I would like to", "um", a number
that is being dictated) waits longer even if it sounds final. A question whose words are complete waits no longer than
`complete`, unless its intonation indicates otherwise. If neither is known the wait is `unknown`. While the words are
not known yet it is at least `hearing`: recognisers report them some 200 ms after the voice has paused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from thalweg.pipeline.duration import MS

_LONG_NUMBER = re.compile(r"\d.*\d.*\d")
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


GOES_ON = _set(
    "a an the my your his her its our their this these those some any every each no "
    "and or but nor so because although though while if unless until when whenever where which who whose whom than as "
    "of to in on at by for with from into onto about between through during without within towards like "
    "is are was were am be been being will would can could should shall may might must do does did has have had "
    "i we they he she i'm we're they're you're it's there's i'd i'll we'll let's "
    "um uh er erm hmm mm well actually basically maybe perhaps then also plus very really too more most not"
)
"""Words that rarely end an English sentence."""
_SHORT = _set("yes no okay ok thanks please stop right sure now today tomorrow it that")
_NUMBERS = _set(
    "zero oh one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred double triple dot dash"
)
_ASKS = _set(
    "what what's who who's whose when when's where where's which why how how's is are was were do does did can could "
    "will would should has have may"
)


class Completeness(Enum):
    """What the words indicate: an unfinished sentence, a number being dictated, nothing, or a whole sentence."""

    GOES_ON = "goes on"
    DICTATED = "dictated"
    OPEN = "open"
    WHOLE = "whole"


def completeness(text: str) -> Completeness:
    """The completeness of the words recognised so far, with or without punctuation. For English only."""
    words = [word.casefold() for word in _WORD.findall(text)]
    if not words:
        return Completeness.OPEN
    mark = text.rstrip()[-1]
    last = words[-1]
    if text.rstrip().endswith(("...", "…", ",", "-", "–")):
        return Completeness.GOES_ON
    if mark != "?" and (_is_number(words[-2:], 2) or (_is_number(words[-1:], 1) and _LONG_NUMBER.search(last))):
        return Completeness.DICTATED
    if last in GOES_ON and last not in _SHORT and not (mark in "?!" and len(words) > 2):
        return Completeness.GOES_ON
    if mark in "?!" or (words[0] in _ASKS and len(words) >= 3):
        return Completeness.WHOLE
    if mark == "." and len(words) >= 3:
        return Completeness.WHOLE
    return Completeness.WHOLE if len(words) == 1 and last in _SHORT else Completeness.OPEN


def _is_number(words: Sequence[str], count: int) -> bool:
    return len(words) == count and all(word in _NUMBERS or word[:1].isdigit() for word in words)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndRules:
    """Waits, ns. `shortest`, `longest`: bounds in every case. `complete`: after a complete phrase. `unknown`: where
    nothing is known; `hearing`: where the words are not known yet. `ask_after`: of silence, before the sound is judged:
    sooner it is judged wrongly too often.
    """

    shortest_ns: int = 192 * MS
    complete_ns: int = 256 * MS
    unknown_ns: int = 500 * MS
    longest_ns: int = 1_400 * MS
    hearing_ns: int = 352 * MS
    ask_after_ns: int = 224 * MS


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
        wait_ns = rules.unknown_ns if self._sound is None else _by_sound(self._sound, rules)
        if self._words is None:
            wait_ns = max(wait_ns, rules.hearing_ns)
        elif self._words is Completeness.GOES_ON:
            wait_ns = max(wait_ns, 2 * rules.unknown_ns)
        elif self._words is Completeness.DICTATED:
            wait_ns = rules.longest_ns
        elif self._words is Completeness.WHOLE and (self._sound is None or self._sound >= 0.3):
            wait_ns = min(wait_ns, rules.complete_ns)
        return min(rules.longest_ns, max(rules.shortest_ns, wait_ns))

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

    def words(self, text: str) -> None:
        """The words of the turn so far, as recognised in this pause."""
        if self._began_ns is not None:
            self._words = completeness(text)

    def begin(self) -> None:
        """A new turn."""
        self.voice()
        self._began_ns = None


def _by_sound(probability: float, rules: EndRules) -> int:
    """`shortest` if surely complete, `longest` if surely not; in between the wait grows with the uncertainty."""
    if probability >= 0.9:
        return rules.shortest_ns
    if probability >= 0.5:
        share = (0.9 - probability) / 0.4
        return round(rules.shortest_ns + share * (rules.unknown_ns - rules.shortest_ns))
    share = (0.5 - probability) / 0.5
    return round(rules.unknown_ns + (0.4 + 0.6 * share) * (rules.longest_ns - rules.unknown_ns))
