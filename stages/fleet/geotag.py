"""`fleet.geotag`: where the vehicle was when a picture was taken in which something was seen."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from thalweg.pipeline.fleet.pose import EXTRAPOLATED_NS, Pose, Track
from thalweg.pipeline.fleet.telemetry import Telemetry, pose_of
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Detections
from thalweg.pipeline.stage import Context, Port

WAITING = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class LocatedDetections(Detections):
    """Detections with the position of the vehicle at their time, degrees and m; None where unknown.

    `uncertainty_m`: one standard deviation of the vehicle's position. The position of the detected object would need
    the camera's geometry, which is not known here.
    """

    latitude: float | None = None
    longitude: float | None = None
    altitude_m: float | None = None
    heading: float | None = None
    uncertainty_m: float | None = None


class Geotag:
    """Adds the position of the vehicle to detections, interpolated between two poses.

    A packet waits for a later pose, 250 ms at most. Without one its position is extrapolated for up to 200 ms after the
    newest pose, and unknown beyond. Order is kept. `no_place` counts packets without a position.
    """

    inputs = {"detections": Port(Detections), "telemetry": Port(Telemetry)}
    outputs = {"detections": LocatedDetections}
    patience_ns = EXTRAPOLATED_NS + 50_000_000

    def __init__(self) -> None:
        self._track = Track()
        self._newest_ns = -(1 << 62)
        self._waiting: deque[tuple[Packet, int]] = deque()
        self.counts = {"placed": 0, "no_place": 0}

    def process(self, packet: Packet, ctx: Context) -> None:
        """Take a pose, or something that was seen."""
        payload = packet.payload
        if isinstance(payload, Telemetry):
            self._track.add(pose_of(payload, packet.time))
            self._newest_ns = max(self._newest_ns, packet.time)
        else:
            self._waiting.append((packet, ctx.now_ns() + self.patience_ns))
        self._go_on(ctx)

    def wake(self, ctx: Context) -> None:
        """The oldest has waited long enough."""
        self._go_on(ctx)

    def finish(self, ctx: Context) -> None:
        """Nothing more is told."""
        while self._waiting:
            self._emit(ctx, self._waiting.popleft()[0])

    def _go_on(self, ctx: Context) -> None:
        while self._waiting:
            packet, until_ns = self._waiting[0]
            if packet.time > self._newest_ns and ctx.now_ns() < until_ns and len(self._waiting) <= WAITING:
                ctx.wake_at(until_ns)
                return
            self._waiting.popleft()
            self._emit(ctx, packet)

    def _emit(self, ctx: Context, packet: Packet) -> None:
        seen = packet.payload
        assert isinstance(seen, Detections)
        pose = self._track.at(packet.time)
        self.counts["no_place" if pose is None else "placed"] += 1
        ctx.emit(_located(seen, pose), time=packet.time, epoch=packet.epoch, deadline=packet.deadline)


def _located(seen: Detections, pose: Pose | None) -> LocatedDetections:
    if pose is None:
        return LocatedDetections(items=seen.items, confidence=seen.confidence)
    return LocatedDetections(
        items=seen.items,
        confidence=seen.confidence,
        latitude=pose.latitude,
        longitude=pose.longitude,
        altitude_m=pose.altitude_m,
        heading=pose.heading,
        uncertainty_m=pose.uncertainty_m,
    )
