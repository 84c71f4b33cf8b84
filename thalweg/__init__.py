"""Thalweg: streaming multimodal pipelines from sensor to language model.

The public surface is this page; the modules behind it may move.
"""

from thalweg.pipeline.channel import Channel, ChannelStats, Drop, Policy, Push
from thalweg.pipeline.errors import ThalwegError
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
from thalweg.pipeline.signal import (
    Bitrate,
    Configure,
    Direction,
    Failure,
    Flush,
    Interrupt,
    Region,
    Signal,
    Skip,
)

__all__ = [
    "AMBIENT",
    "AudioChunk",
    "Bitrate",
    "Channel",
    "ChannelStats",
    "Configure",
    "Direction",
    "Drop",
    "EncodedVideo",
    "Failure",
    "Flush",
    "Interrupt",
    "Packet",
    "Payload",
    "Policy",
    "Push",
    "Region",
    "Sentence",
    "Signal",
    "Skip",
    "Speech",
    "SpeechEvent",
    "ThalwegError",
    "Token",
    "Transcript",
    "VideoFrame",
]

__version__ = "0.1.0"
