"""Where a sentence ends in a text that still grows: full stops that end one, and those that do not.

Libraries that split sentences (pysbd, NLTK's Punkt) want the whole text; here every character more that must be waited
for is heard as a pause. So the rules look at the word before the mark and, only where that leaves it open, at the next.
"""

from __future__ import annotations

import re

_MARK = re.compile(
    r"(?<![.!?…])[.!?…]+[\"'”’)\]}»]*(?=\s)|[。！？｡؟।॥۔]+[\"'”’」』）)\]»]*(?=[^。！？｡؟।॥۔\"'”’」』）)\]»])|\n"
)
_OPENING = "\"'“‘([{«¿¡*_"
_CLOSING = "\"'”’)]}»*_"
_DOTTED = re.compile(r"(?:[^\W\d_]{1,2}\.){2,}")
_BEFORE_NAMES = frozenset(
    [
        "mr",
        "mrs",
        "ms",
        "mx",
        "dr",
        "st",
        "prof",
        "gen",
        "capt",
        "col",
        "lt",
        "maj",
        "sgt",
        "rev",
        "hon",
        "gov",
        "sen",
        "rep",
        "pres",
        "messrs",
        "mme",
        "mlle",
        "mt",
        "ft",
        "vs",
        "approx",
        "ca",
        "cf",
        "e.g",
        "i.e",
        "viz",
        "al",
    ]
)
_BEFORE_NUMBERS = frozenset(
    [
        "no",
        "nos",
        "fig",
        "figs",
        "p",
        "pp",
        "vol",
        "ch",
        "sec",
        "art",
        "eq",
        "tab",
        "nr",
        "op",
        "ver",
        "v",
        "jan",
        "feb",
        "mar",
        "apr",
        "jun",
        "jul",
        "aug",
        "sep",
        "sept",
        "oct",
        "nov",
        "dec",
    ]
)
_EITHER = frozenset(
    [
        "jr",
        "sr",
        "inc",
        "ltd",
        "co",
        "corp",
        "llc",
        "etc",
        "ph.d",
        "m.d",
        "b.a",
        "m.a",
        "dept",
        "univ",
        "est",
        "ave",
        "blvd",
        "rd",
    ]
)
_STARTERS = frozenset(
    [
        "the",
        "a",
        "an",
        "it",
        "he",
        "she",
        "they",
        "we",
        "i",
        "you",
        "but",
        "and",
        "so",
        "this",
        "that",
        "these",
        "those",
        "there",
        "then",
        "let",
        "in",
        "on",
        "at",
        "if",
        "when",
        "what",
        "who",
        "how",
        "why",
        "is",
        "are",
        "was",
        "no",
        "yes",
        "not",
        "my",
        "your",
        "his",
        "her",
        "our",
        "their",
        "its",
        "here",
        "now",
        "after",
        "before",
        "for",
    ]
)


def end_of_sentence(text: str) -> int:
    """How many leading characters of `text` make its first sentence; 0 where none has ended as far as can be told."""
    for match in _MARK.finditer(text):
        if not text[: match.end()].strip():
            continue
        if match[0] == "\n" or not match[0].rstrip(_CLOSING).endswith((".", "…")):
            return match.end()
        ends = _ends(text, max(text.rfind(space, 0, match.start()) for space in " \n\t") + 1, match.end())
        if ends is None:
            return 0
        if ends:
            return match.end()
    return 0


def _ends(text: str, start: int, end: int) -> bool | None:
    """Whether the full stop of the word there ends a sentence; None where the next word must be seen first."""
    word = text[start:end].lstrip(_OPENING).rstrip(_CLOSING)
    bare = word[:-1].lower()
    after = text[end:].lstrip()
    following = re.match(r"[^\W_]+(?=[\W_])|\W", after)
    if word.endswith(("..", "…")):
        return None if not after else not after[0].islower()
    if bare.isdigit() and len(bare) <= 2 and not text[:start].strip():
        return False  # the number of a list
    if bare in _BEFORE_NAMES or (len(bare) == 1 and word[0].isupper() and word[0] != "I"):
        return False
    if bare in _BEFORE_NUMBERS:
        return None if not after else not after[0].isdigit()
    if bare in ("a.m", "p.m"):
        return None if not after else after[0].isupper()
    if bare in _EITHER or _DOTTED.fullmatch(word):
        return None if following is None else following[0].lower() in _STARTERS and after[0].isupper()
    return True
