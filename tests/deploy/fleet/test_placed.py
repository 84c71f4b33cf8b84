"""A stage that moves, with a lent worker that does what a test wants."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from thalweg.deploy.fleet.placing import placed
from thalweg.deploy.fleet.placing.lenders import Lender
from thalweg.deploy.fleet.placing.placed import PlacedStage
from thalweg.pipeline.fleet.moving.places import PlaceOf, Placing
from thalweg.pipeline.graph import Vertex
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Token
from thalweg.pipeline.signal import Interrupt
from thalweg.pipeline.stage import Context, describe
from thalweg.transports.codec import decode, encode
from thalweg.transports.fleet.lease import LeaseError
from thalweg.transports.state import pack_state, unpack_state


class Joined:
    """Its state is all that it was given."""

    inputs = {"token": Token}
    outputs = {"token": Token}

    def __init__(self) -> None:
        self.text = ""
        self.broken = False

    def process(self, packet: Packet[Token], ctx: Context) -> None:
        self.text += packet.payload.text
        ctx.emit(Token(text=self.text))

    def snapshot(self) -> dict[str, str]:
        return {"text": self.text}

    def restore(self, state: dict[str, str]) -> None:
        if self.broken:
            raise ValueError("no")
        self.text = state["text"]


class Ctx:
    """What a worker gives a stage."""

    name = "joined"

    def __init__(self) -> None:
        self.out: list[str] = []
        self.reported: list[str] = []

    def emit(self, payload: Token, **_: Any) -> None:
        self.out.append(payload.text)

    def report(self, problem: str) -> None:
        self.reported.append(problem)

    def now_ns(self) -> int:
        return 0


@dataclass
class Lent:
    """A lent worker: keeps what it is given until `answer` is called."""

    stage: PlacedStage
    lender: Lender = field(default_factory=lambda: Lender(place="fog", name="fog-1", host="h", port=1))
    place: str = "fog"
    ready: bool = True
    generation: int = 0
    there: Joined = field(default_factory=Joined)
    took_ns: int = 3_000_000
    link_ns: int = 40_000_000
    given: list[tuple[int, Packet]] = field(default_factory=list)

    def begin(self, generation: int, state: bytes) -> None:
        self.generation = generation
        self.there.restore(unpack_state(state))

    def packet(self, generation: int, number: int, record: bytes) -> None:
        self.given.append((number, decode(record)))

    def answer(self, *, state: bool = False, generation: int | None = None) -> None:
        number, packet = self.given.pop(0)
        ctx = Ctx()
        self.there.process(packet, ctx)  # type: ignore[arg-type]
        result = b"".join(encode(token(ctx.out[0], "token")))
        packed = pack_state(self.there.snapshot()) if state else None
        self.stage.answered(self, generation or self.generation, number, (result,), packed, "")  # type: ignore[arg-type]

    def begins(self, *texts: str) -> None:
        """Says so of the first packet that is not answered, and is still at work."""
        results = tuple(b"".join(encode(token(text, "token"))) for text in texts)
        self.stage.part(self, self.generation, self.given[0][0], results)  # type: ignore[arg-type]

    def end(self, why: str) -> None:
        self.ready = False


def token(text: str, stream: str = "a.token") -> Packet[Token]:
    return Packet(stream=stream, seq=0, time=0, payload=Token(text=text))


class Speller(Joined):
    """Says its state letter by letter."""

    def process(self, packet: Packet[Token], ctx: Context) -> None:
        self.text += packet.payload.text
        for letter in self.text:
            ctx.emit(Token(text=letter))


class Talker(Joined):
    """Would not say the same again."""

    def __init__(self) -> None:
        super().__init__()
        self.began: list[tuple[str, list[str], bool]] = []

    async def go_on(self, packet: Packet[Token], sent: Any, over: bool, ctx: Context) -> None:
        self.began.append((packet.payload.text, [payload.text for payload in sent], over))
        ctx.emit(Token(text="the rest"))
        self.text += packet.payload.text


async def opened(kind: type[Joined] = Joined) -> tuple[PlacedStage, Ctx]:
    places = (PlaceOf(name="edge"), PlaceOf(name="fog"))
    placing = Placing(use="joined", stateful=True, places=places, goes_on=hasattr(kind, "go_on"))
    stage = PlacedStage(kind(), Vertex(name="joined", info=describe(kind), make=kind, placing=placing))
    ctx = Ctx()
    await stage.open(ctx)  # type: ignore[arg-type]
    return stage, ctx


async def away(before: str = "a", kind: type[Joined] = Joined) -> tuple[PlacedStage, Ctx, Lent]:
    stage, ctx = await opened(kind)
    for text in before:
        await stage.process(token(text), ctx)  # type: ignore[arg-type]
    lent = Lent(stage)
    assert await stage.go(lent)  # type: ignore[arg-type]
    return stage, ctx, lent


async def give(stage: PlacedStage, ctx: Ctx, texts: str) -> None:
    for text in texts:
        await stage.process(token(text), ctx)  # type: ignore[arg-type]


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
        monkeypatch.setattr(placed, "LARGEST_RECORD", 1000)
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
