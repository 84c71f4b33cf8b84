"""Derives the wire format of a payload from the types of its fields: `form_of`, for all transports.

A type without a wire format is refused by name, when a pipeline file is checked: see `check_carried`. Decoding calls
constructors, so a received value is as valid as a local one.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import threading
import types
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Mapping,
    MutableMapping,
    MutableSequence,
    MutableSet,
    Sequence,
    Set,
)
from enum import Enum
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from thalweg.pipeline.decoding import LONGEST_VALUE, reason_of, shown
from thalweg.pipeline.payload import Payload
from thalweg.pipeline.text import printable
from thalweg.transports import values
from thalweg.transports.values import ORDERED, PLAIN, Buffers, CodecError, Form

_MAPS = (dict, Mapping, MutableMapping)
_LISTS: dict[Any, Callable[[Iterable[Any]], Any]] = {
    list: list, MutableSequence: list,
    Sequence: tuple, Collection: tuple, Iterable: tuple,
    set: set, MutableSet: set,
    frozenset: frozenset, Set: frozenset,
}  # fmt: skip

_FORMS: dict[type, Form] = {}
_MAKING: set[type] = set()
_LOCK = threading.RLock()


def form_of(cls: type) -> Form:
    """The wire format of a dataclass: an array of its fields. Raises CodecError if one of them has none."""
    form = _FORMS.get(cls)
    if form is not None:
        return form
    with _LOCK:
        if cls in _MAKING:  # a type that holds values of its own kind
            return Form(lambda value, buffers: form_of(cls).write(value, buffers), lambda w, b: form_of(cls).read(w, b))
        _MAKING.add(cls)
        try:
            return _FORMS.setdefault(cls, _make_form(cls))
        finally:
            _MAKING.discard(cls)


def check_carried(cls: type[Payload]) -> None:
    """Raises CodecError if payloads of this type cannot be sent to another process."""
    if cls is Payload:
        return
    if cls.__module__ == "__main__" or "<locals>" in cls.__qualname__:
        where = "the program that was started" if cls.__module__ == "__main__" else "a function"
        raise CodecError(f"{cls.__name__} is defined in {where}, where no other process finds it: put it into a module")
    form_of(cls)


def type_name(cls: type) -> str:
    """`AudioChunk` for Thalweg's own payloads, `package.module:Class` for all others."""
    own = cls.__module__ == Payload.__module__
    return cls.__name__ if own else f"{cls.__module__}:{cls.__qualname__}"


@cache
def payload_type(name: str) -> type[Payload]:
    """The payload class of that name. Raises CodecError if this process has not imported it.

    Imports nothing, and triggers no lazy attribute of a module or class.
    """
    if type(name) is not str:
        raise values.wrong(name, "the name of a payload type")
    module, _, qualname = name.rpartition(":")
    found: Any = sys.modules.get(module or Payload.__module__)
    for part in qualname.split("."):
        found = getattr(found, "__dict__", {}).get(part)
    if not (isinstance(found, type) and issubclass(found, Payload) and type_name(found) == name):
        raise CodecError(f"the payload type {shown(name)} is not known here; import the module that defines it")
    return found


def _make_form(cls: type) -> Form:
    try:
        hints = get_type_hints(cls, include_extras=True)
    except Exception as error:  # a name that only type checkers import, an annotation that is no expression
        raise CodecError(f"the types of {cls.__name__}'s fields cannot be found out: {reason_of(error)}") from None
    if vars(cls).get("__annotations__") and "__dataclass_fields__" not in vars(cls):
        raise CodecError(f"{cls.__name__} is no dataclass: put @dataclass(frozen=True, slots=True, kw_only=True) on it")
    names = [field.name for field in dataclasses.fields(cls) if field.init]
    _check_constructor(cls, names)
    forms = [_form(hints[name]) for name in names]
    if None in forms:
        name = names[forms.index(None)]
        raise CodecError(f"{cls.__name__}.{name} is of type {_named(hints[name])}, which has no form on the wire")
    known = [(name, form) for name, form in zip(names, forms, strict=True) if form is not None]
    getters = [(name, None if form.plain else form.write) for name, form in known]
    readers = [(name, form.read) for name, form in known]
    needed = _without_defaults(cls)
    later = [field.default for field in dataclasses.fields(cls) if field.init and field.metadata.get("later")]
    least = len(names) - len(later)

    def write(value: Any, buffers: list[memoryview]) -> list[Any]:
        return [
            getattr(value, name) if write is None else write(getattr(value, name), buffers) for name, write in getters
        ]

    def write_short(value: Any, buffers: list[memoryview]) -> list[Any]:
        written = write(value, buffers)
        while len(written) > least and written[-1] == later[len(written) - 1 - least]:
            written.pop()
        return written

    def read(written: Any, buffers: Buffers) -> Any:
        if type(written) not in ORDERED or not needed <= len(written) <= len(readers):
            found = f"{len(written)} fields" if type(written) in ORDERED else shown(written)
            raise CodecError(f"a {cls.__name__} has {len(readers)} fields, the record holds {found}")
        return cls(**{name: read(one, buffers) for (name, read), one in zip(readers, written, strict=False)})

    return Form(write_short if later else write, read, name=type_name(cls))


def _without_defaults(cls: type) -> int:
    """How many fields an older record must have: later fields are at the end of a payload, with a default."""
    missing = dataclasses.MISSING
    fields = [field for field in dataclasses.fields(cls) if field.init]
    return max(
        (i + 1 for i, f in enumerate(fields) if f.default is missing and f.default_factory is missing), default=0
    )


