"""What a node knows of the vehicle it sits on: told by its stages, its word on being armed kept on the disk.

    vehicle.json    {"armed": true}: the last state received. Remove it if the vehicle will never report again

Silence says nothing: a vehicle that was armed is armed until it is told that it is not. So the loss of its position,
of the autopilot, of the pipeline that listens, or a restart of the agent never has a release tried in flight.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thalweg.deploy.fleet.node.disk import Disk

log = logging.getLogger(__name__)

MOST_NAMES = 20
PLACE = "place "
"""What begins the name under which a stage says where it runs."""


class VehicleState:
    """`armed`: None where it was never reported. `known`: that, and the other last reports; replaced whole."""

    def __init__(self, folder: Path, disk: Disk | None = None) -> None:
        self._disk = disk or Disk(folder)
        self._path = folder / "vehicle.json"
        self.armed = self._written = self._read()
        self.known: dict[str, Any] = {} if self.armed is None else {"armed": self.armed}

    def said(self, state: Mapping[Any, Any]) -> None:
        """A stage has said how it is. What it leaves out stays as it was; so does `armed` where it is no bool."""
        told = {name: value for name, value in state.items() if isinstance(name, str)}
        armed = told.pop("armed", None)
        if isinstance(armed, bool):
            self.armed = armed
        rest = list({**self.known, **told}.items())[:MOST_NAMES]
        self.known = dict(rest) if self.armed is None else {**dict(rest), "armed": self.armed}
        if self.armed != self._written and self._disk.keep(self._path, json.dumps({"armed": self.armed}).encode()):
            self._written = self.armed  # else it is tried again with the next word

    def forget_pipeline(self) -> None:
        """Another pipeline begins: if it has a ladder, or stages that move, it says where they are."""
        self.known = {
            name: value for name, value in self.known.items() if name != "rung" and not name.startswith(PLACE)
        }

    def _read(self) -> bool | None:
        try:
            armed = json.loads(self._path.read_bytes())["armed"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error(
                "%s cannot be read: %s; the vehicle is taken to be armed until it says otherwise", self._path, error
            )
            return True
        return armed is not False
