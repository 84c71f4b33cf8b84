"""Thalweg: streaming multimodal pipelines from sensor to language model.

These names are the public API; the modules behind them may move. Build a pipeline with `Pipeline` or read one with
`load`, and run it with `async with pipeline.run() as run`. A stage is any class as `thalweg.pipeline.stage` describes;
test it with `thalweg.testing`. All errors derive from `ThalwegError` (see the tree in `thalweg.errors`).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from thalweg.errors import ThalwegError

if TYPE_CHECKING:
    from thalweg.deploy.pipeline import Pipeline, load
    from thalweg.deploy.run import Run
    from thalweg.pipeline.channel import Channel, Drop, Policy
    from thalweg.pipeline.graph import Graph
    from thalweg.pipeline.packet import AMBIENT, Packet
    from thalweg.pipeline.payload import (
        AudioChunk,
        EncodedVideo,
        Payload,
        Sentence,
        Speech,
        SpeechEvent,
        Token,
        Transcript,
        VideoFrame,
    )
    from thalweg.pipeline.signal import Bitrate, Configure, Direction, Failure, Flush, Interrupt, Region, Signal, Skip
    from thalweg.pipeline.stage import Context, Port, Stage

__all__ = [
    "AMBIENT",
    "AudioChunk",
    "Bitrate",
    "Channel",
    "Configure",
    "Context",
    "Direction",
    "Drop",
    "EncodedVideo",
    "Failure",
    "Flush",
    "Graph",
    "Interrupt",
    "Packet",
    "Payload",
    "Pipeline",
    "Policy",
    "Port",
    "Region",
    "Run",
    "Sentence",
    "Signal",
    "Skip",
    "Speech",
    "SpeechEvent",
    "Stage",
    "ThalwegError",
    "Token",
    "Transcript",
    "VideoFrame",
    "load",
]

__version__ = "0.1.0"

_PLACES = {
    "thalweg.deploy.pipeline": ("Pipeline", "load"),
    "thalweg.deploy.run": ("Run",),
    "thalweg.pipeline.channel": ("Channel", "Drop", "Policy"),
    "thalweg.pipeline.graph": ("Graph",),
    "thalweg.pipeline.packet": ("AMBIENT", "Packet"),
    "thalweg.pipeline.payload": (
        "AudioChunk",
        "EncodedVideo",
        "Payload",
        "Sentence",
        "Speech",
        "SpeechEvent",
        "Token",
        "Transcript",
        "VideoFrame",
    ),
    "thalweg.pipeline.signal": (
        "Bitrate",
        "Configure",
        "Direction",
        "Failure",
        "Flush",
        "Interrupt",
        "Region",
        "Signal",
        "Skip",
    ),
    "thalweg.pipeline.stage": ("Context", "Port", "Stage"),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:  # Any: whichever of these it is; loaded when asked for: a node's agent needs none
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
