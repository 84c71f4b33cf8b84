"""Accuracy against actual bit rate: even coding and allocation, with regions that are right, wrong, stale or absent.

Each system codes the same clip at the same actual bit rate: its target is adjusted until what came out is within
3 % of what is wanted. Key frames are counted. The intent system sees what a sender sees, uncoded frames, through
PP-OCR's text finder every half second, and uses its boxes one frame late.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from thalweg.deploy.bench.video.scenes import Clip, Question
from thalweg.deploy.bench.video.viewer import answers, moments, needed
from thalweg.pipeline.quantiser import Shape, levels, patches, penalties
from thalweg.pipeline.regions import Box, RegionTrack, usable
from thalweg.pipeline.trust import Trust
from thalweg.stages.coder import CODECS, Coder, Decoder, prepared
from thalweg.stages.drift import Drift
from thalweg.stages.lowpass import soften
from thalweg.stages.relevance import Intent

Pixels = NDArray[np.uint8]
Looks = Callable[[int], tuple[tuple[Box, ...], float]]
"""Frame number → boxes and strength."""

TOLERANCE = 0.03
_TRIES = 7
SHARPEST = 18
HALF_LIFE_NS = 2_000_000_000
SURE = 0.93
"""PP-OCR is surer than right: below this, on scenes kept apart for tuning, most of its readings were wrong."""
OPENING = 20
OPENING_FRAMES = 5
SYSTEMS = ("uniform", "oracle", "intent", "intent, told", "wrong", "wrong, told", "stale 1 s", "stale 3 s", "lowpass")


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
    encoder stage does where it is told to: what is spent there is spent before anybody knows on what."""
    boxes, strength = looks(i)
    found = penalties(boxes, width, height, shape=shape, strength=round(strength * 8) / 8)
    if opening and i < OPENING_FRAMES and not any(looks(k)[1] for k in range(i + 1)):
        found[:] = opening
    return found


class Told:
    """A viewer that says twice a second how sure it is, heard two frames later, and what the sender makes of it."""

    def __init__(self, clip: Clip, codec: str, question: Question) -> None:
        self._clip, self._question = clip, question
        self._trust, self._decoder = Trust(threshold=SURE), Decoder(codec)
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


def looks_of(system: str, footage: Footage, question: Question, shown: Intended) -> Looks:
    """What each system knows at each frame. `shown`: what intent found, the same for all questions about text."""
    rate = footage.clip.rate
    if system == "oracle":
        return lambda i: ((question.boxes[i],), 1.0)
    if system in ("intent", "intent, told", "lowpass"):
        return shown.at
    if system.startswith("wrong"):
        x, y, width, height, _ = question.boxes[len(question.boxes) // 2]
        away: Box = ((x + 0.5) % (1 - width), (y + 0.5) % (1 - height), width, height, 1.0)
        return lambda i: ((away,), 1.0)
    if system.startswith("stale"):
        late = round(float(system.split()[1].rstrip(",")) * rate)
        return lambda i: _late(footage, question, i, late)
    return lambda i: ((), 0.0)


def _late(footage: Footage, question: Question, i: int, late: int) -> tuple[tuple[Box, ...], float]:
    """What was right `late` frames ago, faded, and moved as the picture has moved since."""
    if i < late:
        return (), 0.0
    (x, y), (x0, y0) = footage.places[i], footage.places[i - late]
    left, top, *rest = question.boxes[i - late]
    strength = 0.5 ** (late / footage.clip.rate * 1e9 / HALF_LIFE_NS)
    return usable([(left + x - x0, top + y - y0, *rest)]), strength


class Intended:
    """What the intent model makes of a clip and its question: one frame late, moved with the picture."""

    def __init__(self, clip: Clip, words: str) -> None:
        intent, track, stands = Intent(), RegionTrack(), places(clip)
        intent.hear(words)
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
    system: str, footage: Footage, codec: str, looks: Looks, shape: Shape, question: Question
) -> Callable[[int], Coded]:
    method = "lowpass" if system == "lowpass" else "quantiser"
    opening = 0 if system in ("uniform", "oracle", "lowpass") else OPENING

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


def curves(
    clips: Iterable[Clip],
    kind: str,
    codec: str,
    rates_bps: Sequence[int],
    systems: Sequence[str] = SYSTEMS,
    shape: Shape | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> dict[tuple[str, int], Tally]:
    """(system, wanted bit/s) → tally, over all clips that can be asked about."""
    shape = shape or Shape()
    tallies = {(system, rate): Tally() for system in systems for rate in rates_bps}
    for clip in clips:
        found = asked(clip, kind)
        if found is None:
            continue
        question, good = found
        footage, shown = Footage(clip), Intended(clip, question.words)
        for system in systems:
            looks = looks_of(system, footage, question, shown)
            first = 1.1
            for rate in rates_bps:
                coded, hit = matched(_encoder(system, footage, codec, looks, shape, question), rate, first)
                first = coded.target_bps / rate
                pictures = coded.pictures(codec, needed(question, good))
                tally = tallies[system, rate]
                tally.missed += not hit
                tally.right.append([answers(question, pictures, at)[0] for at in good])
                tally.bitrates.append(coded.bitrate_bps)
        report(clip.name)
    return tallies


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
