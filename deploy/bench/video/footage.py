"""Codes a clip repeatedly: at a matched bit rate, with any quantiser map, with a viewer that answers or not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thalweg.deploy.bench.video.scenes import Clip, Question
from thalweg.deploy.bench.video.viewer import answers
from thalweg.pipeline.video.quantiser import Shape, levels, patches, penalties
from thalweg.pipeline.video.region_benefit import RegionBenefit
from thalweg.pipeline.video.regions import Box
from thalweg.stages.video.coder import CODECS, Coder, Decoder, prepared
from thalweg.stages.video.lowpass import soften
from thalweg.stages.vision.drift import Drift

Pixels = NDArray[np.uint8]
Looks = Callable[[int], tuple[tuple[Box, ...], float]]
"""Frame number → boxes and strength."""

TOLERANCE = 0.03
_TRIES = 7
SHARPEST = 18
SURE = 0.93
"""PP-OCR is surer than right: below this, on scenes kept apart for tuning, most of its readings were wrong."""
OPENING = 20
OPENING_FRAMES = 5


@dataclass(frozen=True, slots=True)
class Coded:
    """What came out: the units with their key flags, bit/s, and the target that led there."""

    units: list[tuple[bytes, bool]]
    bitrate_bps: float
    target_bps: int

    def pictures(self, codec: str, wanted: Iterable[int]) -> dict[int, Pixels]:
        """The decoded frames of these numbers."""
        decoder, numbers = Decoder(codec), set(wanted)
        frames = (frame for data, key in self.units for frame in decoder.frames(data, key))
        return {i: frame.to_ndarray(format="rgb24") for i, frame in enumerate(frames) if i in numbers}


class Footage:
    """A clip made ready to be coded many times over. `places`: where the picture stands at each frame (`Drift`)."""

    def __init__(self, clip: Clip) -> None:
        self.clip = clip
        self.frames = [prepared(frame, "rgb24") for frame in clip.frames]
        self.places = places(clip)

    def encode(
        self,
        codec: str,
        target_bps: int,
        looks: Looks,
        shape: Shape,
        method: str = "quantiser",
        opening: int = 0,
        told: Told | None = None,
    ) -> Coded:
        """Code it all at a target. `opening`: see `_map`; `told`: what the viewer says decides what is followed."""
        clip = self.clip
        coder = Coder(codec, bitrate_bps=target_bps, rate=clip.rate, least_buffer=0, sharpest=SHARPEST)
        units: list[tuple[bytes, bool]] = []
        for i, frame in enumerate(self.frames):
            height, width = clip.frames[i].shape[:2]
            follows = told is None or told.follows(i)
            found = _map(i, looks, width, height, shape, opening) if follows else penalties((), width, height)
            tiles = patches(levels(found, CODECS[codec].levels), width, height, shape.block)
            if method == "lowpass" and found.any():
                frame, tiles = prepared(soften(clip.frames[i], found, shape.block, shape.floor), "rgb24"), ()
            for unit in coder.encode_prepared(frame, round(i * 1e9 / clip.rate), tiles):
                units.append((unit.data, unit.key))
                if told is not None:
                    told.show(i, unit.data, unit.key, follows)
        units += [(unit.data, unit.key) for unit in coder.finish()]
        size = sum(len(data) for data, _ in units)
        return Coded(units, 8 * size * clip.rate / len(clip.frames), target_bps)


def _map(i: int, looks: Looks, width: int, height: int, shape: Shape, opening: int) -> NDArray[np.int8]:
    """The map of frame `i`. Before the first region has come the whole picture is `opening` steps coarser, as the
    encoder stage does where it is told to: bits spent then are spent before the important region is known."""
    boxes, strength = looks(i)
    found = penalties(boxes, width, height, shape=shape, strength=round(strength * 8) / 8)
    if opening and i < OPENING_FRAMES and not any(looks(k)[1] for k in range(i + 1)):
        found[:] = opening
    return found


class Told:
    """A viewer that says twice a second how sure it is, heard two frames later, and what the sender makes of it."""

    def __init__(self, clip: Clip, codec: str, question: Question) -> None:
        self._clip, self._question = clip, question
        self._trust, self._decoder = RegionBenefit(threshold=SURE), Decoder(codec)
        self._heard: list[tuple[int, float, bool]] = []
        self._every = round(clip.rate / 2)

    def follows(self, i: int) -> bool:
        """Whether regions are followed in frame `i`."""
        time_ns = round(i * 1e9 / self._clip.rate)
        for due, sure, used in self._heard:
            if due == i:
                self._trust.answer(sure, used, time_ns)
        return self._trust.follows(time_ns)

    def show(self, i: int, data: bytes, key: bool, followed: bool) -> None:
        """The viewer gets a frame."""
        for picture in self._decoder.frames(data, key):
            if i % self._every == 0 and i:
                pixels = picture.to_ndarray(format="rgb24")
                self._heard.append((i + 2, answers(self._question, {i: pixels}, i)[1], followed))


def places(clip: Clip) -> list[tuple[float, float]]:
    """Where the picture stands at each frame."""
    drift = Drift()
    return [drift.see(frame, i) for i, frame in enumerate(clip.frames)]


def matched(encode: Callable[[int], Coded], wanted_bps: float, first: float = 1.0) -> tuple[Coded, bool]:
    """What `encode` gives at an actual bit rate within 3 % of what is wanted, if there is a target that leads there.

    The nearest that was found, and False, where there is none. `first`: where to start, as a share of what is wanted.
    """
    target, low, high = wanted_bps * first, 0.0, float("inf")
    best: Coded | None = None
    for _ in range(_TRIES):
        coded = encode(round(target))
        if best is None or abs(coded.bitrate_bps - wanted_bps) < abs(best.bitrate_bps - wanted_bps):
            best = coded
        if abs(coded.bitrate_bps - wanted_bps) <= TOLERANCE * wanted_bps:
            return coded, True
        if coded.bitrate_bps < wanted_bps:
            low = max(low, target)
        else:
            high = min(high, target)
        step = target * wanted_bps / max(1.0, coded.bitrate_bps)
        if not low < step < high:
            step = (low + high) / 2 if high < float("inf") else 1.5 * target
        target = min(step, 4 * wanted_bps)
    assert best is not None
    return best, False
