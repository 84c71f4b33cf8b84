"""Errors that prevent a pipeline from starting, problems while it runs, and their description for people."""

from __future__ import annotations

from dataclasses import dataclass

from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.text import printable


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An error while the pipeline runs. `epoch`: the turn that it belongs to, 0 for none.

    `recovered`: nothing was lost. `final`: it ended the stage, a source. `ends`: not an error, but the end of the run,
    since its output has no reader any more.
    """

    stage: str
    message: str
    epoch: int
    time_ns: int
    recovered: bool = False
    final: bool = False
    ends: bool = False


class StartError(ThalwegError):
    """A stage could not be constructed or opened; nothing was run."""


def describe_error(error: BaseException) -> str:
    """An exception in one line for people: the message, and for exceptions of others the type."""
    try:
        text = printable(" ".join(str(error).split()))
    except Exception:  # other people's exceptions may be broken, too
        text = "what it says cannot be read"
    if isinstance(error, OSError) or type(error).__module__.startswith("thalweg."):
        return text or type(error).__name__
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
