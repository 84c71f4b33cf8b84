"""What of a node's records is a picture: a frame of pixels, or a key unit of encoded video. Nothing is decoded here:
that is done by the visitor's browser.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from thalweg.deploy.fleet.hub.unpacking import unpacked

CODECS = frozenset({"h264", "vp8", "vp9"})
LAYOUTS = {"rgb24": 3, "bgr24": 3, "gray": 1}
"""Bytes per pixel of those layouts that can be shown."""
MOST_VALUES, LARGEST_SIDE = 60, 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """`format`: a layout of pixels or a codec. `data`: those pixels, row by row, or that unit."""

    format: str
    width: int
    height: int
    data: bytes


def picture_in(payload: bytes | memoryview) -> Picture | None:
    """The picture that a record holds, as `stages/fleet/plain.py` writes packets; None where it is none."""
    try:
        told = unpacked(payload, MOST_VALUES)
        return _picture(told["payload"])
    except Exception:  # msgpack raises a dozen kinds on garbage
        return None


def _picture(told: Any) -> Picture | None:
    match told:
        case {
            "key": True,
            "codec": str() as name,
            "width": int() as wide,
            "height": int() as high,
            "data": bytes(data),
        }:
            right = name in CODECS
        case {
            "layout": str() as name,
            "pixels": {"dtype": "uint8", "shape": [int(high), int(wide)], "data": bytes(data)},
        }:
            right = name == "gray" and len(data) == high * wide
        case {
            "layout": str() as name,
            "pixels": {"dtype": "uint8", "shape": [int(high), int(wide), int(deep)], "data": bytes(data)},
        }:
            right = LAYOUTS.get(name) == deep and len(data) == high * wide * deep
        case _:
            return None
    right = right and 0 < wide <= LARGEST_SIDE and 0 < high <= LARGEST_SIDE and len(data) > 0
    return Picture(format=name, width=wide, height=high, data=data) if right else None
