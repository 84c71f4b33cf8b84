"""Which way up a picture is: cameras write what their sensor saw, and beside it how it is to be shown.

All ways are numbered as in EXIF (2.32, 4.6.5.A, Orientation): 1 as it is, 3 upside down, 6 to be turned clockwise,
8 counter-clockwise; 2, 4, 5 and 7 the same mirrored.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

AS_IT_IS = 1
_TAG = 0x112
_MATRICES = (
    (1, 0, 0, 1),
    (-1, 0, 0, 1),
    (-1, 0, 0, -1),
    (1, 0, 0, -1),
    (0, 1, 1, 0),
    (0, 1, -1, 0),
    (0, -1, -1, 0),
    (0, -1, 1, 0),
)
"""Where (1, 0), to the right, and (0, 1), down, are shown; of orientation 1 to 8."""

Look = Callable[[int, int], bytes]
"""The bytes at an offset, of a size; fewer where there are no more."""


def turned(orientation: int) -> bool:
    """Whether width and height change places."""
    return orientation >= 5


def upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """[height, width, 3], as it is to be shown."""
    if orientation == AS_IT_IS:
        return pixels
    if turned(orientation):
        pixels = pixels.transpose(1, 0, 2)
    right, down = _shown(orientation)
    return np.ascontiguousarray(pixels[:: 1 if down else -1, :: 1 if right else -1])


def _shown(orientation: int) -> tuple[bool, bool]:
    """Of the picture with its sides in place: whether columns and rows run as they are shown."""
    a, b, c, d = _MATRICES[orientation - 1]
    return a + c > 0, b + d > 0


def of_frame(frame: Any) -> int:  # Any: PyAV's
    """As its container says, by a matrix; turns of less than a quarter are left out."""
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV does not know all that FFmpeg hangs on frames
        turn = round((getattr(frame, "rotation", 0) or 0) / 90) % 4
        return (AS_IT_IS, 8, 3, 6)[turn]
    if matrix is None:
        return AS_IT_IS
    a, b, _, c, d = struct.unpack("=5i", bytes(matrix)[:20])
    likeness = [a * m[0] + b * m[1] + c * m[2] + d * m[3] for m in _MATRICES]
    return likeness.index(max(likeness)) + 1


def of_picture(look: Look) -> int | None:
    """As the EXIF of a JPEG, PNG, WebP or TIFF says; None of everything else."""
    head = look(0, 16)
    try:
        if head[:2] == b"\xff\xd8":
            return _jpeg(look)
        if head[:8] == b"\x89PNG\r\n\x1a\n":
            return _chunks(look, 8, b"eXIf", ">I4s", 4)
        if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
            return _chunks(look, 12, b"EXIF", "<4sI", 0)
        if head[:4] in (b"II*\0", b"MM\0*"):
            return _tiff(look, 0)
    except struct.error:  # it ends in the middle of what it says
        return AS_IT_IS
    return None


def _jpeg(look: Look) -> int:
    at = 2
    while (head := look(at, 10))[:1] == b"\xff" and len(head) == 10:
        mark, size = head[1], struct.unpack(">H", head[2:4])[0]
        if mark in (0xD9, 0xDA):
            break
        if mark == 0xE1 and head[4:] == b"Exif\0\0":
            return _tiff(look, at + 10)
        at += 1 if mark == 0xFF else 2 + size
    return AS_IT_IS


def _chunks(look: Look, at: int, wanted: bytes, head: str, behind: int) -> int:
    """Through the chunks of a PNG (their length first, a checksum behind) or WebP (their name first, padded)."""
    while len(found := look(at, 8)) == 8:
        first, second = struct.unpack(head, found)
        name, size = (second, first) if isinstance(first, int) else (first, second)
        if name == wanted:
            return _tiff(look, at + (14 if look(at + 8, 6) == b"Exif\0\0" else 8))
        at += 8 + size + (behind or size % 2)
    return AS_IT_IS


def _tiff(look: Look, start: int) -> int:
    order = "<" if look(start, 2) == b"II" else ">"
    first = struct.unpack(f"{order}I", look(start + 4, 4))[0]
    count = struct.unpack(f"{order}H", look(start + first, 2))[0]
    entries = look(start + first + 2, 12 * count)
    for at in range(0, len(entries) - 11, 12):
        tag, form, _, value = struct.unpack(f"{order}HHIH", entries[at : at + 10])
        if tag == _TAG and form == 3:
            return value if 1 <= value <= 8 else AS_IT_IS
    return AS_IT_IS
