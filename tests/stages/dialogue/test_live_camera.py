"""What the machine wants of a person's camera reaches the person's side."""

from __future__ import annotations

from typing import Any

import numpy as np

from thalweg.deploy.runtime.worker import Worker
from thalweg.deploy.testing import run_virtual
from thalweg.pipeline.clock import VirtualClock
from thalweg.pipeline.dialogue.events import Event, Limits, Look
from thalweg.pipeline.graph import Graph
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import VideoFrame
from thalweg.pipeline.signal import Bitrate, Configure, Direction, Region, Signal
from thalweg.pipeline.stage import Context
from thalweg.stages.dialogue import live

BOX = (0.25, 0.25, 0.5, 0.5, 1.0)


class Line:
    """A person's side that shows one frame and keeps what it is told."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.told: list[Event] = []

    def tell(self, event: Event) -> None:
        self.told.append(event)

    async def video(self) -> Any:
        import asyncio

        yield 0, VideoFrame(pixels=np.zeros((4, 4, 3), np.uint8))
        await asyncio.sleep(1.0)


class Viewer:
    """Raises the given signals when it sees a frame."""

    inputs = {"frame": VideoFrame}

    def __init__(self, signals: list[Signal]) -> None:
        self._signals = signals

    def process(self, packet: Packet, ctx: Context) -> None:
        for signal in self._signals:
            ctx.signal(signal, Direction.UP)


def told(monkeypatch: Any, signals: list[Signal], **settings: Any) -> list[Event]:
    clock = VirtualClock()
    line = Line(clock)
    monkeypatch.setattr(live, "current_peer", lambda stage: line)
    graph = Graph(name="test")
    graph.add("camera", live.LiveCamera(**settings))
    graph.add("viewer", Viewer(signals))
    graph.connect("camera", "viewer")
    worker = Worker(graph, clock=clock)
    run_virtual(worker.run(), clock)
    assert not worker.problems
    return line.told


def test_regions_and_the_rate_are_told(monkeypatch: Any) -> None:
    signals: list[Signal] = [Region(time=0, boxes=(BOX,)), Bitrate(bitrate_bps=90_000)]
    assert told(monkeypatch, signals) == [Look(boxes=(BOX,)), Limits(bitrate_bps=90_000)]


def test_frame_rate_and_size_are_told_and_regions_can_be_switched_off(monkeypatch: Any) -> None:
    settings = {"rate": 5.0, "scale": 0.5, "follow": False}
    signals: list[Signal] = [Configure(stage="camera", settings=settings), Region(time=0, boxes=(BOX,))]
    assert told(monkeypatch, signals) == [Look(boxes=()), Limits(rate=5.0, scale=0.5)]


def test_a_pipeline_may_ask_for_a_picture_that_is_sharp_only_there(monkeypatch: Any) -> None:
    assert told(monkeypatch, [Region(time=0, boxes=(BOX,))], soften=True) == [Look(boxes=(BOX,), soften=True)]


def test_boxes_that_are_none_are_not_told(monkeypatch: Any) -> None:
    nan = float("nan")
    assert told(monkeypatch, [Region(time=0, boxes=((nan, 0, 1, 1, 1), (5, 5, 1, 1, 1)))]) == [Look(boxes=())]


def test_what_is_set_in_the_file_is_told_at_the_start(monkeypatch: Any) -> None:
    assert told(monkeypatch, [], rate=8.0) == [Limits(rate=8.0)]
