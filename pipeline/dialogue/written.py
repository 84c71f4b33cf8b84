"""Questions in writing, each answered once, although connections, and the machine that answers, may be lost.

Theory of operation. A client gives each question an id and keeps it until its turn is over. The server remembers the
ids of the questions that reached it, and the newest question that no answer has followed yet. Both go into the snapshot
from which another machine goes on, and the ids into the `hello` of each connection. So a question that the server does
not know is sent again, and one that it knows is not answered a second time.

client: a question is   event                                              next
KEPT                    the server is there                                SENT
SENT                    its caption came, or `hello` names it              KNOWN
SENT                    `hello` of a resumed conversation does not name it SENT, again
KNOWN                   `hello` does not name it: the server has lost it   SENT, again
KNOWN                   no one has the floor                               forgotten: it was answered, or stopped
any                     `bye`, or it is not among the newest `MOST_KEPT`   forgotten

A server that names no ids (`hello` without `known`) is sent nothing twice.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Collection, Mapping
from enum import Enum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from thalweg.pipeline.dialogue.events import QUESTION_ID, Caption, Event, Say, State

MOST_KNOWN = 32
MOST_KEPT = 8


class WaitingQuestion(BaseModel):
    """The newest question, not answered to its end. `turn`: the one that it became; 0 before."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)
    id: str = Field(pattern=QUESTION_ID)
    text: str = Field(min_length=1, max_length=2000)
    turn: int = Field(default=0, ge=0)


class WrittenMemory(BaseModel):
    """For a snapshot: the ids of the last questions, and the one that waits."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)
    known: tuple[str, ...] = Field(default=(), max_length=MOST_KNOWN)
    waiting: WaitingQuestion | None = None


class Written:
    """The server's side of one conversation. A newer question takes the place of one that waits: it interrupts it."""

    def __init__(self) -> None:
        self._known: deque[str] = deque(maxlen=MOST_KNOWN)
        self._waiting: WaitingQuestion | None = None

    @property
    def known(self) -> tuple[str, ...]:
        """Ids of the last questions that have come."""
        return tuple(self._known)

    def take(self, question: Say) -> bool:
        """Whether a question is to be answered: not where its id has come before."""
        if question.id is None:
            return True
        if question.id in self._known:
            return False
        self._known.append(question.id)
        self._waiting = WaitingQuestion(id=question.id, text=question.text)
        return True

    def told(self, event: Event) -> None:
        """An event for the client, which shows what has become of questions."""
        waiting = self._waiting
        if waiting is None:
            return
        if isinstance(event, Caption) and event.id == waiting.id:
            self._waiting = waiting.model_copy(update={"turn": event.turn})
        elif isinstance(event, State) and event.state == "listening" and waiting.turn:
            self._waiting = None

    def remembered(self) -> WrittenMemory:
        """For another machine to go on with."""
        return WrittenMemory(known=self.known, waiting=self._waiting)

    def recall(self, known: Collection[str], waiting: Say | None) -> None:
        """Go on with a conversation of another machine. `waiting`: what is to be answered here once more."""
        self._known.extend(known)
        if waiting is not None and waiting.id is not None:
            self._waiting = WaitingQuestion(id=waiting.id, text=waiting.text)


class QuestionState(Enum):
    """See the table above."""

    KEPT = "kept"
    SENT = "sent"
    KNOWN = "known"


TRANSITIONS: Mapping[QuestionState, frozenset[QuestionState]] = {
    QuestionState.KEPT: frozenset({QuestionState.SENT}),
    QuestionState.SENT: frozenset({QuestionState.KNOWN}),
    QuestionState.KNOWN: frozenset({QuestionState.SENT}),
}
"""The table above as data: state → possible next states, without itself."""


class Questions:
    """The client's side of one conversation, oldest first. `to_send` marks what it returns as sent."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._states: dict[str, QuestionState] = {}

    def ask(self, text: str) -> str:
        """Keep a question; returns its id."""
        name = secrets.token_urlsafe(9)
        self._texts[name], self._states[name] = text, QuestionState.KEPT
        for old in list(self._texts)[:-MOST_KEPT]:
            self._forget(old)
        return name

    def to_send(self) -> list[dict[str, Any]]:
        """Controls of all that are kept."""
        due = [name for name, state in self._states.items() if state is QuestionState.KEPT]
        for name in due:
            self._states[name] = QuestionState.SENT
        return [{"type": "say", "id": name, "text": self._texts[name]} for name in due]

    def hello(self, known: Collection[str] | None) -> list[dict[str, Any]]:
        """A connection has begun, whose server has these questions; None: it does not say. What is to be sent."""
        if known is None:
            return self.to_send()
        due = []
        for name, text in self._texts.items():
            there = name in known
            self._states[name] = QuestionState.KNOWN if there else QuestionState.SENT
            if not there:
                due.append({"type": "say", "id": name, "text": text})
        return due

    def event(self, event: Mapping[str, Any]) -> None:
        """The server has told an event other than `hello`."""
        kind, name = event.get("type"), event.get("id")
        if kind == "caption" and name in self._states:
            self._states[name] = QuestionState.KNOWN
        elif kind == "state" and event.get("state") == "listening":
            for known in [each for each, state in self._states.items() if state is QuestionState.KNOWN]:
                self._forget(known)
        elif kind == "bye":
            self._texts.clear()
            self._states.clear()

    def _forget(self, name: str) -> None:
        del self._texts[name], self._states[name]
