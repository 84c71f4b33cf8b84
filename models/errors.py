"""The one exception of this room."""

from __future__ import annotations

from thalweg.errors import ThalwegError


class ModelError(ThalwegError):
    """A model that is unknown, cannot be fetched, or is not what it should be. Its text is meant for people."""
