"""The rate for a viewer as a stage: its signals reach the encoder."""

from __future__ import annotations

from typing import Any

from thalweg.deploy.runtime.worker import Worker
from thalweg.deploy.testing import run_virtual
from thalweg.pipeline.clock import VirtualClock
from thalweg.pipeline.graph import Graph
from thalweg.pipeline.payload import Detections
from thalweg.pipeline.signal import Bitrate, Direction, Signal
from thalweg.pipeline.stage import Context
from thalweg.stages.video.control import RateForViewer

S = 1_000_000_000


class Viewer:
    """Answers twice a second, sure from `needs` bit/s on; keeps the rates it was told."""

    outputs = {"detections": Detections}
    configurable = ("rate", "scale", "follow")

    def __init__(
        self,
        needs: int,
        seconds: int,
        ceiling: int | None = None,
        rate: float = 0.0,
        scale: float = 0.0,
        follow: bool = True,
    ) -> None:
        self._needs, self._seconds, self._ceiling = needs, seconds, ceiling
        self.rates = [200_000]
        self.settings: dict[str, Any] = {}

    async def run(self, ctx: Context) -> None:
        if self._ceiling is not None:
            ctx.signal(Bitrate(origin="transport", bitrate_bps=self._ceiling), Direction.DOWN)
        for i in range(2 * self._seconds):
            await ctx.sleep_until(i * S // 2)
            sure = 0.95 if self.rates[-1] >= self._needs else 0.3
            await ctx.send(Detections(items=(), confidence=sure), time=ctx.now_ns())

    def configure(self, settings: dict[str, Any]) -> None:
        self.settings |= settings

    def on_signal(self, signal: Signal, ctx: Context) -> None:
        if isinstance(signal, Bitrate) and signal.origin != "transport":
            self.rates.append(signal.bitrate_bps)


def run(viewer: Viewer) -> Viewer:
    graph, clock = Graph(name="test"), VirtualClock()
    graph.add("encoder", viewer)
    graph.add("control", RateForViewer(patience=1000 * S))
    graph.connect("encoder", "control.detections")
    run_virtual(Worker(graph, clock=clock).run(), clock)
    return viewer


def test_the_encoder_is_told_more_until_the_viewer_is_sure() -> None:
    rates = run(Viewer(800_000, 15)).rates
    assert rates == sorted(rates) and 800_000 <= rates[-1] <= 1_200_000


def test_the_ceiling_of_a_transport_holds() -> None:
    assert max(run(Viewer(800_000, 15, ceiling=300_000)).rates) <= 300_000


def test_frame_rate_and_size_are_configured_along_with_the_rate() -> None:
    viewer = run(Viewer(0, 3))
    assert viewer.settings["scale"] == 1.0 and 2.0 <= viewer.settings["rate"] <= 10.0


def test_a_viewer_that_stays_unsure_has_the_regions_left_alone_for_a_while() -> None:
    assert run(Viewer(10**9, 3, ceiling=200_000)).settings["follow"] is False
