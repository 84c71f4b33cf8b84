"""Answers begun in a pause of the voice, under the virtual clock: early where nothing more is said, else never heard.

The model is an echo that takes its time, so whatever is shown or played says by itself which question it answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stages.dialogue.test_live import RATE
from thalweg.deploy.runtime.actor import StageContext
from thalweg.deploy.testing import packet, run_stage
from thalweg.models.language.backend import BackendError, Delta, ErrorKind, Finish, Request, Text
from thalweg.models.language.echo import EchoBackend
from thalweg.models.speech.piper import SpokenPiece
from thalweg.pipeline.duration import MS
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Draft, Sentence, SpokenText, Token, Transcript
from thalweg.pipeline.signal import Interrupt, Played, Signal
from thalweg.stages.language.chat import Chat
from thalweg.stages.speech.piper import DEFAULT, Piper
from thalweg.stages.speech.sentences import Sentences

FIRST_MS, NEXT_MS = 80, 20


class SlowBackend(EchoBackend):
    """Says the question back word by word: the first word after 80 ms, each further one 20 ms later."""

    name = "the model"

    def __init__(self, fails: int) -> None:
        self.asked: list[str] = []
        self.left: list[int] = []
        self.fails = fails

    async def reply(self, request: Request) -> AsyncGenerator[Delta, None]:
        self.asked.append(request.messages[-1].text)
        said = 0
        try:
            await asyncio.sleep(FIRST_MS / 1000)
            if len(self.asked) <= self.fails:
                raise BackendError(ErrorKind.UNREACHABLE, "is not there")
            for word in self.asked[-1].split():
                said += 1
                yield Text(f"{word} ")
                await asyncio.sleep(NEXT_MS / 1000)
            yield Finish()
        finally:
            self.left.append(said)


class SlowEcho(Chat):
    """Asks a slow backend.

    `asked`: what the model was asked; `left`: how many words it had said when it was hung up on or done.
    """

    def __init__(self, fails: int = 0) -> None:
        backend = SlowBackend(fails)
        super().__init__(backend=backend, draft=True)
        self.asked, self.left = backend.asked, backend.left


def trial(at_ms: int, text: str, epoch: int = 1) -> Packet:
    return packet(Transcript(text=text, final=False, trial=True), time=at_ms * MS, epoch=epoch)


def partial(at_ms: int, text: str, epoch: int = 1) -> Packet:
    return packet(Transcript(text=text, final=False), time=at_ms * MS, epoch=epoch)


def final(at_ms: int, text: str, epoch: int = 1) -> Packet:
    return packet(Transcript(text=text, final=True), time=at_ms * MS, epoch=epoch)


def interrupt(at_ms: int, epoch: int) -> tuple[int, Signal]:
    return at_ms * MS, Interrupt(origin="test", epoch=epoch)


class Said:
    """What a chat emitted: tokens as (ms, epoch, text), drafts as (ms, text)."""

    def __init__(self, chat: SlowEcho, *items: Packet | tuple[int, Signal]) -> None:
        outcome = run_stage(chat, items)
        tokens = [e for e in outcome.emitted if isinstance(e.payload, Token)]
        self.tokens = [(e.at_ns // MS, e.packet.epoch, e.payload.text) for e in tokens if isinstance(e.payload, Token)]
        self.drafts = [(e.at_ns // MS, e.payload.text) for e in outcome.emitted if isinstance(e.payload, Draft)]
        self.problems = outcome.problems

    def text(self, epoch: int = 1) -> str:
        return "".join(text for _, e, text in self.tokens if e == epoch)


def test_a_draft_is_given_out_the_moment_its_question_is_final() -> None:
    chat = SlowEcho()
    said = Said(chat, trial(0, "a b c d"), final(130, "a b c d"))
    assert said.tokens[:4] == [(130, 1, "a "), (130, 1, "b "), (130, 1, "c "), (140, 1, "d ")]
    assert (said.tokens[-1][2], chat.asked) == ("", ["a b c d"])
    assert chat.counts == {"draft_hits": 1, "draft_tokens_wasted": 0}


class AlongBackend(SlowBackend):
    """Reads along. `read`: (ms, question) of what it was given to read."""

    def __init__(self) -> None:
        super().__init__(fails=0)
        self.read: list[tuple[int, str]] = []

    async def prefill(self, request: Request) -> None:
        self.read.append((round(asyncio.get_running_loop().time() * 1000), request.messages[-1].text))


@pytest.mark.parametrize(("next_ms", "read_on"), [(350, []), (600, [""])])
def test_the_model_reads_on_a_while_after_its_answer_unless_somebody_speaks(next_ms: int, read_on: list[str]) -> None:
    backend = AlongBackend()
    chat = Chat(backend=backend, prefill=True, draft=False)
    run_stage(chat, [final(0, "a b"), partial(next_ms, "c d e", epoch=2)])  # the answer ends after 120 ms
    began, *read = backend.read
    assert (began[1], [text for _, text in read]) == ("", [*read_on, "c d"])
    assert all(at >= began[0] + 400 for at, text in read if not text)


def test_a_draft_knows_what_another_machine_has_answered_and_so_does_what_follows() -> None:
    chat = SlowEcho()
    asked = {"turn": 1, "text": "Where?", "said": "In Paris.", "whole": True}
    chat.recall({"past": [], "asked": asked, "heard": {"turn": 1, "text": "In Paris."}})
    said = Said(chat, trial(0, "a b", epoch=2), final(130, "A b?", epoch=2))
    assert said.text(2) == "a b "
    assert chat.counts["draft_hits"] == 1
    assert [(each["asked"], each["said"]) for each in chat.snapshot()["past"]] == [
        ("Where?", "In Paris."),
        ("A b?", "a b "),
    ]


def test_a_draft_that_is_complete_waits_for_its_question() -> None:
    chat = SlowEcho()
    said = Said(chat, trial(0, "a b"), final(500, "a b"))
    assert said.tokens == [(500, 1, "a "), (500, 1, "b "), (500, 1, "")]
    assert chat.asked == ["a b"]


def test_a_question_that_is_final_before_the_first_token_is_not_asked_twice() -> None:
    chat = SlowEcho()
    said = Said(chat, trial(0, "a b"), final(40, "a b"))
    assert said.tokens == [(80, 1, "a "), (100, 1, "b "), (120, 1, "")]
    assert chat.asked == ["a b"]


def test_marks_that_only_the_final_text_has_keep_a_draft_and_are_remembered() -> None:
    chat = SlowEcho()
    said = Said(chat, trial(0, "is it so"), final(130, "Is it so?"))
    assert chat.counts == {"draft_hits": 1, "draft_tokens_wasted": 0}
    assert chat.asked == ["is it so"]
    assert said.text().startswith("is it so")
    assert [exchange["asked"] for exchange in chat.snapshot()["past"]] == ["Is it so?"]


def test_nothing_of_a_draft_for_other_words_is_given_out() -> None:
    chat = SlowEcho()
    said = Said(chat, trial(0, "a b c d"), final(130, "a b c e"))
    assert said.text() == "a b c e "
    assert said.tokens[0][0] == 130 + FIRST_MS
    assert chat.counts == {"draft_misses": 1, "draft_tokens_wasted": 3}


def test_a_draft_is_dropped_the_moment_more_is_said() -> None:
    chat = SlowEcho()
    said = Said(chat, trial(0, "a b c d e f"), partial(110, "a b c d e f g"), final(400, "a b c d e f g"))
    assert said.text() == "a b c d e f g "
    assert chat.left == [2, 7]


def test_a_second_pause_begins_a_second_draft() -> None:
    chat = SlowEcho()
    said = Said(chat, trial(0, "a b"), partial(90, "a b c"), trial(200, "a b c"), final(400, "a b c"))
    assert said.tokens[0][0] == 400
    assert chat.asked == ["a b", "a b c"]


def test_interrupt_before_the_first_token_of_a_draft() -> None:
    chat = SlowEcho()
    said = Said(chat, trial(0, "a b"), interrupt(40, 2), final(60, "a b"), final(200, "c", 2))
    assert (said.text(1), said.text(2)) == ("", "c ")
    assert chat.left == [0, 1]


def test_interrupt_between_a_draft_and_the_end_of_its_turn() -> None:
    said = Said(SlowEcho(), trial(0, "a b"), interrupt(200, 2), final(210, "a b"), final(300, "c", 2))
    assert (said.text(1), said.text(2)) == ("", "c ")


def test_interrupt_while_a_confirmed_draft_is_given_out() -> None:
    chat = SlowEcho()
    said = Said(chat, trial(0, "a b c d e f"), final(90, "a b c d e f"), interrupt(130, 2), final(300, "c", 2))
    assert said.text(1) == "a b c "
    assert said.text(2) == "c "
    assert chat.left == [3, 1]


def test_interrupt_twice_within_50_ms_of_a_draft() -> None:
    said = Said(SlowEcho(), trial(0, "a b"), interrupt(90, 2), trial(91, "c", 2), interrupt(120, 3), final(300, "d", 3))
    assert (said.text(1), said.text(2), said.text(3)) == ("", "", "d ")


def test_a_conversation_that_changed_meanwhile_is_answered_anew() -> None:
    chat = SlowEcho()
    cut = (1_050 * MS, Played(origin="test", epoch=1, text="x", complete=False))
    said = Said(chat, final(0, "x y"), trial(1_000, "a b", 2), cut, final(1_200, "a b", 2))
    assert said.text(2) == "a b "
    assert chat.asked == ["x y", "a b", "a b"]


def test_a_turn_that_never_ends_holds_up_the_next_one_for_two_seconds_at_most() -> None:
    chat = SlowEcho()
    said = Said(chat, trial(0, "a b"), final(5_000, "c", 2))
    assert said.text(2) == "c "
    assert chat.left == [2, 1]


def test_a_model_that_fails_on_a_draft_is_asked_again_once_the_question_is_final() -> None:
    chat = SlowEcho(fails=1)
    said = Said(chat, trial(0, "a b"), final(200, "a b"))
    assert (said.text(), said.problems) == ("a b ", [])


def test_a_model_that_fails_on_a_confirmed_draft_fails_the_turn_with_its_message() -> None:
    chat = SlowEcho(fails=1)
    said = Said(chat, trial(0, "a b"), final(40, "a b"))
    assert said.problems == ["stage: the model is not there"]


@given(
    st.lists(
        st.tuples(st.integers(10, 150), st.sampled_from("tpfi"), st.sampled_from(["a", "a b", "a b c", "c a"])),
        max_size=12,
    )
)
@settings(max_examples=200, deadline=None)
def test_whatever_comes_when_no_token_answers_anything_but_the_final_words(steps: list[tuple[int, str, str]]) -> None:
    items: list[Packet | tuple[int, Signal]] = []
    finals: dict[int, str] = {}
    at, epoch = 0, 1
    for pause, kind, text in steps:
        at += pause
        if kind == "i":
            epoch += 1
            items.append(interrupt(at, epoch))
        elif kind == "f":
            finals[epoch] = text
            items.append(final(at, text, epoch))
            epoch += 1
        else:
            items.append((trial if kind == "t" else partial)(at, text, epoch))
    said = Said(SlowEcho(), *items)
    for turn in range(1, epoch + 1):
        assert finals.get(turn, "").startswith(said.text(turn).strip())


@given(st.lists(st.sampled_from(["Paris", ",", " is", " because", " the", " end", ".", " Dr."]), max_size=25))
def test_the_piece_that_is_drafted_is_the_piece_that_will_be_said(tokens: list[str]) -> None:
    drafts = [packet(Draft(text="".join(tokens[:n]))) for n in range(1, len(tokens) + 1)]
    whole = packet(Draft(text="".join(tokens), whole=True))
    drafted = run_stage(Sentences(), {"token": [], "draft": [*drafts, whole]}).payloads("draft")
    said = [packet(Token(text=text), epoch=1) for text in tokens] + [packet(Token(text="", last=True), epoch=1)]
    sentences = run_stage(Sentences(), {"token": said}).payloads("sentence")
    assert [draft.text for draft in drafted] == [s.text for s in sentences[:1] if s.text]


class Mouth:
    """A voice of 20 ms a letter; `made`: what it was made to say."""

    rate = RATE

    def __init__(self) -> None:
        self.made: list[str] = []

    def stream(self, text: str, *, speed: float = 1.0) -> Iterator[SpokenPiece]:
        self.made.append(text)
        yield SpokenPiece(np.full(len(text) * RATE // 50, 0.5, np.float32), 1.0)


class FakePiper(Piper):
    """Piper with that voice."""

    def __init__(self) -> None:
        super().__init__()
        self.mouth = Mouth()

    def open(self, ctx: Any) -> None:
        self._voices: Any = {DEFAULT: self.mouth}


def test_a_drafted_piece_is_synthesised_once_and_heard_only_as_a_sentence() -> None:
    piper = FakePiper()
    items = {
        "draft": [packet(Draft(text="I am", whole=True), epoch=1)],
        "sentence": [packet(Sentence(text="I am", last=True), time=MS, epoch=1)],
    }
    spoken = [s for s in run_stage(piper, items).payloads() if isinstance(s, SpokenText)]
    assert piper.mouth.made == ["I am"]
    assert [s.text for s in spoken] == ["I am", ""]


def test_another_sentence_than_the_drafted_one_is_made_as_ever() -> None:
    piper = FakePiper()
    items = {
        "draft": [packet(Draft(text="I am", whole=True), epoch=1)],
        "sentence": [packet(Sentence(text="You are", last=True), time=MS, epoch=1)],
    }
    assert [s.text for s in run_stage(piper, items).payloads()] == ["You are", ""]


def test_a_sentence_does_not_wait_for_the_rest_of_its_draft(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    class Long(Mouth):
        def stream(self, text: str, *, speed: float = 1.0) -> Iterator[SpokenPiece]:
            for share in (0.25, 0.5, 0.75, 1.0):
                order.append(f"made {share}")
                yield SpokenPiece(np.full(RATE, share / 2, np.float32), share)

    peeked = iter([None, None, "a sentence"])
    monkeypatch.setattr(StageContext, "peek", lambda *_: next(peeked, None))
    emit = StageContext.emit

    def noted(self: StageContext, payload: Any, *args: Any, **named: Any) -> None:
        order.extend(["said"] if isinstance(payload, SpokenText) else [])
        emit(self, payload, *args, **named)

    monkeypatch.setattr(StageContext, "emit", noted)
    piper = FakePiper()
    piper.mouth = Long()
    items = {
        "draft": [packet(Draft(text="I am here now", whole=True), epoch=1)],
        "sentence": [packet(Sentence(text="I am here now"), time=MS, epoch=1)],
    }
    spoken = [s for s in run_stage(piper, items).payloads() if isinstance(s, SpokenText)]
    assert order[:6] == ["made 0.25", "made 0.5", "said", "said", "made 0.75", "said"]
    assert [round(float(s.samples[0]), 3) for s in spoken] == [0.125, 0.25, 0.375, 0.5]
    assert piper.counts == {"drafted_pieces": 1, "drafted_pieces_used": 1}


def test_a_draft_that_could_not_be_synthesised_leaves_no_half_of_a_sentence_behind() -> None:
    class FailsOnce(Mouth):
        def stream(self, text: str, *, speed: float = 1.0) -> Iterator[SpokenPiece]:
            self.made.append(text)
            yield SpokenPiece(np.full(RATE, 0.25, np.float32), 0.5)
            if len(self.made) == 1:
                raise RuntimeError("no memory")
            yield SpokenPiece(np.full(RATE, 0.5, np.float32), 1.0)

    piper = FakePiper()
    piper.mouth = FailsOnce()
    items = {
        "draft": [packet(Draft(text="I am here", whole=True), epoch=1)],
        "sentence": [packet(Sentence(text="I am here"), time=MS, epoch=2)],
    }
    spoken = [s for s in run_stage(piper, items).payloads() if isinstance(s, SpokenText)]
    assert [round(float(s.samples[0]), 3) for s in spoken] == [0.25, 0.5]
    assert piper.mouth.made == ["I am here", "I am here"]


def test_a_reply_begins_with_sound_and_keeps_the_silence_within() -> None:
    class Slow(Mouth):
        def stream(self, text: str, *, speed: float = 1.0) -> Iterator[SpokenPiece]:
            sound = np.concatenate([np.zeros(1000, np.float32), np.full(1000, 0.5, np.float32)])
            yield SpokenPiece(sound, 1.0)

    piper = FakePiper()
    piper.mouth = Slow()
    sentences = [packet(Sentence(text="I am", first=True), epoch=1), packet(Sentence(text="here.", last=True), epoch=1)]
    again = [packet(Sentence(text="So", first=True, last=True), epoch=2)]
    lengths = [len(s.samples) for s in run_stage(piper, {"sentence": sentences + again}).payloads()]
    assert lengths == [1000 + RATE // 200, 2000, 0, 1000 + RATE // 200, 0]
