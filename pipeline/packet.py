"""The unit that flows between stages."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Generic

from typing_extensions import TypeVar

from thalweg.pipeline.payload import Payload

P = TypeVar("P", bound=Payload, covariant=True, default=Payload)

AMBIENT = 0
"""Epoch of what belongs to no turn (a microphone, a camera): never stale, whatever was interrupted."""


@dataclass(frozen=True, slots=True, kw_only=True, init=False)
class Packet(Generic[P]):
    """A payload with its place in a stream; `Packet[AudioChunk]` is one that carries audio.

    `stream`: `stage.port` that emitted it. `seq`: counts up by one per stream, from 0. `time`: capture time,
    ns of the pipeline's clock; for audio, of the first sample. `epoch`: the turn or sample it belongs to, or
    AMBIENT. `deadline`: ns after which it is of no use to anybody, if there is such a time. `trace`: an
    opaque identifier that ties together what came of one event. `replay`: counts the packets of the stream that a
    worker started again would make once more, from what it is sent again; None for all others.
    """

    stream: str
    seq: int
    time: int
    payload: P
    epoch: int = AMBIENT
    deadline: int | None = None
    trace: str | None = None
    replay: int | None = None

    def __init__(
        self,
        *,
        stream: str,
        seq: int,
        time: int,
        payload: P,
        epoch: int = AMBIENT,
        deadline: int | None = None,
        trace: str | None = None,
        replay: int | None = None,
    ) -> None:
        # what a frozen dataclass generates goes through object.__setattr__ and takes half as long again; one packet is
        # made per hop
        _STREAM(self, stream)
        _SEQ(self, seq)
        _TIME(self, time)
        _PAYLOAD(self, payload)
        _EPOCH(self, epoch)
        _DEADLINE(self, deadline)
        _TRACE(self, trace)
        _REPLAY(self, replay)


_STREAM, _SEQ, _TIME, _PAYLOAD, _EPOCH, _DEADLINE, _TRACE, _REPLAY = (
    getattr(Packet, field.name).__set__ for field in fields(Packet)
)
