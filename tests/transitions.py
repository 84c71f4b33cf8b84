"""Machines whose transitions are data, watched while any test runs: a step that the table lacks fails that test.

The tables stand beside the states they are about, with the theory in the docstring above them; a test compares the two.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from enum import Enum
from typing import Any

MACHINES = {
    "models.language.thinking": ("ThinkingFilter", "_state"),
    "pipeline.cluster.supervision": ("Supervisor", "state"),
    "pipeline.handoff.answering": ("Answering", "state"),
    "pipeline.node": ("Node", "state"),
    "pipeline.video.region_benefit": ("RegionBenefit", "state"),
    "deploy.door.doorkeeper": ("ConnectionPlace", "state"),
    "deploy.runtime.lifetime": ("Lifetime", "_state"),
    "deploy.server.hosts.link": ("HostLink", "state"),
    "deploy.server.hosts.moving": ("Move", "state"),
    "deploy.server.session": ("Session", "state"),
    "stages.language.reply": ("Reply", "state"),
    "transports.webrtc.presence": ("Presence", "state"),
}
"""Module → the class in it that has the state, and where."""

found: list[str] = []
"""Steps that were in no table, since this list was emptied."""


_watched: set[str] = set()


def watch() -> None:
    """From now on steps of the machines imported so far that are not in their tables are `found`."""
    for name in MACHINES.keys() - _watched:
        if f"thalweg.{name}" in sys.modules:
            _watched.add(name)
            _watch(name)


def _watch(name: str) -> None:
    module = sys.modules[f"thalweg.{name}"]
    of, attribute = MACHINES[name]
    machine, table = getattr(module, of), module.TRANSITIONS
    keep = machine.__setattr__

    def set_attribute(self: Any, key: str, value: Any) -> None:  # Any: of whatever class
        before = getattr(self, attribute, None)
        if key == attribute and before is not None and not allowed(table, before, value):
            found.append(f"{of} went from {before.name} to {value.name}, which TRANSITIONS of {name} does not have")
        keep(self, key, value)

    machine.__setattr__ = set_attribute


def allowed(table: Mapping[Enum, frozenset[Enum]], before: Enum, after: Enum) -> bool:
    """Whether the table has this step; staying is always allowed."""
    return after is before or after in table[before]
