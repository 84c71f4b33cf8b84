"""What a recogniser made of the audio so far, and which of its words may be shown or are settled."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from thalweg.pipeline.duration import MS

_WRITTEN = re.compile(r"[.,!?;:…。，！？、]+(?=\s|$)|(?<!\d)\s[-–—]+(?=\s)")


@dataclass(frozen=True, slots=True)
class Spoken:
    """A word as it is written, the space before it included. Times from the start of the turn; `confidence` 0…1."""

    text: str
    tokens: tuple[int, ...]
    start_ns: int
    end_ns: int
    confidence: float

    @property
    def key(self) -> str:
        """What two decodes are compared by: neither case nor punctuation counts."""
        return "".join(c for c in self.text.casefold() if c.isalnum())

    @property
    def ends_sentence(self) -> bool:
        """Whether a sentence ends with it."""
        return self.text.rstrip(" \"'”’)").endswith((".", "?", "!", "…", "。", "？", "！"))


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRules:
    """`margin_ns`: words that end less than this before the audio does may still become others. `shown`: confidence
    from which on a word is shown that only one decode has found. `settled`: the same of two decodes, to settle it.
    """

    margin_ns: int = 100 * MS
    shown: float = 0.5
    settled: float = 0.5


def agreed(before: Sequence[Spoken], now: Sequence[Spoken]) -> int:
    """How many leading words two successive decodes have in common (LocalAgreement, Macháček et al. 2023)."""
    count = 0
    for old, new in zip(before, now, strict=False):
        if old.key != new.key:
            break
        count += 1
    return count


def may_be_shown(words: Sequence[Spoken], agreed_words: int, end_ns: int, trust: CommitRules) -> int:
    """How many leading words to show: those agreed on, and those the decoder is sure of and heard well before the end.

    The second follows AlignAtt (Papi et al. 2023): what the decoder attends to in the last frames may still change.
    """
    for at, word in enumerate(words):
        sure = word.confidence >= trust.shown and word.end_ns <= end_ns - trust.margin_ns
        if at >= agreed_words and not sure:
            return at
    return len(words)


def may_settle(words: Sequence[Spoken], agreed_words: int, end_ns: int, trust: CommitRules) -> int:
    """How many leading words will not change any more: agreed on, sure, and followed by another agreed one."""
    for at, word in enumerate(words):
        sure = word.confidence >= trust.settled and word.end_ns <= end_ns - trust.margin_ns
        if at + 1 >= agreed_words or not sure:
            return at
    return len(words)


def shown_again(before: Sequence[Spoken], now: Sequence[Spoken]) -> list[Spoken]:
    """What to show where `now` may be shown: nothing is taken back only because less of the same is certain now."""
    if len(now) < len(before) and agreed(now, before) == len(now):
        return list(before)
    return list(now)


def same_words(one: str, other: str) -> bool:
    """Whether two texts differ at most in case and in marks behind words. “C++” and “C” are not the same."""
    return one == other or _WRITTEN.sub(" ", one.casefold()).split() == _WRITTEN.sub(" ", other.casefold()).split()


def text_of(words: Sequence[Spoken]) -> str:
    """As it is written."""
    return "".join(word.text for word in words).strip()
