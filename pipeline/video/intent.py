"""From the words of a question, as far as they have been said, to what has to be looked for in the picture.

Two ways, one result. Rules: words that give a kind away ("read", "number" → text). Embedding: the nearest of the
described intents below, by cosine, where a sentence model is at hand; rules then only break ties. A question may want
several things; a half-spoken one may want nothing yet, and then what was wanted last still counts, while it fades.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray


class Kind(Enum):
    """What can be looked for."""

    TEXT = "text"
    FACE = "face"
    PERSON = "person"
    MOTION = "motion"
    COLOUR = "colour"
    SALIENT = "salient"


DESCRIPTIONS: Mapping[Kind, tuple[str, ...]] = MappingProxyType(
    {
        Kind.TEXT: (
            "What does it say? Read the text on the sign.",
            "What number, word, name, date or price is written on the label?",
        ),
        Kind.FACE: ("Who is this? What is the expression on the face?", "Is the person smiling or looking at me?"),
        Kind.PERSON: ("How many people are there?", "What is the man or woman wearing or doing?"),
        Kind.MOTION: ("What is moving? Did it go left or right?", "How fast is it going and where to?"),
        Kind.COLOUR: ("What is the red thing? Find the blue object.", "Where is the green one?"),
        Kind.SALIENT: ("What do you see? Describe the picture.", "What is this object in front of me?"),
    }
)
"""The intents in words, for the sentence model."""

_RULES: Mapping[Kind, str] = MappingProxyType(
    {
        Kind.TEXT: r"read|say|says|said|text|word|words|written|write|number|letter|sign|label|title|price|cost|date|"
        r"plate|name|brand|address|page|screen|display|print|spell|code|gate|menu|book|headline|digits?",
        Kind.FACE: r"face|faces|who|smil\w*|expression|eyes?|mouth|hair|glasses|beard|mood|emotion",
        Kind.PERSON: r"people|persons?|man|men|woman|women|child|children|boy|girl|somebody|anyone|wearing|crowd|"
        r"pedestrians?",
        Kind.MOTION: r"mov\w+|left or right|going|drive|driving|runs?|running|walk\w*|fast|direction|pass\w*|fly\w*|"
        r"turn\w*|approach\w*",
        Kind.SALIENT: r"see|describe|picture|image|thing|object|this|that|front",
    }
)
_PATTERNS = {kind: re.compile(rf"\b(?:{rule})\b") for kind, rule in _RULES.items()}
_COLOURS = re.compile(r"\b(red|orange|yellow|green|cyan|blue|purple|pink|white|black|gr[ae]y|brown)\b")
_ASKED_COLOUR = re.compile(r"\b(?:what|which) colou?r\b")
_WEIGHT = {Kind.SALIENT: 0.3}
_CLEAR = 0.25


def named_colour(words: str) -> str | None:
    """The colour a question names, as what is looked for ("the red bag"), if it names one."""
    found = _COLOURS.search(words.lower())
    return found.group(1).replace("grey", "gray") if found else None


def by_rules(words: str) -> dict[Kind, float]:
    """Kinds with weights 0…1; empty where no word gives anything away."""
    said = words.lower()
    wanted = {kind: _WEIGHT.get(kind, 1.0) for kind, pattern in _PATTERNS.items() if pattern.search(said)}
    if named_colour(said) is not None and not _ASKED_COLOUR.search(said):
        wanted[Kind.COLOUR] = 1.0
    if len(wanted) > 1:
        wanted.pop(Kind.SALIENT, None)
    return wanted


def by_meaning(
    question: NDArray[np.float32], described: Sequence[tuple[Kind, NDArray[np.float32]]]
) -> dict[Kind, float]:
    """Kinds by cosine to the described intents, all unit vectors [dimension]; the best one weighs 1.

    Empty where nothing is nearer than chance; a second kind is named where it is nearly as near as the first.
    """
    nearest: dict[Kind, float] = {}
    for kind, vector in described:
        nearest[kind] = max(nearest.get(kind, -1.0), float(question @ vector))
    best = max(nearest.values(), default=-1.0)
    if best < _CLEAR:
        return {}
    return {kind: value / best * _WEIGHT.get(kind, 1.0) for kind, value in nearest.items() if value >= 0.85 * best}
