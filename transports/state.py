"""The state of stages as bytes: trees of plain values, arrays and packets, as `snapshot()` returns them.

MessagePack, with arrays and packets as extensions. Tuples become lists. Decoding can only build known types.
"""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np

from thalweg.pipeline.decoding import decoder, reason_of, shown
from thalweg.pipeline.packet import Packet
from thalweg.transports.codec import CodecError, decode, encode
from thalweg.transports.packing import unpack_tree

_ARRAY, _PACKET = 1, 2
_KINDS = "biuf?"
_LONGEST_HEAD = 4096


def pack_state(tree: Any) -> bytes:
    """Encode a tree. Raises CodecError on a value of another type."""
    try:
        packed: bytes = msgpack.packb(tree, default=_extend, unicode_errors="surrogatepass")
    except CodecError:
        raise
    except Exception as error:
        raise CodecError(f"the state cannot be written: {reason_of(error)}") from None
    return packed


@decoder(CodecError, "the state")
def unpack_state(packed: bytes) -> Any:
    """The tree, with arrays of its own. Raises CodecError on anything else."""
    return unpack_tree(packed, _restore)


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
    head = msgpack.Unpacker(
        max_buffer_size=_LONGEST_HEAD, max_array_len=64, max_map_len=0, max_bin_len=0, max_ext_len=0
    )
    head.feed(data[:_LONGEST_HEAD])
    dtype, shape = head.unpack()
    kind = np.dtype(dtype) if type(dtype) is str else None
    if kind is None or kind.kind not in _KINDS:
        raise CodecError(f"the state holds an array of {shown(dtype)}")
    return np.frombuffer(data, kind, offset=head.tell()).reshape(shape).copy()
