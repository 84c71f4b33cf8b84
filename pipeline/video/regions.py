"""Regions over time: what is still worth how much, where it has moved to, and what cannot be used at all.

Theory of operation. A viewer (a detector, a vision-language model, a browser) says from time to time where detail
matters. Between two answers boxes are interpolated. After the last one they are reused and lose half of their strength
every half-life, so that a stale region does little harm. Answers may come late or out of order: each is stored under
the capture time of its frame, and a frame uses the answers nearest in time.

    boxes around a frame's time             used                          strength
    one before, one after                   interpolated, matched by      the lower of the two confidences
                                            nearest centre
    before only                             the last ones                 confidence · ½^(age / half-life)
    after only, or none                     none                          0

Strength scales the quantiser map: at 0 the picture is coded as if there were no regions.

A caller that knows how the camera moved gives the position of the picture at both times (`origin`, `here`: sums of
shifts, as shares of the frame). Boxes then stay on their objects.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections.abc import Iterable

Box = tuple[float, float, float, float, float]
"""x, y, width, height, weight: all 0…1 of the frame."""

LIMIT = 32
KEPT = 16
WORTHLESS = 0.05


def usable(boxes: Iterable[Iterable[float]], limit: int = LIMIT) -> tuple[Box, ...]:
    """The boxes cut to the frame, heaviest first, at most `limit`.

    Left out: what is not five finite numbers, lies outside, has no area or no weight. Weights above 1 count as 1.
    """
    found: list[Box] = []
    for box in boxes:
        values = tuple(box)
        if len(values) != 5 or not all(math.isfinite(value) for value in values):
            continue
        x, y, width, height, weight = values
        left, top = max(0.0, x), max(0.0, y)
        right, bottom = min(1.0, x + width), min(1.0, y + height)
        if right > left and bottom > top and weight > 0:
            found.append((left, top, right - left, bottom - top, min(1.0, weight)))
    found.sort(key=lambda box: -box[4])
    return tuple(found[:limit])


def between(before: tuple[Box, ...], after: tuple[Box, ...], share: float) -> tuple[Box, ...]:
    """Boxes at `share` 0…1 of the way: each of `after` comes from the nearest one of `before` that is left.

    What has no partner stands still; a box that is only in `before` fades with the share, one only in `after` grows.
    """
    left = list(before)
    mixed: list[Box] = []
    for box in after:
        partner = min(left, key=lambda other: _distance(other, box), default=None)
        if partner is None or _distance(partner, box) > 0.5:
            mixed.append((*box[:4], box[4] * share))
            continue
        left.remove(partner)
        x, y, width, height, weight = (a + (b - a) * share for a, b in zip(partner, box, strict=True))
        mixed.append((x, y, width, height, weight))
    mixed += [(*box[:4], box[4] * (1 - share)) for box in left]
    return tuple(box for box in mixed if box[4] > 0)


class RegionTrack:
    """The regions of one stream. Memory is bounded: only the last few answers are kept."""

    def __init__(self) -> None:
        self._answers: list[tuple[int, tuple[Box, ...], float, int]] = []

    def __len__(self) -> int:
        """Answers that are kept; 0 until the first has come."""
        return len(self._answers)

    def update(
        self,
        time_ns: int,
        boxes: Iterable[Iterable[float]],
        confidence: float,
        half_life_ns: int,
        origin: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        """An answer about the frame of `time_ns`; an empty one says that nothing matters more than the rest.

        A confidence that is not a number counts as none. A second answer for the same time replaces the first. A time
        far before the last one (a restarted clock) starts the track anew.
        """
        sure = min(1.0, max(0.0, confidence)) if math.isfinite(confidence) else 0.0
        half_life_ns = max(1, half_life_ns)
        if self._answers and time_ns < self._answers[-1][0] - 60 * half_life_ns:
            self._answers.clear()
        self._answers = [answer for answer in self._answers if answer[0] != time_ns]
        insort(self._answers, (time_ns, _moved(usable(boxes), -origin[0], -origin[1]), sure, half_life_ns))
        del self._answers[:-KEPT]

    def at(self, time_ns: int, here: tuple[float, float] = (0.0, 0.0)) -> tuple[tuple[Box, ...], float]:
        """The boxes for a frame and their strength 0…1, by the table above; none where all have left the frame."""
        boxes, strength = self._at(time_ns)
        if here != (0.0, 0.0):
            boxes = usable(_moved(boxes, *here))
        return (boxes, strength) if boxes else ((), 0.0)

    def _at(self, time_ns: int) -> tuple[tuple[Box, ...], float]:
        place = bisect_right(self._answers, time_ns, key=lambda answer: answer[0])
        if not place:
            return (), 0.0
        start_ns, boxes, confidence, half_life_ns = self._answers[place - 1]
        if place < len(self._answers):
            end_ns, later, sure, _ = self._answers[place]
            share = (time_ns - start_ns) / (end_ns - start_ns)
            return between(boxes, later, share), min(confidence, sure)
        strength = confidence * 0.5 ** min(1000.0, (time_ns - start_ns) / half_life_ns)
        return (boxes, strength) if boxes and strength >= WORTHLESS else ((), 0.0)


def _moved(boxes: tuple[Box, ...], dx: float, dy: float) -> tuple[Box, ...]:
    return tuple((x + dx, y + dy, width, height, weight) for x, y, width, height, weight in boxes)


def _distance(a: Box, b: Box) -> float:
    return math.hypot(a[0] + a[2] / 2 - b[0] - b[2] / 2, a[1] + a[3] / 2 - b[1] - b[3] / 2)
