"""Packets as plain values, for a hub that need know none of our classes: what MessagePack can hold, and no more."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import Enum
from typing import Any

import numpy as np

from thalweg.pipeline.packet import Packet


def packet_plain(packet: Packet) -> dict[str, Any]:
    """`{"type", "stream", "seq", "epoch", "payload": {field: value}}`; an array is `{"dtype", "shape", "data"}`."""
    return {
        "type": type(packet.payload).__name__,
        "stream": packet.stream,
        "seq": packet.seq,
        "epoch": packet.epoch,
        "payload": _plain(packet.payload),
    }


def _plain(value: Any) -> Any:  # Any: any field of a payload
    if isinstance(value, np.ndarray):
        return {"dtype": str(value.dtype), "shape": list(value.shape), "data": value.tobytes()}
    if isinstance(value, np.generic):
        return value.item()
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
