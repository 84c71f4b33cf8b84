"""Detects a model that repeats itself endlessly. Pure.

Small models, and larger ones at a masked or misheard word, say one sentence, or a few in turn, until their tokens are
used up. What counts as a loop, at the end of what was said so far:

    the same one to four sentences, three words or more together     three times in a row
    the same one or two words as sentences ("No. No. No.")           eight times in a row
    the same one to twelve words without a full stop                 24 words of it, four times at least

A repetition that the person asked for is cut off at the same counts.
"""

from __future__ import annotations

import re

_SENTENCE = re.compile(r"[^.!?…。！？؟।\n]*[.!?…。！？؟।\n]+")
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+")
_SENTENCES, _WORDS = 4, 12
_ROUNDS, _SHORT_ROUNDS, _WORD_ROUNDS, _WORDS_IN_ALL = 3, 8, 4, 24
_KEPT, _OPEN = 64, 2000


class Repetition:
    """Reads one reply piece by piece. `found`: it goes round."""

    def __init__(self) -> None:
        self.found = False
        self._open = ""
        self._sentences: list[tuple[str, ...]] = []

    def feed(self, text: str) -> bool:
        """Read on; returns `found`."""
        self._open = (self._open + text)[-_OPEN:]
        while not self.found and (match := _SENTENCE.match(self._open)):
            words = _words(match.group())
            self._open = self._open[match.end() :]
            if words:
                self._sentences = [*self._sentences[-_KEPT:], words]
                self.found = _goes_round(self._sentences)
        self.found = self.found or (len(self._open) > _WORDS_IN_ALL and _stutter(_words(self._open)) > 0)
        return self.found


def without_circles(text: str) -> str:
    """What was said, with each circle told once: so that the model does not take it up in the next turn."""
    kept: list[tuple[str, tuple[str, ...]]] = []
    at = 0
    for match in _SENTENCE.finditer(text):
        at = match.end()
        words = _words(match.group())
        kept.append((match.group(), words))
        for size in range(1, _SENTENCES + 1):
            if len(kept) >= 2 * size and [w for _, w in kept[-size:]] == [w for _, w in kept[-2 * size : -size]]:
                del kept[-size:]
                break
    rest = text[at:]
    size = _stutter(_words(rest))
    if size:
        rest = rest[: list(_WORD.finditer(rest))[size - 1].end()]
    return "".join(sentence for sentence, _ in kept) + rest


def _goes_round(sentences: list[tuple[str, ...]]) -> bool:
    for size in range(1, _SENTENCES + 1):
        circle = sentences[-size:]
        rounds = _ROUNDS if sum(map(len, circle)) >= 3 else _SHORT_ROUNDS
        if len(sentences) >= rounds * size and sentences[-rounds * size :] == circle * rounds:
            return True
    return False


def _stutter(words: tuple[str, ...]) -> int:
    """How many words are said over and over at the end; 0: they are not."""
    for size in range(1, _WORDS + 1):
        rounds = max(_WORD_ROUNDS, -(-_WORDS_IN_ALL // size))
        if len(words) >= rounds * size and words[-rounds * size :] == words[-size:] * rounds:
            return size
    return 0


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.casefold() for word in _WORD.findall(text))
