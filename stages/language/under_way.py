"""The question under way, and what goes on with the conversation where its machine is lost.

Theory of operation. An answer is made much faster than it is heard, so that most of what a lost machine had not said
yet was already known. So what goes elsewhere is the question, what was made of the answer, and how much of that was
heard. There the question is put again, and instead of the model its own words answer, from where they were heard. An
answer that was not made to its end is made anew, from its beginning.

event                         what is under way
an answer is begun            it
it is over for the person     nothing: `Played`, to its end or cut short; `Interrupt`, before a word was heard
a conversation is recalled    its question, until something is answered here; where that is another one, what
                              was heard of the whole answer to it is remembered
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from thalweg.stages.language.conversation import Exchange
from thalweg.stages.language.reply import Reply

MOST_TEXT = 20_000


class _Plain(BaseModel):
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)  # errors go to logs, and this is what people said


class _Asked(_Plain):
    """A question, `said` of its answer so far, and whether that is `whole`."""

    turn: int
    text: str = Field(max_length=MOST_TEXT)
    said: str = Field(default="", max_length=MOST_TEXT)
    whole: bool = False


class _Heard(_Plain):
    turn: int
    text: str = Field(max_length=MOST_TEXT)


class _Past(_Plain):
    turn: int
    asked: str = Field(max_length=MOST_TEXT)
    said: str = Field(max_length=MOST_TEXT)


class Remembered(_Plain):
    """What `Chat` says of a conversation, as plain values. `private`: something was said that keeps it at the edge."""

    private: bool = False
    past: tuple[_Past, ...] = Field(default=(), max_length=1000)
    asked: _Asked | None = None
    heard: _Heard | None = None

    def exchanges(self) -> list[Exchange]:
        """Question and answer of each turn that is over."""
        under_way = self.asked.turn if self.asked is not None else None
        return [Exchange(each.turn, each.asked, each.said) for each in self.past if each.turn != under_way]

    def everything(self) -> list[Exchange]:
        """The same with the turn that is not over."""
        asked = self.asked
        return self.exchanges() + ([] if asked is None else [Exchange(asked.turn, asked.text, asked.said)])


class UnderWay:
    """Told of each answer; knows what of it is still to be said."""

    def __init__(self) -> None:
        self._reply: Reply | None = None
        self._asked: _Asked | None = None
        self._rest = ""
        self._heard: str | None = None

    def begun(self, reply: Reply) -> None:
        """An answer is asked for."""
        self._reply, self._asked = reply, None

    def over(self, epoch: int) -> None:
        """No more will be heard of the answer in the turn `epoch`, or of one before."""
        if self._reply is not None and self._reply.epoch <= epoch:
            self._reply = None

    def remembered(self, past: list[Exchange]) -> dict[str, Any]:
        """For `Remembered`."""
        asked = self._asked
        if self._reply is not None:
            reply = self._reply
            short = len(reply.said) <= MOST_TEXT  # of a longer one it is not said where it stopped, but all anew
            said, whole = (reply.said, reply.whole) if short else ("", False)
            asked = _Asked.model_construct(turn=reply.epoch, text=reply.question[:MOST_TEXT], said=said, whole=whole)
        return {
            "past": [
                {"turn": each.epoch, "asked": each.asked[:MOST_TEXT], "said": each.said[:MOST_TEXT]} for each in past
            ],
            "asked": None if asked is None else asked.model_dump(),
        }

    def recall(self, state: dict[str, Any]) -> Remembered:
        """Go on from what another machine remembered. Raises pydantic's ValidationError."""
        found = Remembered.model_validate(state)
        self._asked, self._rest, self._heard = found.asked, "", None
        if found.asked is not None and found.heard is not None and found.heard.turn == found.asked.turn:
            self._heard = found.heard.text
        if found.asked is not None and found.asked.whole:
            self._rest = unheard(found.asked.said, self._heard or "")
        return found

    def passed_over(self, question: str) -> Exchange | None:
        """The question of before and what was heard of its answer, where another one is asked instead of it; all of the
        answer where nothing is known to have been heard: it may have been since that was told. Once.
        """
        asked = self._asked
        if asked is None or not asked.whole or asked.text == question or not question.strip():
            return None
        self._asked = None
        return Exchange(asked.turn, asked.text, self._heard or asked.said)

    def rest(self, question: str) -> tuple[str, str] | None:
        """Of the answer to a question of before: all that was said, and what of it was not heard; None: it is new."""
        asked = self._asked
        if asked is None or not asked.whole or asked.text != question:
            return None
        return asked.said, self._rest


def unheard(said: str, heard: str) -> str:
    """What follows in `said` behind as many words as were heard: a voice may have spelled some of them differently."""
    return " ".join(said.split()[len(heard.split()) :])
