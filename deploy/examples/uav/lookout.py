"""What the drone of `uav.yaml` makes of a decision, and of a picture that goes to the hub."""

from __future__ import annotations

import numpy as np

from thalweg import Context, Packet
from thalweg.pipeline.payload import Decision, Detection, Detections, Regions, VideoFrame

GRID = 4


class Lookout:
    """A decision as a detection that fills the picture."""

    inputs = {"decision": Decision}
    outputs = {"detections": Detections}

    def process(self, packet: Packet, ctx: Context) -> None:
        """Pass one on; what only verifies an earlier one is no news."""
        decision = packet.payload
        assert isinstance(decision, Decision)
        if not decision.verifies:
            seen = Detection(
                kind="ground", text=decision.name, score=decision.confidence, x=0.0, y=0.0, width=1.0, height=1.0
            )
            ctx.emit(Detections(items=(seen,), confidence=decision.confidence))


class Ground:
    """The most even part of a picture, as a region that matters: where one could land is to be seen sharply."""

    inputs = {"frame": VideoFrame}
    outputs = {"regions": Regions}

    def process(self, packet: Packet, ctx: Context) -> None:
        """Look at every fourth pixel."""
        frame = packet.payload
        assert isinstance(frame, VideoFrame)
        grey = frame.pixels[::4, ::4].mean(axis=2)
        rough = [[part.std() for part in np.array_split(row, GRID, axis=1)] for row in np.array_split(grey, GRID)]
        down, right = divmod(int(np.argmin(rough)), GRID)
        ctx.emit(Regions(boxes=((right / GRID, down / GRID, 1 / GRID, 1 / GRID, 1.0),)))
