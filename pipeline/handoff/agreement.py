"""Whether two answers to one question agree, by their words: for audits of the cascade, in English.

What the second says first that was not in the question is looked for in the first one: they agree where at least half
of it is there. Small words do not count. How often that tells a wrong answer is in docs/benchmarks/handoff.md; it is a
sign, and no verdict.
"""

from __future__ import annotations

import re

_WORD = re.compile(r"\w+")
_SENTENCE = re.compile(r"[.!?][\"')\]]*\s")
_SMALL = {
    "a", "an", "and", "are", "as", "at", "be", "by", "can", "did", "do", "does", "for", "from", "has", "have", "i",
    "in", "is", "it", "its", "no", "not", "of", "on", "or", "so", "that", "the", "there", "this", "to", "was",
    "were", "which", "will", "with", "you", "your",
}  # fmt: skip
SHARE = 0.5


def agree(question: str, given: str, other: str) -> bool:
    """Whether `given` says what `other` does; also where that says nothing that the question did not."""
    new = _words(first_sentence(other)) - _words(question)
    return len(new & _words(given)) >= SHARE * len(new)


def first_sentence(text: str) -> str:
    """As far as it has come; `1.5` ends none."""
    text = text.lstrip()
    end = _SENTENCE.search(text)
    return text if end is None else text[: end.start() + 1]


def _words(text: str) -> set[str]:
    return {word for word in _WORD.findall(text.lower()) if word not in _SMALL}
