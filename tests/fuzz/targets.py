"""What is fuzzed: everything that makes something of bytes which a stranger, a broken link or a bad disk may send."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz import shapes
from tests.fuzz.engine import Target
from tests.fuzz.shapes import PAYLOADS, SIGNALS, records
from thalweg.pipeline.dialogue.events import Caption, ControlError, Stats, decode_control, decode_event
from thalweg.pipeline.packet import Packet
from thalweg.transports import codec, recording
from thalweg.transports.codec import CodecError
from thalweg.transports.link import TransportError
from thalweg.transports.shm.greeting import Greeting, decode_greeting, encode_greeting
from thalweg.transports.shm.messages import decode_count, decode_welcome
from thalweg.transports.state import pack_state, unpack_state

CORPUS = Path(__file__).parent / "corpus"
CORPUS_BYTES = 3_000
"""How much of a corpus is kept for each target."""


def corpus(name: str) -> list[bytes]:
    """The inputs that were kept for a target: one a line, in hexadecimal."""
    path = CORPUS / f"{name}.txt"
    return [bytes.fromhex(line) for line in path.read_text(encoding="ascii").split()] if path.exists() else []


def write_corpus(name: str, found: Sequence[bytes]) -> None:
    """Keep the shortest of these and of what is there, as far as there is room."""
    kept, size = [], 0
    for one in sorted({*corpus(name), *found} - {b""}, key=lambda data: (len(data), data)):
        size += 2 * len(one) + 1
        if size > CORPUS_BYTES:
            break
        kept.append(one.hex())
    (CORPUS / f"{name}.txt").write_text("\n".join(kept) + "\n", encoding="ascii")


def _read_record(data: bytes) -> None:
    with contextlib.suppress(CodecError):
        codec.payload_name(data)
    codec.encode(codec.decode(data))


def _read_signal(data: bytes) -> None:
    codec.encode_signal(codec.decode_signal(data))


def _read_greeting(data: bytes) -> None:
    for read in (decode_count, decode_welcome):
        with contextlib.suppress(TransportError):
            read(data)
    decode_greeting(data)


def _read_event(data: bytes) -> None:
    for message in (data, data.decode(errors="surrogateescape")):
        with contextlib.suppress(ControlError):
            if (event := decode_event(message)) is not None:
                event.encode()
    decode_control(data)


@cache
def _recordings() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.twr"
        writer = recording.RecordingWriter(path, ["a.b", "c.d"], {"pipeline": "p", "made": "now"})
        for i, payload in enumerate(PAYLOADS[:3]):
            writer.write(i % 2, i, Packet(stream="a.b", seq=i, time=i, payload=payload))
        writer.close()
        return [path.read_bytes()]


@cache
def _scratch() -> Path:
    memory = Path("/dev/shm")
    folder = tempfile.TemporaryDirectory(prefix="fuzz", dir=memory if memory.is_dir() else None)
    _HELD.append(folder)
    return Path(folder.name) / "fuzz.twr"


_HELD: list[Any] = []  # temporary folders, to the end of the process


def _read_recording(data: bytes) -> None:
    path = _scratch()
    path.write_bytes(data)
    for recorded in recording.Recording(path):
        for read in (codec.decode, codec.payload_name):
            with contextlib.suppress(CodecError):
                read(recorded.record)


def _wires() -> list[bytes]:
    from thalweg.transports.grpc.wire import Frame, record_frame

    others = [{"welcome": {"window": 3}}, {"signal": b"x"}, {"taken": {"count": 2}}, {"end": {}}]
    return [
        *(record_frame(3, [one], len(one)) for one in records()),
        *(Frame(**other).SerializeToString() for other in others),
    ]


def _read_wire(data: bytes) -> None:
    from thalweg.transports.grpc.wire import Record, from_bytes

    frame = from_bytes(data)
    if isinstance(frame, Record):
        codec.decode(frame.data)


def _states() -> list[bytes]:
    packet = codec.decode(records()[0])
    trees: list[Any] = [{"a": [1, 2.5, None], 3: "x"}, {"array": np.zeros((2, 3))}, {"waiting": [packet]}]
    return [pack_state(tree) for tree in trees]


def _events() -> list[bytes]:
    stats = Stats(span_ms=1.0, stages=[])
    controls = (
        {"type": "stop"},
        {"type": "say", "text": "x"},
        {"type": "ping", "t": 1.5},
        {"type": "watch", "on": True},
    )
    events = (Caption(turn=1, text="x", stable=1, final=False), stats)
    return [
        *(json.dumps({"v": 1, **one}).encode() for one in controls),
        *(one.encode().encode() for one in events),
    ]


TARGETS: dict[str, Target] = {
    "codec": Target(records, shapes.record, _read_record, (CodecError,)),
    "signals": Target(
        lambda: [codec.encode_signal(one) for one in SIGNALS], shapes.signal, _read_signal, (CodecError,)
    ),
    "recordings": Target(_recordings, shapes.recorded, _read_recording, (recording.RecordingError,)),
    "wire": Target(_wires, shapes.wire, _read_wire, (CodecError, TransportError)),
    "events": Target(_events, shapes.event, _read_event, (ControlError,)),
    "greetings": Target(
        lambda: [encode_greeting(Greeting(edge="a -> b", token="t", generation=1))],
        shapes.greeting,
        _read_greeting,
        (TransportError,),
    ),
    "state": Target(_states, shapes.state, lambda data: unpack_state(data), (CodecError,)),
}
