"""Encodes packets as bytes, for all transports. Typed: decoding can only build known payload types.

A packet becomes a head and any number of array buffers. The head is MessagePack: the packet's fields, the name of
its payload type, and the payload's fields in the order they are declared, with each array replaced by its shape,
type and index among the buffers (`values.py`). Payload types are the dataclasses under `Payload`; a type that this
process has not imported is refused by name. Decoding calls the constructors of payloads, so a received payload is as
valid as a local one.

    record = magic u8, version u8, flags u16, buffer count u32, head length u64, buffer lengths u64…,
             head, then each buffer at the next multiple of 64 bytes from the start

All numbers are little-endian. Versions differ when an older reader could not read a record.
"""

from __future__ import annotations

import dataclasses
import math
import struct
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from thalweg.pipeline import signal as signals
from thalweg.pipeline.decoding import decoder, reason_of, shown
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.signal import Failure, Signal
from thalweg.transports.forms import check_carried, form_of, payload_type, type_name
from thalweg.transports.packing import unpack
from thalweg.transports.values import Buffers, CodecError

__all__ = [
    "VERSION",
    "Buffer",
    "CodecError",
    "check_carried",
    "decode",
    "decode_signal",
    "encode",
    "encode_signal",
    "payload_name",
    "payload_type",
    "size_of",
    "type_name",
]

VERSION = 2
LONGEST_SIGNAL = 60_000
_LONGEST_MESSAGE = 10_000
_MAGIC = 0x74
_HEAD = struct.Struct("<BBHIQ")
_LENGTH = struct.Struct("<Q")
_ALIGN = 64
_PADDING = bytes(_ALIGN)
_MAX_BUFFERS = 4096

Buffer = bytes | bytearray | memoryview


def _plain(value: Any) -> Any:
    """Converts numpy's scalars, which MessagePack does not know and which may occur in any field."""
    if isinstance(value, np.generic) and isinstance(plain := value.item(), bool | int | float | str | bytes):
        return plain
    raise CodecError(f"found {shown(value)} of type {type(value).__name__}, which has no form on the wire")


# its own default is a fresh 256 KB per packet
_pack: Callable[[Any], bytes] = msgpack.Packer(buf_size=4096, default=_plain).pack


def _packed(found: Any, what: str) -> bytes:
    """As MessagePack. Raises CodecError."""
    try:
        return _pack(found)
    except UnicodeEncodeError:  # half of an emoji: what goes inside a process goes between processes
        packed: bytes = msgpack.Packer(default=_plain, unicode_errors="surrogatepass").pack(found)
        return packed
    except CodecError:
        raise
    except Exception as error:
        raise CodecError(f"{what} cannot be written: {reason_of(error)}") from None


def encode(packet: Packet) -> list[Buffer]:
    """The parts of a record in order, arrays not copied; `b"".join(encode(p))` is the whole record.

    Raises CodecError on a payload with a field of a type that cannot be encoded.
    """
    buffers: list[memoryview] = []
    payload = packet.payload
    form = form_of(type(payload))
    try:
        written = form.write(payload, buffers)
    except CodecError:
        raise
    except Exception as error:
        raise CodecError(f"a {type(payload).__name__} cannot be written: {reason_of(error)}") from None
    fields = [
        packet.stream,
        packet.seq,
        packet.time,
        packet.epoch,
        packet.deadline,
        packet.trace,
        packet.replay,
        form.name,
        written,
    ]
    try:
        head = _pack(fields)
    except Exception:
        head = _packed(fields, f"a {type(payload).__name__}")
    if not buffers:
        return [_HEAD.pack(_MAGIC, VERSION, 0, 0, len(head)) + head]
    if len(buffers) > _MAX_BUFFERS:
        raise CodecError(f"a {type(payload).__name__} has {len(buffers)} arrays, at most {_MAX_BUFFERS} are carried")
    lengths = [buffer.nbytes for buffer in buffers]
    start = _heads(len(buffers)).pack(_MAGIC, VERSION, 0, len(buffers), len(head), *lengths) + head
    parts: list[Buffer] = []
    at = len(start)
    for buffer, length in zip(buffers, lengths, strict=True):
        start += _PADDING[: -at % _ALIGN]
        parts.append(start)
        at += -at % _ALIGN + length
        parts.append(buffer.cast("B") if length else b"")
        start = b""
    return parts


@cache
def _heads(buffers: int) -> struct.Struct:
    """The fixed head of a record with the lengths of its buffers."""
    return struct.Struct(f"{_HEAD.format}{buffers}Q")


