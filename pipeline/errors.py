"""Errors of packets and channels; the tree of all is in `thalweg.errors`."""

from __future__ import annotations

from thalweg.errors import ThalwegError

__all__ = ["ChannelClosed", "PayloadError", "ThalwegError"]


class PayloadError(ThalwegError, ValueError):
    """A payload or packet was built from values that cannot be one."""


class ChannelClosed(ThalwegError):
    """A packet was pushed into a channel after its producer had closed it."""


class ReaderGone(ThalwegError):
    """The reader of standard output has gone, as with `| head -1`. The run ends, and this is no failure."""
