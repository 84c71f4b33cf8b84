"""A machine that says in plain terms what a picture shows: its light, its colours, faces, people, what moves.

It needs no downloaded network: colours are named by hue, faces and people are found by OpenCV's own detectors (Viola
and Jones; Dalal and Triggs), motion by the difference from the previous frame after the camera's own shift is removed.
So it cannot recognise objects, places or identities, and does not describe them.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from thalweg.models.vision.detectors import Faces, Found, Motion, People, colour_share
from thalweg.pipeline.duration import MS, Duration
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Detection, Detections, VideoFrame
from thalweg.pipeline.stage import Context
from thalweg.stages.vision.interval import Interval
from thalweg.stages.vision.pixels import as_rgb

COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "brown", "white", "gray", "black")
MUCH = 0.15
"""Share of a picture from which on a colour is worth a word."""
DARK, BRIGHT = 40.0, 215.0
"""Mean of the pixels, 0…255, below which a picture is called dark, above which bright."""


class PictureInWords:
    """Examines a frame at most once per `every` of capture time; other frames are skipped.

    Emits detections of the kinds `light` (dark, bright), `colour` (its name; `score` is its share of the picture),
    `face`, `person` and `motion`. Connect it by a `latest` channel: detection takes longer than a frame lasts.
    """

    inputs = {"frame": VideoFrame}
    outputs = {"detections": Detections}
    blocking = True

    def __init__(
        self,
        every: Annotated[Duration, Field(description="shortest time between two examined frames")] = 1000 * MS,
        people: Annotated[bool, Field(description="detect people, too: 130 ms per frame; faces take 25 ms")] = True,
    ) -> None:
        self._interval = Interval(every)
        self._look_for_people = people
        self._motion = Motion()
        self._faces: Faces | None = None
        self._people: People | None = None

    def open(self, ctx: Context) -> None:
        """Load the detectors. Raises ModelError where OpenCV has none."""
        self._faces = Faces()
        self._people = People() if self._look_for_people else None

    def process(self, packet: Packet, ctx: Context) -> None:
        """Look at a frame, if it is time, or if its time lies before the last one: a restarted clock."""
        frame = packet.payload
        assert isinstance(frame, VideoFrame) and self._faces is not None
        if not self._interval.due(packet.time):
            return
        pixels = as_rgb(frame)
        items = [*_light(pixels), *_colours(pixels)]
        if min(pixels.shape[:2]) >= 24:
            items += _boxes("motion", self._motion.find(pixels)[:1], pixels)
            items += _boxes("face", self._faces.find(pixels), pixels)
            items += _boxes("person", self._people.find(pixels) if self._people is not None else [], pixels)
        ctx.emit(Detections(items=tuple(items)))


def _light(pixels: NDArray[np.uint8]) -> list[Detection]:
    mean = float(pixels.mean()) if pixels.size else 0.0
    word = "dark" if mean < DARK else "bright" if mean > BRIGHT else ""
    return [_whole("light", word, 1.0)] if word else []


def _colours(pixels: NDArray[np.uint8]) -> list[Detection]:
    shares = sorted(((colour_share(pixels, name), name) for name in COLOURS), reverse=True)
    return [_whole("colour", name, min(1.0, share)) for share, name in shares if share >= MUCH][:3]


def _whole(kind: str, text: str, score: float) -> Detection:
    return Detection(kind=kind, text=text, score=score, x=0.0, y=0.0, width=1.0, height=1.0)


def _boxes(kind: str, found: list[Found], pixels: NDArray[np.uint8]) -> list[Detection]:
    height, width = pixels.shape[:2]
    return [
        Detection(
            kind=kind,
            text="",
            score=f.score,
            x=f.x / width,
            y=f.y / height,
            width=f.width / width,
            height=f.height / height,
        )
        for f in found
    ]
