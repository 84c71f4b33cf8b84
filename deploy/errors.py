"""What keeps a pipeline from starting, what goes wrong while it runs, and errors in words for people."""

from __future__ import annotations

from dataclasses import dataclass

from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.text import printable


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that went wrong while the pipeline ran. `epoch`: the turn it belongs to, 0 for none.

    `recovered`: nothing was lost by it. `final`: the stage, a source, has ended by it. `ends`: no problem at all, but
    the end of the run: its output has no reader any more.
    """

    stage: str
    message: str
    epoch: int
    time_ns: int
    recovered: bool = False
    final: bool = False
    ends: bool = False


class StartError(ThalwegError):
    """A stage could not be built or opened; nothing was run."""


def describe_error(error: BaseException) -> str:
    """An exception in one line for people: our own speak for themselves, others are named."""
    try:
        text = printable(" ".join(str(error).split()))
    except Exception:  # other people's exceptions may be broken, too
        text = "what it says cannot be read"
    if isinstance(error, OSError) or type(error).__module__.startswith("thalweg."):
        return text or type(error).__name__
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
