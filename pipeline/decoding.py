"""Decoders: functions that parse untrusted bytes.

For any input a decoder returns a valid result or raises the one error that it names. The message has a bounded length
and holds no control characters. `decoder` alone enforces this. A test walks `DECODERS` and the modules that hold
decoders, feeds garbage to each, and fails where one is not wrapped.
"""

from __future__ import annotations

import functools
import reprlib
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.text import printable

P = ParamSpec("P")
T = TypeVar("T")

LONGEST_TEXT = 400
LONGEST_VALUE = 80

DECODERS: list[Callable[..., Any]] = []
"""All decoders of the imported modules."""

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = LONGEST_VALUE
_SHORT.maxlevel = 3


def decoder(error: type[ThalwegError], what: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Make a function raise `error` and nothing else on any input. `what`: what it reads, for the message."""

    def guard(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return function(*args, **kwargs)
            except error as own:
                if (text := printable(own, LONGEST_TEXT)) == str(own):
                    raise
                raise error(text) from None
            except Exception as found:  # a library may raise anything on garbage
                raise error(f"{what} cannot be read: {reason_of(found)}") from None

        DECODERS.append(guarded)
        return guarded

    return guard


def reason_of(error: Exception) -> str:
    """The message of an exception, of bounded length; with its type where the message is not enough."""
    try:
        text = str(error)
    except Exception:  # a text that is made of the value it complains of can fail, or be as deep as that
        text = ""
    name = type(error).__name__
    if text and not isinstance(error, ThalwegError):
        text = f"{name}: {text}"
    return printable(text or name, LONGEST_TEXT)


def shown(value: object) -> str:
    """A value for a message, always short."""
    try:
        text = _SHORT.repr(value)
    except Exception:  # nested too deeply, a number with too many digits, or a `__repr__` that fails
        text = f"a {type(value).__name__}"
    return printable(text, LONGEST_VALUE)
