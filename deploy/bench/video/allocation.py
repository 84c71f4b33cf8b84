"""Accuracy against actual bit rate: even coding and allocation, with regions that are right, wrong, stale or absent.

Each system codes the same clip at the same actual bit rate: its target is adjusted until what came out is within
3 % of what is wanted. Key frames are counted. The intent system sees what a sender sees, uncoded frames, through
PP-OCR's text finder every half second, and uses its boxes one frame late. Stale regions were right some time ago, and
are faded and moved with the picture as the encoder stage does it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from thalweg.deploy.bench.video.footage import OPENING, Coded, Footage, Looks, Told, matched, places
from thalweg.deploy.bench.video.scenes import Clip, Question
from thalweg.deploy.bench.video.viewer import answers, moments, needed
from thalweg.pipeline.video.quantiser import Shape
from thalweg.pipeline.video.regions import Box, RegionTrack, usable
from thalweg.stages.vision.relevance import Intent

HALF_LIFE_NS = 2_000_000_000
SYSTEMS = ("uniform", "oracle", "intent", "intent, told", "wrong", "wrong, told", "stale 1 s", "stale 3 s", "lowpass")


@dataclass(slots=True)
class Tally:
    """Right answers per clip and moment, at one rate of one system. `missed`: clips whose rate could not be matched."""

    right: list[list[bool]] = field(default_factory=list)
    bitrates: list[float] = field(default_factory=list)
    missed: int = 0

    def accuracy(self) -> float:
        """Share of moments answered rightly."""
        return float(np.mean([v for clip in self.right for v in clip])) if self.right else float("nan")

    def interval(self, seed: int = 0) -> tuple[float, float]:
        """95 % interval by resampling clips."""
        if not self.right:
            return float("nan"), float("nan")
        random = np.random.default_rng(seed)
        sums = np.array([(sum(clip), len(clip)) for clip in self.right], float)
        drawn = sums[random.integers(0, len(sums), (2000, len(sums)))].sum(1)
        low, high = np.quantile(drawn[:, 0] / np.maximum(1, drawn[:, 1]), [0.025, 0.975])
        return float(low), float(high)


def looks_of(system: str, footage: Footage, question: Question, shown: Intended) -> Looks:
    """What each system knows at each frame. `shown`: what intent found, the same for all questions about text."""
    rate = footage.clip.rate
    if system == "oracle":
        return lambda i: (question.regions(i), 1.0)
    if system in ("intent", "intent, told", "lowpass"):
        return shown.at
    if system.startswith("wrong"):
        away = tuple(_away(box) for box in question.regions(len(question.boxes) // 2))
        return lambda i: (away, 1.0)
    if system.startswith("stale"):
        late = round(float(system.split()[1].rstrip(",")) * rate)
        return lambda i: _late(footage, question, i, late)
    return lambda i: ((), 0.0)


def _late(footage: Footage, question: Question, i: int, late: int) -> tuple[tuple[Box, ...], float]:
    """What was right `late` frames ago, faded, and moved as the picture has moved since."""
    if i < late:
        return (), 0.0
    (x, y), (x0, y0) = footage.places[i], footage.places[i - late]
    moved = [(left + x - x0, top + y - y0, *rest) for left, top, *rest in question.regions(i - late)]
    return usable(moved), 0.5 ** (late / footage.clip.rate * 1e9 / HALF_LIFE_NS)


def _away(box: Box) -> Box:
    """As large a box, half the picture away."""
    x, y, width, height, weight = box
    return (x + 0.5) % max(1e-6, 1 - width), (y + 0.5) % max(1e-6, 1 - height), width, height, weight


class Intended:
    """What the intent model makes of a clip and its question: one frame late, moved with the picture, if anything."""

    def __init__(self, clip: Clip, words: str) -> None:
        intent, track, stands = Intent(), RegionTrack(), places(clip)
        intent.hear(words)
        self.opinion = bool(intent.wanted)
        self._found: list[tuple[tuple[Box, ...], float]] = []
        for i, frame in enumerate(clip.frames):
            time_ns = round(i * 1e9 / clip.rate)
            self._found.append(track.at(time_ns, stands[i]))
            found = intent.boxes(frame, time_ns)
            if found is not None:
                track.update(time_ns, found[0], found[1], HALF_LIFE_NS, stands[i])

    def at(self, i: int) -> tuple[tuple[Box, ...], float]:
        """For frame `i`."""
        return self._found[i]


def _encoder(
    system: str, footage: Footage, codec: str, looks: Looks, shape: Shape, question: Question, opinion: bool
) -> Callable[[int], Coded]:
    method = "lowpass" if system == "lowpass" else "quantiser"
    opening = OPENING if opinion and system not in ("uniform", "oracle", "lowpass") else 0

    def encode(target: int) -> Coded:
        told = Told(footage.clip, codec, question) if system.endswith("told") else None
        return footage.encode(codec, target, looks, shape, method, opening, told)

    return encode


def asked(clip: Clip, kind: str) -> tuple[Question, list[int]] | None:
    """The question of that kind and the moments at which it can be answered on the uncoded clip, if there are any."""
    for question in clip.questions:
        if question.kind == kind:
            good = [at for at in moments(clip) if answers(question, dict(enumerate(clip.frames)), at)[0]]
            return (question, good) if good else None
    return None


@dataclass(slots=True)
class Case:
    """A clip with its question, ready to be coded by any system."""

    question: Question
    good: list[int]
    footage: Footage
    shown: Intended

    @classmethod
    def of(cls, clip: Clip, kind: str) -> Case | None:
        """None where the clip has no such question, or none that can be answered uncoded."""
        found = asked(clip, kind)
        return None if found is None else cls(*found, Footage(clip), Intended(clip, found[0].words))

    def curve(self, codec: str, rates_bps: Sequence[int], system: str, shape: Shape | None = None) -> list[Any]:
        """For each rate: right or not per moment, the actual rate in bit/s, whether it could be matched."""
        shape = shape or Shape()
        looks = looks_of(system, self.footage, self.question, self.shown)
        encode = _encoder(system, self.footage, codec, looks, shape, self.question, self.shown.opinion)
        found, first = [], 1.1
        for rate in rates_bps:
            coded, hit = matched(encode, rate, first)
            first = coded.target_bps / rate
            pictures = coded.pictures(codec, needed(self.question, self.good))
            right = [answers(self.question, pictures, at)[0] for at in self.good]
            found.append((right, coded.bitrate_bps, hit))
        return found


def rate_for(tallies: dict[tuple[str, int], Tally], system: str, accuracy: float) -> float | None:
    """The bit rate, bit/s, at which a system first reaches an accuracy: between two points on a logarithmic scale.

    None where it never does; the lowest rate that was measured, where it does so already there.
    """
    points = sorted((float(np.mean(t.bitrates)), t.accuracy()) for (name, _), t in tallies.items() if name == system)
    for (low, less), (high, more) in pairwise([(points[0][0], points[0][1]), *points]):
        if more >= accuracy:
            share = (accuracy - less) / (more - less) if more > less else 1.0
            return float(np.exp(np.log(low) + max(0.0, share) * (np.log(high) - np.log(low))))
    return None
