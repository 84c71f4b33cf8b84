"""Packets as bytes, for every boundary they cross. Typed; nothing here can build an object it does not know.

A packet becomes a head and any number of array buffers. The head is MessagePack: the packet's fields, the name of
its payload type, and the payload's fields in the order they are declared, with each array replaced by its shape,
type and index among the buffers. Payload types are the dataclasses under `Payload`; a type that this process has
not imported is refused by name. Decoding builds payloads through their constructors, so what arrives is as
valid as what was made here.

    record = magic u8, version u8, flags u16, buffer count u32, head length u64, buffer lengths u64…,
             head, then each buffer at the next multiple of 64 bytes from the start

All numbers are little-endian. Versions differ when an older reader could not read a record.
"""

from __future__ import annotations

import dataclasses
import struct
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgpack
import numpy as np
from numpy.typing import NDArray

from thalweg.pipeline import signal as signals
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Payload
from thalweg.pipeline.signal import Signal

VERSION = 2
_MAGIC = 0x74
_HEAD = struct.Struct("<BBHIQ")
_LENGTH = struct.Struct("<Q")
_ALIGN = 64
_PADDING = bytes(_ALIGN)
_MAX_BUFFERS = 64
_DTYPES = {t: np.dtype(t) for t in ("u1", "i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8", "?")}
_FORMATS = {np.empty(0, dtype).data.format: name for name, dtype in _DTYPES.items()}

_pack: Callable[[Any], bytes] = msgpack.Packer(buf_size=4096).pack  # its own default is a fresh 256 KB per packet

Buffer = bytes | bytearray | memoryview


class CodecError(ThalwegError):
    """Bytes that are not a packet, or a packet that cannot be written as bytes."""


def encode(packet: Packet) -> list[Buffer]:
    """The parts of a record in order, arrays not copied; `b"".join(encode(p))` is the whole record.

    Raises CodecError on a payload with a field of a kind that has no form on the wire.
    """
    buffers: list[memoryview] = []
    payload = packet.payload
    plan = _plan(type(payload))
    head = _pack(
        [
            packet.stream,
            packet.seq,
            packet.time,
            packet.epoch,
            packet.deadline,
            packet.trace,
            packet.replay,
            plan.name,
            plan.write(payload, buffers),
        ]
    )
    if not buffers:
        return [_HEAD.pack(_MAGIC, VERSION, 0, 0, len(head)) + head]
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


def decode(record: Buffer | NDArray[np.uint8]) -> Packet:
    """The packet of a record. Its arrays are read-only views of `record` and keep it alive.

    Raises CodecError on anything that is not exactly one record of this version, PayloadError where the payload
    refuses its values.
    """
    whole = memoryview(record).toreadonly()  # type: ignore[arg-type]  # an array is one, which numpy's types do not say
    length = len(whole)
    try:
        magic, version, _flags, count, head_length = _HEAD.unpack_from(whole)
    except struct.error:
        raise CodecError(f"{length} bytes are too few for a record") from None
    if magic != _MAGIC:
        raise CodecError(f"the bytes begin with {magic:#x}, a record begins with {_MAGIC:#x}")
    if version != VERSION:
        raise CodecError(f"the record is of version {version}, this is Thalweg's wire version {VERSION}")
    head_at = _HEAD.size + 8 * count
    at = head_at + head_length
    if count > _MAX_BUFFERS or at > length:
        raise CodecError(f"the record claims {count} buffers and a head of {head_length} bytes in {length} bytes")
    buffers = _Buffers(whole)
    for index in range(count):
        (size,) = _LENGTH.unpack_from(whole, _HEAD.size + 8 * index)
        at += -at % _ALIGN
        if at + size > length:
            raise CodecError(f"the record claims {at + size} bytes and has {length}")
        buffers.places.append((at, size))
        at += size
    if at != length:
        raise CodecError(f"{length - at} bytes follow the record")
    try:
        head = msgpack.unpackb(whole[head_at : head_at + head_length], use_list=False, max_ext_len=0)
        stream, seq, time, epoch, deadline, trace, replay, name, fields = head
        if not (
            isinstance(stream, str)
            and type(seq) is type(time) is type(epoch) is int
            and type(deadline) in (int, type(None))
            and type(replay) in (int, type(None))
            and (trace is None or isinstance(trace, str))
        ):
            raise CodecError("the head of the record holds other things than a packet's fields")
        payload = _plan(payload_type(name)).read(fields, buffers)
    except (ValueError, TypeError, IndexError, KeyError, msgpack.UnpackException, RecursionError) as error:
        if isinstance(error, ThalwegError):
            raise
        raise CodecError(f"the head of the record cannot be read: {error!r}") from None
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


