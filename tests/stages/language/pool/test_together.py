"""What conversations of one process know together of their backends, and what each keeps to itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import ClassVar

from thalweg.deploy.testing import run_virtual
from thalweg.models.language.backend import (
    Abilities,
    BackendError,
    Delta,
    ErrorKind,
    Finish,
    Message,
    Request,
    Text,
)
from thalweg.stages.language.pool.pool import Member, Pool, PoolPolicy

HERE = "tests.stages.language.pool.test_together"


class Answers:
    """A backend that says something after 100 ms. `asked`: how often any of its kind was."""

    abilities = Abilities()
    name = "one that answers"
    asked: ClassVar[list[str]] = []

    def __init__(self, called: str = "") -> None:
        self.called = called

    async def open(self) -> None:
        """Nothing."""

    async def close(self) -> None:
        """Nothing."""

    async def prefill(self, request: Request) -> None:
        """Nothing."""

    async def reply(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Say it."""
        self.asked.append(self.called)
        await asyncio.sleep(0.1)
        yield Text("It is Paris. ")
        yield Finish()


class Dead(Answers):
    """It is not there."""

    async def reply(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Fail."""
        self.asked.append(self.called)
        await asyncio.sleep(0.1)
        raise BackendError(ErrorKind.UNREACHABLE, "is not there")
        yield Finish()


class Refuses(Answers):
    """It does not take the question."""

    async def reply(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Refuse."""
        self.asked.append(self.called)
        raise BackendError(ErrorKind.REFUSED, "refused with status 400")
        yield Finish()


class RefusesOnce(Answers):
    """It is not there twice, then refuses the settings of one conversation, and answers all others."""

    async def reply(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Fail, refuse, answer."""
        self.asked.append(self.called)
        match asked_of(self.called):
            case 1 | 2:
                raise BackendError(ErrorKind.UNREACHABLE, "is not there")
            case 3:
                raise BackendError(ErrorKind.REFUSED, "refused with status 400")
        yield Text("It is Rome. ")
        yield Finish()


def pool(better: str, called: str, **policy: object) -> Pool:
    """A pool as a pipeline file describes it: `better` is asked first, behind it one that answers."""
    members = {
        "better": Member.model_validate({"backend": f"{HERE}:{better}", "called": called, "quality": 0.9, "cost": 1}),
        "other": Member.model_validate({"backend": f"{HERE}:Answers", "quality": 0.1}),
    }
    return Pool(members, PoolPolicy.model_validate({"probe_every": None, **policy}))


async def ask(tested: Pool) -> str:
    said = ""
    async for delta in tested.reply(Request(messages=[Message("user", "Where?")], max_tokens=64)):
        said += delta.text if isinstance(delta, Text) else ""
    return said.strip()


def asked_of(called: str) -> int:
    return Answers.asked.count(called)


def test_a_second_visitor_does_not_find_out_anew_that_a_backend_is_dead() -> None:
    async def main() -> None:
        first, second = pool("Dead", "dead"), pool("Dead", "dead")
        await first.open()
        assert [await ask(first) for _ in range(3)] == ["It is Paris."] * 3
        assert asked_of("dead") == 2, "after two failures in a row it is left alone"
        await second.open()
        assert await ask(second) == "It is Paris."
        assert asked_of("dead") == 2

    run_virtual(main())


def test_how_soon_a_backend_answers_is_known_to_who_comes_later() -> None:
    async def main() -> None:
        first, second = pool("Answers", "soon"), pool("Answers", "soon")
        await first.open()
        for _ in range(4):
            await ask(first)
        await second.open()
        await ask(second)
        assert second.routes[-1].expected_first_ms < 200

    run_virtual(main())


def test_a_refusal_is_one_conversation_s_own() -> None:
    async def main() -> None:
        first, second = pool("Refuses", "refuses"), pool("Refuses", "refuses")
        await first.open()
        await ask(first)
        await ask(first)
        assert asked_of("refuses") == 1
        await second.open()
        await ask(second)
        assert asked_of("refuses") == 2

    run_virtual(main())


def test_one_that_refused_when_it_might_be_back_may_be_tried_by_others() -> None:
    async def main() -> list[str]:
        first, second = (pool("RefusesOnce", "back") for _ in range(2))
        await first.open()
        await second.open()
        said = [await ask(first), await ask(first)]
        await asyncio.sleep(3)
        said += [await ask(first), await ask(second), await ask(first)]
        return said

    assert run_virtual(main()) == ["It is Paris."] * 3 + ["It is Rome.", "It is Paris."]


def test_a_budget_is_that_of_all() -> None:
    async def main() -> None:
        first, second = (pool("Answers", "dear", budget_per_hour=1) for _ in range(2))
        await first.open()
        await ask(first)
        await second.open()
        await ask(second)
        assert asked_of("dear") == 1

    run_virtual(main())


def test_pools_of_other_files_know_nothing_of_each_other() -> None:
    async def main() -> None:
        first, second = pool("Dead", "one file"), pool("Dead", "another file")
        for tested in (first, second):
            await tested.open()
            await ask(tested)
            await ask(tested)
        assert asked_of("one file") == asked_of("another file") == 2

    run_virtual(main())
