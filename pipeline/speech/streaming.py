"""Streaming with a recogniser that hears a whole stretch at once: when to decode, what to show, what is settled.

Theory of operation. The recogniser (Whisper) makes text of up to half a minute of audio, and knows nothing of what it
made before. So the same audio is decoded again and again while it grows. One decode is under way at a time:

    state      the voice goes on     the voice pauses      the turn is over      the decode came back
    QUIET      HEARING               HEARING               CLOSING, decode       –
    HEARING    same, or GUESSING     TRYING, decode        CLOSING, decode       –
    GUESSING   same                  TRYING, decode anew   CLOSING, decode anew  HEARING, show
    TRYING     GUESSING              same                  CLOSING               TRIED, show as trial
    TRIED      HEARING               same                  QUIET, final          –
    CLOSING    –                     –                     –                     QUIET, final

Because decoding begins as the voice pauses, the final text is there when the silence that ends the turn has passed. If
the voice goes on, it is an ordinary guess. A result of a decode that was dropped is not looked at. A guess that has
heard the voice nearly to its end mostly has the final words: it is shown as a trial, 200 ms before those are there.

What two successive decodes agree on is shown, and what the decoder is sure of; words that were agreed on and sure are
settled: later decodes are made to begin with them, so no word in the settled part of a transcript ever changes. Settled
sentences leave the window with their audio (`window.py`), so neither the cost of a step nor memory for audio grows.

How often: every `interval` at most, and so that decoding takes no more than `share` of the time on any machine. While
input is still queued (`behind`) no partial result is decoded: the next decode should have all of it. Only a full window
is decoded at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from enum import Enum
from typing import Any

from thalweg.pipeline.duration import MS
from thalweg.pipeline.speech.hypothesis import (
    CommitRules,
    Spoken,
    agreed,
    may_be_shown,
    may_settle,
    same_words,
    shown_again,
)
from thalweg.pipeline.speech.window import Cuts, find_cut

_NO_END = " .,…"
_ROOM_NS = 2_000 * MS  # how much a full window may still grow while it is decoded


class State(Enum):
    """See the table above."""

    QUIET = "quiet"
    HEARING = "hearing"
    GUESSING = "guessing"
    TRYING = "trying"
    TRIED = "tried"
    CLOSING = "closing"


class HearingEvent(Enum):
    """What happens to it."""

    VOICE = "voice"
    PAUSE = "pause"
    END = "end"
    DECODED = "decoded"


TRANSITIONS: dict[tuple[State, HearingEvent], frozenset[State]] = {
    (State.QUIET, HearingEvent.VOICE): frozenset({State.HEARING, State.GUESSING}),
    (State.QUIET, HearingEvent.PAUSE): frozenset({State.HEARING, State.TRYING}),
    (State.QUIET, HearingEvent.END): frozenset({State.CLOSING}),
    (State.HEARING, HearingEvent.VOICE): frozenset({State.HEARING, State.GUESSING}),
    (State.HEARING, HearingEvent.PAUSE): frozenset({State.HEARING, State.GUESSING, State.TRYING}),
    (State.HEARING, HearingEvent.END): frozenset({State.CLOSING}),
    (State.GUESSING, HearingEvent.VOICE): frozenset({State.GUESSING}),
    (State.GUESSING, HearingEvent.PAUSE): frozenset({State.GUESSING, State.TRYING}),
    (State.GUESSING, HearingEvent.END): frozenset({State.CLOSING}),
    (State.GUESSING, HearingEvent.DECODED): frozenset({State.HEARING}),
    (State.TRYING, HearingEvent.VOICE): frozenset({State.GUESSING}),
    (State.TRYING, HearingEvent.PAUSE): frozenset({State.TRYING}),
    (State.TRYING, HearingEvent.END): frozenset({State.CLOSING}),
    (State.TRYING, HearingEvent.DECODED): frozenset({State.TRIED}),
    (State.TRIED, HearingEvent.VOICE): frozenset({State.HEARING, State.GUESSING}),
    (State.TRIED, HearingEvent.PAUSE): frozenset({State.TRIED}),
    (State.TRIED, HearingEvent.END): frozenset({State.QUIET}),
    (State.CLOSING, HearingEvent.DECODED): frozenset({State.QUIET}),
}
"""Where each event may lead. Nothing else can happen in a state; `failed` leads back to HEARING, or to QUIET
from CLOSING, and `abandon` to QUIET from all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """`first_ns`: audio before the first guess. `interval_ns`: time between two; 0: none but those of a full window.
    `share`: of the time that guesses may take. `trial_after_ns`: pause that the final text is prepared in; 0: never.
    `early_ns`: end of the voice that a guess may have missed and still be told as a trial.
    """

    first_ns: int = 500 * MS
    interval_ns: int = 320 * MS
    share: float = 0.5
    trial_after_ns: int = 64 * MS
    early_ns: int = 250 * MS
    trust: CommitRules = field(default_factory=CommitRules)
    cuts: Cuts = field(default_factory=Cuts)


