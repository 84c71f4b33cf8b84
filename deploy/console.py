"""Tables and coloured lines in a terminal. The only place where rich's console is made.

Rich reads square brackets in a text as markup and `:word:` as an emoji: file names, transcripts and messages of
servers hold both, and a bracket that matches none ends the program. This console reads neither. What is to have a
colour is said beside the text, never in it:

    console.say(("error", "red"), " ", stage, ": ", message)

What control characters are in what it is given, it shows and does not obey (`pipeline.text`).
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from typing import Any, TextIO

import rich.console
from rich.console import ConsoleOptions, JustifyMethod, OverflowMethod, RenderableType
from rich.segment import Segment
from rich.text import Text

from thalweg.pipeline.text import printable
from thalweg.stages.io.aside import Aside
from thalweg.stages.io.terminal import LONGEST, write

PLAIN_WIDTH = 160
"""Columns where nothing is known of who reads it: a file or another program has room for long lines."""


def line(*parts: str | tuple[str, str]) -> Text:
    """A text of parts; of one that is a pair the second is its style."""
    pairs = ((part, "") if isinstance(part, str) else part for part in parts)
    return Text.assemble(*((printable(text, LONGEST), style) for text, style in pairs))


class Console(rich.console.Console):
    """Rich's console, for untrusted texts. `err`: on standard error.

    `aside`: writes on a thread of its own, where a paused terminal must not block the caller.
    """

    def __init__(self, *, err: bool = False, width: int | None = None, aside: Aside | None = None) -> None:
        stream = _Stream(err, aside)
        super().__init__(
            file=stream,  # type: ignore[arg-type]  # all that rich asks of it is there
            markup=False,
            emoji=False,
            highlight=False,
            width=None if stream.isatty() else width or PLAIN_WIDTH,
        )

    def say(self, *parts: str | tuple[str, str]) -> None:
        """One line, however long. A part is a text, or a text and its style."""
        self.print(line(*parts), soft_wrap=True)

    def render_str(  # everything that is given as text passes here: lines, cells, titles
        self,
        text: str,
        *,
        style: Any = "",
        justify: JustifyMethod | None = None,
        overflow: OverflowMethod | None = None,
        **_: Any,  # Any: what markup, emoji and highlighting would need
    ) -> Text:
        """A text as it is."""
        return Text(printable(text, LONGEST, lines=True), style=style, justify=justify, overflow=overflow)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As rich does it; of what came as a `Text` of its own, nothing is left that a terminal would obey."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(printable(segment.text, None, lines=True), segment.style)


class _Stream(io.TextIOBase):
    """A standard stream as it is at the moment: tests and live views put others in its place."""

    def __init__(self, err: bool, aside: Aside | None) -> None:
        self._err = err
        self._aside = aside

    def write(self, text: str) -> int:
        if self._aside is not None:
            self._aside.put(text, self._now)
        else:
            write(text, err=self._err, stream=self._now)
        return len(text)

    def isatty(self) -> bool:
        return self._now is not None and self._now.isatty()

    def fileno(self) -> int:
        return -1 if self._now is None else self._now.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a stream that is not there takes anything
        return getattr(self._now, "encoding", None) or "utf-8"

    @property
    def _now(self) -> TextIO | None:
        stream: TextIO | None = sys.stderr if self._err else sys.stdout
        proxied: TextIO | None = getattr(stream, "rich_proxied_file", stream)  # while something live is shown
        return proxied
