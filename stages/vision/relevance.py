"""Relevance models: frame and words in, weighted boxes out. Which one, a pipeline chooses by name.

    none      never has an opinion; the picture is coded evenly
    oracle    reads the boxes from a file, for measurement
    intent    the words say what to look for, detectors say where it is
    feedback  where the viewer found something before, it will look again
    clip      patches whose embedding is near the words', with weights of the user's own

The camera's motion between two looks of a slow detector is taken from the picture and applied to the boxes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from thalweg.models.errors import ModelError
from thalweg.models.store.bounded import read_text_at_most
from thalweg.models.vision.clip import PatchRelevance
from thalweg.models.vision.detectors import Faces, Found, Motion, People, colour_share, coloured, salient
from thalweg.models.vision.ocr import TextReader
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.payload import Detection
from thalweg.pipeline.video.intent import Kind, by_rules, named_colour
from thalweg.pipeline.video.regions import LIMIT, Box, usable
from thalweg.stages.vision.interval import Interval

Pixels = NDArray[np.uint8]
Understand = Callable[[str], dict[Kind, float]]
_FINDING_WIDTH = 640
_COLOURED = 0.25
_OTHER = 0.15


class Relevance(Protocol):
    """What a region stage asks. `boxes` gives the regions of a frame and how sure it is, 0…1, or None: no news."""

    def hear(self, words: str) -> None:
        """The question so far, or the whole of it."""
        ...

    def see(self, detections: Sequence[Detection], time_ns: int) -> None:
        """What the viewer made of an earlier frame."""
        ...

    def boxes(self, pixels: Pixels, time_ns: int) -> tuple[tuple[Box, ...], float] | None:
        """Where it matters in this frame."""
        ...


class Nothing:
    """No opinion, ever."""

    def hear(self, words: str) -> None:
        """Ignored."""

    def see(self, detections: Sequence[Detection], time_ns: int) -> None:
        """Ignored."""

    def boxes(self, pixels: Pixels, time_ns: int) -> tuple[tuple[Box, ...], float] | None:
        """None."""
        return None


class Oracle(Nothing):
    """Boxes from a file of JSON lines, `{"time_ms": 0, "boxes": [[x, y, width, height, weight], …]}`, in order."""

    def __init__(self, path: Path) -> None:
        try:
            lines = [json.loads(line) for line in read_text_at_most(path).splitlines() if line.strip()]
            self._known = [(round(line["time_ms"] * 1e6), usable(line["boxes"])) for line in lines]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise ThalwegError(f"{path} does not hold regions, one JSON object a line: {error!r}") from None
        self._start_ns: int | None = None

    def boxes(self, pixels: Pixels, time_ns: int) -> tuple[tuple[Box, ...], float] | None:
        """The last ones at or before this time, counted from the first frame."""
        self._start_ns = time_ns if self._start_ns is None else self._start_ns
        past = [boxes for at_ns, boxes in self._known if at_ns <= time_ns - self._start_ns]
        return (past[-1], 1.0) if past else None


class Feedback(Nothing):
    """Where the viewer found what it found, enlarged by half; an empty answer changes nothing."""

    def __init__(self) -> None:
        self._news: tuple[tuple[Box, ...], float] | None = None

    def see(self, detections: Sequence[Detection], time_ns: int) -> None:
        """Take over the boxes."""
        if detections:
            boxes = usable(grown((d.x, d.y, d.width, d.height, max(0.1, d.score)), 0.5) for d in detections)
            self._news = boxes, min(1.0, sum(box[4] for box in boxes) / max(1, len(boxes)))

    def boxes(self, pixels: Pixels, time_ns: int) -> tuple[tuple[Box, ...], float] | None:
        """What came since the last call."""
        news, self._news = self._news, None
        return news


SURENESS = {Kind.MOTION: 0.0}
"""What a place that was found for a kind is worth to a viewer, 0…1; others: 1. To tell where a thing moves it takes the
whole picture (docs/benchmarks/video.md)."""


class Intent(Nothing):
    """What the words ask for, where detectors see it.

    Slow detectors (text, faces, people) look at most once per `every_ns`; in between their boxes follow the camera.
    A colour that is named along with something else ("the yellow label") tells which of those is meant. Without any
    words it has no opinion. Where what is asked for is not found, it says so with an empty set.
    """

    def __init__(
        self,
        understand: Understand = by_rules,
        *,
        every_ns: int = 500_000_000,
        margin: float = 0.5,
        missing: Callable[[str], None] = lambda problem: None,
    ) -> None:
        self._understand = understand
        self._interval = Interval(every_ns)
        self._margin = margin
        self._missing = missing
        self._wanted: dict[Kind, float] = {}
        self._colour: str | None = None
        self._motion = Motion()
        self._kept: list[tuple[Kind, Found]] = []
        self._slow: dict[Kind, Callable[[Pixels], list[Found]] | None] = {}

    @property
    def wanted(self) -> dict[Kind, float]:
        """What is looked for now, with weights."""
        return dict(self._wanted)

    def hear(self, words: str) -> None:
        """Words that give nothing away leave what was wanted before."""
        wanted = self._understand(words)
        if wanted and wanted.keys() != self._wanted.keys():
            self._interval.reset()
        if wanted:
            self._wanted, self._colour = wanted, named_colour(words)

    def boxes(self, pixels: Pixels, time_ns: int) -> tuple[tuple[Box, ...], float] | None:
        """Boxes of all kinds that are wanted, with a margin; sure as the best of them, as far as places help."""
        if not self._wanted:
            return None
        moving = self._motion.find(pixels)
        dx, dy = self._motion.shift
        self._kept = [(kind, found._replace(x=found.x + dx, y=found.y + dy)) for kind, found in self._kept]
        if self._interval.due(time_ns):
            self._kept = [(kind, found) for kind in self._wanted for found in self._look(kind, pixels)]
            self._kept = [(kind, self._named(found, pixels)) for kind, found in self._kept]
        found = list(self._kept)
        if Kind.MOTION in self._wanted:
            found += [(Kind.MOTION, one) for one in moving]
        if Kind.COLOUR in self._wanted and self._colour is not None and not self._kept:
            # How much of a patch is vivid says nothing about whether it is meant: all count as much as the best.
            patches = coloured(pixels, self._colour)
            found += [(Kind.COLOUR, one._replace(score=max(p.score for p in patches))) for one in patches]
        if Kind.SALIENT in self._wanted:
            found += [(Kind.SALIENT, one) for one in salient(pixels)]
        height, width = pixels.shape[:2]
        weighted = [
            grown(
                (one.x / width, one.y / height, one.width / width, one.height / height, one.score * self._wanted[kind]),
                self._margin,
            )
            for kind, one in found
        ]
        sure = max((one.score * self._wanted[kind] * SURENESS.get(kind, 1.0) for kind, one in found), default=0.0)
        return usable(weighted, LIMIT), min(1.0, max(0.0, sure))

    def _named(self, found: Found, pixels: Pixels) -> Found:
        """Of several things found, the one that has the colour the question names counts, the others hardly."""
        if self._colour is None or Kind.COLOUR not in self._wanted:
            return found
        x, y = max(0, round(found.x)), max(0, round(found.y))
        inside = pixels[y : y + max(1, round(found.height)), x : x + max(1, round(found.width))]
        return found._replace(score=found.score if colour_share(inside, self._colour) > _COLOURED else _OTHER)

    def _look(self, kind: Kind, pixels: Pixels) -> list[Found]:
        if kind not in self._slow:
            self._slow[kind] = self._load(kind)
        look = self._slow[kind]
        return look(pixels) if look is not None else []

    def _load(self, kind: Kind) -> Callable[[Pixels], list[Found]] | None:
        """The slow detector of a kind; one that is not installed is said once, and what stands out is looked at."""
        try:
            if kind is Kind.TEXT:
                reader = TextReader()
                return lambda pixels: [
                    Found(line.x, line.y, line.width, line.height, 1.0) for line in reader.find(pixels, _FINDING_WIDTH)
                ]
            if kind is Kind.FACE:
                return Faces().find
            if kind is Kind.PERSON:
                return People().find
        except ModelError as error:
            self._missing(str(error))
            return salient
        return None


class Clip(Nothing):
    """Patches whose embedding is near the words', every `every_ns`; see `clip.py` for the weights it needs."""

    def __init__(self, folder: Path, *, every_ns: int = 500_000_000) -> None:
        self._model = PatchRelevance(folder)
        self._interval = Interval(every_ns)

    def hear(self, words: str) -> None:
        """Another thing to look for."""
        self._model.hear(words)
        self._interval.reset()

    def boxes(self, pixels: Pixels, time_ns: int) -> tuple[tuple[Box, ...], float] | None:
        """The patches that stand out, if it is time to look again."""
        if not self._interval.due(time_ns):
            return None
        height, width = pixels.shape[:2]
        found = self._model.find(pixels)
        result = usable((f.x / width, f.y / height, f.width / width, f.height / height, f.score) for f in found)
        return result, max((box[4] for box in result), default=0.0)


def grown(box: Box, margin: float) -> Box:
    """The box with `margin` of its longer side added around it, and never less than a fiftieth of the frame."""
    x, y, width, height, weight = box
    more = max(0.02, margin * min(width, height))
    return x - more, y - more, width + 2 * more, height + 2 * more, weight
