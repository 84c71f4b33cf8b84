"""What it costs: encoder time per frame with and without a map, and the time of a decision about regions.

Milliseconds of one core, not of the clock on the wall: everything measured here runs in the thread that asks for it,
and so a loaded machine changes little.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from thalweg.deploy.bench.result import quantile
from thalweg.deploy.bench.video.scenes import compose
from thalweg.pipeline.video.intent import by_rules
from thalweg.pipeline.video.quantiser import Patch, Shape, patches, penalties
from thalweg.pipeline.video.regions import Box
from thalweg.stages.video.coder import Coder
from thalweg.stages.video.lowpass import soften
from thalweg.stages.vision.relevance import Intent

SIZES = ((640, 480), (1280, 720))


def encoding(frames: int) -> dict[tuple[str, str], list[float]]:
    """(size, system) → milliseconds per frame, the systems taking turns frame by frame; conversion to YUV included."""
    import cv2

    clip = compose(900, seconds=4.0)
    found: dict[tuple[str, str], list[float]] = {}
    for width, height in SIZES:
        shown = [np.ascontiguousarray(cv2.resize(frame, (width, height))) for frame in clip.frames]
        rate = 500_000 * width * height // (640 * 480)
        coders = {name: Coder(bitrate_bps=rate, rate=10.0) for name in ("uniform", "thalweg", "moving", "lowpass")}
        for i in range(frames):
            frame = shown[i % len(shown)]
            boxes = clip.questions[0].boxes
            for name, coder in coders.items():
                box = boxes[i % len(boxes)] if name == "moving" else boxes[0]
                start = time.thread_time()
                pixels, tiles = frame, _map(box, width, height) if name in ("thalweg", "moving") else ()
                if name == "lowpass":
                    pixels = soften(frame, penalties([box], width, height), Shape().block, Shape().floor)
                coder.encode(pixels, "rgb24", i * 100_000_000, tiles)
                if i:
                    found.setdefault((f"{width}×{height}", name), []).append(1e3 * (time.thread_time() - start))
    return found


def _map(box: Box, width: int, height: int) -> tuple[Patch, ...]:
    """The rectangles of one box: part of what allocation costs."""
    return patches(penalties([box], width, height), width, height, Shape().block)


def deciding(frames: int) -> dict[str, list[float]]:
    """Question → milliseconds per decision at 640×480; of text, the looks of the detector apart."""
    clip = compose(901, seconds=2.0)
    found: dict[str, list[float]] = {}
    for name, words in (
        ("colour", "where is the red thing"),
        ("motion", "is it moving"),
        ("salient", "describe the picture"),
    ):
        intent = Intent()
        intent.hear(words)
        _time(intent, clip.frames, frames, partial(_note, found, name))
    intent = Intent()
    intent.hear("what does it say")
    _time(
        intent,
        clip.frames,
        frames,
        lambda i, ms: found.setdefault("text, detector" if i % 5 == 0 else "text, between", []).append(ms),
    )
    for _ in range(frames):
        start = time.thread_time()
        by_rules("what does the yellow label on the left say")
        found.setdefault("words by rules", []).append(1e3 * (time.thread_time() - start))
    return found


def sentence(frames: int) -> list[float]:
    """Milliseconds to understand a question by the sentence model; empty where its weights are not here."""
    from thalweg.models import ModelStore
    from thalweg.models.language.minilm import NAME, SentenceModel

    store = ModelStore()
    if not {one.model.name: one.complete for one in store.list()}[NAME]:
        return []
    model = SentenceModel(*store.pull(NAME))
    times = []
    for _ in range(frames):
        start = time.thread_time()
        model.embed("what does the yellow label on the left say")
        times.append(1e3 * (time.thread_time() - start))
    return times


def _note(found: dict[str, list[float]], name: str, _: int, ms: float) -> None:
    found.setdefault(name, []).append(ms)


def _time(
    intent: Intent, pictures: tuple[NDArray[np.uint8], ...], frames: int, note: Callable[[int, float], object]
) -> None:
    for i in range(frames):
        start = time.thread_time()
        intent.boxes(pictures[i % len(pictures)], i * 100_000_000)
        if i:
            note(i, 1e3 * (time.thread_time() - start))


def middle(values: list[float]) -> tuple[float, float]:
    """Median and 95th percentile."""
    return quantile(values, 0.5), quantile(values, 0.95)
