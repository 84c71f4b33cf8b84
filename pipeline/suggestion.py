"""Suggests the nearest valid name for an invalid one, as long as that is cheap.

The search takes time linear in the number of valid names and quadratic in their lengths, and a file may have any number
of mistakes. So names above `LONGEST` characters get no suggestion, only the first `LOOKED_AT` valid names are compared,
and within `few_suggestions` only the first mistakes get one.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice

LONGEST = 64
LOOKED_AT = 2000
SUGGESTIONS = 8

_left: ContextVar[list[int] | None] = ContextVar("_left", default=None)


def nearest(name: str, valid: Iterable[str]) -> str:
    """`" (did you mean 'camera'?)"`, or empty if no valid name is near or the search would cost too much."""
    left = _left.get()
    if left is not None:
        if left[0] <= 0:
            return ""
        left[0] -= 1
    if len(name) > LONGEST:
        return ""
    near = (each for each in islice(valid, LOOKED_AT) if 3 * min(len(each), len(name)) >= max(len(each), len(name)))
    close = difflib.get_close_matches(name, list(near), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


@contextmanager
def few_suggestions(count: int = SUGGESTIONS) -> Iterator[None]:
    """Within the block only the first `count` mistakes get one."""
    token = _left.set([count])
    try:
        yield
    finally:
        _left.reset(token)
