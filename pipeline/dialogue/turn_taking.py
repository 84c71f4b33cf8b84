"""Who has the floor: when a person's voice is a turn, when it interrupts, and when it is neither.

Theory of operation. Two machines, coupled by the rules below. Every stretch of voice has an epoch of its own, higher
than all before; an answer has the epoch of the voice it answers. Nothing here waits or plays: events go in with their
time, actions come out, and the stage around it carries them out in order.

    voice      event                                      next       action
    QUIET      voice, no answer under way                 TURN       captions pass, so that the model reads along
    QUIET      voice, an answer under way                 UNSURE     Hold after `hold_after`
    UNSURE     it is an interruption (below)              TURN       Interrupt
    UNSURE     the answer ended by itself                 TURN       Resume
    UNSURE     no word for `hold_limit`                   UNSURE     Resume: the answer goes on over the noise
    UNSURE     voice ended, final transcript: it is one   QUIET      Interrupt, Forward
    UNSURE     voice ended, final transcript: it is none  QUIET      Dismiss, Resume
    TURN       voice ended, final transcript with words   QUIET      Forward
    TURN       voice ended, final transcript without      QUIET      Dismiss
    UNSURE, TURN   no final transcript in `final_limit`   QUIET      Dismiss, Resume

    answer     event                                      next
    NONE       Forward                                    THINKING
    THINKING   its first sample was played                SPEAKING
    any        it was played, failed, or was interrupted  NONE

`turn_tables.py` says the same by the method that is called, and a test walks it against the code.

An interruption has words that are neither back-channels (“mm-hm”, “okay”) nor what our own speaker just said, for long
enough and loud enough; a word like “stop” is enough by itself. What was asked and never heard an answer to is not
lost when its speaker goes on: it is put before what they say next. So in any order of events, each question with words
in it is answered, joined to the next one, or reported as dismissed; none ends in silence.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field, replace
from enum import Enum

from thalweg.pipeline.duration import MS
from thalweg.pipeline.packet import AMBIENT
from thalweg.pipeline.payload import Transcript

BACK_CHANNELS = frozenset({
    "mm", "mhm", "hm", "hmm", "mm-hm", "uh", "uh-huh", "huh", "um", "ah", "oh", "eh", "yeah", "yep", "yup", "yes", "ok",
    "okay", "right", "sure", "see", "i", "wow", "really", "good", "great", "nice", "a", "the", "and",
})  # fmt: skip
STOP_WORDS = frozenset(["stop", "wait", "quiet", "enough", "cancel", "silence", "hold", "pause"])
ECHO_SHARE = 0.6
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]+(?:['’][^\W_]+)*(?:-[^\W_]+)?")
"""A word of any script; of those that are written without spaces, a character."""


class VoiceState(Enum):
    """See the table above."""

    QUIET = "quiet"
    UNSURE = "unsure"
    TURN = "turn"


class AnswerState(Enum):
    """See the table above."""

    NONE = "none"
    THINKING = "thinking"
    SPEAKING = "speaking"


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRules:
    """`hold_after`: voice over an answer that makes it pause. `interrupt_after`, `interrupt_words`: voice and words
    that interrupt it. `level`: loudness (RMS, 0…1) from which on voice counts. `hold_limit`, `final_limit`: see above.
    """

    hold_after_ns: int = 100 * MS
    interrupt_after_ns: int = 350 * MS
    interrupt_words: int = 2
    level: float = 0.004
    hold_limit_ns: int = 2_000 * MS
    final_limit_ns: int = 4_000 * MS


@dataclass(frozen=True, slots=True)
class Hold:
    """Pause the answer."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on with the answer."""


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Everything below `epoch` is over; `answer` is the one that was under way."""

    epoch: int
    answer: int
    cause: str


@dataclass(frozen=True, slots=True)
class Forward:
    """Pass a transcript on to be answered."""

    epoch: int
    transcript: Transcript


@dataclass(frozen=True, slots=True)
class Dismiss:
    """What was heard in `epoch` is no turn, and why."""

    epoch: int
    cause: str
    text: str = ""


Action = Hold | Resume | Interrupt | Forward | Dismiss


@dataclass(slots=True)
class _Stretch:
    """One stretch of voice. `voiced_ns`: how much of it was loud enough."""

    epoch: int
    began_ns: int
    voice: VoiceState
    voiced_ns: int = 0
    text: str = ""
    held_back: Transcript | None = None
    ended_ns: int | None = None
    noise: bool = False


@dataclass(slots=True)
class TurnTaking:
    """One conversation. `echo`: the person's side does not remove our own voice, so it comes back through theirs."""

    rules: TurnRules = field(default_factory=TurnRules)
    echo: bool = False
    answer: AnswerState = AnswerState.NONE
    answering: int = AMBIENT
    held: bool = False
    _stretches: deque[_Stretch] = field(default_factory=deque)
    _floor: int = AMBIENT
    _asked: str = ""
    _carried: str = ""
    _spoken: str = ""

    @property
    def state(self) -> str:
        """As `pipeline.events.State` has it."""
        if self.held:
            return "held"
        if any(stretch.voice is VoiceState.TURN and stretch.ended_ns is None for stretch in self._stretches):
            return "hearing"
        if self.answer is AnswerState.SPEAKING:
            return "speaking"
        if self.answer is AnswerState.THINKING or any(stretch.voice is VoiceState.TURN for stretch in self._stretches):
            return "thinking"
        return "listening"

    @property
    def turn(self) -> int:
        """The epoch that the state is about."""
        voice = [s.epoch for s in self._stretches if s.voice is VoiceState.TURN]
        return voice[-1] if voice else self.answering

    def voice(self, epoch: int, level: float, duration_ns: int, now_ns: int) -> list[Action]:
        """A piece of voice of the stretch `epoch`, which begins with the first of them."""
        actions: list[Action] = []
        stretch = self._find(epoch)
        if epoch < self._floor:
            return []
        if stretch is None:
            unsure = self.answer is not AnswerState.NONE
            stretch = _Stretch(epoch, now_ns, VoiceState.UNSURE if unsure else VoiceState.TURN)
            self._stretches.append(stretch)
        if level >= self.rules.level:
            stretch.voiced_ns += duration_ns
        if stretch.voice is VoiceState.UNSURE:
            actions += self._weigh(stretch)
        return actions

    def voice_ended(self, epoch: int, now_ns: int) -> list[Action]:
        """The stretch is over; its final transcript is still to come."""
        stretch = self._find(epoch)
        if stretch is not None:
            stretch.ended_ns = now_ns
        return []

    def transcript(self, epoch: int, transcript: Transcript, spoken: str, now_ns: int) -> list[Action]:
        """What was understood of a stretch. `spoken`: the text of what we have said lately."""
        stretch = self._find(epoch)
        self._spoken = spoken
        if stretch is None:
            return []
        stretch.text = transcript.text
        if transcript.final:
            return self._decide(stretch, transcript)
        if stretch.voice is VoiceState.TURN:
            return [Forward(epoch, self._joined(transcript))]
        stretch.held_back = transcript
        return self._weigh(stretch)

    def voice_failed(self, epoch: int) -> list[Action]:
        """There will be no final transcript of a stretch."""
        stretch = self._find(epoch)
        return self._drop(stretch, "not understood") if stretch is not None else []

    def playing(self, epoch: int) -> list[Action]:
        """The first sample of an answer was played."""
        if epoch == self.answering and self.answer is AnswerState.THINKING:
            self.answer = AnswerState.SPEAKING
            self._asked = self._carried = ""
        return []

    def played(self, epoch: int) -> list[Action]:
        """An answer is over: played to its end, or failed. One that was interrupted is over already."""
        if epoch != self.answering or self.answer is AnswerState.NONE:
            return []
        self._end_answer()
        actions: list[Action] = self._release()
        for stretch in self._stretches:
            if stretch.voice is VoiceState.UNSURE:
                stretch.voice = VoiceState.TURN
                if stretch.held_back is not None:
                    actions.append(Forward(stretch.epoch, self._joined(stretch.held_back)))
        return actions

    def stop(self, cause: str = "stop") -> list[Action]:
        """The person wants the answer to end, without saying anything. What they say now is their turn."""
        if self.answer is AnswerState.NONE:
            return []
        answer = self.answering
        self._end_answer()
        self._carried = ""
        for stretch in self._stretches:
            if stretch.voice is VoiceState.UNSURE:
                stretch.voice = VoiceState.TURN
        return [Interrupt(answer + 1, answer, cause), *self._release()]

    def say(self, epoch: int, text: str) -> list[Action]:
        """The person has written something: a turn at once. `epoch` must be new."""
        answer = self.answering if self.answer is not AnswerState.NONE else AMBIENT
        self._end_answer()
        self._floor = epoch
        actions: list[Action] = [Interrupt(epoch, answer, "written")]
        actions += [Dismiss(stretch.epoch, "written over", stretch.text) for stretch in self._stretches]
        self._stretches.clear()
        transcript = Transcript(text=text, final=True, stable_chars=len(text))
        return [*actions, *self._release(), *self._ask(epoch, transcript)]

    def passed(self, now_ns: int) -> list[Action]:
        """Time has passed: to be called several times a second."""
        actions: list[Action] = []
        for stretch in list(self._stretches):
            limit_ns = self.rules.final_limit_ns
            if stretch.ended_ns is not None and now_ns - stretch.ended_ns > limit_ns:
                actions += self._drop(stretch, "not understood")
            elif (
                self.held
                and stretch.voice is VoiceState.UNSURE
                and not stretch.noise
                and not self._words(stretch)
                and now_ns - stretch.began_ns > self.rules.hold_limit_ns
            ):
                stretch.noise = True
                actions += self._release()
        return actions

    def _find(self, epoch: int) -> _Stretch | None:
        return next((stretch for stretch in self._stretches if stretch.epoch == epoch), None)

    def _weigh(self, stretch: _Stretch) -> list[Action]:
        """Hold, or interrupt, on what is known so far of voice over an answer."""
        words = self._words(stretch)
        loud_enough = stretch.voiced_ns >= self.rules.interrupt_after_ns
        if loud_enough and (len(words) >= self.rules.interrupt_words or set(words) & STOP_WORDS):
            actions = self._interrupt(stretch, "voice")
            if stretch.held_back is not None:
                actions.append(Forward(stretch.epoch, self._joined(stretch.held_back)))
            return actions
        may_be_echo = self.echo and self.answer is AnswerState.SPEAKING and not words
        if not self.held and not stretch.noise and not may_be_echo and stretch.voiced_ns >= self.rules.hold_after_ns:
            self.held = True
            return [Hold()]
        return []

    def _decide(self, stretch: _Stretch, transcript: Transcript) -> list[Action]:
        """The final transcript is there: a turn, or nothing."""
        if stretch.voice is VoiceState.UNSURE:
            if not self._words(stretch) or stretch.voiced_ns < self.rules.hold_after_ns:
                return self._drop(stretch, self._why_not(stretch))
            actions = self._interrupt(stretch, "voice")
        else:
            actions = []
            if not transcript.text.strip() and not self._carried:
                return self._drop(stretch, "nothing said")
        self._stretches.remove(stretch)
        if any(other.voice is VoiceState.TURN and other.epoch > stretch.epoch for other in self._stretches):
            self._carried = _join(self._carried, transcript.text)
            return actions
        return actions + self._ask(stretch.epoch, transcript)

    def _ask(self, epoch: int, transcript: Transcript) -> list[Action]:
        asked = self._joined(transcript)
        self.answer, self.answering = AnswerState.THINKING, epoch
        self._asked, self._carried = asked.text, ""
        return [Forward(epoch, asked)]

    def _interrupt(self, stretch: _Stretch, cause: str) -> list[Action]:
        """A stretch takes the floor. What was asked and not heard an answer to goes before what is said now."""
        answer = self.answering if self.answer is not AnswerState.NONE else AMBIENT
        if self.answer is AnswerState.THINKING:
            self._carried = self._asked
        self._end_answer()
        for other in self._stretches:
            if other.epoch <= stretch.epoch:
                other.voice = VoiceState.TURN
        return [Interrupt(stretch.epoch, answer, cause), *self._release()]

    def _drop(self, stretch: _Stretch, cause: str) -> list[Action]:
        """A stretch is no turn. What was carried for it is asked by itself."""
        self._stretches.remove(stretch)
        actions: list[Action] = [Dismiss(stretch.epoch, cause, stretch.text)]
        unsure = any(other.voice is VoiceState.UNSURE and not other.noise for other in self._stretches)
        if not unsure:
            actions += self._release()
        waiting = any(other.voice is VoiceState.TURN for other in self._stretches)
        if self._carried and self.answer is AnswerState.NONE and not waiting:
            carried = Transcript(text="", final=True)
            actions += self._ask(stretch.epoch, carried)
        return actions

    def _release(self) -> list[Action]:
        was, self.held = self.held, False
        return [Resume()] if was else []

    def _end_answer(self) -> None:
        self.answer = AnswerState.NONE
        self._asked = ""

    def _joined(self, transcript: Transcript) -> Transcript:
        if not self._carried:
            return transcript
        text = _join(self._carried, transcript.text)
        return replace(transcript, text=text, stable_chars=len(text) - len(transcript.text) + transcript.stable_chars)

    def _words(self, stretch: _Stretch) -> list[str]:
        """The words of a stretch that are neither back-channels nor our own."""
        words = _WORD.findall(stretch.text.lower())
        return [] if self._is_echo(words) else [word for word in words if word not in BACK_CHANNELS]

    def _is_echo(self, words: list[str]) -> bool:
        """Whether most of the words are what our own speaker said lately."""
        if not self.echo or not words:
            return False
        said = set(_WORD.findall(self._spoken.lower()))
        return sum(word in said for word in words) >= ECHO_SHARE * len(words)

    def _why_not(self, stretch: _Stretch) -> str:
        if not stretch.text.strip():
            return "no words"
        return "echo" if self._is_echo(_WORD.findall(stretch.text.lower())) else "back-channel"


def _join(first: str, second: str) -> str:
    return " ".join(part for part in (first.strip(), second.strip()) if part)
