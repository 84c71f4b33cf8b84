"""A stage that moves."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from tests.deploy.fleet.placed_stages import Joined, Lent, away, give, opened, token
from thalweg.deploy.fleet.placing import lease, placed
from thalweg.deploy.fleet.placing.placed import PlacedStage
from thalweg.pipeline.fleet.moving.places import PlaceOf, Placing
from thalweg.pipeline.graph import Vertex
from thalweg.pipeline.stage import describe
from thalweg.transports.fleet.lease import LeaseError
from thalweg.transports.state import pack_state, unpack_state


def test_it_goes_with_its_state_and_comes_home_with_what_was_not_answered_done_here() -> None:
    async def case() -> None:
        stage, ctx, lent = await away("ab")
        await give(stage, ctx, "cde")
        lent.answer(state=True)
        lent.answer()
        assert ctx.out == ["a", "ab", "abc", "abcd"]
        assert await stage.come_home(lost=True) == 2  # d silently, e aloud
        await give(stage, ctx, "f")
        assert ctx.out == ["a", "ab", "abc", "abcd", "abcde", "abcdef"]
        assert stage.counts == {"moved": 2, "away": 2, "away_us": 6000, "link_us": 80_000, "done_again": 2}

    asyncio.run(case())


def test_an_answer_of_a_lease_that_is_over_is_not_believed() -> None:
    async def case() -> None:
        stage, ctx, lent = await away()
        await give(stage, ctx, "b")
        await stage.come_home(lost=True)
        lent.answer()
        other = Lent(stage)
        await stage.go(other)  # type: ignore[arg-type]
        await give(stage, ctx, "c")
        other.answer(generation=1)
        assert ctx.out == ["a", "ab"]
        other.given.append((1, token("c")))
        other.there.text = "ab"
        other.answer()
        assert ctx.out == ["a", "ab", "abc"]

    asyncio.run(case())


def test_who_gives_waits_while_too_many_are_unanswered_until_an_answer_or_the_loss() -> None:
    async def case() -> None:
        stage, ctx, lent = await away("")
        giving = asyncio.create_task(give(stage, ctx, "abcdefgh"))
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(lent.given) == 4
        lent.answer()
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(lent.given) == 4
        await stage.come_home(lost=True)
        await giving
        assert ctx.out[-1] == "abcdefgh" and len(ctx.out) == 8

    asyncio.run(case())


def test_what_cannot_be_sent_costs_itself_only(monkeypatch: pytest.MonkeyPatch) -> None:
    async def case() -> None:
        stage, ctx, lent = await away()
        monkeypatch.setattr(lease, "LARGEST_RECORD", 1000)
        with pytest.raises(LeaseError, match="too large"):
            await give(stage, ctx, ["x" * 2000])  # type: ignore[arg-type]
        await give(stage, ctx, "b")
        lent.answer(state=True)
        assert ctx.out == ["a", "ab"]
        assert await stage.come_home(lost=False) == 0

    asyncio.run(case())


def test_a_stage_whose_state_cannot_be_sent_stays_and_goes_once_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    async def case() -> None:
        stage, ctx = await opened()
        lent = Lent(stage)
        with monkeypatch.context() as small:
            small.setattr(placed, "LARGEST_RECORD", 3)
            assert not await stage.go(lent)  # type: ignore[arg-type]
        with monkeypatch.context() as broken:
            broken.setattr(stage.stage, "snapshot", lambda: object())
            assert not await stage.go(lent)  # type: ignore[arg-type]
        assert "too large" in ctx.reported[0] and "state cannot be had" in ctx.reported[1]
        await give(stage, ctx, "a")
        assert await stage.go(lent) and ctx.out == ["a"]  # type: ignore[arg-type]

    asyncio.run(case())


def test_a_stage_that_cannot_go_on_from_its_state_is_said_and_goes_on_as_it_is() -> None:
    async def case() -> None:
        stage, ctx, _ = await away("ab")
        await give(stage, ctx, "c")
        stage.stage.broken = True
        await stage.come_home(lost=True)
        assert ctx.out == ["a", "ab", "abc"] and "cannot go on from the state it had" in ctx.reported[0]

    asyncio.run(case())


def test_a_checkpoint_while_it_is_away_has_what_would_be_done_again() -> None:
    async def case() -> None:
        stage, ctx, lent = await away("a")
        await give(stage, ctx, "bc")
        lent.answer()
        kept = unpack_state(pack_state(stage.snapshot()))
        other, its = await opened()
        other.restore(kept)
        await give(other, its, "d")
        assert its.out == ["abc", "abcd"]

    asyncio.run(case())


def test_settings_that_are_given_while_it_runs_are_kept_for_who_comes_later() -> None:
    async def case() -> None:
        class Sized(Joined):
            configurable = ("size",)

            def configure(self, settings: Any) -> None:
                self.text = str(settings)

        placing = Placing(use="joined", stateful=True, places=(PlaceOf(name="edge"), PlaceOf(name="fog")))
        stage = PlacedStage(Sized(), Vertex(name="joined", info=describe(Joined), make=Sized, placing=placing))
        stage.configure({"size": "l"})
        stage.configure({"size": "s"})
        assert stage.configured == {"size": "s"} and stage.stage.text == "{'size': 's'}"

    asyncio.run(case())


def test_settings_for_samples_to_come_are_heard_there_too_and_those_for_one_are_not_kept() -> None:
    async def case() -> None:
        class Sampled(Joined):
            configurable = ("size",)

            def configure(self, settings: Any) -> None:
                self.text = str(settings)

            def declare(self, settings: Any) -> None:
                self.text = f"declared {settings}"

        stage, _ = await opened(Sampled)
        told: list[Any] = []
        lent: Any = SimpleNamespace(
            declare=lambda settings: told.append(("declare", settings)),
            configure=lambda settings: told.append(("configure", settings)),
        )
        stage._leases = lambda: [lent]  # type: ignore[method-assign]
        stage.declare({"size": "l"})
        assert stage.stage.text == "declared {'size': 'l'}"
        stage.configure({"size": "s"})
        assert stage.configured == {"size": "l"}
        assert told == [("declare", {"size": "l"}), ("configure", {"size": "s"})]

    asyncio.run(case())


def test_at_the_end_it_comes_home_and_does_not_go_again() -> None:
    async def case() -> None:
        stage, ctx, lent = await away("a")
        await give(stage, ctx, "b")
        finishing = asyncio.create_task(stage.finish(ctx))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        lent.answer(state=True)
        await finishing
        assert ctx.out == ["a", "ab"] and stage.away is None
        assert not await stage.go(lent)  # type: ignore[arg-type]

    asyncio.run(case())
