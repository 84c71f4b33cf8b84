"""Errors of packets and channels; the tree of all is in `thalweg.errors`."""

from __future__ import annotations

from thalweg.errors import ThalwegError

__all__ = ["ChannelClosed", "PayloadError", "ThalwegError"]


class PayloadError(ThalwegError, ValueError):
    """A payload or packet was built from values that cannot be one."""


class ChannelClosed(ThalwegError):
    """A packet was pushed into a channel after its producer had closed it."""


class ReaderGone(ThalwegError):
    """Nobody reads standard output any more, as with `| head -1`: what was wanted has been seen, and the run ends."""
