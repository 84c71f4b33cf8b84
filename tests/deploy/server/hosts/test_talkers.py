"""People who talk while hosts die or are emptied: what is counted as silence, lost, doubled and dropped."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from tests.conftest import require_package

NS = 1_000_000_000
NOTHING = np.zeros(0, np.float32)


@pytest.fixture(autouse=True)
def needs_webrtc() -> None:
    require_package("aiortc", "webrtc")


def looked_back(told: str | None, *, ended: bool = False, ends: tuple[int, ...] = (1, 2, 3)) -> list[int]:
    """Lost, doubled, unanswered and dropped, of who asked q0, q1 and q2, and heard the first two to their end."""
    from thalweg.deploy.bench.dialogue.talkers import Found, Person, _look_back

    async def case() -> list[int]:
        person, found = Person("http://localhost:1"), Found(people=1)
        person.asked, person.answered = ["q0", "q1", "q2"], ["q0", "q1"]
        for turn in ends:
            person._event({"type": "heard", "turn": turn, "text": "", "complete": True})
        if ended:
            person.talker.ended.set()

        async def ask(question: str) -> str | None:
            return told

        person.ask = ask  # type: ignore[method-assign]
        await _look_back(person, found)
        return [found.lost, found.doubled, found.unanswered, found.dropped]

    return asyncio.run(case())


def test_what_was_answered_has_to_be_remembered_once() -> None:
    assert looked_back("q0 and q1 and q2 and end") == [0, 0, 1, 0]
    assert looked_back("q1 and q2 and end") == [1, 0, 1, 0]
    assert looked_back("q0 and q0 and q1 and end") == [0, 1, 1, 0], "q2 was not answered, and may be missing"
    assert looked_back("q0 and q1 and end", ends=(1, 2, 2)) == [0, 1, 1, 0]


def test_who_gets_no_last_answer_and_who_was_dropped_are_told_apart() -> None:
    assert looked_back(None) == [0, 0, 2, 0]
    assert looked_back(None, ended=True) == [0, 0, 1, 1]


def test_silence_is_the_longest_time_between_two_packets_and_until_the_end() -> None:
    from thalweg.deploy.bench.dialogue.talkers import Person

    class Now:
        ns = 10 * NS

        def now_ns(self) -> int:
            return self.ns

    async def case() -> tuple[float, float]:
        person = Person("http://localhost:1")
        person.talker.clock = Now()  # type: ignore[assignment]
        person.reset()
        for at_s in (10.02, 10.5, 10.52):
            person._sound(round(at_s * NS), NOTHING)
        between_s = person.silence_s
        Now.ns = 13 * NS
        person.heard_nothing()
        return between_s, person.silence_s

    assert asyncio.run(case()) == pytest.approx((0.48, 2.48))
