"""Errors that prevent a pipeline from starting, problems while it runs, and their description for people."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.text import printable


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An error while the pipeline runs. `epoch`: the turn that it belongs to, 0 for none.

    `recovered`: nothing was lost. `final`: it ended the stage, a source. `ends`: not an error, but the end of the run,
    since its output has no reader any more. `where`: the line of the stage's own module that raised, if one did.
    """

    stage: str
    message: str
    epoch: int
    time_ns: int
    recovered: bool = False
    final: bool = False
    ends: bool = False
    where: str = ""

    @property
    def told(self) -> str:
        """The message with its place, for people who may have written the stage."""
        return f"{self.message} ({self.where})" if self.where else self.message


class StartError(ThalwegError):
    """A stage could not be constructed or opened; nothing was run."""


def raised_where(error: BaseException | None, stage: object) -> str:
    """`FILE:LINE` of the innermost frame in the module of a stage, for what was not raised to be read by people."""
    module = type(stage).__module__
    ours = module.startswith("thalweg.")
    if isinstance(error, ThalwegError) or (ours and isinstance(error, OSError)):
        return ""
    where, trace = "", error.__traceback__ if error is not None else None
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__") == module:
            where = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return where


def told_of(error: BaseException) -> str:
    """What people are told of an exception: ours are written for them, others are described."""
    ours = isinstance(error, ThalwegError) or type(error).__module__.startswith("thalweg.")
    return str(error) if ours else describe_error(error)


def describe_error(error: BaseException) -> str:
    """An exception in one line for people: the message, and for exceptions of others the type."""
    try:
        text = printable(" ".join(str(error).split()))
    except Exception:  # other people's exceptions may be broken, too
        text = "what it says cannot be read"
    if isinstance(error, OSError) or type(error).__module__.startswith("thalweg."):
        return text or type(error).__name__
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
