"""The unit that flows between stages."""

from __future__ import annotations

import operator
from dataclasses import dataclass, fields
from typing import Any, Generic

from typing_extensions import TypeVar

from thalweg.pipeline.errors import PayloadError
from thalweg.pipeline.payload import Payload

P = TypeVar("P", bound=Payload, covariant=True, default=Payload)

AMBIENT = 0
"""Epoch of packets that belong to no turn (a microphone, a camera): no interruption makes them stale."""


@dataclass(frozen=True, slots=True, kw_only=True, init=False)
class Packet(Generic[P]):
    """A payload with its position in a stream; `Packet[AudioChunk]` carries audio.

    `stream`: `stage.port` that emitted it. `seq`: counts up by one per stream, from 0. `time`: capture time,
    ns of the pipeline's clock; for audio, of the first sample. `epoch`: the turn or sample it belongs to, or
    AMBIENT. `deadline`: ns of the pipeline's clock after which it is useless, or None. `trace`: an opaque identifier
    shared by all packets that one event caused. `replay`: a number that is equal when a restarted worker emits the
    packet again; None if it would not.

    A packet that exists is valid: numbers are 64-bit ints (numpy's are converted), and `seq`, `epoch` and `replay` are
    at least 0. Anything else raises PayloadError.
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
        if not (
            seq.__class__ is time.__class__ is epoch.__class__ is int
            and stream.__class__ is str
            and _LEAST <= time <= _MOST >= seq | epoch >= 0
            and (deadline is None or (deadline.__class__ is int and _LEAST <= deadline <= _MOST))
            and (replay is None or (replay.__class__ is int and 0 <= replay <= _MOST))
            and (trace is None or trace.__class__ is str)
            and isinstance(payload, Payload)
        ):
            stream, trace = _text("stream", stream), None if trace is None else _text("trace", trace)
            seq, epoch = _whole("seq", seq, 0), _whole("epoch", epoch, 0)
            time = _whole("time", time, _LEAST)
            deadline = None if deadline is None else _whole("deadline", deadline, _LEAST)
            replay = None if replay is None else _whole("replay", replay, 0)
            if not isinstance(payload, Payload):
                raise PayloadError(f"a packet carries a {type(payload).__name__}, expected a Payload")
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


_LEAST, _MOST = -(2**63), 2**63 - 1


def _whole(name: str, value: Any, least: int) -> int:  # Any: not validated yet
    try:
        whole = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        whole = None
    if whole is None or not least <= whole <= _MOST:
        lowest = "0" if least == 0 else "−2⁶³"
        hint = ": round it to whole nanoseconds" if isinstance(value, float) else ""
        raise PayloadError(f"the {name} of a packet is {value!r}, expected a whole number, {lowest}…2⁶³−1{hint}")
    return whole


def _text(name: str, value: Any) -> str:  # Any: not validated yet
    if not isinstance(value, str):
        raise PayloadError(f"the {name} of a packet is {value!r}, expected text")
    return value


_STREAM, _SEQ, _TIME, _PAYLOAD, _EPOCH, _DEADLINE, _TRACE, _REPLAY = (
    getattr(Packet, field.name).__set__ for field in fields(Packet)
)
_NEW = object.__new__


def make_packet(
    stream: str,
    seq: int,
    time: int,
    payload: Payload,
    epoch: int,
    deadline: int | None,
    trace: str | None,
    replay: int | None,
) -> Packet:
    """`Packet(...)` in half the time, for nodes: validates only `time`, `epoch` and `deadline`."""
    if not (
        time.__class__ is epoch.__class__ is int
        and _LEAST <= time <= _MOST >= epoch >= 0
        and (deadline is None or (deadline.__class__ is int and _LEAST <= deadline <= _MOST))
    ):
        return Packet(
            stream=stream,
            seq=seq,
            time=time,
            payload=payload,
            epoch=epoch,
            deadline=deadline,
            trace=trace,
            replay=replay,
        )
    packet: Packet = _NEW(Packet)
    _STREAM(packet, stream)
    _SEQ(packet, seq)
    _TIME(packet, time)
    _PAYLOAD(packet, payload)
    _EPOCH(packet, epoch)
    _DEADLINE(packet, deadline)
    _TRACE(packet, trace)
    _REPLAY(packet, replay)
    return packet
