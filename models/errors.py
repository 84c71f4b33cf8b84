"""The one exception of this room. It stands outside the `ThalwegError` tree: this room imports nothing of ours."""

from __future__ import annotations


class ModelError(Exception):
    """A model that is unknown, cannot be fetched, or is not what it should be. Its text is meant for people."""