@dataclass(frozen=True, slots=True)
class Decode:
    """Decode the audio from `window_ns` on, all there is when it begins. The text begins with the tokens `prefix`.

    `whole`: nothing follows for now, so that it may become the final text. `wait`: nothing may be heard before it is
    done.
    """

    number: int
    window_ns: int
    prefix: tuple[int, ...]
    before: tuple[Spoken, ...]
    whole: bool = False
    wait: bool = False


@dataclass(frozen=True, slots=True)
class Drop:
    """A decode is no longer wanted."""

    number: int


@dataclass(frozen=True, slots=True)
class Withdraw:
    """A decode is wanted only if it has begun already."""

    number: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Hear nothing more before a decode that is under way is done: there is no room for it."""

    number: int


@dataclass(frozen=True, slots=True)
class Forget:
    """Audio before this is not needed any more."""

    before_ns: int


@dataclass(frozen=True, slots=True)
class Show:
    """The text so far. Its first `stable_chars` will not change; `trial`: should nothing follow, this will be final;
    `again`: a trial of the same words was shown already, written differently.
    """

    text: str
    stable_chars: int
    trial: bool = False
    again: bool = False


@dataclass(frozen=True, slots=True)
class Final:
    """The turn's words."""

    words: tuple[Spoken, ...]


Action = Decode | Drop | Withdraw | Wait | Forget | Show | Final


