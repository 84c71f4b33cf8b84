"""How values of each type are encoded as MessagePack and decoded; arrays are stored beside it, as buffers.

    kind                                           written as
    int, float, str, bool, bytes, None             itself
    Literal, Enum, numpy's scalars                 the plain value
    list, set, frozenset, Sequence, tuple          an array
    dict, Mapping                                  a map; an array of pairs where keys are neither text nor bytes
    dataclass, NamedTuple                          an array of its fields, in the order they are declared
    a payload of a subclass of what is declared    a map with one entry, name → fields
    Payload                                        name and fields
    array                                          type, shape, index of the buffer

Encoding trusts values: a value that does not match its annotation is found by the reader. Decoding checks every value.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.pipeline.decoding import shown
from thalweg.pipeline.errors import ThalwegError

DTYPES = {t: np.dtype(t) for t in ("u1", "i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8", "?")}
_FORMATS = {
    np.empty(0, code).data.format: name
    for code in np.typecodes["AllInteger"] + "efd?"
    for name, dtype in DTYPES.items()
    if np.dtype(code) == dtype
}
PLAIN = (int, float, str, bool, bytes)
ORDERED = (tuple, list)  # arrays, as MessagePack is read here and elsewhere


class CodecError(ThalwegError):
    """Bytes are not a valid packet, or a packet cannot be encoded."""


@dataclasses.dataclass(slots=True)
class Buffers:
    """A record, and where its buffers lie in it: (offset, bytes)."""

    record: memoryview
    places: list[tuple[int, int]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Form:
    """How values of one kind are written and read; `write` adds arrays to the list it is given.

    `plain`: values are written as they are. `name`: of a dataclass, as the wire has it.
    """

    write: Callable[[Any, list[memoryview]], Any]
    read: Callable[[Any, Buffers], Any]
    plain: bool = False
    name: str = ""


ANYTHING = Form(lambda value, _: value, lambda value, _: value, plain=True)
"""Plain values and what is built of them, unchecked."""


def wrong(value: Any, wanted: str) -> CodecError:
    """The error of a reader that found something else."""
    return CodecError(f"found {shown(value)} where {wanted} should be")


def scalar(*kinds: type | None) -> Form:
    """Plain values of these types. A float may be a whole number; a truth value is no number."""
    accepted = {type(None) if kind is None else kind for kind in kinds} | ({int} if float in kinds else set())
    wanted = " or ".join("None" if kind in (None, type(None)) else kind.__name__ for kind in kinds)

    def read(value: Any, _: Any) -> Any:
        if type(value) not in accepted:
            raise wrong(value, f"a value of type {wanted}")
        return value

    return Form(lambda value, _: value, read, plain=True)


def one_of(values: Sequence[Any]) -> Form:
    """The values of a Literal."""

    def read(value: Any, _: Any) -> Any:
        for one in values:
            if type(value) is type(one) and value == one:
                return one
        raise wrong(value, f"one of {shown(tuple(values))}")

    return Form(lambda value, _: value, read, plain=True)


def member(kind: type[Enum]) -> Form:
    """An Enum, by its value."""

    def read(value: Any, _: Any) -> Any:
        if type(value) not in PLAIN:
            raise wrong(value, f"a value of {kind.__name__}")
        return kind(value)

    return Form(lambda value, _: value.value, read)


def numpy_scalar(kind: type[np.generic]) -> Form:
    """A number of one of numpy's types."""
    number = scalar(int, float, bool)
    return Form(lambda value, _: kind(value).item(), lambda value, buffers: kind(number.read(value, buffers)))


def optional(inner: Form) -> Form:
    """None, or a value of the inner kind."""
    return Form(
        lambda value, buffers: None if value is None else inner.write(value, buffers),
        lambda value, buffers: None if value is None else inner.read(value, buffers),
    )


def many(make: Callable[[Iterable[Any]], Any], one: Form) -> Form:
    """Any number of values of one kind, as a tuple, list, set, … that `make` makes."""

    def read(value: Any, buffers: Buffers) -> Any:
        if type(value) not in ORDERED:
            raise wrong(value, "a list of values")
        return make(one.read(item, buffers) for item in value)

    return Form(lambda value, buffers: [one.write(item, buffers) for item in value], read)


def row(kinds: Sequence[Form], make: Callable[[Iterable[Any]], Any] = tuple) -> Form:
    """A tuple with a value of each kind."""

    def read(value: Any, buffers: Buffers) -> Any:
        if type(value) not in ORDERED or len(value) != len(kinds):
            raise wrong(value, f"{len(kinds)} values")
        return make(kind.read(item, buffers) for kind, item in zip(kinds, value, strict=True))

    return Form(
        lambda value, buffers: [kind.write(item, buffers) for kind, item in zip(kinds, value, strict=True)], read
    )


def mapping(key: Form, value: Form, *, text_keys: bool) -> Form:
    """A dict."""

    def write(found: Mapping[Any, Any], buffers: list[memoryview]) -> Any:
        if text_keys:
            return dict(found) if value.plain else {k: value.write(v, buffers) for k, v in found.items()}
        return [[key.write(k, buffers), value.write(v, buffers)] for k, v in found.items()]

    def read(written: Any, buffers: Buffers) -> Any:
        if type(written) is dict:
            pairs: Iterable[Any] = written.items()
        elif type(written) in ORDERED and all(type(pair) in ORDERED and len(pair) == 2 for pair in written):
            pairs = written
        else:
            raise wrong(written, "a map")
        return {key.read(k, buffers): value.read(v, buffers) for k, v in pairs}

    return Form(write, read)


def write_array(array: NDArray[Any], buffers: list[memoryview]) -> list[Any]:
    """By the buffer protocol: numpy's own attributes cost more, above all when they have not been used for a while."""
    try:
        view = array.data
        name = _FORMATS[view.format]
    except (ValueError, KeyError):
        if (native := array.dtype.newbyteorder("=")) != array.dtype and native in DTYPES.values():
            return write_array(array.astype(native), buffers)
        accepted = ", ".join(DTYPES)
        raise CodecError(f"an array of {array.dtype} has no form on the wire; use one of {accepted}") from None
    if not view.c_contiguous:
        view = np.ascontiguousarray(array).data
    buffers.append(view)
    return [name, view.shape, len(buffers) - 1]


def read_array(written: Any, buffers: Buffers) -> NDArray[Any]:
    """A read-only view of the record."""
    name, shape, index = written
    if type(index) is not int or not 0 <= index < len(buffers.places):
        raise wrong(index, f"the index of one of {len(buffers.places)} buffers")
    at, size = buffers.places[index]
    array: NDArray[Any] = np.ndarray(shape, DTYPES[name], buffers.record, at)
    if array.nbytes != size:
        raise CodecError(f"an array of {array.nbytes} bytes lies in {size} bytes")
    return array


ARRAY = Form(write_array, read_array)


def carries_dtype(kind: Any) -> bool:
    """Whether arrays of this type, numpy's or a family of them, have a form."""
    if not (isinstance(kind, type) and issubclass(kind, np.generic)):
        return True  # a type variable, Any: told when an array is written
    if kind in (np.generic, np.number, np.integer, np.signedinteger, np.unsignedinteger, np.inexact, np.floating):
        return True
    if kind in (np.complexfloating, np.flexible, np.character):
        return False
    return np.dtype(kind) in DTYPES.values()
