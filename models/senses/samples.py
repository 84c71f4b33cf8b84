"""Recorded samples of several modalities, for replay: what they are, wherever they lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from thalweg.models.errors import ModelError


class SampleError(ModelError):
    """Recorded samples that cannot be read."""


@dataclass(frozen=True, slots=True)
class Track:
    """How one modality was recorded: a tick every `tick_ns`; longer units `concatenate` or `pick` ticks."""

    tick_ns: int
    join: str


class Samples(Protocol):
    """Samples that can be had one by one."""

    tracks: dict[str, Track]
    labels: tuple[str, ...]
    window_ns: int
    """Of the modality that takes longest; every sample has the same."""

    def ticks(self, index: int, modality: str) -> NDArray[Any]:
        """[tick, …] float32 or uint8."""
        ...