@dataclass(slots=True)
class Hearing:
    """One stream of turns. Times are nanoseconds from the start of the turn in hand."""

    rules: Rules = field(default_factory=Rules)
    state: State = State.QUIET
    _number: int = 0
    _window_ns: int = 0
    _end_ns: int = 0
    _asked_ns: int | None = None
    _free_ns: int = 0
    _words: tuple[Spoken, ...] = ()
    _prefix: tuple[int, ...] = ()
    _done: tuple[Spoken, ...] = ()
    _done_text: str = ""
    _shown: tuple[Spoken, ...] = ()
    _said: tuple[str, int, bool] = ("", 0, False)
    _pause_ns: int = 0
    _guess: int | None = None
    _guessed_ns: int | None = None

    def heard(self, end_ns: int, silence_ns: int = 0, behind: bool = False) -> list[Action]:
        """Audio up to `end_ns` is there, the last `silence_ns` of it without a voice. `behind`: more of it waits."""
        self._end_ns = end_ns
        rules = self.rules
        full = end_ns - self._window_ns >= rules.cuts.limit_ns
        paused = rules.trial_after_ns and silence_ns >= rules.trial_after_ns
        dropped = [] if paused else self._drop_guess()
        if self.state is State.QUIET:
            self.state = State.HEARING
        if paused:
            if self.state in (State.HEARING, State.GUESSING) and not behind:
                return self._try(end_ns - silence_ns)
        elif self.state is State.TRYING:
            self.state = State.GUESSING
        elif self.state is State.TRIED:
            self.state = State.HEARING
        if self.state is State.HEARING and (full or self._due(behind)):
            return [*dropped, self._decode(State.GUESSING, wait=full)]
        if self.state is State.GUESSING and end_ns - self._window_ns >= rules.cuts.limit_ns + _ROOM_NS:
            return [*dropped, Wait(self._number)]
        return dropped

    def ended(self, end_ns: int) -> list[Action]:
        """The turn is over. The final words follow, at once or with the decode that is then under way."""
        self._end_ns = max(end_ns, self._end_ns)
        if self.state is State.TRIED:
            return [self._finish()]
        if self.state is State.TRYING:
            self.state = State.CLOSING
            return self._drop_guess()
        return [*self._drop_guess(), *self._drop(), self._decode(State.CLOSING, whole=True)]

    def decoded(
        self, number: int, words: Sequence[Spoken], sure: bool = True, took_ns: int = 0, heard_ns: int | None = None
    ) -> list[Action]:
        """Decode `number` came back; all of its words, those of the prefix included. `sure`: it may be shown.

        `heard_ns`: the end of the audio that it was made of; if left out, of all.
        """
        if number == self._guess:
            self._guess = None
            return self._early(words) if sure and self._heard_enough(heard_ns) else []
        if number != self._number or self.state not in (State.GUESSING, State.TRYING, State.CLOSING):
            return []
        self._free_ns = self._end_ns + round(took_ns * (1 / self.rules.share - 1))
        if self.state is State.CLOSING:
            self._words = tuple(words)
            return [self._finish()]
        trial = self.state is State.TRYING
        self.state = State.TRIED if trial else State.HEARING
        if not sure and not trial:
            return self._cut()
        self._guessed_ns = self._end_ns if heard_ns is None else heard_ns
        common = agreed(self._words, words)
        self._words = tuple(words)
        self._settle(may_settle(words, common, self._end_ns, self.rules.trust))
        count = len(words) if trial else may_be_shown(words, common, self._end_ns, self.rules.trust)
        self._shown = tuple(words if trial else shown_again(self._shown, words[:count]))
        return [*self._drop_guess(), *self._show(trial), *(() if trial else self._cut())]

    def failed(self, number: int) -> None:
        """Decode `number` will not come back. The next one has all of the audio again; without that of a turn that is
        over, the turn cannot be understood.
        """
        if number == self._guess:
            self._guess = None
        elif number == self._number and self.state is State.CLOSING:
            self.abandon()
        elif number == self._number and self.state in (State.GUESSING, State.TRYING):
            self.state = State.HEARING

    def abandon(self) -> list[Action]:
        """Forget the turn in hand, if any."""
        actions = [*self._drop_guess(), *self._drop()]
        self.state = State.QUIET
        self._pause_ns, self._guessed_ns = 0, None
        self._window_ns = self._end_ns = self._free_ns = 0
        self._asked_ns = None
        self._words, self._prefix, self._done, self._shown, self._said = (), (), (), (), ("", 0, False)
        self._done_text = ""
        return actions

    def _due(self, behind: bool) -> bool:
        rules = self.rules
        if behind or not rules.interval_ns or self._end_ns - self._window_ns < rules.first_ns:
            return False
        waited = self._asked_ns is None or self._end_ns - self._asked_ns >= rules.interval_ns
        return waited and self._end_ns >= self._free_ns

    def _decode(self, state: State, whole: bool = False, wait: bool = False) -> Decode:
        self.state = state
        self._number += 1
        self._asked_ns = self._end_ns
        return Decode(self._number, self._window_ns, self._prefix, self._done, whole, wait)

    def _drop(self) -> list[Action]:
        """What is under way is not wanted any more."""
        if self.state not in (State.GUESSING, State.TRYING, State.CLOSING):
            return []
        number, self._number = self._number, self._number + 1
        return [Drop(number)]

    def _drop_guess(self) -> list[Action]:
        """A guess that was under way as the voice paused."""
        guess, self._guess = self._guess, None
        return [] if guess is None else [Drop(guess)]

    def _try(self, pause_ns: int) -> list[Action]:
        """The voice has paused at `pause_ns`: prepare the final text, and tell what was guessed of it."""
        self._pause_ns = pause_ns
        if self.state is State.GUESSING:
            self._guess = self._number
            return [Withdraw(self._guess), self._decode(State.TRYING, whole=True)]
        early = self._early(self._words) if self._heard_enough(self._guessed_ns) else []
        return [self._decode(State.TRYING, whole=True), *early]

    def _heard_enough(self, heard_ns: int | None) -> bool:
        return heard_ns is not None and heard_ns >= self._pause_ns - self.rules.early_ns

    def _early(self, words: Sequence[Spoken]) -> list[Action]:
        """A guess, as a trial. It settles nothing."""
        shown = [word.text for word in words]
        text = "".join([self._done_text, *shown]).strip().rstrip(_NO_END)
        stable = len("".join([self._done_text, *shown[: self._settled_of(words)]]).strip())
        said = (text, min(stable, len(text)), True)
        if not text or (self._said[2] and same_words(text, self._said[0])):
            return []
        self._said = said
        return [Show(*said)]

    def _settle(self, count: int) -> None:
        tokens = tuple(token for word in self._words[:count] for token in word.tokens)
        if len(tokens) > len(self._prefix):
            self._prefix = tokens

    @property
    def _settled(self) -> int:
        """How many words of the window lie within the prefix."""
        return self._settled_of(self._words)

    def _settled_of(self, words: Sequence[Spoken]) -> int:
        count, tokens = 0, 0
        for word in words:
            tokens += len(word.tokens)
            if tokens > len(self._prefix):
                break
            count += 1
        return count

    def _cut(self) -> list[Action]:
        cut = find_cut(self._words, self._settled, self._window_ns, self._end_ns, self.rules.cuts)
        if cut is None:
            return []
        gone = self._words[: cut.words]
        self._done += gone
        self._done_text += "".join(word.text for word in gone)
        self._words = self._words[cut.words :]
        self._shown = self._shown[cut.words :]
        self._prefix = self._prefix[sum(len(word.tokens) for word in gone) :]
        self._window_ns = cut.at_ns
        return [Forget(cut.at_ns)]

    def _show(self, trial: bool) -> list[Action]:
        shown = [word.text for word in self._shown]
        text = "".join([self._done_text, *shown]).strip()
        settled = min(self._settled, len(shown))
        stable = len("".join([self._done_text, *shown[:settled]]).strip())
        if not trial:
            text = text[:stable] + text[stable:].rstrip(_NO_END)  # the end of what was heard so far is no end
        said = (text, stable, trial)
        if said == self._said or not text:
            return []
        again = trial and self._said[2] and same_words(text, self._said[0])
        self._said = said
        return [Show(text, stable, trial, again)]

    def _finish(self) -> Final:
        final = Final((*self._done, *self._words))
        self.state = State.QUIET
        self.abandon()
        return final

    def snapshot(self) -> dict[str, Any]:
        """The state between two events, as plain values. A decode under way is not part of it: it is made anew."""
        return {
            "state": (self.state if self.state in (State.QUIET, State.TRIED) else State.HEARING).value,
            "times": [self._window_ns, self._end_ns],
            "prefix": list(self._prefix),
            "said": list(self._said),
            **{name: [list(astuple(w)) for w in getattr(self, f"_{name}")] for name in ("words", "done", "shown")},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self.abandon()
        self.state = State(state["state"])
        self._window_ns, self._end_ns = state["times"]
        self._prefix = tuple(state["prefix"])
        text, stable, trial = state["said"]
        self._said = (text, stable, trial)
        for name in ("words", "done", "shown"):
            words = tuple(Spoken(w[0], tuple(w[1]), *w[2:]) for w in state[name])
            setattr(self, f"_{name}", words)
        self._done_text = "".join(word.text for word in self._done)
