"""What keeps a pipeline from starting, and errors in words for people."""

from __future__ import annotations

from thalweg.pipeline.errors import ThalwegError


class StartError(ThalwegError):
    """A stage could not be built or opened; nothing was run."""


def describe_error(error: BaseException) -> str:
    """An exception in one line for people: our own speak for themselves, others are named."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) or type(error).__module__.startswith("thalweg."):
        return text or type(error).__name__
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
