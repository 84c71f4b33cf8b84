"""What every backend says goes through here: halves of characters joined, thoughts apart, all of it bounded.

Pure: a delta in, deltas out. What comes out as `Text` is to be shown, spoken and remembered.
"""

from __future__ import annotations

import re
from dataclasses import replace

from thalweg.models.language.backend import BackendError, Delta, ErrorKind, Finish, Reason, Text, Thinking
from thalweg.models.language.surrogates import Halves
from thalweg.models.language.thinking import ThinkingFilter

# No tokeniser makes more than 16 characters of a token on the average of a text; a model that says more was not asked.
_CHARACTERS_PER_TOKEN = 16
_CHARACTERS_AT_LEAST = 256
_THOUGHTS_AT_MOST = 256 * 1024
_REASONERS = re.compile(r"(?<![a-z])(r1|qwq|reason\w*|think\w*)(?![a-z0-9])", re.IGNORECASE)


def may_think_unmarked(model: str) -> bool:
    """Whether models of that name are known to open their thoughts without a mark: it stands in their template."""
    return _REASONERS.search(model) is not None


class AnswerFilter:
    """One reply. `max_tokens`: what was asked for; `unmarked`: its thoughts may begin without a mark; `begun`: it was
    begun elsewhere, so that there may be nothing left to say.

    `stray`: it turned out, too late, that they did; `thought`: there were any; `over`: it is whole, the rest need not
    be asked for. Raises BackendError at a reply without a word to say.
    """

    def __init__(self, max_tokens: int, *, unmarked: bool = False, begun: bool = False) -> None:
        self._max_tokens = max_tokens
        self._most = max(_CHARACTERS_AT_LEAST, max_tokens * _CHARACTERS_PER_TOKEN)
        self._room = self._most + _THOUGHTS_AT_MOST  # for all that comes, said or thought
        self._thoughts = ThinkingFilter(unmarked)
        self._text, self._beside = Halves(), Halves()
        self._said = 0
        self.thought = False
        self._words = False
        self._begun = begun
        self.over = False

    @property
    def stray(self) -> bool:
        """Whether a mark closed thoughts that none had opened, after they were given out as text."""
        return self._thoughts.stray

    def feed(self, delta: Delta) -> list[Delta]:
        """What is to be told. After a `Finish` came out nothing more does."""
        if self.over:
            return []
        if isinstance(delta, Text):
            return self._tell(self._thoughts.feed(self._text.feed(self._taken(delta.text))), delta)
        if isinstance(delta, Thinking):
            self._thoughts.apart()
            return self._tell([(True, self._beside.feed(self._taken(delta.text)))])
        if isinstance(delta, Finish):
            return self._finish(delta.reason)
        return [delta]

    def left(self) -> list[Delta]:
        """What is still held, where the reply broke off."""
        return [] if self.over else self._sorted([*self._thoughts.feed(self._text.end()), *self._thoughts.end()])

    def _taken(self, text: str) -> str:
        text = text[: self._room]
        self._room -= len(text)
        return text

    def _tell(self, pieces: list[tuple[bool, str]], source: Text | None = None) -> list[Delta]:
        told = self._sorted(pieces, source)
        if self._thoughts.over:
            return told + self._finish(Reason.STOP)
        if self._said >= self._most or self._room <= 0:
            return told + self._finish(Reason.CUT)
        return told

    def _sorted(self, pieces: list[tuple[bool, str]], source: Text | None = None) -> list[Delta]:
        told: list[Delta] = []
        for thought, text in pieces:
            if thought:
                self.thought = True
                told += [Thinking(text)] if text else []
                continue
            text = text[: self._most - self._said]
            self._said += len(text)
            self._words = self._words or bool(text.strip())
            if text:
                told.append(replace(source, text=text) if source is not None else Text(text))
                source = None
        return told

    def _finish(self, reason: Reason) -> list[Delta]:
        told = self.left()
        self.over = True
        if not self._words and not (self._begun and reason is Reason.STOP):
            raise self._nothing_said(reason)
        return [*told, Finish(reason)]

    def _nothing_said(self, reason: Reason) -> BackendError:
        if reason is Reason.FILTER:
            return BackendError(ErrorKind.FILTERED, "held its answer back: its content filter said so")
        if reason is Reason.TOOL:
            return BackendError(ErrorKind.NO_ANSWER, "asked for a tool in place of an answer, and was offered none")
        if self._room <= 0:
            return BackendError(ErrorKind.NO_ANSWER, "thought on and on and said nothing")
        if self.thought and reason is Reason.LENGTH:
            return BackendError(
                ErrorKind.NO_ANSWER,
                f"spent all of its {self._max_tokens} tokens on thinking and said nothing: raise `max_tokens`, or let "
                "it think less",
            )
        if self.thought:
            return BackendError(ErrorKind.NO_ANSWER, "thought and then said nothing")
        return BackendError(ErrorKind.NO_ANSWER, "gave an empty answer")
