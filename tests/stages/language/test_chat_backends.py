"""`language.chat` with backends of other people: right, wrong and unkind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from thalweg.deploy.testing import Outcome, packet, run_stage
from thalweg.models.language.backend import (
    Abilities,
    BackendError,
    Delta,
    ErrorKind,
    Finish,
    Progress,
    Request,
    Text,
    Thinking,
)
from thalweg.models.language.echo import EchoBackend
from thalweg.pipeline.file.catalog import find_stage
from thalweg.pipeline.payload import Transcript
from thalweg.stages.language.chat import Chat, LanguageModelError


class Says(EchoBackend):
    """Says what it is given, raises what is an exception, waits where it is a number."""

    name = "the model"

    def __init__(self, *says: Delta | Exception | float) -> None:
        self.says = says
        self.closed = 0
        self.left = 0
        self.asked: list[Request] = []

    async def close(self) -> None:
        self.closed += 1

    async def reply(self, request: Request) -> AsyncGenerator[Delta, None]:
        self.asked.append(request)
        try:
            for said in self.says:
                if isinstance(said, Exception):
                    raise said
                if isinstance(said, float):
                    await asyncio.sleep(said)
                else:
                    yield said
        finally:
            self.left += 1


def ask(backend: Says, *questions: str) -> tuple[str, Outcome]:
    items = [
        packet(Transcript(text=text, final=True), time=10**12 * epoch, epoch=epoch)
        for epoch, text in enumerate(questions or ("Hi?",), 1)
    ]
    outcome = run_stage(Chat(backend=backend), items)
    return "".join(token.text for token in outcome.payloads("token")), outcome


def test_it_is_asked_with_the_conversation_and_closed_at_the_end() -> None:
    backend = Says(Text("Yes."), Finish())
    said, outcome = ask(backend, "Hi?", "Who?")
    assert (said, outcome.problems) == ("Yes.Yes.", [])
    assert [m.text for m in backend.asked[1].messages[1:]] == ["Hi?", "Yes.", "Who?"]
    assert (backend.left, backend.closed) == (2, 1)


@pytest.mark.parametrize(
    ("says", "problem"),
    [
        ((RuntimeError("no\x1b[2J GPU"),), "stage: the model failed: RuntimeError: no [2J GPU"),
        ((Text("a"), BackendError(ErrorKind.BUSY, "is busy")), "stage: the model is busy"),
        ((Text("a"),), "stage: the model broke off: its reply ended without a `Finish`"),
        ((Finish(),), "stage: the model gave an empty answer"),
        (("a",), "stage: the model failed: TypeError: `reply` gave str, expected one of Text, "),
        ((TimeoutError("inner"),), "stage: the model failed: TimeoutError: inner"),
        ((20.0,), "stage: the model was silent for 10s: raise `timeout` or look at the server"),
        ((Text("a"), 20.0), "stage: the model was silent for 10s in the middle of its answer: raise"),
    ],
)
def test_one_that_fails_costs_the_turn_and_says_why(says: tuple[Delta | Exception | float, ...], problem: str) -> None:
    backend = Says(*says)
    _, outcome = ask(backend, "Hi?", "Who?")
    assert len(outcome.problems) == 2
    assert outcome.problems[0].startswith(problem)
    assert backend.left == 2


def test_a_final_transcript_of_no_turn_is_said_to_have_none() -> None:
    outcome = run_stage(Chat(backend=Says(Finish())), [packet(Transcript(text="Hi?", final=True))])
    assert outcome.payloads("token") == []
    assert "give it an `epoch`" in outcome.problems[0]


def test_thinking_for_longer_than_the_timeout_is_not_silence() -> None:
    assert ask(Says(*[Thinking("hm "), 9.0] * 20, Text("Yes."), Finish()))[0] == "Yes."


def test_signs_of_life_are_waited_through_for_a_minute() -> None:
    assert ask(Says(*[Progress("ping"), 9.0] * 6, Text("Yes."), Finish()))[0] == "Yes."
    _, outcome = ask(Says(*[Progress("ping"), 9.0] * 60))
    assert "pinged and said nothing for 1min" in outcome.problems[0]


def test_a_giant_of_another_backend_is_cut_too() -> None:
    said, outcome = ask(Says(Text("x" * 10_000_000), Finish()))
    assert (len(said), outcome.problems) == (96 * 16, [])


def test_one_that_cannot_open_is_closed_and_said() -> None:
    class Missing(Says):
        async def open(self) -> None:
            raise BackendError(ErrorKind.SETTINGS, "is not installed")

    backend = Missing()
    with pytest.raises(LanguageModelError, match="the model is not installed"):
        asyncio.run(Chat(backend=backend).open(None))  # type: ignore[arg-type]  # not looked at
    assert backend.closed == 1


def test_reading_along_that_raises_costs_nothing() -> None:
    class Tired(Says):
        abilities = Abilities(reads_along=True)

        async def prefill(self, request: Request) -> None:
            raise RuntimeError("too tired")

    assert ask(Tired(Text("Yes."), Finish()))[0] == "Yes."


def test_it_reads_along_with_all_that_is_shown_but_the_last_word_and_with_all_that_is_settled() -> None:
    class Reads(Says):
        abilities = Abilities(reads_along=True)

        def __init__(self, *said: Delta) -> None:
            super().__init__(*said)
            self.read: list[str] = []

        async def prefill(self, request: Request) -> None:
            self.read.append(request.messages[-1].text)

    backend = Reads(Text("Yes."), Finish())
    heard = [("Is", 0), ("Is it", 0), ("Is it cold at", 0), ("Is it cold", 10), ("Is it cold outside", 10)]
    partial = [Transcript(text=text, final=False, stable_chars=stable) for text, stable in heard]
    final = Transcript(text="Is it cold outside?", final=True, stable_chars=19)
    run_stage(Chat(backend=backend), [packet(transcript, epoch=1) for transcript in (*partial, final)])
    assert backend.read[1:4] == ["Is", "Is it cold", ""]  # the first: the conversation so far, as it opens


def test_a_misspelt_backend_is_refused_where_the_file_is_read() -> None:
    parameters = find_stage("language.chat").parameters
    with pytest.raises(ValueError, match="did you mean 'llamacpp'"):
        parameters(backend="lamacpp")
    assert parameters(backend="echo").backend == "echo"  # type: ignore[attr-defined]  # a model made at run time


def test_an_address_that_is_none_is_refused_where_the_file_is_read() -> None:
    parameters = find_stage("language.chat").parameters
    for url in ("localhost:8000/v1", "ftp://x", "http://me:secret@house/v1"):
        with pytest.raises(ValueError, match="expected something like https://host:port/v1"):
            parameters(url=url)
    assert parameters(url="").url == ""  # type: ignore[attr-defined]  # a model made at run time


def test_options_of_a_backend_that_it_does_not_have_are_refused() -> None:
    with pytest.raises(LanguageModelError, match="there is no such parameter"):
        Chat(backend="echo", options={"volume": 11})
