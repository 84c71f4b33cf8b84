"""The vocabulary: which words there are, and through which sense two of them can be told apart."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What makes a word hard.

    SOUND: its partner looks the same on the lips (voiced and unvoiced, /p/ and /b/). SIGHT: its partner sounds
    almost the same and looks different (/m/ and /n/, /f/ and /th/); in noise the eye decides. EASY: neither.
    """

    SOUND = "sound"
    SIGHT = "sight"
    EASY = "easy"


@dataclass(frozen=True, slots=True)
class Word:
    """A word of the task. `partner`: the word that differs from it in one sense only; empty for easy ones."""

    text: str
    kind: Kind
    partner: str = ""


_PAIRS = {
    Kind.SOUND: ("pat bat", "fan van", "coat goat", "tie die", "sip zip", "pear bear", "cheap jeep"),
    Kind.SIGHT: ("met net", "mine nine", "fin thin", "might night", "free three", "first thirst", "map nap"),
}
_EASY = ("banana", "window", "yellow", "hotel", "umbrella", "seven")


def _words() -> tuple[Word, ...]:
    paired = [
        Word(text, kind, partner)
        for kind, pairs in _PAIRS.items()
        for pair in pairs
        for text, partner in (pair.split(), pair.split()[::-1])
    ]
    return (*paired, *(Word(text, Kind.EASY) for text in _EASY))


WORDS = _words()
"""Every word; its index here is its class."""
