"""Inputs of the right shape, from nothing: what a stranger writes who knows the format, with anything in its places."""

from __future__ import annotations

import dataclasses
import json
import random
import struct
import zlib
from functools import cache
from typing import Any

import msgpack
import numpy as np

from tests.fuzz.mutation import mutate, value
from thalweg.pipeline import payload as payloads
from thalweg.pipeline import signal as signals
from thalweg.pipeline.packet import Packet
from thalweg.transports import codec, recording
from thalweg.transports.values import DTYPES

_AUDIO = payloads.AudioChunk(samples=np.zeros(20, np.float32), rate=16_000)
PAYLOADS = (
    _AUDIO,
    payloads.VideoFrame(pixels=np.zeros((2, 2, 3), np.uint8)),
    payloads.EncodedVideo(data=b"x", codec="h264", width=1, height=1, key=True),
    payloads.Speech(audio=_AUDIO, event=payloads.SpeechEvent.END, speech_end_ns=5),
    payloads.Transcript(text="a b", final=True, words=(payloads.Word(text="a", start_ns=1, end_ns=2),)),
    payloads.Token(text="hello"),
    payloads.Detections(items=(payloads.Detection(kind="t", text="x", score=1, x=0, y=0, width=1, height=1),)),
    payloads.Regions(boxes=((0.0, 0.0, 1.0, 1.0, 0.5),)),
    payloads.Decision(
        name="w", label=0, confidence=0.5, scores=np.ones(1, np.float32), used={"audio": 2}, reason="complete"
    ),
    payloads.Numbered(index=1, payload=payloads.Numbered(index=2, payload=_AUDIO)),
    payloads.SpokenText(samples=np.zeros(4, np.float32), rate=16_000, text="x"),
)
SIGNALS = (
    signals.Interrupt(epoch=3),
    signals.Skip(stream="a.b", epoch=1),
    signals.Configure(stage="a", settings={"rate": 1, "more": {"x": [1, 2.5]}}),
    signals.Region(time=5, boxes=((0.0, 0.0, 1.0, 1.0, 0.5),)),
    signals.Decodes(codecs=("h264", "vp8")),
    signals.Failure(epoch=2, message="why"),
    signals.Played(epoch=2, text="so far", complete=False),
    signals.KeyFrame(),
)
_PAYLOAD_NAMES = [name for name, kind in vars(payloads).items() if isinstance(kind, type)]
_SIGNAL_NAMES = [name for name, kind in vars(signals).items() if isinstance(kind, type)]
_ODD_NAMES: tuple[Any, ...] = (5, None, True, b"x", [], {}, "os:path", "thalweg:load", ".", ":", "numpy:core", "\ud800")


def _pack(found: Any) -> bytes:
    try:
        return bytes(msgpack.packb(found, unicode_errors="surrogatepass"))
    except (ValueError, OverflowError):  # deeper than it packs, or a number it has no form for
        return b"\x91" * 600


def _field(rng: random.Random) -> Any:
    match rng.randrange(4):
        case 0:
            shape = [
                rng.choice((0, 1, 4, -1, 2**31, 2**62, 2**64 - 1, 3.0, "a", None)) for _ in range(rng.randrange(4))
            ]
            return [rng.choice((*DTYPES, "O", 5)), shape, rng.choice((0, 0, 0, 1, -1, 2**63, None))]
        case 1:
            return [rng.choice(_PAYLOAD_NAMES), [value(rng) for _ in range(rng.randrange(4))]]
        case 2:
            return {rng.choice(_PAYLOAD_NAMES): [value(rng) for _ in range(rng.randrange(3))]}
        case _:
            return value(rng)


def _fields(rng: random.Random, kind: Any) -> list[Any]:
    known = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    return [_field(rng) for _ in range(len(known) if rng.random() < 0.9 else rng.randrange(6))]


def record(rng: random.Random) -> bytes:
    """A record whose head has the right parts, with anything in them."""
    name = rng.choice(_PAYLOAD_NAMES) if rng.random() < 0.9 else rng.choice(_ODD_NAMES)
    kind = getattr(payloads, name, None) if isinstance(name, str) else None
    head: list[Any] = ["s", 1, 2, 3, None, None, None, name, _fields(rng, kind)]
    if rng.random() < 0.2:
        head[rng.randrange(9)] = value(rng)
    packed = _pack(head)
    sizes = [rng.choice((0, 4, 64, 128)) for _ in range(rng.choice((0, 1, 1, 2)))]
    found = struct.pack("<BBHIQ", 0x74, codec.VERSION, 0, len(sizes), len(packed))
    found += struct.pack(f"<{len(sizes)}Q", *sizes) + packed
    for size in sizes:
        found += bytes(-len(found) % 64) + bytes(size)
    return found


