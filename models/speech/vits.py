"""Cuts a VITS voice in two, before its decoder, so that sound comes out while a sentence is still being decoded.

A voice as Piper exports it is one network: text → latent frames (encoder, durations, flow) → sound (HiFi-GAN; Kim et
al. 2021, section 2.5). The first half must see the whole sentence. The second is convolutions alone: the sound of a
frame depends on a few frames on each side. With ten of them, pieces of Piper's decoder put together differ from the
whole by 1e-6; so it can be run piece by piece.

The ONNX file is taken apart at the level of protobuf's wire format (onnx.proto: ModelProto, GraphProto, NodeProto),
since the runtime cannot do it and the `onnx` package is a large one to install for that.
"""

from __future__ import annotations

from collections.abc import Iterator

PADDING = 16
"""Frames on each side of a piece that are decoded with it and dropped. Ten are enough for the decoder of Piper's `low`
and `medium` voices, by measurement; thirteen are what the kernels of its `high` ones reach, by arithmetic."""
_FIRST_OF_DECODER = b"/dec/conv_pre/Conv"
_GRAPH, _NODE, _INITIALIZER, _INPUT, _OUTPUT, _VALUE_INFO = 7, 1, 5, 11, 12, 13
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _TENSOR_NAME, _VALUE_NAME = 1, 2, 3, 8, 1
_VARINT, _BYTES = 0, 2
_FIXED = {1: 8, 5: 4}


class CutError(ValueError):
    """Bytes that are no message of protobuf."""


def halves(model: bytes) -> tuple[bytes, bytes, str] | None:
    """(text → frames, frames → sound, the frames' name) of an ONNX model; None where it is not built like that.

    Raises CutError on what is no ONNX file.
    """
    head, graph = [], memoryview(b"")
    for number, raw, value in _fields(memoryview(model)):
        if number == _GRAPH:
            graph = value
        else:
            head.append(raw)
    nodes, tensors, inputs, outputs, rest = [], [], [], [], []
    for number, raw, value in _fields(graph):
        if number == _NODE:
            nodes.append((raw, *_named(value)))
        elif number == _INITIALIZER:
            tensors.append((raw, next((bytes(text) for at, _, text in _fields(value) if at == _TENSOR_NAME), b"")))
        elif number == _INPUT:
            inputs.append(raw)
        elif number == _OUTPUT:
            outputs.append((raw, next((bytes(text) for at, _, text in _fields(value) if at == _VALUE_NAME), b"")))
        elif number != _VALUE_INFO:
            rest.append(raw)
    frames = next((read[0] for _, name, read, _ in nodes if name == _FIRST_OF_DECODER and read), None)
    if frames is None:
        return None
    sound = {frames}
    sides: tuple[list[memoryview], list[memoryview]] = ([], [])
    reads: tuple[set[bytes], set[bytes]] = (set(), set())
    for raw, _, read, written in nodes:  # an ONNX graph is sorted: what is read was written before
        after = not sound.isdisjoint(read)
        sides[after].append(raw)
        reads[after].update(read)
        if after:
            sound.update(written)
    constants = {name for _, name in tensors}
    if reads[True] - sound - constants or any(name not in sound or name == frames for _, name in outputs):
        return None  # the decoder needs more than frames, as that of several speakers does
    info = _value_info(frames)
    before = [raw for raw, name in tensors if name in reads[False] or name not in reads[True]]
    after_it = [raw for raw, name in tensors if name in reads[True]]
    first: tuple[bytes | memoryview, ...] = (*sides[False], *rest, *before, *inputs, _field(_OUTPUT, info))
    second: tuple[bytes | memoryview, ...] = (
        *sides[True],
        *rest,
        *after_it,
        _field(_INPUT, info),
        *(raw for raw, _ in outputs),
    )
    return (
        b"".join((*head, _field(_GRAPH, b"".join(first)))),
        b"".join((*head, _field(_GRAPH, b"".join(second)))),
        frames.decode(),
    )


def _named(node: memoryview) -> tuple[bytes, list[bytes], list[bytes]]:
    """(name, inputs, outputs) of a node."""
    found: dict[int, list[bytes]] = {_NODE_INPUT: [], _NODE_OUTPUT: [], _NODE_NAME: []}
    for number, _, value in _fields(node):
        if number in found and len(value):
            found[number].append(bytes(value))
    return b"".join(found[_NODE_NAME]), found[_NODE_INPUT], found[_NODE_OUTPUT]


def _value_info(name: bytes) -> bytes:
    """A tensor of float32, of any shape."""
    return _field(1, name) + _field(2, _field(1, bytes((1 << 3 | _VARINT, 1))))


def _field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """(number, whole field, what is in it) of each field of a message; empty for one that is a number."""
    at = 0
    while at < len(data):
        begin = at
        key, at = _read_varint(data, at)
        kind, value = key & 7, data[:0]
        if kind == _VARINT:
            _, at = _read_varint(data, at)
        elif kind == _BYTES:
            size, at = _read_varint(data, at)
            value, at = data[at : at + size], at + size
        elif kind in _FIXED:
            at += _FIXED[kind]
        else:
            raise CutError("this is no ONNX file")
        if at > len(data):
            raise CutError("this ONNX file is cut off")
        yield key >> 3, data[begin:at], value


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
    raise CutError("this ONNX file is cut off")
