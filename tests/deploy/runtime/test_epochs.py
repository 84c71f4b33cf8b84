"""Whatever is said and interrupted, whenever: no packet of an older epoch comes out behind the interrupt."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.deploy.runtime.worker import Worker
from thalweg.deploy.testing import run_virtual
from thalweg.pipeline.channel import Policy
from thalweg.pipeline.clock import VirtualClock
from thalweg.pipeline.graph import Graph
from thalweg.pipeline.packet import AMBIENT, Packet
from thalweg.pipeline.payload import Token
from thalweg.pipeline.signal import Interrupt, Signal
from thalweg.pipeline.stage import Context

MS = 1_000_000


class Talk:
    """Follows a script: a packet of an epoch, an interrupt, a pause."""

    outputs = {"text": Token}

    def __init__(self, script: list[tuple[str, int]]) -> None:
        self.script = script

    async def run(self, ctx: Context) -> None:
        for what, value in self.script:
            if what == "say":
                await ctx.send(Token(text=""), time=ctx.now_ns(), epoch=value)
            elif what == "interrupt":
                ctx.signal(Interrupt(origin=ctx.name, epoch=value))
            else:
                await asyncio.sleep(value / 1000)


class Relay:
    """Passes on, after a while."""

    inputs = {"text": Token}
    outputs = {"text": Token}

    def __init__(self, delay_ms: int) -> None:
        self.delay_ms = delay_ms

    async def process(self, packet: Packet, ctx: Context) -> None:
        await asyncio.sleep(self.delay_ms / 1000)
        ctx.emit(packet.payload)


class PlainRelay(Relay):
    """Passes on at once, in place."""

    def process(self, packet: Packet, ctx: Context) -> None:  # type: ignore[override]
        ctx.emit(packet.payload)


class Hear:
    """Keeps epochs and interrupts in the order they came."""

    inputs = {"text": Token}

    def __init__(self) -> None:
        self.heard: list[tuple[str, int]] = []

    def on_signal(self, signal: Signal, ctx: Context) -> None:
        if isinstance(signal, Interrupt):
            self.heard.append(("interrupt", signal.epoch))

    def process(self, packet: Packet, ctx: Context) -> None:
        self.heard.append(("say", packet.epoch))


STEP = st.one_of(
    st.tuples(st.just("say"), st.integers(0, 4)),
    st.tuples(st.just("interrupt"), st.integers(1, 4)),
    st.tuples(st.just("pause"), st.integers(0, 5)),
)


@settings(deadline=None)
@given(st.lists(STEP, max_size=40), st.lists(st.integers(0, 4), min_size=1, max_size=3), st.sampled_from(Policy))
def test_nothing_stale_is_delivered_and_every_packet_is_accounted_for(
    script: list[tuple[str, int]], delays: list[int], policy: Policy
) -> None:
    graph = Graph()
    sink = Hear()
    graph.add("talk", Talk(script))
    previous = "talk"
    for i, delay in enumerate(delays):
        stage: Any = Relay(delay) if delay else PlainRelay(0)
        graph.add(f"relay{i}", stage)
        graph.connect(previous, f"relay{i}", policy=policy, capacity=3)
        previous = f"relay{i}"
    graph.add("hear", sink)
    graph.connect(previous, "hear", policy=policy, capacity=3)
    clock = VirtualClock()
    worker = Worker(graph, clock=clock)
    run_virtual(worker.run(), clock)

    floor = AMBIENT
    for what, epoch in sink.heard:
        if what == "interrupt":
            floor = max(floor, epoch)
        else:
            assert epoch == AMBIENT or epoch >= floor
    for edge in worker.edges:
        stats = edge.channel.stats
        assert stats.depth == 0
        assert stats.pushed == stats.popped + sum(stats.drops.values())
    said = [epoch for what, epoch in script if what == "say"]
    assert worker.edges[0].channel.stats.pushed == len(said)
    if policy is Policy.BLOCK:
        ambient = [epoch for what, epoch in sink.heard if what == "say" and epoch == AMBIENT]
        assert len(ambient) == said.count(AMBIENT)