def payload_name(record: Buffer) -> str:
    """What `type_name` was of a record's payload, known here or not. Raises CodecError."""
    try:
        magic, version, _flags, count, head_length = _HEAD.unpack_from(record)
        if (magic, version) != (_MAGIC, VERSION):
            raise CodecError(f"that is no record of version {VERSION}")
        start = _HEAD.size + 8 * count
        return str(msgpack.unpackb(memoryview(record)[start : start + head_length], use_list=False)[-2])
    except (struct.error, ValueError, TypeError, IndexError, msgpack.UnpackException) as error:
        raise CodecError(f"the head of the record cannot be read: {error!r}") from None


def encode_signal(signal: Signal) -> bytes:
    """A signal as bytes. Raises CodecError on one that is not of this package."""
    if getattr(signals, type(signal).__name__, None) is not type(signal):
        raise CodecError(f"a signal of type {type(signal).__name__} has no form on the wire")
    written: bytes = msgpack.packb([type(signal).__name__, _plan(type(signal)).write(signal, [])])
    return written


def decode_signal(written: Buffer) -> Signal:
    """The signal. Raises CodecError on anything else."""
    try:
        name, fields = msgpack.unpackb(written, use_list=False, max_ext_len=0)
        cls = getattr(signals, name, None)
        if not (isinstance(cls, type) and issubclass(cls, Signal)):
            raise CodecError(f"the signal {name!r} is not known here")
        signal = _plan(cls).read(fields, _Buffers(memoryview(b"")))
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        raise CodecError(f"the signal cannot be read: {error!r}") from None
    assert isinstance(signal, Signal)
    return signal


def size_of(parts: Sequence[Buffer]) -> int:
    """Bytes of an encoded record."""
    return sum(part.nbytes if isinstance(part, memoryview) else len(part) for part in parts)


def type_name(cls: type) -> str:
    """`AudioChunk` for Thalweg's own payloads, `package.module:Class` for all others."""
    own = cls.__module__ == Payload.__module__
    return cls.__name__ if own else f"{cls.__module__}:{cls.__qualname__}"


@cache
def payload_type(name: str) -> type[Payload]:
    """The payload class of that name. Raises CodecError where this process does not know it."""
    module, _, qualname = name.rpartition(":")
    found: Any = sys.modules.get(module or Payload.__module__)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    if not (isinstance(found, type) and issubclass(found, Payload) and type_name(found) == name):
        raise CodecError(f"the payload type {name!r} is not known here; import the module that defines it")
    return found


@dataclasses.dataclass(slots=True)
class _Buffers:
    """A record, and where its buffers lie in it: (offset, bytes)."""

    record: memoryview
    places: list[tuple[int, int]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class _Form:
    """How values of one annotation are written and read; `write` adds arrays to the list it is given.

    `plain`: values are written as they are. `name`: see `type_name`, of a dataclass.
    """

    write: Callable[[Any, list[memoryview]], Any]
    read: Callable[[Any, _Buffers], Any]
    plain: bool = False
    name: str = ""


_AS_IS = _Form(lambda value, _: value, lambda value, _: value, plain=True)


_PLANS: dict[type, _Form] = {}


def _plan(cls: type) -> _Form:
    """How a dataclass is written: a list of its fields."""
    if cls not in _PLANS:
        _PLANS[cls] = _make_plan(cls)
    return _PLANS[cls]


def _make_plan(cls: type) -> _Form:
    hints = get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]
    forms = [_form(hints[name], cls) for name in names]

    getters = [(name, None if form.plain else form.write) for name, form in zip(names, forms, strict=True)]
    readers = [(name, form.read) for name, form in zip(names, forms, strict=True)]

    def write(value: Any, buffers: list[memoryview]) -> list[Any]:
        return [
            getattr(value, name) if write is None else write(getattr(value, name), buffers) for name, write in getters
        ]

    def read(written: Any, buffers: _Buffers) -> Any:
        if len(written) != len(readers):
            raise CodecError(f"a {cls.__name__} has {len(readers)} fields, the record holds {len(written)}")
        return cls(**{name: read(one, buffers) for (name, read), one in zip(readers, written, strict=True)})

    return _Form(write, read, name=type_name(cls))


