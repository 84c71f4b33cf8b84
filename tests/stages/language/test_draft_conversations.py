"""Answers begun in a pause, in whole conversations under the virtual clock: every race ends in the right answer."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import require_package
from tests.stages.dialogue.test_live import FakeLine, Person, converse
from tests.stages.language.test_drafts import FIRST_MS, FakePiper, SlowEcho
from thalweg.deploy.testing import Collect
from thalweg.pipeline.clock import VirtualClock
from thalweg.pipeline.dialogue.call import using
from thalweg.pipeline.dialogue.events import Control, Heard, State, Stop
from thalweg.pipeline.graph import Graph
from thalweg.pipeline.payload import Transcript
from thalweg.pipeline.stage import Port
from thalweg.stages.dialogue.live import LiveSpeaker
from thalweg.stages.dialogue.turns import LiveTurns
from thalweg.stages.speech.sentences import Sentences

QUESTION = (1000, 800, "tell me about france")
PAUSE_MS, OVER_MS = 1720, 1000 + 800 + 200


class Finals(Collect):
    inputs = {"transcript": Port(Transcript)}


class Talk:
    """A conversation through the stages of `voice_chat.yaml`, with an echo for a model."""

    def __init__(
        self,
        *says: tuple[int, int, str],
        trials: dict[int, tuple[int, str]],
        does: dict[int, Control | str] | None = None,
        until: int = 9_000,
        late: int = OVER_MS - 1800,
    ) -> None:
        clock = VirtualClock()
        self.line = FakeLine(clock)
        self.chat, finals = SlowEcho(), Finals()
        person = Person(list(says), until, late, self.line)
        person.trials = trials
        for at, what in (does or {}).items():
            person.does[at] = self._action(what)
        graph = Graph(name="talk")
        graph.add("person", person)
        with using(self.line):
            graph.add("turns", LiveTurns())
            graph.add("speaker", LiveSpeaker())
        for name, stage in (("chat", self.chat), ("sentences", Sentences()), ("voice", FakePiper()), ("asked", finals)):
            graph.add(name, stage)
        for port in ("audio", "speech", "transcript"):
            graph.connect(f"person.{port}", f"turns.{port}", capacity=50)
        graph.connect("turns", "chat", capacity=50)
        graph.connect("turns", "asked", capacity=50)
        for a, b in (("chat", "sentences"), ("sentences", "voice"), ("voice", "speaker")):
            graph.connect(a, b)
        graph.connect("chat.draft", "sentences.draft")
        graph.connect("sentences.draft", "voice.draft")
        converse(graph, self.line, clock, until)
        asked = [e.packet for e in finals.emitted if isinstance(e.payload, Transcript) and e.payload.final]
        self.finals = {p.epoch: p.payload.text for p in asked if isinstance(p.payload, Transcript)}
        self.heard = [event for _, event in self.line.told if isinstance(event, Heard)]
        self.states = [event.state for _, event in self.line.told if isinstance(event, State)]

    def _action(self, what: Control | str) -> Any:
        if isinstance(what, str):
            return lambda: setattr(self.line, "connected", what == "back")
        return lambda: self.line.on_control(what)

    @property
    def first_sound_ms(self) -> int:
        return next(at for at, level in self.line.sound if level > 0.01)

    def check(self) -> None:
        """What was played answers final words and nothing else, and the last question was answered to its end."""
        for event in self.heard:
            assert self.finals[event.turn].startswith(event.text)
        assert self.heard[-1].complete
        assert self.heard[-1].text == self.finals[self.heard[-1].turn]
        assert self.states[-1] == "listening"


@pytest.fixture(autouse=True)
def _av() -> None:
    require_package("av", "audio")


def test_a_draft_is_heard_the_moment_the_turn_is_over() -> None:
    talk = Talk(QUESTION, trials={PAUSE_MS: (1, "tell me about france")})
    talk.check()
    assert talk.first_sound_ms <= OVER_MS + 20
    assert talk.chat.counts["draft_hits"] == 1


def test_without_a_trial_it_takes_the_whole_way() -> None:
    talk = Talk(QUESTION, trials={})
    talk.check()
    assert talk.first_sound_ms >= OVER_MS + FIRST_MS


def test_a_draft_for_words_that_were_not_final_is_never_heard() -> None:
    talk = Talk(QUESTION, trials={PAUSE_MS: (1, "tell me about trance")})
    talk.check()
    assert talk.chat.counts["draft_misses"] == 1


def test_a_draft_is_silent_while_the_turn_goes_on() -> None:
    talk = Talk((1000, 3000, "tell me about france"), trials={PAUSE_MS: (1, "tell me about")})
    talk.check()
    assert talk.first_sound_ms > 4000


def test_interrupt_while_the_final_transcript_of_a_draft_is_pending() -> None:
    says = (QUESTION, (2000, 600, "and of spain too"))
    Talk(*says, trials={PAUSE_MS: (1, "tell me about france")}, late=500).check()


def test_interrupt_between_token_and_speech_of_a_draft() -> None:
    says = (QUESTION, (OVER_MS + 20, 600, "and of spain too"))
    Talk(*says, trials={PAUSE_MS: (1, "tell me about france")}).check()


def test_interrupt_during_a_reconnect_after_a_draft() -> None:
    says = (QUESTION, (2500, 800, "and what about the other one"))
    Talk(*says, trials={PAUSE_MS: (1, "tell me about france")}, does={2200: "gone", 4000: "back"}).check()


def test_the_button_pressed_twice_within_50_ms_of_a_draft() -> None:
    does: dict[int, Control | str] = {1990: Stop(), 2030: Stop()}
    Talk(QUESTION, trials={PAUSE_MS: (1, "tell me about france")}, does=does).check()


@pytest.mark.parametrize("start", range(1820, 3400, 40))
def test_whenever_a_draft_is_interrupted_only_final_words_are_answered(start: int) -> None:
    trials = {PAUSE_MS: (1, "tell me about france"), start + 520: (2, "tell me something else please")}
    Talk(QUESTION, (start, 600, "tell me something else please"), trials=trials).check()


@pytest.mark.parametrize("start", range(1820, 3400, 40))
def test_whenever_a_wrong_draft_is_interrupted_only_final_words_are_answered(start: int) -> None:
    trials = {PAUSE_MS: (1, "tell me a bout"), start + 520: (2, "tell me something")}
    Talk(QUESTION, (start, 600, "tell me something else please"), trials=trials).check()
