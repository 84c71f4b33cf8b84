"""The question in the words that a server takes."""

from __future__ import annotations

import pytest

from thalweg.models.language.asking import Asking
from thalweg.models.language.backend import Message, Request

TOLD = [Message("system", "Be short."), Message("user", "Hi?"), Message("assistant", "Yes."), Message("user", "Who?")]
ASKED = Request(messages=TOLD, max_tokens=9, temperature=0.5)


def roles(asking: Asking, request: Request = ASKED) -> list[str]:
    return [message["role"] for message in asking.body("m", request)["messages"]]


def test_a_server_is_first_asked_as_most_take_it() -> None:
    body = Asking().body("m", ASKED)
    assert body["messages"][0] == {"role": "system", "content": "Be short."}
    assert {k: v for k, v in body.items() if k != "messages"} == {
        "model": "m", "stream": True, "max_tokens": 9, "temperature": 0.5
    }  # fmt: skip


def test_a_server_that_wants_another_name_for_the_limit_gets_it() -> None:
    asking = Asking()
    assert asking.adapts(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
    body = asking.body("m", ASKED)
    assert (body["max_completion_tokens"], "max_tokens" in body) == (9, False)


def test_a_server_that_takes_no_temperature_gets_none() -> None:
    asking = Asking()
    assert asking.adapts(400, "Unsupported value: 'temperature' does not support 0.0 with this model.")
    assert "temperature" not in asking.body("m", ASKED)


@pytest.mark.parametrize("said", ["System role not supported", "Conversation roles must alternate user/assistant"])
def test_a_server_without_a_system_role_hears_it_with_the_first_question(said: str) -> None:
    asking = Asking()
    assert asking.adapts(400, said)
    assert roles(asking) == ["user", "assistant", "user"]
    assert asking.body("m", ASKED)["messages"][0]["content"] == "Be short.\n\nHi?"


def test_a_lesson_is_learned_once() -> None:
    asking = Asking()
    assert [asking.adapts(400, "temperature") for _ in range(3)] == [True, False, False]


@pytest.mark.parametrize(
    ("status", "said"), [(500, "temperature"), (None, "temperature"), (401, "temperature"), (400, "no")]
)
def test_nothing_is_learned_from_what_is_no_refusal_of_a_parameter(status: int | None, said: str) -> None:
    assert not Asking().adapts(status, said)


def test_a_reply_that_has_begun_is_gone_on_with_as_the_server_can() -> None:
    begun = Request(messages=TOLD, max_tokens=9, prefix="It is")
    assert roles(Asking("prefix"), begun)[-1] == "assistant"
    assert roles(Asking("instruct"), begun)[-2:] == ["assistant", "user"]
    assert roles(Asking("none"), begun) == roles(Asking("none"))


def test_half_characters_of_a_question_are_not_sent() -> None:
    body = Asking().body("m", Request(messages=[Message("user", "a\ud83d")], max_tokens=1))
    assert body["messages"][0]["content"] == "a\ufffd"
