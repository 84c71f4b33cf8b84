"""A pool that expects of each backend what it will make of the question at hand."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

from tests.stages.language.pool.test_pool import Scripted
from thalweg.models.errors import ModelError
from thalweg.models.language.backend import BackendError, Message, Request
from thalweg.pipeline.handoff.quality import QuestionQuality
from thalweg.pipeline.payload import Transcript
from thalweg.stages.language.chat import Chat
from thalweg.stages.language.pool import expected
from thalweg.stages.language.pool.pool import Member, Pool, PoolPolicy
from thalweg.testing import packet, run_stage, run_virtual

MODEL = "smollm2-135m-instruct"


class Sentences:
    """Questions about France lie at one end, all others at the other."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def embed(self, text: str) -> Any:
        self.heard.append(text)
        return np.array([1.0 if "France" in text else -1.0], np.float32)


class Shared:
    """As `Share`."""

    def __init__(self) -> None:
        self.value = Sentences()
        self.released = 0

    def release(self) -> None:
        self.released += 1


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Shared:
    one = Shared()
    monkeypatch.setattr(expected, "shared", lambda: one)
    monkeypatch.setattr(expected, "known", lambda: {MODEL: QuestionQuality([4.0], [0.0] * 17, 0.0)})
    return one


def asked(*questions: str, by_question: bool = True, told: int = 0, **model: str) -> list[str]:
    """Who answers each."""
    members = {
        "pocket": Member.model_validate({"where": "edge", "quality": 0.5, "model": MODEL} | model),
        "cloud": Member.model_validate({"cost": 20, "quality": 0.95}),
    }
    policy = PoolPolicy.model_validate({"by_question": by_question})
    tested = Pool(members, policy, made={"pocket": Scripted(), "cloud": Scripted()})

    async def main() -> list[str]:
        await tested.open()
        for question in questions:
            async for _ in tested.reply(Request(messages=[Message("user", question, told=told)], max_tokens=64)):
                pass
        await tested.close()
        return [route.chosen for route in tested.routes]

    return run_virtual(main())


def test_the_small_model_answers_what_it_is_expected_to_answer_rightly(shared: Shared) -> None:
    assert asked("Where is France?", "What is seven times eight?") == ["pocket", "cloud"]
    assert shared.released == 1


def test_of_a_model_of_which_nothing_was_learned_its_own_word_counts(shared: Shared) -> None:
    assert asked("Where is France?", model="another") == ["cloud"]
    assert asked("Where is France?", by_question=False) == ["cloud"]
    assert asked("Where is France?", file="/models/another.gguf") == ["cloud"]
    assert shared.value.heard == []


def test_of_a_file_in_place_of_a_known_model_it_is_not_known_how_sure_it_is_when_it_is_right() -> None:
    for more, known in (({}, True), ({"file": "/models/another.gguf"}, False)):
        member = Member.model_validate({"where": "edge", "model": MODEL} | more)
        tested = Pool({"pocket": member}, PoolPolicy(cascade=0.1), made={"pocket": Scripted()})
        assert (tested._members["pocket"].accepted_from is not None) is known


def test_what_was_looked_up_for_a_question_is_no_part_of_it(shared: Shared) -> None:
    before = 'The camera sees the text "France". '
    assert asked(f"{before}What is seven times eight?", told=len(before)) == ["cloud"]
    assert shared.value.heard == ["What is seven times eight?"]


def test_a_chat_passes_on_where_a_question_begins(shared: Shared) -> None:
    before = 'The camera sees the text "France". '
    question = f"{before}What is it, then, my dear friend?"
    member = Member.model_validate({"where": "edge", "model": MODEL})
    tested = Pool({"pocket": member}, PoolPolicy(by_question=True), made={"pocket": Scripted()})
    partial = Transcript(text=question[:-3], final=False, told_chars=len(before))
    whole = Transcript(text=question, final=True, told_chars=len(before))
    run_stage(Chat(backend=tested, prefill=True), [packet(partial, epoch=1), packet(whole, time=1, epoch=1)])
    assert shared.value.heard == ["What is it, then, my dear"]


def test_a_question_that_was_heard_but_for_its_end_is_not_looked_at_again(shared: Shared) -> None:
    one = expected.Expected({"pocket": MODEL})

    async def main() -> None:
        await one.open()
        for text in ("Where is", "Where is France", "Where is France now?", "", "Who is it?"):
            await one.hear(text)

    run_virtual(main())
    assert shared.value.heard == ["Where is", "Where is France", "Who is it?"]
    assert one.of("pocket", 0.5) < 0.05 and one.of("cloud", 0.5) == 0.5


def test_without_the_sentence_model_the_pool_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise ModelError("no source gives all-minilm-l6-v2")

    monkeypatch.setattr(expected, "shared", missing)
    with pytest.raises(BackendError, match="`by_question` cannot be had: no source gives all-minilm-l6-v2"):
        asked("Where is France?")


def test_a_pool_that_is_closed_while_the_sentence_model_loads_keeps_no_share_of_it(
    monkeypatch: pytest.MonkeyPatch, shared: Shared
) -> None:
    loading, loaded = threading.Event(), threading.Event()

    def slowly() -> Any:
        loading.set()
        loaded.wait(5.0)
        return shared

    async def main() -> None:
        opening = asyncio.ensure_future(expected.Expected({"pocket": MODEL}).open())
        await asyncio.to_thread(loading.wait, 5.0)
        opening.cancel()
        await asyncio.wait({opening})
        loaded.set()
        async with asyncio.timeout(5.0):
            while not shared.released:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    monkeypatch.setattr(expected, "shared", slowly)
    asyncio.run(main())
    assert shared.released == 1


@pytest.mark.real
def test_with_the_real_sentence_model_opposites_are_expected_to_be_answered_better_than_sums() -> None:
    one = expected.Expected({"pocket": MODEL})

    async def main() -> list[float]:
        await one.open()
        found = []
        for text in ("What is the opposite of tall?", "What is thirteen times fourteen?"):
            await one.hear(text)
            found.append(one.of("pocket", 0.5))
        one.close()
        return found

    opposite, times = run_virtual(main())
    assert opposite > 0.6 > 0.3 > times
