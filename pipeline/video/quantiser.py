"""Where bits go: regions → by how much each block of a picture is coded more coarsely.

The shape is ZeCoStream's (arXiv 2602.12641), per block at distance d from the nearest box, d_max the farthest block:

    r = 1 − d / d_max (1 inside),  QP = 51 · (1 − r^γ),  penalty = clamp(round(QP) − 26, 0, floor)

A region is never boosted: the background is penalised, and rate control hands what that frees to the region. A
larger γ narrows the halo around a region: at 640×480 what lies within about 60 pixels goes without a penalty at γ = 6,
within 10 at 32. `floor` is how far the background may fall: 25 is the paper's and for
pictures in which nothing but the region matters; a lower one keeps a stale or wrong region from blinding the viewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from thalweg.pipeline.video.regions import Box

LIGHT = 0.25
"""A box that weighs less than this share of the heaviest counts nothing."""

MAX_QP = 51
BASE_QP = 26


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """`gamma`: steepness, 2…6 in the paper; `floor`: largest penalty, QP steps; `block`: side of a block, pixels.

    The defaults suit small things, such as print, in regions that come with a margin and follow the camera; the paper's
    are γ = 3 and blocks of 64, which forgive a box that is a little off.
    """

    gamma: float = 32.0
    floor: int = 25
    block: int = 32


@dataclass(frozen=True, slots=True, order=True)
class Patch:
    """A rectangle of equally penalised blocks, in pixels."""

    x: int
    y: int
    width: int
    height: int
    penalty: int


def penalties(
    boxes: Sequence[Box], width: int, height: int, *, shape: Shape | None = None, strength: float = 1.0
) -> NDArray[np.int8]:
    """[rows, columns] int8, 0…floor: QP steps by which each block is coarser than the region.

    All zeros, which is uniform coding, without boxes or strength. A box of half the weight of the heaviest gets half of
    what that is spared. `strength` 0…1 scales the result.
    """
    shape = shape or Shape()
    columns, rows = -(-width // shape.block), -(-height // shape.block)
    if not boxes or not strength > 0:
        return np.zeros((rows, columns), np.int8)
    left = np.arange(columns) * shape.block
    top = np.arange(rows) * shape.block
    right, bottom = np.minimum(left + shape.block, width), np.minimum(top + shape.block, height)
    heaviest = max(box[4] for box in boxes)
    penalty = np.full((rows, columns), float(shape.floor))
    for x, y, box_width, box_height, weight in boxes:
        share = weight / heaviest
        if share < LIGHT:
            continue
        dx = np.maximum(0, np.maximum(x * width - right, left - (x + box_width) * width))
        dy = np.maximum(0, np.maximum(y * height - bottom, top - (y + box_height) * height))
        distance = np.hypot(dx[None, :], dy[:, None])
        farthest = distance.max()
        near = 1 - distance / farthest if farthest > 0 else np.ones_like(distance)
        found = np.clip(np.rint(MAX_QP * (1 - near**shape.gamma)) - BASE_QP, 0, shape.floor)
        np.minimum(penalty, shape.floor - share * (shape.floor - found), out=penalty)
    return np.asarray(np.rint(penalty * min(1.0, strength)), np.int8)


def levels(penalty: NDArray[np.int8], count: int) -> NDArray[np.int8]:
    """The map with at most `count` different values, zero among them; for encoders that take only so many."""
    top = int(penalty.max(initial=0))
    if len(np.unique(penalty)) <= count:
        return penalty
    steps = max(1, count - 1)
    return np.asarray(np.rint(np.rint(penalty * (steps / top)) * (top / steps)), np.int8)


def patches(penalty: NDArray[np.int8], width: int, height: int, block: int) -> tuple[Patch, ...]:
    """The map as few rectangles: runs of equal blocks, joined downwards. They tile the picture; zeros are left out."""
    finished: list[Patch] = []
    growing: dict[tuple[int, int, int], int] = {}
    rows, _ = penalty.shape
    for row in range(rows + 1):
        runs = _runs(penalty[row]) if row < rows else []
        for key in [key for key in growing if key not in runs]:
            start, stop, value = key
            y, x = growing.pop(key) * block, start * block
            finished.append(Patch(x, y, min(stop * block, width) - x, min(row * block, height) - y, value))
        for key in runs:
            growing.setdefault(key, row)
    return tuple(sorted(finished))


def _runs(row: NDArray[np.int8]) -> list[tuple[int, int, int]]:
    """(first, one past the last, value) of each run that is not zero."""
    edges = [0, *(np.flatnonzero(np.diff(row)) + 1).tolist(), len(row)]
    return [(a, b, int(row[a])) for a, b in pairwise(edges) if row[a]]
