"""As many frames per slot as a viewer needs to get one of them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from thalweg.pipeline.duration import MS, Duration
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import VideoFrame
from thalweg.pipeline.stage import Context
from thalweg.pipeline.video.frame_rate import MOST


class FramesPerSlot:
    """Passes `frames` frames per slot of capture time, evenly spread, and drops the others.

    For a viewer that consumes one frame per slot: an earlier frame replaces a lost one, and nothing is retransmitted. A
    stage that measures losses, such as `video.link`, sets the number of frames while it runs
    (pipeline/video/frame_rate.py has the formula). A slot begins anew when the clock goes back.
    """

    inputs = {"frame": VideoFrame}
    outputs = {"frame": VideoFrame}
    configurable = ("frames",)

    def __init__(
        self,
        slot: Annotated[Duration, Field(ge=MS, description="the viewer consumes one frame in this time")] = 500 * MS,
        frames: Annotated[int, Field(ge=1, le=MOST, description="frames passed per slot")] = 2,
    ) -> None:
        self.frames = frames
        self._slot_ns = slot
        self._slot: int | None = None
        self._passed = 0

    def configure(self, settings: dict[str, Any]) -> None:
        """Taken from the next frame on."""
        self.frames = settings["frames"]

    def process(self, packet: Packet, ctx: Context) -> None:
        """Pass on a frame whose turn it is."""
        slot, into_ns = divmod(packet.time, self._slot_ns)
        if slot != self._slot:
            self._slot, self._passed = slot, 0
        if self._passed < self.frames and into_ns * self.frames >= self._passed * self._slot_ns:
            self._passed += 1
            ctx.emit(packet.payload)
