"""What was asked and said so far, as the model is reminded of it.

Theory of operation. A prompt that begins like the last one is read only from where it differs: by an embedded model, by
vLLM, by hosted ones. So the conversation only grows at its end, and the oldest turns go in blocks: the model is
reminded of `history` turns at least and half as many more at most; only where a block goes does the prompt begin anew.
What was looked up for a question stands in it, directly before its words (`language.sight`), and stays there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from thalweg.models.language.backend import Message, Picture
from thalweg.models.language.surrogates import repaired
from thalweg.pipeline.payload import Transcript
from thalweg.pipeline.speech.hypothesis import same_words

_AWAITED = 8


@dataclass(slots=True)
class Exchange:
    """A question and its answer, in the turn `epoch`."""

    epoch: int
    asked: str
    said: str


class Conversation:
    """The turns that the model is reminded of, and what was heard of answers that are not in there yet."""

    def __init__(self, system: str, history: int) -> None:
        self._system = [Message("system", repaired(system))] if system.strip() else []
        self._least = history
        self._most = history + history // 2 if history > 1 else 2 * history
        self._past: list[Exchange] = []
        self._heard: dict[int, str] = {}

    def messages(self, question: str, picture: Picture | None = None, told: int = 0) -> list[Message]:
        """What the model is told, `question` last, with what it is about. Of earlier turns no picture is kept.

        `told`: as in `Message`.
        """
        messages = list(self._system)
        for exchange in self._past:
            messages += [Message("user", exchange.asked), Message("assistant", exchange.said)]
        return [*messages, Message("user", repaired(question), picture, told)]

    def remember(self, epoch: int, asked: str, said: str) -> None:
        """A turn was answered."""
        self._past.append(Exchange(epoch, repaired(asked), repaired(said)))
        if len(self._past) > self._most:
            del self._past[: len(self._past) - self._least]
        self._forget()

    def heard(self, epoch: int, text: str) -> None:
        """No more than `text` was heard of the answer in `epoch`, which may not be remembered yet."""
        self._heard[epoch] = repaired(text)
        self._forget()

    def shorten(self) -> bool:
        """Forget the older half, since the model cannot take so much. False where there is nothing left to forget."""
        if not self._past:
            return False
        del self._past[: (len(self._past) + 1) // 2]
        return True

    @property
    def past(self) -> list[Exchange]:
        """The turns that are remembered, oldest first; of those that are put in, the newest stay."""
        return list(self._past)

    @past.setter
    def past(self, past: list[Exchange]) -> None:
        self._past = past[max(0, len(past) - self._most) :]

    def snapshot(self) -> dict[str, Any]:
        """As plain values."""
        return {"past": [asdict(exchange) for exchange in self._past], "heard": dict(self._heard)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self.past = [Exchange(**exchange) for exchange in state["past"]]
        self._heard = dict(state["heard"])

    def _forget(self) -> None:
        """No word is remembered that was not heard, and no turn of which nothing was."""
        for exchange in list(self._past):
            heard = self._heard.pop(exchange.epoch, None)
            if heard == "":
                self._past.remove(exchange)
            elif heard is not None:
                exchange.said = heard
        while len(self._heard) > _AWAITED:
            del self._heard[next(iter(self._heard))]


def same_question(final: Sequence[Message], drafted: Sequence[Message]) -> bool:
    """Whether the question is the same but for its marks, which are often written with the final text only."""
    if [*final[:-1]] != [*drafted[:-1]] or not same_words(final[-1].text, drafted[-1].text):
        return False
    one, other = final[-1].picture, drafted[-1].picture
    if one is None or other is None:
        return one is other
    return one.jpeg == other.jpeg and same_words(one.text, other.text)


def likely(transcript: Transcript) -> str:
    """What will probably stand at the beginning of the final text: what is settled, and all that is shown but for the
    last word, which is the one that changes. Where it does not, what was read in vain costs nothing but its time.
    """
    shown = transcript.text[: transcript.text.rstrip().rfind(" ") + 1].rstrip()
    return max(transcript.text[: transcript.stable_chars], shown, key=len)
