"""Video over bad links, simulated to the packet under a virtual clock: real encoder, real decoder, real reader.

A film of several scenes, each with its own question, is sent frame by frame in packets of at most 1200 bytes through
`pipeline/video/impairment.py`. The viewer looks twice a second at the newest frame it could decode and says how sure it
is; that reaches the sender 180 ms later. A frame of which a packet is lost cannot be decoded, nor those after it,
until the key frame that the receiver asks for arrives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from thalweg.deploy.bench.video.allocation import Intended
from thalweg.deploy.bench.video.footage import SURE
from thalweg.deploy.bench.video.scenes import Clip, Question, compose
from thalweg.deploy.bench.video.traces import Trace
from thalweg.deploy.bench.video.viewer import around, asked_for, reader, reads
from thalweg.pipeline.video.congestion import CongestionEstimate, Report
from thalweg.pipeline.video.impairment import Impairment, Link
from thalweg.pipeline.video.quantiser import Shape, patches, penalties
from thalweg.pipeline.video.rate_control import PUBLISHED_CONFIDENCE, TIERS_BPS, RateController
from thalweg.pipeline.video.region_benefit import RegionBenefit
from thalweg.pipeline.video.regions import Box
from thalweg.stages.video.coder import Coder, Decoder, prepared
from thalweg.stages.vision.read import readability

Pixels = NDArray[np.uint8]
MS = 1_000_000
FRAME_NS = 100 * MS
SLOT_NS = 500 * MS
PACKET = 1200
DELAY_MS = 30.0
ANSWER_NS = 180 * MS
TIERS = tuple(tier // 5 for tier in TIERS_BPS)
"""The published tiers over five: our film has 640×480 pixels at 10 frames a second, and print is large in it."""
PRIOR = tuple(SURE * c / 0.8 if c < 0.8 else SURE + (c - 0.8) * (1 - SURE) / 0.2 for c in PUBLISHED_CONFIDENCE)
"""The published curve on this viewer's scale: what is 0.8 there is `SURE` here."""

SYSTEMS = ("thalweg", "rate only", "congestion", "fixed-rate")


@dataclass(slots=True)
class Film:
    """Scenes one after the other, ready to be coded; and at which slots the uncoded picture can be read."""

    clips: list[Clip]
    frames: list[object] = field(default_factory=list)
    looks: list[tuple[tuple[Box, ...], float]] = field(default_factory=list)
    readable: set[int] = field(default_factory=set)

    def question(self, frame: int) -> Question:
        """What is asked while that frame is shown."""
        return self.clips[frame // len(self.clips[0].frames)].questions[0]

    def box(self, frame: int) -> Box:
        """Where the answer is in it."""
        return self.question(frame).boxes[frame % len(self.clips[0].frames)]

    def read(self, pixels: Pixels, frame: int) -> tuple[bool, float]:
        """Whether the viewer reads the answer in a picture of that frame, and how sure it is."""
        question, part = self.question(frame), around(pixels, self.box(frame))
        lines = reader().read(part)
        return reads(question.answer, lines), readability(asked_for(question.words, lines, part))


def film(seeds: Sequence[int], seconds: float = 8.0) -> Film:
    """Compose it."""
    made = Film([compose(seed, seconds=seconds) for seed in seeds])
    for clip in made.clips:
        made.frames += [prepared(frame, "rgb24") for frame in clip.frames]
        shown = Intended(clip, clip.questions[0].words)
        made.looks += [shown.at(i) for i in range(len(clip.frames))]
    every = SLOT_NS // FRAME_NS
    pictures = [frame for clip in made.clips for frame in clip.frames]
    made.readable = {i for i in range(0, len(pictures), every) if made.read(pictures[i], i)[0]}
    return made


@dataclass(slots=True)
class Run:
    """What came of one run: per slot right or not, stalled or not; per decoded frame its latency; bits sent."""

    right: list[bool] = field(default_factory=list)
    stalled: list[bool] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)
    bits: int = 0
    keys: int = 0
    seconds: float = 0.0


class Receiver:
    """Puts packets together, decodes in order, asks for a key frame where one is missing."""

    def __init__(self) -> None:
        self.decoder = Decoder()
        self.missing: dict[int, int] = {}
        self.units: dict[int, tuple[bytes, bool]] = {}
        self.next = 0
        self.broken = False
        self.picture: tuple[int, Pixels] | None = None

    def expect(self, number: int, data: bytes, key: bool, packets: int) -> None:
        """A frame is on its way."""
        self.units[number] = data, key
        self.missing[number] = packets

    def lose(self, number: int) -> None:
        """One of its packets will not come."""
        self.missing[number] = 1_000_000

    def take(self, number: int) -> bool:
        """A packet of a frame has come. True if the frame is whole and can be decoded."""
        self.missing[number] -= 1
        if self.missing[number]:
            return False
        data, key = self.units.pop(number)
        for lost in [n for n in self.units if n < number]:
            del self.units[lost]
        if (self.broken or number != self.next) and not key:
            self.broken = True
            self.next = number + 1
            return False
        if key and self.broken:
            self.decoder = Decoder()
        self.broken, self.next = False, number + 1
        for frame in self.decoder.frames(data, key):
            self.picture = number, frame
        return True


