"""An answer that is being generated: one that was asked for, or a draft that may still be dropped.

    state     event                                                 next
    DRAFT     a token                                               DRAFT     kept; told as a `Draft` to get ready for
    DRAFT     the question turns out to be final, in these words    ASKED     what was kept is emitted, in order
    DRAFT     anything else                                         DROPPED   its generation is cancelled
    ASKED     a token                                               ASKED     emitted

Only an ASKED reply emits tokens, and only tokens are ever shown or spoken. One that may have to be gone on with
elsewhere emits whole words only (`gate`). One that was begun elsewhere has what was said there among its pieces from
the beginning; `seam` drops what comes again of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from thalweg.models.language.backend import Message
from thalweg.pipeline.handoff.seam import Seam, WordGate
from thalweg.pipeline.payload import Draft, Token
from thalweg.pipeline.stage import Context


class ReplyState(Enum):
    """See the table above."""

    DRAFT = "draft"
    ASKED = "asked"
    DROPPED = "dropped"


TRANSITIONS: Mapping[ReplyState, frozenset[ReplyState]] = {
    ReplyState.DRAFT: frozenset({ReplyState.ASKED, ReplyState.DROPPED}),
    ReplyState.ASKED: frozenset(),
    ReplyState.DROPPED: frozenset(),
}
"""The table above as data: state → possible next states, without itself."""


@dataclass(slots=True)
class Reply:
    """The answer to `messages`, in the turn `epoch`. `said`: all of it so far, whether or not it was emitted;
    `remembered`: what of it goes into the conversation, where that is not all.
    """

    epoch: int
    messages: list[Message]
    state: ReplyState = ReplyState.ASKED
    whole: bool = False
    pieces: list[str] = field(default_factory=list)
    patience: asyncio.Timeout | None = None
    remembered: str | None = None
    gate: WordGate | None = None
    seam: Seam | None = None

    @property
    def said(self) -> str:
        """The text of it."""
        return "".join(self.pieces)

    @property
    def question(self) -> str:
        """What it is an answer to."""
        return self.messages[-1].text

    @property
    def asked(self) -> str:
        """The same as it is remembered: where a picture went along, without what was told in its place."""
        picture = self.messages[-1].picture
        return self.question if picture is None else picture.text

    def add(self, text: str, ctx: Context) -> None:
        """The model has said `text`."""
        new = text if self.seam is None else self.seam.put(text)
        if not new and text:
            return
        self.pieces.append(new)
        if self.gate is None:
            self._tell(new, ctx)
        elif words := self.gate.put(new):
            self._tell(words, ctx)

    def end(self, ctx: Context) -> None:
        """The model has said everything."""
        rest = "" if self.seam is None else self.seam.finish()
        if rest:
            self.pieces.append(rest)
        if self.gate is not None:
            rest = self.gate.put(rest) + self.gate.finish()
        self.whole = True
        self._tell(rest, ctx)

    def ask(self, ctx: Context) -> None:
        """Its question is final."""
        self.state = ReplyState.ASKED
        for text in self.pieces:
            ctx.emit(Token(text=text), port="token")
        if self.whole:
            ctx.emit(Token(text="", last=True), port="token")

    def drop(self) -> None:
        """It is not wanted any more. A task that waits for the model stops waiting."""
        self.state = ReplyState.DROPPED
        if self.patience is not None:
            self.patience.reschedule(asyncio.get_running_loop().time())

    def _tell(self, text: str, ctx: Context) -> None:
        if self.state is ReplyState.ASKED:
            ctx.emit(Token(text=text, last=self.whole), port="token")
        elif self.state is ReplyState.DRAFT:
            ctx.emit(Draft(text=self.said, whole=self.whole), port="draft")
