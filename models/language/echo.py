"""The question itself, word by word: for trying a pipeline out without a model."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator

from thalweg.models.language.backend import Abilities, Delta, Finish, Request, Text


class EchoBackend:
    """Says the last message back."""

    abilities = Abilities(continues="prefix")
    name = "the echo"

    async def open(self) -> None:
        """Nothing to load."""

    async def close(self) -> None:
        """Nothing to free."""

    async def reply(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Answer, from behind what was said already."""
        text = request.messages[-1].text
        for word in re.findall(r"\S+\s*", text.removeprefix(request.prefix)):
            yield Text(word)
        yield Finish()

    async def prefill(self, request: Request) -> None:
        """Nothing to read."""
