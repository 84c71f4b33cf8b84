"""Taking turns: every race by its name, and what holds whatever comes when."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.pipeline.dialogue.turn_taking import (
    Action,
    AnswerState,
    Dismiss,
    Forward,
    Hold,
    Interrupt,
    Resume,
    TurnRules,
    TurnTaking,
)
from thalweg.pipeline.duration import MS
from thalweg.pipeline.payload import Transcript

LOUD, QUIET = 0.1, 0.0001
UNIT = 32 * MS


class Talk:
    """Plays both sides and keeps what was decided."""

    def __init__(self, *, echo: bool = False) -> None:
        self.talk = TurnTaking(TurnRules(), echo=echo)
        self.now = 0
        self.actions: list[Action] = []
        self.spoken = ""

    def do(self, actions: list[Action]) -> None:
        self.actions += actions

    def voice(self, epoch: int, ms: int, level: float = LOUD) -> None:
        for _ in range(max(1, ms * MS // UNIT)):
            self.now += UNIT
            self.do(self.talk.voice(epoch, level, UNIT, self.now))

    def partial(self, epoch: int, text: str) -> None:
        self.do(self.talk.transcript(epoch, Transcript(text=text, final=False), self.spoken, self.now))

    def final(self, epoch: int, text: str) -> None:
        self.do(self.talk.voice_ended(epoch, self.now))
        transcript = Transcript(text=text, final=True, stable_chars=len(text))
        self.do(self.talk.transcript(epoch, transcript, self.spoken, self.now))

    def asked(self, epoch: int, text: str) -> None:
        self.voice(epoch, 500)
        self.final(epoch, text)

    def answering(self, epoch: int = 1, text: str = "what is the capital of france") -> None:
        self.asked(epoch, text)
        self.do(self.talk.playing(epoch))
        self.actions.clear()

    def wait(self, ms: int) -> None:
        for _ in range(ms // 100):
            self.now += 100 * MS
            self.do(self.talk.passed(self.now))

    def of(self, kind: type) -> list[Action]:
        return [action for action in self.actions if isinstance(action, kind)]

    def questions(self) -> list[tuple[int, str]]:
        forwards = [a for a in self.actions if isinstance(a, Forward) and a.transcript.final]
        return [(a.epoch, a.transcript.text) for a in forwards]


@pytest.fixture
def talk() -> Talk:
    return Talk()


def test_a_question_is_read_along_and_then_asked(talk: Talk) -> None:
    talk.voice(1, 300)
    talk.partial(1, "what is")
    talk.final(1, "what is the time")
    assert [a.transcript.text for a in talk.of(Forward)] == ["what is", "what is the time"]  # type: ignore[attr-defined]
    assert talk.talk.answer is AnswerState.THINKING


def test_a_cough_in_silence_is_dismissed(talk: Talk) -> None:
    talk.asked(1, "")
    assert talk.of(Dismiss) == [Dismiss(1, "nothing said")]
    assert talk.talk.state == "listening"


def test_words_over_an_answer_interrupt_it(talk: Talk) -> None:
    talk.answering()
    talk.voice(2, 400)
    talk.partial(2, "and the capital")
    talk.final(2, "and the capital of spain")
    assert [type(a) for a in talk.actions[:3]] == [Hold, Interrupt, Resume]
    assert talk.of(Interrupt) == [Interrupt(2, 1, "voice")]
    assert talk.questions() == [(2, "and the capital of spain")]


@pytest.mark.parametrize("text", ["und die größte Stadt", "а столица Испании", "西班牙的首都是", "스페인의 수도는"])
def test_words_of_every_script_interrupt_an_answer(talk: Talk, text: str) -> None:
    talk.answering()
    talk.voice(2, 400)
    talk.partial(2, text)
    assert talk.of(Interrupt) == [Interrupt(2, 1, "voice")]


@pytest.mark.parametrize("text", ["mm-hm", "okay", "uh huh yeah", "oh wow", ""])
def test_a_back_channel_pauses_the_answer_and_lets_it_go_on(talk: Talk, text: str) -> None:
    talk.answering()
    talk.voice(2, 400)
    talk.partial(2, text)
    talk.final(2, text)
    assert [type(a) for a in talk.actions] == [Hold, Dismiss, Resume]
    assert talk.talk.answer is AnswerState.SPEAKING


def test_a_click_of_the_keyboard_does_not_even_pause_it(talk: Talk) -> None:
    talk.answering()
    talk.voice(2, 64)
    talk.final(2, "a")
    assert [type(a) for a in talk.actions] == [Dismiss]


def test_what_is_too_quiet_does_not_pause_it(talk: Talk) -> None:
    talk.answering()
    talk.voice(2, 900, QUIET)
    talk.partial(2, "the news at eight")
    talk.final(2, "the news at eight")
    assert [type(a) for a in talk.actions] == [Dismiss]


def test_stop_is_enough_by_itself(talk: Talk) -> None:
    talk.answering()
    talk.voice(2, 400)
    talk.partial(2, "stop")
    assert talk.of(Interrupt) == [Interrupt(2, 1, "voice")]


def test_noise_without_words_holds_the_answer_for_a_moment_only(talk: Talk) -> None:
    talk.answering()
    for _ in range(30):
        talk.voice(2, 100)
        talk.wait(100)
    assert [type(a) for a in talk.actions] == [Hold, Resume]


def test_words_after_the_noise_still_interrupt(talk: Talk) -> None:
    talk.answering()
    for _ in range(30):
        talk.voice(2, 100)
        talk.wait(100)
    talk.partial(2, "please be quiet now")
    assert [type(a) for a in talk.actions] == [Hold, Resume, Interrupt, Forward]


def test_our_own_voice_is_no_interruption_where_echo_is_not_cancelled() -> None:
    talk = Talk(echo=True)
    talk.answering()
    talk.spoken = "The capital of France is Paris, a city on the Seine."
    talk.voice(2, 900)
    talk.partial(2, "the capital of france")
    talk.final(2, "the capital of france is paris")
    assert talk.actions == [Dismiss(2, "echo", "the capital of france is paris")]


def test_somebody_elses_words_interrupt_even_through_an_echo() -> None:
    talk = Talk(echo=True)
    talk.answering()
    talk.spoken = "The capital of France is Paris, a city on the Seine."
    talk.voice(2, 900)
    talk.partial(2, "tell me about spain instead")
    assert talk.of(Interrupt) == [Interrupt(2, 1, "voice")]


def test_interrupted_before_the_first_token_the_question_is_joined_to_what_follows(talk: Talk) -> None:
    talk.asked(1, "what is the capital")
    talk.asked(2, "of spain")
    assert talk.of(Interrupt) == [Interrupt(2, 1, "voice")]
    assert talk.questions()[-1] == (2, "what is the capital of spain")


def test_a_cough_before_the_first_token_leaves_the_question_asked(talk: Talk) -> None:
    talk.asked(1, "what is the capital of spain")
    talk.asked(2, "")
    assert talk.of(Interrupt) == []
    assert (talk.talk.answer, talk.talk.answering, talk.talk.held) == (AnswerState.THINKING, 1, False)


def test_interrupted_between_token_and_speech_nothing_of_the_answer_is_played(talk: Talk) -> None:
    talk.asked(1, "what is the capital")
    talk.voice(2, 200)
    assert isinstance(talk.actions[-1], Hold)
    talk.partial(2, "of spain i mean")
    talk.voice(2, 300)
    talk.final(2, "of spain i mean")
    talk.do(talk.talk.playing(1))
    assert talk.talk.answering == 2
    assert talk.talk.answer is AnswerState.THINKING


def test_interrupted_at_the_last_sample_the_voice_becomes_the_next_turn(talk: Talk) -> None:
    talk.answering()
    talk.voice(2, 150)
    talk.partial(2, "and spain")
    talk.do(talk.talk.played(1))
    talk.final(2, "and spain")
    assert talk.of(Interrupt) == []
    assert [type(a) for a in talk.actions] == [Hold, Resume, Forward, Forward]
    assert talk.questions() == [(2, "and spain")]


def test_interrupted_twice_within_50_ms_the_last_one_is_answered(talk: Talk) -> None:
    talk.answering()
    talk.voice(2, 400)
    talk.partial(2, "no wait stop")
    talk.now += 40 * MS
    talk.do(talk.talk.stop())
    talk.final(2, "no wait stop")
    assert talk.of(Interrupt) == [Interrupt(2, 1, "voice")]
    assert talk.questions() == [(2, "no wait stop")]


def test_the_stop_button_twice_stops_once(talk: Talk) -> None:
    talk.answering()
    talk.do(talk.talk.stop())
    talk.do(talk.talk.stop())
    assert talk.actions == [Interrupt(2, 1, "stop")]
    assert talk.talk.state == "listening"


def test_the_stop_button_while_somebody_speaks_leaves_them_the_floor(talk: Talk) -> None:
    talk.answering()
    talk.voice(2, 200)
    talk.do(talk.talk.stop())
    talk.final(2, "hello there")
    assert talk.of(Interrupt) == [Interrupt(2, 1, "stop")]
    assert talk.questions() == [(2, "hello there")]


def test_interrupted_while_the_final_transcript_is_pending_both_are_asked_together(talk: Talk) -> None:
    talk.voice(1, 500)
    talk.do(talk.talk.voice_ended(1, talk.now))
    talk.voice(2, 500)
    talk.final(1, "what is the capital")
    talk.final(2, "of spain")
    assert talk.questions() == [(2, "what is the capital of spain")]


def test_a_cough_while_the_final_transcript_is_pending_does_not_swallow_the_question(talk: Talk) -> None:
    talk.voice(1, 500)
    talk.do(talk.talk.voice_ended(1, talk.now))
    talk.voice(2, 100)
    talk.final(1, "what is the capital of spain")
    talk.final(2, "")
    assert talk.questions() == [(2, "what is the capital of spain")]


def test_a_recogniser_that_fails_behind_a_pending_question_does_not_swallow_it(talk: Talk) -> None:
    talk.voice(1, 500)
    talk.do(talk.talk.voice_ended(1, talk.now))
    talk.voice(2, 500)
    talk.final(1, "what is the capital of spain")
    talk.do(talk.talk.voice_failed(2))
    assert talk.questions() == [(2, "what is the capital of spain")]


def test_interrupted_during_a_reconnect_the_answer_goes_on_when_only_silence_followed(talk: Talk) -> None:
    talk.answering()
    talk.voice(2, 300)
    talk.do(talk.talk.voice_ended(2, talk.now))
    talk.wait(5000)
    assert [type(a) for a in talk.actions] == [Hold, Resume, Dismiss]
    assert talk.talk.state == "speaking"


def test_a_transcript_that_never_comes_is_not_waited_for_for_ever(talk: Talk) -> None:
    talk.voice(1, 500)
    talk.do(talk.talk.voice_ended(1, talk.now))
    talk.wait(5000)
    assert talk.actions == [Dismiss(1, "not understood")]
    assert talk.talk.state == "listening"


def test_a_written_question_interrupts_and_is_asked(talk: Talk) -> None:
    talk.answering()
    talk.voice(2, 200)
    talk.do(talk.talk.say(3, "why is the sky blue"))
    talk.voice(2, 200)
    assert [type(a) for a in talk.actions] == [Hold, Interrupt, Dismiss, Resume, Forward]
    assert talk.questions() == [(3, "why is the sky blue")]


TEXTS = st.sampled_from(["", "mm-hm", "okay", "what is the time", "stop", "tell me more about it"])


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["voice", "partial", "end", "final", "play", "played", "stop", "wait", "fail"]), TEXTS
        ),
        max_size=60,
    ),
    st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_whatever_comes_when_nothing_stays_held_and_no_question_is_lost(
    script: list[tuple[str, str]], echo: bool
) -> None:
    talk = Talk(echo=echo)
    speaking, pending, epoch = 0, [], 0
    asked: dict[int, str] = {}
    for what, text in script:
        if what == "voice":
            if not speaking:
                epoch += 1
                speaking = epoch
            talk.voice(speaking, 200)
        elif what == "partial" and (speaking or pending):
            talk.partial(pending[0] if pending else speaking, text)
        elif what == "end" and speaking:
            talk.do(talk.talk.voice_ended(speaking, talk.now))
            pending.append(speaking)
            speaking = 0
        elif what == "final" and pending:
            asked[pending[0]] = text
            talk.final(pending.pop(0), text)
        elif what == "fail" and pending:
            talk.do(talk.talk.voice_failed(pending.pop(0)))
        elif what == "play":
            talk.do(talk.talk.playing(talk.talk.answering))
        elif what == "played":
            talk.do(talk.talk.played(talk.talk.answering))
        elif what == "stop":
            talk.do(talk.talk.stop())
        elif what == "wait":
            talk.wait(300)
    if speaking:
        pending.append(speaking)
    for late in pending:
        talk.final(late, "")
    talk.wait(5000)
    assert not talk.talk.held
    assert talk.talk.state in ("listening", "thinking", "speaking")
    told = " ".join(text for _, text in talk.questions())
    dismissed = {action.epoch for action in talk.of(Dismiss)}  # type: ignore[attr-defined]
    for number, text in asked.items():
        assert not text or number in dismissed or text in told
    holds, resumes = len(talk.of(Hold)), len(talk.of(Resume))
    assert holds == resumes
