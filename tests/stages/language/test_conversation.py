"""What the model is reminded of: grows at its end, goes in blocks, holds nothing that was not heard."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.models.language.backend import Message
from thalweg.stages.language.conversation import Conversation


def turns(conversation: Conversation, count: int) -> list[list[Message]]:
    """What the model is told, turn after turn."""
    told = []
    for epoch in range(1, count + 1):
        told.append(conversation.messages(f"q{epoch}"))
        conversation.remember(epoch, f"q{epoch}", f"a{epoch}")
    return told


def test_a_prompt_begins_like_the_last_one_until_a_block_goes() -> None:
    prompts = turns(Conversation("s", 4), 30)
    anew = [i for i, (a, b) in enumerate(itertools.pairwise(prompts), 1) if b[: len(a)] != a]
    assert anew == [7, 10, 13, 16, 19, 22, 25, 28]


@pytest.mark.parametrize("history", [0, 1, 2, 3, 4, 5, 20])
def test_the_model_is_reminded_of_so_many_turns_at_least_and_half_as_many_more_at_most(history: int) -> None:
    for turn, prompt in enumerate(turns(Conversation("s", history), 80)):
        reminded = (len(prompt) - 2) // 2
        assert min(turn, history) <= reminded <= (history + history // 2 if history != 1 else 2)


def test_what_was_looked_up_stands_before_the_question_and_stays_there() -> None:
    conversation = Conversation("", 2)
    conversation.remember(1, 'The camera sees the text "EXIT". where to?', "Out.")
    assert conversation.messages("and now?")[0] == Message("user", 'The camera sees the text "EXIT". where to?')


def test_no_word_is_remembered_that_was_not_heard() -> None:
    conversation = Conversation("", 4)
    conversation.heard(1, "It is")
    conversation.remember(1, "q", "It is Paris.")
    conversation.remember(2, "r", "Rome.")
    conversation.heard(2, "")
    assert [m.text for m in conversation.messages("?")] == ["q", "It is", "?"]


def test_an_empty_system_message_is_not_sent() -> None:
    assert Conversation(" ", 4).messages("q") == [Message("user", "q")]


def test_a_conversation_that_is_too_long_loses_its_older_half_until_nothing_is_left() -> None:
    conversation = Conversation("", 4)
    turns(conversation, 4)
    assert [conversation.shorten() for _ in range(4)] == [True, True, True, False]


def test_a_snapshot_with_more_turns_than_are_kept_here_is_taken_with_the_newest() -> None:
    large, small = Conversation("", 8), Conversation("", 2)
    turns(large, 8)
    small.restore(large.snapshot())
    assert [m.text for m in small.messages("?")][:-1] == ["q6", "a6", "q7", "a7", "q8", "a8"]


@given(st.text(alphabet=st.characters(exclude_categories=())), st.text(alphabet=st.characters(exclude_categories=())))
def test_whatever_was_said_the_model_is_told_valid_text(asked: str, said: str) -> None:
    conversation = Conversation(asked, 4)
    conversation.remember(1, asked, said)
    conversation.heard(2, said)
    conversation.remember(2, said, asked)
    for message in conversation.messages(said):
        message.text.encode()