def _form(hint: Any, owner: type) -> _Form:
    hint = _without_names(hint)
    origin = get_origin(hint)
    if hint in (int, float, str, bool, bytes, type(None)):
        return _scalar(hint)
    if hint is np.ndarray or origin is np.ndarray:
        return _Form(_write_array, _read_array)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _Form(lambda value, _: value.value, lambda value, _: hint(value))
    if hint is Payload:
        return _Form(_write_payload, _read_payload)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _plan(hint)
    if origin is tuple:
        return _tuple(get_args(hint), owner)
    if origin is Mapping:
        return _Form(lambda value, _: dict(value), lambda value, _: dict(value))
    if origin in (Union, types.UnionType):
        options = [option for option in get_args(hint) if option is not type(None)]
        if len(options) == 1:
            inner = _form(options[0], owner)
            return _Form(
                lambda value, buffers: None if value is None else inner.write(value, buffers),
                lambda value, buffers: None if value is None else inner.read(value, buffers),
            )
        if all(option in (int, float, str, bool, bytes) for option in options):
            return _AS_IS
    raise CodecError(f"{owner.__name__} has a field of type {hint}, which has no form on the wire")


def _without_names(hint: Any) -> Any:
    """What an annotation stands for, where it is a `type` alias (numpy's NDArray is one from 2.5 on) or Annotated."""
    while True:
        origin, given = get_origin(hint), get_args(hint)
        if origin is Annotated:
            hint = given[0]
            continue
        alias = origin if hasattr(origin, "__value__") else hint  # known by that: there are two types of such aliases
        if not hasattr(alias, "__value__"):
            return hint
        hint = _filled_in(alias.__value__, dict(zip(alias.__type_params__, given, strict=False)))


def _filled_in(value: Any, given: Mapping[Any, Any]) -> Any:
    """The value of a `type` alias with its parameters replaced by what is `given` for them."""
    if value in given:
        return given[value]
    open_ = getattr(value, "__parameters__", ())
    return value[tuple(given.get(parameter, Any) for parameter in open_)] if open_ else value


def _scalar(kind: type) -> _Form:
    accepted = (int, float) if kind is float else kind

    def read(value: Any, _: Any) -> Any:
        if not isinstance(value, accepted):
            raise CodecError(f"found {value!r} where a {kind.__name__} should be")
        return value

    return _Form(lambda value, _: value, read, plain=True)


def _tuple(inner: tuple[Any, ...], owner: type) -> _Form:
    if len(inner) == 2 and inner[1] is Ellipsis:
        one = _form(inner[0], owner)
        return _Form(
            lambda value, buffers: [one.write(item, buffers) for item in value],
            lambda value, buffers: tuple(one.read(item, buffers) for item in value),
        )
    forms = [_form(item, owner) for item in inner]
    return _Form(
        lambda value, buffers: [f.write(item, buffers) for f, item in zip(forms, value, strict=True)],
        lambda value, buffers: tuple(f.read(item, buffers) for f, item in zip(forms, value, strict=True)),
    )


def _write_payload(payload: Payload, buffers: list[memoryview]) -> list[Any]:
    plan = _plan(type(payload))
    return [plan.name, plan.write(payload, buffers)]


def _read_payload(written: Any, buffers: _Buffers) -> Any:
    name, fields = written
    return _plan(payload_type(name)).read(fields, buffers)


def _write_array(array: NDArray[Any], buffers: list[memoryview]) -> list[Any]:
    """By the buffer protocol: numpy's own attributes cost more, above all when they have not been used for a while."""
    try:
        view = array.data
        name = _FORMATS[view.format]
    except (ValueError, KeyError):
        accepted = ", ".join(_DTYPES)
        raise CodecError(f"an array of {array.dtype} has no form on the wire; use one of {accepted}") from None
    if not view.c_contiguous:
        view = np.ascontiguousarray(array).data
    buffers.append(view)
    return [name, view.shape, len(buffers) - 1]


def _read_array(written: Any, buffers: _Buffers) -> NDArray[Any]:
    name, shape, index = written
    at, size = buffers.places[index]
    array: NDArray[Any] = np.ndarray(shape, _DTYPES[name], buffers.record, at)
    if array.nbytes != size:
        raise CodecError(f"an array of {array.nbytes} bytes lies in {size} bytes")
    return array
