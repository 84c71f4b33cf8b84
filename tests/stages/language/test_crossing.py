"""What of a conversation may be processed on another machine, and what its own model here is asked then."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.stages.language.pool.test_pool import ANSWER, Scripted, pool
from tests.stages.language.test_chat_going_on import Ctx, Reciter, asked
from tests.stages.language.test_drafts import final
from thalweg.deploy.testing import run_stage
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Token, Transcript
from thalweg.pipeline.signal import Played
from thalweg.stages.language.backends import stays_here
from thalweg.stages.language.chat import Chat

SECRET = "my card is 4111 1111 1111 1111"


def growing(text: str, epoch: int = 1, *, trial: bool = False) -> Packet[Transcript]:
    return Packet(
        stream="transcript", seq=0, time=0, epoch=epoch, payload=Transcript(text=text, final=False, trial=trial)
    )


def crossing(chat: Chat, *packets: Packet) -> list[str | None]:
    crossed: list[Any] = [chat.crossing(packet) for packet in packets]
    return [None if each is None else each.payload.text for each in crossed]


def given(chat: Chat, *packets: Packet) -> list[tuple[str, bool]]:
    """Each is looked at before it crosses, and stays."""

    async def main() -> list[tuple[str, bool]]:
        ctx = Ctx()
        for packet in packets:
            chat.crossing(packet)
            await chat.process(packet, ctx)  # type: ignore[arg-type]
        await chat.close()
        return ctx.out

    return asyncio.run(main())


def test_a_question_crosses_once_it_is_final_and_before_that_once_that_one_has_begun() -> None:
    chat = Chat(backend="echo")
    packets = [growing("where is"), growing("where is it", trial=True), asked("where is it"), growing("and", 2)]
    assert crossing(chat, *packets) == ["", None, "where is it", ""]
    assert not chat.stays


@pytest.mark.parametrize("said", ["don't tell anybody", "keep this private", SECRET])
def test_what_is_private_keeps_the_conversation_here_also_where_only_its_beginning_was_heard(said: str) -> None:
    for packet in (asked(said), growing(f"{said} but")):
        chat = Chat(backend="echo")
        chat.crossing(packet)
        chat.crossing(asked("and what else", 2))
        assert chat.stays


def test_an_answer_that_holds_something_private_keeps_it_here_too() -> None:
    chat = Chat(backend=Reciter("It is 4111 1111 1111 1111."))
    given(chat, asked("what is a card number?"))
    assert chat.stays


def test_a_conversation_that_stays_does_so_from_a_snapshot_also_when_the_turn_is_forgotten() -> None:
    chat = Chat(backend="echo", history=0)
    given(chat, asked(SECRET), asked("and what else", 2))
    state = chat.snapshot()
    assert all(SECRET not in exchange["asked"] for exchange in state["past"])
    other = Chat(backend="echo")
    other.restore(state)
    assert other.stays
    other.restore(Chat(backend="echo").snapshot())  # of a lent worker, which was told of nothing
    assert other.stays


def test_no_word_of_a_question_that_is_still_spoken_is_in_a_snapshot_which_may_cross() -> None:
    backend = Reciter("yes.")
    chat = Chat(backend=backend, prefill=True)

    async def main() -> None:
        await chat.process(growing("my code is 4711 and"), Ctx())  # type: ignore[arg-type]

    asyncio.run(main())
    assert backend.read[-1] == "my code is 4711"
    assert "4711" not in str(chat.snapshot())


@pytest.mark.parametrize("history", [0, 4])
def test_one_that_is_recalled_from_another_machine_stays_also_when_the_turn_is_forgotten(history: int) -> None:
    chat, other = Chat(backend="echo", history=history), Chat(backend="echo")
    given(chat, asked(SECRET), asked("and what else", 2))
    other.recall(chat.remembered())
    assert other.stays


def test_an_answer_of_elsewhere_that_is_over_is_listened_to() -> None:
    chat = Chat(backend="echo")
    said = [Token(text="It is 4111 1111 1111 1111. And")]
    asyncio.run(chat.go_on(asked("what is a card number?"), said, True, Ctx()))  # type: ignore[arg-type]
    assert chat.stays


def test_what_was_heard_of_an_answer_is_listened_to_before_the_answer_is_remembered() -> None:
    chat = Chat(backend="echo")
    chat.on_signal(Played(origin="said", epoch=1, text="It is 4111 1111 1111 1111.", complete=False), Ctx())  # type: ignore[arg-type]
    assert chat.stays


def test_a_private_question_is_answered_by_the_model_here() -> None:
    chat = Chat(backend="echo")
    assert "".join(text for text, _ in given(chat, asked(SECRET))).split() == SECRET.split()


def test_where_the_model_here_is_on_another_machine_a_private_question_is_declined_in_one_sentence_and_forgotten() -> (
    None
):
    backend = Reciter("yes.")
    chat = Chat(backend=backend, prefill=True, draft=True)
    packets = [growing("where is it now"), growing("don't tell", trial=True), asked("don't tell anybody")]
    assert given(chat, *packets) == [("I cannot answer that at the moment.", False), ("", True)]
    assert backend.asked == [] and backend.read == [""] and chat.counts["turns_declined"] == 1
    given(chat, asked("and what else", 2))
    assert [message.text for message in backend.asked[0].messages[1:]] == ["and what else"]


def test_a_pool_here_chooses_the_one_that_keeps_private_words() -> None:
    edge, cloud = Scripted(), Scripted()
    tested = pool(edge=edge, cloud=cloud)
    chat = Chat(backend=tested)
    assert chat.crossing(asked(SECRET)) is not None
    run_stage(chat, [final(0, SECRET)])
    assert chat.snapshot()["past"][0]["said"].strip() == ANSWER
    assert chat.stays and not cloud.heard and tested.counts["asked_edge"] == 1


@pytest.mark.parametrize(
    ("backend", "options", "url", "here"),
    [
        (None, {}, "", True),
        ("echo", {}, "", True),
        (None, {}, "http://127.0.0.1:1/v1", True),
        (None, {}, "http://house:1/v1", False),
        ("openai", {}, "", False),
        (None, {"url": "http://house:1/v1"}, "http://127.0.0.1:1/v1", False),
        ("a_package:Backend", {}, "", False),
        (Reciter(), {}, "", False),
    ],
)
def test_which_models_keep_words_on_this_machine(backend: Any, options: dict[str, Any], url: str, here: bool) -> None:
    assert stays_here(backend, options, {"url": url}) is here
