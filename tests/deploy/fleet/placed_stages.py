"""Stages that can be moved, and a lent worker that does what a test wants."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from thalweg.deploy.fleet.placing.lenders import Lender
from thalweg.deploy.fleet.placing.placed import PlacedStage
from thalweg.pipeline.fleet.moving.places import PlaceOf, Placing
from thalweg.pipeline.graph import Vertex
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Token
from thalweg.pipeline.stage import Context, describe
from thalweg.transports.codec import decode, encode
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
