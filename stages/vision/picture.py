"""A frame as a JPEG, for consumers of single pictures: within a size, and within a number of bytes."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from thalweg.pipeline.payload import VideoFrame
from thalweg.stages.vision.pixels import as_rgb

_QUALITIES = (3, 6, 12, 24, 31)  # MJPEG's quantisers; of a camera's picture the first is nearly always small enough


def as_jpeg(frame: VideoFrame, side: int, most_bytes: int) -> bytes | None:
    """The picture with its longer side no longer than `side` pixels, as good as `most_bytes` allow; None: not at all.

    Raises PayloadError on a layout unknown here.
    """
    import av

    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(as_rgb(frame)), format="rgb24")
    share = min(1.0, side / max(picture.width, picture.height))
    width, height = (max(2, round(length * share) // 2 * 2) for length in (picture.width, picture.height))
    small = picture.reformat(width, height, "yuvj420p", interpolation="AREA" if share < 1 else "BICUBIC")
    for quality in _QUALITIES:
        coder = av.CodecContext.create("mjpeg", "w")
        coder.width, coder.height, coder.pix_fmt, coder.time_base = width, height, "yuvj420p", Fraction(1, 1)
        coder.qmin = coder.qmax = quality
        small.pts = 0
        made = b"".join(bytes(part) for part in (*coder.encode(small), *coder.encode(None)))
        if len(made) <= most_bytes:
            return made
    return None