def run(system: str, shown: Film, trace: Trace, seed: int = 0, *, fixed_bps: int = 300_000) -> Run:
    """One system over one trace."""
    link = Link(delay_ms=DELAY_MS, jitter_ms=3.0, trace=trace, queue_bytes=60_000)
    path = Impairment[tuple[int, int, int]](link, seed)
    estimate = CongestionEstimate(200_000, lowest_bps=20_000)
    control = RateController(tiers_bps=TIERS, prior=PRIOR, rates=(4.0, 10.0), threshold=SURE)
    trust, receiver, found = RegionBenefit(threshold=SURE, unsure=4), Receiver(), Run()
    coder = Coder(bitrate_bps=control.decide(200_000, 0).bitrate_bps, rate=10.0, buffer_s=0.3, sharpest=18)
    reports: list[tuple[int, Report]] = []
    answers: list[tuple[int, float, int, bool]] = []
    asked: Question | None = None
    rate_of: dict[int, tuple[int, bool]] = {}
    captured: dict[int, int] = {}
    key_asked_ns: int | None = None
    number = 0
    for i, frame in enumerate(shown.frames):
        now = i * FRAME_NS
        while path.next_ns is not None and path.next_ns <= now:
            at = path.next_ns
            while (packet := path.pop(at)) is not None:
                which, size, sent = packet
                reports.append((at + round(DELAY_MS * MS), Report(sent, at, size)))
                if receiver.take(which):
                    found.latency_ms.append((at - captured[which]) / MS)
                elif receiver.broken and key_asked_ns is None:
                    key_asked_ns = at + round(DELAY_MS * MS)
        if i % (SLOT_NS // FRAME_NS) == 0 and i >= 10:
            _look(shown, receiver, captured, now, found, answers, rate_of)
        estimate.update(now, [report for due, report in reports if due <= now])
        reports = [(due, report) for due, report in reports if due > now]
        if asked is not shown.question(i):
            asked = shown.question(i)
            control.ask()
            trust.ask()
        for due, sure, bps, followed in [a for a in answers if a[0] <= now]:
            control.answer(sure, bps, due)
            trust.answer(sure, followed, due)
        answers = [a for a in answers if a[0] > now]
        target, every = target_of(system, control, estimate, now, fixed_bps)
        if i % every:
            continue
        follow = system == "thalweg" and trust.follows(now)
        boxes, strength = shown.looks[i] if follow else ((), 0.0)
        found_map = penalties(boxes, 640, 480, shape=Shape(), strength=round(strength * 8) / 8)
        if key_asked_ns is not None and key_asked_ns <= now:
            coder.request_key()
            key_asked_ns = None
            receiver.broken = True
        coder.set_bitrate(round(target * every))
        for unit in coder.encode_prepared(frame, now, patches(found_map, 640, 480, Shape().block)):
            sizes = [PACKET] * (len(unit.data) // PACKET) + [len(unit.data) % PACKET or PACKET]
            receiver.expect(number, unit.data, unit.key, len(sizes))
            rate_of[number], captured[number] = (target, follow), now
            found.bits += 8 * len(unit.data)
            found.keys += unit.key
            for size in sizes:
                if path.push((number, size, now), size, now) is not None:
                    receiver.lose(number)
                    reports.append((now + round(2 * DELAY_MS * MS), Report(now, None, size)))
            number += 1
    found.seconds = len(shown.frames) * FRAME_NS / 1e9
    return found


def target_of(
    system: str, control: RateController, estimate: CongestionEstimate, now: int, fixed_bps: int
) -> tuple[int, int]:
    """Bit rate, and every how many frames one is sent."""
    if system == "fixed-rate":
        return fixed_bps, 1
    if system == "congestion":
        return estimate.ceiling_bps, 1
    choice = control.decide(estimate.ceiling_bps, now)
    return choice.bitrate_bps, 1 if choice.rate > 5 else 2


def _look(
    shown: Film,
    receiver: Receiver,
    captured: dict[int, int],
    now: int,
    found: Run,
    answers: list[tuple[int, float, int, bool]],
    rate_of: dict[int, tuple[int, bool]],
) -> None:
    """The viewer looks at the newest picture; what it makes of it counts where the uncoded one can be read."""
    slot = now // FRAME_NS
    if receiver.picture is None:
        found.stalled.append(True)
        if slot in shown.readable:
            found.right.append(False)
        return
    number, picture = receiver.picture
    at = captured[number] // FRAME_NS
    found.stalled.append(now - captured[number] > 1_000 * MS)
    right, sure = shown.read(picture.to_ndarray(format="rgb24"), at)  # type: ignore[attr-defined]
    if slot in shown.readable:
        found.right.append(right and shown.question(at) is shown.question(slot))
    answers.append((now + ANSWER_NS, sure, *rate_of[number]))
