"""What a person sets for their own conversation: held against what the pipeline file offers, then given to its stage.

Theory of operation. Wishes come as messages, as fast as those may. Of each preference the last wish alone waits, for
`PAUSE_S` at least between two rounds, so that a slider that is drawn costs a stage a few changes a second. Whatever is
not offered, by its name or its value, changes nothing and is told to the person; so is what the stage refuses, and why
goes to the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from thalweg.pipeline.dialogue.events import Event, Prefer, Preferred, Trouble
from thalweg.pipeline.file.preferences import Preference, PreferenceError

log = logging.getLogger(__name__)

PAUSE_S = 0.2

Configure = Callable[[str, Mapping[str, object]], Awaitable[None]]
"""Stage and settings."""


class Preferring:
    """Of one conversation. `tell`: to the person."""

    def __init__(self, offered: Mapping[str, Preference], configure: Configure, tell: Callable[[Event], None]) -> None:
        self._offered, self._configure, self._tell = offered, configure, tell
        self._wishes: dict[str, object] = {}
        self._came = asyncio.Event()

    def wish(self, wish: Prefer) -> None:
        """The person wants something. Never waits."""
        offered = self._offered.get(wish.name)
        if offered is None:
            self._tell(Trouble(code="not-offered", message="That cannot be set here."))
            return
        try:
            self._wishes[wish.name] = offered.taken(wish.value)
        except PreferenceError as error:
            self._tell(Trouble(code="not-offered", message=f"{error}."))
            return
        self._came.set()

    async def run(self) -> None:
        """Fulfil wishes, until cancelled."""
        while True:
            await self._came.wait()
            self._came.clear()
            wishes, self._wishes = self._wishes, {}
            for name, value in wishes.items():
                await self._fulfil(self._offered[name], value)
            await asyncio.sleep(PAUSE_S)

    async def _fulfil(self, offered: Preference, value: object) -> None:
        try:
            await self._configure(offered.stage, {offered.parameter: value})
        except Exception as error:  # stages raise what they like
            log.warning("the preference %s could not be set: %r", offered.name, error)
            self._tell(Trouble(code="not-set", message=f"{offered.label} could not be set. It stays as it was."))
            return
        assert isinstance(value, str | float)
        self._tell(Preferred(name=offered.name, value=value))
