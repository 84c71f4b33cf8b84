"""A stage that moved, and goes on with what came of a packet elsewhere."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from tests.deploy.fleet.placed_stages import Lent, Speller, Talker, away, give, opened
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Token
from thalweg.pipeline.signal import Interrupt, Played
from thalweg.pipeline.stage import Context
from thalweg.transports.state import pack_state, unpack_state


def test_what_came_of_a_packet_before_its_worker_was_lost_does_not_come_twice() -> None:
    async def case() -> None:
        stage, ctx, lent = await away("", Speller)
        await give(stage, ctx, ["abcd", "e"])  # type: ignore[arg-type]
        lent.begins("a", "b")
        lent.begins("c")
        assert ctx.out == ["a", "b", "c"]
        assert await stage.come_home(lost=True) == 2
        lent.begins("d")
        assert "".join(ctx.out) == "abcd" + "abcde"

    asyncio.run(case())


def test_a_stage_that_would_not_do_the_same_again_goes_on_from_what_came() -> None:
    async def case() -> None:
        stage, ctx, lent = await away("", Talker)
        await give(stage, ctx, ["q", "r", "s"])  # type: ignore[arg-type]
        lent.answer()
        lent.begins("b", "c")
        assert await stage.come_home(lost=True) == 3
        assert stage.stage.began == [("q", ["q"], True), ("r", ["b", "c"], False)]
        assert ctx.out == ["q", "b", "c", "the rest", "qrs"]

    asyncio.run(case())


def test_a_stage_that_goes_on_follows_each_state_that_comes_back() -> None:
    async def case() -> None:
        stage, ctx, lent = await away("", Talker)
        await give(stage, ctx, "ab")
        lent.answer()
        assert stage.stage.text == ""
        lent.answer(state=True)
        assert stage.stage.text == "ab"
        await give(stage, ctx, "c")
        lent.begins("x")
        kept = unpack_state(pack_state(stage.snapshot()))
        other, its = await opened(Talker)
        other.restore(kept)
        await give(other, its, "d")
        assert other.stage.began == [("c", ["x"], False)] and its.out == ["the rest", "abcd"]

    asyncio.run(case())


def test_an_answer_that_was_interrupted_elsewhere_is_not_gone_on_with_here() -> None:
    async def case() -> None:
        stage, ctx, lent = await away("", Talker)
        question = Packet(stream="a.token", seq=0, time=0, epoch=1, payload=Token(text="q"))
        await stage.process(question, ctx)  # type: ignore[arg-type]
        lent.begins("x")
        stage.on_signal(Interrupt(origin="turns", epoch=2), ctx)  # type: ignore[arg-type]
        await stage.come_home(lost=True)
        assert stage.stage.began == [("q", ["x"], True)] and ctx.out == ["x"]

    asyncio.run(case())


def test_an_interrupt_ends_what_is_being_done_again() -> None:
    begun = asyncio.Event()

    class Endless(Talker):
        async def process(self, packet: Packet[Token], ctx: Context) -> None:  # type: ignore[override]
            await super().go_on(packet, (), False, ctx)

        async def go_on(self, packet: Packet[Token], sent: Any, over: bool, ctx: Context) -> None:
            await super().go_on(packet, sent, over, ctx)
            begun.set()
            await asyncio.Event().wait()

    async def case() -> None:
        stage, ctx, lent = await away("", Endless)
        question = Packet(stream="a.token", seq=0, time=0, epoch=1, payload=Token(text="q"))
        await stage.process(question, ctx)  # type: ignore[arg-type]
        lent.begins("x")
        coming = asyncio.create_task(stage.come_home(lost=True))
        await begun.wait()
        stage.on_signal(Interrupt(origin="turns", epoch=2), ctx)  # type: ignore[arg-type]
        async with asyncio.timeout(10):
            assert await coming == 1
        assert ctx.reported == [] and ctx.out == ["x", "the rest"]

    asyncio.run(case())


def test_a_state_of_a_generation_that_is_over_is_not_followed_and_what_was_heard_since_a_state_is_kept() -> None:
    class Listener(Talker):
        def on_signal(self, signal: Interrupt, ctx: Context) -> None:
            self.text += f"<{signal.epoch}>"

    async def case() -> None:
        stage, ctx, lent = await away("a", Listener)
        await give(stage, ctx, "b")
        old, late = lent.generation, list(lent.given)
        await stage.come_home(lost=False)
        assert await stage.go(lent)  # type: ignore[arg-type]
        lent.given[:] = late
        lent.answer(state=True, generation=old)
        assert stage.stage.text == "ab"
        await give(stage, ctx, "c")
        lent.answer(state=True)
        stage.on_signal(Interrupt(origin="turns", epoch=7), ctx)  # type: ignore[arg-type]
        await stage.come_home(lost=True)
        assert stage.stage.text == "abbc<7>"  # the late one is done there, too

    asyncio.run(case())


class Discreet(Talker):
    """Lets no mark cross, and stays once a capital letter is said."""

    stays = False

    def on_signal(self, signal: Played, ctx: Context) -> None:
        self.stays = self.stays or signal.text.isupper()

    def crossing(self, packet: Packet[Token]) -> Packet[Token] | None:
        self.stays = self.stays or packet.payload.text.isupper()
        return packet if packet.payload.text.isalpha() else None


def test_what_must_not_cross_is_not_given_away_and_what_follows_is_done_here() -> None:
    async def case() -> None:
        stage, ctx, lent = await away("", Discreet)
        await give(stage, ctx, ["q", "!"])  # type: ignore[arg-type]
        assert [packet.payload.text for _, packet in lent.given] == ["q"]
        giving = asyncio.create_task(give(stage, ctx, ["S", "r"]))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        assert stage.away is not None  # what is under way there ends first
        lent.answer(state=True)
        await giving
        assert stage.away is None and lent.given == [] and ctx.out == ["q", "qS", "qSr"]
        assert not await stage.go(lent)  # type: ignore[arg-type]
        assert stage.counts["moved"] == 2

    asyncio.run(case())


def test_an_answer_there_that_is_lost_behind_something_private_is_finished_here() -> None:
    async def case() -> None:
        stage, ctx, lent = await away("", Discreet)
        await give(stage, ctx, ["q"])  # type: ignore[arg-type]
        lent.begins("x")
        giving = asyncio.create_task(give(stage, ctx, ["S"]))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        await stage.come_home(lost=True)
        await giving
        assert ctx.out == ["x", "the rest", "qS"]

    asyncio.run(case())


def test_of_a_signal_that_makes_it_stay_only_the_one_that_has_it_hears() -> None:
    class Hears(Lent):
        def signal(self, written: bytes) -> None:
            heard.append((self.place, written))

    heard: list[tuple[str, bytes]] = []

    async def case() -> None:
        stage, ctx = await opened(Discreet)
        fog, cloud = Hears(stage), Hears(stage, place="cloud")
        stage._follower = SimpleNamespace(leases={"fog": fog, "cloud": cloud}, came=lambda packet: None)

        def played(text: str) -> list[str]:
            heard.clear()
            stage.on_signal(Played(origin="said", epoch=1, text=text, complete=True), ctx)  # type: ignore[arg-type]
            return [place for place, written in heard if text.encode() in written]

        assert played("q") == ["fog", "cloud"]
        assert await stage.go(fog)  # type: ignore[arg-type]
        assert played("S") == ["fog"]
        await stage.come_home(lost=True)
        assert played("q") == []

    asyncio.run(case())
