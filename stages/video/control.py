"""Telling a video sender how much the viewer needs."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from thalweg.pipeline.duration import MS, Duration
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Detections, Transcript
from thalweg.pipeline.signal import Bitrate, Configure, Direction, Signal
from thalweg.pipeline.stage import Context, Port
from thalweg.pipeline.video.rate_control import TIERS_BPS, RateChoice, RateController
from thalweg.pipeline.video.region_benefit import RegionBenefit


class RateForViewer:
    """Raises the bit rate until the viewer can read, and no further; controls the encoder upstream by signals.

    Connect it after the viewer. The limit of the network comes as a `Bitrate` signal from a transport, or is set. A
    final transcript is a new question, for which the search starts again. If the viewer stays unsure although regions
    are followed, they are ignored for a while, to find out whether they are wrong. Without answers nothing is decided,
    and the encoder keeps its last settings.
    """

    inputs = {"detections": Detections, "transcript": Port(Transcript, required=False)}
    configurable = ("ceiling",)

    def __init__(
        self,
        encoder: Annotated[str, Field(description="name of the stage that encodes")] = "encoder",
        ceiling: Annotated[int, Field(ge=0, description="capacity of the network, bit/s")] = TIERS_BPS[-1],
        threshold: Annotated[
            float, Field(gt=0, lt=1, description="confidence from which the picture is good enough")
        ] = 0.8,
        patience: Annotated[
            Duration, Field(description="a lower bit rate is tried after the viewer was sure for this long")
        ] = 4_000 * MS,
        frames: Annotated[float, Field(gt=0, description="frames per second that the viewer needs at least")] = 2.0,
    ) -> None:
        self.ceiling = ceiling
        self._encoder = encoder
        self._frames = frames
        self._controller = RateController(
            threshold=threshold, patience_s=patience / 1e9, rates=(min(2.0, frames), max(10.0, frames))
        )
        self._trust = RegionBenefit(threshold=threshold, unsure=4)
        self._sent: list[tuple[int, int, bool]] = []
        self._last: RateChoice | None = None

    def configure(self, settings: dict[str, Any]) -> None:
        """Another ceiling."""
        self.ceiling = settings["ceiling"]

    def on_signal(self, signal: Signal, ctx: Context) -> None:
        """What a transport measured."""
        if isinstance(signal, Bitrate) and signal.origin != ctx.name:
            self.ceiling = max(0, signal.bitrate_bps)

    def process(self, packet: Packet, ctx: Context) -> None:
        """Take an answer, decide anew."""
        payload = packet.payload
        if isinstance(payload, Transcript):
            if payload.final:
                self._controller.ask()
                self._trust.ask()
            return
        assert isinstance(payload, Detections)
        at_the_time = [(rate, followed) for time_ns, rate, followed in self._sent if time_ns <= packet.time]
        if at_the_time:
            rate, followed = at_the_time[-1]
            self._controller.answer(payload.confidence, rate, packet.time)
            self._trust.answer(payload.confidence, followed, packet.time)
        now_ns = ctx.now_ns()
        choice = self._controller.decide(self.ceiling, now_ns, frames_per_s=self._frames)
        follow = self._trust.follows(now_ns)
        before = self._sent[-1][1:] if self._sent else (None, None)
        if (choice.bitrate_bps, follow) != before:
            self._sent = [*self._sent[-31:], (now_ns, choice.bitrate_bps, follow)]
        if choice.bitrate_bps != before[0]:
            ctx.signal(Bitrate(origin=ctx.name, bitrate_bps=choice.bitrate_bps), Direction.UP)
        last = self._last
        if follow != before[1] or last is None or (choice.rate, choice.scale) != (last.rate, last.scale):
            settings = {"rate": choice.rate, "scale": choice.scale, "follow": follow}
            ctx.signal(Configure(origin=ctx.name, stage=self._encoder, settings=settings), Direction.UP)
        self._last = choice
