"""What the drone of `uav.yaml` makes of a decision: something to be placed on a map."""

from __future__ import annotations

from thalweg import Context, Packet
from thalweg.pipeline.payload import Decision, Detection, Detections


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
