"""Decoders: functions that make something of bytes that came from elsewhere.

Whatever the bytes are, a decoder gives what it promises or raises the one error that it names, with a text of bounded
length in which nothing can command a terminal. `decoder` sees to it, and is the only place that does; a test walks
`DECODERS` and the modules that hold decoders, feeds each of them garbage, and fails where one does without it.
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
"""Every decoder there is, of the modules that were imported."""

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = LONGEST_VALUE
_SHORT.maxlevel = 3


def decoder(error: type[ThalwegError], what: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Have a function raise `error` and nothing else, whatever it meets. `what`: what it reads, for the text."""

    def guard(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return function(*args, **kwargs)
            except error as own:
                if (text := printable(own, LONGEST_TEXT)) == str(own):
                    raise
                raise error(text) from None
            except Exception as found:  # whatever a library raises on garbage: this is where it becomes ours
                raise error(f"{what} cannot be read: {reason_of(found)}") from None

        DECODERS.append(guarded)
        return guarded

    return guard


def reason_of(error: Exception) -> str:
    """What an exception says, bounded; with its type where that says more."""
    try:
        text = str(error)
    except Exception:  # a text that is made of the value it complains of can fail, or be as deep as that
        text = ""
    name = type(error).__name__
    if text and not isinstance(error, ThalwegError):
        text = f"{name}: {text}"
    return printable(text or name, LONGEST_TEXT)


def shown(value: object) -> str:
    """A value for a message: short, whatever it is."""
    try:
        text = _SHORT.repr(value)
    except Exception:  # nested too deeply, a number with too many digits, or a `__repr__` that fails
        text = f"a {type(value).__name__}"
    return printable(text, LONGEST_VALUE)
