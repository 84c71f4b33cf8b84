"""Errors of packets and channels; the tree of all is in `thalweg.errors`."""

from __future__ import annotations

from thalweg.errors import ThalwegError

__all__ = ["ChannelClosed", "PayloadError", "ThalwegError"]


class PayloadError(ThalwegError, ValueError):
    """A payload or packet was built from values that cannot be one."""


class ChannelClosed(ThalwegError):
    """A packet was pushed into a channel after its producer had closed it."""