def _check_constructor(cls: type, names: Sequence[str]) -> None:
    """Raises CodecError if the constructor cannot be called with the fields."""
    takes = inspect.signature(cls).parameters.values()
    wants = {p.name for p in takes if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    if missing := sorted(wants - set(names)):
        raise CodecError(f"{cls.__name__} cannot be built from its fields: it also wants {', '.join(missing)}")


def _form(hint: Any) -> Form | None:
    """The wire format of an annotation, or None."""
    hint = _without_names(hint)
    origin, inner = get_origin(hint), get_args(hint)
    if hint in PLAIN or hint in (None, type(None)):
        return values.scalar(hint)
    if origin is Literal:
        return values.one_of(inner) if all(type(value) in (*PLAIN, type(None)) for value in inner) else None
    if hint is np.ndarray or origin is np.ndarray:
        return values.ARRAY if all(map(values.carries_dtype, get_args(inner[1]) if inner[1:] else ())) else None
    if origin is tuple and not (len(inner) == 2 and inner[1] is Ellipsis):
        return _all_or_none(map(_form, inner), values.row)
    if origin in _MAPS or hint in _MAPS:
        return _mapping(*(inner or (str, Any)))
    if origin in (Union, types.UnionType):
        return _union(inner)
    make = tuple if origin is tuple else _LISTS.get(origin)
    if make is not None:
        return _all_or_none([_form(inner[0])], lambda forms: values.many(make, forms[0]))
    return _class(hint) if isinstance(hint, type) else None


def _all_or_none(forms: Iterable[Form | None], make: Callable[[list[Form]], Form]) -> Form | None:
    """The result of `make` on the forms, or None if one is missing."""
    found = list(forms)
    there = [form for form in found if form is not None]
    return make(there) if len(there) == len(found) else None


def _mapping(key: Any, value: Any) -> Form | None:
    text_keys = _without_names(key) in (str, bytes, Any, object)
    keys = values.scalar(str, bytes) if key in (Any, object) else _form(key)
    inner = values.ANYTHING if value in (Any, object) else _form(value)
    return _all_or_none([keys, inner], lambda forms: values.mapping(*forms, text_keys=text_keys))


def _union(options: Sequence[Any]) -> Form | None:
    """None or one type, or several plain types; other unions would be ambiguous on the wire."""
    others = [_without_names(option) for option in options if option not in (None, type(None))]
    if len(others) == 1:
        return _all_or_none([_form(others[0])], lambda forms: values.optional(forms[0]))
    if all(option in PLAIN for option in others):
        return values.scalar(*others, *([None] if len(others) < len(options) else []))
    return None


def _class(hint: type) -> Form | None:
    if issubclass(hint, Enum):
        return values.member(hint) if all(isinstance(member.value, PLAIN) for member in hint) else None
    if issubclass(hint, np.generic):
        return values.numpy_scalar(hint) if np.dtype(hint) in values.DTYPES.values() else None
    if hint is Payload:
        return Form(_write_payload, _read_payload)
    if dataclasses.is_dataclass(hint):
        return _dataclass(hint)
    if issubclass(hint, tuple) and hasattr(hint, "_fields"):
        hints = get_type_hints(hint)
        if all(name in hints for name in hint._fields):
            return _all_or_none(
                (_form(hints[name]) for name in hint._fields),
                lambda forms: values.row(forms, lambda items: hint(*items)),
            )
    return None


def _dataclass(hint: type) -> Form:
    """A dataclass; for a payload also its subclasses, which are sent with their name."""
    inner = form_of(hint)

    def write(value: Any, buffers: list[memoryview]) -> Any:
        kind = type(value)
        if kind is hint:
            return inner.write(value, buffers)
        if not (issubclass(kind, hint) and issubclass(kind, Payload)):
            raise values.wrong(value, f"a {hint.__name__}")
        form = form_of(kind)
        return {form.name: form.write(value, buffers)}

    def read(written: Any, buffers: Buffers) -> Any:
        if type(written) is not dict:
            return inner.read(written, buffers)
        ((name, fields),) = written.items()
        kind = payload_type(name)
        if not issubclass(kind, hint):
            raise CodecError(f"found a {kind.__name__} where a {hint.__name__} should be")
        return form_of(kind).read(fields, buffers)

    return Form(write, read)


def _write_payload(payload: Payload, buffers: list[memoryview]) -> list[Any]:
    form = form_of(type(payload))
    return [form.name, form.write(payload, buffers)]


def _read_payload(written: Any, buffers: Buffers) -> Any:
    name, fields = written
    return form_of(payload_type(name)).read(fields, buffers)


def _without_names(hint: Any) -> Any:
    """What an annotation stands for, where it is a `type` alias (numpy's NDArray is one from 2.5 on), a NewType or
    Annotated.
    """
    while True:
        origin, given = get_origin(hint), get_args(hint)
        # Python 3.12's TypeAliasType, and that of typing_extensions, by what it has
        alias = origin if hasattr(origin, "__value__") else hint
        if origin is Annotated:
            hint = given[0]
        elif hasattr(hint, "__supertype__"):
            hint = hint.__supertype__
        elif hasattr(alias, "__value__"):
            hint = _filled_in(alias.__value__, dict(zip(alias.__type_params__, given, strict=False)))
        else:
            return hint


def _filled_in(value: Any, given: Mapping[Any, Any]) -> Any:
    """The value of a `type` alias with its parameters replaced by what is `given` for them."""
    if value in given:
        return given[value]
    open_ = getattr(value, "__parameters__", ())
    return value[tuple(given.get(parameter, Any) for parameter in open_)] if open_ else value


def _named(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else printable(hint, LONGEST_VALUE)