@cache
def records() -> list[bytes]:
    """A whole record with each payload."""
    packets = [Packet(stream="a.b", seq=3, time=5, epoch=1, deadline=9, payload=payload) for payload in PAYLOADS]
    return [b"".join(codec.encode(packet)) for packet in packets]


def signal(rng: random.Random) -> bytes:
    """A signal."""
    name = rng.choice(_SIGNAL_NAMES) if rng.random() < 0.9 else rng.choice(_ODD_NAMES)
    kind = getattr(signals, name, None) if isinstance(name, str) else None
    return _pack([name, _fields(rng, kind)] if rng.random() < 0.95 else value(rng))


def greeting(rng: random.Random) -> bytes:
    """The first message of a producer."""
    hello: dict[Any, Any] = {"version": codec.VERSION, "edge": "a -> b", "token": "t", "generation": 1}
    for _ in range(rng.randrange(3)):
        hello[rng.choice((*hello, "more"))] = value(rng)
    return rng.choice((b"h", b"h", b"h", b"x", b"")) + _pack(hello)


def event(rng: random.Random) -> bytes:
    """An event or a control of a conversation."""
    types = ("stop", "say", "watch", "echo", "ping", "caption", "state", "look", "limits", "stats", "latency", "bye")
    found: dict[str, Any] = {"v": rng.choice((1, 1, 1, value(rng))), "type": rng.choice((*types, value(rng)))}
    for key in ("text", "on", "cancelled", "t", "turn", "stable", "final", "boxes", "stages", "message", "code"):
        if rng.random() < 0.4:
            found[key] = value(rng)
    return json.dumps(found, default=lambda odd: odd.hex()).encode()


def frame(kind: bytes, body: bytes, length: int | None = None) -> bytes:
    """A frame of a recording, with checksums that fit."""
    head = struct.pack("<c3xII", kind, len(body) if length is None else length, zlib.crc32(body))
    return head + struct.pack("<I", zlib.crc32(head)) + body


def recorded(rng: random.Random) -> bytes:
    """A recording."""
    about: dict[Any, Any] = {"version": recording.VERSION, "codec": codec.VERSION, "channels": ["a.b", "c.d"]}
    if rng.random() < 0.3:
        about[rng.choice((*about, "pipeline", "made"))] = value(rng)
    found = recording.MAGIC + frame(b"H", _pack(about))
    for i in range(rng.randrange(4)):
        body = struct.pack("<H6xQ", rng.choice((0, 1, 1, 2, 0xFFFF)), rng.choice((i, 2**64 - 1)))
        body += record(rng) if rng.random() < 0.7 else rng.choice(records())
        if rng.random() < 0.2:
            body = mutate(body, rng, records())
        kind = rng.choice((b"P", b"P", b"P", b"H", b"E", b"\0"))
        found += frame(kind, body, rng.choice((None, None, None, None, 0, 2**31, 2**32 - 1)))
    return found + (
        frame(b"E", struct.pack("<Q", rng.randrange(4))) if rng.random() < 0.5 else bytes(rng.randrange(40))
    )


def state(rng: random.Random) -> bytes:
    """The state of a stage."""
    head = [rng.choice(("<f4", "|u1", "O", "V5", "(9,9)f4", "f4," * 20, 5)), _field(rng)]
    parts = (_pack(head) + bytes(rng.randrange(30)), rng.choice(records()), record(rng))
    return bytes(msgpack.packb({"x": msgpack.ExtType(rng.randrange(4), rng.choice(parts)), "y": 1}))


def wire(rng: random.Random) -> bytes:
    """A frame of a gRPC edge."""
    from thalweg.transports.grpc.wire import Frame, record_frame

    match rng.randrange(3):
        case 0:
            data = rng.choice(records()) if rng.random() < 0.5 else rng.randbytes(rng.randrange(40))
            return record_frame(rng.choice((0, 1, 2**64 - 1)), [data], len(data))
        case 1:
            return bytes([rng.randrange(256), rng.randrange(256)]) + rng.randbytes(rng.randrange(20))
        case _:
            number = rng.choice((0, 1, 2**32 - 1))
            hello = {"version": number, "edge": "é" * rng.randrange(9), "token": "t", "generation": number}
            return bytes(Frame(hello=hello).SerializeToString())
