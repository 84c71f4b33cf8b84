"""The exceptions of Thalweg: one small tree, each message says what was found, what was expected, what to do."""

from __future__ import annotations


class ThalwegError(Exception):
    """Root of every error this package raises on purpose. Its text is meant for people."""


class PayloadError(ThalwegError, ValueError):
    """A payload or packet was built from values that cannot be one."""


class ChannelClosed(ThalwegError):
    """A packet was pushed into a channel after its producer had closed it."""
