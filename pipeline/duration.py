"""Durations as text, such as `300ms`, `1.5s` or `2min`. Internally always whole nanoseconds."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

_UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "min": 60_000_000_000, "h": 3_600_000_000_000}
LONGEST_NS = 100 * 365 * 24 * _UNITS["h"]
_PATTERN = re.compile(rf"\s*(\d+(?:\.\d+)?)\s*({'|'.join(_UNITS)})\s*")


def parse_duration(text: object) -> int:
    """`"300ms"` → 300_000_000. Units: ns, us, ms, s, min, h. Raises ValueError on anything else."""
    match = _PATTERN.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r} is not a length of time: give a number with a unit, such as 300ms, 1.5s or 2min")
    length_ns = float(match[1]) * _UNITS[match[2]]
    if length_ns > LONGEST_NS:
        raise ValueError(f"{text!r} is longer than anything here can wait: at most {LONGEST_NS // _UNITS['h']}h")
    return round(length_ns)


def format_duration(duration_ns: int) -> str:
    """The shortest text that `parse_duration` reads back as the same length: 300_000_000 → `300ms`."""
    for unit in ("h", "min", "s", "ms", "us"):
        if duration_ns and duration_ns % _UNITS[unit] == 0:
            return f"{duration_ns // _UNITS[unit]}{unit}"
    return f"{duration_ns}ns"


Duration = Annotated[
    int,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*(ns|us|ms|s|min|h)\s*$", "examples": ["300ms"]}),
]
"""Type of a stage parameter that is a duration: text with a unit in a pipeline file, ns in Python."""

MS = 1_000_000
"""A millisecond in nanoseconds: `300 * MS`."""
