"""What a node knows of the vehicle it sits on: told by its stages, its word on being armed kept on the disk.

    vehicle.json    {"armed": true}: the last that was heard. Remove it where nobody will ever say otherwise

Silence says nothing: a vehicle that was armed is armed until it is told that it is not. So the loss of its position,
of the autopilot, of the pipeline that listens, or a restart of the agent never makes a change in flight possible.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thalweg.transports.fleet.durable import replace_file

log = logging.getLogger(__name__)

MOST_NAMES = 20


class VehicleState:
    """`known`: all that was said last, replaced whole; `armed`: None where nobody has ever told."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "vehicle.json"
        self.known: dict[str, Any] = {}
        if (armed := self._read()) is not None:
            self.known = {"armed": armed}

    @property
    def armed(self) -> bool | None:
        """See above."""
        found: bool | None = self.known.get("armed")
        return found

    def said(self, state: Mapping[Any, Any]) -> None:
        """A stage has said how it is. What it leaves out stays as it was; so does `armed` where it is no bool."""
        told = {name: value for name, value in state.items() if isinstance(name, str)}
        if not isinstance(told.get("armed"), bool):
            told.pop("armed", None)
        before = self.armed
        self.known = dict(list({**self.known, **told}.items())[:MOST_NAMES])
        if self.armed != before:
            try:
                replace_file(self._path, json.dumps({"armed": self.armed}).encode())
            except OSError as error:  # it is remembered until the agent ends
                log.error("%s cannot be written: %s", self._path, error.strerror)

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
