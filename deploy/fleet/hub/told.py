"""Validates what a node reports of itself before it is stored or shown: bounded, and valid as JSON."""

from __future__ import annotations

import math
from typing import Any

LONGEST_TEXT, MOST_ITEMS, DEEPEST = 300, 50, 6


def bounded(value: Any, depth: int = DEEPEST) -> Any:
    """The same value where it is harmless; of texts and collections the beginning, of bytes how many."""
    if isinstance(value, dict):
        items = list(value.items())[:MOST_ITEMS] if depth else []
        return {str(key)[:80]: bounded(item, depth - 1) for key, item in items}
    if isinstance(value, list | tuple):
        return [bounded(item, depth - 1) for item in list(value)[:MOST_ITEMS]] if depth else []
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int) and abs(value) > 1 << 63:
        return None
    return value if value is None or isinstance(value, int | float) else str(value)[:LONGEST_TEXT]


def place_in(value: Any) -> tuple[float, float] | None:
    """The `latitude` and `longitude` of a map, degrees; None where they are no place on Earth, or none was told."""
    match value:
        case {"latitude": int() | float() as latitude, "longitude": int() | float() as longitude}:
            if abs(latitude) <= 90 and abs(longitude) <= 180:  # which NaN is not
                return float(latitude), float(longitude)
    return None


def number_in(value: Any, *names: str) -> int:
    """The whole number that lies so deep in maps; 0 where there is none, or one below that."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if type(value) is int and value >= 0 else 0
