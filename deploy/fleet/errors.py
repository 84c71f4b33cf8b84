"""What goes wrong between a node, its hub and their folders."""

from __future__ import annotations

from thalweg.pipeline.errors import ThalwegError


class FleetError(ThalwegError):
    """Something that a node or hub cannot do; says what was found, and what to do."""
