"""A machine that looks at frames: it reads what is written there, and says how well it could."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from thalweg.models.vision.ocr import Line, TextReader
from thalweg.pipeline.duration import MS, Duration
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Detection, Detections, VideoFrame
from thalweg.pipeline.stage import Context
from thalweg.stages.vision.interval import Interval
from thalweg.stages.vision.pixels import as_rgb


class TextInFrames:
    """Reads the text in frames (PP-OCR), at most once per `every` of capture time; other frames are skipped.

    `confidence` is the mean score of the lines, weighted by their length; 0 where nothing was found. Connect it by a
    `latest` channel: reading takes longer than a frame lasts.
    """

    inputs = {"frame": VideoFrame}
    outputs = {"detections": Detections}
    blocking = True

    def __init__(
        self,
        every: Annotated[Duration, Field(description="shortest time between two examined frames")] = 500 * MS,
        score: Annotated[float, Field(ge=0, le=1, description="lines with a lower score are dropped")] = 0.5,
    ) -> None:
        self._interval = Interval(every)
        self._score = score
        self._reader: TextReader | None = None

    def open(self, ctx: Context) -> None:
        """Load the networks."""
        self._reader = TextReader()

    def process(self, packet: Packet, ctx: Context) -> None:
        """Read a frame, if it is time. A capture time before the last one (a restarted clock) is read at once."""
        frame = packet.payload
        assert isinstance(frame, VideoFrame) and self._reader is not None
        if not self._interval.due(packet.time):
            return
        pixels = as_rgb(frame)
        lines = self._reader.read(pixels) if min(pixels.shape[:2]) >= 8 else []
        height, width = pixels.shape[:2]
        items = tuple(
            Detection(
                kind="text",
                text=line.text,
                score=line.score,
                x=line.x / width,
                y=line.y / height,
                width=line.width / width,
                height=line.height / height,
            )
            for line in lines
            if line.score >= self._score
        )
        ctx.emit(Detections(items=items, confidence=readability(lines)))


def readability(lines: list[Line]) -> float:
    """How sure a reader is of what it read, 0…1: mean score by length of the lines; 0 where there are none."""
    length = sum(len(line.text) for line in lines)
    return min(1.0, sum(line.score * len(line.text) for line in lines) / length) if length else 0.0
