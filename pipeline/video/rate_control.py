"""How many bits a viewer needs: up to the rate at which it can read, and no further (ReCapABR, arXiv 2602.12641).

Theory of operation. Two numbers meet: the ceiling of the network, and the viewer's confidence for this question,
which is remembered per tier of bit rate. At each decision, in this order:

    situation                                       next rate
    current above the ceiling                       the ceiling
    not sure, and answers do come                   first tier that is believed to be enough, interpolated and capped
                                                    at the ceiling; where none is, the next tier
    sure (confidence ≥ threshold)                   stay: headroom is not grown into
    sure for `patience`                             probe one small step down, once; if that turns out too little, back
                                                    up, and the next probe waits twice as long
    no answer for `patience`                        what the prior curve calls enough, capped

Belief per tier: the mean of the answers at that rate, begun with a prior (the paper's 166-clip curve) that one answer
outweighs; an answer at one rate also says that all lower ones are no better, all higher ones no worse. A new question
forgets all answers. A viewer that never answers gets the prior's rate; one that always says "perfect" is probed down
to the lowest tier and stays there.

Frame rate and size follow from the rate: first as many frames as the viewer consumes (with the loss-resilient extra
of `framerate.py`), then the largest picture that leaves each pixel enough bits, then more frames from what is left.
A smaller size costs a key frame, so it must be wanted for two seconds.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

_S = 1_000_000_000

TIERS_BPS = (200_000, 400_000, 610_000, 910_000, 1_710_000, 3_150_000)
"""The published tiers."""

PUBLISHED_CONFIDENCE = (0.468, 0.804, 0.893, 0.945, 0.969, 0.983)
"""Mean confidence per tier over the paper's 166 clips: the prior, and a fixed input for tests."""

_SCALES = (1.0, 0.75, 0.5, 0.375, 0.25)
_ENOUGH_BITS_PER_PIXEL = 0.03
_SCALE_WAIT_NS = 2 * _S
_ABOUT = 1.15
_KEPT = 8
_STEP = 1.3


@dataclass(frozen=True, slots=True, kw_only=True)
class RateChoice:
    """What to send: bit/s, frames a second, and the picture's size as a share of the camera's. `why`, for people."""

    bitrate_bps: int
    rate: float
    scale: float
    why: str