@decoder(CodecError, "the record")
def decode(record: Buffer | NDArray[np.uint8]) -> Packet:
    """The packet of a record. Its arrays are read-only views of `record` and keep it alive.

    Raises CodecError unless it is exactly one record of this version with a valid packet.
    """
    whole = memoryview(record).toreadonly()  # type: ignore[arg-type]  # an array is one, which numpy's types do not say
    length = len(whole)
    count, head_at, head_end = _places(whole)
    at = head_end
    buffers = Buffers(whole)
    for index in range(count):
        (size,) = _LENGTH.unpack_from(whole, _HEAD.size + 8 * index)
        at += -at % _ALIGN
        if at + size > length:
            raise CodecError(f"the record claims {at + size} bytes and has {length}")
        buffers.places.append((at, size))
        at += size
    if at != length:
        raise CodecError(f"{length - at} bytes follow the record")
    stream, seq, time, epoch, deadline, trace, replay, name, fields = unpack(whole[head_at:head_end])
    if not (
        type(stream) is str
        and type(seq) is type(time) is type(epoch) is int
        and type(deadline) in (int, type(None))
        and type(replay) in (int, type(None))
        and type(trace) in (str, type(None))
    ):
        raise CodecError("the head of the record holds other things than a packet's fields")
    payload = form_of(payload_type(name)).read(fields, buffers)
    return Packet(
        stream=stream,
        seq=seq,
        time=time,
        epoch=epoch,
        deadline=deadline,
        trace=trace,
        replay=replay,
        payload=payload,
    )


def _places(record: memoryview) -> tuple[int, int, int]:
    """The number of buffers of a record, and where its head begins and ends. Raises CodecError."""
    length = len(record)
    if length < _HEAD.size:
        raise CodecError(f"{length} bytes are too few for a record")
    magic, version, _flags, count, head_length = _HEAD.unpack_from(record)
    if magic != _MAGIC:
        raise CodecError(f"the bytes begin with {magic:#x}, a record begins with {_MAGIC:#x}")
    if version != VERSION:
        raise CodecError(f"the record is of version {version}, this is Thalweg's wire version {VERSION}")
    head_at: int = _HEAD.size + 8 * count
    head_end: int = head_at + head_length
    if count > _MAX_BUFFERS or head_end > length:
        raise CodecError(f"the record claims {count} buffers and a head of {head_length} bytes in {length} bytes")
    return count, head_at, head_end


@decoder(CodecError, "the head of the record")
def payload_name(record: Buffer) -> str:
    """The `type_name` of a record's payload, which need not be known here. Raises CodecError."""
    whole = memoryview(record)
    _, head_at, head_end = _places(whole)
    name = unpack(whole[head_at:head_end])[-2]
    if type(name) is not str:
        raise CodecError(f"found {shown(name)} where the name of a payload type should be")
    return name


def encode_signal(signal: Signal) -> bytes:
    """A signal as bytes, at most `LONGEST_SIGNAL`. Raises CodecError on a longer one, or one of another package."""
    kind = type(signal)
    if getattr(signals, kind.__name__, None) is not kind:
        raise CodecError(f"a signal of type {kind.__name__} has no form on the wire")
    if isinstance(signal, Failure) and len(signal.message) > _LONGEST_MESSAGE:
        signal = dataclasses.replace(signal, message=signal.message[:_LONGEST_MESSAGE] + "…")
    try:
        fields = form_of(kind).write(signal, [])
    except Exception as error:
        raise CodecError(f"a signal of type {kind.__name__} cannot be written: {reason_of(error)}") from None
    written = _packed([kind.__name__, fields], f"a signal of type {kind.__name__}")
    if len(written) > LONGEST_SIGNAL:
        raise CodecError(f"a signal of type {kind.__name__} has {len(written)} bytes, at most {LONGEST_SIGNAL} go")
    return written


@decoder(CodecError, "the signal")
def decode_signal(written: Buffer) -> Signal:
    """The signal. Raises CodecError on anything else."""
    if len(written) > LONGEST_SIGNAL:
        raise CodecError(f"the signal has {len(written)} bytes, at most {LONGEST_SIGNAL} are read")
    name, fields = unpack(written)
    cls = vars(signals).get(name) if type(name) is str else None
    if not (isinstance(cls, type) and issubclass(cls, Signal)):
        raise CodecError(f"the signal {shown(name)} is not known here")
    if not _finite(fields):
        raise CodecError(f"a signal {name} holds a number that is not finite")
    signal = form_of(cls).read(fields, Buffers(memoryview(b"")))
    assert isinstance(signal, Signal)
    return signal


def _finite(fields: Any) -> bool:
    """Whether the numbers in a signal's fields are finite. Settings, which may hold any value, are not checked."""
    if type(fields) is tuple:
        return all(map(_finite, fields))
    return type(fields) is not float or math.isfinite(fields)


def size_of(parts: Sequence[Buffer]) -> int:
    """Bytes of an encoded record."""
    return sum(part.nbytes if isinstance(part, memoryview) else len(part) for part in parts)
