"""The state of stages as bytes: trees of plain values, arrays and packets, as `snapshot()` gives them.

MessagePack, with arrays and packets as extensions. Tuples come back as lists. Nothing here can build an object that
it does not know.
"""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np

from thalweg.pipeline.packet import Packet
from thalweg.transports.codec import CodecError, decode, encode

_ARRAY, _PACKET = 1, 2
_KINDS = "biuf?"


def pack_state(tree: Any) -> bytes:
    """Write a tree. Raises CodecError on a value that has no form."""
    try:
        packed: bytes = msgpack.packb(tree, default=_extend)
    except (OverflowError, ValueError) as error:
        raise CodecError(f"the state cannot be written: {error}") from None
    return packed


def unpack_state(packed: bytes) -> Any:
    """The tree, with arrays of its own. Raises CodecError on anything else."""
    try:
        return msgpack.unpackb(packed, ext_hook=_restore, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        raise CodecError(f"the state cannot be read: {error!r}") from None


def _extend(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind in _KINDS:
        head = msgpack.packb([value.dtype.str, list(value.shape)])
        return msgpack.ExtType(_ARRAY, head + np.ascontiguousarray(value).tobytes())
    if isinstance(value, Packet):
        return msgpack.ExtType(_PACKET, b"".join(encode(value)))
    if isinstance(value, np.generic):
        return value.item()
    raise CodecError(f"a value of type {type(value).__name__} cannot be part of a state")


def _restore(code: int, data: bytes) -> Any:
    if code == _PACKET:
        return decode(data)
    if code != _ARRAY:
        raise CodecError(f"the state holds an extension of unknown kind {code}")
    unpacker = msgpack.Unpacker(use_list=True)
    unpacker.feed(data)
    dtype, shape = unpacker.unpack()
    kind = np.dtype(dtype)
    if kind.kind not in _KINDS:
        raise CodecError(f"the state holds an array of {kind}")
    return np.frombuffer(data, kind, offset=unpacker.tell()).reshape(shape).copy()