class RateController:
    """Chooses for one stream. Time is given; it may stand still or jump, which costs at most one early decision.

    `pixels`: of a full-size frame. `rates`: least and most frames a second. Raises ValueError on tiers that do not
    rise or a prior of another length.
    """

    def __init__(
        self,
        *,
        tiers_bps: Sequence[int] = TIERS_BPS,
        prior: Sequence[float] = PUBLISHED_CONFIDENCE,
        threshold: float = 0.8,
        patience_s: float = 4.0,
        pixels: int = 640 * 480,
        rates: tuple[float, float] = (2.0, 10.0),
    ) -> None:
        if list(tiers_bps) != sorted(set(tiers_bps)) or not tiers_bps or len(prior) != len(tiers_bps):
            raise ValueError(f"tiers are {tiers_bps} with prior {prior}, expected rising rates and as many confidences")
        self._tiers = tuple(tiers_bps)
        self._prior = tuple(prior)
        self._threshold = threshold
        self._patience_ns = round(patience_s * _S)
        self._pixels = pixels
        self._rates = rates
        self._bitrate = tiers_bps[0]
        self._scale = 1.0
        self._scale_since_ns: int | None = None
        self.ask()

    def ask(self) -> None:
        """A new question: what was enough for the last one says nothing about it."""
        self._answers: dict[int, deque[tuple[int, float]]] = {}
        self._confidence: float | None = None
        self._answered_ns: int | None = None
        self._sure_since_ns: int | None = None
        self._asked_ns: int | None = None
        self._hold_ns = self._patience_ns
        self._before_probe: int | None = None

    def answer(self, confidence: float, bitrate_bps: int, now_ns: int) -> None:
        """The viewer could read with this confidence 0…1 what was sent at that rate. Not a number counts as 0.

        An answer about another rate than the current one counts where it says something about it: sure at less, or
        unsure at more.
        """
        sure = min(1.0, max(0.0, confidence)) if math.isfinite(confidence) else 0.0
        bitrate_bps = min(100_000_000, max(1_000, bitrate_bps))
        place = round(math.log(bitrate_bps, _ABOUT))
        self._answers.setdefault(place, deque(maxlen=_KEPT)).append((bitrate_bps, sure))
        self._answered_ns = now_ns
        enough = sure >= self._threshold
        if (enough and bitrate_bps <= _ABOUT * self._bitrate) or (not enough and bitrate_bps * _ABOUT >= self._bitrate):
            self._confidence = sure if self._confidence is None else 0.5 * self._confidence + 0.5 * sure

    def believed(self, bitrate_bps: int) -> float:
        """The confidence that is expected at a rate, by the answers nearest to it and the prior."""
        prior = _interpolate(self._tiers, self._prior, bitrate_bps)
        weight, total = 0.3, 0.3 * prior
        for rate, sure in (answer for answers in self._answers.values() for answer in answers):
            relevant = (
                1.0
                if bitrate_bps / _ABOUT <= rate <= bitrate_bps * _ABOUT
                else float(sure > prior if rate < bitrate_bps else sure < prior)
            )
            weight += relevant
            total += relevant * sure
        return total / weight

    def decide(self, ceiling_bps: int, now_ns: int, *, frames_per_s: float | None = None) -> RateChoice:
        """What to send from now on. `frames_per_s`: what must get through at least; the least rate if left out."""
        rate, why = self._next(max(0, ceiling_bps), now_ns)
        self._bitrate = max(1_000, round(rate))
        least = min(self._rates[1], max(self._rates[0], frames_per_s or self._rates[0]))
        scale = self._settle_scale(self._largest(least), now_ns)
        affordable = self._bitrate / (_ENOUGH_BITS_PER_PIXEL * self._pixels * scale * scale)
        return RateChoice(
            bitrate_bps=self._bitrate, rate=max(least, min(self._rates[1], affordable)), scale=scale, why=why
        )

    def _next(self, ceiling: int, now_ns: int) -> tuple[float, str]:
        current = self._bitrate
        if self._asked_ns is None or now_ns < self._asked_ns:
            self._asked_ns = now_ns
        if self._answered_ns is not None and now_ns < self._answered_ns:
            self._answered_ns = now_ns
        if current > ceiling:
            self._sure_since_ns = None
            return ceiling, "network"
        heard = self._answered_ns if self._answered_ns is not None else self._asked_ns
        if now_ns - heard > self._patience_ns:
            return min(self._enough(prior_only=True) or self._tiers[-1], ceiling), "no answer"
        if self._confidence is None:
            return current, "waiting"
        if self._confidence < self._threshold:
            return self._raise(current, ceiling)
        return self._rest(current, now_ns)

    def _raise(self, current: int, ceiling: int) -> tuple[float, str]:
        self._sure_since_ns = None
        if self._before_probe is not None:
            back, self._before_probe = self._before_probe, None
            self._hold_ns *= 2
            self._confidence = None
            return min(back, ceiling), "probe failed"
        enough = self._enough()
        if enough is None:
            place = bisect_left(self._tiers, current * 1.02)
            enough = self._tiers[min(place, len(self._tiers) - 1)]
        # A smaller step would cost an answer, which is half a second, and tell next to nothing.
        target = min(max(enough, _STEP * current), ceiling, max(current, self._tiers[-1]))
        if target > current:
            self._confidence = None
        return target, "unsure"

    def _rest(self, current: int, now_ns: int) -> tuple[float, str]:
        if self._sure_since_ns is None or now_ns < self._sure_since_ns:
            self._sure_since_ns = now_ns
        if now_ns - self._sure_since_ns < self._hold_ns or current <= self._tiers[0]:
            return current, "sure"
        self._before_probe = current
        self._sure_since_ns = now_ns
        self._confidence = None
        return max(self._tiers[0], 0.8 * current), "probe"

    def _enough(self, *, prior_only: bool = False) -> float | None:
        """The least rate that is believed to reach the threshold, between tiers too."""
        beliefs = list(self._prior) if prior_only else [self.believed(tier) for tier in self._tiers]
        for i, belief in enumerate(beliefs):
            if belief >= self._threshold:
                if i == 0:
                    return self._tiers[0]
                low, high = min(beliefs[i - 1], self._threshold), belief
                share = (self._threshold - low) / (high - low) if high > low else 1.0
                return self._tiers[i - 1] + share * (self._tiers[i] - self._tiers[i - 1])
        return None

    def _largest(self, frames_per_s: float) -> float:
        for scale in _SCALES:
            if self._bitrate / (frames_per_s * self._pixels * scale * scale) >= _ENOUGH_BITS_PER_PIXEL:
                return scale
        return _SCALES[-1]

    def _settle_scale(self, wanted: float, now_ns: int) -> float:
        if wanted == self._scale:
            self._scale_since_ns = None
        elif self._scale_since_ns is None or now_ns < self._scale_since_ns:
            self._scale_since_ns = now_ns
        elif now_ns - self._scale_since_ns >= _SCALE_WAIT_NS:
            self._scale, self._scale_since_ns = wanted, None
        return self._scale


def _interpolate(xs: Sequence[int], ys: Sequence[float], x: float) -> float:
    """Linear between the points, flat beyond them."""
    if x <= xs[0]:
        return ys[0]
    for x0, x1, y0, y1 in zip(xs, xs[1:], ys, ys[1:], strict=False):
        if x <= x1:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    return ys[-1]
